"""What the claims on linear networks share."""

import math

from sgdnoise.lab import Verdict, mean_of


def at_fraction(results, fraction: float):
    """The record at a fraction of the time."""
    return results.isel(watch=math.ceil(fraction * results.sizes["watch"]) - 1)


def relative(text: str, estimate, predicted: float, claimed: bool, tolerance: float) -> Verdict:
    """A verdict whose tolerance is relative to the prediction."""
    return Verdict(text, predicted, estimate, claimed, tolerance * abs(predicted))


def ratio_unchanged(setting, name: str, tolerance: float, mean=mean_of) -> Verdict:
    """The claim on a control: the participation ratio ends where it started."""
    ratio = setting.ratio.isel(watch=-1) / float(setting.ratio_start)
    return Verdict(f"{name}: PR at the end over its start", 1.0, mean(ratio), True, tolerance)
