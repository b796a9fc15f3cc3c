"""What is claimed of the shape of gradient noise, and the table beside it."""

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate, nanmean
from sgdnoise.lab import Table, Verdict

TITLE = "Gradient noise and curvature, through training"
LEAD = (
    "A: the second moment of the gradients of n examples under some labels; F: the Fisher "
    "information, which for softmax and cross-entropy is the Gauss-Newton matrix.",
    "Under labels drawn from the network's own softmax, E A = F and E |A − F|² are exact, with "
    "nothing fitted, at any point of training.",
    "Under the labels of the data, or random ones, nothing makes A equal to F: what is seen there "
    "is for contrast.",
)
ALLOWED = 0.03  # of a ratio that is 1 in theory


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Drawn labels against what is exact; the data's and random ones beside, first and last."""
    found = []
    for net in results.net.values.tolist():
        part = results.sel(net=net)
        drawn = part.sel(kind="drawn")
        off = drawn.distance / part.distance_predicted
        error = part.distance_drawn_stderr / part.distance_predicted
        found += [
            _over(
                f"{net}, drawn labels: Tr A / Tr F",
                drawn.trace_ratio,
                part.trace_ratio_drawn_stderr,
            ),
            _over(
                f"{net}, drawn labels: <A, F> / |F|²",
                drawn.product_ratio,
                part.product_ratio_drawn_stderr,
            ),
            _over(f"{net}, drawn labels: |A − F|² / predicted", off, error),
        ]
        for kind in ("data", "random"):
            for moment in (results.moment.values[0], results.moment.values[-1]):
                ratio = part.product_ratio.sel(kind=kind, moment=moment)
                name = f"{net}, {kind} labels, step {moment}: <A, F> / |F|²"
                measured = Estimate(*(float(x) for x in nanmean(ratio.values)[:2]))
                found.append(Verdict(name, 1.0, measured, False, ALLOWED))
    return found


def _over(name, values, errors) -> Verdict:
    """The mean over seeds and moments of what is 1 in theory, each with the error of its draws.

    All count alike: where a mean of few draws is low by chance, so is the error found with it.
    """
    error = float(np.sqrt(np.sum(errors.values**2))) / values.size
    return Verdict(name, 1.0, Estimate(float(values.mean()), error), True, ALLOWED)


def tables(results: xr.Dataset) -> list[Table]:
    """What is seen at each moment, mean ± s.e. over seeds."""
    shown = {
        "accuracy": results.accuracy,
        "cosine(A, F), data": results.cosine.sel(kind="data"),
        "cosine(A, F), drawn": results.cosine.sel(kind="drawn"),
        "cosine(A, F), random": results.cosine.sel(kind="random"),
        "cosine(C, H)": results.hessian_cosine,
        "overlap of 10": results.overlap,
        "exponent of C in H": results.exponent,
        "directions of C": results.noise_participation,
    }
    rows = [
        (
            f"{net}, {moment}",
            *(_pm(values.sel(net=net, moment=moment).values) for values in shown.values()),
        )
        for net in results.net.values.tolist()
        for moment in results.moment.values.tolist()
    ]
    caption = f"mean ± s.e. over {results.sizes['seed']} seeds"
    return [Table(caption, ("network, step", *shown), rows)]


def _pm(values) -> str:
    found = nanmean(values)
    return f"{float(found.value):.2f} ± {float(found.stderr):.2f}"
