"""Where descent in a quadratic bowl comes to rest, mode by mode."""

import sympy as sp

from derivations.algebra import mean, same, upright, white
from derivations.symbols import batch, curvature, rate, sigma

__all__ = ["CHECKS", "EQUATIONS", "USED", "c", "h_i", "h_j", "label_noise_rest_small"]

h_i, h_j = sp.symbols("h_i h_j", positive=True)
c = sp.Symbol("C_ij", real=True)
s = sp.Symbol("S_ij", real=True)
variance = sp.Symbol("S", real=True)


def stationary_entry():
    """Resting covariance of descent, an entry in the eigenbasis of the Hessian."""
    return sp.Eq(s, _rest(_one_step()))


def continuous_entry():
    """The same for the Langevin equation, whose diffusion stays as its steps shrink."""
    diffusion = sp.Symbol("D_ij", real=True)  # rate C
    speed = sp.limit((_one_step().subs(c, diffusion / rate) - s) / rate, rate, 0)
    (solution,) = sp.solve(speed, s)
    return sp.Eq(sp.Symbol(r"S_{ij}^{\mathrm{cont}}"), solution.subs(diffusion, rate * c))


def discretisation_ratio():
    """How much wider descent rests than its Langevin equation, along one mode."""
    one_mode = {h_i: curvature, h_j: curvature}
    ratio = (stationary_entry().rhs / continuous_entry().rhs).subs(one_mode)
    name = sp.Symbol("S") / sp.Symbol(r"S^{\mathrm{cont}}")
    return sp.Eq(name, 1 / sp.expand(sp.simplify(1 / ratio)))


def label_noise_rest():
    """Resting variance along one mode where label noise alone kicks."""
    along = {h_i: curvature, h_j: curvature, c: sigma**2 * curvature / batch}
    return sp.Eq(variance, upright(stationary_entry().rhs.subs(along)))


def label_noise_rest_small():
    """At small learning rate label noise spreads alike in all directions."""
    exact = label_noise_rest().rhs
    return sp.Eq(sp.Symbol(r"S^{\mathrm{small}}"), sp.series(exact, rate, 0, 2).removeO())


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


def _one_step_changes_nothing():
    rest = stationary_entry().rhs
    return same(_one_step().subs(s, rest), rest)


def _modes_are_alike():
    swapped = {h_i: h_j, h_j: h_i}
    return same(stationary_entry().rhs.subs(swapped, simultaneous=True), stationary_entry().rhs)


def _newton_steps_forget_the_past():
    """At rate h = 1 each step lands on the minimum, give or take one kick."""
    landed = stationary_entry().rhs.subs({h_i: 1 / rate, h_j: 1 / rate})
    return same(landed, rate**2 * c)


def _small_steps_follow_the_equation():
    return sp.limit(stationary_entry().rhs / continuous_entry().rhs, rate, 0) == 1


def _flow_changes_nothing():
    rest = continuous_entry().rhs
    return same(-(h_i + h_j) * rest + rate * c, 0)


def _ratio_is_one_for_small_steps():
    return sp.limit(discretisation_ratio().rhs, rate, 0) == 1


def _ratio_diverges_where_descent_does():
    return sp.limit(discretisation_ratio().rhs, rate, 2 / curvature, "-") == sp.oo


def _ratio_exceeds_one_where_stable():
    share = sp.Symbol("epsilon", positive=True)  # rate h = 2 / (1 + share) < 2
    excess = discretisation_ratio().rhs.subs(rate, 2 / (1 + share) / curvature) - 1
    return sp.simplify(excess).is_positive is True


def _label_noise_changes_nothing_more():
    rest, kick = label_noise_rest().rhs, sigma**2 * curvature / batch
    return same((1 - rate * curvature) ** 2 * rest + rate**2 * kick, rest)


def _sharp_modes_spread_wider():
    share = sp.Symbol("epsilon", positive=True)
    slope = sp.diff(label_noise_rest().rhs, curvature).subs(rate, 2 / (1 + share) / curvature)
    return sp.simplify(slope).is_positive is True


def _no_curvature_is_left():
    return curvature not in label_noise_rest_small().rhs.free_symbols


def _small_is_the_limit():
    return sp.limit(label_noise_rest().rhs / label_noise_rest_small().rhs, rate, 0) == 1


EQUATIONS = {
    "eq:stationary": stationary_entry,
    "eq:stationary-continuous": continuous_entry,
    "eq:stationary-ratio": discretisation_ratio,
    "eq:label-noise-rest": label_noise_rest,
    "eq:label-noise-rest-small": label_noise_rest_small,
}

USED = {
    "eq:stationary": "theory.stationary.stationary_covariance",
    "eq:stationary-continuous": "dynamics.langevin.langevin",
    "eq:stationary-ratio": "dynamics.langevin.langevin",
    "eq:label-noise-rest": "theory.stationary.stationary_covariance",
    "eq:label-noise-rest-small": "theory.modified_loss.label_noise_strength",
}

CHECKS = {
    "eq:stationary": (_one_step_changes_nothing, _modes_are_alike, _newton_steps_forget_the_past),
    "eq:stationary-continuous": (_flow_changes_nothing, _small_steps_follow_the_equation),
    "eq:stationary-ratio": (
        _ratio_is_one_for_small_steps,
        _ratio_diverges_where_descent_does,
        _ratio_exceeds_one_where_stable,
    ),
    "eq:label-noise-rest": (_label_noise_changes_nothing_more, _sharp_modes_spread_wider),
    "eq:label-noise-rest-small": (_small_is_the_limit, _no_curvature_is_left),
}
