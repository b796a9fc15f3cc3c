"""Dimension from neighbours: each law exactly, each formula in a loop, each peer beside it."""

import contextlib
import importlib
import io
import math
from itertools import product

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq, minimize_scalar
from scipy.spatial import KDTree
from scipy.stats import beta, binom, chi2
from witnesses import SURE, torus, tree_distances

from sgdnoise.core import mean
from sgdnoise.core._arrays import namespace
from sgdnoise.dimension import (
    Neighbours,
    abide,
    adaptive_neighbours,
    binomial,
    find_neighbours,
    gride,
    i3d,
    l2n2,
    levina_bickel,
    local_mada,
    local_mom,
    local_tle,
    mada,
    mind_ml,
    mom,
    tle,
    twonn,
)
from sgdnoise.dimension._counts import BEST_FRACTION


def constant_density(d, n, k, rng):
    """n separate points, the k nearest others of each as in a Poisson process without end."""
    volumes = np.cumsum(rng.exponential(size=(n, k)), axis=1)
    return Neighbours(np.zeros((n, 1)), volumes ** (1 / d), np.zeros((n, k), int))


def balls(d, n, k, rng):
    """n separate balls of constant density in d dimensions, the k-th neighbour on the edge."""
    way = rng.normal(size=(n, k, d))
    radius = np.sort(rng.uniform(size=(n, k)) ** (1 / d), axis=1)
    radius /= radius[:, -1:]
    offsets = way / np.linalg.norm(way, axis=2, keepdims=True) * radius[:, :, None]
    points = np.concatenate([np.zeros((n, d)), offsets.reshape(-1, d)])
    return Neighbours(points, radius, n + np.arange(n * k).reshape(n, k))


PEER = pytest.mark.filterwarnings("ignore")  # what others warn of is theirs
RANKS = [(1, 2), (1, 5), (4, 8), (3, 20), (16, 17)]
LAWS = {
    **{
        f"gride {near} {far}": lambda g, a=near, b=far: gride(0, a, b, neighbours=g)
        for near, far in RANKS
    },
    "mind_ml": lambda g: mind_ml(0, 10, neighbours=g),
    "mom": lambda g: mom(0, 20, neighbours=g),
    "mom of 2": lambda g: mom(0, 2, neighbours=g),
    "binomial": lambda g: binomial(0, 20, neighbours=g),
    "binomial at 0.8": lambda g: binomial(0, 20, 0.8, neighbours=g),
}


@pytest.mark.parametrize("d", [1, 2.5, 12])
@pytest.mark.parametrize("estimator", LAWS.values(), ids=LAWS.keys())
def test_constant_density_gives_its_dimension(estimator, d, rng):
    """Bias of order 1 / n alone: of the relative variance, under 2 / n but for a few ratios."""
    n = 2000
    repeats = mean(np.asarray([estimator(constant_density(d, n, 20, rng)) for _ in range(60)]))
    assert abs(repeats.value - d) < SURE * repeats.stderr + 5 / n * d


@pytest.mark.parametrize("k", [4, 5, 20])
def test_mada_is_too_large_by_the_expectation_of_its_doubling(k, rng):
    half = (k + 1) // 2
    law = beta(half, k - half)
    excess = quad(lambda b: -math.log(2) / math.log(b) * law.pdf(b), 0, 1)[0]
    local = local_mada(constant_density(3.0, 200_000, k, rng).distances)
    if k == 20:
        assert abs(mean(local).z(3 * excess)) < SURE
        assert abs(excess - 1.08) < 0.005  # as its docstring says
    fraction = mean((local < 3 * math.log(2) / math.log(2.0)).astype(float))
    assert abs(fraction.z(law.cdf(0.5))) < SURE  # at any k, without a tail


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("k", [2, 3, 12])
def test_tle_is_unbiased_for_the_inverse_dimension_in_a_ball(d, k, rng):
    """Exactly so: a ball shrunk by s towards a point within it keeps s^d of its volume."""
    inverses = mean(1 / local_tle(balls(d, 4000, k, rng)))
    assert abs(inverses.z(1 / d)) < SURE


