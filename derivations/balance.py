"""Isotropic noise against label noise in a linear network f = x W V, and against weight decay."""

from functools import cache

import sympy as sp

from derivations.algebra import mean, same, white
from derivations.equation import equation
from derivations.symbols import batch, outputs, sigma

decay, kappa, rho = sp.symbols("lambda kappa rho", positive=True)
inputs, width = sp.symbols("d h", integer=True, positive=True)
trace_moment = sp.Symbol(r"{\operatorname{Tr} \Sigma}", positive=True)  # of the inputs
s, q, c = sp.symbols("s q c", positive=True)  # a mode, |V|^2, variance of a free weight
HIDDEN, READOUT = sp.symbols(r"{\operatorname{Tr}K} |V|^{2}", positive=True)
w1, w2 = sp.symbols("w_1 w_2", positive=True)  # modes of the hidden layer without temperature


def _its_pull_is_that_of_noisy_steps():
    """E Tr(V G^T G V^T - W^T G G^T W), G = x e^T with label noise e: 2 inputs, 1 unit, 2 outputs.

    A step adds rate^2 of it, rate = 4 B kappa / sigma^2 of it in a unit of time.
    """
    letters = white(4)
    x = sp.Matrix([sp.sqrt(3) * letters[0], letters[1]])  # of variances 3 and 1
    e = sigma / sp.sqrt(batch) * sp.Matrix(letters[2:])
    W, V = (sp.Matrix(2, 1, sp.symbols(f"{name}_1:3", real=True)) for name in "wv")
    G, V = x * e.T, V.T
    change = (V * G.T * G * V.T - W.T * G * G.T * W)[0]
    solution = mean(sp.expand(change), letters) * 4 * batch * kappa / sigma**2
    hidden, readout = 3 * W[0] ** 2 + W[1] ** 2, V[0] ** 2 + V[1] ** 2
    return same(solution, _pull(hidden, readout).subs({trace_moment: 4, outputs: 2}))


def _without_temperature_it_is_the_fixed_point():
    return same(sum_rule().rhs.subs(rho, 0), trace_moment * READOUT)


@equation(
    "eq:balance-sum-rule",
    computed_by="sgdnoise.theory.sum_rule",
    laws=(_its_pull_is_that_of_noisy_steps, _without_temperature_it_is_the_fixed_point),
)
def sum_rule():
    """Trace of the drift of the imbalance under both noises, which is zero when stationary."""
    force = 2 * rho * kappa * (inputs - outputs) * width  # as in `temperature`, T = rho kappa
    (stationary,) = sp.solve(_pull(HIDDEN, READOUT) + force, HIDDEN)
    return sp.Eq(outputs * HIDDEN, sp.expand(outputs * stationary))


def _the_law_of_readouts_obeys_the_sum_rule():
    """By parts, the mean of Tr(Sigma) q - s^2 / q is rho (h - d) / 2."""
    law = readout_law().rhs
    gone = sp.simplify(sp.diff(q * law, q) / law)  # of mean zero
    force = trace_moment * q - s**2 / q
    return same(gone, (rho * (width - inputs) / 2 - force) / rho)


@equation(
    "eq:readout-law",
    computed_by="sgdnoise.theory.noise_balance",
    laws=(_the_law_of_readouts_obeys_the_sum_rule,),
)
@cache
def readout_law():
    """Density of the squared length of the readout on the minima, up to a constant: one output.

    q = |V|^2, where p ~ exp(-Tr H / rho).

    W is s u V^T / q and what is orthogonal to V; that weighs exp(-s^2 / (q rho)).
    """
    shell = q ** (width / 2 - 1)  # volume of readouts of this length
    across = q ** (-inputs / 2)  # of a product V makes of W, by the delta function
    weight = sp.exp(-(trace_moment * q + s**2 / q) / rho)
    return sp.Eq(sp.Symbol("p(q)"), sp.powsimp(shell * across * weight))


def _one_output_has_bessels_mean():
    """E s^2 / q = s Tr(Sigma)^1/2 K_(p-1)(z) / K_p(z) with p = (h - d) / 2, for large z."""
    z, p = sp.symbols("z p", positive=True)

    def hankel(order):  # K_order(z) over (pi / 2z)^1/2 exp(-z), two terms
        return 1 + (4 * order**2 - 1) / (8 * z)

    ratio = sp.series((hankel(p - 1) / hankel(p)).subs(z, 1 / c), c, 0, 2).removeO()
    slope = sp.diff(ratio, c).subs(p, (width - inputs) / 2)  # 1 / z = c / w, one output
    alone = sp.limit((mode_at_balance().rhs - w1) / c, w2, sp.oo)  # which is out of its reach
    return same(slope, alone)


