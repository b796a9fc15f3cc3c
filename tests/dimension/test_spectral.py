"""Linear dimension: unbiased over every possible sample, and counts of components against truth."""

from itertools import permutations, product

import array_api_strict
import jax
import numpy as np
import pytest
import torch
from witnesses import SURE, torus

from sgdnoise.core import mean
from sgdnoise.dimension import effective_rank, local_pca, participation_ratio, pca, stable_rank
from sgdnoise.dimension._spectral import trace_moments

# the only law these rows follow: three states alike, skew and of unequal columns
STATES = np.asarray([[0.0, 2.0], [1.0, -1.0], [4.0, 0.5]])
SMALL = (60, 4)
SIGNS = np.asarray([[1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])  # three uncorrelated
SIGNAL = {"all": [100, 100], "sampled": [9, 9]}  # of one sign s as (s, 3 s): trace 10, product 3


def every_sample(states, n):
    """All samples of n independent draws of a few equally likely states."""
    return [states[list(places)] for places in product(range(len(states)), repeat=n)]


def truth(covariance):
    return [np.trace(covariance) ** 2, np.sum(covariance**2)]


@pytest.mark.parametrize("n", [4, 5])
def test_trace_moments_average_to_the_truth_over_all_samples_of_a_law(n):
    result = [trace_moments(sample) for sample in every_sample(STATES, n)]
    expected = truth(np.cov(STATES.T, bias=True))
    np.testing.assert_allclose(np.mean(result, axis=0), expected, rtol=1e-12)


def test_sampled_columns_average_to_the_truth_over_all_samples_of_rows_and_columns():
    """A population of 2 rows by 3 columns, each drawn again and again at random."""
    population = np.asarray([[1.0, -2.0, 3.0], [0.0, 5.0, 1.0]])
    rows, columns = product(range(2), repeat=4), list(product(range(3), repeat=3))
    samples = [population[np.ix_(r, c)] for r in rows for c in columns]
    result = [trace_moments(sample, columns="sampled") for sample in samples]
    covariance = np.cov(population.T, bias=True)
    expected = [np.mean(np.diag(covariance)) ** 2, np.mean(covariance**2)]
    np.testing.assert_allclose(np.mean(result, axis=0), expected, rtol=1e-12)


@pytest.mark.parametrize("columns", ["all", "sampled"])
def test_noise_of_known_variance_is_subtracted_without_bias(columns):
    """Four states in which signal and the noise of either coordinate are uncorrelated."""
    signal, first, two = SIGNS
    noisy = np.stack([signal + 0.5 * first, 3 * signal + 0.5 * two], axis=1)
    result = [trace_moments(s, noise=0.25, columns=columns) for s in every_sample(noisy, 4)]
    np.testing.assert_allclose(np.mean(result, axis=0), SIGNAL[columns], rtol=1e-11)


@pytest.mark.parametrize("columns", ["all", "sampled"])
def test_noise_that_differs_between_trials_averages_out(columns):
    """Noise larger than the signal, correlated between coordinates, and unlike in the trials."""
    signal, single, two = SIGNS
    first = np.stack([signal + 9 * single, 3 * signal - 4 * single], axis=1)
    second = np.stack([signal + two, 3 * signal + 5 * two], axis=1)
    samples = zip(every_sample(first, 4), every_sample(second, 4), strict=True)
    result = [trace_moments(x, y, columns=columns) for x, y in samples]
    np.testing.assert_allclose(np.mean(result, axis=0), SIGNAL[columns], rtol=1e-10)


@pytest.mark.parametrize("width", [3, 9])
def test_trace_moments_are_their_averages_over_distinct_rows(width, rng):
    x = rng.normal(size=(6, width))
    square, covariance = [], []
    for i, j, k, m in permutations(range(6), 4):
        first, two = x[i] - x[j], x[k] - x[m]
        square.append((first @ first) * (two @ two) / 4)
        covariance.append((first @ two) ** 2 / 4)
    np.testing.assert_allclose(trace_moments(x), [np.mean(square), np.mean(covariance)], rtol=1e-11)


@pytest.mark.parametrize("width", [3, 9])
def test_a_repeat_is_its_averages_over_distinct_rows_and_columns(width, rng):
    x, y = rng.normal(size=(2, 5, width)) + 3
    square, covariance = [], []
    for i, j, k, m in permutations(range(5), 4):
        for a, b in permutations(range(width), 2):
            dx, dy, ex, ey = x[i] - x[j], y[i] - y[j], x[k] - x[m], y[k] - y[m]
            square.append(dx[a] * dy[a] * ex[b] * ey[b] / 4)
            covariance.append(dx[a] * ex[a] * dy[b] * ey[b] / 4)
    result = trace_moments(x, y, columns="sampled")
    np.testing.assert_allclose(result, [np.mean(square), np.mean(covariance)], rtol=1e-10)


def test_gaussian_moments_are_right_for_normal_rows_of_unequal_variances(rng):
    scales = np.asarray([3.0, 2.0, 1.0, 0.5])
    result = [
        trace_moments(rng.normal(size=(6, 4)) * scales, method="gaussian") for _ in range(9999)
    ]
    repeats = mean(np.asarray(result))
    assert np.all(abs(repeats.z(np.asarray(truth(np.diag(scales**2))))) < SURE)


def test_gaussian_moments_solve_their_two_equations(rng):
    points = rng.normal(size=(9, 4))
    sample, m = np.cov(points.T), 8
    a, b = trace_moments(points, method="gaussian")
    np.testing.assert_allclose(a + 2 * b / m, np.trace(sample) ** 2, rtol=1e-12)
    np.testing.assert_allclose(a / m + (1 + 1 / m) * b, np.sum(sample**2), rtol=1e-12)


@pytest.mark.parametrize("columns", ["all", "sampled"])
@pytest.mark.parametrize("method", ["naive", "gaussian", "unbiased"])
def test_the_ratio_is_that_of_the_moments(method, columns, rng):
    points = rng.normal(size=(30, 5)) * [5, 3, 1, 1, 1] @ np.linalg.qr(rng.normal(size=(5, 5)))[0]
    a, b = trace_moments(points, method=method, columns=columns, noise=0.1)
    result = participation_ratio(points, method=method, columns=columns, noise=0.1)
    np.testing.assert_allclose(result, a / b, rtol=1e-11)


def test_sampled_rows_and_columns_of_a_large_matrix_have_its_participation_ratio(rng):
    """A factor model of rank 5 in 1000 columns: 40 rows and 30 columns of it say 5.

    The ratio of two unbiased numbers keeps a bias of their next order, 1 / n + 1 / D at most, where
    the naive one falls short by more than five times that.
    """
    loadings = rng.normal(size=(5, 1000))
    weights = np.linalg.eigvalsh(loadings @ loadings.T / 1000)
    expected = weights.sum() ** 2 / (weights**2).sum()
    result = []
    for _ in range(300):
        points = rng.normal(size=(40, 5)) @ loadings[:, rng.integers(0, 1000, 30)]
        result.append(trace_moments(points, columns="sampled"))
    numerator, denominator = np.asarray(result).T
    ratio = numerator.mean() / denominator.mean()
    linear = mean(numerator - ratio * denominator).stderr / denominator.mean()
    assert abs(ratio - expected) < SURE * linear
    assert participation_ratio(points) < expected - 0.5


def test_estimates_that_are_not_positive_give_no_ratio(rng):
    """Products over distinct columns of white noise have mean zero and either sign."""
    clouds, options = rng.normal(size=(30, 5, 4)), {"method": "unbiased", "columns": "sampled"}
    positive = np.asarray([trace_moments(cloud, **options)[1] > 0 for cloud in clouds])
    ratios = np.asarray([participation_ratio(cloud, **options) for cloud in clouds])
    np.testing.assert_array_equal(np.isfinite(ratios), positive)
    assert 0 < positive.sum() < 30


@pytest.mark.parametrize(("of", "power"), [("singular values", 1), ("variances", 2)])
@pytest.mark.parametrize("shape", [(30, 5), (5, 30)])
def test_the_effective_rank_is_the_exponential_of_an_entropy(of, power, shape, rng):
    points = rng.normal(size=shape)
    values = np.linalg.svd(points - points.mean(0), compute_uv=False) ** power
    p = [v / values.sum() for v in values if v > 1e-12]
    expected = np.exp(-sum(x * np.log(x) for x in p))
    np.testing.assert_allclose(effective_rank(points, of=of), expected, rtol=1e-10)


def test_the_stable_rank_is_all_variance_over_the_largest(rng):
    points = rng.normal(size=(30, 5)) * [3, 1, 1, 1, 1] + 10
    h = np.linalg.eigvalsh(np.cov(points.T))
    np.testing.assert_allclose(stable_rank(points), h.sum() / h.max(), rtol=1e-11)


@pytest.mark.parametrize("rank", [effective_rank, stable_rank, pca])
def test_a_cross_of_three_equal_axes_has_rank_three(rank):
    cross = np.pad(np.concatenate([np.eye(3), -np.eye(3)]), [(0, 0), (0, 4)])
    np.testing.assert_allclose(rank(cross), 3, rtol=1e-12)


@pytest.mark.parametrize(("level", "count"), [(0.5, 1), (0.65, 2), (0.81, 3), (0.9, 3), (0.95, 4)])
def test_components_are_counted_until_their_share_is_met(level, count):
    """Variances 6, 2, 1, 1 of 10: shares 0.6, 0.8, 0.9, 1, and 0.9 is met exactly."""
    axes = np.diag(np.sqrt([6.0, 2.0, 1.0, 1.0]))
    assert pca(np.concatenate([axes, -axes]), level=level) == count


@pytest.mark.parametrize("shape", [(120, 40), (60, 90)])
def test_spikes_above_the_edge_are_counted_and_noise_alone_hardly_ever(shape, rng):
    """Noise is exceeded once in 20, up to corrections of finite size: less than 1 in 10."""
    n, width = shape
    axes = np.linalg.qr(rng.normal(size=(width, 3)))[0].T
    alone = [pca(rng.normal(size=shape), level="marchenko-pastur") for _ in range(200)]
    rate = mean((np.asarray(alone) > 0).astype(float))
    assert rate.value < 0.1 + SURE * (0.1 * 0.9 / 200) ** 0.5
    assert rate.value > 0.05 - SURE * (0.05 * 0.95 / 200) ** 0.5
    for _ in range(10):
        signal = 6 * rng.normal(size=(n, 3)) @ axes
        result = pca(signal + rng.normal(size=shape), level="marchenko-pastur")
        assert 3 <= result <= 4


def test_the_noise_of_the_edge_needs_no_scale_and_no_unused_axes(rng):
    points = rng.normal(size=(100, 20)) + 5 * rng.normal(size=(100, 2)) @ rng.normal(size=(2, 20))
    result = pca(points, level="marchenko-pastur")
    wider = np.pad(7e-3 * points, [(0, 0), (0, 30)])
    assert pca(wider, level="marchenko-pastur") == result == 2


def test_parallel_analysis_counts_factors_and_finds_one_in_noise_once_in_20(rng):
    alone = [pca(rng.normal(size=(40, 6)), level="parallel", rng=rng) for _ in range(150)]
    rate = np.mean(np.asarray(alone) > 0)
    assert abs(rate - 0.05) < SURE * (0.05 * 0.95 / 150) ** 0.5
    factors = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 12))
    assert pca(3 * factors + rng.normal(size=(300, 12)), level="parallel", rng=rng) == 2