@pytest.mark.parametrize(
    ("estimator", "bias"),
    [
        (lambda p: gride(p, 2, 4), 0.01),
        (lambda p: mind_ml(p, 5), 0.01),
        (lambda p: mom(p, 10), 0.02),
        (lambda p: mada(p, 20) / 1.0757, 0.03),
        (lambda p: tle(p, 10), 0.06),
        (lambda p: binomial(p, 10), 0.02),
        (lambda p: abide(p, 30), 0.05),
    ],
    ids=["gride", "mind_ml", "mom", "mada", "tle", "binomial", "abide"],
)
def test_a_torus_has_its_dimension(estimator, bias, rng):
    """Chords are shorter than arcs by (r / 2)^2 / 6, r^2 = k / n of the whole: more at larger k."""
    repeats = mean(np.asarray([estimator(torus(2, 500, rng)) for _ in range(20)]))
    assert abs(repeats.value - 2) < SURE * repeats.stderr + bias * 2


def test_votes_and_whole_likelihoods_give_whole_numbers(rng):
    points = torus(2, 400, rng)
    assert mada(points, vote=True) == mind_ml(points, integer=True) == 2


def test_the_regression_of_two_neighbours_has_ranks_over_n_on_its_axis():
    """Plotting positions i / n of the lowest nine tenths of n - 1 ratios, by hand."""
    ratios = np.asarray([1.1, 1.7, 1.3, 2.5, 1.2, 4.0, 1.9, 1.05, 3.0, 1.6])
    distances = np.stack([np.ones(10), ratios], axis=1)
    known = Neighbours(distances, distances, np.zeros(distances.shape, int))
    pairs = [(np.log(r), -np.log(1 - (i + 1) / 10)) for i, r in enumerate(sorted(ratios)[:9])]
    slope = sum(x * y for x, y in pairs) / sum(x * x for x, _ in pairs)
    np.testing.assert_allclose(twonn(None, fit="regression", neighbours=known), slope, rtol=1e-12)


@pytest.mark.parametrize(("near", "far"), [*RANKS, (1, 60), (30, 60)])
def test_gride_is_where_its_likelihood_is_greatest(near, far, rng):
    points = rng.normal(size=(80, 3))
    distances = tree_distances(points, far)
    ratios = distances[:, -1] / distances[:, near - 1]

    def score(d):
        blocks = [
            1 / d + (far - near - 1) * math.log(mu) / (1 - mu**-d) - (far - 1) * math.log(mu)
            for mu in ratios
        ]
        return math.fsum(blocks)

    expected = brentq(score, 0.01, 100, xtol=1e-13, rtol=1e-14)
    np.testing.assert_allclose(gride(points, near, far), expected, rtol=1e-10)


@pytest.mark.parametrize("d", [0.05, 1, 300.0])
@pytest.mark.parametrize(("near", "far"), [(1, 2), (1, 500), (250, 500), (499, 500)])
def test_gride_converges_at_any_dimension_and_ranks(d, near, far, rng):
    """The score at what is found is zero to rounding, beside its terms of order far."""
    known = constant_density(d, 50, far, rng)
    y = gride(0, near, far, neighbours=known) * np.log(
        known.distances[:, far - 1] / known.distances[:, near - 1]
    )
    score = 1 + (far - near - 1) * np.mean(y / -np.expm1(-y)) - (far - 1) * np.mean(y)
    assert abs(score) < 1e-10 * far


def test_gride_of_the_nearest_two_is_twonn_before_its_correction(rng):
    points = rng.normal(size=(50, 4))
    np.testing.assert_allclose(gride(points), twonn(points) * 50 / 49, rtol=1e-12)


