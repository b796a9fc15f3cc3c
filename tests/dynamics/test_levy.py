"""Stable noise: its characteristic function, two classical members, and where it rests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from steps import numbers
from witnesses import SURE, bowl, curved

from sgdnoise import noise
from sgdnoise.core import Problem, mean
from sgdnoise.dynamics import levy_sgd, simulate, stable_variates

pytestmark = pytest.mark.usefixtures("quick_to_compile")
ALPHAS = [0.4, 0.8, 1.0, 1.3, 1.7, 2.0]
WAVES = np.asarray([0.2, 0.7, 1.5, 3.0])


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_characteristic_function_is_exp_of_minus_s_to_alpha(alpha, rng):
    """E cos(s S) at four s, 10^5 numbers; odd moments of a symmetric law: E sin(s S) = 0."""
    result = stable_variates(rng.uniform(size=100_000), rng.uniform(size=100_000), alpha)
    phase = WAVES * result[:, None]
    assert np.all(abs(mean(np.cos(phase)).z(np.exp(-(WAVES**alpha)))) < SURE)
    assert np.all(abs(mean(np.sin(phase)).z(0)) < SURE)


def test_alpha_of_one_is_cauchys_law_and_alpha_of_two_the_normal_law_of_variance_two(xp, rng):
    """By their textbook recipes from the same numbers: tan, and Box and Muller's."""
    first, two = rng.uniform(size=50), rng.uniform(size=50)
    cauchy = stable_variates(xp.asarray(first), xp.asarray(two), 1.0)
    normal = stable_variates(xp.asarray(first), xp.asarray(two), 2.0)
    np.testing.assert_allclose(cauchy, np.tan(np.pi * (first - 0.5)), rtol=1e-9)
    radius = np.sqrt(-2 * np.log(1 - two))
    expected = 2**0.5 * radius * np.sin(np.pi * (first - 0.5))
    np.testing.assert_allclose(normal, expected, rtol=1e-10)


def test_the_second_uniform_number_gives_every_size_to_the_gaussian(rng):
    """sin over half a turn, a radius for either sign: variance 2 and fourth moment 12."""
    result = stable_variates(rng.uniform(size=100_000), rng.uniform(size=100_000), 2.0)
    assert abs(mean(result**2).z(2)) < SURE
    assert abs(mean(result**4).z(12)) < SURE


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_ends_of_the_unit_interval_give_finite_numbers(alpha, dtype):
    """0 and the largest number below 1, in all pairs, and antisymmetric about 1/2."""
    ends = np.asarray([0.0, np.nextafter(dtype(1), dtype(0)), 0.5, 0.25], dtype)
    first, two = (piece.reshape(-1) for piece in np.meshgrid(ends, ends))
    result = stable_variates(first, two, alpha)
    assert result.dtype == dtype
    assert np.all(np.isfinite(result))
    mirrored = stable_variates(1 - first, two, alpha)
    inside = (first > 0) & (first < ends[1])
    np.testing.assert_allclose(mirrored[inside], -result[inside], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alpha", [1.2, 2.0])
def test_a_step_moves_down_by_dt_and_jumps_by_the_root_of_dt(alpha, rng):
    problem, theta = curved("torch")
    scale, dt, decay = 0.3, 0.02, 0.5
    process = levy_sgd(problem, alpha, scale, dt, weight_decay=decay)
    first, two = numbers(process.draw, 0, rng, torch.asarray)
    jump = scale * dt ** (1 / alpha) * stable_variates(first, two, alpha)
    expected = theta - dt * (problem.gradient(theta) + decay * theta) + jump
    torch.testing.assert_close(process.step(theta, (first, two)), expected, rtol=1e-12, atol=0)
    assert process.dt == dt


@pytest.mark.parametrize("alpha", [1.2, 1.8])
def test_in_a_well_it_rests_as_a_sum_of_shrinking_jumps(alpha):
    """theta' = (1 - h dt) theta + scale dt^(1/alpha) S rests as s S, a geometric series.

    s^alpha = scale^alpha dt / (1 - (1 - h dt)^alpha): no limit of small dt; 4000 chains after the
    start has shrunk by 0.7^40 = 10^-6, in two directions of one curvature.
    """
    h, dt, scale = 1.5, 0.2, 0.4
    centre = jnp.zeros((1, 2))
    well = Problem(lambda t, c: h / 2 * ((t - c) ** 2).sum(1), (centre,))
    process = levy_sgd(well, alpha, scale, dt)
    path = simulate(process, jax.random.key(3), jnp.zeros((4000, 2)), steps=40, every=40)
    remainder = np.asarray(path.theta[:, -1])
    power = scale**alpha * dt / (1 - (1 - h * dt) ** alpha)
    expected = np.exp(-(WAVES[:, None] ** alpha) * power)
    assert np.all(abs(mean(np.cos(WAVES[:, None] * remainder[:, None, :])).z(expected)) < SURE)


QUIET = noise.full_batch(bowl()).problem


@pytest.mark.parametrize("alpha", [0.0, -1.0, 2.1, float("nan")])
def test_an_alpha_without_a_law_is_refused(alpha):
    for call in (
        lambda: levy_sgd(QUIET, alpha, 0.1, 0.1),
        lambda: stable_variates(np.ones(2) / 3, np.ones(2) / 3, alpha),
    ):
        with pytest.raises(ValueError, match=rf"alpha .*not {alpha}"):
            call()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"scale": -0.1, "dt": 0.1}, "scale must be 0 or more and finite, not -0.1"),
        ({"scale": 0.1, "dt": 0.0}, "dt must be positive, not 0.0"),
        ({"scale": 0.1, "dt": 0.1, "weight_decay": -2.0}, "weight_decay must be .* not -2.0"),
    ],
)
def test_what_has_no_meaning_is_refused(how, words):
    with pytest.raises(ValueError, match=words):
        levy_sgd(QUIET, 1.5, **how)
