"""Orders of convergence, weak and strong, by halving dt on problems whose moments are exact."""

from functools import cache
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
import torch
from numpy.polynomial import Polynomial
from scipy.linalg import expm
from steps import affine, after, linear, slope, solution, with_inertia
from witnesses import HESSIAN, bowl, curved

from sgdnoise import noise
from sgdnoise.core import Factor, Problem
from sgdnoise.dynamics import (
    baoab,
    heun,
    langevin,
    ornstein_uhlenbeck,
    overdamped_langevin,
    sgd,
    underdamped,
    with_weak_increments,
)
from sgdnoise.noise import Normal, Rademacher, StepNumber, ThreePoint, WithReplacement

pytestmark = pytest.mark.usefixtures("quick_to_compile")
RATE, VARIANCE, FRICTION = 0.4, 0.7, 0.9
STRENGTH = (RATE * VARIANCE) ** 0.5
COLD = STRENGTH**2 / (2 * FRICTION)  # the temperature of the same noise
START = np.asarray([1.0, -0.5, 0.7])
BOWL = noise.isotropic(bowl(), VARIANCE)
ORDINARY = (HESSIAN, STRENGTH * np.eye(3))
INERT = with_inertia(FRICTION, STRENGTH)
SCHEMES = {
    "langevin": (lambda dt: langevin(BOWL, RATE, dt), ORDINARY, 1),
    "thermal": (lambda dt: overdamped_langevin(bowl(), STRENGTH**2 / 2, dt), ORDINARY, 1),
    "heun": (lambda dt: heun(BOWL, RATE, dt), ORDINARY, 2),
    "underdamped": (lambda dt: underdamped(BOWL, RATE, FRICTION, dt), INERT, 2),
    "baoab": (lambda dt: baoab(bowl(), COLD, FRICTION, dt), INERT, 2),
}
STEPS = np.asarray([16, 32, 64])


def begun(process):
    """The flat state that a process makes of START."""
    return np.concatenate([np.ravel(piece) for piece in jax.tree.leaves(process.begin(START))])


@cache
def compiled(make):
    """dt -> A and B of a step."""
    return jax.jit(lambda dt: linear(make(dt), 3))


def matrices(make, steps):
    """A and B of each of so many steps to time 1, and the flat state at first."""
    return *map(np.asarray, compiled(make)(1 / steps)), begun(make(1 / steps))


@pytest.mark.parametrize(("make", "equation", "order"), SCHEMES.values(), ids=SCHEMES.keys())
def test_mean_and_covariance_converge_at_the_weak_order(make, equation, order):
    """At time 1 from a fixed start.  dt |H| = 1/8 at most: the next order is 1/8 of this one."""
    drift, sigma = equation
    size = len(drift)
    start = np.concatenate([START, np.zeros(size - 3)])
    mean, cov = solution(drift, sigma, 1.0, start)
    errors = []
    for steps in STEPS:
        a, b, first = matrices(make, steps)
        result, deviation = after(a, b, steps, first)
        errors.append((abs(result[:size] - mean).max(), abs(deviation[:size, :size] - cov).max()))
    for error in zip(*errors, strict=True):
        np.testing.assert_allclose(slope(error, 1 / STEPS), order, atol=0.15)


def shared_noise(make, equation, dt):
    """How often the noise of a step's numbers is in the exact solution's: Cov(I, z) and Cov(I).

    I = int exp(-A (dt - s)) sigma dW_s, and z = dt^{-1/2} (W_dt - W_0), the same directions, but
    for BAOAB, whose z is the increment of the velocity's own bath, int e^{-friction (dt - s)} dW.
    """
    drift, sigma = equation
    eye = np.eye(len(drift))
    _, deviation = solution(drift, sigma, dt, np.zeros(len(drift)))
    if make is SCHEMES["baoab"][0]:
        norm = ((1 - np.exp(-2 * FRICTION * dt)) / (2 * FRICTION)) ** 0.5
        slowed = drift + FRICTION * eye
    else:
        norm, slowed = dt**0.5, drift
    return np.linalg.solve(slowed, eye - expm(-slowed * dt)) @ sigma / norm, deviation


