"""A Problem's derivatives: those of jax and of torch, and both those of a dense witness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from witnesses import LIBRARIES, SIZE, curved

from sgdnoise import noise
from sgdnoise.core import Problem

pytestmark = pytest.mark.usefixtures("quick_to_compile")
METHODS = {
    "value": "value",
    "gradient": "gradient",
    "gradients": "gradients",
    "weighted": "weighted_gradient",
    "with a target shift": "weighted_gradient",
    "hvp": "hvp",
}


def arguments(name, rng):
    """What a method takes besides theta."""
    return {
        "weighted": [rng.normal(size=4)],
        "with a target shift": [rng.normal(size=4), rng.normal(size=(4, 2))],
        "hvp": [rng.normal(size=SIZE)],
    }.get(name, [])


def wavy(library="jax", seed=0):
    """Losses that are linear neither in theta nor in targets."""
    asarray = LIBRARIES[library]
    rng = np.random.default_rng(seed)
    examples = asarray(rng.normal(size=(4, 2))), asarray(rng.normal(size=(4, 2)))

    def losses(t, x, y):
        return ((x * t[:2]) ** 2 * y**3 + t[2:4] * x * y**2 + t[4:6] ** 3 * x).sum(1) * t[6] * t[7]

    return Problem(losses, examples), asarray(rng.normal(size=SIZE))


def each_loss(problem):
    """theta, targets -> the losses one by one, for dense derivatives."""
    *inputs, _ = problem.examples
    return lambda theta, targets: problem.losses(theta, *inputs, targets)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("make", [lambda lib: curved(lib, outputs=2), wavy], ids=["curved", "wavy"])
def test_jax_and_torch_agree(make, method, rng):
    given = arguments(method, rng)
    result = []
    for library, asarray in LIBRARIES.items():
        problem, theta = make(library)
        call = getattr(problem, METHODS[method])
        call = jax.jit(call) if library == "jax" else call
        result.append(np.asarray(call(theta, *map(asarray, given))))
    np.testing.assert_allclose(*result, rtol=1e-12, atol=1e-14)


def test_jax_and_torch_agree_on_the_losses():
    result = []
    for library in LIBRARIES:
        problem, theta = curved(library)
        result.append(np.asarray(problem.losses(theta, *problem.examples)))
    np.testing.assert_allclose(*result, rtol=1e-12)


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
        "weighted_gradient": (
            problem.weighted_gradient(theta, jnp.asarray(weights)),
            weights @ dense,
        ),
        "hvp": (
            problem.hvp(theta, jnp.asarray(v)),
            jax.jit(jax.hessian(losses))(theta).mean(0) @ v,
        ),
    }
    for name, (result, expected) in same.items():
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("make", [lambda: curved(outputs=2), wavy], ids=["curved", "wavy"])
def test_a_target_shift_adds_the_dense_mixed_derivative(make, rng):
    problem, theta = make()
    targets = problem.examples[-1]
    weights, shift = rng.normal(size=4), rng.normal(size=targets.shape)
    slopes = jax.jacobian(each_loss(problem), 0)
    plain, mixed = jax.jit(slopes)(theta, targets), jax.jit(jax.jacobian(slopes, 1))(theta, targets)
    expected = weights @ plain + np.einsum("ipjo,jo->p", mixed, shift)
    result = problem.weighted_gradient(theta, jnp.asarray(weights), jnp.asarray(shift))
    np.testing.assert_allclose(result, expected, rtol=1e-12)


@pytest.mark.parametrize("library", LIBRARIES)
def test_only_some_examples_are_those_examples_repetitions_and_all(library):
    asarray = LIBRARIES[library]
    problem, theta = curved(library)
    drawn = asarray(np.asarray([2, 0, 2]))
    result = np.asarray(problem.subset(drawn).gradients(theta))
    np.testing.assert_allclose(result, np.asarray(problem.gradients(theta))[[2, 0, 2]], rtol=1e-12)
    assert len(problem.subset(drawn)) == 3
    assert len(problem) == 4


def test_relabelled_shifts_the_targets_and_nothing_else(rng):
    problem, theta = curved()
    inputs, targets = problem.examples
    shift = rng.normal(size=targets.shape)
    expected = problem.losses(theta, inputs, targets + shift)
    shifted = problem.with_target_shift(shift)
    np.testing.assert_array_equal(shifted.losses(theta, *shifted.examples), expected)


def test_the_library_of_the_examples_differentiates():
    assert curved("torch")[0].autodiff is torch.func
    assert curved("jax")[0].autodiff is jax
    assert Problem(lambda t, x: x @ t, (np.ones((2, 3)),)).autodiff is jax


@pytest.mark.parametrize("method", ["value", "gradient", "gradients"])
def test_a_problem_learns_its_size_from_the_first_theta_and_keeps_it(method):
    problem, theta = wavy()
    assert problem.size is None
    getattr(problem, method)(theta)
    assert problem.size == problem.subset(np.asarray([0, 1])).size == SIZE
    for wrong in (theta[:-1], theta[:0]):
        with pytest.raises(ValueError, match=rf"one vector of {SIZE} parameters, not .* shape"):
            problem.value(wrong)


CALLS = {
    "value": lambda p, t: p.value(t),
    "gradient": lambda p, t: p.gradient(t),
    "gradients": lambda p, t: p.gradients(t),
    "weighted": lambda p, t: p.weighted_gradient(t, p.examples[0][:, 0]),
    "with a target shift": lambda p, t: p.weighted_gradient(t, p.examples[0][:, 0], p.examples[1]),
    "hvp": lambda p, t: p.hvp(t, t),
    "minibatch": lambda p, t: noise.gaussian(noise.minibatch(p, 2)).gradient(
        t, p.examples[0][:, 0]
    ),
    "langevin": lambda p, t: noise.minibatch(p, 2).gaussian_gradient(t, p.examples[0][:, 0]),
    "covariance": lambda p, t: noise.minibatch(p, 2).covariance(t).trace(),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize("reduce", ["mean", "sum", "column"])
def test_losses_that_are_not_one_number_an_example_are_refused(reduce, call, library):
    problem, theta = curved(library)
    reduced = {
        "mean": lambda *given: problem.losses(*given).mean(),
        "sum": lambda *given: problem.losses(*given).sum(),
        "column": lambda *given: problem.losses(*given)[:, None],
    }[reduce]
    with pytest.raises(ValueError, match=r"one number for each of the . example"):
        call(Problem(reduced, problem.examples), theta)


def test_a_call_that_fails_leaves_the_size_open():
    sized, theta = curved()
    problem = Problem(sized.losses, sized.examples)
    with pytest.raises(TypeError):
        problem.value(theta[:3])  # too few to make its matrix of
    assert problem.size is None
    assert np.isfinite(problem.value(theta))
    assert problem.size == SIZE


@pytest.mark.parametrize(
    ("examples", "sentence"),
    [
        ((), "not an empty tuple"),
        ((jnp.ones((3, 2)), jnp.ones(2)), r"one length, not \[3, 2\]"),
        ((jnp.ones((3, 2)), torch.ones(3)), "not of torch and of another"),
        ((1.0,), "arrays with a leading axis"),
    ],
)
def test_examples_that_are_not_arrays_of_one_length_and_library_are_refused(examples, sentence):
    with pytest.raises(ValueError, match=sentence):
        Problem(lambda theta, *_: theta, examples)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_list_of_indices_is_a_subset(library):
    problem, theta = curved(library)
    chosen = np.asarray(problem.gradients(theta))[[2, 0]]
    np.testing.assert_allclose(problem.subset([2, 0]).gradients(theta), chosen, rtol=1e-12)
