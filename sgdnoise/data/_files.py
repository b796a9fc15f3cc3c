"""Readers of MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, from a folder or fetched."""

import gzip
import hashlib
import io
import math
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.data import _download as download
from sgdnoise.data._sets import Data

# In all readers inputs are pixels in [0, 1], float32 (n, channels, height, width), targets integer
# classes (n,), and subset is "train" or "test".  ValueError names the file and its defect: missing,
# truncated, too long, of another kind, or with labels out of range.
# Without a folder the published files are fetched once and stored in a cache; one with another
# checksum than the published is refused, and one that cannot be fetched is said to be put there.
# md5: a mapping from file names to their published checksums; other files are then rejected.

Sums = Mapping[str, str] | None
DAMAGED = (OSError, EOFError, zlib.error, tarfile.TarError)


@checked
def mnist(folder=None, subset: str = "train", *, md5: Sums = None) -> Data:
    """MNIST: handwritten digits (LeCun et al., 1998), (n, 1, 28, 28), n = 60000 or 10000.

    folder: contains the four files of the data set in the idx format, such as
    train-images-idx3-ubyte, with .gz or unpacked, or the sub-folder MNIST/raw of torchvision.
    Without it the published files are fetched (12 MB) and stored in a cache.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> size = bytes([0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28])
        >>> with tempfile.TemporaryDirectory() as folder:  # in place of yours: two black images
        ...     pixels, labels = bytes([0, 0, 8, 3]) + size, bytes([0, 0, 8, 1]) + size[:4]
        ...     _ = Path(folder, "t10k-images-idx3-ubyte").write_bytes(pixels + bytes(2 * 28 * 28))
        ...     _ = Path(folder, "t10k-labels-idx1-ubyte").write_bytes(labels + bytes(2))
        ...     mnist(folder, "test").inputs.shape
        (2, 1, 28, 28)
    """
    return _idx(folder, download.MNIST, "MNIST", subset, md5)


@checked
def fashion_mnist(folder=None, subset: str = "train", *, md5: Sums = None) -> Data:
    """Fashion-MNIST: articles of clothing (Xiao et al., 2017), in files as those of MNIST.

    The files do not identify the data set: keep the two in separate folders.  Without a folder the
    published files are fetched (31 MB) and stored in a cache.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> size = bytes([0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28])
        >>> with tempfile.TemporaryDirectory() as folder:  # in place of yours: two black images
        ...     pixels, labels = bytes([0, 0, 8, 3]) + size, bytes([0, 0, 8, 1]) + size[:4]
        ...     _ = Path(folder, "t10k-images-idx3-ubyte").write_bytes(pixels + bytes(2 * 28 * 28))
        ...     _ = Path(folder, "t10k-labels-idx1-ubyte").write_bytes(labels + bytes(2))
        ...     fashion_mnist(folder, "test").targets.shape
        (2,)
    """
    return _idx(folder, download.FASHION_MNIST, "FashionMNIST", subset, md5)


@checked
def cifar10(folder=None, subset: str = "train", *, md5: Sums = None) -> Data:
    """CIFAR-10: photographs of 10 classes (Krizhevsky, 2009), (n, 3, 32, 32).

    n = 50000 or 10000.  folder: contains data_batch_1.bin to data_batch_5.bin and test_batch.bin of
    the "binary version", or its archive cifar-10-binary.tar.gz.  The format has no header: a file
    that ends between two images is detected only if the five batches differ in length.
    Without a folder the published archive is fetched (170 MB) and stored in a cache.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:  # in place of yours: two black images
        ...     _ = Path(folder, "test_batch.bin").write_bytes(bytes(2 * (1 + 3 * 32 * 32)))
        ...     cifar10(folder, "test").inputs.shape
        (2, 3, 32, 32)
    """
    five = [f"data_batch_{i}.bin" for i in range(1, 6)]
    names = _of(subset, {"train": five, "test": ["test_batch.bin"]})
    return _cifar(folder, "cifar-10", "batches-bin", names, 0, [10], md5)


@checked
def cifar100(folder=None, subset: str = "train", *, coarse: bool = False, md5: Sums = None) -> Data:
    """CIFAR-100: photographs of 100 classes, or of their 20 superclasses if `coarse`.

    It has the shape of `cifar10`.  folder: contains train.bin and test.bin of the "binary version",
    or cifar-100-binary.tar.gz.  Without it the published archive is fetched (169 MB) and stored in
    a cache.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:  # in place of yours: two black images
        ...     _ = Path(folder, "test.bin").write_bytes(bytes(2 * (2 + 3 * 32 * 32)))
        ...     cifar100(folder, "test", coarse=True).targets.shape  # 20 superclasses
        (2,)
    """
    names = _of(subset, {"train": ["train.bin"], "test": ["test.bin"]})
    return _cifar(folder, "cifar-100", "binary", names, 0 if coarse else 1, [20, 100], md5)


