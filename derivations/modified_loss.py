"""Modified losses, whose gradient flow SGD follows to one order more in the rate.

Steps are expanded to second order in the learning rate, where only slopes g and Hessians H count.
"""

from functools import cache
from itertools import permutations, product

import sympy as sp

from derivations.algebra import same
from derivations.equation import equation
from derivations.symbols import rate

loss, modified = sp.symbols(r"L \tilde{L}")
square = sp.Symbol(r"{\left\|\nabla L\right\|}^2")
squares = sp.Symbol(r"{\textstyle\sum_k \left\|\nabla L_k\right\|}^2")
steps = sp.Symbol("m", positive=True)  # of an epoch
met = sp.Symbol("P")  # H g, of the whole loss
correlated = sp.Symbol("Q")  # sum of H_k g_k over the batches of an epoch
theta = sp.Symbol("theta", real=True)
x, y = (sp.symbols(f"{letter}_1:3", real=True) for letter in "xy")  # two examples


def _one_step_has_no_second_order():
    return same(_flow_end(descent_loss(), 1), sp.zeros(2, 1))


def _a_squared_slope_pulls_along_hessian_and_slope():
    a, b = sp.symbols("a b")
    any_loss = sp.Function("L")(a, b)
    slope = sp.Matrix([sp.diff(any_loss, a), sp.diff(any_loss, b)])
    pull = sp.Matrix([sp.diff(slope.dot(slope), w) for w in (a, b)])
    return same(pull, 2 * sp.hessian(any_loss, (a, b)) * slope)


def _two_steps_end_where_the_flow_does():
    flow = _flow_end(descent_loss(), 1)  # of one step; two follow the same loss twice as long
    slope, hessian = _taylor(0)
    return same(_end([0, 0]), 2 * flow + hessian * slope)


@equation(
    "eq:descent-loss",
    computed_by="sgdnoise.theory.sgd_loss",
    laws=(
        _one_step_has_no_second_order,
        _a_squared_slope_pulls_along_hessian_and_slope,
        _two_steps_end_where_the_flow_does,
    ),
)
def descent_loss():
    """The modified loss of gradient descent."""
    return _modified(_matched(second_order=0, count=1))


def _all_orders_end_where_the_flow_does():
    return all(
        same(_mean_end(list(permutations(range(count)))), _flow_end(reshuffled_loss(), count))
        for count in (2, 3)
    )


def _one_order_alone_does_not():
    return not same(_end([0, 1]), _flow_end(reshuffled_loss(), 2))


def _one_batch_is_plain_descent():
    alone = {steps: 1, squares: square}
    return same(reshuffled_loss().rhs.subs(alone), descent_loss().rhs)


def _reshuffling_adds_a_trace_of_the_covariance():
    """Mean of |g_k|^2 = |g|^2 + Tr C."""
    trace = sp.Symbol("T")
    extra = reshuffled_loss().rhs.subs(squares, steps * (square + trace)) - descent_loss().rhs
    return same(extra, rate / 4 * trace)


@equation(
    "eq:reshuffled-loss",
    computed_by="sgdnoise.theory.reshuffled_loss",
    laws=(
        _all_orders_end_where_the_flow_does,
        _one_order_alone_does_not,
        _one_batch_is_plain_descent,
        _reshuffling_adds_a_trace_of_the_covariance,
    ),
)
def reshuffled_loss():
    """The modified loss of reshuffled epochs, the mean over all orders of their batches."""
    pairs = steps * (steps - 1)  # ordered pairs of different batches, alike over all orders
    of_pair = (steps * steps * met - correlated) / pairs  # mean of H_k g_j over them
    return _modified(_matched(pairs / 2 * of_pair, steps))


def _all_sequences_end_where_the_flow_does():
    return all(
        same(
            _mean_end(list(product(range(count), repeat=count))), _flow_end(replaced_loss(), count)
        )
        for count in (2, 3)
    )


def _replacing_is_as_if_there_were_no_noise():
    return same(replaced_loss().rhs, descent_loss().rhs)


@equation(
    "eq:replaced-loss",
    computed_by="sgdnoise.theory.sgd_loss",
    laws=(_all_sequences_end_where_the_flow_does, _replacing_is_as_if_there_were_no_noise),
)
def replaced_loss():
    """The modified loss of as many steps with replacement."""
    return _modified(_matched(steps * (steps - 1) / 2 * met, steps))


