"""Noise by second moments is the noise by examples: the same mean, covariance, and values."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from witnesses import LIBRARIES, matrix

from sgdnoise import noise
from sgdnoise.core import Problem
from sgdnoise.noise import (
    bernoulli,
    gaussian_weights,
    linear_network_moments,
    moment_slopes,
    with_replacement,
    without_replacement,
)
from sgdnoise.noise._linear_moments import _layers
from sgdnoise.theory import MLP

pytestmark = pytest.mark.usefixtures("quick_to_compile")
N = 9
LAWS = {
    "with replacement": with_replacement(N, 2),
    "without": without_replacement(N, 4),
    "bernoulli": bernoulli(N, 3),
}
WIDTHS = [(2, 3, 2), (3, 2, 4, 1), (2, 2)]


def network(widths, library="jax", clean=False, seed=0):
    """A linear network, its loss layer by layer, and a theta."""
    asarray = LIBRARIES[library]
    rng = np.random.default_rng(seed)
    inputs, targets = rng.normal(size=(N, widths[0])), rng.normal(size=(N, widths[-1]))
    if clean:
        targets = inputs @ rng.normal(size=(widths[0], widths[-1]))
    shapes = list(pairwise(widths))

    def losses(theta, x, y):
        for a, b in shapes:
            x, theta = x @ theta[: a * b].reshape(a, b), theta[a * b :]
        return 0.5 * ((x - y) ** 2).sum(1)

    theta = rng.normal(size=sum(a * b for a, b in shapes))
    return Problem(losses, (asarray(inputs), asarray(targets))), asarray(theta)


def mean_and_covariance(model, theta):
    """Of the twin, which is linear in white numbers."""
    zero = jnp.zeros(model.normal.size)
    root = jax.jit(jax.jacobian(model.gaussian_gradient, 1))(theta, zero)
    return model.gaussian_gradient(theta, zero), root @ root.T


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
def test_mean_and_covariance_are_those_of_sampled_examples(law, widths):
    problem, theta = network(widths)
    result = mean_and_covariance(linear_network_moments(problem, widths, law), theta)
    plain = noise.from_weights(problem, law)
    for first, two in zip(result, mean_and_covariance(plain, theta), strict=True):
        np.testing.assert_allclose(first, two, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result[0], problem.gradient(theta), rtol=1e-10)


@pytest.mark.parametrize(
    "law", [LAWS["with replacement"], LAWS["without"]], ids=["with", "without"]
)
def test_label_noise_adds_its_own(law):
    problem, theta = network((2, 3, 2))
    model = linear_network_moments(problem, MLP((2, 3, 2), "linear"), law, label_noise=0.7)
    plain = noise.label_noise(problem, law.batch_size, 0.7, law)
    for first, two in zip(*(mean_and_covariance(m, theta) for m in (model, plain)), strict=True):
        np.testing.assert_allclose(first, two, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        matrix(model.covariance(theta), len(theta), jnp.asarray),
        mean_and_covariance(model, theta)[1],
        rtol=1e-9,
        atol=1e-12,
    )


def test_with_white_numbers_turned_into_each_other_the_gradients_are_equal(rng):
    """z of the examples makes sum_i w_i phi_i; the same sum by the factor takes others."""
    problem, theta = network((2, 3, 2))
    law, z = LAWS["with replacement"], rng.normal(size=N)
    model, plain = (
        linear_network_moments(problem, (2, 3, 2), law),
        noise.gaussian(noise.from_weights(problem, law)),
    )
    _, weights = gaussian_weights(law).weights_of(jnp.asarray(z), float)
    x, y = problem.examples
    truth = np.concatenate([np.ravel(x.T * weights @ piece) for piece in (x, y)])

    def seen(white):
        """A and B that white numbers make, read off networks of one layer with M = 0 and M = 1."""
        first = linear_network_moments(Problem(single, problem.examples), (2, 2), law)
        smallest = first.gaussian_gradient(jnp.zeros(4), white)
        return jnp.concatenate(
            [first.gaussian_gradient(jnp.eye(2).ravel(), white) - smallest, -smallest]
        )

    at_zero, root = (
        seen(jnp.zeros(model.normal.size)),
        jax.jacobian(seen)(jnp.zeros(model.normal.size)),
    )
    white = np.linalg.lstsq(root, truth - at_zero, rcond=None)[0]
    result = model.gaussian_gradient(theta, jnp.asarray(white))
    np.testing.assert_allclose(result, plain.gradient(theta, jnp.asarray(z)), rtol=1e-9)


def single(theta, x, y):
    return 0.5 * ((x @ theta.reshape(2, 2) - y) ** 2).sum(1)


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_slopes_are_the_gradient_of_their_quadratic_form(widths, rng):
    theta = network(widths)[1]
    a, b = rng.normal(size=(widths[0],) * 2), rng.normal(size=(widths[0], widths[-1]))
    a = jnp.asarray(a + a.T)

    def form(theta):
        product = jnp.linalg.multi_dot([jnp.eye(widths[0]), *_layers(theta, widths)])
        return jnp.trace(product.T @ a @ product) / 2 - jnp.trace(product.T @ b)

    np.testing.assert_allclose(
        moment_slopes(theta, widths, a, b), jax.grad(form)(theta), rtol=1e-10
    )


def test_as_few_numbers_are_drawn_as_the_moments_have_directions():
    """d (d + 1) / 2 + d o = 7 at d = o = 2; 3 if targets are linear in inputs; n - 1 if fewer."""
    law = LAWS["with replacement"]
    assert linear_network_moments(network((2, 3, 2))[0], (2, 3, 2), law).normal.size == 7
    assert (
        linear_network_moments(network((2, 3, 2), clean=True)[0], (2, 3, 2), law).normal.size == 3
    )
    few = network((2, 3, 2))[0].subset(np.arange(4))
    assert linear_network_moments(few, (2, 3, 2), with_replacement(4, 2)).normal.size == 3
    assert linear_network_moments(few, (2, 3, 2), bernoulli(4, 2)).normal.size == 4
    clean = linear_network_moments(
        network((2, 3, 2), clean=True)[0], (2, 3, 2), law, label_noise=0.1
    )
    assert clean.normal.size == 7


def test_discrete_steps_are_those_of_the_examples(rng):
    problem, theta = network((2, 3, 2))
    law, picked = LAWS["with replacement"], rng.integers(0, N, 2)
    model = linear_network_moments(problem, (2, 3, 2), law)
    assert model.draw == law.draw
    expected = problem.subset(picked).gradient(theta)
    np.testing.assert_allclose(model.gradient(theta, picked), expected, rtol=1e-12)


def test_torch_and_jax_agree_but_for_the_signs_of_the_directions():
    law, result = LAWS["with replacement"], []
    for library, asarray in LIBRARIES.items():
        problem, theta = network((2, 3, 2), library)
        model = linear_network_moments(problem, (2, 3, 2), law, label_noise=0.2)
        zero = model.gaussian_gradient(theta, asarray(np.zeros(7)))
        steps = [model.gaussian_gradient(theta, asarray(e)) - zero for e in np.eye(7)]
        assert library != "torch" or all(s.dtype == torch.float64 for s in steps)
        root = np.stack([np.asarray(s) for s in steps])
        result.append((np.asarray(zero), root.T @ root))
    for first, two in zip(*result, strict=True):
        np.testing.assert_allclose(first, two, rtol=1e-9, atol=1e-12)


def test_data_that_are_not_known_yet_keep_all_directions():
    """Chains given data of their own: the number drawn cannot depend on what they are."""
    problem, theta = network((2, 3, 2), clean=True)
    law, sizes = LAWS["with replacement"], []

    def covariance(inputs):
        model = linear_network_moments(
            Problem(problem.losses, (inputs, problem.examples[1])), (2, 3, 2), law
        )
        sizes.append(model.normal.size)
        root = jax.jacobian(model.gaussian_gradient, 1)(theta, jnp.zeros(model.normal.size))
        return root @ root.T

    result = jax.jit(covariance)(problem.examples[0])
    assert sizes == [7]
    expected = mean_and_covariance(linear_network_moments(problem, (2, 3, 2), law), theta)[1]
    np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-12)


def test_what_second_moments_cannot_do_is_refused():
    problem, _ = network((2, 3, 2))
    law = LAWS["with replacement"]
    with pytest.raises(ValueError, match="all of a linear network, not of one of tanh"):
        linear_network_moments(problem, MLP((2, 3, 2)), law)
    with pytest.raises(ValueError, match="cannot map examples of shapes"):
        linear_network_moments(problem, (3, 3, 2), law)
    bent = Problem(MLP((2, 3, 2)).losses, problem.examples)
    with pytest.raises(ValueError, match=r"are not 1/2 .x M - y.\^2 of a linear network"):
        linear_network_moments(bent, (2, 3, 2), law)
    with pytest.raises(ValueError, match=r"not -0\.1"):
        linear_network_moments(problem, (2, 3, 2), law, label_noise=-0.1)
    with pytest.raises(ValueError, match="needs a law of minibatches, not one whose batch is None"):
        linear_network_moments(problem, (2, 3, 2), LAWS["bernoulli"], label_noise=0.1)
