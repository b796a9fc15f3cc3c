"""Weak errors: the second moment of SGD and of its stochastic differential equations.

One parameter, slope h theta, gradients of variance v theta^2 + w, started at s; time t is rate
times steps.  Second moments obey linear laws, in steps and in time.
"""

import sympy as sp

from derivations.algebra import mean, same, upright, white
from derivations.equation import equation
from derivations.symbols import curvature, rate

h = curvature
v, w, s, t = sp.symbols("v w s t", positive=True)
stretch, factor = sp.symbols("l k", positive=True)
coarse, fine = sp.symbols(r"x_{\tau} x_{\tau/2}", real=True)
square = sp.Symbol("S", positive=True)  # E theta^2
dt = sp.Symbol("tau", positive=True)


def _coins_do_as_well():
    """A kick of either sign, half each, has the same second moment."""
    x, q = sp.symbols("theta q", real=True)
    ends = [(x - dt * h * x + sign * sp.sqrt(rate * dt) * q) ** 2 for sign in (1, -1)]
    coins = sp.expand(sum(ends) / 2).subs(q**2, v * x**2 + w)
    return same(sp.expand(coins).subs(x**2, square), euler_step().rhs)


def _a_step_of_one_rate_is_a_step_of_descent():
    """Two examples, slopes p theta - a and q theta + a: descent by hand, one at a time."""
    x, p, q, a = sp.symbols("theta p q a", real=True)
    ends = [(x - rate * (p * x - a)) ** 2, (x - rate * (q * x + a)) ** 2]
    scatter = [(p * x - a) ** 2, (q * x + a) ** 2]
    mean = (p + q) * x / 2
    variance = sp.expand(sum(scatter) / 2 - mean**2)
    stepped = ((1 - rate * h) * x) ** 2 + rate**2 * variance
    return same(sum(ends) / 2, stepped.subs(h, (p + q) / 2))


def _short_steps_follow_the_equation():
    speed = sp.limit((euler_step().rhs - square) / dt, dt, 0)
    return same(speed, _speed(1))


@equation(
    "eq:euler-step",
    computed_by="sgdnoise.theory.euler_maruyama_map",
    laws=(
        _coins_do_as_well,
        _a_step_of_one_rate_is_a_step_of_descent,
        _short_steps_follow_the_equation,
    ),
)
def euler_step():
    """Second moment after an Euler step tau of the equation of first order."""
    z, q = white(1), sp.Symbol("q", positive=True)  # the root of the gradient's variance
    x = sp.Symbol("theta", real=True)
    after = mean(((1 - dt * h) * x - sp.sqrt(rate * dt) * q * z[0]) ** 2, z)
    moment = sp.expand(after.subs(q, sp.sqrt(v * x**2 + w))).subs(x**2, square)
    return sp.Eq(sp.Symbol("S'"), sp.collect(sp.expand(moment), square, sp.factor))


def _local_errors_begin_one_order_later():
    return all(_local(_speed(k), order) == 0 for k in (1, 2) for order in range(1, k + 1))


def _errors_are_those_of_exact_solutions():
    """Both solved in closed form: their difference over its leading term tends to one."""
    letters = zip((h, v, w, s, t), ("1.3", "0.7", "0.2", "1.1", "0.9"), strict=True)
    values = {letter: sp.Float(digits, 60) for letter, digits in letters}
    for order, error in ((1, first_error()), (2, second_error())):
        ratios = [
            (_exact(order) / error.rhs).subs({**values, rate: sp.Float(size, 60)})
            for size in ("2e-6", "1e-6")
        ]
        if abs(2 * ratios[1] - ratios[0] - 1) > 1e-9 or abs(ratios[0] - 1) > 1e-4:
            return False
    return True


def _nothing_is_wrong_at_the_start():
    return all(same(e.rhs.subs(t, 0), 0) for e in (first_error(), second_error()))


