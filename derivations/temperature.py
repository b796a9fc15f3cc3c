"""Isotropic noise in the layers of a linear network and in one unit."""

from functools import cache
from typing import Any, NamedTuple

import sympy as sp

from derivations.algebra import mean, same, white
from derivations.equation import equation
from derivations.symbols import outputs, rate

T, decay = sp.symbols("T lambda", positive=True)
time = sp.Symbol("t", positive=True)
inputs = sp.Symbol("d", integer=True, positive=True)
curve, pull, v = sp.symbols("K a v", positive=True)


class Net(NamedTuple):
    """Weights W (d, h) and V (h, o), and a gradient of the product."""

    W: Any
    V: Any
    G: Any


def _letters(name, rows, columns):
    return sp.Matrix(rows, columns, lambda i, j: sp.Symbol(f"{name}_{{{i + 1}{j + 1}}}", real=True))


def _net(d, h, o):
    return Net(_letters("W", d, h), _letters("V", h, o), _letters("G", d, o))


def _other_nets_follow_the_same_rule():
    """(1 - eta lambda)^2 D + eta^2 (V G^T G V^T - W^T G G^T W) + 2 eta T (d - o) 1."""

    def rule(d, h, o):
        net = _net(d, h, o)
        W, V, G = net
        before = (1 - rate * decay) ** 2 * (W.T * W - V * V.T)
        kick = rate**2 * (V * G.T * G * V.T - W.T * G * G.T * W)
        return same(_after(net), before + kick + 2 * rate * T * (d - o) * sp.eye(h))

    return all(rule(*size) for size in ((2, 2, 1), (1, 2, 2), (3, 1, 1), (1, 1, 3)))


def _equal_fans_without_decay_leave_only_the_second_order():
    retained = _after(_net(1, 1, 1))[0].subs(decay, 0)
    W, V, _ = _net(1, 1, 1)
    return same(sp.diff(retained, rate).subs(rate, 0), 0) and same(
        retained.subs(rate, 0), W[0] ** 2 - V[0] ** 2
    )


@equation(
    "eq:imbalance-langevin",
    computed_by="sgdnoise.theory.imbalance_after",
    laws=(_other_nets_follow_the_same_rule, _equal_fans_without_decay_leave_only_the_second_order),
)
def langevin_step():
    """Mean of the imbalance after a step with decay and isotropic noise: two inputs, one unit.

    W <- (1 - eta lambda) W - eta G V^T + (2 T eta)^1/2 z, and V in the same way.
    """
    after = _after(_net(2, 1, 1))[0]
    return sp.Eq(sp.Symbol(r"\mathbb{E} D'"), sp.collect(sp.expand(after), (rate, T)))


def _rest_is_where_the_step_leaves_the_mean():
    """To first order in eta, of the exact step without the gradient's own square."""
    W, V, G = _net(3, 1, 1)
    speed = sp.diff(_after(Net(W, V, G))[0], rate).subs(rate, 0)
    mean = sp.Symbol("D")
    length = mean + sum(entry**2 for entry in V)
    stationary = imbalance_at_rest().rhs.subs({inputs: 3, outputs: 1})
    by_length = sp.expand(speed).subs(W[0] ** 2, length - W[1] ** 2 - W[2] ** 2)
    return same(by_length.subs(mean, stationary), 0)


def _the_path_to_rest_is_exponential():
    stationary = imbalance_at_rest().rhs
    path = stationary * (1 - sp.exp(-2 * decay * time))
    return same(sp.diff(path, time), -2 * decay * path + 2 * T * (inputs - outputs))


@equation(
    "eq:imbalance-at-rest",
    computed_by="sgdnoise.theory.stationary_imbalance",
    laws=(_rest_is_where_the_step_leaves_the_mean, _the_path_to_rest_is_exponential),
)
def imbalance_at_rest():
    """Stationary mean imbalance of a unit, for small steps."""
    mean = sp.Symbol("D")
    speed = -2 * decay * mean + 2 * T * (inputs - outputs)
    (stationary,) = sp.solve(speed, mean)
    return sp.Eq(sp.Symbol(r"\mathbb{E} D"), stationary)


