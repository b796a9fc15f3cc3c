"""The stationary covariance of SGD with momentum, and its largest stable rate."""

import sympy as sp

from derivations.algebra import same
from derivations.equation import equation
from derivations.stationary import c, h_i, h_j, stationary_entry
from derivations.symbols import curvature, rate

mu = sp.Symbol("mu", positive=True)
kick = sp.Symbol("c", positive=True)  # variance of the noise along one mode
two_modes = {h_i: curvature, h_j: curvature, c: kick}


def _without_momentum_it_is_descent():
    plain = stationary_entry().rhs
    return same(heavy_ball_entry().rhs.subs(mu, 0), plain) and same(
        nesterov_rest().rhs.subs(mu, 0), plain.subs(two_modes)
    )


def _modes_are_alike():
    entry = heavy_ball_entry().rhs
    return same(entry.subs({h_i: h_j, h_j: h_i}, simultaneous=True), entry)


def _the_coded_denominator_is_this_one():
    """(1 - mu)^2 ((1 + mu)(h_i + h_j) - eta h_i h_j) + mu eta (h_i - h_j)^2."""
    zeros = (1 - mu) ** 2 * ((1 + mu) * (h_i + h_j) - rate * h_i * h_j)
    zeros += mu * rate * (h_i - h_j) ** 2
    return same(heavy_ball_entry().rhs, rate * c * (1 - mu**2) / zeros)


@equation(
    "eq:heavy-ball-entry",
    computed_by="sgdnoise.theory.heavy_ball_covariance",
    laws=(_without_momentum_it_is_descent, _modes_are_alike, _the_coded_denominator_is_this_one),
)
def heavy_ball_entry():
    """Stationary covariance with heavy-ball momentum, in the eigenbasis of the Hessian."""
    stationary = _rest(_heavy_ball, _heavy_ball_kick())
    return sp.Eq(sp.Symbol(r"S_{ij}^{\mathrm{ball}}"), _tidy(stationary))


def _recursion_of_second_order_agrees():
    """Variance of x' = a x - mu x_before + noise from its first two autocorrelations."""
    a = 1 + mu - rate * curvature
    first = a / (1 + mu)  # rho_1 = a - mu rho_1
    fraction = 1 - a * first + mu * (a * first - mu)
    return same(heavy_ball_rest().rhs, rate**2 * kick / fraction)


def _small_steps_are_those_of_a_larger_rate():
    """Rate / (1 - mu) without momentum, for both."""
    larger = rate * kick / (2 * curvature * (1 - mu))
    return all(
        sp.limit(sp.cancel(stationary().rhs / larger), rate, 0) == 1
        for stationary in (heavy_ball_rest, nesterov_rest)
    )


@equation(
    "eq:heavy-ball-rest",
    computed_by="sgdnoise.theory.heavy_ball_covariance",
    laws=(_recursion_of_second_order_agrees, _small_steps_are_those_of_a_larger_rate),
)
def heavy_ball_rest():
    """The same along one mode."""
    along = heavy_ball_entry().rhs.subs(two_modes)
    return sp.Eq(sp.Symbol(r"S^{\mathrm{ball}}"), _tidy(sp.factor(along)))


def _ball_diverges_at_its_limit():
    return _rests_without_bound_at(heavy_ball_limit, heavy_ball_rest)


def _below_the_limit_both_eigenvalues_are_inside():
    """Jury's conditions: determinant below 1, and the characteristic polynomial positive at 1."""
    fraction = sp.Symbol("epsilon", positive=True)
    for step, limit in ((_heavy_ball, heavy_ball_limit), (_nesterov, nesterov_limit)):
        inside = step(curvature).subs(rate, limit().rhs / (1 + fraction))
        if sp.simplify((sp.eye(2) - inside).det()).is_positive is not True:
            return False
        if sp.simplify((sp.eye(2) + inside).det()).is_positive is not True:
            return False
    return same(_heavy_ball(curvature).det(), mu) and same(
        _nesterov(curvature).det(), mu * (1 - rate * curvature)
    )


