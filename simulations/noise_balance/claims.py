"""What is claimed of the balance of noises, where, and with which tolerance."""

from functools import cache, partial

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import (
    Table,
    Verdict,
    estimate_in,
    prediction_if,
    rivals_of_effect,
    rivals_of_path,
    settings_of,
)
from sgdnoise.theory import FlowLimits, balance_under_decay, noise_balance
from simulations.noise_balance._chains import (
    DECAY,
    DECAY_NET,
    EXAMPLES,
    LEVELS,
    MODES,
    NET,
    TILT,
    WIDTH,
    task,
)

TITLE = "The balance of noises: isotropic noise against label noise and weight decay"
LEAD = (
    "rho = T/κ, with κ = rate σ²/(4B) the strength of label noise and T the temperature of "
    "isotropic noise.  PR is (E Tr K)² / E Tr K² over runs and stationary times; no number is "
    "fitted.",
    "The regime: c = rho/(2o) is at most a tenth of the smallest mode and c |d - h| a quarter of "
    "it, rate λ_max ≤ 0.2, and the jitter across the minima, 2κod over E Tr K, ≤ 0.05, because the "
    "law is that of small rates.  Under decay c = T/λ, and T (d + h) is at most 0.15 of the "
    "smallest mode's square.",
    "Tolerances were chosen before this run but after short trials, some of the same networks: for "
    "PR 1.5% and the jitter; for the sum rule and Tr D, which are slow to follow the rate, half of "
    "rate λ_max; 8% of the sum of both layers' growth in continuous time, 3% in discrete steps.",
    "The sum rule of discrete steps has the squares of the gradients that a step adds, and holds "
    "at any rate; its tolerance is that of the same rule for units.",
    "Under both noises a number is claimed where half of rho would be beyond the tolerance.",
    "The excess loss E L / (κ E Tr H): E L is the mean loss, which is zero at all minima, and Tr H "
    "is measured.  Label noise adds κ Tr H, with finite steps and the feedback of sampled "
    "residuals, and isotropic noise T for each pair of curved directions of the product, so "
    "T d o / 2.  It is claimed where the slow rate over the least curvature is ≤ 0.1 too, and to "
    "theory's own error: that of the slow flow, and the change of the finite steps and of the "
    "feedback between the least Tr H and its stationary mean.",
)
LIMITS = FlowLimits()
BOUNDS = {"reach": 0.1, "sharpness": 0.2, "jitter": 0.05}
DECAY_BOUNDS = {"reach": 0.1, "jitter": 0.15}
RATIO, DECAY_TOLERANCE, LAW = 0.015, 0.02, 0.015  # tolerances, as fractions of the predicted
STEPS = 0.015  # tolerance of exact sums of discrete steps, as a fraction of both layers' sum


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Both noises, shapes, imbalances, decay, one start, the marginal law; and controls."""
    experiments = (_mix, _levels, _plane, _units, _growth, _decay, _contrast, _laws)
    return [verdict for experiment in experiments for verdict in experiment(results)]


def in_regime(data, name: str, bounds=BOUNDS) -> bool:
    """Whether both noises are weak beside the modes, and the rate beside the curvature."""
    return all(float(data[f"{name}_{key}"]) <= bound for key, bound in bounds.items())


def _absolute(text, data, name, claimed, tolerance, rivals=None):
    """A row whose rivals are other strengths of the noise, to which it is proportional."""
    predicted, kind = float(data[f"{name}_predicted"]), prediction_if(claimed)
    if rivals is None:
        rivals = rivals_of_effect(predicted, "noise")
    if claimed and not _tells_half(predicted, tolerance, rivals):
        kind = "observation"
    return Verdict(text, predicted, estimate_in(data, name), kind, tolerance, tuple(rivals))


def _tells_half(predicted, tolerance, rivals):
    """Whether half of rho predicts something beyond the tolerance, whatever is measured."""
    half = dict(rivals).get("rho x 0.5")
    return half is None or abs(half - predicted) > tolerance


def _relative(text, data, name, claimed, fraction, rivals=None):
    tolerance = fraction * float(data[f"{name}_predicted"])
    return _absolute(text, data, name, claimed, tolerance, rivals)


def _ratio_tolerance(data, name):
    return RATIO + float(data[f"{name}_jitter"])


@cache
def _tilted():
    """Moment and product of the network under both noises."""
    x, _, goal = task(NET[0], NET[2], MODES, TILT)
    return x.T @ x / EXAMPLES, goal


@cache
def _white(fan):
    """Moment and product of a network of eight inputs and outputs together."""
    _, _, goal = task(fan, 8 - fan, np.linspace(1.5, 1.0, min(fan, 8 - fan)))
    return np.eye(fan), goal


def _mix(results):
    d, h, o = NET
    for (level, rho), data in settings_of(results, "level", "rho"):
        claimed, tolerance = in_regime(data, "mix"), _ratio_tolerance(data, "mix")
        text = f"{level} label noise, rho = {rho:g}"
        rivals = rivals_of_effect(partial(_balance_of_mix, rho), "rho")
        yield _relative(f"{text}: PR", data, "mix_ratio", claimed, tolerance, rivals)
        sharpness = float(data.mix_sharpness)
        small = sharpness <= BOUNDS["sharpness"]  # the sum rule holds for any rho
        term = rho * (d - o) * h / 2 / (o * float(data.mix_hidden_predicted))
        rivals = rivals_of_effect(partial(_gap, term), "rho")
        yield _absolute(
            f"{text}: gap in the sum rule", data, "mix_gap", small, sharpness / 2, rivals
        )
        yield _excess(text, data, "mix", rho)
        if "mix_gap_exact" in data:
            name = f"{text}: gap, of discrete steps"
            yield _absolute(name, data, "mix_gap_exact", True, STEPS, rivals)


def _balance_of_mix(rho, factor=1.0):
    moment, goal = _tilted()
    return noise_balance(factor * rho, moment, goal, NET[1]).participation_ratio


def _gap(term, factor):
    """The gap if rho, and with it its term of the sum rule, were times a factor."""
    return (factor - 1) * term


def _excess(text, data, name, rho):
    """E L / (kappa Tr H) of both noises, to theory's own error."""
    predicted, label = (float(data[f"{name}_excess_{key}"]) for key in ("predicted", "label"))
    isotropic = predicted - label
    rivals = rivals_of_effect(lambda factor: factor * label + isotropic, "kappa")
    rivals += (("label noise alone", label),) if rho else ()
    claimed = in_regime(data, name, BOUNDS | {"haste": LIMITS.haste})
    text, error = f"{text}: excess loss / κ Tr H", float(data[f"{name}_own_error"])
    return _relative(text, data, f"{name}_excess", claimed, error, rivals)


