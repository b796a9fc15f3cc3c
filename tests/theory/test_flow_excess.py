"""The excess loss on a flow: against the covariance of theta, closed forms, and simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from witnesses import SURE

from sgdnoise import noise
from sgdnoise.core import mean
from sgdnoise.dynamics import mlp_problem, sgd, simulate
from sgdnoise.theory import (
    MLP,
    flow_excess,
    hessian_trace,
    label_noise_covariance,
    label_noise_excess,
    label_noise_strength,
    label_noise_task,
)

STEP = {"learning_rate": 0.05, "batch_size": 4}
SIGMA = 0.3


@pytest.fixture
def network():
    """Inputs (n, d) and three layers."""
    rng = np.random.default_rng(0)
    shapes = (3, 4), (4, 4), (4, 2)
    return rng.normal(size=(30, 3)), [0.6 * rng.normal(size=shape) for shape in shapes]


def jacobian_of(x, layers):
    """The derivatives (n, o, p) of the outputs by all weights."""
    net = MLP((3, 4, 4, 2), "linear")
    theta = jnp.asarray(np.concatenate([w.ravel() for w in layers]))
    return np.asarray(jax.jacobian(lambda t: net.outputs(t, jnp.asarray(x)))(theta), float)


def test_without_feedback_it_is_that_of_a_quadratic_loss(network):
    x, layers = network
    task, flat = label_noise_task(x, 2, SIGMA), jacobian_of(x, layers).reshape(60, -1)
    values = np.linalg.eigvalsh(flat.T @ flat / 30)
    [excess] = flow_excess(task, layers, with_feedback=False, **STEP)
    np.testing.assert_allclose(excess, label_noise_excess(values, 0.05, SIGMA, 4), rtol=1e-5)
    [excess] = flow_excess(task, layers, with_feedback=False, discrete_steps=0.0, **STEP)
    kappa_trace = label_noise_strength(0.05, SIGMA, 4) * hessian_trace(task.moment, layers)
    np.testing.assert_allclose(excess, kappa_trace, rtol=1e-8)


def test_with_feedback_it_is_that_of_the_covariance_of_theta(network):
    x, layers = network
    jacobian = jacobian_of(x, layers)
    rows = label_noise_covariance(jacobian, label_noise=SIGMA, **STEP).rows
    expected = np.sum((jacobian.reshape(60, -1) @ rows.T) ** 2) / 60
    [excess] = flow_excess(label_noise_task(x, 2, SIGMA), layers, **STEP)
    np.testing.assert_allclose(excess, expected, rtol=1e-5)  # single precision of jax


def test_labels_of_the_model_make_label_noise_of_unit_variance(network):
    x, layers = network
    task = label_noise_task(x, 2, 1.0)
    drawn = flow_excess(task, layers, curvature=np.kron(task.moment, np.eye(2)), **STEP)
    np.testing.assert_allclose(drawn, flow_excess(task, layers, with_feedback=False, **STEP))


def test_a_path_gives_a_number_at_each_time(network):
    x, layers = network
    task = label_noise_task(x, 2, SIGMA)
    path = [np.stack([w, 1.1 * w]) for w in layers]
    numbers = [flow_excess(task, [f * w for w in layers], **STEP)[0] for f in (1.0, 1.1)]
    np.testing.assert_allclose(flow_excess(task, path, **STEP), numbers, rtol=1e-12)
    with pytest.raises(ValueError, match="do not chain"):
        flow_excess(task, layers[:2], **STEP)


def test_the_mean_loss_of_chains_is_the_excess(network):
    """Label noise so small that the minimum does not move and the loss is quadratic."""
    x, layers = network
    net = MLP((3, 4, 4, 2), "linear")
    theta = jnp.asarray(np.concatenate([w.ravel() for w in layers]), jnp.float32)
    inputs = jnp.asarray(x, jnp.float32)
    problem = mlp_problem(net, inputs, net.outputs(theta, inputs))
    sigma = 0.02
    process = sgd(noise.label_noise(problem, 4, sigma), 0.05)
    start = jnp.tile(theta, (400, 1))
    losses = simulate(process, 0, start, steps=2000, every=100, observe=problem.value)
    measured = mean(np.asarray(losses, float)[:, 5:].mean(1))
    [excess] = flow_excess(label_noise_task(x, 2, sigma), layers, **STEP)
    assert abs(measured.z(excess)) < SURE
    assert measured.stderr < 0.02 * excess
