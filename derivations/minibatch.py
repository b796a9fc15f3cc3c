"""Noise of the minibatches of a reshuffled epoch, and its force, along one parameter.

The examples have the gradients h theta + e_i with mean zero e_i; a batch is one of m to which the
examples were dealt.  Steps of an epoch are anticorrelated, since its noise sums to zero.
"""

from itertools import permutations

import sympy as sp

from derivations.algebra import same
from derivations.equation import equation
from derivations.symbols import batch, curvature, n, rate

c = sp.Symbol("c", positive=True)  # variance of the gradients over the examples
t = sp.Symbol("t", integer=True, nonnegative=True)  # steps since the epoch began
k = sp.Symbol("k", integer=True, nonnegative=True)
kept = 1 - rate * curvature
WITHIN = (n - batch) / (n - 1) / batch  # variance of a batch over c
BETWEEN = -1 / (n - 1)  # covariance of two batches of an epoch over c
slopes = sp.symbols("e_1:4")  # and e_4, which makes their sum zero
bends = sp.symbols("h_1:5", positive=True)


def _four():
    return [*slopes, -sum(slopes)]


def _paths(size, curvatures, steps):
    """Theta from zero after some steps of an epoch of four examples, over all orders."""
    gradients = list(zip(curvatures, _four(), strict=True))
    ends = []
    for order in permutations(range(4)):
        theta = sp.Integer(0)
        for step in range(steps):
            drawn = [gradients[i] for i in order[step * size : (step + 1) * size]]
            theta = theta - rate * sum(h * theta + e for h, e in drawn) / size
        ends.append(sp.expand(theta))
    return ends


def _all_orders_agree():
    """Four examples in batches of one and of two, by hand."""
    numbers = {n: 4, c: sum(e**2 for e in _four()) / 4}
    for size, steps in ((1, 2), (1, 3), (2, 1), (2, 2)):
        ends = _paths(size, [curvature] * 4, steps)
        exact = sum(e**2 for e in ends) / len(ends)
        claimed = epoch_variance().rhs.subs({batch: size, t: steps}).doit().subs(numbers)
        if not same(exact, claimed):
            return False
    return True


def _an_epoch_without_curvature_leaves_nothing():
    whole = epoch_variance().rhs.subs(t, 4).doit().subs({n: 4, batch: 1})
    return same(sp.limit(whole, curvature, 0), 0)


@equation(
    "eq:epoch-variance",
    computed_by="sgdnoise.theory.minibatch_flow",
    laws=(_all_orders_agree, _an_epoch_without_curvature_leaves_nothing),
)
def epoch_variance():
    """Variance of theta after t steps of an epoch that began without."""
    squares, power = sp.Sum(kept ** (2 * k), (k, 0, t - 1)), sp.Sum(kept**k, (k, 0, t - 1))
    variance = rate**2 * c * ((WITHIN - BETWEEN) * squares + BETWEEN * power**2)
    return sp.Eq(sp.Symbol("s_t"), variance)


def _orders_move_the_mean_so():
    """The mean step of batches whose curvatures differ, to second order in the rate."""
    mean_bend = sum(bends) / 4
    shared = sum((h - mean_bend) * e for h, e in zip(bends, _four(), strict=True)) / 4
    for steps in (2, 3):
        ends = _paths(1, bends, steps)
        shift = sp.expand(sum(ends) / len(ends)).coeff(rate, 2)
        force = epoch_force().rhs.subs({n: 4, sp.Symbol("g"): shared})
        claimed = -sum((rate * force).subs(t, done) for done in range(steps))
        if not same(shift, sp.series(claimed, rate, 0, 3).removeO().coeff(rate, 2)):
            return False
    return True


def _over_a_short_epoch_it_is_that_of_the_trace():
    """rate (m - 1) / (4 (n - 1)) grad Tr C, where grad Tr C is 2 Cov(h_i, e_i)."""
    steps = sp.Symbol("m", integer=True, positive=True)
    short = sp.limit(epoch_force().rhs / rate, rate, 0)
    average = sp.summation(short, (t, 0, steps - 1)) / steps
    trace = 2 * sp.Symbol("g")
    return same(average, (steps - 1) / (4 * (n - 1)) * trace)


@equation(
    "eq:epoch-force",
    computed_by="sgdnoise.theory.minibatch_flow",
    laws=(_orders_move_the_mean_so, _over_a_short_epoch_it_is_that_of_the_trace),
)
def epoch_force():
    """Mean gradient of the batch after t steps of an epoch; g is a covariance over examples."""
    return sp.Eq(sp.Symbol("F_t"), sp.Symbol("g") * (1 - kept**t) / ((n - 1) * curvature))
