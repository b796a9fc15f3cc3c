"""The stationary covariance of SGD in linear regression, whose noise depends on theta."""

from itertools import combinations, product

import sympy as sp

from derivations.algebra import mean, same, upright, white
from derivations.equation import equation
from derivations.sampling import own_with_replacement, own_without_replacement
from derivations.symbols import batch, n, rate, sigma

a_i, a_j = sp.symbols("a_i a_j", positive=True)  # variances of the inputs
t_i, t_j = sp.symbols("theta_i theta_j", real=True)
s_i, s_j, s_ij = sp.symbols("S_i S_j S_ij", real=True)  # their second moments
q, u = sp.symbols("q u", positive=True)  # mean squared residual that the spread makes, and share
square, fourth, noise = sp.symbols("A M R", positive=True)  # means of x^2, x^4, r^2 x^2
sampling_factor = sp.Symbol("f", positive=True)
second = sp.Symbol("S", real=True)


def _batches_of_two_by_hand():
    """Two examples a step, all eight numbers white, theta given."""
    z = white(6)
    batch_mean = (_gradient(z[:3]) + _gradient(z[3:])) / 2
    after = mean(sp.expand((t_i - rate * batch_mean) ** 2), z)
    return same(_over_theta(after), online_step().rhs.subs(batch, 2))


def _other_pairs_of_modes_stay_out():
    return s_ij not in online_step().rhs.free_symbols


@equation(
    "eq:online-step",
    computed_by="sgdnoise.theory.online_moments",
    laws=(_batches_of_two_by_hand, _other_pairs_of_modes_stay_out),
)
def online_step():
    """Second moment of theta along one input after one step on fresh normal examples."""
    return sp.Eq(sp.Symbol("S_i'"), sp.collect(_one_step(), (s_i, s_j), sp.factor))


def _one_step_leaves_the_rest():
    """With q made up of both modes."""
    stationary = {s_i: online_rest().rhs, s_j: online_rest().rhs.subs({a_i: a_j})}
    built = {s: r.subs(q, online_residual().rhs) for s, r in stationary.items()}
    total = a_i * built[s_i] + a_j * built[s_j]
    closed = online_residual().rhs.subs(u, feedback().rhs)
    moved = online_step().rhs.subs(built).subs(u, feedback().rhs)
    return same(moved, built[s_i].subs(u, feedback().rhs)) and same(
        total.subs(u, feedback().rhs), closed
    )


def _no_label_noise_no_rest():
    return online_rest().rhs.subs(q, online_residual().rhs).subs(sigma, 0) == 0


def _large_batches_leave_full_descent():
    """As the batch grows, noise of the label alone: eta sigma^2 / (B (2 - eta a))."""
    here = batch * online_rest().rhs.subs(q, 0)
    return same(sp.limit(here, batch, sp.oo), rate * sigma**2 / (2 - rate * a_i))


@equation(
    "eq:online-rest",
    computed_by="sgdnoise.theory.online_covariance",
    laws=(_one_step_leaves_the_rest, _no_label_noise_no_rest, _large_batches_leave_full_descent),
)
def online_rest():
    """Stationary variance along one input, for a mean squared residual q with its own part."""
    with_feedback = _one_step().subs(s_j, (q - a_i * s_i) / a_j)
    (stationary,) = sp.solve(sp.Eq(s_i, with_feedback), s_i)
    return sp.Eq(s_i, _by_rate(stationary))


def _share_is_that_of_small_rates():
    """u tends to eta Tr A / 2 B."""
    return same(sp.limit(feedback().rhs / rate, rate, 0), (a_i + a_j) / (2 * batch))


def _one_input_diverges_with_its_fourth_moment():
    """Kesten: E(1 - eta a chi^2_B / B)^2 = 1 at eta a = 2 B / (B + 2)."""
    alone = rate / batch * a_i / (2 - rate * (1 + 1 / batch) * a_i)
    (edge,) = sp.solve(sp.Eq(alone, 1), rate)
    growth = 1 - 2 * rate * a_i + rate**2 * a_i**2 * (1 + 2 / batch)
    return same(edge * a_i, 2 * batch / (batch + 2)) and same(growth.subs(rate, edge), 1)


@equation(
    "eq:feedback",
    computed_by="sgdnoise.theory.noise_feedback",
    laws=(_share_is_that_of_small_rates, _one_input_diverges_with_its_fourth_moment),
)
def feedback():
    """Share of the noise that comes from the covariance of theta, for two input directions."""
    built = [a * online_rest().rhs.subs(a_i, a) for a in (a_i, a_j)]
    return sp.Eq(u, sum(_by_rate(sp.cancel(term / (q + sigma**2))) for term in built))


def _residual_diverges_at_one():
    return sp.limit(online_residual().rhs, u, 1, "-") == sp.oo


@equation(
    "eq:online-residual",
    computed_by="sgdnoise.theory.online_covariance",
    laws=(_residual_diverges_at_one,),
)
def online_residual():
    """Stationary squared residual from the covariance of theta, which amplifies itself."""
    (stationary,) = sp.solve(sp.Eq(q, u * (q + sigma**2)), q)
    return sp.Eq(q, upright(stationary))


def _with_replacement_by_enumeration():
    return _all_batches_leave_the_rest(list(product(range(3), repeat=2)), 1)


