"""What is claimed of compression under label noise, and where theory applies."""

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate, nanmean
from sgdnoise.lab import (
    Table,
    Verdict,
    mean_of,
    most_sensitive,
    prediction_if,
    rivals_of_effect,
    rivals_of_path,
    speed_rows,
)
from sgdnoise.theory import FlowLimits, excess_over_trace

TITLE = "Compression and expansion: dimension follows the loss that the noise makes effective"
LEAD = (
    "A two-layer tanh network learns digits by gradient descent and goes on from the very same "
    "weights under noise of several shapes.",
    "Theory puts one loss in the place of label noise, L + κ Tr H with κ = rate label_noise² / "
    "(4 batch), and nothing is fitted: the prediction is noiseless descent on it.",
    "Paths are claimed to the error of the first order, the fraction e = u + rate λ_max / 2 of the "
    "predicted change, which is the size of the next order, and at most to 10%, or to 5% where the "
    "noise is weak.  They are compared where the predicted path tells its speed best from half and "
    "twice it, once it has moved by 2%, and at the end if half of κ would there be beyond the "
    "tolerance.",
    "The regime is that of the start: u ≤ 0.12, rate λ_max ≤ 0.3, slow rate over the curvature, "
    "weighted by the share of the force (time scales) ≤ 0.1, and share of the jitter in the hidden "
    "layer ≤ 0.05.",
    "Whether the dimension of the hidden layer falls or rises is then decided by that loss, not by "
    "there being noise: where it falls in one task it rises in another, under the same kind of "
    "noise.",
)
LIMITS = FlowLimits()
STILL = 0.02  # fraction of a PR that is no change


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """The claims of every setting."""
    return [v for name in results.setting.values for v in _claims(_of(results, name), name)]


def _of(results, name) -> xr.Dataset:
    """One setting, with the modes that were run in it."""
    setting = results.sel(setting=name)
    return setting.isel(mode=np.flatnonzero(setting.lasted.notnull().all("seed")))


def _claims(setting, name) -> list[Verdict]:
    """The claims of one setting; the error of each is that of the difference paired by seed."""
    regime, allowed = prediction_if(in_regime(setting)), float(setting.allowed)
    last, steps = setting.sizes["watch"] - 1, setting.step.values
    start = setting.isel(watch=0).expand_dims("watch")
    middle = {variable: sensitive(setting, variable) for variable in ("dimension", "trace")}

    def claim(text, mode, reference, allowed, variable="dimension", at=last, kind=regime):
        text = f"{name}: {text}"
        return _paired(text, setting, mode, reference, allowed, variable, at, kind)

    def contrast(text, mode):
        return claim(text, mode, "prediction", allowed, kind="contrast")

    judged = [claim("no noise, PR stays", "none", start, STILL, kind="prediction")]
    for variable, measure in (("dimension", "PR"), ("trace", "Tr H")):
        for at in (middle[variable], last):
            text = f"label noise, {measure} after {steps[at]:,} steps"
            kind = regime if _has_moved(setting, variable, at) else "outside"
            if kind == "prediction" and at == last and not _tells_half(setting, variable, at):
                kind = "observation"
            judged.append(claim(text, "label", "prediction", allowed, variable, at, kind))
    at = middle["dimension"]
    text = f"Gaussian of same covariance, PR after {steps[at]:,} steps as label noise"
    kind = regime if _has_moved(setting, "dimension", at) else "outside"
    judged += [
        claim(text, "gaussian", "label", 0.05, at=at, kind=kind),
        contrast("diagonal only, PR", "diagonal"),
        contrast("isotropic of same trace, PR", "isotropic"),
    ]
    judged = [verdict for verdict in judged if verdict is not None]
    return judged + _speeds(setting, name) + _excess(setting, name)


def sensitive(setting, variable: str) -> int:
    """The record at which the predicted path depends most on its speed; half way without one."""
    if "prediction" not in setting.mode.values:
        return setting.sizes["watch"] // 2
    path = setting[variable].sel(mode="prediction").mean("seed")
    return most_sensitive(setting.step.values, path.values)


def own_error(setting, variable: str, at: int) -> float:
    """The error of the first order: e times the predicted change since the start.

    e = u + rate lambda_max / 2 is the relative size of the next order, as in `next_order`.
    """
    path = setting[variable].sel(mode="prediction").mean("seed")
    e = float((setting.amplification + setting.rate * setting.sharpness / 2).max())
    return e * abs(float(path.isel(watch=at) - path.isel(watch=0)))


def _has_moved(setting, variable, at):
    """Whether the predicted path has moved by more than a PR may drift without noise.

    Before that the jitter about the path, which theory leaves out, is as large as the change.
    """
    if "prediction" not in setting.mode.values:
        return False
    path = setting[variable].sel(mode="prediction").mean("seed")
    start = float(path.isel(watch=0))
    return abs(float(path.isel(watch=at)) - start) > STILL * abs(start)


def _tells_half(setting, variable, at):
    """Whether half of kappa predicts something beyond the tolerance at this record."""
    if "prediction" not in setting.mode.values:
        return False
    rivals = dict(_rivals(setting, variable, at))
    path = float(setting[variable].sel(mode="prediction").isel(watch=at).mean("seed"))
    tolerance = min(float(setting.allowed) * abs(path), own_error(setting, variable, at))
    return abs(rivals["kappa x 0.5"] - path) > tolerance


