"""Noise and laws of weights that a user brings: moments of what is drawn against what is said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sgdnoise import nets, noise
from sgdnoise.core import Problem
from sgdnoise.dynamics import langevin, sgd, simulate

N, DOF = 12, 8.0
FIXED = jnp.zeros(12)


def student(key, shape, dtype):
    return ((DOF - 2) / DOF) ** 0.5 * jax.random.t(key, DOF, shape, dtype)


def torch_student(generator, shape, dtype):
    white, chi = (torch.randn((k, *shape), generator=generator, dtype=dtype) for k in (1, 8))
    return ((DOF - 2) / DOF) ** 0.5 * white[0] / ((chi**2).mean(0)) ** 0.5


@pytest.fixture
def problem():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(N, 3)))
    return Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))


PROBABILITIES = np.arange(1.0, N + 1) / (N * (N + 1) / 2)


def drawn_gradients(model, chains=40_000):
    """Gradients at zero of many chains, from their first step of rate 1."""
    zero = jnp.zeros((chains, 3))
    return -np.asarray(simulate(sgd(model, 1.0), 0, zero, steps=1, every=1).theta[:, -1])


def check_moments(model, problem):
    found, zero = drawn_gradients(model), jnp.zeros(3)
    covariance = model.covariance(zero)
    dense = covariance.rows.T @ covariance.rows
    error = 4 / len(found) ** 0.5
    assert_allclose(found.mean(0), problem.gradient(zero), atol=error * dense.trace() ** 0.5)
    assert_allclose(np.cov(found.T), dense, atol=2 * error * dense.max())
    return found


def test_student_numbers_keep_mean_and_covariance_and_have_heavy_tails(problem):
    heavy = noise.non_gaussian(noise.minibatch(problem, 3), student)
    found = check_moments(heavy, problem)
    single = noise.non_gaussian(noise.isotropic(problem, 1.0), student)
    numbers = drawn_gradients(single)[:, 0]
    centred = numbers - numbers.mean()
    excess = (centred**4).mean() / (centred**2).mean() ** 2 - 3
    assert excess > 0.8  # of the law: 6 / (8 - 4) = 1.5
    assert len(np.unique(found[:, 0])) == len(found)


def test_drawn_numbers_depend_on_key_chain_and_step_alone(problem):
    process = sgd(noise.non_gaussian(noise.minibatch(problem, 3), student), 0.1)
    start = jnp.zeros((6, 3))
    whole = simulate(process, 1, start, steps=8, every=2)
    few = simulate(process, 1, start[:2], steps=8, every=2)
    assert_allclose(few.theta, whole.theta[:2], rtol=1e-6)
    other = simulate(process, 2, start, steps=8, every=2)
    assert not np.allclose(other.theta, whole.theta)


def test_a_walk_takes_numbers_of_torch():
    x = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))
    problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
    heavy = noise.non_gaussian(noise.isotropic(problem, 4.0), torch_student)
    steps = nets.walk(sgd(heavy, 1.0), torch.zeros(3), 0)
    found = torch.stack([next(steps) for _ in range(4000)])
    assert_allclose(found.var(0), np.full(3, 4.0), rtol=0.2)
    assert_allclose(found.mean(0), x.mean(0), atol=0.15)


@pytest.mark.parametrize("stretch", [None, 3])
def test_importance_sampling_is_unbiased_with_the_covariance_that_it_says(problem, stretch):
    law = noise.importance(PROBABILITIES, 4)
    law = law if stretch is None else noise.svag_weights(law, stretch)
    expected = (np.diag(1 / PROBABILITIES) - 1) / (N**2 * 4) * (stretch or 1)
    assert_allclose(law.factor.T @ law.factor, expected, atol=1e-12)
    model = noise.from_weights(problem, law)
    check_moments(model, problem)
    check_moments(noise.gaussian(model), problem)


def test_equal_probabilities_are_sampling_with_replacement(problem):
    equal = noise.from_weights(problem, noise.importance(np.ones(N), 4))
    plain = noise.minibatch(problem, 4)
    zero = jnp.zeros(3)
    dense = [c.rows.T @ c.rows for c in (m.covariance(zero) for m in (equal, plain))]
    assert_allclose(*dense, rtol=1e-5)


def test_class_balanced_batches_have_the_gradient_of_the_balanced_loss():
    rng = np.random.default_rng(1)
    labels = np.asarray([0] * 9 + [1] * 3)
    x = jnp.asarray(rng.normal(size=(N, 3)))
    balanced = 0.5 / np.bincount(labels)[labels]  # half of the draws from each class
    factors = jnp.asarray(N * balanced)

    def losses(theta, x, factor):
        return factor * ((theta - x) ** 2).sum(1) / 2

    problem = Problem(losses, (x, factors))
    law = noise.importance(balanced, 4)
    model = noise.from_weights(problem, law)
    index, weights = law.weights_of(jnp.linspace(0.01, 0.99, 4), jnp.float32)
    assert_allclose(weights * factors[index], np.full(4, 0.25), rtol=1e-5)
    expected = -(x[:9].mean(0) + x[9:].mean(0)) / 2
    found = drawn_gradients(model)
    assert_allclose(found.mean(0), expected, atol=0.03)


def test_a_law_of_ones_own(problem):
    scatter = np.linspace(0.1, 1.0, N)

    def weights_of(drawn, dtype):
        return None, ((1 + (drawn - 0.5) * scatter) / N).astype(dtype)

    covariance = np.diag(scatter**2 / 12 / N**2)
    law = noise.custom_weights(noise.Uniform(N), weights_of, covariance)
    check_moments(noise.from_weights(problem, law), problem)
    low = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    noise.custom_weights(noise.Uniform(6), weights_of, low @ low.T)  # negative by rounding
    for wrong in (np.ones((2, 3)), np.ones((0, 0)), -np.eye(3), np.triu(np.ones((3, 3)))):
        with pytest.raises(ValueError, match="the covariance must be"):
            noise.custom_weights(noise.Uniform(3), weights_of, wrong)


def test_what_needs_equal_examples_refuses_other_laws(problem):
    law = noise.importance(PROBABILITIES, 4)
    with pytest.raises(ValueError, match="treats all examples alike"):
        noise.gradient_covariance(problem, jnp.zeros(3), law=law)
    y = jnp.zeros((N, 3))
    pairs = Problem(lambda t, x, y: ((t - x - y) ** 2).sum(1) / 2, (problem.examples[0], y))
    with pytest.raises(ValueError, match="treats all examples alike"):
        noise.label_noise(pairs, 4, 0.1, law)
    for bad in ([0.5, 0.0], [0.5, -1.0], [np.nan, 1.0], [[0.5, 0.5]]):
        with pytest.raises(ValueError, match="positive numbers"):
            noise.importance(bad, 2)


def test_clipped_gradients_run_and_have_no_gaussian_twin(problem):
    short = noise.clipped(noise.minibatch(problem, 3), 0.2)
    found = drawn_gradients(short, 2000)
    assert np.linalg.norm(found, axis=1).max() < 0.2001
    long = noise.clipped(noise.minibatch(problem, 3), 1e6)
    plain = drawn_gradients(noise.minibatch(problem, 3), 2000)
    assert_allclose(drawn_gradients(long, 2000), plain, rtol=1e-5)
    with pytest.raises(ValueError, match="biased"):
        short.covariance(jnp.zeros(3))
    with pytest.raises(ValueError, match="biased"):
        simulate(langevin(short, 0.1), 0, jnp.zeros((2, 3)), steps=1, every=1)
    for wrong in (0.0, -1.0, "a", True, np.ones(2)):
        with pytest.raises(ValueError, match="norm must be a positive number"):
            noise.clipped(short, wrong)


@pytest.mark.parametrize(
    "sample",
    [
        lambda key, shape, dtype: jax.random.normal(key, (1,), dtype),
        lambda key, shape, dtype: np.zeros(shape, dtype),
        lambda key, shape, dtype: FIXED,
    ],
)
def test_numbers_of_another_shape_or_not_from_the_key_are_refused(problem, sample):
    wrong = noise.non_gaussian(noise.minibatch(problem, 3), sample)
    with pytest.raises(ValueError, match="a sampler must make"):
        simulate(sgd(wrong, 0.1), 0, jnp.zeros((4, 3)), steps=1, every=1)


def test_a_walk_refuses_numbers_of_another_shape():
    x = torch.ones(N, 3)
    problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
    wrong = noise.non_gaussian(noise.isotropic(problem, 1.0), lambda *_: torch.zeros(1))
    with pytest.raises(ValueError, match=r"must return a tensor \(3,\), not \(1,\)"):
        next(nets.walk(sgd(wrong, 1.0), torch.zeros(3), 0))
