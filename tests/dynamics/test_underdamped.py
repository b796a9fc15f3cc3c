"""Inertia: heavy ball is its integrator, exactly; BAOAB rests where a harmonic well says."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy.linalg import solve_continuous_lyapunov
from steps import affine, at_rest, numbers, slope, with_inertia
from witnesses import HESSIAN, bowl, curved

from sgdnoise import noise
from sgdnoise.dynamics import baoab, heavy_ball, underdamped, underdamped_parameters

pytestmark = pytest.mark.usefixtures("quick_to_compile")


@pytest.mark.parametrize(("rate", "momentum"), [(0.05, 0.9), (0.2, 0.5), (0.01, 0.99)])
def test_heavy_ball_is_underdamped_langevin_seen_in_mid_step(rate, momentum, rng):
    """Curved loss, noise that depends on theta: theta + dt v / 2 is heavy ball's, step by step."""
    problem, theta = curved("torch")
    model = noise.gaussian(noise.minibatch(problem, 2))
    ball, smooth = (
        heavy_ball(model, rate, momentum),
        underdamped(model, **underdamped_parameters(rate, momentum)),
    )
    state, second = ball.begin(theta), smooth.begin(theta)
    for k in range(6):
        white = numbers(model.draw, k, rng, torch.asarray)
        state, second = ball.step(state, white), smooth.step(second, white)
        center = second[0] + smooth.dt / 2 * second[1]
        torch.testing.assert_close(center - theta, (state[0] - theta), rtol=1e-10, atol=1e-14)