@pytest.mark.parametrize(("make", "equation", "_"), SCHEMES.values(), ids=SCHEMES.keys())
def test_paths_converge_at_strong_order_1_for_additive_noise(make, equation, _):
    """E |x - X|^2 at time 1, both driven by one Brownian path, from their joint second moments.

    The noise of descent points against the gradient, hence the sign of z in three of them.
    """
    drift, sigma = equation
    size, errors = len(drift), []
    for steps in STEPS:
        a, b, first = matrices(make, steps)
        shared, deviation = shared_noise(make, equation, 1 / steps)
        sign = np.sign(np.sum(b[:size] * sigma))
        both = np.block(
            [
                [a, np.zeros((len(a), size))],
                [np.zeros((size, len(a))), expm(-drift / steps)],
            ]
        )
        kicks = np.block([[b @ b.T, sign * b @ shared.T], [sign * shared @ b.T, deviation]])
        start = np.concatenate([first, START, np.zeros(size - 3)])
        mean, cov = start, np.zeros_like(both)
        for _ in range(steps):
            mean, cov = both @ mean, both @ cov @ both.T + kicks
        apart = np.zeros((size, len(both)))
        apart[:, :size], apart[:, -size:] = np.eye(size), -np.eye(size)
        errors.append(np.sqrt(np.trace(apart @ (cov + np.outer(mean, mean)) @ apart.T)))
    np.testing.assert_allclose(slope(errors, 1 / STEPS), 1, atol=0.15)


LINE = jnp.asarray([[0.0]])


def on_a_line(loss):
    """A problem in one dimension with one example."""
    return Problem(lambda t, c: loss(t[0]) + 0 * c[:, 0], (LINE,), 1)


def test_paths_converge_at_strong_order_one_half_where_noise_grows_with_theta():
    """dx = -h x dt + s x dW, X = x exp(-(h + s^2 / 2) t + s W): joint second moments, by factors.

    a + b z read off the step: E X'^2 / X^2 = exp((s^2 - 2 h) dt), E x'X' / xX = exp(-h dt) (a + b s
    dt^{1/2}).  The next order is dt^{1/2} times this one, small at dt = 2^-9.
    """
    h, s, steps = 0.5, 0.6, np.asarray([512, 1024, 2048])
    model = noise.additive(on_a_line(lambda t: h * t**2 / 2), lambda t: Factor(s * t[None, :]))
    errors = []
    for n in steps:
        dt = 1 / n
        step = langevin(model, 1.0, dt).step
        a = float(step(jnp.ones(1), jnp.zeros(1))[0])
        b = a - float(step(jnp.ones(1), jnp.ones(1))[0])  # the sign of the noise is descent's
        direct, exact = a**2 + b**2, np.exp((s**2 - 2 * h) * dt)
        cross = np.exp(-h * dt) * (a + b * s * dt**0.5)
        errors.append((direct**n + exact**n - 2 * cross**n) ** 0.5)
    np.testing.assert_allclose(slope(errors, 1 / steps), 0.5, atol=0.05)


NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(20)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
LAWS = {
    Normal: (NODES, WEIGHTS),
    Rademacher: (np.asarray([-1.0, 1.0]), np.asarray([0.5, 0.5])),
    ThreePoint: (3**0.5 * np.asarray([-1.0, 0.0, 1.0]), np.asarray([1, 4, 1]) / 6),
}


FORCE = Polynomial([0.0, 1.0, 0.5, 1 / 3])  # of a loss whose force bends
CONSTANT, VARYING = Polynomial([0.8]), Polynomial([0.8, 0.0, 0.3])  # variance of the noise


def polynomial(of):
    """A polynomial of numpy's as a function of arrays of any library."""
    return lambda t: sum(c * t**k for k, c in enumerate(of.coef.tolist()))