@equation(
    "eq:first-weak-error",
    computed_by="sgdnoise.theory.weak_error_coefficient",
    laws=(
        _local_errors_begin_one_order_later,
        _errors_are_those_of_exact_solutions,
        _nothing_is_wrong_at_the_start,
    ),
)
def first_error():
    """Second moment of SGD minus that of the equation of first order, to that order."""
    return sp.Eq(sp.Symbol(r"\Delta_1"), _error(_speed(1), 2))


def _at_rest_only_the_second_error_stays():
    """And it is what the ratio at rest says, to that order."""
    first, second = (sp.limit(e.rhs, t, sp.oo) for e in (first_error(), second_error()))
    gap = sp.series(_rest_of_steps(rate) - _rest_in_time(2), rate, 0, 3).removeO()
    return first == 0 and same(second, gap)


@equation(
    "eq:second-weak-error",
    computed_by="sgdnoise.theory.weak_error_coefficient",
    laws=(_at_rest_only_the_second_error_stays,),
)
def second_error():
    """Second moment of SGD minus that of the equation of second order, to that order."""
    return sp.Eq(sp.Symbol(r"\Delta_2"), _error(_speed(2), 3))


def _without_stretch_it_is_descent():
    of_descent = _rest_of_steps(rate) / _rest_in_time(1)
    return same(svag_ratio().rhs.subs(stretch, 1), of_descent)


def _stretched_noise_reaches_the_equation():
    return sp.limit(svag_ratio().rhs, stretch, sp.oo) == 1


def _svag_steps_scatter_as_said():
    """A step eta / l along (1 + r) / 2 g + (1 - r) / 2 g', r^2 = 2 l - 1."""
    r = sp.sqrt(2 * stretch - 1)
    scatter = (rate / stretch) ** 2 * (((1 + r) / 2) ** 2 + ((1 - r) / 2) ** 2) * w
    return same(scatter, _euler(rate / stretch).subs(square, 0))


@equation(
    "eq:svag-ratio",
    computed_by="sgdnoise.theory.stationary_variance_ratio",
    laws=(
        _without_stretch_it_is_descent,
        _stretched_noise_reaches_the_equation,
        _svag_steps_scatter_as_said,
    ),
)
def svag_ratio():
    """Stationary variance of SVAG over that of the equation of first order, constant noise."""
    ratio = _rest_of_steps(rate / stretch) / _rest_in_time(1)
    return sp.Eq(_over("SVAG", 1), 1 / sp.expand(sp.simplify(1 / ratio)))


def _a_second_order_ratio_is_at_rest():
    stationary = _rest_of_steps(rate) / second_order_ratio().rhs
    return same(_speed(2).subs(v, 0).subs(square, stationary), 0)


def _the_second_order_rests_twice_as_far():
    def excess(order):
        return sp.series(_rest_of_steps(rate) / _rest_in_time(order) - 1, rate, 0, 2).removeO()

    return same(excess(2), 2 * excess(1))


@equation(
    "eq:second-order-ratio",
    computed_by="sgdnoise.theory.stationary_variance_ratio",
    laws=(_a_second_order_ratio_is_at_rest, _the_second_order_rests_twice_as_far),
)
def second_order_ratio():
    """Stationary variance of SGD over that of the equation of second order, constant noise."""
    return sp.Eq(_over("SGD", 2), upright(_rest_of_steps(rate) / _rest_in_time(2)))


def _scaling_twice_multiplies():
    second = sp.Symbol("j", positive=True)
    again = scaling_ratio().rhs.subs({factor: second, rate: factor * rate}, simultaneous=True)
    return same(scaling_ratio().rhs * again, scaling_ratio().rhs.subs(factor, factor * second))


def _the_first_equation_does_not_know_scale():
    scaled = {rate: factor * rate, v: v / factor, w: w / factor}
    return same(_speed(1).subs(scaled, simultaneous=True), _speed(1))


def _the_second_changes_by_its_penalty_alone():
    scaled = {rate: factor * rate, v: v / factor, w: w / factor}
    change = _speed(2).subs(scaled, simultaneous=True) - _speed(2)
    return same(change, -(factor - 1) * rate * h**2 * square)


