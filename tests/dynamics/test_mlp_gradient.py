"""Gradients of dense layers written by hand are those of automatic differentiation."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from sgdnoise import noise
from sgdnoise.dynamics import langevin, mlp_problem, sgd, simulate
from sgdnoise.theory import MLP

pytestmark = pytest.mark.usefixtures("quick_to_compile")
NETS = [MLP((3, 4, 2)), MLP((2, 5, 3, 1), "relu"), MLP((4, 2, 2), "linear"), MLP((3, 2))]
FEW, MANY = 2, 9  # examples: fewer than the widest layer, and more


def task(net, n, seed=0):
    """A problem of a net, a theta, weights and shifts of targets."""
    rng = np.random.default_rng(seed)
    x, y, shift = (rng.normal(size=(n, net.widths[end])) for end in (0, -1, -1))
    theta, weights = rng.normal(size=net.size), rng.normal(size=n)
    return mlp_problem(net, jnp.asarray(x), jnp.asarray(y)), *map(
        jnp.asarray, (theta, weights, shift)
    )


@pytest.mark.parametrize("n", [FEW, MANY])
@pytest.mark.parametrize("net", NETS, ids=str)
def test_every_derivative_is_that_of_automatic_differentiation(net, n):
    problem, theta, weights, shift = task(net, n)
    direction = jnp.cos(jnp.arange(net.size))

    @jax.jit
    def all_of(theta, weights, shift):
        result = []
        for first in (problem, replace(problem, backward=None)):
            result += [first.gradient(theta), first.weighted_gradient(theta, weights)]
            result += [first.weighted_gradient(theta, weights, shift), first.hvp(theta, direction)]
        return result

    result = all_of(theta, weights, shift)
    for first, second in zip(result[:4], result[4:], strict=True):
        assert_allclose(first, second, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("n", [FEW, MANY])
@pytest.mark.parametrize("net", NETS, ids=str)
def test_the_gradient_is_the_slope_of_the_loss(net, n):
    problem, theta, weights, _ = task(net, n, seed=1)
    way, step = jnp.sin(1 + jnp.arange(net.size)), 1e-6
    total = jax.jit(lambda t: weights @ problem.losses(t, *problem.examples))
    slope = jax.jit(problem.weighted_gradient)(theta, weights) @ way
    measured = (total(theta + step * way) - total(theta - step * way)) / (2 * step)
    assert_allclose(slope, measured, rtol=1e-6)


@pytest.mark.parametrize("activation", ["tanh", "relu", "linear"])
def test_two_layers_are_those_of_theory(activation):
    net, rng = MLP((3, 4, 2), activation), np.random.default_rng(2)
    theta, x, y = rng.normal(size=20), rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    phi = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0), "linear": lambda z: z}[activation]
    outputs = phi(x @ theta[:12].reshape(3, 4)) @ theta[12:].reshape(4, 2)
    problem = mlp_problem(net, jnp.asarray(x), jnp.asarray(y))
    assert net.size == problem.size == 20
    assert_allclose(net.outputs(theta, x), outputs, rtol=1e-12)
    losses = 0.5 * np.sum((outputs - y) ** 2, axis=1)
    assert_allclose(problem.losses(jnp.asarray(theta), *problem.examples), losses, rtol=1e-12)


LAWS = {
    "minibatch": partial(noise.minibatch, batch_size=2),
    "label noise": partial(noise.label_noise, batch_size=2, label_noise=0.3),
}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("kind", [sgd, langevin])
def test_chains_are_those_of_automatic_differentiation(kind, law):
    problem, theta, *_ = task(MLP((3, 4, 2)), MANY)
    start = jnp.stack([theta, -theta])

    def ends(one):
        process = kind(law(one), 0.05)
        return simulate(process, jax.random.key(0), start, steps=6, every=6).theta

    assert_allclose(ends(problem), ends(replace(problem, backward=None)), rtol=1e-10)


def test_single_precision_stays_single():
    net = MLP((3, 4, 2))
    problem, theta, *_ = task(net, 5)
    single = replace(problem, examples=tuple(piece.astype("float32") for piece in problem.examples))
    assert single.gradient(theta.astype("float32")).dtype == np.float32


@pytest.mark.parametrize(
    ("net", "says"),
    [
        (MLP((2, 4, 2)), "lead from 3 numbers to 2"),
        (MLP((3, 4, 1)), "lead from 3 numbers to 2"),
        (MLP((3,)), "lead from 3 numbers to 2"),
        (MLP((3, 2), "sine"), "not 'sine'"),
    ],
)
def test_layers_that_do_not_fit_are_refused(net, says):
    with pytest.raises(ValueError, match=says):
        mlp_problem(net, jnp.zeros((5, 3)), jnp.zeros((5, 2)))