def local_by_hand(points, k, rule):
    """Each point's dimension, from its distances sorted and numpy's own covariance."""
    result = []
    for x in points:
        order = np.argsort(np.linalg.norm(points - x, axis=1))
        radius = np.linalg.norm(points[order[k]] - x)
        h = np.linalg.eigvalsh(np.cov(points[order[1:k]].T))[::-1] / radius**2
        result.append(rule(h[: k - 2], k - 2))
    return np.mean(result)


def curved(h, m):  # noqa: ARG001
    cost = []
    for d in range(1, len(h) + 1):
        stationary = sum(h[d:])
        lifted = h[:d] + (3 * d + 4) / (d * (d + 4)) * stationary
        cost.append(np.linalg.norm(lifted - 1 / (d + 2)) + 2 * stationary)
    return 1 + np.argmin(cost)


def debiased_ratio(h, m):
    a, b = np.linalg.solve([[1, 2 / m], [1 / m, 1 + 1 / m]], [sum(h) ** 2, sum(h**2)])
    return a / b


@pytest.mark.parametrize(("k", "width"), [(8, 3), (8, 12), (5, 5)])
@pytest.mark.parametrize(
    ("rule", "witness"),
    [
        ("curvature", curved),
        ("threshold", lambda h, m: np.sum(h > h[0] / 20)),
        ("participation", debiased_ratio),
    ],
)
def test_local_pca_is_its_formula_at_each_point(rule, witness, k, width, rng):
    points = rng.normal(size=(50, width)) * np.linspace(1, 0.1, width)
    expected = local_by_hand(points, k, witness)
    np.testing.assert_allclose(local_pca(points, k, rule=rule), expected, rtol=1e-10)