def test_gride_of_the_last_two_ranks_is_the_inverse_mean_logarithm(rng):
    """mu^near is then Pareto(d): the logarithm of each ratio is exponential."""
    points = rng.normal(size=(50, 4))
    distances = tree_distances(points, 7)
    expected = 1 / (6 * np.mean(np.log(distances[:, 6] / distances[:, 5])))
    np.testing.assert_allclose(gride(points, 6, 7), expected, rtol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 10])
def test_mind_ml_is_where_the_law_of_the_nearest_is_most_likely(k, rng):
    points = rng.normal(size=(80, 3))
    distances = tree_distances(points, k + 1)
    rho = distances[:, 0] / distances[:, -1]

    def loss(d):
        return -math.fsum(
            math.log(k * d) + (d - 1) * math.log(r) + (k - 1) * math.log(1 - r**d) for r in rho
        )

    best = minimize_scalar(loss, bounds=(0.1, 20), method="bounded", options={"xatol": 1e-9}).x
    np.testing.assert_allclose(mind_ml(points, k), best, rtol=1e-6)  # a flat top: root of eps


@pytest.mark.parametrize("k", [1, 2, 10])
def test_whole_mind_ml_is_the_likeliest_of_all_whole_numbers(k, rng):
    """In small clouds, the maximum of many of which lies near the middle of two."""
    for _ in range(40):
        points = rng.normal(size=(20, 3))
        distances = tree_distances(points, k + 1)
        rho = distances[:, 0] / distances[:, -1]
        chances = [
            np.sum(np.log(k * d * rho ** (d - 1) * (1 - rho**d) ** (k - 1))) for d in range(1, 20)
        ]
        assert mind_ml(points, k, integer=True) == 1 + np.argmax(chances)


@pytest.mark.parametrize("k", [2, 3, 20])
def test_mom_solves_the_mean_of_its_moments(k, rng):
    points = rng.normal(size=(80, 3))
    rows = tree_distances(points, k)
    moments = [sum(row[j] / row[-1] for j in range(k - 1)) / (k - 1) for row in rows]
    expected = sum(moments) / (len(moments) - sum(moments))  # m / (1 - m)
    np.testing.assert_allclose(mom(points, k), expected, rtol=1e-12)
    local = local_mom(find_neighbours(points, k).distances)
    np.testing.assert_allclose(local, [m / (1 - m) for m in moments], rtol=1e-10)


@pytest.mark.parametrize("k", [4, 5, 20])
def test_mada_compares_the_farthest_with_the_middle_neighbour(k, rng):
    points = rng.normal(size=(80, 3))
    local = [
        math.log(2) / math.log(r[-1] / r[math.ceil(k / 2) - 1]) for r in tree_distances(points, k)
    ]
    np.testing.assert_allclose(mada(points, k), np.mean(local), rtol=1e-12)
    votes = [round(x) for x in local]
    assert mada(points, k, vote=True) == max(sorted(set(votes)), key=votes.count)


def shrinkage(centre, towards, other, radius):
    """The s at which a ball, shrunk towards a point, has another on its edge: by bisection."""

    def outside(s):
        center = towards + s * (centre - towards)
        return np.linalg.norm(other - center) - s * radius

    return brentq(outside, 0, 1, xtol=1e-15, rtol=1e-14)


@pytest.mark.parametrize("k", [2, 5])
def test_tle_is_a_mean_over_balls_shrunk_until_a_neighbour_is_on_their_edge(k, rng):
    points = rng.normal(size=(30, 3))
    distances, index = (a[:, 1:] for a in KDTree(points).query(points, k=k + 1))
    expected = []
    for x, r, owner in zip(points, distances, index, strict=True):
        result = [r[j] / r[-1] for j in range(k - 1)] * 2
        for i in range(k):
            for j in range(k - 1):
                if i != j:
                    near, second = points[owner[i]], points[owner[j]]
                    result.append(shrinkage(x, near, second, r[-1]))
                    result.append(shrinkage(x, 2 * x - near, second, r[-1]))
        assert len(result) == 2 * k * (k - 1)
        expected.append(-np.mean(np.log(result)))
    np.testing.assert_allclose(1 / local_tle(find_neighbours(points, k)), expected, rtol=1e-9)
    np.testing.assert_allclose(tle(points, k), 1 / np.mean(expected), rtol=1e-9)


