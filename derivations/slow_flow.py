"""The drift of a two-layer linear network f = x W V along its minima under noise."""

from typing import Any, NamedTuple

import sympy as sp

from derivations.algebra import same, upright
from derivations.equation import equation
from derivations.stationary import label_noise_rest
from derivations.symbols import batch, curvature, outputs, rate, sigma

s, a, w = sp.symbols("s a w", positive=True)  # a mode of the product, and its share in W
trace_moment = sp.Symbol(r"{\operatorname{Tr} \Sigma}", positive=True)  # of the inputs
variance = sp.Symbol("s_x", positive=True)  # of one input
kappa, time = sp.symbols("kappa t", positive=True)


def _letters(name, rows, columns):
    return sp.Matrix(rows, columns, lambda i, j: sp.Symbol(f"{name}_{{{i + 1}{j + 1}}}", real=True))


class Net(NamedTuple):
    """Weights W (d, h), V (h, 1), input moments (d, d), a gradient of the product, a multiplier."""

    W: Any
    V: Any
    moment: Any
    G: Any
    multiplier: Any

    @property
    def theta(self):
        """All weights."""
        return [*self.W, *self.V]


def _net(d):
    """A network of d inputs, two hidden units and one output, all of it letters."""
    moment = sp.Matrix(
        d, d, lambda i, j: sp.Symbol(rf"\Sigma_{{{min(i, j) + 1}{max(i, j) + 1}}}", real=True)
    )
    return Net(
        _letters("W", d, 2),
        _letters("V", 2, 1),
        moment,
        _letters("G", d, 1),
        _letters(r"\Lambda", d, 1),
    )


SHOWN, PROVED = _net(1), _net(2)


def _trace_is_hidden_power_and_readout():
    """o Tr(W^T Sigma W) + Tr(Sigma) |V|^2 at o = 1."""
    W, V, moment, *_ = PROVED
    power = (W.T * moment * W).trace() + moment.trace() * (V.T * V)[0, 0]
    return same(_trace(PROVED), power)


@equation(
    "eq:linear-trace",
    computed_by="sgdnoise.theory.hessian_trace",
    laws=(_trace_is_hidden_power_and_readout,),
)
def trace_of_hessian():
    """Trace of the Hessian of half the mean squared error: one input, two units, one output."""
    return sp.Eq(sp.Symbol(r"\operatorname{Tr} H"), sp.factor(_trace(SHOWN)))


def _identity_is_exact():
    """rate^2 (V G^T G V^T - W^T G G^T W), and nothing of first order."""
    W, V, _, G, _ = PROVED
    claimed = rate**2 * (V * G.T * G * V.T - W.T * G * G.T * W)
    return same(_imbalance_step(PROVED), claimed)


def _label_noise_moves_the_imbalance_to_rest():
    """With E G G^T = sigma^2 Sigma / B and E G^T G = sigma^2 Tr(Sigma) / B, o = 1."""
    W, V, moment, G, _ = PROVED
    kick = sigma**2 / batch
    squares = {G[i] * G[j]: kick * moment[i, j] for i in range(2) for j in range(2)}

    def averaged(entry):
        terms = sp.Poly(entry, *G).terms()
        return sum(value * squares[G[0] ** p * G[1] ** q] for (p, q), value in terms)

    law = rate**2 * kick * (moment.trace() * V * V.T - W.T * moment * W)
    return same(_imbalance_step(PROVED).applyfunc(averaged), law)


@equation(
    "eq:imbalance-step",
    computed_by="sgdnoise.theory.imbalances",
    laws=(_identity_is_exact, _label_noise_moves_the_imbalance_to_rest),
)
def imbalance_step():
    """Change of the imbalance in one step along any noisy gradient of the product.

    D = W^T W - V V^T, and G the gradient.
    """
    return sp.Eq(sp.MatrixSymbol(r"\Delta D", 2, 2), _imbalance_step(SHOWN))


def _right_side_is_that_of_the_product():
    """-2 kappa (o Sigma M + Tr(Sigma) M)."""
    product, moment = PROVED.W * PROVED.V, PROVED.moment
    claimed = -2 * kappa * (moment * product + moment.trace() * product)
    return same(_multiplier(PROVED)[1], claimed)


def _multiplier_only_takes_what_lies_across():
    """(Lambda V^T, W^T Lambda) is orthogonal to every dW, dV with dW V + W dV = 0."""
    W, V, _, _, across = PROVED
    dw = _letters("dW", 2, 2)
    dv = -W.inv() * dw * V  # a tangent, where W has an inverse
    taken = [*(across * V.T), *(W.T * across)]
    return sp.simplify(sum(a * b for a, b in zip(taken, [*dw, *dv], strict=True))) == 0


@equation(
    "eq:flow-multiplier",
    computed_by="sgdnoise.theory.label_noise_flow",
    laws=(_right_side_is_that_of_the_product, _multiplier_only_takes_what_lies_across),
)
def multiplier():
    """Component of grad Tr H orthogonal to the minima, which solves a Sylvester equation.

    dW = -grad_W - Lambda V^T and dV = -grad_V - W^T Lambda leave W V as it is.
    """
    left, right = _multiplier(SHOWN)
    return sp.Eq(sp.factor(left[0]), sp.factor(right[0]))


