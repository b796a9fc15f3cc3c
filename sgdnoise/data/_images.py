"""Patches of photographs, of disjoint regions for training and testing, and faces."""

from collections.abc import Sequence
from functools import cache
from importlib import import_module

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.data._sets import Data

# Colour photographs that are shipped with a library, and that library; nothing is downloaded.
PHOTOGRAPHS = dict.fromkeys(("china", "flower"), "scikit-learn") | dict.fromkeys(
    ("astronaut", "chelsea", "coffee", "rocket"), "scikit-image"
)
TILE = 106  # pixels; photographs are cut into square tiles of this side


@checked
def patches(
    n: int,
    size: int = 32,
    *,
    subset: str = "train",
    photographs: Sequence[str] = ("china", "flower"),
    rng,
) -> Data:
    """Square patches (n, 3, size, size) in [0, 1], float32, and the index of their photograph (n,).

    Photographs, tiles of them and places within a tile are equally likely.  Every fourth tile is
    for testing: no pixel is in both subsets ("train" and "test"), though adjacent tiles are similar
    at their edges.  Patches of one subset overlap, and are not independent: about (106 / size)^2
    per tile are distinct, of 18 tiles in a photograph.
    photographs: names from `PHOTOGRAPHS`; some need scikit-image.
    rng: a numpy Generator or a seed.  Raises ValueError for n below 1, a size outside 1 to 106,
    another subset, unknown or repeated photographs, and if their library is missing.

    Example:
        >>> patches(4, 16, rng=0).inputs.shape
        (4, 3, 16, 16)
    """
    if n < 1:
        raise ValueError(f"patches are drawn with n of 1 or more, not {n}")
    if not 1 <= size <= TILE:
        raise ValueError(f"patches have a size of 1 to {TILE} pixels, not {size}")
    if not photographs or len(set(photographs)) < len(photographs):
        raise ValueError(
            f"each photograph is named once, and at least one is needed: {list(photographs)}"
        )
    generator = np.random.default_rng(rng)
    which = generator.integers(len(photographs), size=n)
    inputs = np.empty((n, 3, size, size), np.float32)
    for i, name in enumerate(photographs):
        mask = which == i
        inputs[mask] = _cut(_photograph(name), np.count_nonzero(mask), size, subset, generator)
    inputs /= 255
    return Data(inputs, which)


def _cut(photograph, n, size, subset, generator):
    """n patches, each within a tile of its subset, (h, w, 3) -> (n, 3, size, size)."""
    tiles = np.asarray(_tiles(photograph, subset))
    corners = TILE * tiles[generator.integers(len(tiles), size=n)]
    rows, columns = (corners + generator.integers(0, TILE - size + 1, (n, 2))).T
    windows = np.lib.stride_tricks.sliding_window_view(photograph, (size, size), axis=(0, 1))
    return windows[rows, columns]


def _tiles(photograph, subset):
    """Row and column of each tile of a subset: testing has one of four in each row, shifted."""
    if subset not in ("train", "test"):
        raise ValueError(f"the subsets of the photographs are 'train' and 'test', not {subset!r}")
    down, across = (length // TILE for length in photograph.shape[:2])
    places = [(row, column) for row in range(down) for column in range(across)]
    return [
        (row, column)
        for row, column in places
        if ((2 * row + column) % 4 == 0) == (subset == "test")
    ]


@cache
def _photograph(name):
    """The pixels of a photograph, (h, w, 3), integers to 255."""
    if name not in PHOTOGRAPHS:
        raise ValueError(f"no photograph is called {name!r}; there are {', '.join(PHOTOGRAPHS)}")
    if PHOTOGRAPHS[name] == "scikit-learn":
        from sklearn.datasets import load_sample_image

        return load_sample_image(f"{name}.jpg")
    return _shipped(name, f"the photograph {name!r} comes")


@checked
def faces() -> Data:
    """Faces and non-faces, (200, 1, 25, 25) in [0, 1], float32, with the targets 1 and 0.

    They are cut from photographs of Huang et al. (2012), a hundred of each, as scikit-image ships
    them, too few to train and test on.  Raises ValueError if scikit-image is missing.

    Example:
        >>> faces().inputs.shape  # doctest: +SKIP
        (200, 1, 25, 25)
    """
    pixels = np.asarray(_shipped("lfw_subset", "the set of faces comes"), np.float32)
    return Data(pixels[:, None], np.repeat([1, 0], 100))


def _shipped(name, what):
    """The data set of scikit-image with this name."""
    try:
        return getattr(import_module("skimage.data"), name)()
    except ImportError:
        raise ValueError(f"{what} with the package scikit-image, which is not installed") from None
