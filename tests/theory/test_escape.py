"""Escape times: exact integrals, their limits, walks solved without chance, and simulated walks."""

import math

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis.strategies import floats
from numpy.testing import assert_allclose
from scipy.integrate import dblquad, quad, solve_ivp
from scipy.linalg import solve_banded
from scipy.stats import cauchy, norm
from witnesses import SURE, number

from derivations import escape as derived
from derivations import jumps
from sgdnoise.core import mean
from sgdnoise.theory import (
    boundary_time,
    discrete_passage_time,
    discrete_shift,
    eyring_kramers_time,
    ito_density,
    jump_constant,
    kramers_time,
    label_noise_height,
    passage_time,
    quasipotential,
    shaped_kramers_time,
    stable_exit_time,
)


def double_well(x):
    """U' of (x^2 - 1)^2 / 4: height 1/4, curvatures 2 and -1."""
    return x**3 - x


def loud(x):
    """Noise that is loud to the right."""
    return 0.1 * (1.5 + np.tanh(x))


def orders(gaps):
    """Slopes at which gaps close as a small number is halved."""
    return -np.diff(np.log2(np.abs(gaps)))


# --- exact ---


def test_a_passage_is_its_double_integral():
    temperature, low = 0.1, -2.5
    height = lambda x: (x**2 - 1) ** 2 / 4  # noqa: E731
    expected, error = dblquad(
        lambda z, y: math.exp((height(y) - height(z)) / temperature) / temperature,
        -1,
        1,
        low,
        lambda y: y,
        epsabs=0,
        epsrel=1e-9,
    )
    result = passage_time(double_well, temperature, -1.0, 1.0, low)
    assert abs(result - expected) < error + 1e-8 * expected


@pytest.mark.parametrize("diffusion", [0.1, loud])
def test_a_passage_solves_the_backward_equation(diffusion):
    """D t'' - U' t' = -1 with t' = 0 at the wall and t = 0 at the end, by scipy."""

    def slopes(x, t):
        noise = diffusion(x) if callable(diffusion) else diffusion
        return [t[1], (double_well(x) * t[1] - 1) / noise]

    ends = -1.8, 0.8
    solved = solve_ivp(
        slopes, ends, [0.0, 0.0], "DOP853", rtol=1e-12, atol=1e-14, dense_output=True
    )
    for start in (-1.8, -1.0, 0.3):
        result = passage_time(double_well, diffusion, start, 0.8, -1.8)
        assert_allclose(result, solved.sol(start)[0] - solved.sol(0.8)[0], rtol=1e-8)


def hops(x, noise, slope):
    """Mean times to the last of points from each, hopping to neighbours as the noise commands."""
    h = x[1] - x[0]
    up, down = noise(x) / h**2 - slope(x) / (2 * h), noise(x) / h**2 + slope(x) / (2 * h)
    down[0] = 0
    matrix = np.zeros((3, len(x) - 1))
    matrix[0, 1:], matrix[1], matrix[2, :-1] = -up[:-2], (up + down)[:-1], -down[1:-1]
    return solve_banded((1, 1), matrix, np.ones(len(x) - 1))