def _units_of_any_fans_balance_likewise():
    """-2 lambda D + 2 T (d + 1 - o), whatever the data, the errors and the slope."""

    def rule(d, o):
        solution = sp.expand(_homogeneous(d, o))
        free = solution.free_symbols
        loss = {symbol for symbol in free if str(symbol)[0] in "xr" or "phi" in str(symbol)}
        return not loss and same(solution.subs(decay, 0), 2 * T * (d + 1 - o))

    return all(rule(*fans) for fans in ((1, 1), (3, 2), (1, 4)))


@equation(
    "eq:homogeneous-speed",
    computed_by="sgdnoise.theory.stationary_imbalance",
    laws=(_units_of_any_fans_balance_likewise,),
)
def homogeneous_speed():
    """Drift of the squared weights into a ReLU unit less those out: one input and its bias.

    Of w^2 + b^2 - v^2, with z phi'(z) = phi(z).
    """
    return sp.Eq(sp.Symbol(r"\dot{\mathbb{E} D}"), _homogeneous(1, 1))


def _marginal_pays_a_root_of_the_determinant():
    """log p(W) = -log(K + lambda) / 2 + a^2 / (2 T (K + lambda)) and a constant."""
    claimed = sp.exp(pull**2 / (2 * T * (curve + decay))) / sp.sqrt(curve + decay)
    return same(sp.diff(sp.simplify(marginal().rhs / claimed), curve), 0)


def _two_units_pay_the_determinant():
    """By the square that is left when V is measured from its best value."""
    K = sp.Matrix(2, 2, sp.symbols("k_1 k_2 k_2 k_3", positive=True)) + decay * sp.eye(2)
    A, V = _letters("A", 2, 1), _letters("V", 2, 1)
    full = (V.T * K * V)[0] / 2 - (A.T * V)[0]
    best = K.inv() * A
    away = ((V - best).T * K * (V - best))[0] / 2
    return same(full, away - (A.T * K.inv() * A)[0] / 2)


@equation(
    "eq:log-marginal",
    computed_by="sgdnoise.theory.log_marginal",
    laws=(_marginal_pays_a_root_of_the_determinant, _two_units_pay_the_determinant),
)
@cache
def marginal():
    """Marginal distribution of the first layer: one unit, one output.

    K = W^T Sigma W.
    """
    law = sp.integrate(sp.exp(-_potential(v) / T), (v, -sp.oo, sp.oo))
    return sp.Eq(sp.Symbol("p(W)"), sp.simplify(law))


def _after(net):
    """Mean over the noise of the imbalance after one step."""
    d, h = net.W.shape
    o = net.V.shape[1]
    z = white(h * (d + o))
    kick = sp.sqrt(2 * T * rate)
    first = (1 - rate * decay) * net.W - rate * net.G * net.V.T
    second = (1 - rate * decay) * net.V - rate * net.W.T * net.G
    first += kick * sp.Matrix(d, h, z[: d * h])
    second += kick * sp.Matrix(h, o, z[d * h :])
    moved = first.T * first - second * second.T
    return moved.applyfunc(lambda entry: mean(sp.expand(entry), z))


def _homogeneous(d, o):
    """Ito's speed of |w|^2 + b^2 - |v|^2 of a unit with d inputs and o outputs."""
    w, x = sp.symbols(f"w_1:{d + 1}", real=True), sp.symbols(f"x_1:{d + 1}", real=True)
    out, error = sp.symbols(f"v_1:{o + 1}", real=True), sp.symbols(f"r_1:{o + 1}", real=True)
    b, slope = sp.Symbol("b", real=True), sp.Symbol(r"\dot{\phi}", real=True)
    z = b + sum(i * j for i, j in zip(w, x, strict=True))
    back = sum(i * j for i, j in zip(error, out, strict=True)) * slope
    gradient = {weight: back * at for weight, at in zip(w, x, strict=True)} | {b: back}
    gradient |= {weight: at * slope * z for weight, at in zip(out, error, strict=True)}
    size = sum(weight**2 for weight in (*w, b)) - sum(weight**2 for weight in out)
    drift = sum(
        -sp.diff(size, weight) * (force + decay * weight) for weight, force in gradient.items()
    )
    curvature = T * sum(sp.diff(size, weight, 2) for weight in gradient)
    return sp.factor(sp.expand(drift), decay) + curvature


def _potential(at):
    """Loss and decay of a readout: K v^2 / 2 - a v + lambda v^2 / 2."""
    return (curve + decay) * at**2 / 2 - pull * at
