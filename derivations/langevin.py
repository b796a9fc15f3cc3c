"""One step of the Langevin equation compared with one step of SGD."""

import sympy as sp

from derivations.algebra import mean, same, white
from derivations.equation import equation
from derivations.symbols import curvature, rate

dt = sp.Symbol("tau", positive=True)  # step of time
theta = sp.Matrix(sp.symbols("theta_1:3", real=True))
g = sp.Matrix(sp.symbols("g_1:3", real=True))  # mean gradient
k = sp.Matrix(2, 2, sp.symbols("k_11 k_12 k_21 k_22", real=True))  # C = k k^T


def _mean_is_that_of_descent():
    mean = sum(_tossed(), sp.zeros(2, 1)) / 4
    return same(step_mean().rhs, mean[0])


@equation(
    "eq:step-mean", computed_by="sgdnoise.dynamics.langevin", laws=(_mean_is_that_of_descent,)
)
def step_mean():
    """Mean of a step of the Langevin equation that lasts one learning rate."""
    return sp.Eq(sp.Symbol(r"\mathbb{E}\theta_1'"), mean(_euler()[0].subs(dt, rate), white(2)))


def _covariance_is_that_of_descent():
    outcomes = _tossed()
    mean = sum(outcomes, sp.zeros(2, 1)) / 4
    scatter = sum(((x - mean) * (x - mean).T for x in outcomes), sp.zeros(2)) / 4
    return same(step_covariance().rhs.subs(dt, rate), scatter[0, 1])


def _covariance_is_that_of_the_equation():
    """In a short time: covariance eta C a unit of time."""
    return same(sp.limit(step_covariance().rhs / dt, dt, 0), rate * (k * k.T)[0, 1])


@equation(
    "eq:step-covariance",
    computed_by="sgdnoise.dynamics.langevin",
    laws=(_covariance_is_that_of_descent, _covariance_is_that_of_the_equation),
)
def step_covariance():
    """Covariance of two parameters after a step of the Langevin equation."""
    z, after = white(2), _euler()
    away = after - sp.Matrix([mean(term, z) for term in after])
    name = sp.Symbol(r"\operatorname{Cov}(\theta_1', \theta_2')")
    return sp.Eq(name, sp.factor(mean(away[0] * away[1], z)))


def _steps_of_one_rate_are_not_scaled():
    return white_scale().rhs.subs(dt, rate) == 1


def _two_half_steps_scatter_like_one():
    """Without a force, noise adds up alike however time is cut."""

    def once(length):
        return (length * white_scale().rhs.subs(dt, length)) ** 2

    return same(2 * once(dt / 2), once(dt))


def _rests_between_equation_and_descent():
    """In a bowl: at rest as the equation for short steps, as descent for steps of one rate."""
    s, c = sp.symbols("S c", positive=True)
    step = (1 - dt * curvature) ** 2 * s + (dt * white_scale().rhs) ** 2 * c
    (stationary,) = sp.solve(sp.Eq(s, step), s)
    as_equation = same(sp.limit(stationary, dt, 0), rate * c / (2 * curvature))
    as_descent = same(stationary.subs(dt, rate), rate * c / (curvature * (2 - rate * curvature)))
    return as_equation and as_descent


@equation(
    "eq:white-scale",
    computed_by="sgdnoise.dynamics.langevin",
    laws=(
        _steps_of_one_rate_are_not_scaled,
        _two_half_steps_scatter_like_one,
        _rests_between_equation_and_descent,
    ),
)
def white_scale():
    """Factor of the standard normal numbers of a noisy gradient in a time step."""
    a = sp.Symbol("a", positive=True)
    z = sp.Matrix(white(2))
    coded = theta - dt * (g + k * (a * z))
    (scale,) = sp.solve(sp.Eq(coded[0], _euler()[0]), a)
    return sp.Eq(a, sp.simplify(scale))


def _euler():
    """Euler's step of d theta = -g dt - sqrt(eta) k dW, as likely as +; dW has variance dt."""
    return theta - dt * g - sp.sqrt(rate) * k * (sp.sqrt(dt) * sp.Matrix(white(2)))


def _descent(xi):
    return theta - rate * (g + xi)


def _tossed():
    """Descent whose noise is k times two fair coins: not Gaussian, covariance k k^T."""
    return [_descent(k * sp.Matrix([a, b])) for a in (-1, 1) for b in (-1, 1)]
