"""A Problem's derivatives: those of jax and of torch, and both those of a dense witness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from witnesses import LIBRARIES, SIZE, curved

from sgdnoise.core import Problem

pytestmark = pytest.mark.usefixtures("quick_to_compile")
METHODS = ["value", "gradient", "gradients", "weighted", "tilted", "curvature"]


def arguments(name, rng):
    """What a method takes besides theta."""
    return {
        "weighted": [rng.normal(size=4)],
        "tilted": [rng.normal(size=4), rng.normal(size=(4, 2))],
        "curvature": [rng.normal(size=SIZE)],
    }.get(name, [])


def wavy(library="jax", seed=0):
    """Losses that are linear neither in theta nor in targets."""
    asarray, ft = LIBRARIES[library]
    rng = np.random.default_rng(seed)
    examples = asarray(rng.normal(size=(4, 2))), asarray(rng.normal(size=(4, 2)))

    def losses(t, x, y):
        return ((x * t[:2]) ** 2 * y**3 + t[2:4] * x * y**2 + t[4:6] ** 3 * x).sum(1) * t[6] * t[7]

    return Problem(losses, examples, ft), asarray(rng.normal(size=SIZE))


def each_loss(problem):
    """theta, targets -> the losses one by one, for dense derivatives."""
    *inputs, _ = problem.examples
    return lambda theta, targets: problem.losses(theta, *inputs, targets)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("make", [lambda lib: curved(lib, outputs=2), wavy], ids=["curved", "wavy"])
def test_jax_and_torch_agree(make, method, rng):
    given = arguments(method, rng)
    found = []
    for library, (asarray, _) in LIBRARIES.items():
        problem, theta = make(library)
        call = getattr(problem, method)
        call = jax.jit(call) if library == "jax" else call
        found.append(np.asarray(call(theta, *map(asarray, given))))
    np.testing.assert_allclose(*found, rtol=1e-12, atol=1e-14)


def test_jax_and_torch_agree_on_the_losses():
    found = []
    for library in LIBRARIES:
        problem, theta = curved(library)
        found.append(np.asarray(problem.losses(theta, *problem.examples)))
    np.testing.assert_allclose(*found, rtol=1e-12)


@pytest.mark.parametrize("make", [lambda: curved(outputs=2), wavy], ids=["curved", "wavy"])
def test_each_derivative_is_the_dense_one(make, rng):
    problem, theta = make()

    def losses(t):
        return problem.losses(t, *problem.examples)

    dense, weights, v = (
        jax.jit(jax.jacrev(losses))(theta),
        rng.normal(size=4),
        rng.normal(size=SIZE),
    )
    same = {
        "value": (problem.value(theta), losses(theta).mean()),
        "gradients": (problem.gradients(theta), dense),
        "gradient": (problem.gradient(theta), dense.mean(0)),
        "weighted": (problem.weighted(theta, jnp.asarray(weights)), weights @ dense),
        "curvature": (
            problem.curvature(theta, jnp.asarray(v)),
            jax.jit(jax.hessian(losses))(theta).mean(0) @ v,
        ),
    }
    for name, (found, expected) in same.items():
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("make", [lambda: curved(outputs=2), wavy], ids=["curved", "wavy"])
def test_tilted_adds_the_dense_mixed_derivative(make, rng):
    problem, theta = make()
    targets = problem.examples[-1]
    weights, shift = rng.normal(size=4), rng.normal(size=targets.shape)
    slopes = jax.jacobian(each_loss(problem), 0)
    plain, mixed = jax.jit(slopes)(theta, targets), jax.jit(jax.jacobian(slopes, 1))(theta, targets)
    expected = weights @ plain + np.einsum("ipjo,jo->p", mixed, shift)
    found = problem.tilted(theta, jnp.asarray(weights), jnp.asarray(shift))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("library", LIBRARIES)
def test_only_some_examples_are_those_examples_repetitions_and_all(library):
    asarray, _ = LIBRARIES[library]
    problem, theta = curved(library)
    drawn = asarray(np.asarray([2, 0, 2]))
    found = np.asarray(problem.only(drawn).gradients(theta))
    np.testing.assert_allclose(found, np.asarray(problem.gradients(theta))[[2, 0, 2]], rtol=1e-12)
    assert len(problem.only(drawn)) == 3
    assert len(problem) == 4


def test_relabelled_shifts_the_targets_and_nothing_else(rng):
    problem, theta = curved()
    inputs, targets = problem.examples
    shift = rng.normal(size=targets.shape)
    expected = problem.losses(theta, inputs, targets + shift)
    shifted = problem.relabelled(shift)
    np.testing.assert_array_equal(shifted.losses(theta, *shifted.examples), expected)