def _two_modes_are_exchangeable():
    """The total does not see which of them is which."""
    total = _drifted(w1, w2) + _drifted(w2, w1) - w1 - w2
    return same(total / c, inputs - width + sp.Rational(3, 2))


@equation(
    "eq:mode-at-balance",
    computed_by="sgdnoise.theory.noise_balance",
    laws=(_one_output_has_bessels_mean, _two_modes_are_exchangeable),
)
@cache
def mode_at_balance():
    """Mean of a mode of the hidden layer beside another one, to first order in temperature.

    c = rho / (2 o).
    """
    return sp.Eq(sp.Symbol(r"\mathbb{E} A_{11}"), _drifted(w1, w2))


def _pairs_are_those_of_small_matrices():
    """The three pairings, against all moments of the entries."""

    def alike(d, m):
        letters = white(d * m)
        Z = sp.Matrix(d, m, letters)
        return same(mean(sp.expand(((Z * Z.T) ** 2).trace()), letters), _paired(d, m))

    return all(alike(*size) for size in ((1, 1), (1, 3), (2, 1), (2, 2)))


def _mixed_terms_have_the_mean_of_z():
    """2 Tr A c Z Z^T has the mean 2 c m Tr A."""
    letters = white(4)
    Z, A = sp.Matrix(2, 2, letters), sp.Matrix(2, 2, sp.symbols("a_1:5"))
    solution = mean(sp.expand((2 * c * A * Z * Z.T).trace()), letters)
    return same(solution, 2 * c * 2 * A.trace())


@equation(
    "eq:free-square",
    computed_by="sgdnoise.theory.noise_balance",
    laws=(_pairs_are_those_of_small_matrices, _mixed_terms_have_the_mean_of_z),
)
@cache
def free_square():
    """Mean square of all modes with the free units, whose weights are normal.

    K = A + c Z Z^T over Z (d, m), by pairs of its entries.
    """
    m = sp.Symbol("m", integer=True, positive=True)
    trace, square = sp.symbols(r"{\operatorname{Tr}A} {\operatorname{Tr}A^{2}}", positive=True)
    mixed = 2 * c * m * trace
    return sp.Eq(
        sp.Symbol(r"\mathbb{E}\operatorname{Tr} K^2"),
        square + mixed + c**2 * sp.factor(_paired(inputs, m)),
    )


def _no_decay_leaves_the_mode():
    return same(soft_threshold().rhs.subs(decay, 0), s)


def _decay_above_a_mode_leaves_no_minimum():
    return same(sp.solve(soft_threshold().rhs, decay)[0], s)


@equation(
    "eq:soft-threshold",
    computed_by="sgdnoise.theory.soft_threshold",
    laws=(_no_decay_leaves_the_mode, _decay_above_a_mode_leaves_no_minimum),
)
def soft_threshold():
    """The mode of the product that decay leaves.

    The least (w^2 + v^2) / 2 at w v = x is x.
    """
    x = sp.Symbol("x", positive=True)
    w = sp.Symbol("w", positive=True)
    (root,) = sp.solve(sp.diff((w**2 + (x / w) ** 2) / 2, w), w)
    smallest = sp.simplify((root**2 + (x / root) ** 2) / 2)
    (stationary,) = sp.solve(sp.diff((x - s) ** 2 / 2 + decay * smallest, x), x)
    return sp.Eq(x, stationary)


def _pull(hidden, readout):
    """Speed that label noise gives the trace of the imbalance."""
    return 4 * kappa * (trace_moment * readout - outputs * hidden)


def _drifted(first, second):
    """First order in c of E A_11, of the density det(A)^(-p - 3/2) exp(-Tr(A + w^2 A^-1) / 2c).

    p = (h - d) / 2; A = diag(w) + c^1/2 X, expanded about its largest density, where X is normal.
    """
    x, y, z = white(3)
    center = sp.diag(first, second)
    shift = sp.Matrix([[x, z], [z, y]])
    inverse = center.inv()
    ladder = [inverse]
    for _ in range(3):
        ladder.append(-ladder[-1] * shift * inverse)
    force = [-(center**2 * term).trace() / 2 for term in ladder]
    cubic = force[3] - ((width - inputs) / 2 + sp.Rational(3, 2)) * (inverse * shift).trace()
    spreads = [-1 / sp.diff(force[2], at, 2) for at in (x, y, z)]
    scaled = {at: sp.sqrt(size) * at for at, size in zip((x, y, z), spreads, strict=True)}
    of_order_one = mean(sp.expand((x * cubic).subs(scaled, simultaneous=True)), (x, y, z))
    return first + c * sp.simplify(of_order_one)


def _paired(d, m):
    """E Tr (Z Z^T)^2 = E sum Z_ia Z_ja Z_jb Z_ib over the three ways to pair the four entries."""
    same_row, same_column, both = d * m**2, d**2 * m, d * m
    return same_row + same_column + both
