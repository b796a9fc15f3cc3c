"""The variance of theta under label noise, with the noise of sampling the residuals.

One parameter, at a minimum where the outputs of n examples have the derivatives J_i, hence the
curvatures J_i^2.  A step is theta <- theta - rate mean_b (J_b^2 theta + sigma J_b xi_b).
"""

from itertools import permutations, product

import sympy as sp

from derivations.algebra import same
from derivations.equation import equation
from derivations.symbols import batch, rate, sigma

h, q = sp.symbols("h q", positive=True)  # mean of J^2 and of J^4 over the examples
s, f = sp.symbols("s f", positive=True)  # variance of theta; (n - B) / (n - 1), or 1


def _stationary(draws, outputs):
    """The variance that the step keeps, over all equally likely batches."""
    size, variance = len(draws[0]), sp.Symbol("v")
    curvatures = [sum(outputs[i] ** 2 for i in drawn) / size for drawn in draws]
    kept = sum((1 - rate * c) ** 2 for c in curvatures) / len(draws)
    kick = sum(rate**2 * sigma**2 * c / size for c in curvatures) / len(draws)
    return sp.solve(sp.Eq(variance, kept * variance + kick), variance)[0]


def _claimed(outputs, size, factor):
    numbers = {h: sum(j**2 for j in outputs) / len(outputs), batch: size, f: factor}
    fourth = sum(j**4 for j in outputs) / len(outputs)
    return label_noise_variance().rhs.subs(numbers).subs(q, fourth)


def _all_sequences_agree():
    """Three examples, two draws with replacement: all nine sequences by hand."""
    outputs = sp.symbols("J_1 J_2 J_3", positive=True)
    draws = list(product(range(3), repeat=2))
    return same(_stationary(draws, outputs), _claimed(outputs, 2, 1))


def _all_subsets_agree():
    """Three examples, two draws without replacement: f is one half."""
    outputs = sp.symbols("J_1 J_2 J_3", positive=True)
    draws = list(permutations(range(3), 2))
    return same(_stationary(draws, outputs), _claimed(outputs, 2, sp.Rational(1, 2)))


def _at_small_rates_it_is_that_of_kappa():
    """eta sigma^2 / (2 B), whatever the curvature."""
    small = sp.limit(label_noise_variance().rhs / rate, rate, 0)
    return same(small, sigma**2 / (2 * batch))


@equation(
    "eq:label-noise-variance",
    computed_by="sgdnoise.theory.label_noise_covariance",
    laws=(_all_sequences_agree, _all_subsets_agree, _at_small_rates_it_is_that_of_kappa),
)
def label_noise_variance():
    """Variance of theta; q is the mean of the squared curvatures of the examples."""
    relaxed = 2 * h * s - rate * h**2 * s
    noise = rate / batch * (sigma**2 * h + f * (q - h**2) * s)
    return sp.Eq(s, sp.solve(sp.Eq(relaxed, noise), s)[0])
