"""Dimension point by point and against scale: witnesses, plateaus of known clouds, Jacobians."""

import array_api_strict
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from witnesses import SURE, torus

from sgdnoise.core import Estimate, mean
from sgdnoise.dimension import (
    Profile,
    jacobian_dimension,
    jacobians,
    levina_bickel,
    noise_onset,
    participation_ratio,
    plateau,
    pointwise,
    scale_participation_ratio,
    scale_profile,
    twonn,
)
from sgdnoise.lab import plot_scale_profile

SMALL = (60, 4)


def noisy_circle(n, noise, rng):
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) + noise * rng.normal(size=(n, 2))


def profile(values, errors, scales=None):
    scales = 2.0 ** np.arange(len(values)) if scales is None else np.asarray(scales)
    return Profile(scales, Estimate(np.asarray(values), np.asarray(errors)))


def neighbourhood(points, i, k):
    return points[np.argsort(np.linalg.norm(points - points[i], axis=1))[: k + 1]]


@pytest.mark.parametrize("asarray", [np.asarray, torch.asarray, array_api_strict.asarray])
def test_pointwise_is_the_estimator_of_each_neighbourhood(asarray, rng):
    points = rng.normal(size=(40, 3))
    result = np.asarray(
        pointwise(lambda x: levina_bickel(x, 4), asarray(points), 12, at=[0, 7, 39])
    )
    expected = [levina_bickel(neighbourhood(points, i, 12), k=4) for i in (0, 7, 39)]
    np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_pointwise_tells_a_line_from_a_square_and_is_nan_where_nothing_can_be_said(rng):
    line, square = np.pad(rng.uniform(size=(200, 1)), [(0, 0), (0, 1)]), rng.uniform(size=(200, 2))
    result = pointwise(participation_ratio, np.concatenate([line, square + 5]), 20)
    np.testing.assert_allclose(result[:200], 1, rtol=1e-12)
    assert np.all(result[200:] > 1.05)
    assert np.all(np.isnan(pointwise(levina_bickel, square, 5, at=range(3))))


def test_pointwise_hands_options_on(rng):
    points = rng.normal(size=(30, 2))
    result = pointwise(twonn, points, 20, at=[4], fit="regression")
    expected = twonn(neighbourhood(points, 4, 20), fit="regression")
    np.testing.assert_allclose(result, [expected], rtol=1e-12)


