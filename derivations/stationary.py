"""The stationary covariance of SGD on a quadratic loss."""

from functools import cache
from itertools import permutations

import sympy as sp

from derivations.algebra import mean, same, upright, white
from derivations.equation import equation
from derivations.symbols import batch, curvature, rate, sigma

h_i, h_j = sp.symbols("h_i h_j", positive=True)
c = sp.Symbol("C_ij", real=True)
s = sp.Symbol("S_ij", real=True)
variance = sp.Symbol("S", real=True)
kick = sp.Symbol("c", positive=True)  # variance of one batch's noise along one mode
epoch = sp.Symbol("m", integer=True, positive=True)  # batches
temperature = sp.Symbol("T", positive=True)


def _one_step_changes_nothing():
    stationary = stationary_entry().rhs
    return same(_one_step().subs(s, stationary), stationary)


def _modes_are_alike():
    swapped = {h_i: h_j, h_j: h_i}
    return same(stationary_entry().rhs.subs(swapped, simultaneous=True), stationary_entry().rhs)


def _newton_steps_forget_the_past():
    """At rate h = 1 each step lands on the minimum, give or take one kick."""
    landed = stationary_entry().rhs.subs({h_i: 1 / rate, h_j: 1 / rate})
    return same(landed, rate**2 * c)


@equation(
    "eq:stationary",
    computed_by="sgdnoise.theory.stationary_covariance",
    laws=(_one_step_changes_nothing, _modes_are_alike, _newton_steps_forget_the_past),
)
def stationary_entry():
    """Stationary covariance of SGD, an entry in the eigenbasis of the Hessian."""
    return sp.Eq(s, _rest(_one_step()))


def _flow_changes_nothing():
    stationary = continuous_entry().rhs
    return same(-(h_i + h_j) * stationary + rate * c, 0)


def _small_steps_follow_the_equation():
    return sp.limit(stationary_entry().rhs / continuous_entry().rhs, rate, 0) == 1


@equation(
    "eq:stationary-continuous",
    computed_by="sgdnoise.theory.langevin_covariance",
    laws=(_flow_changes_nothing, _small_steps_follow_the_equation),
)
def continuous_entry():
    """The same for the Langevin equation in continuous time."""
    diffusion = sp.Symbol("D_ij", real=True)  # rate C
    speed = sp.limit((_one_step().subs(c, diffusion / rate) - s) / rate, rate, 0)
    (solution,) = sp.solve(speed, s)
    return sp.Eq(sp.Symbol(r"S_{ij}^{\mathrm{cont}}"), solution.subs(diffusion, rate * c))


def _ratio_is_one_for_small_steps():
    return sp.limit(discretisation_ratio().rhs, rate, 0) == 1


def _ratio_diverges_where_descent_does():
    return sp.limit(discretisation_ratio().rhs, rate, 2 / curvature, "-") == sp.oo


def _ratio_exceeds_one_where_stable():
    fraction = sp.Symbol("epsilon", positive=True)  # rate h = 2 / (1 + share) < 2
    excess = discretisation_ratio().rhs.subs(rate, 2 / (1 + fraction) / curvature) - 1
    return sp.simplify(excess).is_positive is True


@equation(
    "eq:stationary-ratio",
    computed_by="sgdnoise.theory.langevin_covariance",
    laws=(
        _ratio_is_one_for_small_steps,
        _ratio_diverges_where_descent_does,
        _ratio_exceeds_one_where_stable,
    ),
)
def discretisation_ratio():
    """Stationary variance of SGD over that of its Langevin equation, along one eigenvector."""
    one_mode = {h_i: curvature, h_j: curvature}
    ratio = (stationary_entry().rhs / continuous_entry().rhs).subs(one_mode)
    name = sp.Symbol("S") / sp.Symbol(r"S^{\mathrm{cont}}")
    return sp.Eq(name, 1 / sp.expand(sp.simplify(1 / ratio)))


def _label_noise_changes_nothing_more():
    stationary, kick = label_noise_rest().rhs, sigma**2 * curvature / batch
    return same((1 - rate * curvature) ** 2 * stationary + rate**2 * kick, stationary)


