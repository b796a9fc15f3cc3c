"""Each model of noise: its law, outcome by outcome, and its twin, against dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from witnesses import LIBRARIES, SIZE, colours, curved, matrix, moments, noisy_gradients

from sgdnoise import noise
from sgdnoise.core import Diagonal, Factor, Isotropic
from sgdnoise.noise import (
    bernoulli,
    reshuffled,
    svag_weights,
    with_replacement,
    without_replacement,
)
from sgdnoise.noise._draws import with_sizes

pytestmark = pytest.mark.usefixtures("quick_to_compile")
FINITE = {
    "minibatch": lambda p: noise.minibatch(p, 2),
    "minibatch of 3": lambda p: noise.minibatch(p, 3),
    "minibatch without replacement": lambda p: noise.minibatch(p, 2, replacement=False),
    "reshuffled": lambda p: noise.from_weights(p, reshuffled(4, 2)),
    "bernoulli": lambda p: noise.from_weights(p, bernoulli(4, 2)),
    "svag": lambda p: noise.from_weights(p, svag_weights(without_replacement(4, 2), 3)),
    "label": lambda p: noise.label_noise(p, 2, 0.7),
    "label of a batch of 1": lambda p: noise.label_noise(p, 1, 0.7),
    "label without replacement": lambda p: noise.label_noise(p, 2, 0.7, without_replacement(4, 2)),
    "label, reshuffled": lambda p: noise.label_noise(p, 2, 0.7, reshuffled(4, 2)),
}
ROWS = np.random.default_rng(1).normal(size=(3, SIZE))
ADDED = {
    "isotropic": lambda p: noise.isotropic(p, 0.3),
    "additive factor": lambda p: noise.additive(p, lambda t: Factor(ROWS * t[0])),
    "additive diagonal": lambda p: noise.additive(p, lambda t: Diagonal(t**2)),
    "same_trace": lambda p: noise.same_trace(noise.minibatch(p, 2)),
    "same_diagonal": lambda p: noise.same_diagonal(noise.label_noise(p, 2, 0.7)),
    "same_diagonal of isotropic": lambda p: noise.same_diagonal(noise.isotropic(p, 0.3)),
    "same_trace of isotropic": lambda p: noise.same_trace(noise.isotropic(p, 0.3)),
    "quiet": noise.full_batch,
}
ALL = FINITE | ADDED


def dense(model, theta):
    """Its covariance at theta as a matrix."""
    return matrix(model.covariance(theta), SIZE, jnp.asarray)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("make", FINITE.values(), ids=FINITE.keys())
def test_over_all_outcomes_it_has_the_mean_and_covariance_it_claims(make, outputs):
    """Signs stand for normal numbers, exactly: the gradient is linear in the targets."""
    problem, theta = curved(outputs=outputs)
    model = make(problem)
    result, covariance = moments(noisy_gradients(model, theta))
    np.testing.assert_allclose(result, problem.gradient(theta), rtol=1e-10)
    np.testing.assert_allclose(covariance, dense(model, theta), rtol=1e-10, atol=1e-13)


def test_minibatch_noise_is_the_covariance_of_one_example_over_the_batch():
    problem, theta = curved()
    g = np.asarray(jax.jacrev(lambda t: problem.losses(t, *problem.examples))(theta))
    first = np.cov(g.T, bias=True)
    np.testing.assert_allclose(dense(noise.minibatch(problem, 2), theta), first / 2, rtol=1e-10)
    fewer = dense(noise.minibatch(problem, 3, replacement=False), theta)
    np.testing.assert_allclose(fewer, first / 3 * (4 - 3) / (4 - 1), rtol=1e-10)


def test_label_noise_adds_the_gauss_newton_matrix():
    """label_noise^2 / batch times the mean of J_i^T J_i, J_i the Jacobian of the outputs."""
    problem, theta = curved(outputs=2)
    inputs, targets = problem.examples

    def prediction(t):  # half the gradient of |f|^2 to f is f: the slope of the loss to y is y - f
        return targets - jax.grad(lambda y: problem.losses(t, inputs, y).sum())(targets)

    j = np.asarray(jax.jit(jax.jacobian(prediction))(theta)).reshape(-1, SIZE)
    added = dense(noise.label_noise(problem, 3, 0.7), theta) - dense(
        noise.minibatch(problem, 3), theta
    )
    np.testing.assert_allclose(added, 0.7**2 / 3 * j.T @ j / 4, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())
def test_the_twin_is_affine_in_white_numbers_and_has_the_covariance(make, rng):
    problem, theta = curved(outputs=2)
    model = make(problem)
    twin = jax.jit(lambda z: model.gaussian_gradient(theta, z))
    zeros, white = (
        jnp.zeros(with_sizes(model.normal, theta).size),
        jnp.asarray(rng.normal(size=with_sizes(model.normal, theta).size)),
    )
    b = jax.jit(jax.jacobian(twin))(zeros)
    np.testing.assert_allclose(twin(zeros), problem.gradient(theta), rtol=1e-12)
    np.testing.assert_allclose(twin(white), twin(zeros) + b @ white, rtol=1e-10)
    np.testing.assert_allclose(b @ b.T, dense(model, theta), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())
def test_made_gaussian_a_noise_steps_by_its_twin(make, rng):
    problem, theta = curved()
    model = make(problem)
    built = noise.gaussian(model)
    white = jnp.asarray(rng.normal(size=with_sizes(built.draw, theta).size))
    np.testing.assert_array_equal(
        built.gradient(theta, white), model.gaussian_gradient(theta, white)
    )
    np.testing.assert_array_equal(dense(built, theta), dense(model, theta))


@pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())
def test_its_covariance_takes_as_many_white_numbers_as_its_twin(make):
    problem, theta = curved(outputs=2)
    model = make(problem)
    covariance = model.covariance(theta)
    assert covariance.width == with_sizes(model.normal, theta).size
    b = colours(covariance, jnp.asarray) if covariance.width else np.zeros((SIZE, 0))
    np.testing.assert_allclose(b @ b.T, dense(model, theta), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())
def test_its_trace_and_diagonal_are_those_of_its_matrix(make):
    problem, theta = curved(outputs=2)
    covariance = make(problem).covariance(theta)
    c = matrix(covariance, SIZE, jnp.asarray)
    np.testing.assert_allclose(covariance.trace(), c.trace(), rtol=1e-10)
    np.testing.assert_allclose(covariance.diagonal(), c.diagonal(), rtol=1e-10)


@pytest.mark.parametrize("make", FINITE.values(), ids=FINITE.keys())
def test_same_trace_and_same_diagonal_keep_what_they_say_and_nothing_else(make):
    problem, theta = curved(outputs=2)
    model = make(problem)
    c = dense(model, theta)
    diagonal = dense(noise.same_diagonal(model), theta)
    np.testing.assert_allclose(diagonal, np.diag(np.diag(c)), rtol=1e-10)
    ball = dense(noise.same_trace(model), theta)
    np.testing.assert_allclose(ball, np.trace(c) / SIZE * np.eye(SIZE), rtol=1e-10)


@pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())
def test_torch_has_the_same_covariance_as_jax(make):
    result = {}
    for library, asarray in LIBRARIES.items():
        problem, theta = curved(library, outputs=2)
        if make is ADDED["additive factor"]:
            rows = asarray(ROWS)
            model = noise.additive(problem, lambda t, rows=rows: Factor(rows * t[0]))
        else:
            model = make(problem)
        result[library] = matrix(model.covariance(theta), SIZE, asarray)
    np.testing.assert_allclose(result["torch"], result["jax"], rtol=1e-11, atol=1e-13)


def test_isotropic_noise_is_isotropic():
    problem, theta = curved()
    model = noise.isotropic(problem, 0.3)
    assert isinstance(model.covariance(theta), Isotropic)
    np.testing.assert_allclose(dense(model, theta), 0.3 * np.eye(SIZE), rtol=1e-15)


def test_a_law_for_another_number_of_examples_is_refused():
    """jax would clamp an index out of range and say nothing."""
    problem, _ = curved(n=4)
    with pytest.raises(ValueError, match=r"5 examples .* 4"):
        noise.from_weights(problem, with_replacement(5, 2))


def test_label_noise_refuses_a_law_of_another_batch():
    problem, _ = curved(n=4)
    with pytest.raises(ValueError, match=r"batch of 3 .* 2"):
        noise.label_noise(problem, 3, 0.1, with_replacement(4, 2))