def on_average(scheme, spread, law, power, theta):
    """(rate, dt) -> E theta'^power after one step, a sum over what may be drawn."""
    variance, problem = polynomial(spread), on_a_line(polynomial(FORCE.integ()))
    model = noise.additive(problem, lambda t: Factor(variance(t[None, :]) ** 0.5))
    points, weights = LAWS[law]

    @jax.jit
    def ends(rate, dt):
        step = scheme(model, rate, dt).step
        return jax.vmap(lambda z: step(jnp.full(1, theta), z[None])[0])(jnp.asarray(points))

    return lambda rate, dt: weights @ np.asarray(ends(rate, dt)) ** power


def by_ito_taylor(spread, rate, power, theta, dt):
    """E theta(dt)^power to second order in dt: f + dt G f + dt^2 / 2 G G f, G the generator."""

    def generated(f):
        return rate / 2 * spread * f.deriv(2) - FORCE * f.deriv()

    f = Polynomial([0.0, 1.0]) ** power
    return (f + dt * generated(f) + dt**2 / 2 * generated(generated(f)))(theta)


def local_orders(scheme, spread, law, rates, dts):
    """Order in dt of the error of E theta'^power in one step, power 1 to 4."""
    theta, errors = 0.6, []
    for power in (1, 2, 3, 4):
        after_one = on_average(scheme, spread, law, power, theta)
        errors.append(
            [
                abs(after_one(rate, dt) - by_ito_taylor(spread, rate, power, theta, dt))
                for rate, dt in zip(rates, dts, strict=True)
            ]
        )
    return np.asarray([slope(error, dts) for error in errors])


DTS = np.asarray([0.004, 0.002, 0.001])  # the next order is a few per cent of this one
LOCAL = {
    "euler": (langevin, CONSTANT, Normal, 2),
    "euler of signs": (langevin, VARYING, Rademacher, 2),
    "heun": (heun, CONSTANT, Normal, 3),
    "heun of three": (heun, CONSTANT, ThreePoint, 3),
    "heun of signs": (heun, CONSTANT, Rademacher, 2),
    "heun where noise varies": (heun, VARYING, Normal, 2),
}


@pytest.mark.parametrize(("scheme", "spread", "law", "order"), LOCAL.values(), ids=LOCAL.keys())
def test_one_step_is_wrong_by_one_order_more_than_the_weak_order(scheme, spread, law, order):
    """In a loss with bends, against the Ito-Taylor series: the smallest order of four moments."""
    orders = local_orders(scheme, spread, law, [0.5] * 3, DTS)
    np.testing.assert_allclose(orders.min(0), order, atol=0.15)


def test_heun_is_of_second_order_once_the_rate_shrinks_with_dt():
    """Noise that varies costs rate dt^2 in a step: as dt^3 where dt is the rate."""
    orders = local_orders(heun, VARYING, Normal, DTS, DTS)
    np.testing.assert_allclose(orders.min(0), 3, atol=0.15)


X, V = sp.symbols("x v")
MOMENTS = [X, V, X * V, V**2, X * V**2, V**3, V**4]


def of_inertia(spread, law, kind):
    """dt -> E of MOMENTS after one step from (0.6, 0.4), a sum over what may be drawn."""
    variance, problem = polynomial(spread), on_a_line(polynomial(FORCE.integ()))
    model = noise.additive(problem, lambda t: Factor(variance(t[None, :]) ** 0.5))
    points, weights = LAWS[law]
    cold = 0.5 * 0.8 / (2 * FRICTION)  # rate times variance is 2 friction times this

    @jax.jit
    def ends(dt):
        state = (jnp.full(1, 0.6), jnp.full(1, 0.4))
        process = underdamped(model, 0.5, FRICTION, dt)
        if kind == "baoab":
            process = baoab(problem, cold, FRICTION, dt)
            state = (*state, problem.gradient(state[0]))
        return jax.vmap(lambda z: process.step(state, z[None])[:2])(jnp.asarray(points))

    def moments(dt):
        x, v = (np.asarray(piece)[:, 0] for piece in ends(dt))
        return np.asarray([weights @ sp.lambdify((X, V), f)(x, v) for f in MOMENTS])

    return moments


