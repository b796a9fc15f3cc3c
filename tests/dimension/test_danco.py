"""Angle and norm concentration: its two laws, its reference balls, clouds of known dimension."""

from itertools import combinations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.interpolate import CubicSpline
from scipy.spatial import KDTree
from scipy.special import comb, digamma, iv
from scipy.stats import vonmises
from witnesses import SURE

from sgdnoise.core import mean
from sgdnoise.dimension import _danco as rooms
from sgdnoise.dimension import danco, find_neighbours
from sgdnoise.dimension._danco import (
    _across,
    _angle_divergence,
    _concentration,
    _control_variates,
    _divergence_at,
    _exponent,
    _mean_angles,
    _most_similar,
    _nodes,
    _norm_divergence,
    _shared,
    _stratified,
    _summary,
    ball_statistics,
)


def ball(n, d, rng):
    directions = rng.normal(size=(n, d))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions * rng.uniform(size=(n, 1)) ** (1 / d)


def summary(points, k):
    near = find_neighbours(points, k + 1)
    closest = near.distances[:, 0] / near.distances[:, -1]
    return _summary(closest, _mean_angles(near.first(k)), k)


def test_angles_are_those_between_each_two_neighbours(rng):
    points, k = rng.normal(size=(30, 3)), 5
    cosine, sine = _mean_angles(find_neighbours(points, k))
    for i, others in enumerate(KDTree(points).query(points, k=k + 1)[1][:, 1:]):
        angles = []
        for x, y in combinations(points[others] - points[i], 2):
            angles.append(np.arccos(x @ y / np.linalg.norm(x) / np.linalg.norm(y)))
        np.testing.assert_allclose(cosine[i], np.mean(np.cos(angles)), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(sine[i], np.mean(np.sin(angles)), rtol=1e-9)


@pytest.mark.parametrize("k", [3, 10])
@pytest.mark.parametrize("d", [1.0, 6.5])
def test_the_likeliest_exponent_is_that_of_the_law(k, d, rng):
    """Its bias, O(1 / n), is allowed for; r^d is Beta(1, k)."""
    repeats = [_exponent(rng.beta(1, k, 1000) ** (1 / d), k) for _ in range(50)]
    result = mean(np.asarray(repeats))
    assert abs(result.value - d) < SURE * result.stderr + 2 * d / 1000


def test_the_likeliest_exponent_has_the_greatest_likelihood(rng):
    r, k = rng.uniform(0.2, 0.9, 30), 7

    def likelihood(d):
        return np.sum(np.log(d) + (d - 1) * np.log(r) + (k - 1) * np.log(1 - r**d))

    result = _exponent(r, k)
    assert likelihood(result) > max(likelihood(result * 1.001), likelihood(result / 1.001))


def test_the_concentration_is_the_inverse_of_the_ratio_of_bessel_functions():
    tau = np.asarray([1e-3, 0.3, 1.0, 5.0, 50.0, 400.0])
    np.testing.assert_allclose(_concentration(iv(1, tau) / iv(0, tau)), tau, rtol=1e-8)


@pytest.mark.parametrize("k", [3, 10])
@pytest.mark.parametrize("ratio", [0.5, 0.9, 1.0, 1.7])
def test_the_divergence_of_norms_is_its_alternating_sum(k, ratio):
    """Ceruti et al. (2014); quadrature is good to 1e-5, and much better near ratio 1."""
    i = np.arange(k + 1)
    total = np.sum((-1.0) ** i * comb(k, i) * digamma(1 + i / ratio))
    harmonic = np.sum(1 / np.arange(1, k + 1))
    expected = harmonic * ratio - 1 - harmonic + 1 / k - np.log(ratio) - (k - 1) * total
    np.testing.assert_allclose(_norm_divergence(3.0, 3.0 * ratio, k), expected, atol=1e-5)


@pytest.mark.parametrize(("nu", "tau"), [(1.2, 0.5), (1.5, 8.0)])
def test_the_divergence_of_angles_is_its_integral(nu, tau):
    first, second = vonmises(tau, loc=nu), vonmises(3.0, loc=1.7)
    expected, _ = quad(
        lambda t: first.pdf(t) * (first.logpdf(t) - second.logpdf(t)), nu - np.pi, nu + np.pi
    )
    result = _angle_divergence((nu, tau), (1.7, 3.0))
    np.testing.assert_allclose(result, expected, rtol=1e-9)


@pytest.mark.parametrize("d", [1, 2, 7])
def test_two_balls_share_the_volume_that_points_find(d, rng):
    points, place = ball(20000, d, rng), np.eye(d)[0] * 0.7
    for reach in (0.4, 0.8, 1.5):
        inside = np.linalg.norm(points - place, axis=1) <= reach
        assert abs(mean(inside * 1.0).z(_shared(d, 0.7, reach))) < SURE


def test_no_shared_volume_overflows_in_many_dimensions():
    """There all of a ball is within 1.9 of a point of it, and next to nothing within 0.9."""
    shared = _shared(3000, 0.999, np.linspace(0.9, 1.99, 50))
    assert np.all(np.diff(shared) >= 0)
    np.testing.assert_allclose(shared[[0, -1]], [0, 1], atol=1e-12)


@pytest.mark.parametrize("d", [1, 2, 5, 15])
def test_reference_statistics_are_those_of_balls_filled_with_points(d, rng, monkeypatch):
    """The likeliest d of n values is too large by O(1 / n): 2 / n is allowed.

    Five points on a line have one tau, whichever side they are on.
    """
    n, k = 200, 5
    filled = mean(np.asarray([summary(ball(n, d, rng), k) for _ in range(25)]))
    drawn = []
    for seed in range(4):
        monkeypatch.setattr(rooms, "SEED", seed)
        drawn.append(ball_statistics.__wrapped__(n, k, d))
    known = mean(np.asarray(drawn))
    sure = SURE * np.hypot(filled.stderr, known.stderr)
    allowed = np.asarray([2 * d / n, 1e-9, 1e-9])
    assert np.all(abs(filled.value - known.value) < sure + allowed)


def test_the_farthest_of_a_few_points_is_the_one_after_k(rng, monkeypatch):
    """Balls of 7 points, whose 6 others are all k + 1: there the order of a distance tells most."""
    n, k, d = 7, 5, 3
    points = ball(20000 * n, d, rng).reshape(20, -1, n, 1, d)
    r = np.sort(np.linalg.norm(points - np.swapaxes(points, 2, 3), axis=-1), axis=-1)
    closest = (r[..., 1] / r[..., k + 1]).reshape(20, -1)
    filled = mean(np.asarray([_exponent(values, k) for values in closest]))
    drawn = []
    for seed in range(8):
        monkeypatch.setattr(rooms, "SEED", seed)
        drawn.append(ball_statistics.__wrapped__(n, k, d)[0])
    known = mean(np.asarray(drawn))
    assert abs(filled.value - known.value) < SURE * np.hypot(filled.stderr, known.stderr)


def test_what_is_compared_is_what_is_found_at_k_neighbours(rng):
    points = ball(100, 4, rng)
    expected = _most_similar(summary(points, 6), 100, 6, False)
    np.testing.assert_allclose(danco(points, 6), expected, rtol=1e-12)


@pytest.mark.parametrize("d", [1, 3, 12])
def test_a_ball_has_its_dimension(d, rng):
    """The likeliest d of n values is too large by O(1 / n): 2 / n is allowed."""
    result = mean(np.asarray([danco(ball(300, d, rng)) for _ in range(10)]))
    assert abs(result.value - d) < SURE * result.stderr + 2 * d / 300


def test_drawing_the_reference_anew_moves_the_dimension_less_than_a_tenth_of_new_points(
    rng, monkeypatch
):
    """By 1/75 to 1/35 at d = 3 to 20; a ratio of variances is 16 times too large once in 10^4."""
    n, k, d = 1000, 10, 6
    result = [summary(ball(n, d, rng), k) for _ in range(12)]
    points = np.std([_most_similar(values, n, k, False) for values in result], ddof=1)
    drawn = []
    for seed in range(8):
        monkeypatch.setattr(rooms, "SEED", seed)
        ball_statistics.cache_clear()
        drawn.append(_most_similar(result[0], n, k, False))
    ball_statistics.cache_clear()
    assert 10 * np.std(drawn, ddof=1) < points


@pytest.mark.parametrize("d", [1, 2, 7])
def test_sums_of_chance_have_mean_zero_and_even_numbers_are_even(d, rng):
    uniform = _stratified(rng, (3, 5, 4))
    blocks = np.sort(np.floor(20 * uniform).reshape(3, 20), axis=1)
    np.testing.assert_array_equal(blocks, np.tile(np.arange(20), (3, 1)))
    along = rng.uniform(-1, 1, (20000, 4)) if d > 1 else rng.choice([-1.0, 1.0], (20000, 4))
    for values in _control_variates(d, along, _across(d, along, rng)):
        result = mean(values)
        assert abs(result.value) <= SURE * result.stderr


@pytest.mark.parametrize("n", [100, 5000])
def test_the_likeliest_reference_is_that_of_many_draws_inside_the_ball(n, rng):
    """Of one dimension, whose ball is a stretch: distances by hand, whichever end is near."""
    k, place = 5, rng.uniform(-1, 1, 40000)
    last = 2 * rng.beta(k + 1, n - 1 - k, place.size)  # the length of what is inside

    def distance(length):
        edge = 1 - abs(place)
        return np.where(length / 2 <= edge, length / 2, length - edge)

    closest = distance(last * (1 - rng.uniform(size=last.size) ** (1 / k))) / distance(last)
    blocks = [_exponent(block, k) for block in np.split(closest, 20)]
    known, result = ball_statistics(n, k, 1)[0], mean(np.asarray(blocks))
    assert abs(result.value - known) < SURE * result.stderr + 2 / 2000  # of 2000 values each


@pytest.mark.parametrize(("near", "far"), [(2, 13), (13, 2), (30, 5), (1, 1)])
def test_the_least_about_where_distances_point_is_the_least_of_all(near, far):
    """Though angles be those of another ball."""
    n, k, nodes = 400, 6, np.asarray(_nodes(60))
    every = np.asarray([ball_statistics(n, k, int(d)) for d in nodes])
    result = (ball_statistics(n, k, near)[0], *ball_statistics(n, k, far)[1:])
    curve = CubicSpline(np.log(nodes), np.log(every))
    integers = np.arange(1, nodes[-1])
    expected = integers[np.argmin(_divergence_at(result, curve, k, integers))]
    assert _most_similar(result, n, k, True) == expected
    assert abs(_most_similar(result, n, k, False) - expected) < 1


def test_an_integer_is_the_best_of_all(rng):
    points = ball(300, 4, rng)
    assert danco(points, integer=True) == 4
    assert danco(points) != 4


@pytest.mark.filterwarnings("ignore::sgdnoise.dimension._points.Ties")
def test_bad_questions_are_refused(rng):
    with pytest.raises(ValueError, match="3 or more neighbours, not 2"):
        danco(rng.normal(size=(30, 3)), k=2)
    with pytest.raises(ValueError, match="equally distant"):
        danco(np.eye(20) + 1.0, k=4)


def test_divergences_are_those_of_scikit_dimension(rng):
    """Its divergence of norms leaves a constant out; its likeliest d comes from a minimiser."""
    peer = pytest.importorskip("skdim").id.DANCo(ver="MIND_MLk")
    points = ball(200, 4, rng) @ rng.normal(size=(4, 20))
    result = summary(points, 10)[0]
    np.testing.assert_allclose(result, peer.fit(points).dimension_, rtol=1e-5)
    constant = peer._KLd(4.0, 4.0)
    norms = _norm_divergence(4.0, 6.0, 10)
    np.testing.assert_allclose(norms, peer._KLd(4.0, 6.0) - constant, rtol=1e-6)
    angles = _angle_divergence((1.3, 4.0), (1.5, 6.0))
    np.testing.assert_allclose(angles, peer._KLnutau(1.3, 1.5, 4.0, 6.0), rtol=1e-10)
