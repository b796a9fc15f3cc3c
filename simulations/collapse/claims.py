"""What is claimed of collapse, where, and with which tolerance."""

import math

import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import Table, Verdict, estimate_in, prediction_if, rivals_of_effect, settings_of
from sgdnoise.theory import (
    lyapunov_of_layer,
    lyapunov_of_unit,
    lyapunov_of_unit_small_rate,
)
from simulations.collapse._chains import COLLAPSED, LABEL_NOISE, LAYER_BATCH, SLOPE

TITLE = "Collapse: exponents of the distance to sets that SGD never leaves"
LEAD = (
    "Growth per step of the logarithm of a distance, negative where noise attracts a network to "
    "the set.  No prediction has a fitted number.",
    "Tolerances are fractions of rate |E h| + rate² E h² / 2, the sum of the two competing terms.",
    "Networks that diverge are excluded from the fractions that collapse, and counted in the "
    "table.",
)
EXACT, SECOND_ORDER = 0.02, 0.05  # tolerances as fractions of the competing terms
SMALL_NOISE = 0.05  # rate^2 label_noise^2 / B up to which the second order is claimed
DEVIATIONS = 2  # standard deviations by which a network must be beyond COLLAPSED, for a claim
NEARLY_STATIONARY = 0.015  # rate^2 label_noise^2 / B up to which stationary curvatures are claimed


def competing(rate: float, batch: int) -> float:
    """rate |E h| + rate^2 E h^2 / 2 of a unit at zero."""
    square = SLOPE**2 + (2 * SLOPE**2 + LABEL_NOISE**2) / batch
    return rate * SLOPE + rate**2 * square / 2


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Units near zero and far from it, two equal units, layers."""
    rows = []
    for (batch, rate), data in settings_of(results, "batch", "rate"):
        text = f"rate {rate:g}, batch {batch}"
        rows += [*_unit(data, text, rate, batch), _net(data, text, rate, batch)]
        rows += _twins(data, text, rate, batch)
    for (width, strength), data in settings_of(results, "width", "strength"):
        rows += _layer(data, f"layer of width {width}, kicks of {strength:g}", width, strength)
    return rows


def decided(exponent: float, rate: float, batch: int, steps: int) -> bool:
    """Whether almost all networks must be on one side of COLLAPSED after so many steps.

    log |w| is a random walk with drift `exponent` and this standard deviation per step.  It is
    reflected at order one if the drift is upward, and then lies below t in a fraction
    t^(2 drift / deviation^2) of the networks, to second order.
    """
    deviation = (2 * (competing(rate, batch) - rate * SLOPE)) ** 0.5
    if exponent > 0:
        return COLLAPSED ** (2 * exponent / deviation**2) < 0.01
    return -exponent * steps > -math.log(COLLAPSED) + DEVIATIONS * deviation * steps**0.5


def _unit(data, text, rate, batch):
    growth, scale = estimate_in(data, "unit_growth"), competing(rate, batch)
    exact, second = float(data["unit_exact"]), float(data["unit_small"])
    small = prediction_if(rate**2 * LABEL_NOISE**2 / batch <= SMALL_NOISE)
    name = f"unit near zero, {text}: growth"

    def growths(exponent):
        """No growth, other variances of the noise, and gradient descent."""
        return (
            ("nothing changes", 0.0),
            *rivals_of_effect(lambda f: _exponent(exponent, f, rate, batch), "noise")[1:],
            ("gradient descent", math.log1p(rate * SLOPE)),
        )

    return [
        Verdict(name, exact, growth, "prediction", EXACT * scale, growths(lyapunov_of_unit)),
        Verdict(
            *(f"{name}, second order", second, growth, small, SECOND_ORDER * scale),
            growths(lyapunov_of_unit_small_rate),
        ),
    ]


def _exponent(exponent, factor, rate, batch):
    """The exponent of a unit if the variance of label noise were times a factor."""
    return exponent(SLOPE, LABEL_NOISE * factor**0.5, rate, batch)


def _net(data, text, rate, batch):
    """Percentage of the finite networks that collapsed; its error is never zero."""
    finite, exponent = int(data.net_alive), float(data.unit_exact)
    predicted, fraction = 100.0 * (exponent < 0), int(data.net_gone) / max(finite, 1)
    error = (max(fraction * (1 - fraction), 1 / max(finite, 1)) / max(finite, 1)) ** 0.5
    claimed = finite >= 2 and decided(exponent, rate, batch, int(data.net_step[-1]))
    kind = prediction_if(claimed)
    measured = Estimate(100 * fraction, 100 * error)

    def percentage(factor):
        return 100.0 * (_exponent(lyapunov_of_unit, factor, rate, batch) < 0)

    name, rivals = f"whole unit, {text}: drawn to zero (%)", rivals_of_effect(percentage, "noise")
    return Verdict(name, predicted, measured, kind, 5.0, rivals)


def _twins(data, text, rate, batch):
    """The growth of the difference of two units, as if their common weight were stationary."""
    growth = estimate_in(data, "twins_growth")
    stationary, text = estimate_in(data, "twins_at_rest"), f"two units alike, {text}: growth"
    unpaired = Estimate(growth.value, math.hypot(growth.stderr, stationary.stderr))
    nearly = prediction_if(rate**2 * LABEL_NOISE**2 / batch <= NEARLY_STATIONARY)
    second = SECOND_ORDER * competing(rate, batch)
    return [
        Verdict(
            f"{text}, by curvatures at rest",
            stationary.value,
            unpaired,
            nearly,
            second,
            rivals_of_effect(stationary.value, "growth"),
        ),
    ]


def _layer(data, text, width, strength):
    """To second order, with an error below c^3; refined, with an error of order c^4."""
    growth = estimate_in(data, "layer_growth")
    base, refined = float(data.layer_base), float(data.layer_refined)
    of_base = rivals_of_effect(base, "noise")

    def of_layer(factor):
        return lyapunov_of_layer(width, strength * factor**0.5, LAYER_BATCH) if factor else 0.0

    of_refined = rivals_of_effect(of_layer, "noise", ("second order", base))
    name, tolerance = f"{text}: growth", strength**3
    return [
        Verdict(f"{name}, second order", base, growth, "prediction", tolerance, of_base),
        Verdict(f"{name}, refined", refined, growth, "prediction", 2 * strength**4, of_refined),
    ]


def tables(results: xr.Dataset) -> list[Table]:
    """How many networks diverged or collapsed, and the size of the others."""
    rows = []
    for (batch, rate), data in settings_of(results, "batch", "rate"):
        count, finite = int(data.net_count), int(data.net_alive)
        size = float(data.net_size[-1])
        rows.append(
            (
                f"rate {rate:g}, batch {batch}",
                f"{float(data.unit_exact):+.4f}",
                f"{count - finite} of {count}",
                f"{int(data.net_gone)} of {finite}",
                f"{size:.1f}" if size > -320 else "0 in double precision",
            )
        )
    caption = (
        f"whole units after {int(results.net_step.max())} steps; collapsed: both weights below "
        f"{COLLAPSED:g}; a unit could learn w2 w1 = {SLOPE:g}"
    )
    headings = ("setting", "exponent", "diverged", "collapsed", "log10 of median |w2 w1|")
    return [Table(caption, headings, rows)]