def series_of_inertia(dt, spread):
    """The same of the equation, to second order in dt."""
    force, variance = (sum(c * X**k for k, c in enumerate(p.coef)) for p in (FORCE, spread))

    def generated(f):
        drift = V * sp.diff(f, X) - (force + FRICTION * V) * sp.diff(f, V)
        return drift + 0.25 * variance * sp.diff(f, V, 2)  # rate 0.5

    series = [f + dt * generated(f) + dt**2 / 2 * generated(generated(f)) for f in MOMENTS]
    return np.asarray([float(f.subs({X: 0.6, V: 0.4})) for f in series])


@pytest.mark.parametrize(
    ("kind", "spread", "law", "order"),
    [
        ("underdamped", VARYING, Normal, 3),
        ("underdamped", VARYING, ThreePoint, 3),
        ("underdamped", CONSTANT, Rademacher, 2),
        ("baoab", CONSTANT, Normal, 3),
    ],
)
def test_one_step_of_inertia_is_wrong_by_one_order_more(kind, spread, law, order):
    """Bends in the force and noise that varies with theta: seven moments, the smallest order."""
    after_one = of_inertia(spread, law, kind)
    errors = [abs(after_one(dt) - series_of_inertia(dt, spread)) for dt in DTS]
    orders = np.asarray([slope(error, DTS) for error in np.transpose(errors)])
    np.testing.assert_allclose(orders.min(0), order, atol=0.15)


def uneven():
    """Loss l_i = h_i (theta - c_i)^2 / 2: each example has its own curvature."""
    h, c = jnp.asarray([0.5, 1.0, 2.4]), jnp.asarray([0.3, -0.4, 0.2])
    return Problem(lambda t, h, c: 0.5 * h * (t[0] - c) ** 2, (h, c))


def moments_after(make, outcomes, steps):
    """E theta and E theta^2 at time 2 where a step is affine in theta, over all that is drawn."""

    @jax.jit
    def ends(theta, rate):
        return jax.vmap(lambda z: make(rate).step(theta, z)[0])(outcomes)

    result = []
    for n in steps:
        at_0, at_1 = (np.asarray(ends(jnp.full(1, x), 2 / n)) for x in (0.0, 1.0))
        a, b, first, second = at_1 - at_0, at_0, 0.8, 0.64
        for _ in range(n):
            first, second = (
                np.mean(a * first + b),
                np.mean(a**2 * second + 2 * a * b * first + b**2),
            )
        result.append((first, second))
    return np.asarray(result)


def of_descent_and(scheme, steps):
    """Moments at time 2 of descent at batch 2, and of an equation for it, at dt = rate."""
    model = noise.minibatch(uneven(), 2)
    chosen = jnp.asarray(list(product(range(3), repeat=2)))
    signs = jnp.asarray(list(product((-1.0, 1.0), repeat=3)))
    return (
        moments_after(lambda rate: sgd(model, rate), chosen, steps),
        moments_after(lambda rate: scheme(model, rate), signs, steps),
    )


def test_euler_at_the_rate_has_the_two_moments_of_descent_for_ever():
    """Whatever the time and the rate, though C depends on theta: linear gradients."""
    exact, result = of_descent_and(langevin, [8])
    np.testing.assert_allclose(result, exact, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2])
def test_the_equation_of_an_order_solved_to_second_order_is_that_close_to_descent(order):
    """Li, Tai & E: E theta and E theta^2 at a fixed time, error rate^order; steps by Heun."""
    steps = np.asarray([64, 128, 256])
    exact, result = of_descent_and(lambda model, rate: heun(model, rate, order=order), steps)
    orders = slope(abs(result - exact).max(1), 1 / steps)
    np.testing.assert_allclose(orders, order, atol=0.15)


