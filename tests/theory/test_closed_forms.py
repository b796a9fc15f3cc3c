"""Closed forms against dense matrices and against the equations that they solve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov
from witnesses import HESSIAN, LIBRARIES

from sgdnoise import noise
from sgdnoise.core import Problem
from sgdnoise.theory import (
    MLP,
    label_noise_strength,
    residual_amplification,
    stationary_covariance,
)

pytestmark = pytest.mark.usefixtures("quick_to_compile")
NETS = [
    MLP((3, 4, 2)),
    MLP((2, 3, 1)),
    MLP((3, 2, 2), "relu"),
    MLP((2, 4, 2), "linear"),
]


def random_covariance(rng):
    rows = rng.normal(size=(5, 3))
    return rows.T @ rows


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.9])
def test_the_stationary_covariance_solves_its_lyapunov_equation(rate, xp, rng):
    c = random_covariance(rng)
    result = stationary_covariance(xp.asarray(HESSIAN), xp.asarray(c), rate)
    expected = solve_discrete_lyapunov(np.eye(3) - rate * HESSIAN, rate**2 * c)
    np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-10)


@pytest.mark.parametrize("shift", [-1.5, 1.0])
def test_without_a_stable_bowl_there_is_no_stationary_law(shift):
    """Curvatures below 0, or one above 2 / rate = 2.5."""
    with pytest.raises(ValueError, match=r"no stationary law.*2 / rate = 2\.5"):
        stationary_covariance(HESSIAN + shift * np.eye(3), np.eye(3), 0.8)


def test_label_noise_strength_is_half_the_spread_that_label_noise_makes(rng):
    """Noise label_noise^2 / batch H makes theta spread by S = 2 kappa I, to first order in rate."""
    h, label_noise, batch, rate = random_covariance(rng) + np.eye(3), 0.4, 3, 1e-6
    s = stationary_covariance(h, label_noise**2 / batch * h, rate)
    kappa = label_noise_strength(rate, label_noise, batch)
    np.testing.assert_allclose(s, 2 * kappa * np.eye(3), atol=1e-5 * kappa)


def test_residual_amplification_is_the_share_that_feeds_back():
    """Spread s gives each output's residual the square s Tr H / outputs, beside the labels'."""
    rate, trace, batch, outputs, label_noise, s = 0.1, 7.0, 2, 3, 0.4, 0.0
    for _ in range(100):
        s = rate / (2 * batch) * (label_noise**2 + s * trace / outputs)
    u = residual_amplification(rate, trace, batch, outputs)
    np.testing.assert_allclose(s, rate * label_noise**2 / (2 * batch) / (1 - u), rtol=1e-12)


@pytest.fixture(params=NETS, ids=str)
def net(request, rng):
    """A two-layer network, theta, inputs, targets."""
    shape = request.param
    d, h, o = shape.widths
    sizes = [h * (d + o), (6, d), (6, o)]
    return shape, *(rng.normal(size=size) for size in sizes)


def slow_outputs(shape, theta, inputs):
    """One product at a time, for differentiation."""
    d, h, o = shape.widths
    w, v = theta[: d * h], theta[d * h :]
    phi = {"tanh": jnp.tanh, "relu": jax.nn.relu, "linear": lambda z: z}[shape.activation]
    hidden = [phi(sum(inputs[:, i] * w[i * h + a] for i in range(d))) for a in range(h)]
    columns = [sum(hidden[a] * v[a * o + b] for a in range(h)) for b in range(o)]
    return jnp.stack(columns, axis=1)


def test_a_two_layer_network_computes_what_it_says(net, xp):
    shape, theta, inputs, targets = net
    f = np.asarray(slow_outputs(shape, theta, inputs))
    arrays = [xp.asarray(block) for block in (theta, inputs, targets)]
    assert shape.size == theta.size
    np.testing.assert_allclose(np.asarray(shape.outputs(*arrays[:2])), f, rtol=1e-12)
    expected = 0.5 * ((f - targets) ** 2).sum(1)
    np.testing.assert_allclose(np.asarray(shape.losses(*arrays)), expected, rtol=1e-12)


def test_traces_and_diagonal_are_those_of_dense_jacobians(net, xp):
    shape, theta, inputs, _ = net
    dense = jax.jit(jax.jacobian(lambda t: slow_outputs(shape, t, inputs)))
    j = np.asarray(dense(jnp.asarray(theta)))
    arguments = xp.asarray(theta), xp.asarray(inputs)
    np.testing.assert_allclose(np.asarray(shape.traces(*arguments)), (j**2).sum((1, 2)), rtol=1e-10)
    expected = (j**2).sum(1).mean(0)
    np.testing.assert_allclose(np.asarray(shape.diagonal(*arguments)), expected, rtol=1e-10)


def test_label_noise_of_a_two_layer_network_is_that_of_the_operator(net):
    shape, theta, inputs, targets = net
    problem = Problem(shape.losses, (jnp.asarray(inputs), jnp.asarray(targets)))
    c = noise.label_noise(problem, 3, 0.7).covariance(jnp.asarray(theta))
    diagonal, trace = c.diagonal(), float(c.trace())
    for asarray in (np.asarray, *LIBRARIES.values()):
        arrays = [asarray(block) for block in (theta, inputs, targets)]
        result = shape.label_noise_diagonal(*arrays, 3, 0.7)
        np.testing.assert_allclose(np.asarray(result), diagonal, rtol=1e-10)
        result = shape.label_noise_trace(*arrays, 3, 0.7)
        np.testing.assert_allclose(float(result), trace, rtol=1e-10)


def test_closed_forms_of_deeper_networks_are_refused():
    with pytest.raises(ValueError, match=r"holds for two layers, not for widths \(2, 3, 3, 1\)"):
        MLP((2, 3, 3, 1)).traces(jnp.zeros(18), jnp.zeros((1, 2)))


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="tanh, relu or linear, not 'sine'"):
        MLP((2, 3, 1), "sine").hidden(jnp.zeros(9), jnp.zeros((1, 2)))
