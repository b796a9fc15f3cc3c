"""RMSprop and Adam: torch's own steps, and Malladi's equations in the terms of the paper."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from steps import numbers, side_by_side
from witnesses import curved, matrix

from sgdnoise import noise
from sgdnoise.dynamics import adam, adam_langevin, adamw, rmsprop, rmsprop_langevin

pytestmark = pytest.mark.usefixtures("quick_to_compile")


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_rmsprop_takes_the_steps_of_torch(weight_decay, rng):
    ours, theirs = side_by_side(
        lambda model: rmsprop(model, 0.02, 0.8, eps=1e-3, weight_decay=weight_decay),
        lambda of: torch.optim.RMSprop(of, 0.02, 0.8, eps=1e-3, weight_decay=weight_decay),
        rng,
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize(
    ("make", "optimiser"), [(adam, torch.optim.Adam), (adamw, torch.optim.AdamW)]
)
def test_adam_takes_the_steps_of_torch(make, optimiser, weight_decay, rng):
    settings = {"betas": (0.7, 0.9), "eps": 1e-3, "weight_decay": weight_decay}
    ours, theirs = side_by_side(
        lambda model: make(model, 0.02, **settings), lambda of: optimiser(of, 0.02, **settings), rng
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_the_defaults_are_those_of_torch(rng):
    for make, optimiser in (
        (rmsprop, torch.optim.RMSprop),
        (adam, torch.optim.Adam),
        (adamw, torch.optim.AdamW),
    ):
        ours, theirs = side_by_side(
            lambda model, make=make: make(model, 0.02),
            lambda of, optimiser=optimiser: optimiser(of, lr=0.02),
            rng,
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_a_schedule_is_the_rate_of_each_step(rng):
    def schedule(k):
        return 0.02 / (1 + k)

    ours, theirs = side_by_side(
        lambda model: adamw(model, schedule), lambda of: torch.optim.AdamW(of, 1.0), rng, schedule
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_adam_without_memory_steps_by_the_sign_of_the_gradient(rng):
    """betas = 0 and eps -> 0: g / |g|, whatever its size."""
    problem, theta = curved("torch")
    model = noise.minibatch(problem, 2)
    drawn = numbers(model.draw, 0, rng, torch.asarray)
    process = adam(model, 0.1, (0.0, 0.0), eps=1e-300)
    result = process.step(process.begin(theta), (drawn, 4))[0]
    expected = theta - 0.1 * torch.sign(model.gradient(theta, drawn))
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=0)


def parts(problem, model, theta):
    """Gradient, covariance and its factor in the twin, all as numpy has them."""
    gradient = np.asarray(problem.gradient(theta))
    zeros = torch.zeros(model.normal.size, dtype=torch.float64)
    factor = torch.func.jacfwd(lambda z: model.gaussian_gradient(theta, z))(zeros).numpy()
    return gradient, matrix(model.covariance(theta), len(theta), torch.asarray), factor


def malladi(kind, model, problem, state, white, k, eta, betas, eps, deviation):
    """One Euler step of length eta^2 of the equations as the paper writes them.

    sigma_0 = eta s, eps_0 = eta eps, c_i = (1 - beta_i) / eta^2, u = v / s^2, Sigma = C / s^2.
    Gamma is taken at the end of the step.
    """
    theta, mean, u = state
    gradient, covariance, factor = parts(problem, model, theta)
    sigma_0, eps_0, dt = eta * deviation, eta * eps, eta**2
    c_1, c_2 = ((1 - beta) / eta**2 for beta in betas)
    root_sigma = factor / deviation
    u = u + c_2 * (np.diag(covariance) / deviation**2 - u) * dt
    if kind == "rmsprop":
        shrink = 1 / (sigma_0 * np.sqrt(u) + eps_0)
        move = gradient * dt + sigma_0 * root_sigma @ (dt**0.5 * white)
        return theta.numpy() - shrink * move, mean, u
    mean = mean + c_1 * (gradient - mean) * dt + sigma_0 * c_1 * root_sigma @ (dt**0.5 * white)
    first, second = (1 - np.exp(-c * (k + 1) * dt) for c in (c_1, c_2))
    shrink = 1 / (sigma_0 * np.sqrt(u) + eps_0 * second**0.5)
    return theta.numpy() - second**0.5 / first * shrink * mean * dt, mean, u


@pytest.mark.parametrize("deviation", [1.0, 7.0])
@pytest.mark.parametrize("kind", ["rmsprop", "adam"])
def test_a_step_is_that_of_the_equations_in_the_paper(kind, deviation, rng):
    """Their time is rate times ours, and their scale of the noise s drops out."""
    problem, theta = curved("torch")
    model, rate, betas, eps = noise.minibatch(problem, 2), 0.1, (0.8, 0.95), 0.2
    white, k = rng.normal(size=4), 3
    mean, square = rng.normal(size=8), rng.uniform(0.5, 1, size=8)
    now = (theta, mean, square / deviation**2)
    used = betas if kind == "adam" else (0.0, betas[1])
    expected = malladi(kind, model, problem, now, white, k, rate, used, eps, deviation)
    state = (theta, torch.asarray(mean), torch.asarray(square))
    if kind == "adam":
        result = adam_langevin(model, rate, betas, eps=eps).step(state, (torch.asarray(white), k))
        np.testing.assert_allclose(result[1], expected[1], rtol=1e-10)
    else:
        process = rmsprop_langevin(model, rate, betas[1], eps=eps)
        result = process.step((state[0], state[2]), torch.asarray(white))
    np.testing.assert_allclose(result[0], expected[0], rtol=1e-10)
    np.testing.assert_allclose(result[-1], expected[2] * deviation**2, rtol=1e-10)


@pytest.mark.parametrize("kind", ["rmsprop", "adam"])
def test_shorter_steps_move_by_dt_and_spread_by_rate_times_dt(kind):
    """In theta for RMSprop, in the mean gradient m for Adam, where its noise enters."""
    problem, theta = curved("torch")
    model, rate, dt, square = noise.minibatch(problem, 2), 0.1, 0.02, torch.ones(8).double()
    gradient, covariance, _ = parts(problem, model, theta)

    def moved(white):
        if kind == "rmsprop":
            slow = rmsprop_langevin(model, rate, 1 - 1e-15, eps=1.0, dt=dt)
            return slow.step((theta, square), white)[0] - theta
        slow = adam_langevin(model, rate, (0.8, 0.9), dt=dt)
        return slow.step((theta, 0 * theta, square), (white, 0))[1]

    zeros = torch.zeros(4, dtype=torch.float64)
    kick = torch.func.jacfwd(moved)(zeros)
    scale = -dt / 2 if kind == "rmsprop" else dt * 0.2 / rate
    np.testing.assert_allclose(moved(zeros), scale * gradient, rtol=1e-10)
    expected = scale**2 * rate / dt * covariance
    np.testing.assert_allclose(kick @ kick.T, expected, rtol=1e-9, atol=1e-15)


def test_adams_equation_takes_adams_first_step():
    """m / g_1 is the gradient and v / g_2 the variance after a short first step, as in Adam.

    (1 - beta) / (1 - exp(-(1 - beta))) = 1 + (1 - beta) / 2 + ..., beta = 1 - 1e-6: hence 2e-6.
    """
    problem, theta = curved("torch")
    model = noise.minibatch(problem, 2)
    gradient, covariance, _ = parts(problem, model, theta)
    process = adam_langevin(model, 0.1, (1 - 1e-6, 1 - 1e-6), eps=0.3)
    result = process.step(process.begin(theta), (torch.zeros(4, dtype=torch.float64), 0))[0]
    expected = -0.1 * gradient / (np.diag(covariance) ** 0.5 + 0.3)
    np.testing.assert_allclose(result - theta, expected, rtol=2e-6)


def test_rmsprops_equation_starts_with_the_variance_of_its_noise():
    problem, theta = curved("torch")
    model = noise.minibatch(problem, 2)
    result = rmsprop_langevin(model, 0.1).begin(theta)[1]
    np.testing.assert_allclose(result, np.diag(parts(problem, model, theta)[1]), rtol=1e-12)


REFUSED = {
    "no rate": (lambda of: rmsprop(of, 0.0), "learning_rate must be positive, not 0.0"),
    "no rate of adam": (lambda of: adam(of, -1.0), "learning_rate must be .* not -1.0"),
    "beta of one": (lambda of: rmsprop(of, 0.1, 1.0), "beta must be .* not 1.0"),
    "a beta below 0": (lambda of: adam(of, 0.1, (-0.1, 0.9)), "beta must be .* not -0.1"),
    "second beta of one": (lambda of: adamw(of, 0.1, (0.9, 1.0)), "beta must be .* not 1.0"),
    "no eps": (lambda of: adam(of, 0.1, eps=0.0), "eps must be positive, not 0.0"),
    "negative decay": (lambda of: adamw(of, 0.1, weight_decay=-0.1), "decay must be .* not -0.1"),
    "no dt": (lambda of: adam_langevin(of, 0.1, dt=0.0), "dt must be positive, not 0.0"),
    "negative dt": (lambda of: rmsprop_langevin(of, 0.1, dt=-1.0), "dt must be .* not -1.0"),
    "beta of its equation": (lambda of: rmsprop_langevin(of, 0.1, 2.0), "beta must be .* not 2.0"),
}


@pytest.mark.parametrize(("call", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_has_no_meaning_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(noise.full_batch(curved("torch")[0]))


def test_a_float32_state_stays_float32_in_jax():
    """Powers of the integer step must not widen what the steps of a loop hand on."""
    problem, theta = curved()
    small = theta.astype(jnp.float32)
    examples = tuple(piece.astype(jnp.float32) for piece in problem.examples)
    model = noise.minibatch(replace(problem, examples=examples), 2)
    for process, drawn in (
        (adam(model, 0.1), jnp.asarray([0, 1])),
        (adam_langevin(model, 0.1), jnp.ones(4, jnp.float32)),
    ):
        state = process.step(process.begin(small), (drawn, jnp.asarray(3)))
        assert {piece.dtype for piece in state} == {jnp.dtype("float32")}
