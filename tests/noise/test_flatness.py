"""Variance against flatness: what the measure finds, and how many things make it find a law."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers
from numpy.testing import assert_allclose
from witnesses import SURE, entries, value_and_error

from sgdnoise.noise import alignment_exponent, loss_width, variance_flatness
from sgdnoise.noise._measure._variance_flatness import principal_directions

P, RATE = 5, 0.03
CURVED = np.geomspace(0.05, 1, P)


def flatness(centre, direction):  # noqa: ARG001 - a quadratic has one curvature
    return (direction @ (CURVED * direction)) ** -0.5


def independent(variances, count, length, rng, *, every=4000):
    """Windows of theta <- theta - rate (h theta + xi), at rest, every so many steps.

    Between two of these the law is exact: one factor and one normal number each.
    """
    remainder = RATE * variances / (CURVED * (2 - RATE * CURVED))
    factor = (1 - RATE * CURVED) ** every
    theta, result = rng.normal(size=(count, P)) * remainder**0.5, []
    for _ in range(length):
        result.append(theta)
        kick = rng.normal(size=(count, P)) * (remainder * (1 - factor**2)) ** 0.5
        theta = factor * theta + kick
    return np.stack(result, axis=1)


def reshuffled(variances, count, length, rng, *, batches=10, epochs=60):
    """The same, every so many epochs, each step's noise one of a permutation that sums to zero.

    The noise of the batches of an epoch is independent in each direction, exactly.
    """
    decay = 1 - RATE * CURVED
    weights = RATE * decay ** np.arange(batches)[::-1, None]
    noise = rng.normal(size=(batches, P))
    noise = np.linalg.qr(noise - noise.mean(0))[0] * np.sqrt(batches * variances)
    theta, result = np.zeros((count, P)), []
    for at in range((length + 20) * epochs):  # 20 to come to rest
        order = rng.permuted(np.tile(np.arange(batches), (count, 1)), axis=1)
        theta = decay**batches * theta - np.einsum("kp,wkp->wp", weights, noise[order])
        if at % epochs == 0 and at >= 20 * epochs:
            result.append(theta)
    return np.stack(result, axis=1)


def resting_reshuffled(variances, batches):
    """Variance at the end of epochs: eta^2 c (m sum a^2k - (sum a^k)^2) / ((m - 1)(1 - a^2m))."""
    a = 1 - RATE * CURVED
    powers = a ** np.arange(batches)[:, None]
    deviation = batches * np.sum(powers**2, axis=0) - np.sum(powers, axis=0) ** 2
    return RATE**2 * variances * deviation / ((batches - 1) * (1 - a ** (2 * batches)))


def test_noise_like_the_curvature_makes_no_law(rng):
    """C = H: the resting variance knows no curvature, but for rate h / 2 of 1.5% at most.

    That over two thirds of the range of log F, in which chance directions differ, is an exponent
    of 0.03.
    """
    result = variance_flatness(independent(CURVED, 40, 400, rng), flatness, P)
    assert abs(result.exponent.value) < SURE * result.exponent.stderr + 0.03
    assert result.exponent.dof == 39


def test_noise_like_the_curvature_squared_makes_a_law(rng):
    """C = H^2: variance ~ h ~ F^-2; 300 points repel eigenvalues by under 2% of their ratio, 1%."""
    result = variance_flatness(independent(CURVED**2, 10, 300, rng), flatness, P)
    assert abs(result.exponent.value - 2) < SURE * result.exponent.stderr + 0.05


def test_reshuffling_makes_a_law_of_noise_like_the_curvature(rng):
    """C = H: variance ~ h^2 ~ F^-4, or what the exact one says; 150 points repel eigenvalues."""
    result = variance_flatness(reshuffled(CURVED, 8, 150, rng), flatness, P)
    exact = -alignment_exponent(CURVED**-0.5, resting_reshuffled(CURVED, 10)).value
    assert abs(exact - 4) < 0.1
    assert abs(result.exponent.value - exact) < SURE * result.exponent.stderr + 0.1


def test_a_window_too_short_makes_a_law_of_any_noise(rng):
    """C = H, of true exponent zero: 400 steps are few where 1 / (rate h) = 667."""
    result = variance_flatness(independent(CURVED, 40, 400, rng, every=1), flatness, P)
    assert result.exponent.value - 1 > SURE * result.exponent.stderr


def test_components_of_a_random_walk_make_a_law_with_no_curvature_at_all(rng):
    """t steps in many dimensions have variances as 1 / (4 sin^2 (pi j / 2t)), nearly 1 / j^2.

    In p dimensions they scatter by (2 / p)^1/2 of themselves.
    """
    t, p = 40, 20_000
    variances, _ = principal_directions(np.cumsum(rng.normal(size=(t, p)), axis=0), 6)
    expected = p / (t - 1) / (4 * np.sin(np.pi * np.arange(1, 7) / (2 * t)) ** 2)
    assert_allclose(variances, expected, rtol=SURE * (2 / p) ** 0.5)
    assert_allclose(variances / variances[0], 1 / np.arange(1, 7) ** 2, rtol=0.08)


def test_the_error_is_the_spread_of_repeats(rng):
    result = [
        variance_flatness(independent(CURVED**2, 6, 60, rng), flatness, P).exponent
        for _ in range(150)
    ]
    value, error = np.asarray([value_and_error(f) for f in result]).T
    reported = np.sqrt(np.mean(error**2)) / value.std(ddof=1)
    assert abs(reported - 1) < SURE * (1 / 300 + 1 / (2 * 5 * 150)) ** 0.5


def test_principal_components_are_those_of_the_covariance(xp, rng):
    window = rng.normal(size=(9, 4)) * [1, 2, 3, 4] + 100
    variances, directions = map(np.asarray, principal_directions(xp.asarray(window), 3))
    values, vectors = np.linalg.eigh(np.cov(window.T))
    assert_allclose(variances, values[:0:-1], rtol=1e-10)
    assert_allclose(abs(directions @ vectors[:, :0:-1]), np.eye(3), atol=1e-9)


def test_each_library_finds_the_same_law(xp, rng):
    windows = independent(CURVED**2, 2, 20, rng)
    there = xp.asarray(CURVED)
    result = variance_flatness(xp.asarray(windows), lambda c, d: float(d @ (there * d)) ** -0.5, P)
    expected = variance_flatness(windows, flatness, P)
    assert_allclose(result.variances, expected.variances, rtol=1e-9)
    assert_allclose(result.flatness, expected.flatness, rtol=1e-9)
    assert_allclose(entries(result.exponent), entries(expected.exponent), rtol=1e-9)


@given(
    seed=integers(0, 2**32 - 1),
    steep=floats(1e-6, 1e6),
    low=floats(1e-6, 1e6),
    factor=floats(1.01, 100),
)
def test_the_width_of_a_bowl_is_known(seed, steep, low, factor):
    direction = np.random.default_rng(seed).normal(size=3)
    direction /= np.linalg.norm(direction)

    def loss(theta):
        return low + steep / 2 * np.sum((theta - 1) ** 2)

    expected = 2 * (2 * (factor - 1) * low / steep) ** 0.5
    assert_allclose(loss_width(loss, np.ones(3), direction, factor=factor), expected, rtol=1e-6)


def test_a_width_has_two_sides():
    """exp doubles after log 2 to one side; to the other the loss is made to double after 3."""

    def loss(theta):
        return np.exp(theta[0]) if theta[0] > 0 else 1 - theta[0] / 3

    result = loss_width(loss, np.zeros(1), np.ones(1), factor=2)
    assert_allclose(result, np.log(2) + 3, rtol=1e-10)


def test_flatness_by_width_falls_as_the_root_of_curvature(rng):
    """The two measures of flatness are the same but for a factor, hence so are the exponents."""
    windows = independent(CURVED**2, 3, 50, rng) - 0.0

    def wide(centre, direction):
        return loss_width(lambda t: 1 + (t - centre) @ (CURVED * (t - centre)), centre, direction)

    first, second = (
        variance_flatness(windows, settings, P).exponent for settings in (flatness, wide)
    )
    assert_allclose(entries(second), entries(first), rtol=1e-8)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: variance_flatness(np.ones((1, 9, 5)), flatness, 4), "2 windows, not 1"),
        (
            lambda: principal_directions(np.ones((4, 9)), 4),
            "4 points in 9 dimensions do not have 4",
        ),
        (
            lambda: principal_directions(np.ones((9, 3)), 0),
            "9 points in 3 dimensions do not have 0",
        ),
        (lambda: loss_width(lambda t: 0.0, np.zeros(1), np.ones(1)), "a factor, not from 0"),
        (lambda: loss_width(lambda t: 1.0, np.zeros(1), np.ones(1), factor=1), "above 1, not 1"),
        (
            lambda: loss_width(lambda t: 1.0, np.zeros(1), np.ones(1)),
            "stays below along a direction",
        ),
    ],
)
def test_what_has_no_law_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