def test_tle_in_blocks_is_tle_at_once(rng, monkeypatch):
    points = rng.normal(size=(60, 3))
    expected = tle(points)
    monkeypatch.setattr("sgdnoise.dimension._ball_radii.BLOCK", 20 * 163 * 7)
    np.testing.assert_allclose(tle(points), expected, rtol=1e-13)


@pytest.mark.filterwarnings("ignore::sgdnoise.dimension._points.Ties")
def test_tle_leaves_out_mirror_images():
    """On a line of whole numbers neighbours come in mirror images, whose logarithm has no end."""
    line = np.arange(-50.0, 51.0)[:, None]
    assert 0.5 < local_tle(find_neighbours(line, 9))[50] < 2


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.9])
def test_binomial_is_the_share_within_the_smaller_radius(ratio, rng):
    points = rng.normal(size=(80, 3))
    k = 12
    inside = sum(sum(r < ratio * row[-1] for r in row) for row in tree_distances(points, k))
    expected = math.log(inside / (80 * (k - 1))) / math.log(ratio)
    np.testing.assert_allclose(binomial(points, k, ratio), expected, rtol=1e-12)


def test_binomial_takes_the_ratio_of_least_variance_unless_told(rng):
    points = rng.normal(size=(80, 3))
    ratio = BEST_FRACTION ** (1 / levina_bickel(points, 12))
    np.testing.assert_allclose(binomial(points, 12), binomial(points, 12, ratio), rtol=1e-12)
    variance = minimize_scalar(
        lambda p: (1 - p) / p / math.log(p) ** 2, bounds=(0.01, 0.99), method="bounded"
    )
    assert abs(variance.x - BEST_FRACTION) < 1e-5


def test_binomial_spreads_as_its_law(rng):
    """d = log(n / m) / log r with n of law Binomial(m, r^d), exactly."""
    d, k, n = 2.0, 6, 40
    result = [binomial(0, k, 0.5, neighbours=constant_density(d, n, k, rng)) for _ in range(1000)]
    count = np.arange(1, n * (k - 1) + 1)
    weights = binom(n * (k - 1), 0.5**d).pmf(count)
    expected = np.sum(weights * np.log(count / (n * (k - 1))) / np.log(0.5))
    assert abs(mean(np.asarray(result)).z(expected)) < SURE


def test_binomial_is_infinite_where_the_ratio_sees_nothing(rng):
    assert binomial(rng.normal(size=(40, 3)), 5, 1e-6) == math.inf


def adaptive_by_loop(points, d, known, alpha):
    """Rodriguez et al.'s test, one point and one rank at a time."""
    distances, index = (a[:, 1:] for a in KDTree(points).query(points, k=known + 1))
    result = []
    for i in range(len(points)):
        for k in range(3, known):
            next_one = index[i, k]  # rank k + 1
            v, w = distances[i, k - 1] ** d, distances[next_one, k - 1] ** d
            apart = k * math.log(k / v) + k * math.log(k / w)
            together = 2 * k * math.log(2 * k / (v + w))
            if 2 * (apart - together) > chi2.isf(alpha, 1):
                break
        else:
            k = known
        result.append(k)
    return result


@pytest.mark.parametrize("alpha", [1e-6, 0.05])
def test_neighbours_adapt_as_a_loop_over_likelihood_ratios(alpha, rng):
    points = rng.normal(size=(200, 2)) ** 3  # a density that varies much
    result = adaptive_neighbours(find_neighbours(points, 50), 2.0, alpha)
    expected = adaptive_by_loop(points, 2.0, 50, alpha)
    assert min(expected) < 20 < max(expected)
    np.testing.assert_array_equal(result, expected)


