"""What holds of every estimator of dimension, and the truths of the simplest three."""

import importlib
import inspect
import re

import array_api_strict
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from witnesses import SURE, torus, tree_distances

from sgdnoise.core import mean, with_group_error
from sgdnoise.dimension import (
    ESTIMATORS,
    LINEAR,
    MANIFOLD,
    Duplicates,
    Neighbours,
    find_neighbours,
    levina_bickel,
    participation_ratio,
    twonn,
)
from sgdnoise.dimension._distance_ratios import pareto_exponent

SEEDS = st.integers(0, 2**32 - 1)
SPECTRA = ["participation_ratio", "effective_rank", "stable_rank", "pca"]  # merge no points
# Through numpy at some step, so that jax cannot compile them.
NUMPY = {
    "learned",
    "danco",
    "ess",
    "correlation",
    "geodesic",
    "full_correlation_integral",
    "fisher_separability",
}
COMPILED = [name for name in ESTIMATORS if name not in NUMPY]
WITH_K = [name for name, f in MANIFOLD.items() if "k" in inspect.signature(f).parameters]
BETWEEN_RANKS = ["gride", "correlation"]
every = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS.keys())
by_neighbours = pytest.mark.parametrize("estimator", MANIFOLD.values(), ids=MANIFOLD.keys())


