"""Distances to the nearest neighbours of uniformly distributed points in dimension d.

The number of points in a volume has Poisson's law, whatever its shape; the volume of a ball grows
as its radius to the power d.  Volumes are in units of one point each.
"""

from functools import cache

import sympy as sp

from derivations.algebra import same
from derivations.equation import equation
from derivations.symbols import d, n

mu, rho, s = sp.symbols("mu rho s", positive=True)  # ratios of distances, a sum of logarithms
near, far = sp.symbols("n_1 n_2", integer=True, positive=True)  # ranks of two neighbours
k = sp.Symbol("k", integer=True, positive=True)  # neighbours
inner, outer = sp.symbols("r_A r_B", positive=True)  # radii
chance = sp.Symbol("p", positive=True)
volume, more, speed = sp.symbols("v w lambda", positive=True)


def _ratios_are_normalised():
    return _total(pareto_law().rhs, mu, 1, sp.oo) == 1


def _logarithms_are_exponential():
    return same(_law_of_logarithm(), d * sp.exp(-d * s))


@equation(
    "eq:pareto",
    computed_by="sgdnoise.dimension.twonn",
    laws=(_ratios_are_normalised, _logarithms_are_exponential),
)
@cache
def pareto_law():
    """Distribution of the distance to the second neighbour over that to the first."""
    empty_beyond = _shells(1, volume) * _none(more * volume)
    longer = sp.integrate(sp.powsimp(empty_beyond), (volume, 0, sp.oo)).subs(more, mu**d - 1)
    return sp.Eq(_law(r"r_2 / r_1 = \mu"), sp.powsimp(-sp.diff(longer, mu)))


def _unbiased_by_the_law_of_the_sum():
    """The sum of n logarithms has the law of that before neighbour k = n + 1."""
    law = log_sum_law().rhs.subs(k, n + 1)
    return same(_total(pareto_exponent().rhs * law, s, 0, sp.oo), d)


def _one_logarithm_leaves_no_estimate():
    return pareto_exponent().rhs.subs(n, 1) == 0


@equation(
    "eq:pareto-exponent",
    computed_by="sgdnoise.dimension.twonn",
    laws=(_unbiased_by_the_law_of_the_sum, _one_logarithm_leaves_no_estimate),
)
def pareto_exponent():
    """Maximum-likelihood exponent of n such ratios with logarithms of sum s, without bias."""
    likelihood = n * sp.log(d) - (d + 1) * s
    (likeliest,) = sp.solve(sp.diff(likelihood, d), d)
    mean = sp.gammasimp(likeliest * s * _mean_inverse_of_logarithms())
    return sp.Eq(sp.Symbol(r"\hat{d}"), likeliest * d / mean)


def _log_log_mean_is_an_integral():
    return same(_total(sp.log(s) * _law_of_logarithm(), s, 0, sp.oo), log_log_mean().rhs)


@equation("eq:log-log", computed_by="sgdnoise.dimension.l2n2", laws=(_log_log_mean_is_an_integral,))
def log_log_mean():
    """Mean logarithm of the logarithm of such a ratio."""
    power = sp.Symbol("t", positive=True)
    moment = sp.integrate(s**power * _law_of_logarithm(), (s, 0, sp.oo), conds="none")
    mean = sp.diff(moment, power).subs(power, 0)
    return sp.Eq(sp.Symbol(r"\mathbb{E}\log\log(r_2 / r_1)"), sp.expand(mean))


def _rank_ratios_are_normalised():
    """By the ratio of volumes less one, for all ranks a few apart."""
    laws = (rank_ratio_law().rhs.subs({near: a, far: a + b}) for a in (1, 3) for b in (1, 2, 4))
    return all(_over_volumes(law) == 1 for law in laws)


def _neighbours_one_and_two_are_pareto():
    return same(rank_ratio_law().rhs.subs({near: 1, far: 2}), pareto_law().rhs)


def _steps_of_one_rank_are_steeper():
    """v_(j+1) / v_j is Pareto(j), as is known of order statistics."""
    law = rank_ratio_law().rhs.subs(far, near + 1)
    return same(law, near * d * mu ** (-near * d - 1))


