"""Batch sharpness against all batches, its derived formula, and chains and walks that see it."""

from functools import partial
from itertools import combinations, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from witnesses import number

from derivations import edge as derived
from sgdnoise import noise
from sgdnoise.core import Problem
from sgdnoise.dynamics import moments, sgd, simulate
from sgdnoise.noise import batch_sharpness

N = 5
LIBRARIES = {"jax": jnp.asarray, "torch": torch.asarray}


def problem_of(asarray, rng, n=N):
    """A loss with curvatures that differ between examples and over theta."""
    inputs, targets = rng.normal(size=(n, 3)), rng.normal(size=n)
    xp = {"jax": jnp, "torch": torch}["torch" if asarray is torch.asarray else "jax"]

    def losses(theta, x, y):
        return (xp.tanh(x @ theta) - y) ** 2 / 2

    return Problem(losses, (asarray(inputs), asarray(targets)))


def brute_force(problem, theta, batches):
    """E[g^T H g] / E[|g|^2] over the batches, one after the other."""
    above, below = [], []
    for batch in batches:
        part = problem.subset(np.asarray(batch))
        g = part.gradient(theta)
        above.append(float(g @ part.hvp(theta, g)))
        below.append(float(g @ g))
    return np.mean(above) / np.mean(below)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_it_is_that_of_all_batches_without_replacement(library, batch, rng):
    asarray = LIBRARIES[library]
    problem, theta = problem_of(asarray, rng), asarray(rng.normal(size=3))
    expected = brute_force(problem, theta, combinations(range(N), batch))
    result = batch_sharpness(problem, theta, batch, with_replacement=False)
    assert_allclose(float(result), expected, rtol=1e-10)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_it_is_that_of_all_batches_with_replacement(library, batch, rng):
    asarray = LIBRARIES[library]
    problem, theta = problem_of(asarray, rng, n=3), asarray(rng.normal(size=3))
    expected = brute_force(problem, theta, product(range(3), repeat=batch))
    assert_allclose(float(batch_sharpness(problem, theta, batch)), expected, rtol=1e-10)


@pytest.mark.parametrize("n", [1, 2])
def test_few_examples_are_no_special_case(n, rng):
    problem, theta = problem_of(jnp.asarray, rng, n=n), jnp.asarray(rng.normal(size=3))
    for batch in range(1, n + 1):
        expected = brute_force(problem, theta, combinations(range(n), batch))
        result = batch_sharpness(problem, theta, batch, with_replacement=False)
        assert_allclose(float(result), expected, rtol=1e-10)


def test_more_examples_than_a_block(rng):
    """All examples at once are the batch of gradient descent."""
    problem, theta = problem_of(jnp.asarray, rng, n=70), jnp.asarray(rng.normal(size=3))
    g = problem.gradient(theta)
    expected = float(g @ problem.hvp(theta, g) / (g @ g))
    result = batch_sharpness(problem, theta, 70, with_replacement=False)
    assert_allclose(float(result), expected, rtol=1e-10)


def test_it_is_the_derived_formula_of_its_moments():
    """Three examples along one parameter, whose moments are computed by hand."""
    g, h = np.asarray([0.5, -1.0, 2.0]), np.asarray([1.0, 3.0, 0.5])
    problem = Problem(
        lambda theta, g, h: g * theta[0] + h * theta[0] ** 2 / 2, (jnp.asarray(g), jnp.asarray(h))
    )
    letters = {
        "q_0": g.mean() ** 2 * h.mean(),
        "q_1": (g**2).mean() * h.mean(),
        "q_2": (g * h).mean() * g.mean(),
        "q_3": (g**2 * h).mean(),
        "g_0": g.mean() ** 2,
        "g_1": (g**2).mean(),
    }
    for batch in (1, 4, 100):
        expected = number(derived.batch_sharpness(), B=batch, **letters)
        result = batch_sharpness(problem, jnp.zeros(1), batch)
        assert_allclose(float(result), expected, rtol=1e-12)


def test_chains_observe_it(rng):
    """As a number of theta; a chain that rests has that of its theta."""
    problem = problem_of(jnp.asarray, rng)
    start = jnp.asarray(rng.normal(size=(3, 3)))
    observed = moments(of=partial(batch_sharpness, problem, batch_size=2))
    process = sgd(noise.minibatch(problem, 2), 1e-9)
    result = simulate(process, 0, start, steps=2, every=1, observe=observed)
    expected = jax.vmap(lambda theta: batch_sharpness(problem, theta, 2))(start)
    assert_allclose(result.mean[:, 0], expected, rtol=1e-6)


def test_a_walk_in_torch_has_it(rng):
    from sgdnoise.nets import walk

    problem = problem_of(torch.asarray, rng)
    steps = walk(sgd(noise.minibatch(problem, 2), 0.1), torch.asarray(rng.normal(size=3)), 0)
    values = [float(batch_sharpness(problem, next(steps), 2)) for _ in range(3)]
    assert np.isfinite(values).all()
    assert len(set(values)) == 3


def test_sizes_that_no_batch_has_are_refused(rng):
    problem, theta = problem_of(jnp.asarray, rng), jnp.zeros(3)
    with pytest.raises(ValueError, match="batch_size"):
        batch_sharpness(problem, theta, 0)
    with pytest.raises(ValueError, match="at most the 5 examples, not 6"):
        batch_sharpness(problem, theta, 6, with_replacement=False)
