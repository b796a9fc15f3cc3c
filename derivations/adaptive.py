"""Adam and RMSprop under label noise: their squared gradients, their jitter, and their penalty.

At a minimum the outputs of n examples have the derivatives J_i, and D is the diagonal of the
Gauss-Newton matrix.  A step is rate P gradient, where P is one over the root of the mean squared
gradient, entry by entry, and changes slowly.
"""

from itertools import product

import sympy as sp

from derivations.algebra import same
from derivations.equation import equation
from derivations.label_noise_covariance import h, q, s
from derivations.symbols import batch, curvature, rate, sigma

P = sp.Symbol("P", positive=True)  # preconditioner of one parameter
beta = sp.Symbol("beta", positive=True)  # of the moving average of gradients
kick = sp.Symbol("c", positive=True)  # variance of the gradient's noise
x, y = sp.symbols("x y", real=True)  # two parameters
D_1, D_2 = (sp.Function(name, positive=True)(x, y) for name in ("D_1", "D_2"))


def _all_sequences_agree():
    """Three examples, batches of two: the mean over all nine, over labels and over theta."""
    outputs = sp.symbols("J_1 J_2 J_3", positive=True)
    total = 0
    for drawn in product(outputs, repeat=2):
        along = sum(j**2 for j in drawn) / 2  # times theta, of variance s
        labels = sum(j**2 for j in drawn) / 4  # times sigma^2
        total += (along**2 * s + labels * sigma**2) / 9
    numbers = {batch: 2, h: sum(j**2 for j in outputs) / 3, q: sum(j**4 for j in outputs) / 3}
    return same(squared_gradient().rhs.subs(numbers), total)


def _one_large_batch_keeps_the_square_of_the_mean():
    return same(sp.limit(squared_gradient().rhs, batch, sp.oo), h**2 * s)


@equation(
    "eq:squared-gradient",
    computed_by="sgdnoise.theory.squared_gradients",
    laws=(_all_sequences_agree, _one_large_batch_keeps_the_square_of_the_mean),
)
def squared_gradient():
    """Mean squared gradient of a batch; h and q: means of squares and fourth powers of J."""
    sampled = q - h**2  # variance over the examples of their curvatures
    mean = sp.Symbol("v")
    return sp.Eq(mean, sp.expand((sigma**2 * h + sampled * s) / batch + h**2 * s))


def _moments_of_both_are_kept():
    """Var theta, Var m and their covariance, of m' = beta m + (1 - beta)(h theta + noise)."""
    xx, xm, mm = sp.symbols("xx xm mm")
    g = 1 - beta
    new_mm = beta**2 * mm + g**2 * (curvature**2 * xx + kick) + 2 * beta * g * curvature * xm
    new_xm_before = beta * xm + g * curvature * xx  # of theta before its step with the new m
    new_xm = new_xm_before - rate * P * new_mm
    new_xx = xx - 2 * rate * P * new_xm_before + (rate * P) ** 2 * new_mm
    kept = sp.solve([new_xx - xx, new_xm - xm, new_mm - mm], [xx, xm, mm], dict=True)[0]
    return same(kept[xx], preconditioned_variance().rhs)


def _without_memory_it_is_that_of_the_larger_rate():
    step = rate * P
    plain = step * kick / (curvature * (2 - step * curvature))
    return same(preconditioned_variance().rhs.subs(beta, 0), plain)


@equation(
    "eq:preconditioned-variance",
    computed_by="sgdnoise.theory.label_noise_covariance",
    laws=(_moments_of_both_are_kept, _without_memory_it_is_that_of_the_larger_rate),
)
def preconditioned_variance():
    """Variance of theta along a curvature h, of steps eta P m with m the moving average."""
    discrete_steps = (1 - beta) / (1 + beta)
    relaxed = 2 * curvature - discrete_steps * rate * P * curvature**2
    return sp.Eq(sp.Symbol("S"), sp.factor(rate * P * kick / relaxed))


def _it_is_the_gradient_of_the_trace_with_p_held():
    """kappa grad (P_1 D_1 + P_2 D_2) with P_i = (B / D_i)^(1/2) / sigma put in afterwards."""
    kappa = rate * sigma**2 / (4 * batch)
    scales = [sp.sqrt(batch / diagonal) / sigma for diagonal in (D_1, D_2)]
    force = kappa * sum(p * sp.diff(d, x) for p, d in zip(scales, (D_1, D_2), strict=True))
    return same(adaptive_force().rhs.doit(), force)


def _a_step_does_not_depend_on_the_noise():
    """rate P force has neither sigma nor B."""
    step = rate * sp.sqrt(batch / D_1) / sigma * adaptive_force().rhs.doit()
    return not step.free_symbols & {sigma, batch}


@equation(
    "eq:adaptive-penalty",
    computed_by="sgdnoise.theory.adaptive_penalty",
    laws=(_it_is_the_gradient_of_the_trace_with_p_held, _a_step_does_not_depend_on_the_noise),
)
def adaptive_force():
    """The mean gradient along the minima, for two parameters with the diagonal D of H."""
    penalty = sp.sqrt(D_1) + sp.sqrt(D_2)
    force = sp.Symbol("F")
    return sp.Eq(force, rate * sigma / (2 * sp.sqrt(batch)) * sp.Derivative(penalty, x))
