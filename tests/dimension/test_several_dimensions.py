"""Unions of pieces of two dimensions are warned of, and manifolds are not."""

import json
import re
import warnings

import numpy as np
import pytest
import torch
from lab.test_terminal import ask

from sgdnoise.data import BENCHMARK, benchmark
from sgdnoise.dimension import SeveralDimensions, doubts, estimate, twonn
from sgdnoise.dimension._neighbours import nearest_neighbours
from sgdnoise.dimension._several_dimensions import several_dimensions


def line_and_plane(n, fraction, rng):
    """A segment of length 1 that stands on the middle of a square of side 2."""
    count = int(fraction * n)
    points = np.zeros((n, 3))
    points[:count, 2] = rng.uniform(0, 1, count)
    points[count:, :2] = rng.uniform(-1, 1, (n - count, 2))
    return rng.permutation(points)


def numbers(text):
    """The percentage of the points with the lower dimension, and both dimensions."""
    found = re.match(r"(\d+)%.*about (\S+) around.* of (\S+):", text)
    return [float(word) for word in found.groups()]


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.8])
def test_a_line_on_a_plane_has_two_dimensions(fraction, rng):
    points = line_and_plane(2000, fraction, rng)
    (text,) = [str(doubt) for doubt in doubts(points) if isinstance(doubt, SeveralDimensions)]
    share, low, high = numbers(text)
    assert abs(share / 100 - fraction) < 0.05
    assert abs(low - 1) < 0.1
    assert abs(high - 2) < 0.25


def test_two_clouds_of_three_and_six_dimensions_are_told(rng):
    """Edges lower the larger one."""
    points = rng.normal(size=(1000, 6))
    points[:400, 3:] = 0
    points[400:] += 10
    (text,) = [str(doubt) for doubt in doubts(points) if isinstance(doubt, SeveralDimensions)]
    share, low, high = numbers(text)
    assert share == 40
    assert abs(low - 3) < 0.3
    assert 4.5 < high < 6.3


def test_estimate_warns_of_two_dimensions_and_few_neighbours_cannot(rng):
    points = line_and_plane(1000, 0.5, rng)
    with pytest.warns(SeveralDimensions, match="no single number"):
        value = estimate(points, stderr=False).value
    assert 1 < value < 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        twonn(points)


def test_the_command_recommends_no_number_for_two_dimensions(tmp_path, rng):
    np.save(tmp_path / "p.npy", line_and_plane(1000, 0.5, rng))
    words = ("--estimator", "estimate", "--json", "--out", tmp_path)
    told = json.loads(ask("dimension", tmp_path / "p.npy", *words).stdout)
    assert told["recommended"] is None
    assert "parts of the points have different dimensions" in told["sentences"][0]


def test_torch_gives_the_same_sentence(rng):
    points = line_and_plane(600, 0.5, rng)
    expected = [str(doubt) for doubt in doubts(points)]
    assert "dimension of about" in expected[-1]
    assert [str(doubt) for doubt in doubts(torch.asarray(points))] == expected


@pytest.mark.parametrize("name", BENCHMARK)
def test_a_manifold_has_one_dimension(name):
    """The paraboloids, whose density falls by powers, come nearest: 0.90 of 0.92."""
    for seed in range(3):
        points = benchmark(name, 500, rng=np.random.default_rng([seed, 4])).inputs
        assert several_dimensions(*nearest_neighbours(points, 20)) is None


@pytest.mark.parametrize("spread", [0.01, 0.1])
def test_clusters_and_densities_are_not_dimensions(spread, rng):
    points = rng.normal(size=(1000, 4))
    points[:500] = 8 + spread * rng.normal(size=(500, 4))
    assert several_dimensions(*nearest_neighbours(points, 20)) is None


@pytest.mark.parametrize("kind", ["of about 25", "of 10 and of 170"])
def test_nothing_is_said_of_clusters_as_small_as_the_neighbourhoods(kind, rng):
    """Neighbours beyond the cluster look like a lower dimension."""
    sizes = rng.multinomial(500, [0.05] * 20) if kind == "of about 25" else [10] * 49 + [170] * 3
    centres = np.repeat(10 * rng.normal(size=(len(sizes), 5)), sizes, axis=0)
    points = centres + 0.01 * rng.normal(size=centres.shape)
    assert several_dimensions(*nearest_neighbours(points, 20)) is None
