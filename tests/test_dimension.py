"""Dimension estimators: their truths, their symmetries, their array libraries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from witnesses import SURE, torus, tree_distances

from sgdnoise.dimension import levina_bickel, participation_ratio, twonn
from sgdnoise.dimension.ratios import pareto_exponent
from sgdnoise.estimate import mean

NEIGHBOURS = [twonn, levina_bickel]
ESTIMATORS = [*NEIGHBOURS, participation_ratio]
SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("exponent", [1.0, 3.0, 20.0])
def test_a_pareto_sample_gives_its_exponent(exponent, rng):
    repeats = [pareto_exponent(1 + rng.pareto(exponent, 20)) for _ in range(2000)]
    assert mean(np.asarray(repeats)).distance(exponent) < SURE


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("estimator", NEIGHBOURS)
def test_a_torus_has_its_dimension(estimator, d, rng):
    """Curvature biases by O((1/n)^(2/d)), under 1% here: hence the allowance."""
    repeats = mean(np.asarray([estimator(torus(d, 500, rng)) for _ in range(100)]))
    assert abs(repeats.value - d) < SURE * repeats.stderr + 0.01 * d


def test_twonn_is_its_formula_on_the_distances_of_a_tree(rng):
    points = rng.normal(size=(80, 3))
    near, far = tree_distances(points, 2).T
    np.testing.assert_allclose(twonn(points), 79 / np.log(far / near).sum(), rtol=1e-12)


@pytest.mark.parametrize("k", [2, 3, 10])
def test_levina_bickel_is_its_formula_on_the_distances_of_a_tree(k, rng):
    points = rng.normal(size=(80, 3))
    r = tree_distances(points, k)
    inverses = [np.mean([np.log(row[-1] / row[j]) for j in range(k - 1)]) for row in r]
    np.testing.assert_allclose(levina_bickel(points, k), 1 / np.mean(inverses), rtol=1e-12)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_a_cross_of_d_equal_axes_has_participation_ratio_d(d, xp):
    axes = np.pad(np.eye(d), [(0, 0), (0, 3)])
    cloud = xp.asarray(np.concatenate([axes, -axes]))
    np.testing.assert_allclose(float(participation_ratio(cloud)), d, rtol=1e-14)


@pytest.mark.parametrize("n", [2, 3, 7])
def test_a_simplex_of_n_points_has_participation_ratio_one_below_n(n):
    np.testing.assert_allclose(participation_ratio(np.eye(n)), n - 1, rtol=1e-14)


@pytest.mark.parametrize(("n", "width"), [(50, 4), (4, 4), (5, 4), (4, 5), (6, 50)])
def test_participation_ratio_is_that_of_the_eigenvalues(n, width, xp, rng):
    points = rng.normal(size=(n, width)) * np.arange(1, width + 1)
    h = np.linalg.eigvalsh(np.cov(points.T))
    found = float(participation_ratio(xp.asarray(points)))
    np.testing.assert_allclose(found, h.sum() ** 2 / (h**2).sum(), rtol=1e-12)


def test_the_inverse_participation_ratio_is_too_large_by_about_one_in_n(rng):
    """In a white Gaussian the claim is exact: E Tr S^2 / E (Tr S)^2 = (m + D + 1) / (m D + 2),
    with m = n - 1, against 1 / D; what it leaves out is O(1 / n^2) and O(1 / (n D)).
    """
    n, d = 100, 50
    inverse = [1 / participation_ratio(rng.normal(size=(n, d))) for _ in range(200)]
    excess = mean(np.asarray(inverse) - 1 / d)
    assert abs(excess.value - 1 / (n - 1)) < SURE * excess.stderr + 1 / n**2 + 2 / (n * d)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@given(
    seed=SEEDS,
    scale=st.floats(1e-3, 1e3),
    far=st.floats(0, 1e4),
    extra=st.integers(0, 3),
)
def test_isometries_and_scale_change_nothing(estimator, seed, scale, far, extra):
    """A cloud of size 1e-3 at 1e4 is stored to 1e-9 of its size, close pairs to 1e-7 of theirs."""
    rng = np.random.default_rng(seed)
    points, width = rng.normal(size=(60, 3)), 3 + extra
    rotation = np.linalg.qr(rng.normal(size=(width, width)))[0]
    moved = scale * np.pad(points, [(0, 0), (0, extra)]) @ rotation
    found = estimator(moved + far * rng.normal(size=width))
    np.testing.assert_allclose(found, estimator(points), rtol=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@given(seed=SEEDS, n=st.integers(12, 60), width=st.integers(1, 40))
def test_the_order_of_the_points_changes_nothing(estimator, seed, n, width):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, width))
    found = estimator(rng.permutation(points))
    np.testing.assert_allclose(found, estimator(points), rtol=1e-9)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@given(seed=SEEDS, constants=st.lists(st.floats(-1e3, 1e3), max_size=70))
def test_coordinates_that_do_not_vary_change_nothing(estimator, seed, constants):
    """Up to 70 of them, so that 60 points come to have fewer than as many coordinates."""
    points = np.random.default_rng(seed).normal(size=(60, 3))
    wider = np.concatenate([points, np.tile(constants, (60, 1))], axis=1)
    np.testing.assert_allclose(estimator(wider), estimator(points), rtol=1e-9)


@given(seed=SEEDS, copies=st.integers(2, 4), n=st.integers(3, 40), width=st.integers(1, 40))
def test_a_cloud_repeated_has_the_same_participation_ratio(seed, copies, n, width):
    points = np.random.default_rng(seed).normal(size=(n, width))
    found = participation_ratio(np.tile(points, (copies, 1)))
    np.testing.assert_allclose(found, participation_ratio(points), rtol=1e-10)


@pytest.mark.parametrize("estimator", NEIGHBOURS)
@given(seed=SEEDS, place=st.integers(0, 59), far=st.floats(-1e4, 1e4))
def test_a_point_met_twice_gives_nan_and_never_a_number(estimator, seed, place, far):
    points = far + np.random.default_rng(seed).normal(size=(60, 3))
    assert np.isnan(estimator(np.concatenate([points, points[place : place + 1]])))


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1e5 + 0.1])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_points_that_all_coincide_have_no_dimension(estimator, value, xp):
    assert np.isnan(float(estimator(xp.asarray(np.full((30, 3), value)))))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_nan_is_never_a_number(estimator, xp, rng):
    points = rng.normal(size=(30, 3))
    points[7, 2] = np.nan
    assert np.isnan(float(estimator(xp.asarray(points))))


@pytest.mark.parametrize("shape", [(200, 4), (30, 50)])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_array_library_gives_the_same_number(estimator, shape, xp, rng):
    points = rng.normal(size=shape)
    np.testing.assert_allclose(float(estimator(xp.asarray(points))), estimator(points), rtol=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_jax_can_compile_and_map_it(estimator, rng):
    clouds = jnp.asarray(rng.normal(size=(3, 60, 4)))
    found = jax.jit(jax.vmap(estimator))(clouds)
    expected = [estimator(np.asarray(cloud)) for cloud in clouds]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