@pytest.mark.parametrize("scheme", [langevin, heun])
def test_the_second_order_drift_is_that_of_the_modified_loss(scheme):
    """-grad (L + (rate / 4) |grad L|^2), with L + decay |theta|^2 / 2 for L; dt -> 0 for Heun."""
    problem, theta = curved("torch")
    rate, decay, dt, grad = 0.3, 0.2, 1e-7, torch.func.grad

    def ridge(t):
        return problem.value(t) + decay * (t @ t) / 2

    def modified(t):
        return ridge(t) + rate / 4 * (grad(ridge)(t) ** 2).sum()

    process = scheme(noise.full_batch(problem), rate, dt, order=2, weight_decay=decay)
    result = (theta - process.step(theta, torch.zeros(0))) / dt
    torch.testing.assert_close(result, grad(modified)(theta), rtol=1e-5, atol=0)


def test_weakly_changes_normal_numbers_only_wherever_they_stand():
    process = sgd(noise.label_noise(curved()[0], 3, 0.2), 0.1)
    assert with_weak_increments(process).draw == (process.draw[0], Rademacher(3))
    assert with_weak_increments(langevin(BOWL, 0.1), ThreePoint).draw == ThreePoint(3)
    assert with_weak_increments(sgd(BOWL, lambda k: 0.1 / (1 + k))).draw == (
        Rademacher(3),
        StepNumber(),
    )
    assert with_weak_increments(sgd(noise.minibatch(curved()[0], 2), 0.1)).draw == WithReplacement(
        2, 4
    )


@pytest.mark.parametrize("kind", [Normal, WithReplacement, int])
def test_weakly_refuses_other_kinds(kind):
    with pytest.raises(ValueError, match="must be Rademacher or ThreePoint, not <class"):
        with_weak_increments(langevin(BOWL, 0.1), kind)


def test_the_exact_process_has_no_error_at_any_step():
    """Two steps of 2 / 2, one of 2, and the equation's own moments."""
    drift, sigma = INERT
    start = np.concatenate([START, START])
    expected = solution(drift, sigma, 2.0, start)
    for steps in (1, 2, 7):
        process = ornstein_uhlenbeck(drift, sigma @ sigma.T, 2 / steps)
        result = after(*affine(process, 6), steps, start)
        for ours, theirs in zip(result, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dt", [1e-6, 30.0, 1e4])
def test_very_short_and_very_long_steps_cost_no_digits(dt):
    """D dt for the short, what it comes to rest at for the long, after any number of doublings.

    The short one to dt times the norms of the matrices.
    """
    drift = np.asarray([[1.0, 2.0, 0.0], [-2.0, 1.5, 0.4], [0.0, -0.4, 0.8]])
    sigma = np.diag([1.0, 0.5, 2.0])
    _, b = affine(ornstein_uhlenbeck(drift, sigma @ sigma.T, dt), 3)
    remainder = solution(drift, sigma, 1e3, np.zeros(3))[1]
    expected, rtol = (sigma @ sigma.T * dt, 1e-4) if dt < 1 else (remainder, 1e-10)
    np.testing.assert_allclose(b @ b.T, expected, rtol=rtol, atol=1e-5 * dt if dt < 1 else 1e-12)


def test_a_direction_without_noise_stays_without():
    """D may be singular: then the white numbers move what it reaches alone."""
    process = ornstein_uhlenbeck(np.diag([1.0, 2.0]), np.diag([0.0, 3.0]), 0.5)
    _, b = affine(process, 2)
    np.testing.assert_allclose(b @ b.T, np.diag([0.0, 3 * (1 - np.exp(-2.0)) / 4]), atol=1e-14)


EYE = np.eye(2)
REFUSED = {
    "a drift that grows": ((-EYE, EYE, 0.1), "eigenvalue of real part -1, not positive"),
    "a drift that only turns": (([[0, 1], [-1, 0]], EYE, 0.1), "eigenvalue of real part 0"),
    "an oblong drift": ((np.ones((2, 3)), EYE, 0.1), r"drift must be .* \(2, 3\)"),
    "a drift in a row": ((np.ones(2), EYE, 0.1), r"drift must be .* \(2,\)"),
    "an oblong diffusion": ((EYE, np.ones((2, 3)), 0.1), r"diffusion must be .* \(2, 3\)"),
    "another size": ((EYE, np.eye(3), 0.1), r"\(2, 2\) has no diffusion of shape \(3, 3\)"),
    "an oblique diffusion": ((EYE, [[1, 0.2], [0, 1]], 0.1), "symmetric, .* differ by 0.2"),
    "an indefinite diffusion": ((EYE, np.diag([1, -0.3]), 0.1), "negative eigenvalue -0.3"),
    "no dt": ((EYE, EYE, 0.0), "dt must be positive, not 0.0"),
}


@pytest.mark.parametrize(("given", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_matrices_without_a_process_are_refused(given, words):
    a, d, dt = given
    with pytest.raises(ValueError, match=words):
        ornstein_uhlenbeck(np.asarray(a, float), np.asarray(d, float), dt)


QUIET = noise.full_batch(curved()[0])


@pytest.mark.parametrize("scheme", [langevin, heun])
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"learning_rate": -1.0}, "learning_rate must be 0 or more and finite, not -1.0"),
        ({"learning_rate": 0.1, "dt": 0.0}, "dt must be positive, not 0.0"),
        ({"learning_rate": 0.1, "order": 3}, "order 1 or 2, not 3"),
        ({"learning_rate": 0.1, "weight_decay": -0.2}, "weight_decay must be .* not -0.2"),
        ({"learning_rate": lambda k: 0.1, "order": 2}, "constant learning rate"),
    ],
)
def test_what_is_no_equation_is_refused(scheme, how, words):
    with pytest.raises(ValueError, match=words):
        scheme(QUIET, **how)


