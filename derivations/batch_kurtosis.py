"""The excess kurtosis of a mean over distinct examples, from that of a single example.

The n numbers x_i have mean zero, sum_i x_i^2 = p_2 and sum_i x_i^4 = p_4.  The fourth moment of the
sum over a batch is a sum over partitions of four places into blocks of equal examples.
"""

from collections import Counter
from itertools import combinations
from math import factorial, prod

import sympy as sp
from sympy.utilities.iterables import multiset_partitions

from derivations.algebra import same
from derivations.equation import equation
from derivations.symbols import batch, n

single = sp.Symbol("kappa", real=True)
squares, fourths = sp.symbols("p_2 p_4", positive=True)
POWERS = {1: sp.Integer(0), 2: squares, 3: sp.Symbol("p_3"), 4: fourths}


def _over_distinct(sizes):
    """sum x_i^a x_j^b ... over distinct examples, by inclusion and exclusion from power sums."""
    total = sp.Integer(0)
    for joined in multiset_partitions(list(range(len(sizes)))):
        sign = prod((-1) ** (len(block) - 1) * factorial(len(block) - 1) for block in joined)
        total += sign * prod(POWERS[sum(sizes[i] for i in block)] for block in joined)
    return total


def _chance(k):
    """The probability that k given examples are all in the batch."""
    return prod((batch - i) / (n - i) for i in range(k))


def _moment(order):
    """E S^order of the sum S over a batch."""
    shapes = Counter(
        tuple(sorted(map(len, blocks))) for blocks in multiset_partitions(list(range(order)))
    )
    return sum(
        count * _chance(len(sizes)) * _over_distinct(sizes) for sizes, count in shapes.items()
    )


def _it_is_the_sum_over_partitions():
    ratio = _moment(4) / _moment(2) ** 2 - 3
    return same(ratio.subs(fourths, (single + 3) * squares**2 / n), kurtosis_of_a_batch().rhs)


def _all_subsets_agree():
    """Five numbers, batches of one to four, by hand."""
    numbers = [sp.Integer(v) for v in (-4, -1, 0, 2, 3)]
    second, fourth = (sum(v**k for v in numbers) for k in (2, 4))
    kappa = sp.Rational(5 * fourth, second**2) - 3
    for size in range(1, 5):
        sums = [sum(chosen) for chosen in combinations(numbers, size)]
        exact = len(sums) * sum(s**4 for s in sums) / sum(s**2 for s in sums) ** 2 - 3
        claimed = kurtosis_of_a_batch().rhs.subs({n: 5, batch: size, single: kappa})
        if not same(exact, claimed):
            return False
    return True


def _of_many_examples_it_falls_as_the_batch():
    return same(sp.limit(kurtosis_of_a_batch().rhs, n, sp.oo), single / batch)


def _the_others_have_the_same():
    """The sum over all is zero, so that the examples that are left have minus the sum."""
    law = kurtosis_of_a_batch().rhs
    return same(law, law.subs(batch, n - batch))


@equation(
    "eq:batch-kurtosis",
    computed_by="sgdnoise.noise.minibatch_kurtosis",
    laws=(
        _it_is_the_sum_over_partitions,
        _all_subsets_agree,
        _of_many_examples_it_falls_as_the_batch,
        _the_others_have_the_same,
    ),
)
def kurtosis_of_a_batch():
    """Excess kurtosis of a mean over a batch without replacement, from that of one example."""
    left = batch * (n - batch)
    own = single * (n - 1) * (n * (n + 1) - 6 * left)
    return sp.Eq(
        sp.Symbol("kappa_B"),
        (own + 6 * n * (n - 1 - left)) / (left * (n - 2) * (n - 3)),
    )
