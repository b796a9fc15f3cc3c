"""Readers of image files: what was written is read, and what is damaged is refused by name."""

import gzip
import hashlib
import io
import struct
import tarfile

import numpy as np
import pytest

from sgdnoise.data import cifar10, cifar100, fashion_mnist, mnist

PARTS = {"train": "train", "test": "t10k"}


def idx(values):
    """An array of bytes as an idx file has it."""
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + (
        values.astype(np.uint8).tobytes()
    )  # fmt: skip


def digits_in(folder, rng, n=7, part="train", packed=True, dot="-"):
    """A small MNIST, and its pixels and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels, labels = rng.integers(0, 256, (n, 28, 28)), rng.integers(0, 10, n)
    for stem, values in (("images", pixels), ("labels", labels)):
        name = f"{PARTS[part]}-{stem}{dot}idx{values.ndim}-ubyte"
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(values)))
        else:
            (folder / name).write_bytes(idx(values))
    return pixels, labels


def records(labels, pixels):
    """Labels (n, 1 or 2) and pixels (n, 3, 32, 32) as CIFAR's binary files have them."""
    return np.concatenate([labels, pixels.reshape(len(labels), -1)], axis=1).astype("u1").tobytes()


def batches_in(folder, rng, n=2):
    """A small CIFAR-10 in its six files, and the pixels and labels of both parts."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {"train": [], "test": []}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        labels, pixels = rng.integers(0, 10, (n, 1)), rng.integers(0, 256, (n, 3, 32, 32))
        (folder / f"{name}.bin").write_bytes(records(labels, pixels))
        written["test" if name == "test_batch" else "train"].append((pixels, labels[:, 0]))
    return {k: [np.concatenate(v) for v in zip(*rows, strict=True)] for k, rows in written.items()}


def hundred_in(folder, rng, n=3):
    folder.mkdir(parents=True, exist_ok=True)
    coarse, fine = rng.integers(0, 20, n), rng.integers(0, 100, n)
    pixels = rng.integers(0, 256, (n, 3, 32, 32))
    for name in ("train.bin", "test.bin"):
        (folder / name).write_bytes(records(np.stack([coarse, fine], axis=1), pixels))
    return coarse, fine, pixels


def packed_in(folder, name, inner):
    """The files of a folder in an archive, in a folder of their own there."""
    archive = folder / name
    with tarfile.open(archive, "w:gz") as packed:
        for file in sorted(folder.glob("*.bin")):
            member = tarfile.TarInfo(f"{inner}/{file.name}")
            content = file.read_bytes()
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
            file.unlink()
    return archive


def same(data, pixels, labels):
    assert data.inputs.dtype == np.float32
    assert data.targets.dtype == np.int64
    np.testing.assert_array_equal(data.targets, labels)
    np.testing.assert_allclose(data.inputs * 255, pixels, rtol=1e-6)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("inside", ["", "raw", "MNIST/raw"])
@pytest.mark.parametrize(("packed", "dot"), [(True, "-"), (False, "-"), (False, ".")])
def test_digits_are_read_as_they_were_written(tmp_path, rng, part, inside, packed, dot):
    pixels, labels = digits_in(tmp_path / inside, rng, part=part, packed=packed, dot=dot)
    data = mnist(tmp_path, part)
    assert data.inputs.shape == (7, 1, 28, 28)
    same(data, pixels[:, None], labels)


def test_clothes_are_read_from_their_own_folder(tmp_path, rng):
    digits_in(tmp_path / "MNIST" / "raw", rng)
    pixels, labels = digits_in(tmp_path / "FashionMNIST" / "raw", rng)
    same(fashion_mnist(tmp_path), pixels[:, None], labels)


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-bin"])
@pytest.mark.parametrize("packed", [False, True])
def test_ten_kinds_are_read_as_they_were_written(tmp_path, rng, inside, packed):
    """The first colour of a record is red, row by row, and the batches stand in their order."""
    written = batches_in(tmp_path if packed else tmp_path / inside, rng)
    if packed:
        packed_in(tmp_path, "cifar-10-binary.tar.gz", "cifar-10-batches-bin")
    for block, (pixels, labels) in written.items():
        same(cifar10(str(tmp_path), block), pixels, labels)


@pytest.mark.parametrize("packed", [False, True])
def test_a_hundred_kinds_have_a_coarse_and_a_fine_label(tmp_path, rng, packed):
    coarse, fine, pixels = hundred_in(tmp_path, rng)
    if packed:
        packed_in(tmp_path, "cifar-100-binary.tar.gz", "cifar-100-binary")
    same(cifar100(tmp_path), pixels, fine)
    same(cifar100(tmp_path, "test", coarse=True), pixels, coarse)


def change(file, cut=None, at=None, byte=0, more=b""):
    """Spoil a file: keep its first bytes, set one, or add some."""
    content = bytearray(file.read_bytes())
    if at is not None:
        content[at] = byte
    file.write_bytes(bytes(content[:cut]) + more)


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
DAMAGE = {  # what is done to which file of MNIST, and what the sentence says
    "no file": (IMAGES, None, f"no {IMAGES} in the folder"),
    "no labels": (LABELS, None, f"no {LABELS} in the folder"),
    "nothing in it": (IMAGES, {"cut": 0}, "begins with nothing"),
    "another magic number": (IMAGES, {"at": 2, "byte": 13}, "00000d03 and not with 00000803"),
    "labels for images": (IMAGES, {"at": 3, "byte": 1}, "00000801 and not with 00000803"),
    "half a header": (LABELS, {"cut": 6}, "in its header, after 6 bytes"),
    "a pixel too few": (IMAGES, {"cut": -1}, "cut short: it has 5487 bytes .* 7 x 28 x 28"),
    "a pixel too many": (IMAGES, {"more": b"0"}, "too long: it has 5489 bytes .* 7 x 28 x 28"),
    "a count too large": (LABELS, {"at": 7, "byte": 8}, "cut short: it has 7 bytes .* says 8"),
    "no images": (IMAGES, {"at": 7, "byte": 0}, "says that it holds nothing"),
    "images of another size": (IMAGES, {"at": 11, "byte": 14, "cut": 16 + 2744}, r"\(14, 28\)"),
    "a label of no class": (LABELS, {"at": 8 + 3, "byte": 10}, "the label 10 at image 3, of 10"),
}


def refused(attempt, *args, match):
    with pytest.raises(ValueError, match=match) as caught:
        attempt(*args)
    text = str(caught.value)
    assert 20 <= len(text) <= 200
    assert ". " not in text
    assert not text.endswith(".")


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_of_digits_is_named(tmp_path, rng, name):
    digits_in(tmp_path, rng, packed=False)
    file, damage, words = DAMAGE[name]
    if damage is None:
        (tmp_path / file).unlink()
    else:
        change(tmp_path / file, **damage)
    refused(mnist, tmp_path, match=words)


@pytest.mark.parametrize("reader", [mnist, fashion_mnist])
def test_labels_of_other_images_are_refused(tmp_path, rng, reader):
    digits_in(tmp_path, rng, packed=False)
    (tmp_path / LABELS).write_bytes(idx(np.arange(6)))
    refused(reader, tmp_path, match=f"{LABELS} has 6 labels for 7 images")


@pytest.mark.parametrize("damage", [{"cut": 90}, {"cut": 0}, {"at": 0}, {"at": 40, "byte": 77}])
def test_a_damaged_packed_file_is_named(tmp_path, rng, damage):
    digits_in(tmp_path, rng)
    change(tmp_path / f"{IMAGES}.gz", **damage)
    words = "begins with nothing" if damage == {"cut": 0} else "is cut short or damaged"
    refused(mnist, tmp_path, match=f"{IMAGES}.gz {words}")


RECORD = 3073
SPOILT = {
    "no file": (None, "no data_batch_3.bin in the folder .* the binary version"),
    "nothing in it": ({"cut": 0}, "data_batch_3.bin is cut short .* 0 bytes"),
    "a byte too few": ({"cut": -1}, f"{2 * RECORD - 1} bytes .* the 3073 bytes"),
    "a byte too many": ({"more": b"0"}, f"{2 * RECORD + 1} bytes"),
    "an image too few": ({"cut": RECORD}, "data_batch_3.bin has 1 images and data_batch_1.bin 2"),
    "a label of no class": ({"at": RECORD, "byte": 10}, "the label 10 at image 1, of 10 classes"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_damaged_batch_is_named(tmp_path, rng, name):
    batches_in(tmp_path, rng)
    damage, words = SPOILT[name]
    if damage is None:
        (tmp_path / "data_batch_3.bin").unlink()
    else:
        change(tmp_path / "data_batch_3.bin", **damage)
    refused(cifar10, tmp_path, match=words)


@pytest.mark.parametrize(("at", "byte"), [(0, 20), (1, 100)])
@pytest.mark.parametrize("coarse", [False, True])
def test_both_labels_of_the_hundred_kinds_are_checked(tmp_path, rng, at, byte, coarse):
    hundred_in(tmp_path, rng)
    change(tmp_path / "train.bin", at=at, byte=byte)
    refused(lambda: cifar100(tmp_path, coarse=coarse), match=f"label {byte} at image 0, of {byte}")


def test_a_file_of_ten_kinds_is_not_one_of_a_hundred(tmp_path, rng):
    batches_in(tmp_path, rng)
    (tmp_path / "data_batch_1.bin").rename(tmp_path / "train.bin")
    refused(cifar100, tmp_path, match="not a multiple of the 3074 bytes of an image")


def test_a_damaged_or_other_archive_is_named(tmp_path, rng):
    batches_in(tmp_path, rng)
    archive = packed_in(tmp_path, "cifar-10-binary.tar.gz", "cifar-10-batches-bin")
    total = archive.read_bytes()
    for wrong in (total[: len(total) // 2], b"no archive", b""):
        archive.write_bytes(wrong)
        refused(cifar10, tmp_path, match="cifar-10-binary.tar.gz is cut short or damaged")
    archive.unlink()
    (tmp_path / "data_batch_1.bin").write_bytes(b"0" * RECORD)
    second = packed_in(tmp_path, archive.name, "cifar-10-batches-py")
    refused(cifar10, tmp_path, "test", match=f"{second.name} holds no test_batch.bin; take the bin")


@pytest.mark.parametrize("reader", [mnist, fashion_mnist, cifar10, cifar100])
def test_there_are_two_parts(tmp_path, reader):
    refused(reader, tmp_path, "valid", match="'train' and 'test', not 'valid'")


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_with_another_checksum_than_was_published_is_refused(tmp_path, rng, packed):
    digits_in(tmp_path / "digits", rng, packed=packed)
    batches_in(tmp_path / "kinds", rng)
    if packed:
        packed_in(tmp_path / "kinds", "cifar-10-binary.tar.gz", "cifar-10-batches-bin")
    for reader, folder in ((mnist, tmp_path / "digits"), (cifar10, tmp_path / "kinds")):
        sums = {
            file.name: hashlib.md5(file.read_bytes()).hexdigest().upper()
            for file in folder.iterdir()
        }
        expected = reader(folder)
        np.testing.assert_array_equal(reader(folder, md5=sums).inputs, expected.inputs)
        for name in sums if packed or reader is mnist else ["data_batch_3.bin"]:
            with pytest.raises(ValueError, match=f"{name} is not the file that was published"):
                reader(folder, md5=sums | {name: "0" * 32})
            with pytest.raises(ValueError, match=f"no checksum is given for {name}"):
                reader(folder, md5={k: v for k, v in sums.items() if k != name} | {"other": ""})