def _levels(results):
    """The same rho at other strengths: PR over that of the first.

    If the temperature alone mattered, PR would be that of rho times the ratio of the strengths.
    """
    first, *others = results.level.values.tolist()
    kappas = {level: rate * sigma**2 for level, (rate, sigma) in LEVELS.items()}
    for rho, data in settings_of(results, "rho"):
        tolerance = RATIO + float(data.mix_jitter.max())
        low = estimate_in(data.sel(level=first), "mix_ratio")
        for level in others:
            high = estimate_in(data.sel(level=level), "mix_ratio")
            quotient = high.value / low.value
            error = ((high.stderr / high.value) ** 2 + (low.stderr / low.value) ** 2) ** 0.5
            measured = Estimate(quotient, quotient * error)
            text = f"rho = {rho:g}: PR, {level} over {first} label noise"
            other = rho * kappas[level] / kappas[first]
            alone = _balance_of_mix(other) / _balance_of_mix(rho)
            rivals = (("temperature alone", float(alone)),)
            yield Verdict(text, 1.0, measured, "prediction", tolerance, rivals)


def _plane(results):
    for (fan, rho), data in settings_of(results, "fan", "rho"):
        if not np.isfinite(float(data.plane_ratio)):
            continue

        def balance(factor, fan=fan, rho=rho):
            moment, goal = _white(fan)
            return noise_balance(factor * rho, moment, goal, WIDTH)

        def ratio(factor, balance=balance):
            return balance(factor).participation_ratio

        def imbalance(factor, balance=balance):
            state = balance(factor)
            return state.hidden - state.readout

        sharpness, claimed = float(data.plane_sharpness), in_regime(data, "plane")
        text, tolerance = f"{fan} inputs to {8 - fan} outputs, rho = {rho:g}", _ratio_tolerance
        of_ratio = rivals_of_effect(ratio, "rho")
        allowed = tolerance(data, "plane")
        yield _relative(f"{text}: PR", data, "plane_ratio", claimed, allowed, of_ratio)
        both = 2 * float(data.plane_hidden_predicted) - float(data.plane_imbalance_predicted)
        allowed, rivals = sharpness / 2 * both, rivals_of_effect(imbalance, "rho")
        yield _absolute(f"{text}: Tr D", data, "plane_imbalance", claimed, allowed, rivals)
        yield _excess(text, data, "plane", rho)