def test_a_chain_of_small_hops_takes_as_long():
    """A walk on a grid h, which reads the noise as Ito: what is left closes as h."""
    exact = passage_time(double_well, loud, -1.0, 1.0, -2.0)
    gaps = []
    for count in (600, 1200, 2400):
        x = np.linspace(-2, 1, count + 1)
        gaps.append(hops(x, loud, double_well)[count // 3] - exact)
    assert abs(gaps[-1]) < 0.02 * exact
    assert abs(orders(gaps)[-1] - 1) < 2 * abs(orders(gaps)[0] - 1) / 2 + 0.05


@given(length=floats(0.01, 100), temperature=floats(1e-3, 1e3))
def test_free_motion_takes_the_square_of_the_way(length, temperature):
    result = passage_time(lambda x: 0 * x, temperature, 0.0, length, 0.0)
    assert_allclose(result, length**2 / (2 * temperature), rtol=1e-9)


@given(scale=floats(0.1, 10), speed=floats(0.1, 10))
def test_times_scale_with_length_and_speed(scale, speed):
    """x times s makes U' and D s and s^2 times what they were; both times v are v times as fast."""
    plain = passage_time(double_well, loud, -1.0, 1.0, -2.0)
    result = passage_time(
        lambda x: speed * scale * double_well(x / scale),
        lambda x: speed * scale**2 * loud(x / scale),
        -scale,
        scale,
        -2 * scale,
    )
    assert_allclose(result * speed, plain, rtol=1e-7)


def test_downhill_takes_the_time_of_the_slope():
    """A steep way down, e^400 high on the way up: length over speed; a sum would underflow."""
    assert_allclose(passage_time(lambda x: 0 * x - 40, 0.1, 0.0, 1.0, -1.0), 1 / 40, rtol=1e-8)


def test_densities_at_rest_do_not_flow():
    """(D p)' = -U' p, and the whole is one: by the rules of the finer grid."""
    x = np.linspace(-2, 2, 4001)
    p = ito_density(double_well, loud, x)
    flow = np.gradient(loud(x) * p, x) + double_well(x) * p
    assert np.abs(flow[1:-1]).max() < 1e-5 * p.max()  # h^2 / 6 times a third derivative of D p
    assert_allclose(np.trapezoid(p, x), 1, rtol=1e-12)
    boltzmann = np.exp(-((x**2 - 1) ** 2) / 4 / 0.1)
    assert_allclose(
        ito_density(double_well, 0.1, x), boltzmann / np.trapezoid(boltzmann, x), rtol=1e-9
    )


# --- small noise ---


def tends_to_one(ratios):
    """Off by the noise to first order: extrapolating leaves the second, a quarter of a quarter."""
    off = np.asarray(ratios) - 1
    left = np.abs(2 * off[1:] - off[:-1])
    return abs(off[-1]) < 0.6 * abs(off[-2]) and left[-1] < left[0] / 3 and left[-1] < off[-1] / 3


NOISES = (0.05, 0.025, 0.0125, 0.00625)


def test_passages_tend_to_kramers_time():
    """To the next minimum; to the top it takes half as long."""
    for end, fraction in ((1.0, 1.0), (0.0, 0.5)):
        ratios = [
            passage_time(double_well, t, -1.0, end, -3.0)
            / kramers_time(0.25, t, 2.0, -1.0)
            / fraction
            for t in NOISES
        ]
        assert tends_to_one(ratios)


def test_shaped_noise_tends_to_its_own_kramers_time():
    ratios = []
    for t in NOISES:
        noise = lambda x, t=t: 5 * t * loud(x)  # noqa: E731
        height = quasipotential(double_well, noise, -1.0, 0.0)
        ends = (float(noise(np.asarray(x))) for x in (-1.0, 0.0))
        predicted = shaped_kramers_time(height, 2.0, -1.0, *ends)
        ratios.append(passage_time(double_well, noise, -1.0, 1.0, -3.0) / predicted)
    assert tends_to_one(ratios)


def test_times_fall_with_the_rate_by_the_height():
    """d log time / d log rate = -E up to a term of order 1 / E, over a saddle."""

    def off(rate):
        times = [
            passage_time(double_well, lambda x, r=r: r * loud(x), -1.0, 1.0, -3.0)
            for r in (rate * 0.999, rate * 1.001)
        ]
        slope = np.log(times[1] / times[0]) / np.log(1.001 / 0.999)
        return slope + quasipotential(double_well, lambda x: rate * loud(x), -1.0, 0.0)

    gaps = [off(rate) for rate in (0.2, 0.1, 0.05)]
    assert abs(gaps[-1]) < 0.1
    assert (orders(gaps) > 0.7).all()


def test_parabolas_are_left_by_their_flank_as_predicted():
    curvature, width = 2.0, 0.7
    ratios = []
    for t in np.asarray(NOISES):
        height = curvature * width**2 / (2 * t)
        exact = passage_time(lambda x: curvature * x, float(t), 0.0, width, -3.0)
        ratios.append(exact / boundary_time(height, curvature))
    assert tends_to_one(ratios)


@pytest.mark.parametrize("curvature", [0.5, 3.0])
def test_label_noise_leaves_parabolas_of_any_curvature_at_one_height(curvature):
    rate, label_noise, batch, width = 0.1, 0.4, 2, 0.3
    diffusion = rate * label_noise**2 * curvature / (2 * batch)
    height = quasipotential(lambda x: curvature * x, diffusion, 0.0, width)
    assert_allclose(label_noise_height(width, rate, label_noise, batch), height, rtol=1e-9)


def saddle(rng, p):
    """Hessians at a minimum and at a saddle, in axes of their own."""
    turns = [np.linalg.qr(rng.normal(size=(p, p)))[0] for _ in range(2)]
    low, high = rng.uniform(0.5, 2, (2, p))
    high[0] *= -1
    return (turns[0] * low) @ turns[0].T, (turns[1] * high) @ turns[1].T, low, high


def test_in_many_dimensions_determinants_count(xp, rng):
    bottom, top, low, high = saddle(rng, 4)
    result = eyring_kramers_time(0.6, 0.1, xp.asarray(bottom), xp.asarray(top))
    expected = 2 * np.pi / -high[0] * (-np.prod(high) / np.prod(low)) ** 0.5 * np.exp(6)
    assert_allclose(result, expected, rtol=1e-10)


def test_one_dimension_is_kramers_and_a_spectator_changes_nothing():
    plain = kramers_time(0.6, 0.1, 2.0, -1.0)
    first = eyring_kramers_time(0.6, 0.1, np.asarray([[2.0]]), np.asarray([[-1.0]]))
    two = eyring_kramers_time(0.6, 0.1, np.diag([2.0, 0.3]), np.diag([-1.0, 0.3]))
    assert_allclose([first, two], plain, rtol=1e-12)


# --- steps of time ---


def walk_time(slope, temperature, start, end, low, dt, count=500):
    """Mean time of Euler's walk to pass an end, from its integral equation: no chance."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    x, weights = low + (nodes + 1) / 2 * (end - low), weights * (end - low) / 2
    deviation = (2 * temperature * dt) ** 0.5

    def lands(at):
        return norm.pdf(x, at - slope(at) * dt, deviation) * weights

    times = np.linalg.solve(np.eye(count) - np.stack([lands(at) for at in x]), np.full(count, dt))
    return dt + lands(start) @ times


def test_walks_take_longer_as_if_the_end_were_farther():
    """Without the shift the error is of order dt^1/2, with it dt."""
    steps = (0.04, 0.02, 0.01)
    exact = np.asarray([walk_time(lambda x: x, 1.0, 0.0, 1.5, -6.0, dt) for dt in steps])
    plain = passage_time(lambda x: x, 1.0, 0.0, 1.5, -8.0)
    shifted = [discrete_passage_time(lambda x: x, 1.0, 0.0, 1.5, -8.0, dt) for dt in steps]
    bare, better = orders(plain / exact - 1), orders(shifted / exact - 1)
    assert abs(bare[-1] - 0.5) < 0.1
    assert abs(better[-1] - 1) < 0.05
    assert abs(shifted[-1] - exact[-1]) < abs(plain - exact[-1]) / 10


def simulated(step, start, ends, dt, walkers, most):
    """Times at which walkers leave an interval; all of them must."""
    x, times, away = np.full(walkers, start), np.zeros(walkers), np.arange(walkers)
    for k in range(1, most):
        x = step(x)
        out = (x <= ends[0]) | (x >= ends[1])
        times[away[out]] = k * dt
        x, away = x[~out], away[~out]
        if not len(x):
            return times
    raise AssertionError("some walkers are still there")


def test_simulated_walks_escape_when_predicted(rng):
    """Double well, to the top; the prediction is off by order dt: twice what dt / 2 changes."""
    temperature, dt = 0.15, 0.02
    kick = (2 * temperature * dt) ** 0.5

    def step(x):
        return x - dt * double_well(x) + kick * rng.normal(size=len(x))

    result = mean(simulated(step, -1.0, (-9.0, 0.0), dt, 1500, 20_000))
    first, half = (
        discrete_passage_time(double_well, temperature, -1.0, 0.0, -3.0, d) for d in (dt, dt / 2)
    )
    exact = walk_time(double_well, temperature, -1.0, 0.0, -3.0, dt)
    assert abs(result.z(exact)) < SURE
    assert abs(first - exact) < 2 * abs(first - half)


def test_the_shift_is_the_mean_leap_of_a_walk(rng):
    """Siegmund's: mean square over twice the mean of where a walk first stands above zero."""
    highs, x = [], rng.normal(size=40_000)
    for _ in range(4000):
        up = x > 0
        highs.append(x[up])
        x = x[~up] + rng.normal(size=(~up).sum())
    h = np.concatenate(highs)
    ratio = np.mean(h**2) / (2 * np.mean(h))
    blocks = (h**2 - 2 * ratio * h) / (2 * np.mean(h))
    error = blocks.std() / len(h) ** 0.5
    lost = len(x) / 40_000  # still below zero, whose leap is a large one's
    assert abs(discrete_shift(0.5, 1.0) - ratio) < SURE * error + lost


# --- jumps ---


def test_jumps_beyond_a_size_are_tails_of_cauchys_law():
    assert_allclose(jump_constant(1.0), cauchy.sf(1e6) * 1e6, rtol=1e-9)  # next order 1e6^-2


@pytest.mark.parametrize("alpha", [0.6, 1.3, 1.8])
def test_jumps_make_the_characteristic_exponent(alpha):
    """2 int (1 - cos y) c / y^(1 + alpha) = 1: by quadrature, its far end by parts."""
    near = quad(lambda y: (1 - math.cos(y)) / y ** (1 + alpha), 0, 40 * math.pi, limit=2000)[0]
    far = (40 * math.pi) ** -alpha / alpha  # of the one; the cosine leaves far^(-2 - alpha) (1 + a)
    wave = (1 + alpha) * (40 * math.pi) ** (-2 - alpha)
    assert abs(2 * jump_constant(alpha) * (near + far) - 1) < 4 * wave + 1e-7


def cauchy_walk_time(strength, dt, count=501):
    """Of x <- (1 - dt) x + strength dt xi to leave (-1, 1), from its integral equation."""
    x, weights = np.polynomial.legendre.leggauss(count)
    lands = cauchy.pdf(x[None, :], x[:, None] * (1 - dt), strength * dt) * weights
    times = np.linalg.solve(np.eye(count) - lands, np.full(count, dt))
    return times[count // 2]


@pytest.mark.parametrize("dt", [0.5, 0.25])
def test_walks_that_jump_leave_by_one_jump(dt):
    """Cauchy noise: off by a part that halves with the strength."""
    ratios = [cauchy_walk_time(e, dt) / stable_exit_time(1.0, e, 1.0, 1.0) for e in (0.2, 0.1)]
    off = np.asarray(ratios) - 1
    assert abs(off[1]) < 0.025
    assert abs(off[1] / off[0] - 0.5) < 0.2


def stable(alpha, size, rng):
    """Symmetric stable numbers (Chambers, Mallows & Stuck, 1976)."""
    v, w = rng.uniform(-np.pi / 2, np.pi / 2, size), rng.exponential(size=size)
    turned = (np.cos(v - alpha * v) / w) ** ((1 - alpha) / alpha)
    return np.sin(alpha * v) / np.cos(v) ** (1 / alpha) * turned


def test_simulated_jumps_escape_when_predicted(rng):
    """alpha = 1.5, another width each side: the part that is off closes as strengths fall."""
    alpha, dt = 1.5, 0.25

    def off(strength):
        def step(x):
            return x * (1 - dt) + strength * dt ** (1 / alpha) * stable(alpha, len(x), rng)

        result = mean(simulated(step, 0.0, (-1.0, 2.0), dt, 1500, 100_000))
        predicted = stable_exit_time(alpha, strength, 1.0, 2.0)
        return result.value / predicted - 1, result.stderr / predicted

    (far, far_error), (near, error) = off(0.2), off(0.1)
    assert abs(near) < SURE * error + abs(far) + SURE * far_error
    assert abs(2 * near - far) < SURE * (4 * error**2 + far_error**2) ** 0.5 + far**2


def test_height_does_not_count_for_jumps_but_width_does():
    first = stable_exit_time(1.2, 0.1, 1.0, math.inf)
    assert_allclose(stable_exit_time(1.2, 0.1, 2.0, math.inf), first * 2**1.2, rtol=1e-12)
    assert_allclose(stable_exit_time(1.2, 0.05, 1.0, math.inf), first * 2**1.2, rtol=1e-12)
    assert_allclose(stable_exit_time(1.2, 0.1, 1.0, 1.0), first / 2, rtol=1e-12)


# --- the derived formulas ---


def test_coded_formulas_are_the_derived_ones():
    wells = {"a": 2.0, "b": 1.5, "{\\Delta U}": 0.6, "T": 0.2, "{\\Delta\\Phi}": 4.0}
    wells |= {"D_a": 0.3, "D_b": 0.7, "a_2": 0.8, "b_2": 0.6, "h": 1.3}
    stable = {"alpha": 1.3, "varepsilon": 0.1, "w_-": 1.0, "w_+": 2.0, "c": jump_constant(1.3)}
    for coded, equation, letters in (
        (kramers_time(0.6, 0.2, 2.0, -1.5), derived.kramers(), wells),
        (shaped_kramers_time(4.0, 2.0, -1.5, 0.3, 0.7), derived.shaped_kramers(), wells),
        (
            eyring_kramers_time(0.6, 0.2, np.diag([2.0, 0.8]), np.diag([-1.5, 0.6])),
            derived.eyring_kramers(),
            wells,
        ),
        (boundary_time(4.0, 1.3), derived.boundary_time(), wells),
        (
            label_noise_height(0.3, 0.1, 0.4, 2),
            derived.label_noise_height(),
            {"w": 0.3, "eta": 0.1, "sigma": 0.4, "B": 2},
        ),
        (jump_constant(1.3), jumps.jump_constant(), stable),
        (stable_exit_time(1.3, 0.1, 1.0, 2.0), jumps.stable_exit(), stable),
        (discrete_shift(0.5, 1.0), jumps.discrete_shift(), {}),
    ):
        assert_allclose(coded, number(equation, **letters), rtol=1e-12)


def chosen(expression):
    """Derived for any Phi and D: here Phi = x and D = e^(x / 2), of slope U' = D."""
    generated = expression.replace(derived.phi, lambda x: x)
    return generated.replace(derived.noise, lambda x: sp.exp(x / 2)).doit()


def test_passages_and_densities_are_the_derived_integrals():
    def noise(x):
        return np.exp(x / 2)

    ends = {derived.x: -0.3, derived.end: 1.2, derived.low: -1.0}
    time = float(chosen(derived.passage_time().rhs).subs(ends))
    assert_allclose(passage_time(noise, noise, -0.3, 1.2, -1.0), time, rtol=1e-9)
    points = np.linspace(-1, 1, 5)
    law = chosen(derived.ito_density().rhs)
    ratios = [float((law / law.subs(derived.x, 0)).subs(derived.x, x)) for x in points]
    result = ito_density(noise, noise, points)
    assert_allclose(result / result[2], ratios, rtol=1e-12)


# --- bad input ---


def test_bad_input_is_refused_in_a_sentence():
    up, down = np.eye(2), np.diag([-1.0, 1.0])
    skewed = np.asarray([[1.0, 0.5], [0.0, 1.0]])
    for call, words in (
        (lambda: passage_time(double_well, 0.1, 1.0, 0.0, -2.0), "no order low to high"),
        (lambda: passage_time(double_well, 0.1, 0.0, 1.0, -math.inf), "no order low to high"),
        (lambda: passage_time(double_well, -0.1, 0.0, 1.0, -2.0), "must be positive, not -0.1"),
        (lambda: passage_time(double_well, 3e-4, -1.0, 1.0, -2.0), "beyond floating point"),
        (lambda: passage_time(lambda x: np.sign(np.sin(1e5 * x**2)), 0.1, 0.0, 1.0, 0.0), "rough"),
        (lambda: ito_density(double_well, 0.1, np.asarray([0.0, -1.0])), "ascending order"),
        (lambda: kramers_time(-0.1, 0.1, 1.0, -1.0), "must lie above the well, not by -0.1"),
        (lambda: kramers_time(0.1, 0.0, 1.0, -1.0), r"temperature must be positive, not 0\.0"),
        (lambda: kramers_time(0.1, 0.1, 1.0, 1.0), "curves up and a barrier down, not by 1.0 and"),
        (lambda: shaped_kramers_time(0.0, 1.0, -1.0, 1.0, 1.0), "not at 0 temperatures"),
        (lambda: shaped_kramers_time(2.0, 1.0, -1.0, 0.0, 1.0), "noise must be positive, not 0.0"),
        (
            lambda: eyring_kramers_time(1.0, -1.0, up, down),
            "temperature must be 0 or more",
        ),
        (lambda: eyring_kramers_time(-1.0, 1.0, up, down), "must lie above the well, not by -1"),
        (lambda: eyring_kramers_time(1.0, 1.0, skewed, down), "bottom is not symmetric"),
        (lambda: eyring_kramers_time(1.0, 1.0, up, skewed), "top is not symmetric"),
        (lambda: eyring_kramers_time(1.0, 1.0, down, down), "a minimum has no curvature -1"),
        (lambda: eyring_kramers_time(1.0, 1.0, up, up), "one negative curvature"),
        (lambda: eyring_kramers_time(1.0, 1.0, up, -up), "one negative curvature"),
        (lambda: quasipotential(double_well, 0.1, 0.0, -1.0), "must lie above the bottom"),
        (lambda: quasipotential(double_well, 0.0, -1.0, 0.0), "must be positive, not 0"),
        (lambda: boundary_time(0.0, 1.0), "height and curvature must be positive, not 0.0"),
        (lambda: label_noise_height(0.3, 0.1, 0.0, 2), "must be positive, not 0.3, 0.1, 0.0 and 2"),
        (lambda: discrete_shift(0.0, 0.1), "a shift needs diffusion > 0"),
        (lambda: jump_constant(2.0), r"tail index in \(0, 2\), not 2"),
        (lambda: stable_exit_time(0.0, 0.1, 1.0, 1.0), r"tail index in \(0, 2\), not 0"),
        (lambda: stable_exit_time(1.5, -0.1, 1.0, 1.0), "strength and distances must be positive"),
        (lambda: stable_exit_time(1.5, 0.1, math.inf, math.inf), "without ends is never left"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