def test_heavy_ball_and_its_equation_rest_alike():
    """At mid step, for a well of isotropic noise: the closed form of heavy ball."""
    rate, momentum, variance = 0.3, 0.8, 0.7
    settings = underdamped_parameters(rate, momentum)
    process = underdamped(noise.isotropic(bowl(), variance), **settings)
    a, b = affine(process, 3)
    flat = np.linalg.solve(np.eye(36) - np.kron(a, a), (b @ b.T).reshape(-1)).reshape(6, 6)
    center = np.concatenate([np.eye(3), settings["dt"] / 2 * np.eye(3)], axis=1)
    expected = at_rest(heavy_ball(noise.isotropic(bowl(), variance), rate, momentum), 3)
    np.testing.assert_allclose(center @ flat @ center.T, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("friction", [0.3, 1.0, 8.0])
@pytest.mark.parametrize("dt", [0.1, 0.5, 1.2])
def test_baoab_rests_at_temperature_over_curvature_exactly(friction, dt):
    """Whatever dt below the limit of stability, 2 / curvature^1/2 = 1.4 here."""
    result = at_rest(baoab(bowl(), 0.6, friction, dt), 3)
    np.testing.assert_allclose(result, 0.6 * np.linalg.inv(HESSIAN), rtol=1e-9, atol=1e-12)


def test_baoabs_velocities_rest_at_the_temperature_to_second_order():
    """<v^2> = T (1 - curvature dt^2 / 4), known in closed form for this splitting."""
    dt, temperature = 0.3, 0.6
    a, b = affine(baoab(bowl(), temperature, 1.0, dt), 3)
    flat = np.linalg.solve(np.eye(81) - np.kron(a, a), (b @ b.T).reshape(-1)).reshape(9, 9)
    expected = temperature * (np.eye(3) - dt**2 / 4 * HESSIAN)
    np.testing.assert_allclose(flat[3:6, 3:6], expected, rtol=1e-9, atol=1e-12)


def test_the_splitting_rests_at_the_temperature_to_second_order():
    """Limit: rate v / (2 friction H), by the continuous Lyapunov equation of (theta, v)."""
    rate, variance, friction = 0.4, 0.7, 0.9
    drift, sigma = with_inertia(friction, (rate * variance) ** 0.5)
    limit = solve_continuous_lyapunov(drift, sigma @ sigma.T)[:3, :3]
    expected = rate * variance / (2 * friction) * np.linalg.inv(HESSIAN)
    np.testing.assert_allclose(limit, expected, rtol=1e-10, atol=1e-13)
    model, steps = noise.isotropic(bowl(), variance), np.asarray([0.2, 0.1, 0.05])
    result = [at_rest(underdamped(model, rate, friction, dt), 3) for dt in steps]
    errors = [abs(remainder - limit).max() for remainder in result]
    np.testing.assert_allclose(slope(errors, steps), 2, atol=0.1)  # next order: dt^4


def test_without_friction_and_noise_it_keeps_the_energy():
    """Drift-kick-drift conserves h theta^2 + (1 - h dt^2 / 4) v^2, mode by mode, to rounding."""
    dt, h = 0.5, np.diag([0.5, 1.0, 2.0])
    a, _ = affine(underdamped(noise.full_batch(well(h)), 1.0, 0.0, dt), 3)
    form = np.zeros((6, 6))
    form[:3, :3], form[3:, 3:] = h, np.eye(3) - h * dt**2 / 4
    many = np.linalg.matrix_power(a, 300)
    np.testing.assert_allclose(many.T @ form @ many, form, rtol=1e-10, atol=1e-11)


def well(hessian):
    matrix = jnp.asarray(hessian)
    problem = bowl()
    return type(problem)(lambda t, c: 0.5 * (t @ matrix @ t) + 0 * c[:, 0], problem.examples)


def test_strong_friction_is_the_first_order_equation():
    """friction times the slow rate of decay is curvature (1 + curvature / friction^2 + ...).

    Steps of 0.1 / friction^2, whose own error is a hundred times smaller; the next term is too.
    """
    friction = np.asarray([20.0, 40.0, 80.0])
    slow = []
    for strong in friction:
        dt = 0.1 / strong**2
        a, _ = affine(underdamped(noise.full_batch(well(np.eye(3))), 1.0, strong, dt), 3)
        slow.append(-strong / dt * np.log(np.max(np.linalg.eigvals(a).real)))
    np.testing.assert_allclose(np.asarray(slow) - 1, friction**-2, rtol=0.02)


def test_weight_decay_adds_to_the_curvature():
    model = noise.isotropic(bowl(), 0.5)
    ridge, _ = affine(underdamped(model, 0.1, 1.0, 0.2, weight_decay=0.7), 3)
    steeper = noise.isotropic(well(HESSIAN + 0.7 * np.eye(3)), 0.5)
    expected, _ = affine(underdamped(steeper, 0.1, 1.0, 0.2), 3)
    np.testing.assert_allclose(ridge, expected, rtol=1e-12, atol=1e-15)


QUIET = noise.full_batch(curved()[0])
REFUSED = {
    "no rate": (lambda: underdamped(QUIET, 0.0, 1.0, 0.1), "learning_rate must be .* not 0.0"),
    "no dt": (lambda: underdamped(QUIET, 0.1, 1.0, 0.0), "dt must be positive, not 0.0"),
    "negative friction": (lambda: underdamped(QUIET, 0.1, -1.0, 0.1), "friction .* not -1.0"),
    "negative decay": (lambda: underdamped(QUIET, 0.1, 1.0, 0.1, -2.0), "decay .* not -2.0"),
    "a cold bath": (lambda: baoab(QUIET.problem, -1.0, 1.0, 0.1), "temperature .* not -1.0"),
    "no dt of a bath": (lambda: baoab(QUIET.problem, 1.0, 1.0, 0.0), "dt must be .* not 0.0"),
    "a bath that drives": (lambda: baoab(QUIET.problem, 1.0, -3.0, 0.1), "friction .* not -3"),
    "no learning rate": (
        lambda: underdamped_parameters(0.0, 0.9),
        "learning_rate must be positive, not 0.0",
    ),
    "no momentum": (
        lambda: underdamped_parameters(0.1, 0.0),
        "momentum must be positive, not 0.0",
    ),
    "momentum of one": (lambda: underdamped_parameters(0.1, 1.0), "momentum must be .* not 1.0"),
}


@pytest.mark.parametrize(("call", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_has_no_meaning_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
