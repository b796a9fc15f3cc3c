"""The effective loss of SGD with label noise."""

import sympy as sp

from derivations.algebra import mean, same, upright, white
from derivations.equation import equation
from derivations.stationary import label_noise_rest, label_noise_rest_small
from derivations.symbols import batch, curvature, outputs, rate, sigma, trace

x, y = sp.symbols("x y", real=True)  # two parameters, both zero where the force is wanted
kappa, u, q = sp.symbols("kappa u q", positive=True)
jitter_covariance = sp.Matrix([sp.symbols("S_11 S_12"), sp.symbols("S_12 S_22")])


def _force_comes_from_the_averaged_loss():
    """It is the slope of L + Tr(H S) / 2."""
    averaged = _loss() + (_hessian() * jitter_covariance).trace() / 2
    return same(mean_force().rhs, _here(sp.diff(averaged, x)))


def _force_is_exact_for_gaussian_jitter_of_a_cubic():
    """Integrated over two white numbers, without third derivatives beyond the third."""
    z, (a, b, c) = white(2), sp.symbols("a b c", real=True)
    fourth = {_derivative(k, 4 - k): 0 for k in range(5)}
    slope = sp.diff(_loss().subs(fourth), x)
    recorded = mean(sp.expand(slope.subs({x: a * z[0], y: b * z[0] + c * z[1]})), z)
    covariance = {
        jitter_covariance[0, 0]: a**2,
        jitter_covariance[0, 1]: a * b,
        jitter_covariance[1, 1]: b**2 + c**2,
    }
    return same(recorded, mean_force().rhs.subs(covariance))


def _still_parameters_feel_the_plain_slope():
    zeros = dict.fromkeys(jitter_covariance, 0)
    return mean_force().rhs.subs(zeros) == _derivative(1, 0)


@equation(
    "eq:mean-force",
    computed_by="sgdnoise.theory.label_noise_strength",
    laws=(
        _force_comes_from_the_averaged_loss,
        _force_is_exact_for_gaussian_jitter_of_a_cubic,
        _still_parameters_feel_the_plain_slope,
    ),
)
def mean_force():
    """Mean gradient of the loss for parameters with a small covariance."""
    name = sp.Symbol(r"\mathbb{E}\,\partial_1 L(\theta + \delta)")
    return sp.Eq(name, _jittered(sp.diff(_loss(), x)))


def _both_parameters_follow_one_loss():
    effective = _loss() + label_noise_strength().rhs * _hessian().trace()
    return all(
        same(_isotropic(_jittered(sp.diff(_loss(), w))), _here(sp.diff(effective, w)))
        for w in (x, y)
    )


def _only_rate_over_batch_matters():
    doubled = label_noise_strength().rhs.subs({rate: 2 * rate, batch: 2 * batch})
    return same(doubled, label_noise_strength().rhs)


def _curvature_at_large_rates_is_a_logarithm():
    """With the exact spread S(h) the penalty is kappa (-2/eta) log(1 - eta h/2), not kappa h."""
    penalty = -2 * label_noise_strength().rhs / rate * sp.log(1 - rate * curvature / 2)
    small = sp.limit(penalty / rate, rate, 0) * rate
    return same(sp.diff(penalty, curvature), label_noise_rest().rhs / 2) and same(
        small, label_noise_strength().rhs * curvature
    )


@equation(
    "eq:label-noise-strength",
    computed_by="sgdnoise.theory.label_noise_strength",
    laws=(
        _both_parameters_follow_one_loss,
        _only_rate_over_batch_matters,
        _curvature_at_large_rates_is_a_logarithm,
    ),
)
def label_noise_strength():
    """Label noise adds kappa times the gradient of the trace of the Hessian."""
    force = _isotropic(mean_force().rhs) - _here(sp.diff(_loss(), x))
    return sp.Eq(kappa, sp.simplify(force / _here(sp.diff(_hessian().trace(), x))))


