"""Processes: a step is a pure function, so most of its laws need no sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from steps import at_rest, numbers
from witnesses import (
    HESSIAN,
    LIBRARIES,
    SIZE,
    SURE,
    bowl,
    by_hand,
    curved,
    matrix,
    moments,
    noisy_gradients,
)

from sgdnoise import noise
from sgdnoise.core import Factor, Problem, mean
from sgdnoise.dynamics import (
    adam,
    adam_langevin,
    adamw,
    baoab,
    heavy_ball,
    heun,
    langevin,
    levy_sgd,
    nesterov,
    ornstein_uhlenbeck,
    overdamped_langevin,
    rmsprop,
    rmsprop_langevin,
    sgd,
    side_by_side,
    simulate,
    svag,
    underdamped,
    with_weak_increments,
)
from sgdnoise.noise import ThreePoint, bernoulli, reshuffled, svag_weights, with_replacement
from sgdnoise.theory import stationary_covariance

pytestmark = pytest.mark.usefixtures("quick_to_compile")
NOISES = {
    "minibatch": lambda p: noise.minibatch(p, 3),
    "minibatch without replacement": lambda p: noise.minibatch(p, 3, replacement=False),
    "reshuffled": lambda p: noise.from_weights(p, reshuffled(4, 2)),
    "bernoulli": lambda p: noise.from_weights(p, bernoulli(4, 3)),
    "svag": lambda p: noise.from_weights(p, svag_weights(with_replacement(4, 3), 2)),
    "label": lambda p: noise.label_noise(p, 3, 0.3),
    "gaussian label": lambda p: noise.gaussian(noise.label_noise(p, 3, 0.3)),
    "isotropic": lambda p: noise.isotropic(p, 0.1),
    "same_diagonal": lambda p: noise.same_diagonal(noise.minibatch(p, 3)),
    "same_trace": lambda p: noise.same_trace(noise.minibatch(p, 3)),
    "quiet": noise.full_batch,
}
SCHEMES = {
    "descent": lambda n: sgd(n, 0.05),
    "langevin": lambda n: langevin(n, 0.05, 0.02),
}


def halving(k):
    """A schedule that numbers of any library can carry."""
    return 0.05 / (1 + k)


LAW = with_replacement(3, 2)
EVERY = {
    "weight decay": lambda p, n: sgd(n, 0.05, 0.3),
    "a schedule": lambda p, n: sgd(n, halving, 0.3),
    "svag": lambda p, n: svag(p, LAW, 0.05, 3),
    "heavy ball": lambda p, n: heavy_ball(n, 0.05, 0.9, weight_decay=0.2),
    "dampened": lambda p, n: heavy_ball(n, halving, 0.9, dampening=0.3),
    "nesterov": lambda p, n: nesterov(n, 0.05, 0.9, weight_decay=0.2, decoupled=True),
    "rmsprop": lambda p, n: rmsprop(n, 0.05, weight_decay=0.1),
    "adam": lambda p, n: adam(n, 0.05),
    "adamw": lambda p, n: adamw(n, halving),
    "rmsprop's equation": lambda p, n: rmsprop_langevin(n, 0.05, dt=0.02),
    "adam's equation": lambda p, n: adam_langevin(n, 0.05, dt=0.02),
    "langevin with a schedule": lambda p, n: langevin(n, halving, weight_decay=0.2),
    "langevin of order 2": lambda p, n: langevin(n, 0.05, 0.02, order=2, weight_decay=0.2),
    "heun": lambda p, n: heun(n, 0.05, 0.02, order=2),
    "thermal": lambda p, n: overdamped_langevin(p, 0.1, 0.02),
    "ornstein uhlenbeck": lambda p, n: ornstein_uhlenbeck(np.diag([1.0, 2.0]), np.eye(2), 0.3),
    "underdamped": lambda p, n: underdamped(n, 0.05, 0.7, 0.1, weight_decay=0.2),
    "baoab": lambda p, n: baoab(p, 0.1, 0.7, 0.1),
    "stable": lambda p, n: levy_sgd(p, 1.5, 0.1, 0.05, weight_decay=0.1),
    "signs": lambda p, n: with_weak_increments(langevin(n, 0.05)),
    "three": lambda p, n: with_weak_increments(underdamped(n, 0.05, 0.7, 0.1), ThreePoint),
}


def steep(library):
    """A quartic bowl in two dimensions around three centres."""
    asarray = LIBRARIES[library]
    centres = asarray(np.asarray([[0.0, 0.5], [0.3, -0.2], [-0.4, 0.1]]))
    return Problem(lambda t, c: ((t - c) ** 4).sum(1) / 4, (centres,), 2)


def _for_torch(drawn):
    return drawn if isinstance(drawn, int) else torch.asarray(drawn)


@pytest.mark.parametrize("make", EVERY.values(), ids=EVERY.keys())
def test_every_process_is_one_in_torch_and_jax(make, rng):
    """From its own begin, with the same numbers, through the same integer steps."""
    problems = [steep(library) for library in ("jax", "torch")]
    ours, theirs = (make(problem, noise.minibatch(problem, 2)) for problem in problems)
    assert ours.draw == theirs.draw
    start = np.asarray([0.9, -0.8])
    a, b = ours.begin(jnp.asarray(start)), theirs.begin(torch.asarray(start))
    step = jax.jit(ours.step)
    for k in range(4):
        drawn = numbers(ours.draw, k, rng)
        a = step(a, jax.tree.map(jnp.asarray, drawn))
        b = theirs.step(b, jax.tree.map(_for_torch, drawn))
    assert ours.theta(a).shape == (2,)
    for first, second in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert second.dtype == torch.float64
        np.testing.assert_allclose(second, first, rtol=1e-10)


def test_chains_count_their_steps_from_zero_and_their_time_by_the_schedule():
    """Adam under a schedule, without noise: chains against a loop of steps 0, 1, 2."""
    problem, theta = steep("jax"), jnp.asarray([0.9, -0.8])
    process = adam(noise.full_batch(problem), halving)
    path = simulate(process, jax.random.key(0), theta[None], steps=3)
    state, step = process.begin(theta), jax.jit(process.step)
    for k in range(3):
        state = step(state, ((), k))
        np.testing.assert_allclose(path.theta[0, k], process.theta(state), rtol=1e-12)
    np.testing.assert_allclose(path.time, np.cumsum([0.05, 0.025, 0.05 / 3]), rtol=1e-12)


@pytest.mark.parametrize("stretch", [1, 2, 5])
def test_svag_rests_where_its_shorter_and_louder_steps_must(stretch):
    """Covariance x stretch at rate / stretch: rate h / (2 stretch) beside the equation's rest."""
    rate, problem, law = 0.3, bowl(), with_replacement(8, 2)
    c = matrix(noise.from_weights(problem, law).covariance(jnp.zeros(3)), 3, jnp.asarray)
    louder = noise.gaussian(noise.from_weights(problem, svag_weights(law, stretch)))
    expected = stationary_covariance(HESSIAN, stretch * c, rate / stretch)
    np.testing.assert_allclose(at_rest(sgd(louder, rate / stretch), 3), expected, rtol=1e-10)
    assert svag(problem, law, rate, stretch).dt == rate / stretch


