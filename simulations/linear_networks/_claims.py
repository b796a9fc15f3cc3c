"""What the claims on linear networks share."""

import math
from dataclasses import replace

import numpy as np

from sgdnoise.lab import (
    Verdict,
    mean_of,
    most_sensitive,
    prediction_if,
    rivals_of_effect,
    rivals_of_path,
    speed_rows,
)


def speed(setting, name: str, flow: str, in_regime: bool, layer=None) -> list[Verdict]:
    """kappa-hat / kappa of the participation ratio, to theory's own error."""
    at = {} if layer is None else {"layer": layer}
    start, records = float(setting.ratio_start.sel(at)), setting.ratio.sel(at)
    predicted = [start, *setting.ratio_flow.sel(at).sel(flow=flow).values]
    measured = np.insert(records.transpose("run", "watch").values.astype(float), 0, start, axis=1)
    text = f"{name}: speed of PR" if layer is None else f"{name}: speed of PR {layer}"
    error, steps = float(setting.own_error), [0, *setting.step.values]
    return speed_rows(text, steps, measured, predicted, tolerance=error, in_regime=in_regime)


def excess(setting, name: str, in_regime: bool, more: float = 0.0) -> Verdict:
    """(E L - L) / (kappa Tr H) after a quarter of the time, to theory's own error and `more`.

    kappa Tr H is that on the flow; the prediction has the finite step and the feedback.
    """
    later = setting.isel(watch=slice(setting.sizes["watch"] // 4, None))
    unit = float(later.kappa_trace.mean())
    measured = mean_of((later.loss.mean("watch") - float(setting.loss_minimum)) / unit)
    predicted = float(later.excess.mean()) / unit
    allowed = (float(setting.own_error) + more) * predicted
    rivals = rivals_of_effect(predicted, "kappa", ("kappa Tr H alone", 1.0))
    text, kind = f"{name}: excess loss / κ Tr H", prediction_if(in_regime)
    return Verdict(text, predicted, measured, kind, allowed, rivals)


def at_fraction(results, fraction: float):
    """The record at a fraction of the time."""
    return results.isel(watch=math.ceil(fraction * results.sizes["watch"]) - 1)


def relative(
    text: str, estimate, predicted: float, in_regime: bool, tolerance: float, rivals=()
) -> Verdict:
    """A verdict whose tolerance is relative to the prediction."""
    allowed = tolerance * abs(predicted)
    kind = prediction_if(in_regime)
    return Verdict(text, predicted, estimate, kind, allowed, tuple(rivals))


def of_other_speeds(path, start: float, fraction: float) -> list[tuple[str, float]]:
    """What a flow predicts at a fraction of the time if kappa were another one, or zero.

    path: the predicted values at equal times, (watch,).  kappa is the speed along the path: with
    f kappa it is at time t where the prediction is at f t, as far as it was followed.
    """
    values = [start, *map(float, path.values.tolist())]
    place = math.ceil(fraction * (len(values) - 1))
    return rivals_of_path(np.linspace(0, 1, len(values)), values, place)


def sensitive_fraction(path, start: float) -> float:
    """The fraction of the time at which a flow depends most on kappa: see `most_sensitive`."""
    values = [start, *map(float, path.values.tolist())]
    return most_sensitive(range(len(values)), values) / (len(values) - 1)


def depends_on_speed(verdict: Verdict) -> Verdict:
    """The verdict, as an observation where half or twice kappa predict the same to its tolerance.

    So it is where a flow has come to rest.
    """
    speeds = [p for name, p in verdict.rivals if name.endswith((" x 0.5", " x 2"))]
    same = any(abs(p - verdict.predicted) <= verdict.tolerance for p in speeds)
    return replace(verdict, kind="observation") if same else verdict


def without_identities(verdicts: list[Verdict]) -> list[Verdict]:
    """The verdicts, in which a number that has no spread over runs is an observation.

    Nothing is random there: the row tests the code, which the tests do.
    """
    return [
        replace(v, kind="observation") if float(v.measured.stderr) == 0 else v for v in verdicts
    ]


def ratio_unchanged(setting, name: str, tolerance: float, mean=mean_of) -> Verdict:
    """The claim on a control: the participation ratio ends where it started."""
    ratio = setting.ratio.isel(watch=-1) / float(setting.ratio_start)
    flow = float(setting.ratio_flow.isel(watch=-1, flow=-1)) / float(setting.ratio_start)
    # Where examples are fitted exactly the flow of minibatches does not move either.
    kind = "observation" if flow == 1 else "prediction"
    text, rivals = f"{name}: PR at the end over its start", (("noise in both layers", flow),)
    return Verdict(text, 1.0, mean(ratio), kind, tolerance, rivals)