def test_abide_is_a_loop_over_adaptive_neighbourhoods(rng):
    points = rng.normal(size=(200, 2)) ** 3
    distances = tree_distances(points, 50)
    d = twonn(points)
    for _ in range(3):
        ratio, inside, outside = BEST_FRACTION ** (1 / d), 0, 0
        for row, k in zip(distances, adaptive_by_loop(points, d, 50, 0.01), strict=True):
            inside += sum(r < ratio * row[k - 1] for r in row)
            outside += k - 1
        d = math.log(inside / outside) / math.log(ratio)
    np.testing.assert_allclose(abide(points, 50, 0.01, 3), d, rtol=1e-10)


def test_abide_takes_all_others_where_they_are_few(rng):
    points = rng.normal(size=(40, 2))
    np.testing.assert_allclose(abide(points), abide(points, 39), rtol=0)


@pytest.mark.parametrize(("d", "side"), [(1, 1500), (2, 50)])
@pytest.mark.parametrize(("inner", "outer"), [(0, 2), (1, 3)])
def test_a_lattice_has_its_dimension(d, side, inner, outer, rng):
    """Points meet on their sites.  The outer radius misses more beyond the edges, which a share
    2 d outer / side of points is near to and half of whose balls are lost: under d outer / side.
    """
    draws = [rng.integers(0, side, size=(1500, d)) for _ in range(8)]
    repeats = mean(np.asarray([i3d(points, inner, outer) for points in draws]))
    assert abs(repeats.value - d) < SURE * repeats.stderr + d * outer / side


def i3d_by_tree(points, inner, outer):
    """I3D from the counts of a tree, volumes from their sum, the root by bisection."""
    counts = [KDTree(points).count_neighbors(KDTree(points), t, p=1) for t in (inner, outer)]

    def volume(t, d):
        terms, choose = [1.0], 1.0
        for j in range(1, t + 1):
            choose *= (d - j + 1) / j
            terms.append(2**j * math.comb(t, j) * choose)
        return math.fsum(terms)

    ratio = (counts[0] - len(points)) / (counts[1] - len(points))
    return brentq(lambda d: volume(inner, d) / volume(outer, d) - ratio, 1e-6, 60, rtol=1e-14)


@pytest.mark.parametrize(("inner", "outer"), [(0, 2), (1, 3), (4, 8), (3, 4)])
def test_i3d_is_its_formula_on_the_counts_of_a_tree(inner, outer, rng):
    points = rng.integers(0, 12, size=(300, 3))
    expected = i3d_by_tree(points, inner, outer)
    np.testing.assert_allclose(i3d(points, inner, outer), expected, rtol=1e-9)


def test_i3d_in_blocks_is_i3d_at_once(rng, monkeypatch):
    points = rng.integers(0, 8, size=(150, 3))
    expected = i3d(points, 1, 3)
    monkeypatch.setattr("sgdnoise.dimension._counts.TILE", 32 * 150 * 7)
    np.testing.assert_allclose(i3d(points, 1, 3), expected, rtol=0)


def test_i3d_is_zero_where_every_other_is_as_near_as_can_be():
    assert i3d(np.zeros((5, 2), int), 1, 2) < 1e-12


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_i3d_takes_whole_numbers_of_any_type(kind, rng):
    points = rng.integers(0, 200, size=(60, 2))
    np.testing.assert_allclose(i3d(points.astype(kind), 20, 60), i3d(points, 20, 60), rtol=1e-6)


OPTIONS = {
    "gride": lambda g: gride(g.points, 2, 6, neighbours=g),
    "mind_ml": lambda g: mind_ml(g.points, 5, integer=True, neighbours=g),
    "mada": lambda g: mada(g.points, vote=True, neighbours=g),
    "tle": lambda g: tle(g.points, 20, neighbours=g),
    "binomial": lambda g: binomial(g.points, 20, 0.5, neighbours=g),
    "abide": lambda g: abide(g.points, 20, 0.05, 2, neighbours=g),
    "i3d": lambda g: i3d(namespace(g.points).round(4 * g.points), 6, 12),
}
PAIRS = [*product(OPTIONS, ["torch", "array_api_strict"]), ("i3d", "jax.numpy")]