def _all_orders_rest_at_the_shift():
    """The mean of an epoch in both orders, solved exactly, to first order in the rate."""
    ends = []
    for order in permutations(range(2)):
        moved = theta
        for k in order:
            moved = moved - rate * x[k] * (x[k] * moved - y[k])
        ends.append(moved)
    mean = sp.expand(sum(ends) / 2)
    zeros = sp.factor(mean.coeff(theta, 0) / (1 - mean.coeff(theta, 1)))
    best = sp.solve(sp.diff(sum(_examples()), theta), theta)[0]
    first = sp.diff(zeros, rate).subs(rate, 0)
    return same(zeros.subs(rate, 0), best) and same(first * rate, minimum_shift().rhs)


def _a_perfect_fit_stays():
    w = sp.Symbol("w")
    fit = {b: w * a for a, b in zip(x, y, strict=True)}
    return same(minimum_shift().rhs.subs(fit, simultaneous=True), 0)


def _equal_inputs_do_not_shift():
    return same(minimum_shift().rhs.subs(dict.fromkeys(x[1:], x[0])), 0)


@equation(
    "eq:minimum-shift",
    computed_by="sgdnoise.theory.reshuffled_shift",
    laws=(_all_orders_rest_at_the_shift, _a_perfect_fit_stays, _equal_inputs_do_not_shift),
)
def minimum_shift():
    """Shift of least squares under reshuffling, one parameter and two examples."""
    losses = _examples()
    plain = sum(losses) / 2
    penalty = rate / (4 * 2) * sum(sp.diff(term, theta) ** 2 for term in losses)
    (best,) = sp.solve(sp.diff(plain, theta), theta)
    newton = -sp.diff(penalty, theta).subs(theta, best) / sp.diff(plain, theta, 2)
    return sp.Eq(sp.Symbol(r"\delta\theta"), sp.factor(newton))


def _matched(second_order, count):
    """Shares of both squares, so that the flow over count steps ends where the steps do.

    Steps end at -count eta g + eta^2 second_order; the flow of L + s |g|^2 + s' sum_k |g_k|^2,
    whose slopes are g + 2 s P + 2 s' Q, over a time t at -t slope + t^2 / 2 P.
    """
    s, term = sp.symbols("s s'")
    time = count * rate
    flow = -time * (2 * s * met + 2 * term * correlated) + time**2 / 2 * met
    gap = sp.expand(flow - rate**2 * second_order)
    solution = sp.solve([gap.coeff(met), gap.coeff(correlated)], [s, term], dict=True)[0]
    return tuple(sp.simplify(solution[fraction]) for fraction in (s, term))


def _modified(shares):
    return sp.Eq(modified, loss + shares[0] * square + shares[1] * squares)


def _examples():
    return [(a * theta - b) ** 2 / 2 for a, b in zip(x, y, strict=True)]


# --- all orders and all sequences, written out ---


@cache
def _taylor(k):
    """Slope and Hessian of a batch in two dimensions."""
    h = sp.symbols(f"h{k}_1:4", real=True)
    return sp.Matrix(sp.symbols(f"g{k}_1:3", real=True)), sp.Matrix([h[:2], h[1:]])


def _end(order):
    """Second order in the rate of where the steps of an epoch lead."""
    moved = sp.zeros(2, 1)
    for k in order:
        slope, hessian = _taylor(k)
        moved = (moved - rate * (slope + hessian * moved)).applyfunc(sp.expand)
    return moved.applyfunc(lambda part: part.coeff(rate, 2))


def _mean_end(orders):
    ends = [_end(order) for order in orders]
    return sum(ends, sp.zeros(2, 1)) / len(ends)


def _flow_end(equation, count):
    """Second order of where the flow of a modified loss leads, for batches written out."""
    slope = sum((_taylor(k)[0] for k in range(count)), sp.zeros(2, 1)) / count
    hessian = sum((_taylor(k)[1] for k in range(count)), sp.zeros(2)) / count
    term = sum((h * g for g, h in map(_taylor, range(count))), sp.zeros(2, 1))
    shares = [equation.rhs.coeff(block).subs(steps, count) / rate for block in (square, squares)]
    force = 2 * shares[0] * hessian * slope + 2 * shares[1] * term
    return count**2 * hessian * slope / 2 - count * force