def _rest_is_a_minimum():
    return sp.simplify(sp.diff(_trace_of_mode(), a, 2)).is_positive is True


def _at_rest_both_layers_weigh_alike():
    """o a = Tr(Sigma) s^2 / a, the fixed point of the imbalance."""
    smallest = mode_at_rest().rhs
    return same(outputs * smallest, trace_moment * s**2 / smallest)


@equation(
    "eq:mode-at-rest",
    computed_by="sgdnoise.theory.stationary_hidden_modes",
    laws=(_rest_is_a_minimum, _at_rest_both_layers_weigh_alike),
)
def mode_at_rest():
    """Share a of a mode s of the product in the hidden layer at the minimum of Tr H."""
    (smallest,) = sp.solve(sp.diff(_trace_of_mode(), a), a)
    return sp.Eq(a, smallest)


def _least_trace_is_linear_in_the_mode():
    return same(trace_at_rest().rhs, 2 * sp.sqrt(outputs * trace_moment) * s)


@equation(
    "eq:trace-at-rest",
    computed_by="sgdnoise.theory.stationary_hidden_modes",
    laws=(_least_trace_is_linear_in_the_mode,),
)
def trace_at_rest():
    """The minimum of the trace, for one mode."""
    smallest = sp.simplify(_trace_of_mode().subs(a, mode_at_rest().rhs))
    return sp.Eq(sp.Symbol(r"\operatorname{Tr} H"), smallest)


def _decay_is_of_second_order_in_the_rate():
    return same(irrelevant_rate().rhs.subs(rate, 2 * rate), 4 * irrelevant_rate().rhs)


def _weight_decays_exponentially():
    decay = irrelevant_rate().rhs / rate  # a unit of time
    path = w * sp.exp(-decay * time)
    strength = rate * sigma**2 / (4 * batch)
    return same(sp.diff(path, time), -strength * 2 * outputs * variance * path)


@equation(
    "eq:irrelevant-rate",
    computed_by="sgdnoise.theory.irrelevant_rate",
    laws=(_decay_is_of_second_order_in_the_rate, _weight_decays_exponentially),
)
def irrelevant_rate():
    """Decay in one step of a weight from an irrelevant input to an irrelevant unit.

    The input has variance s_x; no multiplier is met: dw/dt = -kappa d(o s_x w^2)/dw, with
    t = rate x steps.
    """
    speed = -kappa * sp.diff(outputs * variance * w**2, w)
    per_step = -rate * speed / w
    return sp.Eq(sp.Symbol("r"), sp.simplify(per_step.subs(kappa, rate * sigma**2 / (4 * batch))))


def _small_steps_feel_no_correction():
    return sp.limit(discrete_force().rhs, rate, 0) == 1


def _it_is_the_slope_of_the_logarithm():
    """Of -(2 / rate) log(1 - rate h / 2), which stands in the place of h."""
    dressed = -2 / rate * sp.log(1 - rate * curvature / 2)
    return same(sp.diff(dressed, curvature), discrete_force().rhs)


@equation(
    "eq:discrete-force",
    computed_by="sgdnoise.theory.label_noise_flow",
    laws=(_small_steps_feel_no_correction, _it_is_the_slope_of_the_logarithm),
)
def discrete_force():
    """Factor of the force along a mode of curvature h that comes from the finite step."""
    force = label_noise_rest().rhs / 2
    small = sp.limit(force / rate, rate, 0) * rate
    return sp.Eq(sp.Symbol(r"f / f_{0}"), upright(sp.simplify(force / small)))


def _trace(net):
    """Tr H, from second derivatives of the mean of (x W V)^2 / 2."""
    product = net.W * net.V
    loss = (product.T * net.moment * product)[0, 0] / 2
    return sp.expand(sum(sp.diff(loss, t, 2) for t in net.theta))


def _imbalance_step(net):
    first, second = net.W - rate * net.G * net.V.T, net.V - rate * net.W.T * net.G
    change = _imbalance(first, second) - _imbalance(net.W, net.V)
    return change.applyfunc(sp.factor)


def _imbalance(first, second):
    return first.T * first - second * second.T


def _multiplier(net):
    """What the multiplier does to the product, and what it must undo."""
    solution = _trace(net)
    slopes = [-kappa * sp.diff(solution, t) for t in net.theta]
    down_w, down_v = sp.Matrix(*net.W.shape, slopes[:-2]), sp.Matrix(2, 1, slopes[-2:])
    left = net.W * net.W.T * net.multiplier + net.multiplier * net.V.T * net.V
    return left, (down_w * net.V + net.W * down_v).applyfunc(sp.expand)


def _trace_of_mode():
    """o a + Tr(Sigma) s^2 / a: the hidden power of a mode, and the readout it leaves."""
    return outputs * a + trace_moment * s**2 / a
