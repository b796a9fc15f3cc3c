"""Momentum: torch's own steps, the block Lyapunov equation, and the limits of no momentum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_lyapunov
from steps import at_rest, numbers, side_by_side
from witnesses import HESSIAN, bowl, curved, matrix

from sgdnoise import noise
from sgdnoise.dynamics import heavy_ball, nesterov, sgd

pytestmark = pytest.mark.usefixtures("quick_to_compile")


MOMENTA = {
    "plain": {"momentum": 0.9},
    "dampened": {"momentum": 0.9, "dampening": 0.4},
    "decaying": {"momentum": 0.5, "weight_decay": 0.3},
    "dampened and decaying": {"momentum": 0.8, "dampening": 0.9, "weight_decay": 0.1},
    "without momentum": {"momentum": 0.0},
}


@pytest.mark.parametrize("how", MOMENTA.values(), ids=MOMENTA.keys())
def test_heavy_ball_takes_the_steps_of_torch(how, rng):
    ours, theirs = side_by_side(
        lambda model: heavy_ball(model, 0.05, **how),
        lambda of: torch.optim.SGD(of, 0.05, **how),
        rng,
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
def test_nesterov_takes_the_steps_of_torch(weight_decay, rng):
    settings = {"momentum": 0.9, "weight_decay": weight_decay}
    ours, theirs = side_by_side(
        lambda model: nesterov(model, 0.05, **settings),
        lambda of: torch.optim.SGD(of, 0.05, nesterov=True, **settings),
        rng,
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("make", [heavy_ball, nesterov], ids=["heavy ball", "nesterov"])
def test_a_schedule_is_the_rate_of_each_step(make, rng):
    """As when somebody sets the learning rate of torch's optimiser before each step."""

    def schedule(k):
        return 0.05 * 0.7**k

    ours, theirs = side_by_side(
        lambda model: make(model, schedule, 0.9),
        lambda of: torch.optim.SGD(of, 1.0, momentum=0.9, nesterov=make is nesterov),
        rng,
        schedule,
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("make", [heavy_ball, nesterov], ids=["heavy ball", "nesterov"])
def test_without_momentum_it_is_descent(make, rng):
    problem, theta = curved("torch")
    model = noise.minibatch(problem, 2)
    drawn = numbers(model.draw, 0, rng, torch.asarray)
    process = make(model, 0.1, 0.0, weight_decay=0.3)
    result = process.theta(process.step(process.begin(theta), drawn))
    torch.testing.assert_close(result, sgd(model, 0.1, 0.3).step(theta, drawn), rtol=1e-12, atol=0)


@pytest.mark.parametrize("make", [heavy_ball, nesterov], ids=["heavy ball", "nesterov"])
def test_decoupled_decay_shrinks_theta_and_leaves_the_velocity_alone(make, rng):
    """One step from a moving state: theta ends rate decay theta nearer to 0, v as without."""
    problem, theta = curved("torch")
    model, rate, decay = noise.minibatch(problem, 2), 0.1, 0.4
    drawn, state = numbers(model.draw, 0, rng, torch.asarray), (theta, theta**2)
    bare = make(model, rate, 0.7).step(state, drawn)
    result = make(model, rate, 0.7, weight_decay=decay, decoupled=True).step(state, drawn)
    torch.testing.assert_close(result[1], bare[1], rtol=0, atol=0)
    torch.testing.assert_close(result[0], bare[0] - rate * decay * theta, rtol=1e-12, atol=1e-14)


def test_weight_decay_is_a_ridge_in_the_loss(rng):
    """Descent with decay = descent of L + decay |theta|^2 / 2, whose gradient is written out."""
    problem, theta = curved("torch")
    model = noise.minibatch(problem, 2)
    drawn = numbers(model.draw, 0, rng, torch.asarray)
    expected = theta - 0.1 * (model.gradient(theta, drawn) + 0.3 * theta)
    result = sgd(model, 0.1, weight_decay=0.3).step(theta, drawn)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=0)


