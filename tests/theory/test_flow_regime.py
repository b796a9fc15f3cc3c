"""Small parameters of the flow against numerical derivatives, and its error against descent."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from witnesses import SURE

from sgdnoise import noise
from sgdnoise.core import Problem
from sgdnoise.dynamics import sgd, simulate
from sgdnoise.theory import (
    MLP,
    FlowLimits,
    FlowRegime,
    amplification,
    flow_regime,
    label_noise_flow,
    label_noise_task,
    residual_task,
    sharpness,
)
from sgdnoise.theory._linear_task import jitter_response

INSIDE = FlowRegime(0.05, 0.2, 0.02, 0.01, 0.02)
STEP = {"learning_rate": 0.05, "batch_size": 4}


def network(widths, rng, examples=30):
    """Inputs (n, d) and weights (in, out) of each layer."""
    x = rng.normal(size=(examples, widths[0])) * np.linspace(0.6, 1.3, widths[0])
    return x, [rng.normal(size=(i, o)) / i**0.5 for i, o in pairwise(widths)]


def derivative(function, layers):
    """That of a function of the layers to all weights, by central differences.  (m, p)"""
    cuts = np.cumsum([w.size for w in layers])[:-1]
    theta = np.concatenate([w.ravel() for w in layers])

    def value(flat):
        parts = np.split(flat, cuts)
        return function([b.reshape(w.shape) for b, w in zip(parts, layers, strict=True)]).ravel()

    units = 1e-6 * np.eye(len(theta))
    return np.stack([(value(theta + u) - value(theta - u)) / 2e-6 for u in units], axis=1)


def product_of(layers):
    return np.linalg.multi_dot(layers)


@pytest.mark.parametrize("population_factor", [1.0, 0.4])
def test_the_jitter_of_theta_solves_its_equation(rng, population_factor):
    x, layers = network((3, 4, 2), rng)
    task, _ = residual_task(x, rng.normal(size=(30, 2)), 0.4)
    slopes = derivative(product_of, layers)
    arguments = 0.05, 4, 1.0, False, population_factor
    response = jitter_response(task, slopes @ slopes.T, *arguments)
    covariance = slopes.T @ response @ slopes
    hessian = slopes.T @ np.kron(task.moment, np.eye(2)) @ slopes
    drawn = task.noise - (1 - population_factor) * task.sampled
    left = hessian @ covariance + covariance @ hessian - 0.05 * hessian @ covariance @ hessian
    np.testing.assert_allclose(left, 0.05 / 4 * slopes.T @ drawn @ slopes, atol=1e-9)


def test_the_share_of_the_jitter_is_that_of_numerical_derivatives(rng):
    x, layers = network((3, 4, 5, 2), rng)
    task = label_noise_task(x, 2, 0.7)
    slopes = derivative(product_of, layers)
    response = jitter_response(task, slopes @ slopes.T, *STEP.values())
    covariance, root = slopes.T @ response @ slopes, np.linalg.cholesky(task.moment).T
    shares = []
    for last in (1, 2):
        moves = derivative(lambda ls, k=last: np.linalg.multi_dot([root, *ls[:k]]), layers)
        hidden = np.linalg.multi_dot([root, *layers[:last]])
        shares.append(np.trace(moves @ covariance @ moves.T) / np.sum(hidden**2))
    regime = flow_regime(task, layers, **STEP)
    assert regime.jitter == pytest.approx(max(shares), rel=1e-6)
    assert shares[0] != pytest.approx(shares[1], rel=0.1)


def test_parameters_of_two_layers_under_label_noise(rng):
    x, layers = network((4, 5, 2), rng)
    task = label_noise_task(x, 2, 0.7)._replace(fourth=None)
    slopes = derivative(product_of, layers)
    curvatures = np.linalg.eigvalsh(slopes.T @ np.kron(task.moment, np.eye(2)) @ slopes)[-8:]
    speed = 0.05 * 0.7**2 / (2 * 4) * np.trace(task.moment)
    regime = flow_regime(task, layers, discrete_steps=0.0, **STEP)
    assert regime.amplification == amplification(task.moment, layers, *STEP.values())
    matrix = np.kron(task.moment, np.eye(2))
    assert regime.sharpness == pytest.approx(0.05 * sharpness(matrix, layers))
    assert regime.haste == pytest.approx(speed / curvatures[0], rel=1e-5)
    delay = speed * np.mean(1 / (2 * curvatures))
    assert regime.error - regime.jitter == pytest.approx(delay, rel=1e-5)


def test_labels_of_the_model_are_label_noise_of_unit_variance_without_feedback(rng):
    x, layers = network((3, 4, 4, 2), rng)
    task = label_noise_task(x, 2, 1.0)._replace(fourth=None)
    drawn = flow_regime(task, layers, curvature=np.kron(task.moment, np.eye(2)), **STEP)
    expected = flow_regime(task, layers, **STEP)._replace(amplification=0.0)
    np.testing.assert_allclose(drawn, expected, rtol=1e-9)


def test_numbers_grow_with_the_noise_and_fall_with_the_batch(rng):
    x, layers = network((3, 4, 2), rng)
    low, high = (label_noise_task(x, 2, sigma)._replace(fourth=None) for sigma in (0.5, 1.0))
    one, four = flow_regime(low, layers, **STEP), flow_regime(high, layers, **STEP)
    fewer = flow_regime(low, layers, learning_rate=0.05, batch_size=1)
    for name in ("haste", "jitter", "error"):
        assert getattr(four, name) == pytest.approx(4 * getattr(one, name))
        assert getattr(fewer, name) == pytest.approx(4 * getattr(one, name))
    assert one[:2] == pytest.approx(four[:2])


def test_without_noise_nothing_is_slow_and_nothing_jitters(rng):
    x, layers = network((3, 4, 2), rng)
    regime = flow_regime(label_noise_task(x, 2, 0.0), layers, **STEP)
    assert (regime.haste, regime.jitter, regime.error) == (0, 0, 0)
    assert regime.amplification > 0


def test_a_path_has_the_largest_numbers_of_its_moments(rng):
    x, layers = network((3, 4, 2), rng)
    task = label_noise_task(x, 2, 0.7)
    flow = label_noise_flow(task, layers, [0, 50.0, 100.0], **STEP)
    moments = [flow_regime(task, [w[k] for w in flow.layers], **STEP) for k in range(3)]
    np.testing.assert_allclose(flow_regime(task, flow.layers, **STEP), np.max(moments, axis=0))


@pytest.mark.parametrize("name", FlowLimits._fields)
def test_each_limit_has_two_sides(name):
    limit = getattr(FlowLimits(), name)
    assert INSIDE._replace(**{name: limit}).claimed()
    for beyond in (limit * 1.001, np.nan):
        assert not INSIDE._replace(**{name: beyond}).claimed()
    wider = FlowLimits()._replace(**{name: 2 * limit})
    assert INSIDE._replace(**{name: limit * 1.001}).claimed(wider)


def test_the_error_is_no_parameter_of_its_own():
    assert INSIDE._replace(error=np.inf).claimed()


def test_layers_that_do_not_chain_and_rates_too_large_are_refused(rng):
    x, (w, v) = network((3, 4, 2), rng)
    task = label_noise_task(x, 2, 0.7)
    with pytest.raises(ValueError, match="do not chain"):
        flow_regime(task, [v, w], **STEP)
    with pytest.raises(ValueError, match="is not stable"):
        flow_regime(task, [w, v], learning_rate=5.0, batch_size=4)


def descent(x, layers, sigma, steps, runs=64):
    """PR of the hidden layer by the flow and by descent (runs, t), and the regime."""
    rate, batch = 0.045, 3
    y, sizes = x @ product_of(layers), [len(layers[0]), *(w.shape[1] for w in layers)]
    net, data = MLP(tuple(sizes), "linear"), tuple(jnp.asarray(a, jnp.float32) for a in (x, y))
    problem = Problem(net.losses, data)
    theta = jnp.asarray(np.concatenate([w.ravel() for w in layers]), jnp.float32)
    every, moment = steps // 8, jnp.asarray(x.T @ x / len(x), jnp.float32)

    def ratio(theta):
        w = net.weights(theta)[0]
        hidden = w.T @ moment @ w
        return jnp.trace(hidden) ** 2 / jnp.sum(hidden**2)

    process = sgd(noise.label_noise(problem, batch, sigma), rate)
    start = jnp.tile(theta, (runs, 1))
    key = jax.random.key(1)
    measured = simulate(process, key, start, steps=8 * every, every=every, observe=ratio)
    task = label_noise_task(x, y.shape[1], sigma)
    times = rate * every * np.arange(9)
    flow = label_noise_flow(task, layers, times, learning_rate=rate, batch_size=batch)
    (hidden,) = flow.hidden_moments(task.moment)
    predicted = np.trace(hidden, axis1=1, axis2=2) ** 2 / np.sum(hidden**2, axis=(1, 2))
    regime = flow_regime(task, flow.layers, learning_rate=rate, batch_size=batch)
    return predicted[1:], np.asarray(measured, float), regime


def test_descent_deviates_by_less_than_the_error_and_by_more_where_the_noise_is_strong(rng):
    """The same slow time at two noises, of which the weaker alone is within the limits."""
    x, layers = network((8, 12, 2), rng, examples=60)
    deviations, errors = [], []
    for sigma, steps in ((0.3, 9600), (1.8, 264)):
        predicted, measured, regime = descent(x, layers, sigma, steps)
        assert regime.claimed() == (sigma == 0.3)
        deviation = abs(measured.mean(0) / predicted - 1)
        chance = SURE * measured.std(0, ddof=1) / predicted / len(measured) ** 0.5
        assert np.all(deviation - chance <= regime.error)
        deviations.append(np.max(deviation - chance))
        errors.append(regime.error)
    assert deviations[1] > errors[0]