def _speeds(setting, name) -> list[Verdict]:
    """kappa-hat / kappa of both measures; the theory of nonlinear networks has no error of it."""
    if not {"label", "prediction"} <= set(setting.mode.values.tolist()):
        return []
    steps, rows = setting.step.values, []
    for variable, measure in (("dimension", "PR"), ("trace", "Tr H")):
        paths = (setting[variable].sel(mode=mode).values for mode in ("label", "prediction"))
        rows += speed_rows(f"{name}: label noise, speed of {measure}", steps, *paths)
    return rows


def _excess(setting, name) -> list[Verdict]:
    """(E L - L) / (kappa Tr H), a mean over the records after a quarter of the time.

    u is that of the measured Tr H; the tolerance is the error of what it leaves out.
    """
    if not {"label", "prediction"} <= set(setting.mode.values.tolist()):
        return []
    later = setting.isel(watch=slice(-(-setting.sizes["watch"] // 4), None))
    label, prediction = (later.sel(mode=mode) for mode in ("label", "prediction"))
    ratios = (label.loss - prediction.loss) / (label.kappa * label.trace)
    start = float(setting.trace.sel(mode="label").isel(watch=0).mean())
    u = float(setting.amplification.mean() * label.trace.mean() / start)
    predicted, error = excess_over_trace(u, float((setting.rate * setting.sharpness).max()))
    rivals = rivals_of_effect(predicted, "kappa")
    measured = mean_of(ratios.mean("watch").values, skip_missing=True)
    text, kind = f"{name}: label noise, excess loss / κ Tr H", prediction_if(in_regime(setting))
    return [Verdict(text, predicted, measured, kind, error, rivals)]


def _paired(text, setting, mode, reference, allowed, variable, at, kind) -> Verdict | None:
    """A mode against its reference: another mode, or a Dataset of the start."""
    modes = [mode] if not isinstance(reference, str) else [mode, reference]
    if not set(modes) <= set(setting.mode.values.tolist()):
        return None
    measured = setting[variable].sel(mode=mode).isel(watch=at).values
    if isinstance(reference, str):
        predicted = setting[variable].sel(mode=reference).isel(watch=at).values
    else:
        predicted = reference[variable].sel(mode=mode).isel(watch=0).values
    finite = np.isfinite(measured) & np.isfinite(predicted)
    difference = nanmean((measured - predicted)[finite])
    expected = float(predicted[finite].mean()) if finite.any() else np.nan
    estimate = Estimate(expected + float(difference.value), float(difference.stderr))
    tolerance = allowed * abs(expected)
    if isinstance(reference, str) and "prediction" in setting.mode.values:
        tolerance = min(tolerance, own_error(setting, variable, at))
    return Verdict(
        text,
        expected,
        estimate,
        kind,
        tolerance,
        rivals=_rivals(setting, variable, at)
        if isinstance(reference, str) and kind == "prediction"
        else _noise_acts(setting, variable, at),
    )


def _noise_acts(setting, variable, at):
    """The rival of a control: what label noise would do."""
    if "prediction" not in setting.mode.values:
        return ()
    path = setting[variable].sel(mode="prediction").isel(watch=at)
    return (("label noise acts", float(path.mean("seed"))),)


def _rivals(setting, variable, at):
    """The path of the prediction at other speeds, as a mean over seeds."""
    path = setting[variable].sel(mode="prediction").mean("seed")
    return tuple(rivals_of_path(setting.step.values, path.values, at))


def small_parameters(setting) -> dict[str, float]:
    """u, rate lambda_max, slow rate over curvature and share of the jitter: the largest of seeds.

    The last two are those of `theory.network_regime`: the smallest curvature of these networks is
    about zero, so that each direction counts by its share of the force.  One that is nan in any
    seed is nan.
    """
    values = {name: setting[name].values for name in LIMITS._fields}
    values["sharpness"] = float(setting.rate) * values["sharpness"]
    return {name: float(array.max()) for name, array in values.items()}


def in_regime(setting) -> bool:
    """Whether theory claims to hold: all small parameters within their limits at the start."""
    small = small_parameters(setting)
    return all(small[name] <= limit for name, limit in LIMITS._asdict().items())


def diverged(results) -> list[str]:
    """A sentence for each chain that did not stay finite, with its step and seed."""
    last_steps = results.lasted.where(results.lasted < results.steps).to_series().dropna()
    return [
        f"{setting}: {mode} of seed {seed} diverged at step {int(step) + 1}; it is in no average"
        for (setting, mode, seed), step in last_steps.items()
    ]


def tables(results) -> list[Table]:
    """All measures at the start and at the end, and the small parameters, as text."""
    variables = {
        "PR": "dimension",
        "Tr H": "trace",
        "loss": "loss",
        "accuracy": "accuracy",
        "TwoNN": "twonn",
    }
    ends = [
        Table(
            f"{name}: start, then end of each mode (mean ± s.e., {results.sizes['seed']} seeds)",
            ("mode", *variables),
            _values(_of(results, name), variables.values()),
        )
        for name in results.setting.values
    ]
    regimes = [
        (str(name), *(f"{value:.3g}" for value in small_parameters(_of(results, name)).values()))
        for name in results.setting.values
    ]
    headings = ("setting", "u", "rate λ_max", "time scales", "jitter")
    return [*ends, Table("Small parameters at the start, the largest of seeds", headings, regimes)]


def _values(setting, names):
    ends = [("start", setting.isel(mode=0, watch=0))]
    ends += [(str(mode), setting.sel(mode=mode).isel(watch=-1)) for mode in setting.mode.values]
    return [(mode, *(_pm(nanmean(end[name].values)) for name in names)) for mode, end in ends]


def _pm(estimate: Estimate) -> str:
    return f"{float(estimate.value):.4g} ± {float(estimate.stderr):.2g}"