@pytest.mark.parametrize(("temperature", "dt"), [(-1.0, 0.1), (1.0, 0.0)])
def test_a_bath_out_of_range_is_refused(temperature, dt):
    with pytest.raises(ValueError, match=r"must be .*, not (-1.0|0.0)"):
        overdamped_langevin(QUIET.problem, temperature, dt)


def test_a_thermal_bath_rests_at_temperature_over_curvature_to_first_order():
    """Euler's T (H + decay)^-1 (1 - dt (H + decay) / 2)^-1, in closed form."""
    temperature, dt, decay = 0.6, 0.1, 0.3
    steep = HESSIAN + decay * np.eye(3)
    a, b = affine(overdamped_langevin(bowl(), temperature, dt, weight_decay=decay), 3)
    expected = temperature * np.linalg.inv(steep @ (np.eye(3) - dt / 2 * steep))
    np.testing.assert_allclose(a @ expected @ a.T + b @ b.T, expected, rtol=1e-10, atol=1e-13)


def test_a_solver_of_another_house_takes_the_same_steps(rng):
    """Euler of diffrax along the same Brownian path, where it is installed."""
    diffrax = pytest.importorskip("diffrax")
    steps, dt = 8, 0.1
    white = jnp.asarray(rng.normal(size=(steps, 3)))
    walked = jnp.concatenate([jnp.zeros((1, 3)), jnp.cumsum(dt**0.5 * white, axis=0)])

    class Given(diffrax.AbstractPath):
        t0 = 0.0
        t1 = steps * dt

        def evaluate(self, t0, t1=None, left=True):  # noqa: ARG002 - as diffrax wants it
            before, later = (walked[jnp.round(t / dt).astype(int)] for t in (t0, t1))
            return later - before

    drift = diffrax.ODETerm(lambda t, y, args: -jnp.asarray(HESSIAN) @ y)
    kicks = diffrax.ControlTerm(lambda t, y, args: -STRENGTH * jnp.eye(3), Given())
    result = diffrax.diffeqsolve(
        diffrax.MultiTerm(drift, kicks), diffrax.Euler(), 0.0, steps * dt, dt, jnp.asarray(START)
    )
    theta, step = jnp.asarray(START), jax.jit(langevin(BOWL, RATE, dt).step)
    for row in white:
        theta = step(theta, row)
    np.testing.assert_allclose(result.ys[-1], theta, rtol=1e-10)