def _regression_on_gaussian_inputs_agrees():
    """One input x of variance a, B examples a step: its exact residual, for small rates."""
    a, s = sp.symbols("a s", positive=True)
    square = a**2 * (1 + 2 / batch)  # mean of (mean over the batch of x^2)^2
    retained = 1 - 2 * rate * a + rate**2 * square
    (stationary,) = sp.solve(sp.Eq(s, retained * s + rate**2 * sigma**2 * a / batch), s)
    fraction = a * stationary / (sigma**2 + a * stationary)
    ours = amplification().rhs.subs({trace: a, outputs: 1})
    return sp.limit(fraction / ours, rate, 0) == 1


def _without_curvature_nothing_is_amplified():
    return amplification().rhs.subs(trace, 0) == 0


@equation(
    "eq:amplification",
    computed_by="sgdnoise.theory.residual_amplification",
    laws=(_regression_on_gaussian_inputs_agrees, _without_curvature_nothing_is_amplified),
)
def amplification():
    """Share of the noise, for each output, that comes from residuals made by the noise."""
    noise = sp.Symbol("tau", positive=True)  # label noise and residual together
    jitter = label_noise_rest_small().rhs.subs(sigma, noise)
    residual = _power_per_trace() * jitter * trace / outputs
    return sp.Eq(u, sp.simplify(residual / noise**2))


def _rounds_of_feedback_add_up():
    """Noise makes residual, which makes residual: sigma^2 (1 + u + u^2 + ...)."""
    rounds = sp.series(amplified_noise().rhs, u, 0, 6).removeO()
    return same(rounds, sigma**2 * sum(u**k for k in range(6)))


def _feedback_runs_away_at_one():
    return sp.limit(amplified_noise().rhs, u, 1, "-") == sp.oo


@equation(
    "eq:amplified-noise",
    computed_by="sgdnoise.theory.residual_amplification",
    laws=(_rounds_of_feedback_add_up, _feedback_runs_away_at_one),
)
def amplified_noise():
    """Stationary noise, which amplifies itself through the residuals."""
    (residual,) = sp.solve(sp.Eq(q, u * (sigma**2 + q)), q)
    return sp.Eq(sp.Symbol("sigma") ** 2 + sp.Symbol("q"), upright(sigma**2 + residual))


def _loss():
    """A loss of two parameters with any derivatives up to the fourth."""
    powers = [(a, b) for a in range(5) for b in range(5 - a)]
    return sum(
        _derivative(a, b) * x**a * y**b / (sp.factorial(a) * sp.factorial(b)) for a, b in powers
    )


def _derivative(a, b):
    return sp.Symbol("L_{" + "1" * a + "2" * b + "}", real=True)


def _hessian():
    return sp.hessian(_loss(), (x, y))


def _here(expression):
    return expression.subs({x: 0, y: 0})


def _jittered(expression):
    """Mean to second order in a jitter of (x, y) of mean zero and a covariance."""
    moments = {
        (0, 0): 1,
        (2, 0): jitter_covariance[0, 0],
        (1, 1): jitter_covariance[0, 1],
        (0, 2): jitter_covariance[1, 1],
    }
    terms = sp.Poly(expression, x, y).terms()
    return sum(coefficient * moments.get(power, 0) for power, coefficient in terms)


def _isotropic(expression):
    alike = label_noise_rest_small().rhs
    return expression.subs(
        {jitter_covariance[0, 0]: alike, jitter_covariance[0, 1]: 0, jitter_covariance[1, 1]: alike}
    )


def _power_per_trace():
    """Mean squared residual J delta over Tr H, for white delta, two examples and two outputs."""
    slopes = [sp.Matrix(2, 2, sp.symbols(f"{name}_1:5", real=True)) for name in "ab"]
    hessian = sum((slope.T * slope for slope in slopes), sp.zeros(2)) / 2
    z = white(2)
    residuals = [slope * sp.Matrix(z) for slope in slopes]
    power = mean(sum(r.dot(r) for r in residuals) / 2, z)
    return sp.simplify(power / hessian.trace())