def _small_rates_scale_freely():
    return sp.limit(scaling_ratio().rhs, rate, 0) == 1


@equation(
    "eq:scaling-ratio",
    computed_by="sgdnoise.theory.linear_scaling_ratio",
    laws=(
        _scaling_twice_multiplies,
        _the_first_equation_does_not_know_scale,
        _the_second_changes_by_its_penalty_alone,
        _small_rates_scale_freely,
    ),
)
def scaling_ratio():
    """Stationary variance of SGD with rate and batch times k, over that before, constant noise."""
    scaled = {rate: factor * rate, w: w / factor}
    after = _rest_of_steps(rate).subs(scaled, simultaneous=True)
    name = sp.Symbol(r"S^{(k \eta, k B)}") / sp.Symbol(r"S^{(\eta, B)}")
    return sp.Eq(name, upright(after / _rest_of_steps(rate)))


def _the_first_order_cancels():
    step, c1, c2, x = sp.symbols("tau c_1 c_2 x")
    series = [x + c1 * h_ + c2 * h_**2 for h_ in (step, step / 2)]
    left = sp.expand(extrapolation().rhs.subs(dict(zip((coarse, fine), series, strict=True))))
    return same(left, x - c2 * step**2 / 2)


@equation(
    "eq:extrapolation", computed_by="sgdnoise.theory.talay_tubaro", laws=(_the_first_order_cancels,)
)
def extrapolation():
    """Richardson extrapolation from a step and half of it to none."""
    truth, slope, step = sp.symbols("x c tau")
    lines = [truth + slope * step - coarse, truth + slope * step / 2 - fine]
    return sp.Eq(sp.Symbol(r"\hat{x}"), sp.solve(lines, [truth, slope], dict=True)[0][truth])


def _over(name, order):
    return sp.Symbol(f"S^{{\\mathrm{{{name}}}}}") / sp.Symbol(f"S^{{({order})}}")


def _euler(step):
    """One step of a length, for the second moment; of one rate it is a step of descent."""
    return euler_step().rhs.subs(dt, step)


def _speed(order):
    """dS/dt of the equation of an order: the drift is the slope of L + eta / 4 |grad L|^2."""
    x = sp.Symbol("theta", real=True)
    loss = h * x**2 / 2
    if order == 2:
        loss += rate / 4 * sp.diff(loss, x) ** 2
    ito = -2 * x * sp.diff(loss, x) + rate * (v * x**2 + w)
    return sp.expand(ito).subs(x**2, square)


def _local(speed, order):
    """Descent minus the equation, over one step, to an order of the rate: Taylor's series."""
    flow, term = square, square
    for k in range(1, order + 1):
        term = sp.diff(term, square) * speed
        flow += rate**k / sp.factorial(k) * term
    return sp.expand(_euler(rate) - flow).coeff(rate, order) * rate**order


def _error(speed, order):
    """What the steps' errors have become by the time t: each decays from when it was made."""
    early = sp.Symbol("r", positive=True)
    built = _local(speed, order).subs(square, s**2 * sp.exp(-2 * h * early)) / rate
    summed = sp.integrate(sp.expand(built * sp.exp(-2 * h * (t - early))), (early, 0, t))
    return sp.collect(sp.simplify(summed), [v, w])


def _rest_of_steps(step):
    (solution,) = sp.solve(sp.Eq(square, _euler(step).subs(v, 0)), square)
    return solution


def _rest_in_time(order):
    (solution,) = sp.solve(_speed(order).subs(v, 0), square)
    return solution


def _exact(order):
    """Second moments of descent after n steps, and of the equation at n times the rate."""
    steps, law = t / rate, _speed(order)
    pull, force = sp.diff(law, square), law.subs(square, 0)
    keep = sp.diff(_euler(rate), square)
    stationary = _euler(rate).subs(square, 0) / (1 - keep)
    descended = stationary + (s**2 - stationary) * sp.exp(steps * sp.log(keep))
    return descended - ((s**2 + force / pull) * sp.exp(pull * t) - force / pull)
