"""Slopes of estimates by the points: against differences, under symmetries, and in batches."""

import re
from functools import partial
from itertools import combinations
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sgdnoise.dimension import (
    Duplicates,
    effective_rank,
    levina_bickel,
    participation_ratio,
    stable_rank,
    tle,
    twonn,
)
from sgdnoise.dimension._spectral import singular_values, trace_moments

LINEAR = {
    "participation_ratio": participation_ratio,
    "unbiased": partial(participation_ratio, method="unbiased"),
    "effective_rank": effective_rank,
    "of variances": partial(effective_rank, of="variances"),
    "stable_rank": stable_rank,
}
NEAR = {
    "twonn": twonn,
    "regression": partial(twonn, fit="regression"),
    "levina_bickel": partial(levina_bickel, k=4),
    "tle": partial(tle, k=4),
}
EVERY = LINEAR | NEAR


def by_torch(measure, points):
    """The slope (n, D)."""
    points = torch.tensor(points, requires_grad=True)
    return torch.autograd.grad(measure(points), points)[0].numpy()


def by_differences(measure, points, step=1e-6):
    """Central differences, good to about 1e-16 / step = 1e-10 and step^2."""
    result = np.zeros_like(points)
    for at in np.ndindex(points.shape):
        ends = [points.copy(), points.copy()]
        ends[0][at] += step
        ends[1][at] -= step
        result[at] = (float(measure(ends[0])) - float(measure(ends[1]))) / (2 * step)
    return result


def entropy_slope(points):
    """d exp(H) / dX = exp(H) U diag(-(log p + H) / sum s) V^T, over singular values above zero."""
    u, s, vt = np.linalg.svd(points - points.mean(0), full_matrices=False)
    u, s, vt = u[:, s > 1e-10], s[s > 1e-10], vt[s > 1e-10]
    p = s / s.sum()
    h = -(p * np.log(p)).sum()
    return np.exp(h) * (u * (-(np.log(p) + h) / s.sum())) @ vt


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("shape", [(14, 3), (8, 11)], ids=["many points", "few points"])
def test_slopes_are_those_of_differences(name, shape, rng):
    points = rng.normal(size=shape)
    slope = by_torch(EVERY[name], points)
    allowed = 1e-6 * np.abs(slope).max()  # far above rounding, far below a wrong term
    assert_allclose(slope, by_differences(EVERY[name], points), rtol=0, atol=allowed)


@pytest.mark.parametrize("name", ["participation_ratio", "effective_rank", "twonn"])
def test_torch_checks_the_slope_itself(name, rng):
    points = torch.tensor(rng.normal(size=(7, 3)), requires_grad=True)
    assert torch.autograd.gradcheck(EVERY[name], (points,))