def test_a_schedule_of_svag_goes_by_steps_of_descent():
    slow = svag(steep("torch"), LAW, halving, 3)
    assert [slow.dt(k) for k in range(5)] == [halving(k // 3) / 3 for k in range(5)]


@pytest.mark.parametrize("make", [sgd, langevin])
def test_a_constant_schedule_is_a_constant_rate(make, rng):
    problem, theta = curved("torch")
    model = noise.minibatch(problem, 2)
    drawn = numbers(make(model, 0.1).draw, 0, rng, torch.asarray)
    result = make(model, lambda k: 0.1).step(theta, (drawn, 5))
    assert torch.equal(result, make(model, 0.1).step(theta, drawn))


def test_a_negative_decay_is_refused():
    with pytest.raises(ValueError, match=r"weight_decay must be 0 or more and finite, not -0\.1"):
        sgd(noise.full_batch(bowl()), 0.1, -0.1)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES.keys())
@pytest.mark.parametrize("make", NOISES.values(), ids=NOISES.keys())
def test_the_same_draws_give_the_same_walk_in_torch_and_jax(make, scheme, rng):
    """A batch of 3: thirds have no exact binary form, so a lost digit would show."""
    (ours, a), (theirs, b) = (curved(library, outputs=2) for library in LIBRARIES)
    ours, theirs = scheme(make(ours)), scheme(make(theirs))
    step = jax.jit(ours.step)
    assert ours.draw == theirs.draw
    for _ in range(4):
        drawn = by_hand(ours.draw, rng)
        a = step(a, jax.tree.map(jnp.asarray, drawn))
        b = theirs.step(b, jax.tree.map(torch.asarray, drawn))
    assert b.dtype == torch.float64
    np.testing.assert_allclose(np.asarray(b), np.asarray(a), rtol=1e-12)


@pytest.mark.parametrize("name", ["minibatch", "bernoulli", "svag", "label"])
def test_a_langevin_step_of_one_rate_has_the_mean_and_covariance_of_descent(name):
    problem, theta = curved()
    model, rate = NOISES[name](problem), 0.1
    step = jax.jit(langevin(model, rate).step)
    zeros = jnp.zeros(model.normal.size)
    b = jax.jit(jax.jacobian(step, 1))(theta, zeros)
    gradient, covariance = moments(noisy_gradients(model, theta))
    np.testing.assert_allclose(step(theta, zeros), theta - rate * gradient, rtol=1e-12)
    np.testing.assert_allclose(b @ b.T, rate**2 * covariance, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("dt", [0.2, 0.05, 0.01])
def test_a_langevin_step_moves_by_dt_and_spreads_by_rate_times_dt(dt):
    problem, theta = curved()
    model, rate = noise.minibatch(problem, 2), 0.1
    process = langevin(model, rate, dt)
    zeros = jnp.zeros(process.draw.size)
    b = jax.jit(jax.jacobian(process.step, 1))(theta, zeros)
    c = matrix(model.covariance(theta), SIZE, jnp.asarray)
    np.testing.assert_allclose(
        process.step(theta, zeros), theta - dt * problem.gradient(theta), rtol=1e-12
    )
    np.testing.assert_allclose(b @ b.T, rate * dt * c, rtol=1e-10, atol=1e-15)
    assert process.dt == dt


@pytest.mark.parametrize("dt", [0.1, 0.03])
def test_langevin_rests_exactly_where_its_discrete_steps_must(dt):
    rate, problem = 0.1, bowl()
    model = noise.minibatch(problem, 2)
    c = matrix(model.covariance(jnp.zeros(3)), 3, jnp.asarray)
    expected = stationary_covariance(HESSIAN, c * rate / dt, dt)
    np.testing.assert_allclose(at_rest(langevin(model, rate, dt), 3), expected, rtol=1e-10)


def test_langevin_rests_at_the_continuous_limit_to_first_order():
    """Halving dt halves the distance to the Ornstein-Uhlenbeck covariance, rate v / (2 H)."""
    model, rate = noise.isotropic(bowl(), 0.7), 0.1
    limit = rate * 0.7 * np.linalg.inv(2 * HESSIAN)
    steps = np.asarray([0.1, 0.05, 0.025])
    error = [abs(at_rest(langevin(model, rate, dt), 3) - limit).max() for dt in steps]
    order = np.diff(np.log(error)) / np.diff(np.log(steps))
    np.testing.assert_allclose(order, 1, atol=0.15)


@pytest.mark.parametrize("replacement", [True, False])
def test_descent_comes_to_rest_at_the_stationary_covariance(replacement):
    """3 means and 6 products of 4000 chains, after 60 steps that each forget a fifth at least."""
    problem, rate = bowl(n=8, seed=3), 0.3
    model = noise.minibatch(problem, 3, replacement)
    path = simulate(sgd(model, rate), jax.random.key(0), jnp.zeros((4000, 3)), steps=60, every=60)
    c = matrix(model.covariance(jnp.zeros(3)), 3, jnp.asarray)
    remainder, expected = path.theta[:, -1], stationary_covariance(HESSIAN, c, rate)
    assert np.all(abs(mean(remainder).z(0)) < SURE)
    assert np.all(abs(mean(remainder[:, :, None] * remainder[:, None, :]).z(expected)) < SURE)


def test_descent_without_noise_follows_its_eigenmodes(rng):
    """(1 - rate H)^t, t = 12."""
    problem, start = bowl(), rng.normal(size=(2, 3))
    path = simulate(sgd(noise.full_batch(problem), 0.2), jax.random.key(0), start, steps=12)
    shrunk = np.linalg.matrix_power(np.eye(3) - 0.2 * HESSIAN, 12)
    np.testing.assert_allclose(path.theta[:, -1], start @ shrunk.T, rtol=1e-10)
    np.testing.assert_allclose(path.time, 0.2 * np.arange(1, 13), rtol=1e-14)


def test_together_each_member_takes_its_own_step(rng):
    problem, theta = curved("torch")
    members = {name: sgd(make(problem), 0.05) for name, make in NOISES.items()}
    both = side_by_side(members)
    drawn = jax.tree.map(torch.asarray, by_hand(both.draw, rng))
    thetas = {name: (1 + i / 10) * theta for i, name in enumerate(members)}
    result = both.step(thetas, drawn)
    for name, member in members.items():
        assert torch.equal(result[name], member.step(thetas[name], drawn[name]))


def test_additive_noise_may_depend_on_theta(rng):
    """One step, by hand: theta - rate (gradient + rows^T z theta_0)."""
    problem, theta = curved()
    rows, z = jnp.asarray(rng.normal(size=(2, SIZE))), jnp.asarray(rng.normal(size=2))
    model = noise.additive(problem, lambda t: Factor(rows * t[0]))
    expected = theta - 0.1 * (problem.gradient(theta) + rows.T @ z * theta[0])
    np.testing.assert_allclose(sgd(model, 0.1).step(theta, z), expected, rtol=1e-12)