def _units(results):
    for unit, data in settings_of(results, "unit"):
        scale = float(data.unit_scale)
        yield _absolute(f"{unit}: D of a unit", data, "unit_law", True, 0.03 * scale)
        yield _absolute(f"{unit}: D, of discrete steps", data, "unit_exact", True, STEPS * scale)


def _growth(results):
    for fan, data in settings_of(results, "fan"):
        text, scale = f"{fan} inputs to {8 - fan} outputs", float(data.grow_scale)
        yield _absolute(f"{text}: growth of Tr D", data, "grow_growth", True, 0.08 * scale)
        name = f"{text}: growth, of discrete steps"
        yield _absolute(name, data, "grow_growth_exact", True, 0.03 * scale)


def _decay(results):
    d, h, o = DECAY_NET
    goal = task(d, o, MODES)[2]
    for temperature, data in settings_of(results, "temperature"):

        def ratio(factor, temperature=temperature):
            return balance_under_decay(factor * temperature, DECAY, goal, h).participation_ratio

        claimed = in_regime(data, "decay", DECAY_BOUNDS)
        rivals = {"ratio": rivals_of_effect(ratio, "noise")}
        for mode, key in zip(MODES, ("large", "small"), strict=True):
            rivals[key] = rivals_of_effect(partial(_shrunk, mode), "decay")
        for key, name in {"ratio": "PR", "large": "large mode", "small": "small mode"}.items():
            text = f"decay, T = {temperature:g}: {name}"
            yield _relative(text, data, f"decay_{key}", claimed, DECAY_TOLERANCE, rivals[key])


def _shrunk(mode, factor):
    """A mode of the product under the decay times a factor."""
    return mode - factor * DECAY


def _contrast(results):
    for kind, data in settings_of(results, "kind"):
        growth = float(data.contrast_exact_predicted)
        match kind:
            case "label":
                start = float(results.contrast_ratio_predicted.where(results.kind != kind).max())
                times = np.arange(data.sizes["watch"] + 1.0)
                rivals = rivals_of_path(times, [start, *data.contrast_flow.values], len(times) - 1)
                text = "label noise: PR at the end"
                yield _relative(text, data, "contrast_ratio", True, 0.03, rivals)
                claimed = in_regime(data, "contrast", LIMITS._asdict())
                predicted = float(data.contrast_excess_predicted)
                rivals = [*rivals_of_effect(predicted, "kappa"), ("kappa Tr H alone", 1.0)]
                text, error = "label noise: excess loss / κ Tr H", float(data.contrast_own_error)
                yield _relative(text, data, "contrast_excess", claimed, error, rivals)
            case "isotropic":
                text = "isotropic noise of the same trace: growth of Tr D"
                yield _absolute(text, data, "contrast_exact", True, 0.05 * growth)
            case "none":
                label = results.sel(kind="label") if "label" in results.kind else data
                rivals = [("label noise", float(label.contrast_ratio_predicted))]
                text = "no noise: PR at the end"
                yield _relative(text, data, "contrast_ratio", True, 1e-3, rivals)


def _laws(results):
    for sizes, data in settings_of(results, "sizes"):
        for key, name in {"hidden": "E Tr K", "volume": "E log det"}.items():
            rivals = (("without the log det", float(data[f"law_{key}_without"])),)
            text = f"law of W, {sizes}: {name}"
            yield _relative(text, data, f"law_{key}", True, LAW, rivals)


def tables(results: xr.Dataset) -> list[Table]:
    """What the log det does to the law of W, and which layer expands."""
    laws = [
        (
            sizes,
            f"{float(data.law_hidden_predicted):.3f}",
            f"{float(data.law_hidden_without):.3f}",
            f"{float(data.law_hidden):.3f} ± {float(data.law_hidden_stderr):.3f}",
        )
        for sizes, data in settings_of(results, "sizes")
    ]
    growth = [
        (
            f"{fan} to {8 - fan}",
            f"{float(data.grow_growth_predicted):+.1f}",
            f"{float(data.grow_growth):+.1f} ± {float(data.grow_growth_stderr):.1f}",
        )
        for fan, data in settings_of(results, "fan")
    ]
    first = "Stationary E Tr K: the effect of the log det in the law of W"
    second = "Change of Tr D under isotropic noise alone: the layer with more inputs expands"
    headings = ("inputs, units, outputs", "with the log det", "without", "measured")
    return [
        Table(first, headings, laws),
        Table(second, ("inputs to outputs", "predicted", "measured"), growth),
    ]
