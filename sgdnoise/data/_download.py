"""Published files: fetched once from their public addresses, checked, and stored in a cache."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sgdnoise._extras import require

TIMEOUT = 30  # seconds without an answer


class Source(NamedTuple):
    """Files that were published together: a folder in the cache, an address, and checksums."""

    folder: str
    address: str  # to which the name of a file is added
    sums: dict[str, str]  # name of a file -> algorithm:checksum


# The checksums of data sets are those of the publishers: of MNIST and Fashion-MNIST as torchvision
# and the authors' repository state them, of CIFAR as its page does.
MNIST = Source(
    "mnist",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    {
        "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
    },
)
FASHION_MNIST = Source(
    "fashion_mnist",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    {
        "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
    },
)
CIFAR = Source(
    "cifar",
    "https://www.cs.toronto.edu/~kriz/",
    {
        "cifar-10-binary.tar.gz": "md5:c32a1d4ab5d03f1284b67883e8d87530",
        "cifar-100-binary.tar.gz": "md5:03b5dce01913d631647c71ecec9e9cb8",
    },
)


def fetch(source: Source, names: Iterable[str]) -> Path:
    """The folder in the cache that holds these files of a source; those not there are fetched.

    The cache is sgdnoise in $XDG_CACHE_HOME, or in ~/.cache.
    Raises ValueError for a file that cannot be fetched, which says where to put it, and for one
    with another checksum.
    """
    folder = cache() / source.folder
    for name in names:
        _fetch_one(source, name, folder)
    return folder


def cache() -> Path:
    """The folder for files that are fetched."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sgdnoise"


def _fetch_one(source, name, folder):
    pooch = require("pooch", "downloads")
    address = f"{source.address}{name}"
    downloader = pooch.HTTPDownloader(timeout=TIMEOUT)
    try:
        pooch.retrieve(address, source.sums[name], name, folder, downloader=downloader)
    except require("requests", "downloads").exceptions.RequestException as error:
        raise ValueError(
            f"{name} cannot be fetched now; put the file {address} into the folder {folder}"
        ) from error
    except OSError as error:
        raise ValueError(f"the folder {folder} cannot be written: {error.strerror}") from None
    except ValueError:
        raise ValueError(
            f"{address} is not the file that was published: it has another checksum"
        ) from None
