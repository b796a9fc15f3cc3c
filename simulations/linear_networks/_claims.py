"""What the claims on linear networks share."""

import math

import numpy as np

from sgdnoise.lab import Verdict, mean_of, prediction_if, rivals_of_path


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


def ratio_unchanged(setting, name: str, tolerance: float, mean=mean_of) -> Verdict:
    """The claim on a control: the participation ratio ends where it started."""
    ratio = setting.ratio.isel(watch=-1) / float(setting.ratio_start)
    return Verdict(
        f"{name}: PR at the end over its start", 1.0, mean(ratio), "prediction", tolerance
    )