def _idx(folder, source, name, subset, md5):
    begin = _of(subset, {"train": "train", "test": "t10k"})
    if folder is None:
        folder = download.fetch(source, [file for file in source.sums if file.startswith(begin)])
    folder = Path(folder)
    places = [folder, folder / "raw", folder / name / "raw"]
    pixels, file = _array(places, f"{begin}-images", 3, md5)
    if pixels.shape[1:] != (28, 28):
        raise ValueError(f"{file} has images of {pixels.shape[1:]} pixels instead of (28, 28)")
    labels, file = _array(places, f"{begin}-labels", 1, md5)
    if len(labels) != len(pixels):
        raise ValueError(f"{file} has {len(labels)} labels for {len(pixels)} images")
    return Data(_unit(pixels[:, None]), _classes(labels, 10, file))


def _array(places, stem, axes, md5):
    """The array of an idx file: 0, 0, 8 for bytes, its number of axes, their lengths, its bytes."""
    names = [f"{stem}{dot}idx{axes}-ubyte" for dot in "-."]
    content, file = _read(places, [name + end for name in names for end in ("", ".gz")], md5)
    start = 4 + 4 * axes
    if content[:4] != bytes([0, 0, 8, axes]):
        raise ValueError(
            f"{file} begins with {content[:4].hex() or 'nothing'} and not with 000008{axes:02x}, "
            "as this kind of idx file does"
        )
    if len(content) < start:
        raise ValueError(f"{file} is cut short in its header, after {len(content)} bytes")
    shape = np.frombuffer(content[4:start], ">u4").tolist()
    if not shape[0]:
        raise ValueError(f"{file} says that it holds nothing")
    if len(content) - start != math.prod(shape):
        state = "cut short" if len(content) - start < math.prod(shape) else "too long"
        raise ValueError(
            f"{file} is {state}: it has {len(content) - start} bytes where its header says "
            f"{' x '.join(map(str, shape))}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape), file


def _cifar(folder, name, inner, names, column, classes, md5):
    """Images and one of the labels of binary records: a byte for each label, then the pixels."""
    archive = f"{name}-binary.tar.gz"
    folder = download.fetch(download.CIFAR, [archive]) if folder is None else Path(folder)
    places = [folder, folder / f"{name}-{inner}"]
    width = len(classes) + 3 * 32 * 32
    batches: list[np.ndarray] = []
    for name_of_batch in names:
        content, file = _read(places, [name_of_batch], md5, folder / archive)
        if not content or len(content) % width:
            raise ValueError(
                f"{file} is cut short or of another kind: {len(content)} bytes are not a "
                f"multiple of the {width} bytes of an image"
            )
        batches.append(np.frombuffer(content, np.uint8).reshape(-1, width))
        for i, count in enumerate(classes):
            _classes(batches[-1][:, i], count, file)
        if len(batches[-1]) != len(batches[0]):
            raise ValueError(
                f"{file} has {len(batches[-1])} images and {names[0]} {len(batches[0])}; one is cut"
            )
    records = np.concatenate(batches)
    pixels = records[:, len(classes) :].reshape(-1, 3, 32, 32)
    return Data(_unit(pixels), records[:, column].astype(np.int64))


def _of(subset, choices):
    if subset not in choices:
        raise ValueError(f"the subsets of this data set are 'train' and 'test', not {subset!r}")
    return choices[subset]


def _read(places, names, md5, archive=None):
    """The bytes of the first of these files that exists, unpacked, and its name."""
    for file in (place / name for place in places for name in names):
        if file.is_file():
            return _unpacked(file, _published(file, md5)), file.name
    if archive is not None and archive.is_file():
        content = _member(archive, names[0], _published(archive, md5))
        return content, f"{names[0]} of {archive.name}"
    alternative = f" and no {archive.name}, the binary version" if archive else ", packed or not"
    raise ValueError(f"there is no {names[0]} in the folder {places[0].name or '.'}{alternative}")


def _published(file, md5) -> bytes:
    """The bytes of a file, after checking its checksum if there is one."""
    content = file.read_bytes()
    if md5 is not None and file.name not in md5:
        raise ValueError(f"no checksum is given for {file.name}, only for {', '.join(md5)}")
    if md5 is not None and hashlib.md5(content).hexdigest() != md5[file.name].lower():
        raise ValueError(f"{file.name} is not the file that was published: it has another MD5")
    return content


def _unpacked(file, content):
    if file.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except DAMAGED as error:
        raise ValueError(f"{file.name} is cut short or damaged: {_reason(error)}") from None


def _member(archive, name, content):
    """The bytes of a file in an archive, in any folder."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as packed:
            for member in packed:
                inside = member.isfile() and member.name.rpartition("/")[2] == name
                if inside and (content := packed.extractfile(member)):
                    return content.read()
    except DAMAGED as error:
        raise ValueError(f"{archive.name} is cut short or damaged: {_reason(error)}") from None
    raise ValueError(f"{archive.name} holds no {name}; take the binary version of the data set")


def _reason(error):
    return " ".join(str(error).split()).split(". ")[0].rstrip(".")[:80]


def _unit(pixels):
    return np.divide(pixels, 255, dtype=np.float32)


def _classes(labels, count, file):
    """Labels as integers, after checking that each is below their count."""
    if labels.max() >= count:
        row = int(np.argmax(labels >= count))
        raise ValueError(f"{file} has the label {labels[row]} at image {row}, of {count} classes")
    return labels.astype(np.int64)
