"""Patches of real photographs, of different regions for training and testing, and faces."""

from collections.abc import Sequence
from functools import cache
from importlib import import_module

import numpy as np

from sgdnoise.data._sets import Data

# Photographs in colour that come with a library, so that nothing is fetched, and which library.
PHOTOGRAPHS = dict.fromkeys(("china", "flower"), "scikit-learn") | dict.fromkeys(
    ("astronaut", "chelsea", "coffee", "rocket"), "scikit-image"
)
TILE = 106  # pixels; photographs are cut into square tiles of this side


def patches(
    n: int,
    size: int = 32,
    *,
    part: str = "train",
    photographs: Sequence[str] = ("china", "flower"),
    rng,
) -> Data:
    """Square patches (n, 3, size, size) in [0, 1], float32, and from which photograph (n,).

    Photographs, tiles of them and places within a tile are equally likely.  Each fourth tile is for
    testing: no pixel serves both parts, though tiles that touch are still alike at their edges.
    Patches of one part overlap, and are not independent: about (106 / size)^2 for each of 18 tiles
    in a photograph are distinct.
    photographs: names from `PHOTOGRAPHS`; scikit-image's come with it alone.
    rng: a numpy Generator or a seed.  Raises ValueError for n below 1, a size outside 1 to 106,
    another part, unknown or repeated photographs, and where their library is missing.
    """
    if n < 1:
        raise ValueError(f"patches are drawn with n of 1 or more, not {n}")
    if not 1 <= size <= TILE:
        raise ValueError(f"patches have a size of 1 to {TILE} pixels, not {size}")
    if not photographs or len(set(photographs)) < len(photographs):
        raise ValueError(f"each photograph is named once, and one at least: {list(photographs)}")
    generator = np.random.default_rng(rng)
    which = generator.integers(len(photographs), size=n)
    inputs = np.empty((n, 3, size, size), np.float32)
    for i, name in enumerate(photographs):
        own = which == i
        inputs[own] = _cut(_photograph(name), np.count_nonzero(own), size, part, generator)
    inputs /= 255
    return Data(inputs, which)


def _cut(photograph, n, size, part, generator):
    """n patches, each within a tile of its part, (h, w, 3) -> (n, 3, size, size)."""
    tiles = np.asarray(_tiles(photograph, part))
    corners = TILE * tiles[generator.integers(len(tiles), size=n)]
    rows, columns = (corners + generator.integers(0, TILE - size + 1, (n, 2))).T
    windows = np.lib.stride_tricks.sliding_window_view(photograph, (size, size), axis=(0, 1))
    return windows[rows, columns]


def _tiles(photograph, part):
    """Row and column of each tile of a part: testing has one of four in each row, shifted."""
    if part not in ("train", "test"):
        raise ValueError(f"the parts of the photographs are 'train' and 'test', not {part!r}")
    down, across = (length // TILE for length in photograph.shape[:2])
    places = [(row, column) for row in range(down) for column in range(across)]
    return [at for at in places if ((2 * at[0] + at[1]) % 4 == 0) == (part == "test")]


@cache
def _photograph(name):
    """The pixels of a photograph, (h, w, 3), whole numbers to 255."""
    if name not in PHOTOGRAPHS:
        raise ValueError(f"no photograph is called {name!r}; there are {', '.join(PHOTOGRAPHS)}")
    if PHOTOGRAPHS[name] == "scikit-learn":
        from sklearn.datasets import load_sample_image

        return load_sample_image(f"{name}.jpg")
    return _shipped(name, f"the photograph {name!r} comes")


def faces() -> Data:
    """Faces and what is none, (200, 1, 25, 25) in [0, 1], float32, and 1 for a face, otherwise 0.

    Cut from photographs of Huang et al. (2012), a hundred of each, as scikit-image ships them: too
    few to train on and test; something real to look at.
    Raises ValueError where scikit-image is missing.
    """
    pixels = np.asarray(_shipped("lfw_subset", "the set of faces comes"), np.float32)
    return Data(pixels[:, None], np.repeat([1, 0], 100))


def _shipped(name, what):
    """What scikit-image has by that name."""
    try:
        return getattr(import_module("skimage.data"), name)()
    except ImportError:
        raise ValueError(f"{what} with the package scikit-image, which is not installed") from None