@pytest.mark.usefixtures("quick_to_compile")
@pytest.mark.parametrize("name", ["participation_ratio", "effective_rank", "twonn", "regression"])
def test_jax_has_the_slope_that_torch_has(name, rng):
    points = rng.normal(size=(5, 3))
    slope = jax.jit(jax.grad(EVERY[name]))(jax.numpy.asarray(points))
    assert_allclose(slope, by_torch(EVERY[name], points), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_slopes_turn_with_the_points_and_do_not_move_or_stretch_them(name, rng):
    """Sums of slopes are 0 (moving), sums of x . slope (scale); those of a turned cloud turn."""
    points, turn = rng.normal(size=(12, 4)), np.linalg.qr(rng.normal(size=(4, 4)))[0]
    slope = by_torch(EVERY[name], points)
    size = np.abs(slope).max()
    assert_allclose(slope.sum(0), 0, atol=1e-11 * size)
    assert_allclose((slope * points).sum(), 0, atol=1e-11 * size)
    assert_allclose(by_torch(EVERY[name], points @ turn + 3), slope @ turn, atol=1e-9 * size)
    assert_allclose(by_torch(EVERY[name], 5 * points), slope / 5, atol=1e-11 * size)


def test_a_layer_of_equal_variances_is_at_the_top_of_every_spectrum(rng):
    """Equal singular values, where the slopes of eigenvectors do not exist: all slopes are 0."""
    ends = rng.normal(size=(12, 5))
    ends = np.linalg.qr(ends - ends.mean(0))[0]
    for name in ("participation_ratio", "effective_rank", "of variances"):
        assert_allclose(by_torch(LINEAR[name], ends), 0, atol=1e-13)


def flat_clouds(rng):
    """A plane in four dimensions, a cloud with a dead unit, and fewer points than dimensions."""
    plane = rng.normal(size=(14, 2)) @ rng.normal(size=(2, 4))
    dead = np.column_stack([rng.normal(size=(12, 3)), np.full(12, 0.7)])
    return plane, dead, rng.normal(size=(5, 9))


@pytest.mark.usefixtures("quick_to_compile")
def test_effective_rank_where_singular_values_vanish_has_the_slope_at_fixed_rank(rng):
    """What is rounding alone is not told to grow: not even in jax, whose rounding is another."""
    for points in flat_clouds(rng):
        expected = entropy_slope(points)
        assert_allclose(by_torch(effective_rank, points), expected, atol=1e-11)
    points = flat_clouds(rng)[0]
    slope = jax.jit(jax.grad(effective_rank))(jax.numpy.asarray(points))
    assert_allclose(slope, entropy_slope(points), atol=1e-11)


def test_the_value_of_an_effective_rank_is_that_of_all_singular_values(rng):
    """Rounding among them: the slope is mended, not the number."""
    for points in (*flat_clouds(rng), rng.normal(size=(30, 6))):
        s = np.linalg.svd(points - points[:1] - (points - points[:1]).mean(0))[1]
        p = s[s > 0] / s.sum()
        assert float(effective_rank(points)) == pytest.approx(
            np.exp(-(p * np.log(p)).sum()), rel=1e-14
        )
    flat = flat_clouds(rng)[0].astype(np.float32)
    fraction = singular_values(flat) / np.sum(singular_values(flat))
    assert fraction[-1] < 1e-6
    assert effective_rank(flat) == np.exp(-np.sum(fraction * np.log(fraction)))  # bit for bit


def test_points_that_were_merged_have_no_slope_and_the_others_that_of_distinct_ones(rng):
    points = rng.normal(size=(11, 3))
    points[7] = points[2]
    with pytest.warns(Duplicates, match="1 of 11 points"):
        slope = by_torch(twonn, points)
    alone = by_torch(twonn, np.delete(points, 7, axis=0))
    assert_allclose(np.delete(slope, 7, axis=0), alone, rtol=1e-12)
    assert not slope[7].any()


@pytest.mark.parametrize("name", EVERY)
def test_single_precision_has_finite_slopes_near_those_of_double(name, rng):
    points = rng.normal(size=(20, 5))
    exact = by_torch(EVERY[name], points)
    slope = by_torch(EVERY[name], points.astype(np.float32))
    # distances to 1e-7, of which the nearest are differences of numbers some 10 times as large
    assert_allclose(slope, exact, atol=1e-4 * np.abs(exact).max())


def test_slopes_of_unbiased_moments_in_batches_average_to_those_of_all(rng):
    """Over all 35 batches of 4 of 7 points, exactly; a naive batch is far off."""
    points = rng.normal(size=(7, 3))
    naive = partial(trace_moments, method="naive")
    for part in (0, 1):
        moment = [lambda x, f=f, part=part: f(x)[part] for f in (trace_moments, naive)]
        mean = np.zeros((2, *points.shape))
        for subset in map(list, combinations(range(7), 4)):
            for i, f in enumerate(moment):
                mean[i, subset] += by_torch(f, points[subset]) / 35
        total = by_torch(moment[0], points)
        assert_allclose(mean[0], total, atol=1e-11 * np.abs(total).max())
        assert np.abs(mean[1] - total).max() > 0.1 * np.abs(total).max()


def test_a_penalty_in_a_plain_loop_lowers_the_measure_and_a_reward_raises_it():
    """Five lines of torch: less, none, more, of a hidden layer, on the same batches."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 8, generator=draw)
    result = []
    for coefficient in (0.05, 0.0, -0.05):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            first, last = torch.nn.Linear(8, 16), torch.nn.Linear(16, 1)
        optimizer = torch.optim.SGD([*first.parameters(), *last.parameters()], 0.1)
        for step in range(40):
            subset = inputs[32 * (step % 2) :][:32]
            hidden = torch.tanh(first(subset))
            loss = ((last(hidden) - subset[:, :1]) ** 2).mean()
            loss = loss + coefficient * participation_ratio(hidden)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        result.append(float(participation_ratio(torch.tanh(first(inputs)).detach())))
    assert result[0] < result[1] < result[2]


def test_the_code_of_the_document_runs_and_lowers_what_it_asks_for():
    """Against the same loop without the penalty: on images that nobody learns from."""
    text = Path("docs/objective.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    ends = []
    with torch.random.fork_rng():
        for c in ("0.01", "0.0"):
            space = {}
            torch.manual_seed(0)
            exec(code.replace("coefficient = 0.01", f"coefficient = {c}"), space)
            ends.append(float(space["found"].participation_ratio[-1, 0]))
    assert ends[0] < 0.9 * ends[1]
