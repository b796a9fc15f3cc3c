"""The mean path at the edge of stability against complementarity, solved models, and SGD."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sgdnoise.core import Problem
from sgdnoise.theory import (
    MLP,
    central_flow,
    edge_covariance,
    edge_period,
    edge_sharpness,
    gradient_flow,
    stationary_covariance,
)

RATE, SPEED, BASE = 0.5, 0.3, 3.0  # the edge is at a curvature of 4
LIBRARIES = {"jax": jnp.asarray, "torch": torch.asarray}


def random_balance(rng, k, count=20):
    """A slack, and a response that is positive definite: count is above k (k + 1) / 2."""
    slopes = rng.normal(size=(k, k, count))
    slopes = slopes + slopes.swapaxes(0, 1)
    slack = rng.normal(size=(k, k))
    return slack + slack.T, np.einsum("ija,lma->ijlm", slopes, slopes)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
def test_without_noise_it_solves_the_complementarity(rng, k, scale):
    """The conditions are sufficient: the problem is convex."""
    slack, response = random_balance(rng, k)
    slack = slack - np.eye(k)
    size = scale / np.linalg.norm(response.reshape(k * k, k * k), 2)
    x, d = edge_covariance(scale * slack, response, RATE)
    assert_allclose(d, scale * slack + np.tensordot(response, x, 2), atol=1e-8 * scale)
    assert np.linalg.eigvalsh(x)[0] > -1e-8 * size
    assert np.linalg.eigvalsh(d)[0] > -1e-8 * scale
    assert abs(np.trace(x @ d)) < 1e-7 * size * scale
    assert np.linalg.eigvalsh(slack)[0] > 0 or np.linalg.norm(x) > 0.1 * size


def test_without_need_there_is_no_oscillation(rng):
    slack, response = random_balance(rng, 3)
    slack = slack @ slack + np.eye(3)
    x, d = edge_covariance(slack, response, RATE)
    assert np.linalg.norm(x) < 1e-7
    assert_allclose(d, slack, atol=1e-7)


def test_noise_without_a_response_leaves_the_stationary_covariance(rng):
    slack = np.diag([0.3, 1.1, 2.0])
    kicks = np.cov(rng.normal(size=(3, 9)))
    h = 2 / RATE * np.eye(3) - slack
    x, d = edge_covariance(slack, np.zeros((3,) * 4), RATE, kicks, None, h)
    assert_allclose(x, stationary_covariance(h, kicks, RATE), rtol=1e-7)
    assert_allclose(d, slack, atol=1e-8)


@pytest.mark.parametrize("own", [0.0, 0.5])
def test_one_direction_keeps_the_sharpness_of_its_oscillation(own):
    """Also with noise of curvatures; the damping is that of the slack that it leaves."""
    response, curvature = np.full((1,) * 4, 0.7), np.full((1, 1), 2 / RATE)
    for _ in range(50):
        x, d = edge_covariance(
            [[-0.2]], response, RATE, [[0.05]], np.full((1,) * 4, own), curvature
        )
        curvature = 2 / RATE - d
    expected = edge_sharpness(RATE, float(x[0, 0]), 0.05, own)
    assert_allclose(curvature[0, 0], expected, rtol=1e-8)
    assert expected < 2 / RATE - 0.01


def test_a_slack_that_nothing_raises_has_no_balance():
    with pytest.raises(ValueError, match="no covariance of theta keeps"):
        edge_covariance([[-1.0]], np.zeros((1,) * 4), RATE)
    with pytest.raises(ValueError, match="do not fit"):
        edge_covariance([[-1.0]], np.zeros((2,) * 4), RATE)
    with pytest.raises(ValueError, match="noise must be of shape"):
        edge_covariance([[-1.0]], np.ones((1,) * 4), RATE, np.eye(2))


def test_noise_that_is_too_strong_has_no_sharpness_at_the_edge():
    assert np.isnan(edge_sharpness(0.5, 0.1, 0.5))
    with pytest.raises(ValueError, match="oscillation"):
        edge_sharpness(0.5, 0.0)
    with pytest.raises(ValueError, match="sharpening"):
        edge_period(0.5, -1.0)


def sharpening(asarray, slopes, bends):
    """A curvature (BASE + y) along x that grows at the speed SPEED, beside a stable direction z."""

    def losses(theta, slope, bend):
        x, y, z = theta
        return (BASE + y + bend) * x**2 / 2 + slope * x - SPEED * y + z**2 / 2

    return Problem(losses, (asarray(np.asarray(slopes)), asarray(np.asarray(bends))))


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_oscillation_is_that_of_self_stabilisation(library):
    """Below the edge y grows by itself; at the edge x^2 = 2 alpha / beta with beta = 1."""
    asarray = LIBRARIES[library]
    problem = sharpening(asarray, [0.0, 0.0], [0.0, 0.0])
    options = {"learning_rate": RATE, "directions": 1, "window": 1, "every": 1}
    path = central_flow(problem, asarray(np.asarray([1e-9, 0.0, 0.5])), steps=12, **options)
    expected = np.minimum(BASE + SPEED * path.time, 2 / RATE)
    assert_allclose(path.curvatures[:, 0], expected, rtol=1e-6)
    assert not path.isotropic.any()
    variances = [float(s.rows[0] @ s.rows[0]) for s in path.covariance]
    assert_allclose(variances[:5], 0.0, atol=1e-9)
    assert_allclose(variances[-4:], 2 * SPEED, rtol=1e-6)
    excess = variances[-1] * 2 / RATE / 2
    assert_allclose(path.mean_loss[-1] - path.loss[-1], excess, rtol=1e-6)


def test_descent_has_the_mean_square_of_the_flow():
    """Over five cycles, whose number of steps is the derived one."""
    rate, speed = 0.02, 0.05
    period = edge_period(rate, speed)
    x, y = 1.3 * (2 * speed) ** 0.5, 2 / rate - BASE
    squares, curvatures = [], []
    for _ in range(round(5 * period)):
        x, y = x - rate * (BASE + y) * x, y + rate * (speed - x**2 / 2)
        squares.append(x**2)
        curvatures.append(BASE + y)
    assert_allclose(np.mean(squares), 2 * speed, rtol=0.03)
    assert_allclose(np.mean(curvatures), 2 / rate, rtol=1e-3)
    turns = np.diff(np.signbit(np.asarray(curvatures) - 2 / rate).astype(int)) != 0
    assert turns.sum() in (9, 10, 11)


@pytest.mark.parametrize("library", LIBRARIES)
def test_noise_leaves_the_gap_of_one_direction(library):
    """Half of the examples kick one way; curvatures vary too, independently."""
    asarray = LIBRARIES[library]
    problem = sharpening(asarray, [0.4, -0.4, 0.4, -0.4], [0.5, 0.5, -0.5, -0.5])
    start = asarray(np.asarray([0.0, 0.0, 0.0]))
    options = {"learning_rate": RATE, "directions": 1, "window": 1}
    path = central_flow(problem, start, steps=60, every=20, batch_size=8, **options)
    expected = edge_sharpness(RATE, 2 * SPEED, 0.4**2 / 8, 0.5**2 / 8)
    assert expected < 2 / RATE - 0.01
    assert_allclose(path.curvatures[-1, 0], expected, rtol=1e-6)


def test_sgd_keeps_the_gap_of_the_flow(rng):
    """One chain of 200,000 steps of the same model, slow beside its oscillation."""
    rate, speed, batch, slope = 0.5, 0.02, 4, 0.3
    x, y, total, count = 0.0, 2 / rate - BASE - 0.2, 0.0, 0
    kicks = rng.choice([-slope, slope], (200_000, batch)).mean(1)
    for step, kick in enumerate(kicks):
        x, y = x - rate * ((BASE + y) * x + kick), y + rate * (speed - x**2 / 2)
        if step > 20_000:
            total, count = total + BASE + y, count + 1
    gap = 2 / rate - edge_sharpness(rate, 2 * speed, slope**2 / batch)
    assert gap > 0.1
    assert_allclose(2 / rate - total / count, gap, rtol=0.15)


def axes(asarray, spread):
    """Regression on 3 axes, each with both signs of the residual: all covariances are isotropic."""
    inputs = np.concatenate([np.eye(3)] * 2)
    targets = np.repeat([spread, -spread], 3)
    return Problem(
        lambda theta, x, y: (x @ theta - y) ** 2 / 2, (asarray(inputs), asarray(targets))
    )


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_isotropic_law_is_exact_outside_of_the_directions(library):
    """S = s 1 solves 2 h s - rate h^2 s = (rate / B) (c + s Var h), for every direction."""
    asarray, batch, spread = LIBRARIES[library], 2, 0.6
    problem = axes(asarray, spread)
    start = asarray(np.zeros(3))
    path = central_flow(
        problem, start, learning_rate=RATE, steps=4, every=4, batch_size=batch, directions=1
    )
    h, c = 1 / 3, spread**2 / 3
    own = (2 / 3) ** 2 / 3 + 2 * h**2 / 3  # of the curvatures 1, 0, 0 of the examples of an axis
    s = RATE / batch * c / (2 * h - RATE * h**2 - RATE / batch * own)
    assert_allclose(path.isotropic[0], s, rtol=1e-5)
    assert_allclose(float(path.covariance[0].rows[0] @ path.covariance[0].rows[0]), s, rtol=1e-5)
    assert_allclose(path.mean_loss[0] - path.loss[0], s * 3 * h / 2, rtol=1e-5)


def test_without_damping_there_is_no_law_at_rest():
    with pytest.raises(ValueError, match="leave no covariance of theta at rest"):
        central_flow(
            axes(jnp.asarray, 1.0),
            jnp.zeros(3),
            learning_rate=3.9,
            steps=1,
            batch_size=1,
            directions=1,
        )


@pytest.fixture
def network(rng):
    """A tanh network of 30 parameters that learns random targets."""
    net = MLP((4, 5, 2))
    inputs, targets = rng.normal(size=(12, 4)), rng.normal(size=(12, 2))
    start = rng.normal(size=net.size) / 2
    return Problem(net.losses, (jnp.asarray(inputs), jnp.asarray(targets))), jnp.asarray(start)


def test_below_the_edge_it_is_the_gradient_flow(network):
    problem, start = network
    path = central_flow(problem, start, learning_rate=0.02, steps=40, every=40)
    expected = gradient_flow(problem.gradient, start, 0.8, 400)
    error = np.linalg.norm(path.theta[0] - expected) / np.linalg.norm(expected - start)
    assert error < 0.01
    assert path.curvatures.max() < 2 / 0.02


def test_at_the_edge_no_curvature_exceeds_it(network):
    """From where the largest curvature is at the edge; without oscillation it would grow."""
    problem, start = network
    hessian = np.asarray([problem.hvp(start, v) for v in jnp.eye(len(start))])
    rate = 2 / np.linalg.eigvalsh(hessian)[-1]
    options = {"learning_rate": rate, "steps": 12, "every": 1, "window": 1}
    path = central_flow(problem, start, directions=6, **options)
    assert path.curvatures.max() < 2 / rate * 1.01
    hessian = np.asarray([problem.hvp(path.theta[-1], v) for v in jnp.eye(len(start))])
    assert_allclose(path.curvatures[-1], np.linalg.eigvalsh(hessian)[::-1][:6], rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"steps": 3, "every": 2}, "a multiple of every"),
        ({"directions": 0}, "directions must be from 1 to 3"),
        ({"directions": 3, "batch_size": 2}, "directions must be from 1 to 2"),
        ({"window": 0}, "window"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_settings_are_refused(changes, sentence):
    options = {"learning_rate": RATE, "steps": 2, "directions": 1} | changes
    with pytest.raises(ValueError, match=sentence):
        central_flow(axes(jnp.asarray, 1.0), jnp.zeros(3), **options)
