"""Relaxation and probability currents of SGD on a quadratic loss."""

import sympy as sp

from derivations.algebra import same
from derivations.equation import equation
from derivations.stationary import c, continuous_entry, h_i, h_j, stationary_entry
from derivations.symbols import curvature, rate

time = sp.Symbol("t", nonnegative=True)
steps = sp.Symbol("k", integer=True, nonnegative=True)
start = sp.Symbol("s_ij", real=True)  # covariance at the start
kick = sp.Symbol("c", positive=True)  # variance of the noise along one mode
drift, diffusion = sp.symbols("A D", positive=True)
h_1, h_2, c_1, c_2 = sp.symbols("h_1 h_2 c_11 c_22", positive=True)
c_12 = sp.Symbol("c_12", real=True)
swept = sp.Symbol("Omega", real=True)
x = sp.Matrix(sp.symbols("x_1:3", real=True))


def _it_flows_as_it_should():
    s = transient_flow().rhs
    return same(sp.diff(s, time), -(h_i + h_j) * s + rate * c) and same(s.subs(time, 0), start)


def _flow_ends_at_rest():
    ends = sp.limit(_flowing(), time, sp.oo)
    return same(ends.subs(drift, h_i + h_j), continuous_entry().rhs)


@equation(
    "eq:transient-flow",
    computed_by="sgdnoise.theory.OrnsteinUhlenbeck.propagate",
    laws=(_it_flows_as_it_should, _flow_ends_at_rest),
)
def transient_flow():
    """Covariance of two modes some time after the start of the Langevin equation."""
    flowing = _flowing().subs(drift, h_i + h_j)
    return sp.Eq(sp.Symbol("S_{ij}(t)"), flowing)


def _each_step_is_one_step():
    s = transient_steps().rhs
    retained = (1 - rate * h_i) * (1 - rate * h_j)
    moved = retained * s + rate**2 * c
    return same(sp.powsimp(sp.expand(s.subs(steps, steps + 1) - moved)), 0)


def _steps_begin_at_the_start_and_stay_at_rest():
    s = transient_steps().rhs
    zeros = s.subs(start, stationary_entry().rhs)
    return same(s.subs(steps, 0), start) and same(zeros.subs(steps, 3), stationary_entry().rhs)


def _small_steps_flow():
    """k = t / eta steps, with eta C = D kept, in the limit of one mode."""
    first = {h_i: curvature, h_j: curvature, c: diffusion / rate}
    walked = transient_steps().rhs.subs(first).subs(steps, time / rate)
    flowed = transient_flow().rhs.subs(first)
    return same(sp.limit(walked.subs(start, 0), rate, 0), flowed.subs(start, 0))


@equation(
    "eq:transient-steps",
    computed_by="sgdnoise.theory.LinearRecursion.propagate",
    laws=(_each_step_is_one_step, _steps_begin_at_the_start_and_stay_at_rest, _small_steps_flow),
)
def transient_steps():
    """The same some steps after the start of SGD."""
    retained, total = sp.symbols(
        "a g"
    )  # total of kept^l for l below k, shifted by kept by one term
    (sums,) = sp.solve(sp.Eq(retained * total, total - 1 + retained**steps), total)
    walked = retained**steps * start + rate**2 * c * sums
    return sp.Eq(sp.Symbol(r"S_{ij,k}"), walked.subs(retained, (1 - rate * h_i) * (1 - rate * h_j)))


def _matched_samples_step_as_descent():
    """Over one rate: exp(-A eta), and the integral of exp(-2 A s) D."""
    pull, first = matched_drift().rhs, {h_i: curvature, h_j: curvature, c: kick}
    covariance = matched_diffusion().rhs.subs(first)
    gathered = sp.integrate(diffusion * sp.exp(-2 * drift * time), (time, 0, rate))
    scatter = sp.simplify(gathered).subs({drift: pull, diffusion: covariance})
    return same(sp.exp(-pull * rate), 1 - rate * curvature) and same(scatter, rate**2 * kick)