def test_blocks_of_neighbourhoods_change_nothing(rng, monkeypatch):
    points = rng.normal(size=SMALL)
    total = local_pca(points, 8), participation_ratio(points, method="unbiased")
    for module in ("_pca", "_spectral"):
        monkeypatch.setattr(f"sgdnoise.dimension.{module}.TILE", 1000 if module == "_pca" else 8)
    blocks = local_pca(points, 8), participation_ratio(points, method="unbiased")
    np.testing.assert_allclose(blocks, total, rtol=1e-12)


@pytest.mark.parametrize("d", [1, 2])
def test_a_torus_has_its_dimension_by_local_pca(d, rng):
    """A neighbourhood of 20 of 800 may miss an axis: within 2% by measure."""
    repeats = mean(np.asarray([local_pca(torus(d, 800, rng)) for _ in range(5)]))
    assert abs(repeats.value - d) < SURE * repeats.stderr + 0.02 * d


def test_a_sphere_has_its_dimension_though_the_threshold_says_more(rng):
    """Neighbourhoods of 50 of 500 reach over much of it, and each point takes an integer."""
    points = rng.normal(size=(500, 6))
    points /= np.linalg.norm(points, axis=1)[:, None]
    assert abs(local_pca(points, 50) - 5) < 0.05
    assert local_pca(points, 50, rule="threshold") > 5.5


