"""What is claimed of collapse, where, and how far it may be off."""

import math

import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import Table, Verdict
from simulations.collapse._chains import LABEL_NOISE, SLOPE

__all__ = [
    "GONE",
    "LEAD",
    "TITLE",
    "competing",
    "sure",
    "tables",
    "verdicts",
]

TITLE = "Collapse: exponents of the distance to sets that descent never leaves"
LEAD = (
    "Growth a step of the logarithm of a distance, negative where noise draws a network in; no "
    "prediction has a fitted number.",
    "What is allowed is a share of rate |E h| + rate² E h² / 2, the two effects that compete.",
    "Networks that blow up are left out of the shares that are drawn in, and counted in the table.",
)
EXACT, SECOND = 0.02, 0.05  # shares of what competes to which exponents are claimed
SMALL_NOISE = 0.05  # rate^2 label_noise^2 / B up to which the second order is claimed
GONE = 1e-6  # weights below it are collapsed
SURE_OF = 2  # spreads by which a network must be beyond GONE, for a claim
CALM = 0.015  # rate^2 label_noise^2 / B up to which curvatures at rest are claimed


def competing(rate: float, batch: int) -> float:
    """rate |E h| + rate^2 E h^2 / 2 of a unit at zero."""
    square = SLOPE**2 + (2 * SLOPE**2 + LABEL_NOISE**2) / batch
    return rate * SLOPE + rate**2 * square / 2


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Units near zero and as a whole, two units alike, layers."""
    found = []
    for batch in results.batch.values.tolist():
        for rate in results.rate.values.tolist():
            part = results.sel(batch=batch, rate=rate)
            text = f"rate {rate:g}, batch {batch}"
            found += [*_unit(part, text, rate, batch), _net(part, text, rate, batch)]
            found += _twins(part, text, rate, batch)
    for width in results.width.values.tolist():
        for strength in results.strength.values.tolist():
            part = results.sel(width=width, strength=strength)
            found += _layer(part, f"layer of width {width}, kicks of {strength:g}", strength)
    return found


def sure(exponent: float, rate: float, batch: int, steps: int) -> bool:
    """Whether almost all networks must be on one side of GONE after so many steps.

    log |w| makes a walk of drift `exponent` and this spread a step; upward it turns at order one,
    and rests below t in a share t^(2 drift / spread^2), to the second order.
    """
    spread = (2 * (competing(rate, batch) - rate * SLOPE)) ** 0.5
    if exponent > 0:
        return GONE ** (2 * exponent / spread**2) < 0.01
    return -exponent * steps > -math.log(GONE) + SURE_OF * spread * steps**0.5


def _unit(part, text, rate, batch):
    small = rate**2 * LABEL_NOISE**2 / batch <= SMALL_NOISE
    kinds = (("exact", EXACT, True), ("small", SECOND, small))
    growth = _estimate(part, "unit_growth")
    return [
        Verdict(
            f"unit near zero, {text}: growth{', second order' if kind == 'small' else ''}",
            float(part[f"unit_{kind}"]),
            growth,
            claimed,
            share * competing(rate, batch),
        )
        for kind, share, claimed in kinds
    ]


def _net(part, text, rate, batch):
    """Shares of the networks that did not blow up, with an error that is not zero if all agree."""
    alive, exponent = int(part.net_alive), float(part.unit_exact)
    predicted, share = 100.0 * (exponent < 0), int(part.net_gone) / max(alive, 1)
    error = (max(share * (1 - share), 1 / max(alive, 1)) / max(alive, 1)) ** 0.5
    claimed = alive >= 2 and sure(exponent, rate, batch, int(part.net_step[-1]))
    measured = Estimate(100 * share, 100 * error)
    return Verdict(f"whole unit, {text}: drawn to zero (%)", predicted, measured, claimed, 5.0)


def _twins(part, text, rate, batch):
    """Along each path, chain by chain; and as if the weight that both units have were at rest."""
    growth, unlike = _estimate(part, "twins_growth"), _estimate(part, "twins_unlike")
    rest, text = _estimate(part, "twins_at_rest"), f"two units alike, {text}: growth"
    paired = Estimate(growth.value, unlike.stderr)
    apart = Estimate(growth.value, math.hypot(growth.stderr, rest.stderr))
    calm = rate**2 * LABEL_NOISE**2 / batch <= CALM
    exact, near = (share * competing(rate, batch) for share in (EXACT, SECOND))
    return [
        Verdict(f"{text}, by curvatures met", growth.value - unlike.value, paired, True, exact),
        Verdict(f"{text}, by curvatures at rest", rest.value, apart, calm, near),
    ]


def _layer(part, text, strength):
    """To leading order, off by c^3 at most; refined, by what is left out, some c^4."""
    growth = _estimate(part, "layer_growth")
    base, refined = float(part.layer_base), float(part.layer_refined)
    return [
        Verdict(f"{text}: growth, second order", base, growth, True, strength**3),
        Verdict(f"{text}: growth, refined", refined, growth, True, 2 * strength**4),
    ]


def _estimate(part, name):
    return Estimate(float(part[name]), float(part[f"{name}_stderr"]))


def tables(results: xr.Dataset) -> list[Table]:
    """Networks that blew up, and where the others are."""
    rows = []
    for batch in results.batch.values.tolist():
        for rate in results.rate.values.tolist():
            part = results.sel(batch=batch, rate=rate)
            count, alive = int(part.net_count), int(part.net_alive)
            size = float(part.net_size[-1])
            rows.append(
                (
                    f"rate {rate:g}, batch {batch}",
                    f"{float(part.unit_exact):+.4f}",
                    f"{count - alive} of {count}",
                    f"{int(part.net_gone)} of {alive}",
                    f"{size:.1f}" if size > -320 else "0 in double precision",
                )
            )
    caption = (
        f"whole units after {int(results.net_step.max())} steps; collapsed: both weights below "
        f"{GONE:g}; what a unit could learn is w2 w1 = {SLOPE:g}"
    )
    headings = ("setting", "exponent", "blew up", "collapsed", "log10 of median |w2 w1|")
    return [Table(caption, headings, rows)]
