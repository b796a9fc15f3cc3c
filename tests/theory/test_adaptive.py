"""Squared gradients and the preconditioner of Adam against all batches, and against derivations."""

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose
from witnesses import number

from derivations import adaptive as derived
from sgdnoise.core import Factor
from sgdnoise.theory import (
    adaptive_penalty,
    adaptive_preconditioner,
    label_noise_covariance,
    squared_gradients,
)

SIGMA, BATCH = 0.7, 2


@pytest.fixture
def jacobian(rng):
    return rng.normal(size=(3, 2, 4))


def test_squares_are_those_of_all_batches(jacobian, rng):
    """theta of covariance S, labels of variance sigma^2, and each of the nine batches alike."""
    covariance = Factor(rng.normal(size=(3, 4)))
    s, total = covariance.rows.T @ covariance.rows, np.zeros(4)
    for drawn in product(range(3), repeat=BATCH):
        rows = jacobian[list(drawn)].reshape(-1, 4)
        hessian = rows.T @ rows / BATCH
        total += np.diag(hessian @ s @ hessian + SIGMA**2 * hessian / BATCH) / 9
    result = squared_gradients(jacobian, covariance, label_noise=SIGMA, batch_size=BATCH)
    assert_allclose(result, total, rtol=1e-12)


def test_one_parameter_is_as_derived(rng):
    outputs = rng.normal(size=5)
    letters = {"h": (outputs**2).mean(), "q": (outputs**4).mean(), "s": 0.3}
    expected = number(derived.squared_gradient(), sigma=SIGMA, B=3, **letters)
    covariance = Factor(np.asarray([[0.3**0.5]]))
    result = squared_gradients(outputs[:, None, None], covariance, label_noise=SIGMA, batch_size=3)
    assert_allclose(result, [expected])


def test_jitter_under_a_preconditioner_and_momentum_is_as_derived():
    """One example and one output, of which nothing is sampled."""
    result = label_noise_covariance(
        np.full((1, 1, 1), 1.3),
        label_noise=SIGMA,
        learning_rate=0.1,
        batch_size=BATCH,
        discrete_steps=(1 - 0.9) / (1 + 0.9),
        with_feedback=False,
        preconditioner=[2.5],
    )
    kick = SIGMA**2 * 1.3**2 / BATCH
    letters = {"eta": 0.1, "P": 2.5, "h": 1.3**2, "c": kick, "beta": 0.9}
    expected = number(derived.preconditioned_variance(), **letters)
    assert_allclose(result.rows.T @ result.rows, [[expected]])


def test_a_preconditioner_changes_coordinates(jacobian, rng):
    """S of P is P^(1/2) S' P^(1/2), with S' of the jacobian J P^(1/2)."""
    p = rng.uniform(0.5, 2, 4)
    noise = {"label_noise": SIGMA, "learning_rate": 0.05, "batch_size": BATCH}
    result = label_noise_covariance(jacobian, preconditioner=p, **noise)
    other = label_noise_covariance(jacobian * p**0.5, **noise)
    scaled = np.outer(p**0.5, p**0.5) * (other.rows.T @ other.rows)
    assert_allclose(result.rows.T @ result.rows, scaled, rtol=1e-7)


def test_a_recursion_with_the_preconditioner_has_this_covariance(jacobian, rng):
    """Moments of theta <- theta - rate P (H_b theta + noise) over all nine batches."""
    p, rate = np.diag(rng.uniform(0.5, 2, 4)), 0.05
    square, kick = np.zeros((16, 16)), np.zeros((4, 4))
    for drawn in product(range(3), repeat=BATCH):
        rows = jacobian[list(drawn)].reshape(-1, 4) / BATCH**0.5
        step = np.eye(4) - rate * p @ rows.T @ rows
        square += np.kron(step, step) / 9
        kick += (rate * SIGMA) ** 2 * p @ rows.T @ rows @ p / BATCH / 9
    exact = np.linalg.solve(np.eye(16) - square, kick.ravel()).reshape(4, 4)
    result = label_noise_covariance(
        jacobian,
        preconditioner=np.diag(p),
        label_noise=SIGMA,
        learning_rate=rate,
        batch_size=BATCH,
    )
    assert_allclose(result.rows.T @ result.rows, exact, rtol=1e-6)


def test_the_force_is_the_gradient_of_the_penalty(rng):
    """kappa grad Tr(P H) with P held = rate sigma / (2 B^(1/2)) grad Tr D^(1/2)."""
    base, slope = rng.normal(size=(2, 3, 2, 4))

    def jacobian(t):
        return base + t * slope

    p = adaptive_preconditioner(jacobian(0.0), label_noise=SIGMA, batch_size=BATCH)
    step, rate = 1e-5, 0.05

    def held(t):
        return np.sum(p * np.sum(jacobian(t) ** 2, (0, 1))) / 3

    kappa = rate * SIGMA**2 / (4 * BATCH)
    force = kappa * (held(step) - held(-step)) / (2 * step)
    penalty = (adaptive_penalty(jacobian(step)) - adaptive_penalty(jacobian(-step))) / (2 * step)
    assert_allclose(force, rate * SIGMA / (2 * BATCH**0.5) * penalty, rtol=1e-6)
    equation = derived.adaptive_force().rhs
    factor = equation.subs(equation.atoms(derived.sp.Derivative).pop(), 1)
    letters = {str(symbol): symbol for symbol in factor.free_symbols}
    numbers = {letters["eta"]: rate, letters["sigma"]: SIGMA, letters["B"]: BATCH}
    assert_allclose(float(factor.subs(numbers)) * penalty, force, rtol=1e-6)


def test_parameters_without_gradients_need_eps():
    jacobian = np.asarray([[[1.0, 0.0]]])
    with pytest.raises(ValueError, match="number 1, have no gradient"):
        adaptive_preconditioner(jacobian, label_noise=1.0, batch_size=1)
    result = adaptive_preconditioner(jacobian, label_noise=1.0, batch_size=1, eps=0.5)
    assert_allclose(result, [1 / 1.5, 2.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_noise": 0.0}, "label_noise"),
        ({"batch_size": 0}, "batch_size"),
        ({"jacobian": np.ones((3, 4))}, "examples, outputs, p"),
        ({"eps": -1.0}, "eps"),
    ],
)
def test_wrong_arguments_are_named(jacobian, change, message):
    arguments = {"jacobian": jacobian, "label_noise": 1.0, "batch_size": 2} | change
    with pytest.raises(ValueError, match=message):
        adaptive_preconditioner(**arguments)