def _no_flow_changes_sign_in_a_step():
    """Beyond rate h = 1 the pull is no longer real."""
    return matched_drift().rhs.subs({rate: 1, curvature: sp.Rational(3, 2)}).is_real is False


@equation(
    "eq:matched-drift",
    computed_by="sgdnoise.theory.LinearRecursion.embed",
    laws=(_matched_samples_step_as_descent, _no_flow_changes_sign_in_a_step),
)
def matched_drift():
    """Drift of the Ornstein-Uhlenbeck process that relaxes as SGD does."""
    logarithm = sp.expand_log(sp.log(sp.exp(-drift * rate)))
    (pull,) = sp.solve(sp.Eq(logarithm, sp.log(1 - rate * curvature)), drift)
    return sp.Eq(drift, pull)


def _small_rates_need_no_matching():
    first = {h_i: curvature, h_j: curvature, c: kick}
    covariance = matched_diffusion().rhs.subs(first) / (rate * kick)
    return (
        sp.limit(matched_drift().rhs, rate, 0) == curvature and sp.limit(covariance, rate, 0) == 1
    )


def _one_kick_across_two_modes_fits_no_flow():
    """Noise of rank one: the determinant of D is below zero in leading order of the rate."""
    entry = matched_diffusion().rhs.subs(c, kick)
    first, second, both = (
        sp.series(entry.subs({h_i: i, h_j: j}) / rate, rate, 0, 3).removeO()
        for i, j in ((h_1, h_1), (h_2, h_2), (h_1, h_2))
    )
    determinant = sp.series(sp.expand(first * second - both**2), rate, 0, 3).removeO()
    return same(determinant, -((rate * kick * (h_1 - h_2)) ** 2) / 12)


@equation(
    "eq:matched-diffusion",
    computed_by="sgdnoise.theory.LinearRecursion.embed",
    laws=(_small_rates_need_no_matching, _one_kick_across_two_modes_fits_no_flow),
)
def matched_diffusion():
    """Its diffusion for two modes, which gives the stationary covariance of SGD."""
    pulls = sum(matched_drift().rhs.subs(curvature, h) for h in (h_i, h_j))
    (covariance,) = sp.solve(sp.Eq(diffusion / pulls, stationary_entry().rhs), diffusion)
    return sp.Eq(sp.Symbol("D_ij"), covariance)


def _current_is_stationary():
    """Fokker-Planck: the current -Omega S^-1 x p is -A x p - D grad p, and has no source."""
    stationary, noise = _rest(), rate * _noise() / 2
    slope = -stationary.inv() * x  # of log p
    current = -_turning() * stationary.inv() * x
    plain = -sp.diag(h_1, h_2) * x - noise * slope
    leak = sum(sp.diff(current[i], x[i]) + current[i] * slope[i] for i in range(2))
    return same(current, plain) and same(leak, 0)


def _isotropic_noise_and_alike_curvatures_are_in_balance():
    return area_rate().rhs.subs(c_12, 0) == 0 and area_rate().rhs.subs(h_2, h_1) == 0


def _area_is_that_of_steps_of_descent():
    """E(x_1 x_2' - x_1' x_2) / 2 of one step over its rate, as the rate vanishes."""
    stationary = stationary_entry().rhs.subs({h_i: h_1, h_j: h_2, c: c_12})
    retained = [1 - rate * h for h in (h_1, h_2)]
    area = stationary * (retained[1] - retained[0]) / 2
    return sp.limit(sp.cancel(area / rate / area_rate().rhs), rate, 0) == 1


def _modes_swapped_turn_the_other_way():
    swapped = area_rate().rhs.subs({h_1: h_2, h_2: h_1}, simultaneous=True)
    return same(swapped, -area_rate().rhs)


@equation(
    "eq:area-rate",
    computed_by="sgdnoise.theory.OrnsteinUhlenbeck.circulation",
    laws=(
        _current_is_stationary,
        _isotropic_noise_and_alike_curvatures_are_in_balance,
        _area_is_that_of_steps_of_descent,
        _modes_swapped_turn_the_other_way,
    ),
)
def area_rate():
    """Area that two modes of the Langevin equation sweep in a unit of time when stationary."""
    turned = sp.diag(h_1, h_2) * _rest() - rate * _noise() / 2
    return sp.Eq(swept, sp.factor(turned[0, 1]))