def _sharp_modes_spread_wider():
    fraction = sp.Symbol("epsilon", positive=True)
    slope = sp.diff(label_noise_rest().rhs, curvature).subs(rate, 2 / (1 + fraction) / curvature)
    return sp.simplify(slope).is_positive is True


@equation(
    "eq:label-noise-rest",
    computed_by="sgdnoise.theory.stationary_covariance",
    laws=(_label_noise_changes_nothing_more, _sharp_modes_spread_wider),
)
def label_noise_rest():
    """Stationary variance along one eigenvector under label noise."""
    along = {h_i: curvature, h_j: curvature, c: sigma**2 * curvature / batch}
    return sp.Eq(variance, upright(stationary_entry().rhs.subs(along)))


def _small_is_the_limit():
    return sp.limit(label_noise_rest().rhs / label_noise_rest_small().rhs, rate, 0) == 1


def _no_curvature_is_left():
    return curvature not in label_noise_rest_small().rhs.free_symbols


@equation(
    "eq:label-noise-rest-small",
    computed_by="sgdnoise.theory.label_noise_strength",
    laws=(_small_is_the_limit, _no_curvature_is_left),
)
def label_noise_rest_small():
    """At a small learning rate the variance under label noise is equal in all directions."""
    exact = label_noise_rest().rhs
    return sp.Eq(sp.Symbol(r"S^{\mathrm{small}}"), sp.series(exact, rate, 0, 2).removeO())


def _two_batches_by_hand():
    """Noises x and -x: an epoch adds rate^2 (a - 1)^2 x^2."""
    retained = 1 - rate * curvature
    by_hand = rate**2 * (retained - 1) ** 2 * kick / (1 - retained**4)
    return same(reshuffled_rest().rhs.subs(epoch, 2), by_hand)


def _three_batches_in_all_orders():
    """One epoch of each of the six orders, of noises that sum to zero, leaves the variance."""
    first, second = sp.symbols("x_1 x_2", real=True)
    noises, retained = (first, second, -first - second), 1 - rate * curvature
    ends = []
    for order in permutations(noises):
        theta = sp.Integer(0)
        for xi in order:
            theta = retained * theta - rate * xi
        ends.append(theta)
    scatter = sum(end**2 for end in ends) / len(ends)
    stationary = reshuffled_rest().rhs.subs(epoch, 3).subs(kick, sum(x**2 for x in noises) / 3)
    return same(retained**6 * stationary + scatter, stationary)


def _newton_steps_leave_the_last_noise():
    landed = sp.cancel(reshuffled_rest().rhs.subs(epoch, 4)).subs(rate, 1 / curvature)
    return same(landed, kick / curvature**2)


@equation(
    "eq:reshuffled-rest",
    computed_by="sgdnoise.theory.reshuffled_covariance",
    laws=(_two_batches_by_hand, _three_batches_in_all_orders, _newton_steps_leave_the_last_noise),
)
@cache
def reshuffled_rest():
    """Stationary variance along one eigenvector after reshuffled epochs."""
    retained = sp.Symbol("a", positive=True)
    with_another = _covariance_that_sums_to_zero()
    alone = (kick - with_another) * _geometric(retained**2, epoch)
    kicks = rate**2 * (alone + with_another * _geometric(retained, epoch) ** 2)
    (stationary,) = sp.solve(sp.Eq(variance, retained ** (2 * epoch) * variance + kicks), variance)
    left = sp.Symbol("p", positive=True)  # of theta after an epoch
    apart = sp.apart(sp.powdenest(stationary, force=True).subs(retained**epoch, left), left)
    pieces = [sp.factor(term).subs(left, retained**epoch) for term in sp.Add.make_args(apart)]
    tidy = sum(term.subs(retained, 1 - rate * curvature) for term in pieces)
    return sp.Eq(sp.Symbol(r"S^{\mathrm{epoch}}"), tidy)


def _small_epochs_are_the_limit():
    for count in (2, 3, 5):
        exact, small = (
            eq().rhs.subs(epoch, count) for eq in (reshuffled_rest, reshuffled_rest_small)
        )
        if sp.limit(sp.cancel(exact / small), rate, 0) != 1:
            return False
    return True


