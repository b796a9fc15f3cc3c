"""What is claimed of tails at rest, where, and how far it may be off."""

import math

import xarray as xr
from scipy.stats import levy_stable

from sgdnoise.core import Estimate
from sgdnoise.lab import Table, Verdict

__all__ = [
    "LEAD",
    "TITLE",
    "diverging",
    "driven_scale",
    "flow_scale",
    "measured_scale",
    "tables",
    "verdicts",
]

TITLE = "Tails of theta at rest: made by batches, driven by jumps, faked by layers"
LEAD = (
    "Indices predicted without a fit, against Hill's estimate over independent samples; the "
    "second moment against its exact value, where its own error exists.",
    "Descent driven by stable noise is held against the exact law of its discrete steps, and "
    "against the stochastic equation, which is right for small rate x curvature alone.",
    "Several inputs have a predicted index where they are all alike; others are shown for contrast "
    "beside the index that they would have if they were.",
)
HEAVY, HILL = 3.5, 0.07  # Hill's estimate is claimed up to this index, to this share
MOMENTS = 6.0  # above this index the mean square of theta has an error that can be trusted
LEAST = 1e-5  # of a share of theta that is looked for
SLOW = 0.1  # rate x curvature up to which the stochastic equation is claimed


def diverging(batch: int, curvature: float, dimension: int) -> float:
    """Rate from which the variance is infinite, `dimension` inputs alike: 2 B / (B + d + 1) / h."""
    return 2 * batch / (batch + dimension + 1) / curvature


def driven_scale(rate: float, alpha: float, jump: float, curvature: float = 1.0) -> float:
    r"""Scale of the stable law at which theta <- theta - rate (h theta + jump S) comes to rest.

    A sum of shrunken jumps, s^alpha = (rate jump)^alpha / (1 - |1 - rate h|^alpha): exact.
    """
    left = abs(1 - rate * curvature) ** alpha
    return rate * jump / (1 - left) ** (1 / alpha)


def flow_scale(rate: float, alpha: float, jump: float, curvature: float = 1.0) -> float:
    """The same of d theta = -h theta dt + rate^(1 - 1/alpha) jump dL: rate h small."""
    return jump * (rate ** (alpha - 1) / (alpha * curvature)) ** (1 / alpha)


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Regression on one input and several, stable noise in a bowl, layers."""
    return [*_lines(results), *_planes(results), *_bowls(results), *_layers(results)]


def _lines(results):
    found = []
    for batch in results.batch.values.tolist():
        for h in results.curvature.values.tolist():
            for share in results.share.values.tolist():
                part = results.sel(batch=batch, curvature=h, share=share)
                text = f"rate {float(part.line_rate):.3g}, batch {batch}, curvature {h:g}"
                found += _line(part, text)
    return found


def _line(part, text):
    alpha, exact = float(part.line_kesten), float(part.square_exact)
    index = _estimate(part, "line")
    found = [Verdict(f"{text}: index", alpha, index, alpha <= HEAVY, HILL * alpha)]
    if alpha > 2.001 and math.isfinite(exact):  # where it is two, rounding decides
        square = _estimate(part, "square")
        name = f"{text}: mean square"
        found.append(Verdict(name, exact, square, alpha > MOMENTS, 0.01 * exact))
    return found


def _planes(results):
    found = []
    for d in results.dimension.values.tolist():
        for even in (1, 0):
            for share in results.share.values.tolist():
                part = results.sel(dimension=d, even=even, share=share)
                alpha, kind = float(part.plane_kesten), "alike" if even else "unlike"
                text = f"{d} inputs {kind}, {share:g} of the rate of infinite variance: index"
                claimed = bool(even) and alpha <= HEAVY
                index = _estimate(part, "plane")
                found.append(Verdict(text, alpha, index, claimed, HILL * alpha))
    return found


def _bowls(results):
    found = []
    for alpha in results.alpha.values.tolist():
        for pull in results.pull.values.tolist():
            part = results.sel(alpha=alpha, pull=pull)
            found += _bowl(
                part, f"jumps of alpha {alpha:g}, rate x curvature {pull:g}", alpha, pull
            )
    return found


def _bowl(part, text, alpha, pull):
    scale, flow = measured_scale(part, alpha), float(part.scale_flow)
    index, exact = _estimate(part, "driven"), float(part.scale)
    far = part.sel(beyond_at=part.beyond_at.max())
    t = float(far.beyond_at)
    share, law = _estimate(far, "beyond"), 2 * float(levy_stable.sf(t, alpha, 0))
    percent = Estimate(100 * share.value, 100 * share.stderr)
    found = [
        Verdict(f"{text}: scale", exact, scale, True, 0.02 * exact),
        Verdict(f"{text}: scale, as an equation", flow, scale, pull <= SLOW, 0.03 * exact),
        Verdict(f"{text}: alpha, by a stable fit", alpha, index, True, 0.02),
    ]
    if law > LEAST:
        name = f"{text}: beyond {t:g} scales (%)"
        found.append(Verdict(name, 100 * law, percent, True, 10 * law))
    return found


def measured_scale(part, alpha: float) -> Estimate:
    """From E cos(theta / s) = exp(-(scale / s)^alpha), s the scale that is predicted."""
    wave = _estimate(part.sel(wave_at=1.0), "wave")
    power = -math.log(wave.value)
    value = float(part.scale) * power ** (1 / alpha)
    return Estimate(value, value * wave.stderr / wave.value / power / alpha)


def _layers(results):
    found = []
    for alpha in results.alpha.values.tolist():
        part = results.sel(alpha=alpha)
        for method in ("stable", "blocks"):
            for kind, claimed in (("apart", True), ("pooled", False)):
                name = f"layers of unlike scales, alpha {alpha:g}: by {method}, {kind}"
                index = _estimate(part, f"{method}_{kind}")
                found.append(Verdict(name, alpha, index, claimed, 0.03))
    return found


def _estimate(part, name):
    return Estimate(float(part[name]), float(part[f"{name}_stderr"]))


def tables(results: xr.Dataset) -> list[Table]:
    """The law of theta in a bowl, wave by wave and share by share."""
    rows = []
    for alpha in results.alpha.values.tolist():
        for pull in results.pull.values.tolist():
            part = results.sel(alpha=alpha, pull=pull)
            waves = (
                f"{math.exp(-(t**alpha)):.4f} / {_text(part.sel(wave_at=t), 'wave')}"
                for t in results.wave_at.values.tolist()
            )
            shares = (
                f"{2 * levy_stable.sf(t, alpha, 0):.5f} / {_text(part.sel(beyond_at=t), 'beyond')}"
                for t in results.beyond_at.values.tolist()
            )
            rows.append((f"alpha {alpha:g}, rate x curvature {pull:g}", *waves, *shares))
    headings = (
        *(f"E cos({t:g} theta / s)" for t in results.wave_at.values.tolist()),
        *(f"P(|theta| > {t} s)" for t in results.beyond_at.values.tolist()),
    )
    caption = "stable noise in a bowl: predicted / measured, s the predicted scale"
    return [Table(caption, ("setting", *headings), rows)]


def _text(part, name):
    return f"{float(part[name]):.5f} ± {float(part[f'{name}_stderr']):.5f}"
