"""Operations that several derivations share."""

from functools import cache

import sympy as sp

__all__ = ["mean", "same", "upright", "white"]


def white(count):
    """Independent standard normal numbers z_1, ..., z_count."""
    return sp.symbols(f"z_1:{count + 1}", real=True)


def mean(expression, numbers):
    """The mean of a polynomial over independent standard normal numbers, in turn."""
    for z in numbers:
        terms = sp.Poly(expression, z).terms()
        expression = sum(coefficient * _moment(power) for (power,), coefficient in terms)
    return sp.expand(expression)


def same(left, right):
    """Whether two expressions, or two matrices, are equal for all values of their letters."""
    gaps = sp.Matrix([left]) - sp.Matrix([right])
    return all(sp.simplify(gap) == 0 for gap in gaps)


def upright(expression):
    """The same fraction, factored, with its sign in the sum of the denominator."""
    above, below = sp.fraction(sp.factor(expression))
    if not above.could_extract_minus_sign():
        return above / below
    factor = next(factor for factor in sp.Mul.make_args(below) if factor.is_Add)
    return -above / (below / factor * sp.expand(-factor))


@cache
def _moment(power):
    z = sp.Symbol("z", real=True)
    density = sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi)
    return sp.integrate(z**power * density, (z, -sp.oo, sp.oo))
