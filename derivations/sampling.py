"""The covariance of example weights for each way of drawing a minibatch."""

from itertools import combinations, product

import sympy as sp

from derivations.algebra import mean, same, white
from derivations.equation import equation
from derivations.symbols import batch, n

t, u = sp.symbols("t u")  # count the draws of two different examples
stretch = sp.Symbol("ell", positive=True)
within, common = sp.symbols(r"\lambda_{\perp} \lambda_{\parallel}", nonnegative=True)


def _all_sequences_agree():
    """Three examples, two draws: all nine sequences by hand."""
    listed = _listed([(sp.Rational(1, 9), _weights(d)) for d in product(range(3), repeat=2)])
    return same(listed, _exchangeable(_small(own_with_replacement().rhs), 0))


def _generating_functions_are_normalised():
    laws = _counts_with_replacement(), _counts_without_replacement(), _counts_bernoulli()
    return all(_at_one(law) == 1 for law in laws)


def _weights_have_mean_one_over_n():
    laws = _counts_with_replacement(), _counts_without_replacement(), _counts_bernoulli()
    return all(same(_at_one(sp.diff(law, t)) / batch, 1 / n) for law in laws)


@equation(
    "eq:own-with-replacement",
    computed_by="sgdnoise.noise.with_replacement",
    laws=(
        _all_sequences_agree,
        _generating_functions_are_normalised,
        _weights_have_mean_one_over_n,
    ),
)
def own_with_replacement():
    """With replacement: variance of the weights orthogonal to their mean."""
    return sp.Eq(_named("perp", "with"), _across(*_pair(_counts_with_replacement())))


def _all_subsets_agree():
    """Three examples, two distinct draws: all three pairs by hand."""
    listed = _listed([(sp.Rational(1, 3), _weights(d)) for d in combinations(range(3), 2)])
    return same(listed, _exchangeable(_small(own_without_replacement().rhs), 0))


def _one_draw_needs_no_replacement():
    return same(
        own_without_replacement().rhs.subs(batch, 1), own_with_replacement().rhs.subs(batch, 1)
    )


def _the_whole_set_has_no_noise():
    return all(law().rhs.subs(batch, n) == 0 for law in (own_without_replacement, own_bernoulli))


def _replacement_does_not_matter_for_many_examples():
    return sp.limit(own_without_replacement().rhs / own_with_replacement().rhs, n, sp.oo) == 1


@equation(
    "eq:own-without-replacement",
    computed_by="sgdnoise.noise.without_replacement",
    laws=(
        _all_subsets_agree,
        _one_draw_needs_no_replacement,
        _the_whole_set_has_no_noise,
        _replacement_does_not_matter_for_many_examples,
    ),
)
def own_without_replacement():
    """Without replacement: variance of the weights orthogonal to their mean."""
    return sp.Eq(_named("perp", "without"), _across(*_pair(_counts_without_replacement())))


def _all_coins_agree():
    """Three examples, each drawn or not: all eight outcomes by hand."""
    chances = (sp.Rational(1, 3), sp.Rational(2, 3))
    listed = _listed(
        [
            (chances[a] * chances[b] * chances[c], sp.Matrix([a, b, c]) / 2)
            for a, b, c in product((0, 1), repeat=3)
        ]
    )
    return same(listed, _exchangeable(_small(own_bernoulli().rhs), _small(shared_bernoulli().rhs)))


@equation(
    "eq:own-bernoulli",
    computed_by="sgdnoise.noise.bernoulli",
    laws=(_all_coins_agree, _the_whole_set_has_no_noise),
)
def own_bernoulli():
    """Bernoulli sampling: variance of the weights orthogonal to their mean."""
    return sp.Eq(_named("perp", "Bernoulli"), _across(*_pair(_counts_bernoulli())))


def _independent_weights_scatter_alike_in_all_directions():
    return same(shared_bernoulli().rhs, own_bernoulli().rhs)


@equation(
    "eq:shared-bernoulli",
    computed_by="sgdnoise.noise.bernoulli",
    laws=(_all_coins_agree, _independent_weights_scatter_alike_in_all_directions),
)
def shared_bernoulli():
    """Bernoulli sampling: variance of the weights along their mean."""
    return sp.Eq(_named("parallel", "Bernoulli"), _along(*_pair(_counts_bernoulli())))


def _both_fixed_batches_have_no_shared_part():
    laws = _counts_with_replacement(), _counts_without_replacement()
    return all(_along(*_pair(law)) == 0 for law in laws)


@equation(
    "eq:shared-fixed",
    computed_by="sgdnoise.noise.with_replacement",
    laws=(_both_fixed_batches_have_no_shared_part,),
)
def shared_of_a_fixed_batch():
    """Weights that always sum to one have no variance along their mean."""
    variance, covariance = sp.symbols("v c")
    of_the_sum = n * variance + n * (n - 1) * covariance
    (needed,) = sp.solve(of_the_sum, covariance)
    return sp.Eq(_named("parallel", "fixed"), _along(variance, needed))


