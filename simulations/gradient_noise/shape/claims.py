"""What is claimed of the shape of gradient noise, and the numbers beside it."""

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate, nanmean
from sgdnoise.lab import Table, Verdict, rivals_of_effect

TITLE = "Gradient noise and curvature, through training"
LEAD = (
    "A: the second moment of the gradients of n examples under some labels; F: the Fisher "
    "information, which for softmax and cross-entropy is the Gauss-Newton matrix.",
    "Under labels drawn from the network's own softmax, E A = F and E |A − F|² are exact, with "
    "nothing fitted, at any point of training.",
    "Under the labels of the data, or random ones, nothing makes A equal to F: they are measured "
    "for contrast.",
)
TOLERANCE = 0.03  # of a ratio that is 1 in theory


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Drawn labels against the exact values; the data's and random ones first and last."""
    judged = []
    for net in results.net.values.tolist():
        of_net = results.sel(net=net)
        drawn, predicted = of_net.sel(kind="drawn"), of_net.distance_predicted
        ratios = {
            "Tr A / Tr F": (drawn.trace_ratio, of_net.trace_ratio_drawn_stderr),
            "<A, F> / |F|²": (drawn.product_ratio, of_net.product_ratio_drawn_stderr),
            "|A − F|² / predicted": (
                drawn.distance / predicted,
                of_net.distance_drawn_stderr / predicted,
            ),
        }
        judged += [_mean_ratio(f"{net}, drawn labels: {k}", *v) for k, v in ratios.items()]
        for kind in ("data", "random"):
            for moment in (results.moment.values[0], results.moment.values[-1]):
                ratio = of_net.product_ratio.sel(kind=kind, moment=moment)
                name = f"{net}, {kind} labels, step {moment}: <A, F> / |F|²"
                measured = nanmean(ratio.values)
                judged.append(Verdict(name, 1.0, measured, "contrast", TOLERANCE))
    return judged


def _mean_ratio(name, values, errors) -> Verdict:
    """The mean over seeds and times of a ratio that is 1 in theory, with the error of its draws.

    All have the same weight: where a mean of few draws is low by chance, so is its error.
    """
    error = float(np.sqrt(np.sum(errors.values**2))) / values.size
    measured, rivals = Estimate(float(values.mean()), error), rivals_of_effect(1.0, "noise")
    return Verdict(name, 1.0, measured, "prediction", TOLERANCE, rivals)


def tables(results: xr.Dataset) -> list[Table]:
    """The measures at each step, mean ± s.e. over seeds."""
    variables = {
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
            *(_pm(values.sel(net=net, moment=moment).values) for values in variables.values()),
        )
        for net in results.net.values.tolist()
        for moment in results.moment.values.tolist()
    ]
    caption = f"mean ± s.e. over {results.sizes['seed']} seeds"
    return [Table(caption, ("network, step", *variables), rows)]


def _pm(values) -> str:
    estimate = nanmean(values)
    return f"{float(estimate.value):.2f} ± {float(estimate.stderr):.2f}"