def sphere(rng, n=150):
    """On the 2-sphere: of all clouds this small, one whose geodesics have a peak."""
    points = rng.normal(size=(n, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def orthogonal(width, rng):
    return np.linalg.qr(rng.normal(size=(width, width)))[0]


# Laws of space


@every
@settings(max_examples=8)
@given(seed=SEEDS, scale=st.floats(1e-3, 1e3), extra=st.integers(0, 5))
def test_isometries_into_more_coordinates_and_scale_change_nothing(estimator, seed, scale, extra):
    """Counts may step where rounding moves a distance over an edge: one run in a million here."""
    rng = np.random.default_rng(seed)
    points, width = sphere(rng), 3 + extra
    moved = scale * np.pad(points, [(0, 0), (0, extra)]) @ orthogonal(width, rng)
    np.testing.assert_allclose(estimator(moved), estimator(points), rtol=1e-6)


@every
@settings(max_examples=8)
@given(seed=SEEDS)
def test_the_order_of_the_points_changes_nothing(estimator, seed):
    rng = np.random.default_rng(seed)
    points = sphere(rng)
    np.testing.assert_allclose(estimator(rng.permutation(points)), estimator(points), rtol=1e-6)


@every
@settings(max_examples=8)
@given(seed=SEEDS, constants=st.lists(st.floats(-1e3, 1e3), max_size=200))
def test_coordinates_that_do_not_vary_change_nothing(estimator, seed, constants):
    """Up to 200 of them, so that 150 points come to have fewer than as many coordinates."""
    points = sphere(np.random.default_rng(seed))
    wider = np.concatenate([points, np.tile(constants, (len(points), 1))], axis=1)
    np.testing.assert_allclose(estimator(wider), estimator(points), rtol=1e-6)


@every
def test_far_from_the_origin_nothing_changes(estimator, rng):
    """At 1e6 a point is stored to 1e-10, and the difference of two close distances to 1e-6 of it;
    of counts none steps, in this one cloud.
    """
    points = sphere(rng)
    far = points + 1e6 * rng.normal(size=3)
    np.testing.assert_allclose(estimator(far), estimator(points), rtol=1e-6)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_cloud_met_twice_is_a_cloud_met_once(name, rng):
    """Repeated points are merged and that is said, but where only the covariance is asked for."""
    points = sphere(rng)
    twice = rng.permutation(np.concatenate([points, points]))
    if name in SPECTRA:
        result = ESTIMATORS[name](twice)
    else:
        with pytest.warns(Duplicates, match=r"150 of 300 points repeat others and were merged"):
            result = ESTIMATORS[name](twice)
    np.testing.assert_allclose(result, ESTIMATORS[name](points), rtol=1e-6)


@every
def test_a_line_has_dimension_about_one(estimator, rng):
    """Up to 0.3 off for 300 points with two ends; half a circle of directions is not one line."""
    points = rng.uniform(size=(300, 1))
    try:
        result = estimator(points)
    except ValueError as said:
        assert_one_sentence(said)
    else:
        assert abs(float(result) - 1) < 0.3


@pytest.mark.parametrize("name", ["twonn", "levina_bickel", "gride", "mind_ml", "mom", "binomial"])
def test_half_of_a_torus_has_the_dimension_of_all_of_it(name, rng):
    """The difference of half and whole has the variance of the whole; 3% of d for curvature."""
    points = torus(2, 800, rng)
    total = with_group_error(ESTIMATORS[name], points, splits=4)
    half = ESTIMATORS[name](points[:400])
    assert abs(half - total.value) < SURE * total.stderr + 0.06


# Types of arrays


@every
@pytest.mark.parametrize("asarray", [np.asarray, torch.asarray, array_api_strict.asarray])
def test_every_library_gives_the_same_number_and_one_of_its_own(estimator, asarray, rng):
    points = sphere(rng)
    result = estimator(asarray(points))
    separate = asarray(0.0)
    assert isinstance(
        result, (type(separate), np.float64) if asarray is np.asarray else type(separate)
    )
    assert result.shape == ()
    assert result.dtype == asarray(points).dtype
    np.testing.assert_allclose(float(result), estimator(points), rtol=1e-10)


@pytest.fixture(scope="module")
def compiled():
    """All that jax can compile, in one program, mapped over three clouds."""
    clouds = np.random.default_rng(1).normal(size=(3, 60, 4))

    def values(points):
        near = find_neighbours(points, 21)
        known = {n: ESTIMATORS[n](points, neighbours=near) for n in COMPILED if n in MANIFOLD}
        return known | {n: ESTIMATORS[n](points) for n in COMPILED if n in LINEAR}

    jax.config.update("jax_disable_most_optimizations", True)
    result = jax.jit(jax.vmap(values))(jnp.asarray(clouds))
    jax.config.update("jax_disable_most_optimizations", False)
    return clouds, result


@pytest.mark.parametrize("name", COMPILED)
def test_jax_compiles_and_maps_it(name, compiled):
    clouds, result = compiled
    assert isinstance(result[name], jax.Array)
    options = [{"neighbours": find_neighbours(c, 21)} if name in MANIFOLD else {} for c in clouds]
    expected = [ESTIMATORS[name](c, **o) for c, o in zip(clouds, options, strict=True)]
    np.testing.assert_allclose(result[name], expected, rtol=1e-10)


@pytest.mark.usefixtures("quick_to_compile")
@pytest.mark.parametrize("name", sorted(NUMPY & set(ESTIMATORS)))
def test_jax_runs_what_it_cannot_compile(name, rng):
    points = rng.normal(size=(60, 4))
    known = Neighbours(*map(jnp.asarray, find_neighbours(points, 40)))
    options = {"neighbours": known} if name in MANIFOLD else {}
    result = ESTIMATORS[name](jnp.asarray(points), **options)
    assert isinstance(result, jax.Array)
    np.testing.assert_allclose(float(result), ESTIMATORS[name](points), rtol=1e-10)


@pytest.mark.usefixtures("quick_to_compile")
def test_what_a_compiled_function_cannot_see_is_never_a_number(rng):
    """Values are not known while jax traces: a nan stays nan, and points met twice give none."""
    points = rng.normal(size=(60, 4))
    clouds = np.stack([points, points])
    clouds[0, 7, 2], clouds[1, 7] = np.nan, points[8]
    assert np.all(np.isnan(jax.jit(jax.vmap(twonn))(jnp.asarray(clouds))))


@every
def test_single_precision_is_good_to_a_thousandth(estimator, rng):
    points = sphere(rng)
    result = estimator(points.astype(np.float32))
    assert result.dtype == np.float32
    np.testing.assert_allclose(
        result, estimator(points.astype(np.float32).astype(float)), rtol=1e-3
    )


@every
@pytest.mark.parametrize(
    ("kind", "held"),
    [
        (np.float16, np.float32),
        (np.int64, np.float64),
        (np.int16, np.float64),
        (np.uint16, np.float64),
        (np.longdouble, np.float64),
    ],
)
def test_other_numbers_are_held_in_a_type_that_has_their_squares(estimator, kind, held, rng):
    points = (1e4 * (2 + sphere(rng))).astype(kind)
    result = estimator(points[:150])
    assert result.dtype == held
    np.testing.assert_allclose(result, estimator(points.astype(held)), rtol=1e-12)


def read_only(points):
    points = points.copy()
    points.flags.writeable = False
    return points


LAID_OUT = {
    "by columns": np.asfortranarray,
    "read only": read_only,
    "every other": lambda x: np.repeat(np.repeat(x, 2, axis=0), 2, axis=1)[::2, ::2],
    "backwards": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "swapped bytes": lambda x: x.astype(">f8"),
}


@every
@pytest.mark.parametrize("laid_out", LAID_OUT.values(), ids=LAID_OUT.keys())
def test_how_points_lie_in_memory_changes_nothing(estimator, laid_out, rng):
    points = sphere(rng)
    given_points = laid_out(points)
    before = given_points.copy()
    np.testing.assert_allclose(estimator(given_points), estimator(points), rtol=1e-9)
    np.testing.assert_array_equal(given_points, before)


@every
def test_points_that_torch_would_differentiate_are_points(estimator, rng):
    points = sphere(rng)
    result = estimator(torch.asarray(points).requires_grad_(True))
    np.testing.assert_allclose(result.detach(), estimator(points), rtol=1e-10)


# Neighbours that are known


@by_neighbours
def test_neighbours_handed_in_give_the_number_found_afresh(estimator, rng):
    points = sphere(rng)
    result = estimator(points, neighbours=find_neighbours(points, 110))
    np.testing.assert_allclose(result, estimator(points), rtol=1e-12)


@by_neighbours
def test_neighbours_handed_in_are_not_sought_again(estimator, rng, monkeypatch):
    points = sphere(rng)
    known = find_neighbours(points, 110)
    module = importlib.import_module("sgdnoise.dimension._points")  # a function has its name
    monkeypatch.setattr(module, "nearest_neighbours", None)
    estimator(points, neighbours=known)


@by_neighbours
def test_too_few_neighbours_handed_in_are_one_sentence(estimator, rng):
    points = rng.normal(size=(60, 3))
    with pytest.raises(ValueError, match=r"1|2") as stated:
        estimator(points, neighbours=find_neighbours(points, 1))
    assert_one_sentence(stated.value)


# Bad input


def assert_one_sentence(said):
    message = str(said)
    assert 20 <= len(message) <= 200
    assert "\n" not in message
    assert ". " not in message
    assert not message.endswith(".")


CLOUD = np.random.default_rng(0).normal(size=(60, 4))


def with_value(value):
    points = CLOUD.copy()
    points[7, 2] = value
    return points


BAD = {
    "nan": (with_value(np.nan), "1 of 60 .* row 7"),
    "infinity": (with_value(np.inf), "1 of 60 .* row 7"),
    "minus infinity": (with_value(-np.inf), "1 of 60 .* row 7"),
    "nan in torch": (torch.asarray(with_value(np.nan)), "1 of 60 .* row 7"),
    "nan in half precision": (with_value(np.nan).astype(np.float16), "1 of 60 .* row 7"),
    "two rows": (np.where(np.arange(60)[:, None] > 57, np.nan, CLOUD), "2 of 60 .* row 58"),
    "no points": (CLOUD[:0], "not 0"),
    "one point": (CLOUD[:1], "not 1"),
    "no coordinates": (CLOUD[:, :0], "of 0"),
    "nothing": (np.zeros((0, 0)), "not 0"),
    "all alike": (np.ones((60, 3)), "all 60"),
    "all alike, not exactly in binary": (np.full((60, 3), 0.1), "all 60"),
    "all alike in torch": (torch.full((60, 3), 1e5 + 0.1), "all 60"),
    "all alike whole": (np.full((60, 3), 7), "all 60"),
    "complex": (CLOUD + 1j, "complex128"),
    "complex in torch": (torch.asarray(CLOUD + 1j), "complex128"),
    "objects": (CLOUD.astype(object), "object"),
    "strings": (CLOUD.astype(str), "<U"),
    "bool": (CLOUD > 0, "bool"),
    "bool in torch": (torch.asarray(CLOUD > 0), "bool"),
    "dates": (CLOUD.astype("datetime64[s]"), "datetime64"),
    "three axes": (CLOUD[None], r"\(1, 60, 4\)"),
    "one axis": (CLOUD[:, 0], r"\(60,\)"),
    "no axis": (np.asarray(3.0), r"\(\)"),
    "lists of unequal length": ([[1.0], [1.0, 2.0]], "list"),
    "a dict": ({"points": CLOUD}, "dict"),
    "a word": ("points.npy", "str"),
    "a number": (3.0, "float"),
    "none": (None, "NoneType"),
    "masked": (np.ma.masked_less(CLOUD, 0), "MaskedArray"),
    "a matrix": (CLOUD.view(np.matrix), "matrix"),
}


@every
@pytest.mark.parametrize("bad", BAD)
def test_bad_points_are_refused_in_one_sentence_that_names_them(estimator, bad):
    points, named = BAD[bad]
    with pytest.raises(ValueError, match=named) as stated:
        estimator(points)
    assert_one_sentence(stated.value)


@pytest.mark.parametrize(
    ("points", "named"),
    [
        (1e200 * CLOUD, "e.200.*float64"),
        (1e-200 * CLOUD, "e-200.*float64"),
        (np.float32(1e30) * CLOUD.astype(np.float32), "e.30.*float32"),
    ],
)
def test_distances_that_have_no_squares_are_refused(points, named):
    """Estimators rescale such points; distances have the unit of the points."""
    with pytest.raises(ValueError, match=named) as stated:
        find_neighbours(points, 3)
    assert_one_sentence(stated.value)


@by_neighbours
def test_how_many_points_are_needed_is_said_until_there_are_enough(estimator):
    """The number asked for of one point is asked for again until it is met."""
    count = 1
    for _ in range(4):
        try:
            estimator(CLOUD[:count])
        except ValueError as said:
            assert_one_sentence(said)
            asked = re.search(r"at least (\d+)", str(said))
            if not asked:
                break  # enough points, and another complaint
            assert int(asked[1]) > count
            with pytest.raises(ValueError, match=rf"at least {asked[1]}|distinct"):
                estimator(CLOUD[: int(asked[1]) - 1])
            count = int(asked[1])
        else:
            break
    assert 2 < count < 60


@by_neighbours
def test_too_few_distinct_points_are_said_to_be(estimator):
    with (
        pytest.warns(Duplicates, match="58 of 60"),
        pytest.raises(ValueError, match=r"\d+ distinct points") as stated,
    ):
        estimator(np.repeat(CLOUD[:2], 30, axis=0))
    assert_one_sentence(stated.value)


@pytest.mark.parametrize("k", [-1, 0, 60, 1000])
@pytest.mark.parametrize("name", WITH_K)
def test_no_neighbour_or_more_than_there_are_is_refused(name, k):
    with pytest.raises(ValueError, match=str(k) if k < 60 else str(k)[:-1]) as stated:
        ESTIMATORS[name](CLOUD, k)
    assert_one_sentence(stated.value)


@pytest.mark.parametrize("ranks", [(0, 2), (2, 2), (3, 2), (1, 60)])
@pytest.mark.parametrize("name", BETWEEN_RANKS)
def test_ranks_that_are_none_or_backwards_or_too_far_are_refused(name, ranks):
    with pytest.raises(ValueError, match=r"\d") as stated:
        ESTIMATORS[name](CLOUD, *ranks)
    assert_one_sentence(stated.value)


# Truths and formulas of the simplest


@pytest.mark.parametrize("exponent", [1.0, 3.0, 20.0])
def test_a_pareto_sample_gives_its_exponent(exponent, rng):
    repeats = [pareto_exponent(1 + rng.pareto(exponent, 20)) for _ in range(2000)]
    assert abs(mean(np.asarray(repeats)).z(exponent)) < SURE


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("estimator", [twonn, levina_bickel])
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
def test_a_cross_of_d_equal_axes_has_participation_ratio_d(d):
    axes = np.pad(np.eye(d), [(0, 0), (0, 3)])
    result = participation_ratio(np.concatenate([axes, -axes]))
    np.testing.assert_allclose(result, d, rtol=1e-14)


@pytest.mark.parametrize("n", [2, 3, 7])
def test_a_simplex_of_n_points_has_participation_ratio_one_below_n(n):
    np.testing.assert_allclose(participation_ratio(np.eye(n)), n - 1, rtol=1e-14)


@pytest.mark.parametrize(("n", "width"), [(50, 4), (4, 4), (5, 4), (4, 5), (6, 50)])
def test_participation_ratio_is_that_of_the_eigenvalues(n, width, rng):
    points = rng.normal(size=(n, width)) * np.arange(1, width + 1)
    h = np.linalg.eigvalsh(np.cov(points.T))
    result = participation_ratio(points)
    np.testing.assert_allclose(result, h.sum() ** 2 / (h**2).sum(), rtol=1e-12)


def test_the_inverse_participation_ratio_is_too_large_by_about_one_in_n(rng):
    """In a white Gaussian the claim is exact: E Tr S^2 / E (Tr S)^2 = (m + D + 1) / (m D + 2),
    with m = n - 1, against 1 / D; what it leaves out is O(1 / n^2) and O(1 / (n D)).
    """
    n, d = 100, 50
    inverse = [1 / participation_ratio(rng.normal(size=(n, d))) for _ in range(200)]
    excess = mean(np.asarray(inverse) - 1 / d)
    assert abs(excess.value - 1 / (n - 1)) < SURE * excess.stderr + 1 / n**2 + 2 / (n * d)


@given(seed=SEEDS, copies=st.integers(2, 4), n=st.integers(3, 40), width=st.integers(1, 40))
def test_a_cloud_repeated_has_the_same_participation_ratio(seed, copies, n, width):
    points = np.random.default_rng(seed).normal(size=(n, width))
    result = participation_ratio(np.tile(points, (copies, 1)))
    np.testing.assert_allclose(result, participation_ratio(points), rtol=1e-10)
