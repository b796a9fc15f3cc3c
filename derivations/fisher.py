"""Distance of the second moment of gradients from the Fisher information, under drawn labels."""

import sympy as sp

from derivations.algebra import same
from derivations.equation import equation

LABELS = 3
p = sp.symbols(f"p:{LABELS}", positive=True)
g = [sp.Matrix(sp.symbols(f"g{y}_:2", real=True)) for y in range(LABELS)]
v = sp.Matrix(sp.symbols("v:2", real=True))
NORMALISED = {p[LABELS - 1]: 1 - sum(p[:-1])}


def _expected(value):
    """The mean over the label of one example, of a function of that label."""
    return sum((p[y] * value(y) for y in range(LABELS)), start=0 * value(0))


def _fisher():
    return _expected(lambda y: g[y] * g[y].T)


def _is_the_quadratic_form_of_fisher():
    return same((v.T * _fisher() * v)[0], second_moment_is_fisher().rhs)


@equation(
    "eq:fisher-moment",
    computed_by="sgdnoise.noise.fisher_inner_product",
    laws=(_is_the_quadratic_form_of_fisher,),
)
def second_moment_is_fisher():
    """Mean square of a gradient along a direction, its label drawn: the Fisher form."""
    return sp.Eq(sp.Symbol(r"\operatorname{E}(g^\top v)^2"), _expected(lambda y: g[y].dot(v) ** 2))


def _is_mean_fourth_power_less_the_square_of_fisher():
    """E|g|^4 - |F|^2, the form in which it is coded, for probabilities that add up to one."""
    coded = _expected(lambda y: g[y].dot(g[y]) ** 2) - _square(_fisher())
    return same(*(side.subs(NORMALISED) for side in (coded, mean_square_distance().rhs)))


def _a_certain_label_leaves_no_distance():
    return same(mean_square_distance().rhs.subs({p[0]: 1, p[1]: 0, p[2]: 0}), 0)


@equation(
    "eq:fisher-distance",
    computed_by="sgdnoise.noise.fisher_scatter",
    laws=(_is_mean_fourth_power_less_the_square_of_fisher, _a_certain_label_leaves_no_distance),
)
def mean_square_distance():
    """Mean square distance of the second moment of gradients from the Fisher information."""
    fisher = _fisher()
    off = _expected(lambda y: _square(g[y] * g[y].T - fisher))
    return sp.Eq(sp.Symbol(r"n \operatorname{E}\,|A - F|^2"), sp.expand(off))


def _square(matrix):
    return sum(entry**2 for entry in matrix)