LIBRARY_FORMS = {
    "gaussian": lambda x: participation_ratio(x, method="gaussian"),
    "unbiased": lambda x: participation_ratio(x, method="unbiased", columns="sampled", noise=0.01),
    "repeat": lambda x: participation_ratio(x, x + x[:1, :] * x, method="unbiased"),
    "effective": effective_rank,
    "stable": stable_rank,
    "share": pca,
    "edge": lambda x: pca(x, level="marchenko-pastur"),
    "local": lambda x: local_pca(x, 8),
    "local participation": lambda x: local_pca(x, 8, rule="participation"),
}


@pytest.mark.parametrize("name", LIBRARY_FORMS)
@pytest.mark.parametrize("asarray", [array_api_strict.asarray, torch.asarray])
def test_every_library_agrees(name, asarray, rng):
    points = rng.normal(size=SMALL) * [4, 2, 1, 0.5]
    expected = LIBRARY_FORMS[name](points)
    result = LIBRARY_FORMS[name](asarray(points))
    np.testing.assert_allclose(float(result), expected, rtol=1e-10)


@pytest.mark.parametrize("name", ["repeat", "effective", "share", "local"])
def test_jax_compiles_them_to_the_same(name, rng):
    points = rng.normal(size=SMALL) * [4, 2, 1, 0.5]
    result = jax.jit(LIBRARY_FORMS[name])(points)
    np.testing.assert_allclose(result, LIBRARY_FORMS[name](points), rtol=1e-10)


X = np.random.default_rng(0).normal(size=SMALL)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: participation_ratio(X, method="best"), "'best'"),
        (lambda: participation_ratio(X, columns="some"), "'some'"),
        (lambda: participation_ratio(X, noise=-0.5), "-0.5"),
        (lambda: participation_ratio(X[:3], method="unbiased"), "4"),
        (lambda: participation_ratio(X[:2], method="gaussian"), "3"),
        (lambda: participation_ratio(X[:, :1], columns="sampled"), "1"),
        (lambda: participation_ratio(X, X[:9]), "9"),
        (lambda: participation_ratio(X, X, noise=0.5), "0.5"),
        (lambda: participation_ratio(X, X, method="gaussian"), "gaussian"),
        (lambda: effective_rank(X, of="rows"), "'rows'"),
        (lambda: pca(X, level=1.5), "1.5"),
        (lambda: pca(X, level="elbow"), "'elbow'"),
        (lambda: pca(X, level="parallel"), "None"),
        (lambda: local_pca(X, 3), "3"),
        (lambda: local_pca(X, rule="gap"), "'gap'"),
        (lambda: local_pca(X, 60), "61"),
    ],
)
def test_bad_options_get_one_sentence(wrong, said):
    with pytest.raises(ValueError, match=said) as caught:
        wrong()
    assert ". " not in str(caught.value)
    assert 20 <= len(str(caught.value)) <= 200