def resting(hessian, c, rate, momentum):
    """From S of (theta, theta before): x' = x - rate g + momentum (x - x before)."""
    p = len(hessian)
    block = np.block(
        [[(1 + momentum) * np.eye(p) - rate * hessian, -momentum * np.eye(p)], [np.eye(p), 0 * c]]
    )
    kicks = np.zeros((2 * p, 2 * p))
    kicks[:p, :p] = rate**2 * c
    return solve_discrete_lyapunov(block, kicks)[:p, :p]


@pytest.mark.parametrize(("rate", "momentum"), [(0.3, 0.5), (0.1, 0.9), (1.0, 0.9)])
def test_heavy_ball_rests_where_the_block_lyapunov_equation_says(rate, momentum):
    model = noise.gaussian(noise.minibatch(bowl(), 2))
    c = matrix(model.covariance(jnp.zeros(3)), 3, jnp.asarray)
    result = at_rest(heavy_ball(model, rate, momentum), 3)
    np.testing.assert_allclose(result, resting(HESSIAN, c, rate, momentum), rtol=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.6, 0.9])
def test_heavy_ball_with_isotropic_noise_rests_at_its_closed_form(momentum):
    """Mode by mode rate v (1 + mu) / (h (1 - mu) (2 (1 + mu) - rate h))."""
    rate, variance = 0.4, 0.7
    h, basis = np.linalg.eigh(HESSIAN)
    top, bottom = 1 + momentum, h * (1 - momentum) * (2 * (1 + momentum) - rate * h)
    expected = basis * (rate * variance * top / bottom) @ basis.T
    result = at_rest(heavy_ball(noise.isotropic(bowl(), variance), rate, momentum), 3)
    np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-12)


def test_dampening_is_a_smaller_rate(rng):
    """After its first step, (1 - dampening) rate without it: a torch walk from a state at rest."""
    problem, theta = curved("torch")
    model = noise.minibatch(problem, 2)
    drawn = numbers(model.draw, 0, rng, torch.asarray)
    dampened = heavy_ball(model, 0.1, 0.7, dampening=0.6)
    small = heavy_ball(model, 0.04, 0.7)
    result = dampened.step((theta, 0 * theta), (drawn, 3))[0]
    torch.testing.assert_close(result, small.step((theta, 0 * theta), drawn)[0], rtol=1e-12, atol=0)


REFUSED = {
    "no rate": (lambda of, make: make(of, 0.0, 0.9), "learning_rate must be positive, not 0.0"),
    "momentum of one": (lambda of, make: make(of, 0.1, 1.0), "momentum must be .* not 1.0"),
    "negative momentum": (lambda of, make: make(of, 0.1, -0.2), "momentum must be .* not -0.2"),
    "negative decay": (lambda of, make: make(of, 0.1, 0.9, weight_decay=-1.0), "not -1.0"),
}


@pytest.mark.parametrize("make", [heavy_ball, nesterov], ids=["heavy ball", "nesterov"])
@pytest.mark.parametrize(("call", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_has_no_meaning_is_refused(call, words, make):
    with pytest.raises(ValueError, match=words):
        call(noise.full_batch(curved()[0]), make)


@pytest.mark.parametrize("dampening", [-0.1, 1.0])
def test_a_dampening_out_of_range_is_refused(dampening):
    with pytest.raises(ValueError, match=f"dampening must be .* not {dampening}"):
        heavy_ball(noise.full_batch(curved()[0]), 0.1, 0.9, dampening=dampening)


def test_momentum_may_be_traced():
    """Rates and momenta that are arrays pass the checks, so that chains may differ in them."""
    model, theta = noise.full_batch(bowl()), jnp.asarray([1.0, 2.0, 3.0])

    def moved(momentum):
        process = heavy_ball(model, jnp.asarray(0.1), momentum)
        return process.step((theta, theta), ())[0]

    result = jax.vmap(moved)(jnp.asarray([0.0, 0.5]))
    np.testing.assert_allclose(result[0] - result[1], 0.05 * theta, rtol=1e-10)