@pytest.mark.usefixtures("quick_to_compile")
@pytest.mark.parametrize(("name", "library"), PAIRS)
def test_options_give_the_same_number_in_every_library(name, library):
    estimator = OPTIONS[name]
    known = find_neighbours(np.random.default_rng(0).normal(size=(60, 4)), 20)
    asarray = importlib.import_module(library).asarray
    result = estimator(Neighbours(*map(asarray, known)))
    assert type(result) is type(asarray(0.0))
    np.testing.assert_allclose(float(result), estimator(known), rtol=1e-10)


@pytest.mark.parametrize(
    "ask",
    [
        lambda p: gride(p, 0, 2),
        lambda p: gride(p, 3, 3),
        lambda p: mind_ml(p, 0),
        lambda p: mom(p, 1),
        lambda p: mada(p, 3),
        lambda p: tle(p, 1),
        lambda p: binomial(p, 1),
        lambda p: binomial(p, 5, 0.0),
        lambda p: binomial(p, 5, 1.0),
        lambda p: abide(p, alpha=0.0),
        lambda p: abide(p, 3),
        lambda p: abide(p[:4, :]),
        lambda p: i3d(p, 1, 3),
        lambda p: i3d(np.round(p), 3, 3),
        lambda p: i3d(np.round(p), -1, 3),
        lambda p: i3d(np.arange(20)[:, None] * 10, 5, 20),
        lambda p: gride(p, 20, 40),
    ],
)
def test_bad_options_are_refused_in_one_sentence(ask, rng):
    with pytest.raises(ValueError, match=r"^[^.]+[^.]$|\d\.\d") as caught:
        ask(rng.normal(size=(40, 3)))
    assert 20 < len(str(caught.value)) < 200


@PEER
def test_scikit_dimension_gives_the_same_at_each_point(rng):
    """It counts the k-th neighbour, which carries nothing, and averages the dimensions."""
    skdim, k = pytest.importorskip("skdim"), 20
    points = rng.normal(size=(150, 4))
    near = find_neighbours(points, k)
    total = {
        name: getattr(skdim.id, name)().fit(points, n_neighbors=k).dimension_pw_
        for name in ("TLE", "MOM", "MADA")
    }
    np.testing.assert_allclose(local_tle(near) * k / (k - 1), total["TLE"], rtol=1e-9)
    d = local_mom(near.distances)
    np.testing.assert_allclose(d + (d + 1) / (k - 1), total["MOM"], rtol=1e-9)
    np.testing.assert_allclose(local_mada(near.distances), total["MADA"], rtol=1e-9)


@PEER
def test_scikit_dimension_finds_the_same_nearest_of_k(rng):
    """Up to where its search stops, and below its bound D."""
    skdim, points = pytest.importorskip("skdim"), rng.normal(size=(150, 4))
    for k in (2, 10):
        theirs = skdim.id.MiND_ML(k=k, D=30).fit(points).dimension_
        np.testing.assert_allclose(mind_ml(points, k), theirs, rtol=1e-4)
        theirs = skdim.id.MiND_ML(k=k, D=30, ver="MLi").fit(points).dimension_
        assert mind_ml(points, k, integer=True) == theirs


def dadapy_data(points, most):
    dadapy = pytest.importorskip("dadapy")
    data = dadapy.Data(coordinates=points, maxk=most, verbose=False, n_jobs=1)
    data.compute_distances()
    return data