def _balance_makes_no_entropy():
    built = entropy_production().rhs
    return built.subs(c_12, 0) == 0 and built.subs(h_2, h_1) == 0


def _entropy_is_positive_for_any_other_noise():
    """With c_12^2 = (1 - r) c_11 c_22, r between 0 and 1."""
    term = sp.Symbol("p", positive=True)  # r = p / (1 + p)
    built = entropy_production().rhs.subs(c_12, sp.sqrt(c_1 * c_2 / (1 + term)))
    apart = built.subs(h_1, h_2 + sp.Symbol("gap", positive=True))
    return sp.simplify(apart).is_positive is True


def _entropy_is_that_of_drift_and_spread():
    """E(A x . D^-1 A x) - Tr A, with D half the diffusion."""
    pull = sp.diag(h_1, h_2)
    heat = ((pull * x).T * (rate * _noise() / 2).inv() * pull * x)[0]
    return same(_over_rest(heat) - pull.trace(), entropy_production().rhs)


def _entropy_is_the_irreversibility_of_small_steps():
    """Mean log-ratio of a step and its reverse, Tr(Q^-1 K M^T), K = M S - S M^T, over the rate."""
    h, noise, entry = (h_1, h_2), _noise(), stationary_entry().rhs
    stationary = sp.Matrix(2, 2, lambda i, j: entry.subs({h_i: h[i], h_j: h[j], c: noise[i, j]}))
    retained = sp.eye(2) - rate * sp.diag(*h)
    turned = retained * stationary - stationary * retained
    reported = ((rate**2 * noise).inv() * turned * retained).trace()
    return same(sp.limit(sp.cancel(reported / rate), rate, 0), entropy_production().rhs)


@equation(
    "eq:entropy-production",
    computed_by="sgdnoise.theory.OrnsteinUhlenbeck.entropy_production",
    laws=(
        _balance_makes_no_entropy,
        _entropy_is_positive_for_any_other_noise,
        _entropy_is_that_of_drift_and_spread,
        _entropy_is_the_irreversibility_of_small_steps,
    ),
)
def entropy_production():
    """Entropy production of two stationary modes of the Langevin equation."""
    velocity = -_turning() * _rest().inv() * x
    heat = (velocity.T * (rate * _noise() / 2).inv() * velocity)[0]
    return sp.Eq(sp.Symbol(r"\dot{s}"), sp.factor(_over_rest(heat)))


def _flowing():
    """Covariance of two modes whose pulls add up to `drift`."""
    s = sp.Function("s")
    speed = sp.Eq(s(time).diff(time), -drift * s(time) + rate * c)
    solved = sp.dsolve(speed, s(time), ics={s(0): start}).rhs
    retained, fading = sp.Symbol("a"), sp.exp(-drift * time)
    return sp.collect(sp.expand(solved).subs(fading, retained), (start, c), sp.factor).subs(
        retained, fading
    )


def _noise():
    return sp.Matrix([[c_1, c_12], [c_12, c_2]])


def _rest():
    """Where the Langevin equation of two modes rests."""
    h, noise = (h_1, h_2), _noise()
    entry = continuous_entry().rhs
    return sp.Matrix(2, 2, lambda i, j: entry.subs({h_i: h[i], h_j: h[j], c: noise[i, j]}))


def _turning():
    return sp.Matrix([[0, area_rate().rhs], [-area_rate().rhs, 0]])


def _over_rest(polynomial):
    """Mean of a quadratic polynomial in x over the law at rest."""
    stationary, form = _rest(), sp.Poly(sp.expand(polynomial), *x)
    moments = {(2, 0): stationary[0, 0], (1, 1): stationary[0, 1], (0, 2): stationary[1, 1]}
    return sum(term * moments[power] for power, term in form.terms())