def _stretch_one_changes_nothing():
    return own_svag().rhs.subs(stretch, 1) == within


def _the_mix_is_the_only_one():
    """Shares a and b of two draws that keep the mean and stretch the variance."""
    a, b = sp.symbols("a b")
    mixes = sp.solve([a + b - 1, a**2 + b**2 - stretch], [a, b])
    return any(same(2 * a_ - 1, sp.sqrt(2 * stretch - 1)) for a_, _ in mixes)


@equation(
    "eq:own-svag",
    computed_by="sgdnoise.noise.svag_weights",
    laws=(_stretch_one_changes_nothing, _the_mix_is_the_only_one),
)
def own_svag():
    """SVAG, a mix of two draws with the same mean, multiplies the variance by the stretch."""
    s = sp.sqrt(2 * stretch - 1)
    first, second = (1 + s) / 2, (1 - s) / 2
    return sp.Eq(_named("perp", "SVAG"), sp.simplify((first**2 + second**2) * within))


def _three_white_numbers_agree():
    """The twin of three examples, its moments integrated."""
    z = white(3)
    center = sum(z) / 3
    w = [sp.sqrt(within) * (z_i - center) + sp.sqrt(common) * center for z_i in z]
    recorded = sp.Matrix(3, 3, lambda i, j: mean(w[i] * w[j], z))
    return same(recorded, _exchangeable(own_twin().rhs, shared_twin().rhs))


@equation(
    "eq:own-twin", computed_by="sgdnoise.noise.gaussian_weights", laws=(_three_white_numbers_agree,)
)
def own_twin():
    """Gaussian weights of the same covariance: variance orthogonal to their mean."""
    return sp.Eq(_named("perp", "twin"), _across(*_twin_pair()))


@equation(
    "eq:shared-twin",
    computed_by="sgdnoise.noise.gaussian_weights",
    laws=(_three_white_numbers_agree,),
)
def shared_twin():
    """Gaussian weights of the same covariance: variance along their mean."""
    return sp.Eq(_named("parallel", "twin"), _along(*_twin_pair()))


def _named(direction, law):
    return sp.Symbol(rf"\lambda_{{\{direction}}}^{{\mathrm{{{law}}}}}")


def _counts_with_replacement():
    """Generating function of how often two examples are drawn in B independent draws."""
    return ((t + u + n - 2) / n) ** batch


def _counts_without_replacement():
    """The same for B distinct examples, all subsets alike."""
    ways = sum(
        t**a * u**b * sp.binomial(n - 2, batch - a - b) for a, b in product((0, 1), repeat=2)
    )
    return ways / sp.binomial(n, batch)


def _counts_bernoulli():
    """The same for independent examples, each drawn with probability B / n."""
    chance = batch / n
    return (1 - chance + chance * t) * (1 - chance + chance * u)


def _pair(generating):
    """Variance of one weight and covariance of two, a weight being a count over B."""
    first = _at_one(sp.diff(generating, t))
    square = _at_one(sp.diff(generating, t, 2)) + first
    both = _at_one(sp.diff(generating, t, u))
    return (square - first**2) / batch**2, (both - first**2) / batch**2


def _twin_pair():
    """The same for w = 1/n + sqrt(own) (z - mean z) + sqrt(shared) mean z, z white."""
    from_others = (sp.sqrt(common) - sp.sqrt(within)) / n
    from_itself = sp.sqrt(within) + from_others
    variance = from_itself**2 + (n - 1) * from_others**2
    return variance, 2 * from_itself * from_others + (n - 2) * from_others**2


def _across(variance, covariance):
    """Eigenvalue of an exchangeable covariance on (1, -1, 0, ..., 0)."""
    return sp.factor(sp.simplify(variance - covariance))


def _along(variance, covariance):
    """Eigenvalue of an exchangeable covariance on (1, ..., 1)."""
    return sp.factor(sp.simplify(variance + (n - 1) * covariance))


def _at_one(expression):
    return sp.simplify(sp.gammasimp(expression.subs({t: 1, u: 1})))


def _listed(weighted):
    """Covariance matrix of the weights, from a list of (probability, weights)."""
    mean = sum((p * w for p, w in weighted), sp.zeros(3, 1))
    return sum((p * (w - mean) * (w - mean).T for p, w in weighted), sp.zeros(3))


def _exchangeable(across, along):
    shared_part = sp.ones(3) / 3
    return across * (sp.eye(3) - shared_part) + along * shared_part


def _small(expression):
    return sp.nsimplify(expression.subs({n: 3, batch: 2}))


def _weights(drawn):
    return sp.Matrix([sp.Rational(list(drawn).count(i), 2) for i in range(3)])