@equation(
    "eq:rank-ratio",
    computed_by="sgdnoise.dimension.gride",
    laws=(
        _rank_ratios_are_normalised,
        _neighbours_one_and_two_are_pareto,
        _steps_of_one_rank_are_steeper,
    ),
)
@cache
def rank_ratio_law():
    """Distribution of the distance to a neighbour of one rank over that to one of a lower rank."""
    between = sp.Symbol("b", integer=True, positive=True)
    both = _shells(near, volume) * _shells(between, more * volume) * volume
    by_volume = sp.integrate(sp.powsimp(sp.expand_power_base(both)), (volume, 0, sp.oo))
    of_volumes = sp.gammasimp(by_volume.rewrite(sp.gamma)).subs(between, far - near)
    law = of_volumes.subs(more, mu**d - 1) * sp.diff(mu**d, mu)
    return sp.Eq(_law(r"r_{n_2} / r_{n_1} = \mu"), sp.powsimp(sp.powdenest(law)))


def _nearest_over_farthest_is_normalised():
    return _total(sp.expand(nearest_over_farthest().rhs.subs(k, 3)), rho, 0, 1) == 1


def _nearest_over_farthest_is_a_rank_ratio():
    turned = rank_ratio_law().rhs.subs({near: 1, far: k + 1}).subs(mu, 1 / rho) / rho**2
    gaps = [(nearest_over_farthest().rhs - turned).subs(k, value) for value in (1, 2, 5)]
    return all(sp.simplify(sp.expand_power_base(gap)) == 0 for gap in gaps)


@equation(
    "eq:nearest-over-farthest",
    computed_by="sgdnoise.dimension.mind_ml",
    laws=(_nearest_over_farthest_is_normalised, _nearest_over_farthest_is_a_rank_ratio),
)
def nearest_over_farthest():
    """Distribution of the distance to the first neighbour over that to neighbour k + 1."""
    none_nearer = (1 - _volume_share(rho)) ** k
    return sp.Eq(_law(r"r_1 / r_{k + 1} = \rho"), sp.powsimp(-sp.diff(none_nearer, rho)))


def _log_sums_are_normalised():
    return _total(log_sum_law().rhs, s, 0, sp.oo) == 1


def _log_sums_are_those_of_steps():
    """The sum over j < k of log(r_k / r_j) is that of i log(r_(i+1) / r_i), all alike."""
    i = sp.Symbol("i", integer=True, positive=True)
    step = rank_ratio_law().rhs.subs({near: i, far: i + 1})
    of_step = step.subs(mu, sp.exp(s / i)) * sp.diff(sp.exp(s / i), s)
    return same(sp.expand(sp.powdenest(of_step, force=True)), log_sum_law().rhs.subs(k, 2))


@equation(
    "eq:log-sum",
    computed_by="sgdnoise.dimension.levina_bickel",
    laws=(_log_sums_are_normalised, _log_sums_are_those_of_steps),
)
@cache
def log_sum_law():
    """Distribution of the summed logarithms of the distance to neighbour k over those before it."""
    transform = _slowed(-sp.diff(_volume_share(sp.exp(-s)), s)) ** (k - 1)
    law = sp.inverse_laplace_transform(transform, speed, s, noconds=True)
    return sp.Eq(_law(r"\sum_{j < k}\log(r_k / r_j) = s"), sp.simplify(law))


def _an_inverse_mean_is_too_large_by_one_in_k():
    mean = _total((k - 1) / s * log_sum_law().rhs, s, 0, sp.oo)
    return same(mean, d * (k - 1) / (k - 2))


@equation(
    "eq:inverse-dimension",
    computed_by="sgdnoise.dimension.levina_bickel",
    laws=(_an_inverse_mean_is_too_large_by_one_in_k,),
)
def inverse_dimension():
    """Mean of the same logarithms, without bias for the inverse of the dimension."""
    mean = sp.integrate(s / (k - 1) * log_sum_law().rhs, (s, 0, sp.oo))
    name = sp.Symbol(r"\mathbb{E}\frac{1}{k - 1}\sum_{j < k}\log(r_k / r_j)")
    return sp.Eq(name, sp.gammasimp(mean))


def _half_way_on_a_line_and_at_the_edge_in_high_dimension():
    radius = mean_radius().rhs
    return radius.subs(d, 1) == sp.Rational(1, 2) and sp.limit(radius, d, sp.oo) == 1