def _without_replacement_by_enumeration():
    retained = share_without_replacement().rhs.subs({n: 3, batch: 2})
    return _all_batches_leave_the_rest(list(combinations(range(3), 2)), retained)


def _perfect_fit_rests_still():
    return finite_rest().rhs.subs(noise, 0) == 0


def _many_normal_examples_are_online():
    """Fourth moment 3 a^2, noise sigma^2 a: the rest of one input."""
    normal = {square: a_i, fourth: 3 * a_i**2, noise: sigma**2 * a_i, sampling_factor: 1}
    alone = online_rest().rhs.subs(q, online_residual().rhs)
    built = alone.subs(u, rate / batch * a_i / (2 - rate * (1 + 1 / batch) * a_i))
    return same(finite_rest().rhs.subs(normal), built)


@equation(
    "eq:finite-rest",
    computed_by="sgdnoise.theory.finite_covariance",
    laws=(
        _with_replacement_by_enumeration,
        _without_replacement_by_enumeration,
        _perfect_fit_rests_still,
        _many_normal_examples_are_online,
    ),
)
def finite_rest():
    """Stationary variance of one parameter for minibatches of given examples."""
    theta, x, r = sp.symbols("theta x r", real=True)
    gradient = sp.Poly(sp.expand(x * (x * theta - r)) ** 2, theta, x, r)
    power = sum(
        coefficient * _data_mean(in_theta, in_x, in_r)
        for (in_theta, in_x, in_r), coefficient in gradient.terms()
    )
    covariance = power - square**2 * second
    after = (1 - rate * square) ** 2 * second + rate**2 * sampling_factor / batch * covariance
    (stationary,) = sp.solve(sp.Eq(second, after), second)
    return sp.Eq(second, _by_rate(stationary))


def _all_examples_make_no_noise():
    return share_without_replacement().rhs.subs(batch, n) == 0


def _one_example_is_drawn_as_it_is():
    return same(share_without_replacement().rhs.subs(batch, 1), 1)


@equation(
    "eq:share-without",
    computed_by="sgdnoise.theory.finite_covariance",
    laws=(_all_examples_make_no_noise, _one_example_is_drawn_as_it_is),
)
def share_without_replacement():
    """Factor by which sampling without replacement reduces the noise."""
    left = own_without_replacement().rhs / own_with_replacement().rhs
    return sp.Eq(sampling_factor, sp.factor(sp.simplify(left)))


def _by_rate(fraction):
    """The fraction with its denominator, 2 B ... at small rates, ordered by the rate."""
    above, below = sp.fraction(upright(fraction))
    return above / sp.collect(sp.expand(below), rate, sp.factor)


def _data_mean(in_theta, in_x, in_r):
    """Mean over examples of theta^a x^b r^c at rest: theta has mean zero, and x r too."""
    known = {(0, 2, 2): noise, (1, 3, 1): 0, (2, 4, 0): second * fourth}
    return known[in_theta, in_x, in_r]


def _one_step():
    """Mean square of theta_i after a step: a batch mean has 1/B of the scatter of one gradient."""
    gradient, z = _gradient(), white(3)
    arguments = mean(gradient, z)
    power, alone = (_over_theta(term) for term in (mean(gradient**2, z), arguments**2))
    drift = _over_theta(arguments * t_i)
    return sp.expand(s_i - 2 * rate * drift + rate**2 * (alone + (power - alone) / batch))


def _gradient(numbers=None):
    """x_i (x . theta - sigma eps) of one example, from three white numbers."""
    z = white(3) if numbers is None else numbers
    x_i, x_j = sp.sqrt(a_i) * z[0], sp.sqrt(a_j) * z[1]
    return sp.expand(x_i * (x_i * t_i + x_j * t_j - sigma * z[2]))


def _over_theta(polynomial):
    """Mean over theta, by its second moments."""
    moments = {(2, 0): s_i, (1, 1): s_ij, (0, 2): s_j, (0, 0): 1}
    terms = sp.Poly(sp.expand(polynomial), t_i, t_j).terms()
    return sum(term * moments[power] for power, term in terms)


def _examples():
    """Three examples, their residuals orthogonal to the inputs."""
    x, r = sp.symbols("x_1:4", positive=True), list(sp.symbols("r_1:3", real=True))
    return x, [*r, -(x[0] * r[0] + x[1] * r[1]) / x[2]]


def _all_batches_leave_the_rest(batches, kept):
    """Mean over all minibatches of two of three examples, theta two-valued, mean zero."""
    x, r = _examples()
    values = {
        square: sum(v**2 for v in x) / 3,
        fourth: sum(v**4 for v in x) / 3,
        noise: sum(v**2 * w**2 for v, w in zip(x, r, strict=True)) / 3,
    }
    stationary = finite_rest().rhs.subs({batch: 2, sampling_factor: kept}).subs(values)
    covariance = sp.Symbol("s", positive=True)
    after = [
        (theta - rate * sum(x[i] * (x[i] * theta - r[i]) for i in chosen) / 2) ** 2
        for chosen in batches
        for theta in (covariance, -covariance)
    ]
    step = sp.expand(sum(after) / len(after)).subs(covariance**2, second)
    return same(step.subs(second, stationary), stationary)
