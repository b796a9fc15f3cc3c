"""A loss over a tree of parameters runs as chains, and comes back as trees."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from sgdnoise.dynamics import pytree_problem, sgd, simulate
from sgdnoise.noise import full_batch, minibatch


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["layers", "activation", "depth"],
    meta_fields=[],
)
@dataclasses.dataclass
class Module:
    """A network as of equinox: a tree that holds arrays, a function and a number."""

    layers: list
    activation: object
    depth: int

    def __call__(self, x):
        for w, b in self.layers[:-1]:
            x = self.activation(w @ x + b)
        w, b = self.layers[-1]
        return w @ x + b


@pytest.fixture
def given():
    rng = np.random.default_rng(0)
    shapes = [(4, 3), (2, 4)]
    layers = [(jnp.asarray(rng.normal(size=s)), jnp.asarray(rng.normal(size=s[0]))) for s in shapes]
    return Module(layers, jnp.tanh, 2), rng.normal(size=(30, 3)), rng.normal(size=(30, 2))


def losses(module, x, y):
    return ((jax.vmap(module)(x) - y) ** 2).sum(1)


def test_the_problem_has_the_loss_and_the_gradient_of_the_tree(given):
    module, x, y = given
    problem, theta, unravel = pytree_problem(losses, module, x, y)
    assert problem.size == theta.shape[0] == 4 * 3 + 4 + 2 * 4 + 2
    assert_allclose(problem.example_losses(theta), losses(module, x, y), rtol=1e-5)
    of_tree = jax.grad(lambda layers: losses(Module(layers, jnp.tanh, 2), x, y).mean())
    expected = jax.tree.leaves(of_tree(module.layers))
    found = jax.tree.leaves(unravel(problem.gradient(theta)).layers)
    for a, b in zip(found, expected, strict=True):
        assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_chains_come_back_as_trees(given):
    module, x, y = given
    problem, theta, unravel = pytree_problem(losses, module, x, y)
    start = jnp.broadcast_to(theta, (7, theta.shape[0]))
    path = simulate(sgd(minibatch(problem, 5), 0.01), 0, start, steps=20, every=10)
    tree = unravel(path.theta)
    assert tree.activation is jnp.tanh
    assert tree.layers[0][0].shape == (*path.theta.shape[:-1], 4, 3)
    one = unravel(path.theta[3, 1])
    assert_allclose(one.layers[1][1], tree.layers[1][1][3, 1])
    descent = simulate(sgd(full_batch(problem), 0.05), 0, theta[None], steps=200, every=200)
    after = losses(unravel(descent.theta[0, -1]), x, y).mean()
    assert float(after) < 0.5 * float(losses(module, x, y).mean())


def test_what_is_no_tree_of_parameters_is_refused(given):
    module, x, y = given
    with pytest.raises(ValueError, match="no arrays of real numbers"):
        pytree_problem(losses, {"name": "net", "size": jnp.arange(3)}, x, y)
    _, _, unravel = pytree_problem(losses, module, x, y)
    with pytest.raises(ValueError, match=r"theta must be \(..., 26\)"):
        unravel(jnp.zeros(25))


def test_scalars_of_numpy_are_parameters_and_complex_ones_are_refused():
    x, y = jnp.ones((4, 2)), jnp.ones(4)

    def of(tree, x, y):
        return (x @ tree["w"] + tree["b"] - y) ** 2

    tree = {"w": jnp.ones(2), "b": np.float64(0.5), "rate": 0.1}
    problem, theta, unravel = pytree_problem(of, tree, x, y)
    assert problem.size == 3
    assert unravel(theta)["rate"] == 0.1
    assert problem.gradient(theta).shape == (3,)
    with pytest.raises(ValueError, match="complex numbers"):
        pytree_problem(of, tree | {"w": 1j * jnp.ones(2)}, x, y)
