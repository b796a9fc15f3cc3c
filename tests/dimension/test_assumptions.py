"""Points that break what estimators assume: each class is warned of, and clean points are not."""

import warnings

import numpy as np
import pytest
from witnesses import torus

from sgdnoise.data import BENCHMARK, benchmark
from sgdnoise.dimension import (
    MANIFOLD,
    AboveCoordinates,
    ClosePairs,
    DimensionWarning,
    Discrete,
    Duplicates,
    NearDuplicates,
    NotSettled,
    Outliers,
    SerialDependence,
    Ties,
    abide,
    doubts,
    estimate,
    find_neighbours,
    gride,
    l2n2,
    learned,
    mada,
    twonn,
)
from sgdnoise.dimension._assumptions import near_ties
from sgdnoise.dimension._close_pairs import close_pairs
from sgdnoise.dimension._neighbours import nearest_neighbours


def quietly(estimator, points):
    """The value, or the sentence of a refusal, and the categories of the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            answer = estimator(points)
            answer = float(getattr(answer, "value", answer))
        except ValueError as refusal:
            answer = str(refusal)
    return answer, {warning.category for warning in caught}


def circle(n):
    angle = np.arange(n) * 2 * np.pi / n
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def grid(side, jitter, rng, d=2):
    axes = np.meshgrid(*[np.arange(float(side))] * d)
    points = np.stack(axes, axis=-1).reshape(-1, d)
    return points + jitter * rng.normal(size=points.shape)


def helix(n, turns):
    t = np.linspace(0, 2 * np.pi * turns, n)
    return np.stack([np.cos(t), np.sin(t), 0.1 * t], axis=1)


def windings(n):
    t = np.linspace(0, 200, n)
    return np.stack([np.sin(t), np.cos(t), np.sin(1.618 * t), np.cos(1.618 * t)], axis=1)


NEARLY_TIED = {
    "circle": lambda rng: circle(500),
    "circle of few": lambda rng: circle(230),
    "helix": lambda rng: helix(2000, 6),
    "path on a torus": lambda rng: windings(3000),
    "grid": lambda rng: grid(25, 1e-3, rng),
    "coarse grid": lambda rng: grid(25, 3e-2, rng),
    "grid in space": lambda rng: grid(9, 1e-2, rng, 3),
    "drift": lambda rng: np.cumsum(0.1 * rng.normal(size=(400, 50)) + rng.normal(size=50), 0),
}


@pytest.mark.parametrize("name", NEARLY_TIED)
@pytest.mark.parametrize("estimator", [estimate, learned, twonn, l2n2, gride])
def test_near_ties_are_refused_by_estimators_from_two_neighbours(name, estimator, rng):
    points = rng.permutation(NEARLY_TIED[name](rng))
    answer, said = quietly(estimator, points)
    assert isinstance(answer, str)
    assert Ties in said
    assert "use i3d" in answer or "no single dimension" in answer


@pytest.mark.parametrize("d", [1.0, 3.0, 12.0])
@pytest.mark.parametrize("others", [1.0, 5.0, 6.3])
def test_near_ties_are_counted_by_the_law_of_their_dimension(others, d):
    """r_2 / r_1 is Pareto(others * d) where ranks 5 to 10 say d: a fraction 1 - 0.95^others."""
    n = 2000
    distances = np.ones((n, 10))
    distances[:, 1] = np.exp(-np.log1p(-(np.arange(n) + 0.5) / n) / (others * d))
    distances[:, 4:] = 10.0
    distances[:, 9] = 10 * 2 ** (1 / d)
    warning = near_ties(distances)
    assert (warning is None) == (1 - 0.95**others < 0.25)
    if warning is not None:
        assert f"{1 - 0.95**others:.0%} of {n} points" in str(warning)
        assert "where 5.0% are expected" in str(warning)


def test_abide_goes_on_until_it_is_settled_or_says_that_it_is_not():
    """After 5 steps it is 276, after 8 it is 1.06."""
    with pytest.warns(Ties):
        assert abs(abide(np.random.default_rng(0).permutation(circle(500))) - 1) < 0.1
    points = np.random.default_rng(0).normal(size=(300, 3))
    steps = [abide(points, steps=count) for count in (4, 5)]
    assert abs(steps[1] / steps[0] - 1) < 300**-0.5
    assert abide(points) == steps[1]


def test_abide_that_never_settles_is_warned_of(monkeypatch, rng):
    values = iter(np.tile([2.0, 5.0], 100))
    monkeypatch.setattr(
        "sgdnoise.dimension._counts._within_adaptive", lambda *_: np.asarray(next(values))
    )
    with pytest.warns(NotSettled, match=r"from 2 to 5 in its last step"):
        abide(rng.normal(size=(200, 6)))


def with_copies(n, d, pairs, size, rng):
    clean = np.random.default_rng(0).normal(size=(n, d))
    points = clean.copy()
    points[-pairs:] = points[:pairs] + size * rng.normal(size=(pairs, d))
    return clean, points


@pytest.mark.parametrize("size", [1e-12, 1e-9, 1e-6, 1e-3, 1e-2])
@pytest.mark.parametrize("pairs", [5, 25, 100])
def test_near_copies_are_merged_and_the_dimension_is_that_without(pairs, size, rng):
    clean, points = with_copies(1000, 5, pairs, size, rng)
    with pytest.warns(NearDuplicates, match=r"of 1000 points nearly repeat others") as said:
        result = twonn(points)
    count = int(str(said[0].message).split()[0])
    assert pairs <= count <= 1.2 * pairs + 3
    assert abs(result - twonn(clean)) < 0.25


@pytest.mark.parametrize("d", [2, 5, 10])
@pytest.mark.parametrize("size", [1e-9, 1e-6, 1e-4])
def test_copies_of_more_than_half_of_the_points_are_found(d, size, rng):
    clean, points = with_copies(1000, d, 300, size, rng)
    with pytest.warns(NearDuplicates) as said:
        result = twonn(points)
    assert 280 <= int(str(said[0].message).split()[0]) <= 320
    assert abs(result / twonn(clean) - 1) < 0.15


def test_a_whole_set_may_be_copied_in_the_last_bit(rng):
    points = (rng.normal(size=(800, 5)) @ rng.normal(size=(5, 60))).astype(np.float32)
    twice = np.concatenate([points, np.nextafter(points, np.float32(np.inf))])
    with pytest.warns(NearDuplicates, match=r"^800 of 1600"):
        np.testing.assert_allclose(twonn(twice), twonn(points), rtol=0.02)


@pytest.mark.parametrize("pairs", [5, 25, 100])
def test_few_other_pairs_are_merged_with_copies(pairs, rng):
    """Removed pairs that are close by chance raise the dimension."""
    for seed in range(5):
        points = np.random.default_rng(seed).normal(size=(1000, 2))
        points = np.concatenate([points, points[:pairs] + 1e-7 * rng.normal(size=(pairs, 2))])
        with pytest.warns(NearDuplicates) as said:
            find_neighbours(points, 2)
        assert pairs <= int(str(said[0].message).split()[0]) <= pairs + 5


@pytest.mark.parametrize(("pairs", "size"), [(100, 1e-2), (300, 1e-2)])
def test_copies_with_noise_that_are_not_told_from_other_pairs_are_warned_of(pairs, size, rng):
    _, points = with_copies(1000, 2, pairs, size, rng)
    with pytest.warns(ClosePairs, match=r"% of 1000 points are as close .* in (1\.\d+|2) dim"):
        result = twonn(points)
    words = str(doubts(points)[0])
    lowered = float(words.split("about ")[1].rstrip("%")) / 100
    assert abs(result / (2 * (1 - lowered)) - 1) < 0.25


@pytest.mark.parametrize(("pairs", "least"), [(100, 0.6), (300, 0.9)])
def test_most_sets_with_noisy_copies_are_warned_of(pairs, least):
    """The steady dimension of ranks 3 to 10 finds one set in ten more: 73% of 100 copies."""
    sets = [with_copies(1000, 2, pairs, 1e-2, np.random.default_rng(seed))[1] for seed in range(30)]
    found = [close_pairs(*nearest_neighbours(points, 10)) is not None for points in sets]
    assert np.mean(found) > least


@pytest.mark.parametrize("name", ["M5b_Helix2d", "Mp2_Paraboloid", "M6_Nonlinear"])
def test_manifolds_whose_nearest_pairs_are_close_have_no_copies(name):
    """Their ratios have heavier tails than one dimension allows, by curvature and density."""
    for seed in range(8):
        points = benchmark(name, 1500, rng=np.random.default_rng([seed, 3])).inputs
        assert close_pairs(*nearest_neighbours(points, 10)) is None


def test_one_pair_is_found_where_it_matters(rng):
    _, points = with_copies(1000, 5, 1, 1e-9, rng)
    with pytest.warns(NearDuplicates, match=r"^1 of 1000 points nearly"):
        result = estimate(points)
    assert abs(result.value - 5) < 0.2
    np.testing.assert_allclose(result.value, estimate(points[:-1]).value, rtol=1e-12)


def test_exact_and_near_repeats_mix_and_groups_of_copies_are_one_point(rng):
    points = rng.normal(size=(600, 4))
    copies = np.concatenate([points[:20]] * 3) + 1e-8 * rng.normal(size=(60, 4))
    with pytest.warns(Duplicates) as said:
        near = find_neighbours(np.concatenate([points, points[20:50], copies]), 2)
    kinds = [(type(w.message), str(w.message).split()[0]) for w in said]
    assert kinds == [(Duplicates, "30"), (NearDuplicates, "60")]
    np.testing.assert_array_equal(near.points, points)


def test_copies_in_the_last_bit_of_single_precision(rng):
    plane = (rng.normal(size=(1000, 5)) @ rng.normal(size=(5, 300))).astype(np.float32)
    plane[-100:] = np.nextafter(plane[:100], np.float32(np.inf))
    with pytest.warns(NearDuplicates, match=r"^1(0\d|10) of 1000"):
        assert 4 < twonn(plane) < 5.7


def test_a_part_of_lower_dimension_is_not_taken_for_copies(rng):
    points = rng.normal(size=(1000, 10))
    points[:500, 1:] = 0
    assert NearDuplicates not in [type(doubt) for doubt in doubts(points)]


DISCRETE = {
    "rounded": lambda rng: rng.uniform(size=(2000, 2)).round(1),
    "finely rounded": lambda rng: rng.uniform(size=(2000, 2)).round(2),
    "counts": lambda rng: rng.poisson(rng.gamma(2, 0.5, size=(1000, 3)) @ np.ones((3, 100)) / 3),
    "one-hot": lambda rng: np.concatenate(
        [np.eye(10)[rng.integers(0, 10, 1500)] for _ in range(4)], 1
    ),
    "answers": lambda rng: rng.integers(1, 6, size=(800, 30)),
    "standardised answers": lambda rng: rng.integers(1, 6, size=(800, 30)) * rng.uniform(size=30),
}


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_coordinates_are_warned_of(name, rng):
    points = DISCRETE[name](rng)
    answer, said = quietly(estimate, points)
    assert Discrete in said
    assert isinstance(answer, str) or answer <= np.linalg.matrix_rank(points - points.mean(0))


def test_one_coordinate_of_few_values_is_no_lattice(rng):
    points = rng.normal(size=(500, 5))
    points[:, 0] = points[:, 0] > 0
    assert Discrete not in [type(doubt) for doubt in doubts(points)]


def autoregressive(coefficient, n, d, rng):
    points = rng.normal(size=(n, d))
    for row in range(1, n):
        points[row] += coefficient * points[row - 1]
    return points


RECORDED = {
    "autoregressive": lambda rng: autoregressive(0.95, 2000, 10, rng),
    "walk": lambda rng: np.cumsum(rng.normal(size=(1000, 5)), axis=0),
    "smoothed noise": lambda rng: np.apply_along_axis(
        lambda row: np.convolve(row, np.hanning(21), "same"), 0, rng.normal(size=(2000, 40))
    ),
    "oscillation": lambda rng: windings(3000)[:, :2] + 0.05 * rng.normal(size=(3000, 2)),
}


@pytest.mark.parametrize("name", ["autoregressive", "walk", "smoothed noise"])
def test_rows_that_are_moments_in_time_are_told_by_their_order(name, rng):
    points = RECORDED[name](rng)
    assert SerialDependence in [type(doubt) for doubt in doubts(points)]
    assert SerialDependence not in [type(doubt) for doubt in doubts(rng.permutation(points))]


def test_rows_sorted_by_class_are_no_moments_in_time(rng):
    centres = np.repeat(rng.normal(size=(10, 4)), 60, axis=0)
    points = centres + 0.05 * rng.normal(size=(600, 4))
    assert doubts(points) == []


def test_a_dimension_above_the_number_of_coordinates_says_so(rng):
    """Of 5 neighbours, the mean of local dimensions is far too large."""
    flat = rng.normal(size=(1000, 3)) @ rng.normal(size=(3, 8))
    with pytest.warns(AboveCoordinates, match=r"above what points of rank 3 can have"):
        assert mada(flat, 5) > 3.3
    with pytest.warns(AboveCoordinates, match=r"above what points of 3 coordinates can have"):
        mada(rng.normal(size=(1000, 3)), 5)


def test_the_estimate_is_never_above_the_rank(rng):
    for width in (4, 30):
        points = rng.normal(size=(300, 4)) @ np.linalg.qr(rng.normal(size=(width, 4)))[0].T
        result = estimate(points)
        assert result.value <= 4
        assert result.stderr > 0.02


def test_one_far_outlier_moves_no_mean_of_local_dimensions(rng):
    points = rng.normal(size=(500, 3))
    far = points.copy()
    far[0] = 1e4
    with pytest.warns(Outliers, match=r"^1 of 500 points"):
        result = mada(far)
    assert abs(result / mada(points) - 1) < 0.02


def line(n):
    return np.random.default_rng(1).uniform(size=(n, 1)) * np.arange(1.0, 4)


def far_apart():
    points = np.random.default_rng(2).normal(size=(400, 3))
    points[:2] += [[1e6, 0, 0], [0, -1e6, 0]]
    return points


UNIFORM = {"lattice": grid(20, 0, np.random.default_rng(0)), "line": line(400), "far": far_apart()}
RIGHT = {"lattice": 2, "line": 1, "far": 3}


@pytest.mark.parametrize("name", MANIFOLD)
@pytest.mark.parametrize("points", UNIFORM)
def test_every_estimator_is_right_or_says_so(name, points):
    """Within 40% of the truth, or a refusal, or a warning."""
    answer, said = quietly(MANIFOLD[name], UNIFORM[points])
    if not isinstance(answer, str) and not said:
        assert abs(answer / RIGHT[points] - 1) < 0.4


CLEAN = {
    **{f"normal {d}": lambda rng, d=d: rng.normal(size=(600, d)) for d in (1, 2, 5, 20, 60)},
    "cube": lambda rng: rng.uniform(size=(1000, 5)),
    "heavy tails": lambda rng: rng.standard_t(2, size=(600, 6)),
    "cauchy": lambda rng: rng.standard_cauchy(size=(600, 5)),
    "torus": lambda rng: torus(3, 1000, rng),
    "clusters": lambda rng: (
        np.repeat(rng.normal(size=(6, 5)), 100, axis=0) + 1e-3 * rng.normal(size=(600, 5))
    ),
    "wide": lambda rng: rng.normal(size=(500, 4)) @ rng.normal(size=(4, 300)),
    "rounded to three digits": lambda rng: rng.normal(size=(500, 5)).round(3),
}


@pytest.mark.parametrize("name", CLEAN)
def test_clean_points_raise_no_doubt(name, rng):
    for _ in range(5):
        assert doubts(CLEAN[name](rng)) == []
    estimate(CLEAN[name](rng))


@pytest.mark.parametrize("name", BENCHMARK)
def test_the_benchmark_raises_no_doubt(name):
    for seed in range(5):
        for n in (250, 1000):
            assert doubts(benchmark(name, n, rng=[n, seed]).inputs) == []


def test_all_warnings_have_one_base(rng):
    points = np.tile(rng.normal(size=(60, 3)), (2, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DimensionWarning)
        assert twonn(points) == twonn(points[:60])


@pytest.mark.parametrize(("d", "pairs", "apart"), [(2, 1, 1e-12), (2, 1, 1e-6), (5, 5, 1e-2)])
def test_few_certain_copies_are_not_hidden_by_the_points_after_them(d, pairs, apart):
    """The pairs are improbable, the next points are not, and all of them together were not."""
    rng = np.random.default_rng(pairs)
    points = rng.normal(size=(1000, d))
    clean = float(twonn(points))
    points[-pairs:] = points[:pairs] + apart * rng.normal(size=(pairs, d))
    with pytest.warns(NearDuplicates):
        value = float(twonn(points))
    assert abs(value / clean - 1) < 0.03
