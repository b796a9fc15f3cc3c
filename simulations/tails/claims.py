"""What is claimed of the stationary tails of theta, where, and with which tolerance."""

import math

import xarray as xr
from scipy.stats import levy_stable

from sgdnoise.core import Estimate
from sgdnoise.lab import Table, Verdict, estimate_in, prediction_if, rivals_of_effect, settings_of

TITLE = "Stationary tails of theta: from minibatches, from Lévy noise, or apparent"
LEAD = (
    "Predicted tail indices, without a fit, are compared with Hill's estimate over independent "
    "samples; the second moment is compared with its exact value, where its own error exists.",
    "SGD driven by stable noise is compared with the exact law of its discrete steps, and with the "
    "stochastic differential equation, which is accurate for small rate x curvature only.",
    "Several inputs have a predicted index where all curvatures are equal.  Unequal ones are "
    "contrasts, beside the index that they would have if they were equal.",
)
MAX_INDEX, HILL = 3.5, 0.07  # Hill's estimate is claimed up to this index, to this fraction
MIN_MOMENT_INDEX = 6.0  # above it the error of the mean square of theta can be trusted
MIN_PROBABILITY = 1e-5  # of a tail that is claimed
SMALL_STEP = 0.1  # rate x curvature up to which the stochastic equation is claimed


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Regression on one input and on several, stable noise, layers."""
    return [*_lines(results), *_planes(results), *_driven(results), *_layers(results)]


def _lines(results):
    rows = []
    for (batch, h, _), data in settings_of(results, "batch", "curvature", "share"):
        text = f"rate {float(data.line_rate):.3g}, batch {batch}, curvature {h:g}"
        alpha, exact = float(data.line_kesten), float(data.square_exact)
        index, claimed = estimate_in(data, "line"), alpha <= MAX_INDEX
        kind = prediction_if(claimed)
        rows.append(Verdict(f"{text}: index", alpha, index, kind, HILL * alpha, _indices(alpha)))
        if alpha > 2.001 and math.isfinite(exact):  # at 2 rounding would decide
            square = estimate_in(data, "square")
            kind = prediction_if(alpha > MIN_MOMENT_INDEX)
            rivals = rivals_of_effect(exact, "noise")
            rows.append(Verdict(f"{text}: mean square", exact, square, kind, 0.01 * exact, rivals))
    return rows


def _indices(alpha, *others, gaussian=False):
    """Indices a factor of the predicted one; of a stable law at most 2, that of a Gaussian."""

    def index(factor):
        possible = factor > 0 and not (gaussian and factor * alpha > 2)
        return factor * alpha if possible else math.nan

    gaussians = [("Gaussian", 2.0)] if gaussian else []
    return rivals_of_effect(index, "alpha", *gaussians, *others)


def _planes(results):
    rows = []
    for d in results.dimension.values.tolist():
        for even in (1, 0):
            for fraction, data in settings_of(results.sel(dimension=d, even=even), "share"):
                alpha, kind = float(data.plane_kesten), "alike" if even else "unlike"
                text = f"{d} inputs {kind}, {fraction:g} of the rate of infinite variance: index"
                claimed, index = bool(even) and alpha <= MAX_INDEX, estimate_in(data, "plane")
                kind = prediction_if(claimed)
                rows.append(Verdict(text, alpha, index, kind, HILL * alpha, _indices(alpha)))
    return rows


def _driven(results):
    rows = []
    for (alpha, pull), data in settings_of(results, "alpha", "pull"):
        text = f"jumps of alpha {alpha:g}, rate x curvature {pull:g}"
        scale, flow = measured_scale(data, alpha), float(data.scale_flow)
        index, exact = estimate_in(data, "driven"), float(data.scale)
        small = prediction_if(pull <= SMALL_STEP)
        of_scale = rivals_of_effect(exact, "noise", ("as an equation", flow))
        of_flow = rivals_of_effect(flow, "noise")
        rows += [
            Verdict(f"{text}: scale", exact, scale, "prediction", 0.02 * exact, of_scale),
            Verdict(f"{text}: scale, as an equation", flow, scale, small, 0.03 * exact, of_flow),
            Verdict(
                *(f"{text}: alpha, by a stable fit", alpha, index, "prediction", 0.02),
                _indices(alpha, gaussian=True),
            ),
        ]
        tail = data.sel(beyond_at=data.beyond_at.max())
        t = float(tail.beyond_at)
        measured, predicted = estimate_in(tail, "beyond"), 2 * float(levy_stable.sf(t, alpha, 0))
        if predicted > MIN_PROBABILITY:
            name = f"{text}: beyond {t:g} scales (%)"
            percent = Estimate(100 * measured.value, 100 * measured.stderr)

            def beyond(factor, t=t, alpha=alpha):
                return 200 * float(levy_stable.sf(t / factor, alpha, 0)) if factor else 0.0

            gaussian = ("Gaussian tail", 100 * math.erfc(t / 2))  # of a variance of 2, in scales
            rivals = rivals_of_effect(beyond, "noise", gaussian)
            allowed = 10 * predicted
            rows.append(Verdict(name, 100 * predicted, percent, "prediction", allowed, rivals))
    return rows


def measured_scale(data, alpha: float) -> Estimate:
    """From E cos(theta / s) = exp(-(scale / s)^alpha), with s the predicted scale."""
    wave = estimate_in(data.sel(wave_at=1.0), "wave")
    power = -math.log(wave.value)
    value = float(data.scale) * power ** (1 / alpha)
    return Estimate(value, value * wave.stderr / wave.value / power / alpha)


def _layers(results):
    rows = []
    for alpha, data in settings_of(results, "alpha"):
        for method in ("stable", "blocks"):
            for layers, kind in (("apart", "prediction"), ("pooled", "contrast")):
                name = f"layers of unlike scales, alpha {alpha:g}: by {method}, {layers}"
                index = estimate_in(data, f"{method}_{layers}")
                pooled = ("layers pooled", float(data[f"{method}_pooled"]))
                rivals = _indices(alpha, pooled, gaussian=True) if kind == "prediction" else ()
                rows.append(Verdict(name, alpha, index, kind, 0.03, rivals))
    return rows


def tables(results: xr.Dataset) -> list[Table]:
    """The law of theta under stable noise: characteristic function and tail probabilities."""
    rows = []
    for (alpha, pull), data in settings_of(results, "alpha", "pull"):
        waves = (
            f"{math.exp(-(t**alpha)):.4f} / {_text(cell, 'wave')}"
            for t, cell in settings_of(data, "wave_at")
        )
        tails = (
            f"{2 * levy_stable.sf(t, alpha, 0):.5f} / {_text(cell, 'beyond')}"
            for t, cell in settings_of(data, "beyond_at")
        )
        rows.append((f"alpha {alpha:g}, rate x curvature {pull:g}", *waves, *tails))
    headings = (
        *(f"E cos({t:g} theta / s)" for t in results.wave_at.values.tolist()),
        *(f"P(|theta| > {t} s)" for t in results.beyond_at.values.tolist()),
    )
    caption = "stable noise on a quadratic loss: predicted / measured, s the predicted scale"
    return [Table(caption, ("setting", *headings), rows)]


def _text(data, name):
    estimate = estimate_in(data, name)
    return f"{estimate.value:.5f} ± {estimate.stderr:.5f}"
