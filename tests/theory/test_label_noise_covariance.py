"""The covariance under label noise against exact second moments over all batches."""

from itertools import combinations, product

import numpy as np
import pytest
from numpy.testing import assert_allclose
from witnesses import number

from derivations import label_noise_covariance as derived
from sgdnoise.theory import label_noise_covariance

RATE, SIGMA = 0.15, 0.7


@pytest.fixture
def jacobian(rng):
    return rng.normal(size=(4, 2, 3))


def stationary(jacobian, residuals, draws):
    """The covariance that a step keeps about its mean, over all equally likely batches.

    theta -> (1 - rate H_b) theta - rate (g_b + noise), by a linear system of its moments.
    """
    p = jacobian.shape[2]
    one = np.eye(p)
    mean, square = np.zeros((p, p)), np.zeros((p * p, p * p))
    offset, kick, mixed = np.zeros(p), np.zeros((p, p)), []
    for drawn in draws:
        rows = jacobian[list(drawn)].reshape(-1, p) / len(drawn) ** 0.5
        step = one - RATE * rows.T @ rows
        gradient = RATE * np.einsum("iap,ia->p", jacobian[list(drawn)], residuals[list(drawn)])
        gradient /= len(drawn)
        share = 1 / len(draws)
        mean += share * step
        square += share * np.kron(step, step)
        offset -= share * gradient
        noise = (RATE * SIGMA) ** 2 * rows.T @ rows / len(drawn)
        kick += share * (noise + np.outer(gradient, gradient))
        mixed.append((share, step, gradient))
    center = np.linalg.solve(one - mean, offset)
    for share, step, gradient in mixed:
        cross = step @ np.outer(center, gradient)
        kick -= share * (cross + cross.T)
    moment = np.linalg.solve(np.eye(p * p) - square, kick.ravel()).reshape(p, p)
    return center, moment - np.outer(center, center)


def dense(factor):
    return factor.rows.T @ factor.rows


WITH = list(product(range(4), repeat=2))
WITHOUT = list(combinations(range(4), 2))


@pytest.mark.parametrize(("draws", "factor"), [(WITH, 1.0), (WITHOUT, 2 / 3)])
def test_it_is_exact_where_outputs_are_linear_in_theta(jacobian, draws, factor):
    center, exact = stationary(jacobian, np.zeros((4, 2)), draws)
    result = label_noise_covariance(
        jacobian,
        label_noise=SIGMA,
        learning_rate=RATE,
        batch_size=2,
        population_factor=factor,
    )
    assert_allclose(center, 0, atol=1e-14)
    assert_allclose(dense(result), exact, rtol=1e-6)


@pytest.mark.parametrize(("draws", "factor"), [(WITH, 1.0), (WITHOUT, 2 / 3)])
def test_residuals_at_a_minimum_add_their_noise(jacobian, rng, draws, factor):
    """Residuals that are orthogonal to all outputs' derivatives: the loss is at its minimum."""
    residuals = rng.normal(size=(4, 2))
    columns = jacobian.reshape(8, 3)
    residuals -= (columns @ np.linalg.lstsq(columns, residuals.ravel(), rcond=None)[0]).reshape(
        4, 2
    )
    center, exact = stationary(jacobian, residuals, draws)
    result = label_noise_covariance(
        jacobian,
        residuals,
        label_noise=SIGMA,
        learning_rate=RATE,
        batch_size=2,
        population_factor=factor,
    )
    assert_allclose(center, 0, atol=1e-13)
    assert_allclose(dense(result), exact, rtol=1e-6)


def test_one_parameter_is_as_derived(rng):
    outputs = rng.normal(size=5)
    letters = {"h": (outputs**2).mean(), "q": (outputs**4).mean()}
    letters |= {"eta": RATE, "sigma": SIGMA, "B": 3, "f": 0.5}
    result = label_noise_covariance(
        outputs[:, None, None],
        label_noise=SIGMA,
        learning_rate=RATE,
        batch_size=3,
        population_factor=0.5,
    )
    assert_allclose(dense(result), [[number(derived.label_noise_variance(), **letters)]], rtol=1e-7)


def test_to_first_order_it_is_a_projector(rng):
    """rate sigma^2 / (2 B) along what H sees, for fewer outputs than parameters and for more."""
    for shape in [(2, 1, 5), (6, 2, 5)]:
        jacobian = rng.normal(size=shape)
        result = label_noise_covariance(
            jacobian,
            label_noise=SIGMA,
            learning_rate=RATE,
            batch_size=4,
            discrete_steps=0,
            with_feedback=False,
        )
        rows = jacobian.reshape(-1, 5)
        seen = np.linalg.pinv(rows) @ rows
        assert_allclose(dense(result), RATE * SIGMA**2 / 8 * seen, atol=1e-12)


def test_it_grows_from_nothing_as_each_direction_relaxes():
    jacobian = np.asarray([[[1.0, 0.0]], [[0.0, 0.2]]])
    size = {"label_noise": SIGMA, "learning_rate": RATE, "batch_size": 4, "with_feedback": False}
    late = np.diag(dense(label_noise_covariance(jacobian, discrete_steps=0, **size)))
    early = np.diag(dense(label_noise_covariance(jacobian, discrete_steps=0, time=3.0, **size)))
    assert_allclose(early / late, -np.expm1(-2 * np.asarray([0.5, 0.02]) * 3.0), rtol=1e-10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 50.0}, "descent diverges"),
        ({"batch_size": 0}, "batch_size"),
        ({"residuals": np.zeros((3, 2))}, "do not fit"),
        ({"jacobian": np.zeros((4, 3))}, "examples, outputs, p"),
    ],
)
def test_wrong_input_is_one_sentence(jacobian, change, message):
    size = {"label_noise": SIGMA, "learning_rate": RATE, "batch_size": 2, "jacobian": jacobian}
    with pytest.raises(ValueError, match=message):
        label_noise_covariance(**(size | change))


def test_feedback_that_diverges_is_refused():
    jacobian = np.asarray([[[3.0]], [[0.1]], [[0.1]], [[0.1]]])
    with pytest.raises(ValueError, match="diverges"):
        label_noise_covariance(jacobian, label_noise=1.0, learning_rate=0.5, batch_size=1)