@PEER
def test_dadapy_finds_the_same_from_two_ranks(rng):
    """Its likelihood has n - 1 for n, and leaves out ratios far beyond the 95th percentile."""
    points = torus(2, 300, rng)
    result = dadapy_data(points, 40).return_id_scaling_gride(range_max=32)[0]
    ours = [gride(points, near, 2 * near) for near in (1, 2, 4, 8, 16)]
    np.testing.assert_allclose(result, ours, rtol=1.1 / 300)


@PEER
def test_dadapy_counts_and_adapts_the_same(rng, monkeypatch):
    """Of its maxk neighbours it leaves out the last, and rounds the best share to four figures."""
    monkeypatch.setattr("sgdnoise.dimension._counts.BEST_FRACTION", 0.2032)
    points = rng.normal(size=(300, 2)) ** 3
    data, near = dadapy_data(points, 51), find_neighbours(points, 50)
    data.set_id(2.0)
    data.compute_kstar(alpha=1e-4)
    np.testing.assert_array_equal(adaptive_neighbours(near, 2.0, 1e-4), data.kstar)
    with contextlib.redirect_stdout(io.StringIO()):
        first = data.compute_id_binomial_k(20, 0.5, bayes=False)[0]
        values = data.return_ids_kstar_binomial(initial_id=float(twonn(points)), alpha=1e-4)[0]
    np.testing.assert_allclose(binomial(points, 20, 0.5), first, rtol=1e-12)
    np.testing.assert_allclose(abide(points, 50, 1e-4), values[-1], rtol=1e-12)


@PEER
@pytest.mark.parametrize(("inner", "outer"), [(0, 2), (1, 3), (5, 10)])
def test_dadapy_finds_the_same_on_a_lattice(inner, outer, rng):
    """To where its minimiser stops."""
    dadapy, points = pytest.importorskip("dadapy"), rng.integers(0, 15, size=(300, 2))
    data = dadapy.IdDiscrete(coordinates=points, maxk=299, verbose=False, condensed=False)
    data.compute_distances(metric="manhattan")
    data.compute_id_binomial_lk(outer, inner, method="mle", plot=False)
    np.testing.assert_allclose(i3d(points, inner, outer), data.intrinsic_dim, rtol=1e-5)


@pytest.mark.parametrize("grain", [0.02, 0.1])
def test_rounded_ratios_have_the_dimension_of_those_that_are_not(grain, rng):
    """log(r2 / r1) counted in grains of its mean, the lowest being ties, 2% and 10% of all.

    The middle of a grain is that of its mass to order grain / 10, which is allowed for.
    """
    d, n = 5, 20_000
    logarithms = rng.exponential(size=(20, n)) / d
    step = grain / d
    cells = np.floor(logarithms / step)
    rounded = np.where(cells > 0, (cells + 0.5) * step, 0)
    near = [np.stack([np.ones(n), np.exp(row)], axis=1) for row in rounded]
    result = mean(np.asarray([l2n2(0, neighbours=Neighbours(x, x, x > 0)) for x in near]))
    assert abs(result.value - d) < SURE * result.stderr + 0.1 * grain * d
    left_out = mean(np.asarray([without_ties(x) for x in near]))
    assert left_out.value < d * (1 - 2 * grain)


def without_ties(distances):
    """The dimension where ties are not counted at all."""
    logarithms = np.log(distances[:, 1])
    return np.exp(-np.euler_gamma - np.log(logarithms[logarithms > 0]).mean())


@pytest.mark.parametrize(
    ("estimator", "named"),
    [
        (twonn, "1 and 2"),
        (l2n2, "1 and 2"),
        (levina_bickel, "1 and 10"),
        (gride, "1 and 2"),
        (mind_ml, "1 and 11"),
    ],
)
def test_where_all_neighbours_are_equally_far_there_is_no_dimension(estimator, named):
    same = Neighbours(np.zeros((7, 1)), np.ones((7, 11)), np.zeros((7, 11), int))
    with pytest.raises(ValueError, match=rf"^neighbours {named} of each of 7 points are equally"):
        estimator(0, neighbours=same)