@equation(
    "eq:mean-radius",
    computed_by="sgdnoise.dimension.mom",
    laws=(_half_way_on_a_line_and_at_the_edge_in_high_dimension,),
)
def mean_radius():
    """Mean distance to the neighbours before the k-th, in units of that to the k-th."""
    density = sp.diff(_volume_share(rho), rho)
    return sp.Eq(sp.Symbol(r"\mathbb{E}\,r_j / r_k"), sp.integrate(rho * density, (rho, 0, 1)))


def _counts_are_binomial():
    mark, total = sp.Symbol("t"), 3
    chance = inner_share().rhs
    return same(_counts(mark, total), (1 - chance + chance * mark) ** total)


def _equal_radii_hold_all():
    return inner_share().rhs.subs(inner, outer) == 1


@equation(
    "eq:inner-share",
    computed_by="sgdnoise.dimension.binomial",
    laws=(_counts_are_binomial, _equal_radii_hold_all),
)
def inner_share():
    """Share of the points within one radius that lie within a smaller one."""
    mark = sp.Symbol("t")
    return sp.Eq(chance, sp.simplify(sp.diff(_counts(mark, 1), mark).subs(mark, 1)))


def _best_share_is_a_minimum():
    curvature = sp.diff(_variance_of_dimension(), chance, 2).subs(chance, best_share().rhs)
    return bool(sp.N(curvature.subs(d, 1)) > 0)


def _best_share_is_a_fifth():
    """Solves log p = 2 (p - 1) below one half."""
    p = best_share().rhs
    return bool(abs(sp.N(sp.log(p) - 2 * (p - 1))) < 1e-12 and 0 < sp.N(p) < 0.5)


@equation(
    "eq:best-share",
    computed_by="sgdnoise.dimension.binomial",
    laws=(_best_share_is_a_minimum, _best_share_is_a_fifth),
)
@cache
def best_share():
    """The share that gives the smallest variance of the dimension."""
    slope = sp.diff(_variance_of_dimension(), chance) / d**2
    flat = sp.solve(sp.expand(slope * chance**2 * sp.log(chance) ** 3), chance)
    (best,) = (value for value in flat if value < 1)
    return sp.Eq(sp.Symbol(r"p^{\mathrm{best}}"), best)


def _law(value):
    return sp.Symbol(f"p({value})")


def _none(size):
    """Chance that a volume is empty: Poisson's law at zero."""
    return sp.exp(-size)


def _shells(count, size):
    """Density of the volume of the ball that reaches to a neighbour: the others are inside."""
    return size ** (count - 1) / sp.gamma(count) * _none(size)


def _volume_share(ratio):
    """Chance that one of the points of a ball lies within a part of its radius."""
    return ratio**d


def _law_of_logarithm():
    """Of s = log mu, by change of variables."""
    return sp.powsimp(pareto_law().rhs.subs(mu, sp.exp(s)) * sp.exp(s))


def _slowed(law):
    """Mean of exp(-lambda s), Laplace's transform, which sums multiply."""
    return sp.integrate(sp.exp(-speed * s) * law, (s, 0, sp.oo))


def _mean_inverse_of_logarithms():
    """E 1/s for the sum of n logarithms: 1/s is the integral of exp(-lambda s) by lambda."""
    transform = _slowed(_law_of_logarithm()) ** n
    return sp.integrate(transform, (speed, 0, sp.oo), conds="none")


def _counts(mark, total):
    """Generating function of how many of `total` points within outer are within inner."""
    size = sp.Symbol("V", positive=True)  # of the outer ball
    within, z = size * _volume_share(inner / outer), sp.Symbol("z")
    both = sp.exp(within * (mark * z - 1) + (size - within) * (z - 1))
    ways = sp.diff(both, z, total).subs(z, 0)
    return sp.simplify(ways / ways.subs(mark, 1))


def _variance_of_dimension():
    """Of log p / log(r_A / r_B), to first order in the error of p, for one point."""
    log_ratio = sp.Symbol("L")
    slope = sp.diff(sp.log(chance) / log_ratio, chance)
    return (slope**2 * chance * (1 - chance)).subs(log_ratio, sp.log(chance) / d)


def _total(law, letter, *ends):
    return sp.simplify(sp.integrate(law, (letter, *ends), conds="none"))


def _over_volumes(law, weight=1):
    """Integral of a law of mu, by w = mu^d - 1."""
    by = (1 + more) ** (1 / d)
    return _total(sp.simplify((law * weight).subs(mu, by) * sp.diff(by, more)), more, 0, sp.oo)
