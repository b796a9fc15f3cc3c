"""Patches of photographs: where they come from, and that training never sees a test pixel."""

import importlib
import sys
import types

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_sample_image
from witnesses import SURE

from sgdnoise.data import _images as images
from sgdnoise.data import faces, patches
from sgdnoise.data._images import TILE, _photograph, _tiles


def ruler(height, width):
    """A photograph whose pixels say where they are: row, column, and 7."""
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return np.stack([rows, columns, np.full_like(rows, 7)], axis=2)


def places(data):
    """Row and column of each pixel of patches cut from a ruler, (n, 2, size, size)."""
    return np.rint(data.inputs[:, :2] * 255).astype(int)


@pytest.fixture
def rulers(monkeypatch):
    """Two photographs of different sizes that are rulers."""
    there = {"china": ruler(427, 640), "flower": ruler(300, 451)}
    monkeypatch.setattr(images, "_photograph", there.__getitem__)
    return there


def test_a_patch_is_found_in_its_photograph():
    data = patches(20, 16, rng=0)
    assert data.inputs.shape == (20, 3, 16, 16)
    assert data.inputs.dtype == np.float32
    assert set(data.targets) == {0, 1}
    for patch, which in zip(data.inputs, data.targets, strict=True):
        photograph = load_sample_image(("china.jpg", "flower.jpg")[which])
        wanted = np.rint(patch * 255).transpose(1, 2, 0)
        corners = np.argwhere((photograph == wanted[0, 0]).all(axis=2))
        inside = corners[(corners <= np.asarray(photograph.shape[:2]) - 16).all(axis=1)]
        assert any(np.array_equal(photograph[r : r + 16, c : c + 16], wanted) for r, c in inside)


@pytest.mark.usefixtures("rulers")
def test_patches_are_squares_the_right_way_up():
    for at in places(patches(50, 9, rng=1)):
        np.testing.assert_array_equal(at[0], at[0, 0, 0] + np.arange(9)[:, None] + np.zeros(9))
        np.testing.assert_array_equal(at[1], at[1, 0, 0] + np.arange(9)[None, :] + np.zeros((9, 1)))


@pytest.mark.parametrize(("size", "n"), [(1, 9000), (32, 4000), (TILE, 300)])
def test_no_pixel_is_in_both_parts(rulers, size, n):
    """Of every photograph; large patches cover nearly all of its tiles, a fourth in the test."""
    for which, (name, photograph) in enumerate(rulers.items()):
        observed = {}
        for block in ("train", "test"):
            data = patches(n, size, subset=block, photographs=list(rulers), rng=2)
            at = places(data)[data.targets == which]
            mask = np.zeros(photograph.shape[:2], bool)
            mask[at[:, 0], at[:, 1]] = True
            observed[block] = mask
        assert not (observed["train"] & observed["test"]).any(), name
        if size > 1:
            tiles = (photograph.shape[0] // TILE) * (photograph.shape[1] // TILE)
            assert 0.23 < observed["test"].sum() / (tiles * TILE**2) <= 0.25
            assert 0.7 < observed["train"].sum() / (tiles * TILE**2) <= 0.75


def test_test_tiles_stand_in_every_row_and_in_no_two_neighbouring_columns(rulers):
    tiles = _tiles(rulers["china"], "test")
    assert {row for row, _ in tiles} == {0, 1, 2, 3}
    assert len(tiles) + len(_tiles(rulers["china"], "train")) == 24
    for first in tiles:
        assert all(abs(first[0] - two[0]) + abs(first[1] - two[1]) != 1 for two in tiles)


@pytest.mark.usefixtures("rulers")
def test_photographs_tiles_and_places_are_equally_likely():
    data = patches(900, 100, subset="train", rng=3)
    assert stats.binomtest(int(data.targets.sum()), 900).pvalue > 1e-6
    corner = places(data)[data.targets == 0][:, :, 0, 0]
    tile = corner // TILE
    _, counts = np.unique(tile[:, 0] * 6 + tile[:, 1], return_counts=True)
    assert len(counts) == 18
    assert stats.chisquare(counts).pvalue > 1e-6
    for axis in (0, 1):
        counts = np.bincount(corner[:, axis] % TILE, minlength=7)
        assert len(counts) == 7
        assert stats.chisquare(counts).pvalue > 1e-6


def test_natural_patches_are_smooth():
    """Neighbouring pixels agree far better than pixels half a patch away: no scrambled axes."""
    x = patches(500, 32, rng=4).inputs
    for axis in (2, 3):
        near = np.diff(x, axis=axis).std()
        far = (x.take(range(16, 32), axis) - x.take(range(16), axis)).std()
        assert SURE * near < 3 * far


def test_a_seed_decides_the_patches_and_parts_differ():
    first, two, second = (patches(5, 8, rng=seed).inputs for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, two)
    assert (first != second).any()
    assert (first != patches(5, 8, subset="test", rng=1).inputs).any()


@pytest.fixture
def fresh():
    """Photographs kept from other tests are forgotten, before and after."""
    _photograph.cache_clear()
    yield
    _photograph.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_photographs_of_scikit_image_are_used_where_it_is_there(monkeypatch):
    shelf = types.SimpleNamespace(rocket=lambda: ruler(427, 640))
    genuine = importlib.import_module
    monkeypatch.setattr(
        images, "import_module", lambda name: shelf if name == "skimage.data" else genuine(name)
    )
    data = patches(3, 8, photographs=["rocket"], rng=0)
    assert np.all(np.rint(data.inputs[:, 2] * 255) == 7)


def test_faces_come_before_what_is_none(monkeypatch, rng):
    """The package that ships them is not needed by tests: an array of their shape stands in."""
    pixels = rng.random((200, 25, 25))
    shelf = types.SimpleNamespace(lfw_subset=lambda: pixels)
    monkeypatch.setattr(images, "import_module", lambda name: {"skimage.data": shelf}[name])
    data = faces()
    assert data.inputs.dtype == np.float32
    np.testing.assert_array_equal(data.inputs, pixels[:, None].astype(np.float32))
    assert data.targets.tolist() == [1] * 100 + [0] * 100


def test_faces_without_their_library_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(ValueError, match="the set of faces comes with the package scikit-image"):
        faces()


@pytest.mark.usefixtures("fresh")
def test_a_photograph_without_its_library_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    refused({"photographs": ["coffee"]}, "'coffee' comes with the package scikit-image")


def refused(change, words):
    with pytest.raises(ValueError, match=words) as caught:
        patches(**({"n": 5, "rng": 0} | change))
    text = str(caught.value)
    assert 20 <= len(text) <= 200
    assert ". " not in text
    assert not text.endswith(".")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": 0}, "1 or more, not 0"),
        ({"size": 0}, "1 to 106 pixels, not 0"),
        ({"size": 107}, "1 to 106 pixels, not 107"),
        ({"subset": "valid"}, "'train' and 'test', not 'valid'"),
        ({"photographs": []}, "at least one"),
        ({"photographs": ["china", "china"]}, "named once"),
        ({"photographs": ["lena"]}, "'lena'; there are china, flower"),
    ],
)
def test_bad_input_is_one_sentence(change, words):
    refused(change, words)