def test_a_profile_is_the_estimator_on_disjoint_parts(rng):
    points = rng.normal(size=(100, 3))
    order = np.random.default_rng(3).permutation(100)
    result = scale_profile(twonn, points, (1, 3, 9), rng=np.random.default_rng(3))
    for place, p in enumerate((1, 3, 9)):
        blocks = np.split(points[order[: p * (100 // p)]], p)
        gaps = [np.linalg.norm(block[:, None] - block, axis=2) for block in blocks]
        nearest = np.mean([np.mean(np.sort(gap, axis=1)[:, 1]) for gap in gaps])
        np.testing.assert_allclose(result.scale[place], nearest, rtol=1e-10)
        value = np.mean([twonn(block) for block in blocks])
        np.testing.assert_allclose(result.dimension.value[place], value, rtol=1e-12)
    nine = np.std([twonn(block) for block in np.split(points[order[:99]], 9)], ddof=1) / 3
    eight = np.std([twonn(block) for block in np.split(points[order[:96]], 8)], ddof=1) / 8**0.5
    np.testing.assert_allclose(result.dimension.stderr, [eight, eight, nine], rtol=1e-12)
    np.testing.assert_array_equal(result.dimension.dof, [7, 7, 8])


def test_the_error_of_a_profile_is_the_spread_of_repeats(rng):
    """Its own scatter over r repeats of 7 freedoms is 1 / sqrt(14 r), as that of their spread is
    1 / sqrt(2 r); a tenth more for what fewer neighbours change.
    """
    r = 60
    runs = [scale_profile(twonn, torus(2, 256, rng), (1, 8), rng=rng).dimension for _ in range(r)]
    covariance = np.std([run.value for run in runs], axis=0, ddof=1)
    claimed = np.sqrt(np.mean([run.stderr**2 for run in runs], axis=0))
    allowed = SURE * (1 / (2 * r) + 1 / (14 * r)) ** 0.5 + 0.1
    np.testing.assert_array_less(np.abs(claimed / covariance - 1), allowed)


def test_a_noisy_circle_is_a_plane_below_its_noise_and_a_line_above(rng):
    """Noise 1e-3: at a distance s it adds O(noise / s), 0.05 at the plateau's start."""
    fine = scale_profile(twonn, noisy_circle(4096, 1e-3, rng), rng=rng)
    held = plateau(fine)
    assert abs(held.dimension.value - 1) < SURE * held.dimension.stderr + 0.05
    assert fine.dimension.value[0] > 1.6
    assert noise_onset(fine) == held.start
    assert 3e-3 < held.start < 5e-2
    thick = scale_profile(twonn, noisy_circle(4096, 5e-2, rng), (1, 2, 4), rng=rng)
    held = plateau(thick)
    assert abs(held.dimension.value - 2) < SURE * held.dimension.stderr + 0.05
    assert noise_onset(thick) is None


def test_a_plateau_is_the_widest_range_that_agrees():
    held = plateau(profile([2.0, 1.5, 1.01, 1.0, 0.99, 0.98, 0.6], 7 * [0.01]))
    assert (held.start, held.stop) == (4.0, 32.0)
    np.testing.assert_allclose(held.dimension.value, 0.995, rtol=1e-12)
    assert held.dimension.stderr == pytest.approx(0.01)
    assert held.dimension.dof == np.inf
    stretched = profile([2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0], 7 * [0.01], [1, 2, 3, 4, 5, 50, 500])
    assert plateau(stretched).start == 5
    assert plateau(profile([2.0, 2.0, 1.0, 1.0], 4 * [0.01])) is None
    assert plateau(profile([1.0, 2.0, 3.0, 4.0], 4 * [np.nan])) is None


def test_errors_and_tolerance_say_what_agrees():
    """1 and 1.2 and 1.4 differ by 0.4 at most: twice sqrt(2) 0.15 is more, 0.13 is less."""
    steps = [1.0, 1.2, 1.4]
    assert plateau(profile(steps, 3 * [0.15]), tolerance=0.0) is not None
    assert plateau(profile(steps, 3 * [0.13]), tolerance=0.0) is None
    assert plateau(profile(steps, 3 * [0.0]), tolerance=0.34) is not None
    assert plateau(profile(steps, 3 * [0.0]), tolerance=0.33) is None


def test_scales_in_any_order_have_the_same_plateau():
    values, scales = np.asarray([2.0, 1.5, 1.0, 1.0, 1.0]), np.asarray([1.0, 2.0, 4.0, 8.0, 16.0])
    turned = profile(values[::-1], 5 * [0.01], scales[::-1])
    assert plateau(turned) == plateau(profile(values, 5 * [0.01], scales))
    assert noise_onset(turned) == 4.0


def test_noise_is_seen_only_where_all_finer_scales_lie_higher():
    assert noise_onset(profile([2.0, 1.5, 1.0, 1.0, 1.0], 5 * [0.01])) == 4.0
    assert noise_onset(profile([0.5, 1.5, 1.0, 1.0, 1.0], 5 * [0.01])) is None
    assert noise_onset(profile([1.0, 1.0, 1.0, 2.0], 4 * [0.01])) is None
    assert noise_onset(profile([1.0, 2.0, 3.0], 3 * [0.01])) is None


@pytest.mark.parametrize("method", ["naive", "gaussian"])
@pytest.mark.parametrize("width", [3, 12])
def test_a_ratio_at_a_scale_is_the_mean_over_neighbourhoods(method, width, rng):
    points = rng.normal(size=(50, width)) * np.linspace(1, 0.3, width)
    result = scale_participation_ratio(points, (4, 9), method=method)
    for place, k in enumerate((4, 9)):
        balls = [neighbourhood(points, i, k) for i in range(50)]
        ratios = np.asarray([participation_ratio(ball, method=method) for ball in balls])
        np.testing.assert_allclose(result.dimension.value[place], ratios.mean(), rtol=1e-10)
        error = ratios.std(ddof=1) * ((k + 1) / 50) ** 0.5
        np.testing.assert_allclose(result.dimension.stderr[place], error, rtol=1e-10)
        reach = np.mean([np.linalg.norm(ball[-1] - ball[0]) for ball in balls])
        np.testing.assert_allclose(result.scale[place], reach, rtol=1e-10)


def test_debiased_ratios_of_a_flat_ball_hold_its_dimension_and_naive_ones_fall_short(rng):
    """White in a disc; a ball is flatter than normal rows, which leaves up to 5% at k of 16."""
    runs = [scale_participation_ratio(torus(2, 2000, rng), (16, 32)).dimension for _ in range(3)]
    repeats = mean(np.asarray([run.value for run in runs]))
    assert np.all(np.abs(repeats.value - 2) < SURE * repeats.stderr + 0.1)
    naive = scale_participation_ratio(torus(2, 2000, rng), (16,), method="naive")
    assert naive.dimension.value[0] < 2 - 0.1


@pytest.mark.parametrize("asarray", [torch.asarray, array_api_strict.asarray])
def test_profiles_are_of_the_library_of_the_points(asarray, rng):
    points = rng.normal(size=SMALL)
    for of in (
        lambda x: scale_profile(twonn, x, (1, 4), rng=np.random.default_rng(0)),
        lambda x: scale_participation_ratio(x, (8, 16)),
    ):
        result, expected = of(asarray(points)), of(points)
        for mine, separate in zip(
            (result.scale, result.dimension.value, result.dimension.stderr),
            (expected.scale, expected.dimension.value, expected.dimension.stderr),
            strict=True,
        ):
            assert type(mine) is type(asarray(points))
            np.testing.assert_allclose(np.asarray(mine), separate, rtol=1e-10)


@pytest.mark.parametrize(("m", "width"), [(3, 5), (5, 3)])
@pytest.mark.parametrize("asarray", [np.asarray, torch.asarray, array_api_strict.asarray])
def test_a_jacobian_has_the_ratio_of_its_squared_singular_values(asarray, m, width, rng):
    generated = 1e-90 * rng.normal(size=(7, m, width))
    s = np.linalg.svd(1e90 * generated, compute_uv=False) ** 2
    result = np.asarray(jacobian_dimension(asarray(generated)))
    np.testing.assert_allclose(result, s.sum(1) ** 2 / (s**2).sum(1), rtol=1e-11)
    assert np.isnan(jacobian_dimension(np.zeros((1, 2, 2)))[0])


def test_a_map_is_differentiated_at_each_point(rng):
    """x -> (a.x) x has the Jacobian (a.x) + x a^T."""
    points, a = rng.normal(size=SMALL), rng.normal(size=4)
    result = jacobians(lambda x: x * (jnp.asarray(a) * x).sum(), jnp.asarray(points))
    expected = [np.eye(4) * (x @ a) + np.outer(x, a) for x in points]
    np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-12)
    dimension = np.asarray(jacobian_dimension(result))
    np.testing.assert_allclose(dimension, jacobian_dimension(np.asarray(expected)), rtol=1e-10)


def test_a_drawn_profile_has_its_bars_its_plateau_and_its_noise():
    ax = Figure().add_subplot()
    plot_scale_profile(ax, profile([2.0, 1.5, 1.0, 1.0, 1.0], 5 * [0.1]))
    assert ax.get_xscale() == "log"
    bars = ax.containers[0][2][0].get_segments()
    np.testing.assert_allclose(bars[1], [[2, 1.3], [2, 1.7]], rtol=1e-12)
    level = ax.lines[-1]
    np.testing.assert_allclose(level.get_xydata(), [[4, 1], [16, 1]], rtol=1e-12)
    assert ax.get_title(loc="left") + ax.get_title() == "plateau 1.00 ± 0.10"
    assert [text.get_text() for text in ax.texts] == ["noise"]
    plain = Figure().add_subplot()
    plot_scale_profile(plain, profile([1.0, 2.0, 3.0], 3 * [0.01]))
    assert not plain.texts
    assert not plain.get_title()


X = np.random.default_rng(0).normal(size=SMALL)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: pointwise(twonn, X, 9, at=[3, 60]), "60"),
        (lambda: pointwise(twonn, X, 60), "61"),
        (lambda: scale_profile(twonn, X, (1, 31), rng=RNG), "31"),
        (lambda: scale_profile(twonn, X, (0, 2), rng=RNG), "or 0"),
        (lambda: scale_profile(twonn, X[:12], rng=RNG), "12"),
        (lambda: scale_participation_ratio(X, (1, 8)), "1, 8"),
        (lambda: scale_participation_ratio(X, method="unbiased"), "'unbiased'"),
        (lambda: plateau(profile([1.0], [1.0]), tolerance=-0.5), "-0.5"),
        (lambda: plateau(profile([1.0], [1.0]), min_scales=1), "1"),
    ],
)
def test_bad_options_get_one_sentence(wrong, said):
    with pytest.raises(ValueError, match=said) as caught:
        wrong()
    assert ". " not in str(caught.value)
    assert 20 <= len(str(caught.value)) <= 200