@equation(
    "eq:heavy-ball-limit",
    computed_by="sgdnoise.theory.heavy_ball_covariance",
    laws=(_ball_diverges_at_its_limit, _below_the_limit_both_eigenvalues_are_inside),
)
def heavy_ball_limit():
    """Largest stable rate with heavy-ball momentum, where a mode changes sign in each step."""
    return sp.Eq(sp.Symbol(r"\eta^{\mathrm{ball}}"), _turning(_heavy_ball(curvature)))


def _lookahead_is_the_same_point():
    """Gradients at y = x + mu v, v' = mu v - eta g, x' = x + v': y moves as theta does."""
    x, v, g = sp.symbols("x v g", real=True)
    theta, b = x + mu * v, -v / rate
    moved = mu * v - rate * g
    their_theta, their_b = x + moved + mu * moved, -moved / rate
    our_b = mu * b + g
    our_theta = theta - rate * (g + mu * our_b)
    return same(their_b, our_b) and same(their_theta, our_theta)


@equation(
    "eq:nesterov-rest",
    computed_by="sgdnoise.theory.nesterov_covariance",
    laws=(_lookahead_is_the_same_point,),
)
def nesterov_rest():
    """Stationary variance with Nesterov momentum, of the point where gradients are taken."""
    along = _rest(_nesterov, _nesterov_kick()).subs(two_modes)
    return sp.Eq(sp.Symbol(r"S^{\mathrm{Nesterov}}"), _tidy(sp.factor(along)))


def _nesterov_diverges_at_its_limit():
    return _rests_without_bound_at(nesterov_limit, nesterov_rest)


def _momentum_widens_the_range_of_the_ball_and_narrows_that_of_nesterov():
    plain = 2 / curvature
    wider = sp.simplify(heavy_ball_limit().rhs - plain)
    narrower = sp.simplify(plain - nesterov_limit().rhs)
    return wider.is_positive is True and narrower.is_positive is True


@equation(
    "eq:nesterov-limit",
    computed_by="sgdnoise.theory.nesterov_covariance",
    laws=(
        _nesterov_diverges_at_its_limit,
        _momentum_widens_the_range_of_the_ball_and_narrows_that_of_nesterov,
    ),
)
def nesterov_limit():
    """Largest stable rate with Nesterov momentum."""
    return sp.Eq(sp.Symbol(r"\eta^{\mathrm{Nesterov}}"), _turning(_nesterov(curvature)))


def _heavy_ball(h):
    """One step of theta and of theta before: theta' = theta - eta g + mu (theta - before)."""
    return sp.Matrix([[1 - rate * h + mu, -mu], [1, 0]])


def _heavy_ball_kick():
    return sp.Matrix([-rate, 0])


def _nesterov(h):
    """One step of theta and b: b' = mu b + g, theta' = theta - eta (g + mu b')."""
    return sp.Matrix([[1 - rate * h - rate * mu * h, -rate * mu**2], [h, mu]])


def _nesterov_kick():
    return sp.Matrix([-rate - rate * mu, 1])


def _rest(step, kicks):
    """Covariance of theta along two modes which a step leaves as it is."""
    moments = sp.Matrix(2, 2, sp.symbols("x_1:5"))
    after = step(h_i) * moments * step(h_j).T + c * kicks * kicks.T
    (solution,) = sp.solve(list(after - moments), list(moments), dict=True)
    return sp.factor(solution[moments[0, 0]])


def _turning(step):
    """Rate at which minus one is an eigenvalue of the step."""
    (solution,) = sp.solve((step + sp.eye(2)).det(), rate)
    return sp.factor(solution)


def _tidy(rest):
    """The fraction with factors that are positive where descent is stable."""
    above, below = map(sp.Mul.make_args, sp.fraction(rest))
    return sp.Mul(*map(_positive, above)) / sp.Mul(*map(_positive, below))


def _positive(factor):
    somewhere = {h_i: 1, h_j: 1, curvature: 1, rate: sp.Rational(1, 9), mu: sp.Rational(1, 2), c: 1}
    signed = factor if factor.subs(somewhere).subs(kick, 1) > 0 else sp.expand(-factor)
    return sp.collect(sp.expand(signed), rate, sp.factor)


def _rests_without_bound_at(limit, rest):
    return sp.limit(1 / rest().rhs, rate, limit().rhs, "-") == 0