def _epochs_rest_far_below_independent_batches():
    ratio = reshuffled_rest_small().rhs / (rate * kick / (2 * curvature))
    return same(ratio, (rate * curvature) ** 2 * epoch * (epoch + 1) / 12)


@equation(
    "eq:reshuffled-rest-small",
    computed_by="sgdnoise.theory.reshuffled_covariance",
    laws=(_small_epochs_are_the_limit, _epochs_rest_far_below_independent_batches),
)
def reshuffled_rest_small():
    """The same for a small learning rate, where the noise of an epoch cancels."""
    leading = _leading_in_rate(reshuffled_rest().rhs)
    return sp.Eq(sp.Symbol(r"S^{\mathrm{epoch,small}}"), sp.factor(leading))


def _temperature_knows_no_curvature():
    return same(langevin_temperature().rhs, rate * kick / 2)


@equation(
    "eq:temperature",
    computed_by="sgdnoise.theory.effective_temperature",
    laws=(_temperature_knows_no_curvature,),
)
def langevin_temperature():
    """Temperature of one mode of the Langevin equation, which is twice its mean energy."""
    along = {h_i: curvature, h_j: curvature, c: kick}
    return sp.Eq(temperature, sp.simplify(curvature * continuous_entry().rhs.subs(along)))


def _gibbs_noise_makes_gibbs_rest():
    """T / h is left as it is by one step."""
    stationary, retained = temperature / curvature, 1 - rate * curvature
    return same(retained**2 * stationary + rate**2 * gibbs_noise().rhs, stationary)


def _gibbs_noise_of_small_steps_is_that_of_the_equation():
    ratio = gibbs_noise().rhs / (2 * temperature / rate)
    return sp.limit(ratio, rate, 0) == 1


@equation(
    "eq:gibbs-noise",
    computed_by="sgdnoise.theory.effective_temperature",
    laws=(_gibbs_noise_makes_gibbs_rest, _gibbs_noise_of_small_steps_is_that_of_the_equation),
)
def gibbs_noise():
    """Noise for which the stationary distribution of SGD is a Gibbs distribution."""
    along = {h_i: curvature, h_j: curvature, c: kick}
    gibbs = temperature / curvature
    (needed,) = sp.solve(sp.Eq(gibbs, stationary_entry().rhs.subs(along)), kick)
    return sp.Eq(kick, sp.expand(needed))


def _covariance_that_sums_to_zero():
    """Between two of the noises of an epoch, all pairs alike."""
    shared = sp.Symbol("s")
    of_the_sum = epoch * kick + epoch * (epoch - 1) * shared
    (needed,) = sp.solve(of_the_sum, shared)
    return needed


def _geometric(ratio, count):
    """1 + ratio + ... + ratio^(count - 1), from what it becomes when multiplied by the ratio."""
    total = sp.Symbol("g")
    (solution,) = sp.solve(sp.Eq(ratio * total, total - 1 + ratio**count), total)
    return solution


def _leading_in_rate(rest):
    """First term in the rate, the third, with (1 - rate h)^m by the binomial theorem."""
    pull, retained = rate * curvature, sp.Symbol("a", positive=True)
    power = sum((-pull) ** k * sp.ff(epoch, k) / sp.factorial(k) for k in range(4))
    written = sp.powdenest(rest.subs(1 - pull, retained), force=True).subs(retained**epoch, power)
    above, below = sp.fraction(sp.together(written.subs(retained, 1 - pull)))
    first = [sp.Poly(sp.expand(term), rate).terms()[-1] for term in (above, below)]
    (up, numerator), (down, denominator) = first
    return sp.simplify(numerator / denominator) * rate ** (up[0] - down[0])


def _one_step():
    """Entry of the covariance after one step of theta <- theta - eta (H theta + xi)."""
    theta, kick = _whites()
    after = [
        (1 - rate * h) * x - rate * xi for h, x, xi in zip((h_i, h_j), theta, kick, strict=True)
    ]
    z = white(4)
    return mean(after[0] * after[1], z)


def _whites():
    """Pairs theta and xi of covariance s and c, independent, made of white numbers."""
    z = white(4)
    return (z[0], s * z[0] + z[1]), (z[2], c * z[2] + z[3])


def _rest(step):
    (solution,) = sp.solve(sp.Eq(s, step), s)
    return upright(solution)
