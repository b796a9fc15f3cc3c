"""What is claimed of the flow of the next order, where, and with which tolerance."""

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import (
    Table,
    Verdict,
    mean_of,
    prediction_if,
    rivals_of_effect,
    rivals_of_path,
    settings_of,
    speed_rows,
    time_scaling,
)
from sgdnoise.theory import FlowLimits

TITLE = "Label noise in nonlinear networks, to the next order in the rate"
LEAD = (
    "Two-layer tanh networks that have learned digits continue under label noise. Participation "
    "ratio (PR) of the hidden layer and Tr H are compared with gradient descent on "
    "L + Tr(H S) / 2, with nothing fitted.",
    "First order: S = rate label_noise^2 / (2 batch) on all directions that H sees, whose force is "
    "that of kappa Tr H. Next order: S has the finite step, as in 1 / (2 - rate h), and the noise "
    "of sampling the residuals that the jitter itself makes, example by example.",
    "The speed of the next order is claimed to 5%: the relative size e of the correction is at "
    "most about a fifth (u = rate Tr H / (2 batch outputs), plus half of rate lambda_max), and "
    "what is neglected is of the order e^2. Values are claimed to 5% of the predicted change.",
    "The excess loss (E L - L) / (kappa Tr H) is claimed to e^2: E L is the mean loss of SGD over "
    "the second half of the steps, before any quench, L that of the flow, and Tr H is measured. "
    "The prediction is Tr(H S) / 2 over kappa Tr H on the flow.",
    "In regime: e at most 0.2, slow rate over the weighted curvature (time scales) at most 0.1, "
    "share of the jitter in the hidden layer at most 0.05.",
)
FRACTION = 0.05  # of the speed, and of the predicted change
MAX_CORRECTION = 0.2  # u + rate lambda_max / 2, of which the square is neglected
OBSERVABLES = {"PR": "ratio", "Tr H": "trace"}
PLACES = {"half way": 4, "the end": 8}  # indices of recorded moments
FLOWS = "first order", "next order"
BASE = "first order (kappa Tr H)"
LIMITS = FlowLimits()


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Speeds and values of each case; the flow of first order is shown beside them."""
    rows = []
    for name, data in settings_of(results, "case"):
        for label, key in OBSERVABLES.items():
            rows += _speeds(data, name, label, key) + _values(data, name, label, key)
        rows.append(_excess(data, name))
    return rows


def in_regime(data: xr.Dataset) -> bool:
    """Whether theory is claimed: all small parameters within their limits."""
    haste, jitter = float(data.haste.max()), float(data.jitter.max())
    slow = haste <= LIMITS.haste and jitter <= LIMITS.jitter
    return correction(data) <= MAX_CORRECTION and slow


def correction(data: xr.Dataset) -> float:
    """The relative size of the correction at the start: u + rate lambda_max / 2, the largest."""
    return float((data.amplification + data.sharpness / 2).max())


def paths(data: xr.Dataset, key: str, how: str) -> np.ndarray:
    """The path of each network, (network, watch), the mean over replicas."""
    return data[key].sel(how=how).mean("replica").transpose("network", "watch").values


def steps_of(data: xr.Dataset) -> np.ndarray:
    """The steps of SGD at the recorded moments, the same for all networks."""
    return data.step.isel(network=0).values.astype(float)


def _speeds(data, name, label, key):
    times, measured = steps_of(data), paths(data, key, "sgd")
    inside = in_regime(data)
    following = paths(data, key, "next order")
    rows = speed_rows(
        f"{name}: {label}", times, measured, following, tolerance=FRACTION, in_regime=inside
    )
    first = speed_rows(f"{name}, {BASE}: {label}", times, measured, paths(data, key, "first order"))
    return rows + first


def _values(data, name, label, key):
    rows, inside = [], in_regime(data)
    measured, following = (paths(data, key, how) for how in ("sgd", "next order"))
    first = paths(data, key, "first order")
    for moment, watch in PLACES.items():
        path = following.mean(0)
        change = path[watch] - path[0]
        gap = measured[:, watch] - following[:, watch]
        value = path[watch] + mean_of(xr.DataArray(gap, dims="network"))
        rivals = rivals_of_path(steps_of(data), path, watch)
        rivals += [(BASE, float(first.mean(0)[watch]))]
        text = f"{name}: {label}, {moment}"
        kind, allowed = prediction_if(inside), FRACTION * abs(change)
        rows.append(Verdict(text, float(path[watch]), value, kind, allowed, tuple(rivals)))
    return rows


def _excess(data, name) -> Verdict:
    """(E L - L) / (kappa Tr H) over the second half, each network paired with its prediction."""
    first = data.sizes["watch"] // 2
    ends = slice(first + 1, None)  # of the intervals whose mean loss is taken

    def between(path):
        """The mean over these intervals of values at the records."""
        middle = (path.values[..., first:-1] + path.values[..., first + 1 :]) / 2
        return middle.mean(-1)

    def ratio(flow):
        at = data.sel(flow=flow)
        trace = data.trace.sel(how=flow).mean("replica")
        return between(at.excess) / (data.kappa.values * between(trace))

    plain = between(data.flow_loss.sel(flow="next order"))
    excess = data.mean_loss.mean("replica").isel(watch=ends).mean("watch").values - plain
    measured = excess / (data.kappa.values * between(data.trace.sel(how="sgd").mean("replica")))
    predicted = float(ratio("next order").mean())
    gap = mean_of(xr.DataArray(measured - ratio("next order"), dims="network"))
    rivals = rivals_of_effect(predicted, "kappa", (BASE, float(ratio("first order").mean())))
    kind, allowed = prediction_if(in_regime(data)), correction(data) ** 2 * predicted
    return Verdict(
        f"{name}: excess loss / (kappa Tr H)", predicted, predicted + gap, kind, allowed, rivals
    )


def tables(results: xr.Dataset) -> list[Table]:
    """The speed of SGD over that of each flow, and the small parameters, of every case."""
    rows = []
    for name, data in settings_of(results, "case"):
        times = steps_of(data)
        row = [name, f"{float(data.amplification.max()):.3f}", f"{float(data.sharpness.max()):.2f}"]
        row += [f"{float(data[key].max()):.4f}" for key in ("haste", "jitter")]
        for key in OBSERVABLES.values():
            for how in FLOWS:
                speeds = time_scaling(times, paths(data, key, "sgd"), paths(data, key, how))
                row.append(_printed(speeds))
        rows.append(tuple(row))
    headings = ["case", "u", "rate lambda_max", "time scales", "jitter"]
    headings += [
        f"{label}, {how}" for label in OBSERVABLES for how in ("first order", "next order")
    ]
    caption = "kappa-hat / kappa: the speed of SGD over that of each flow, mean over networks"
    return [Table(caption, tuple(headings), rows)]


def _printed(speeds) -> str:
    finite = speeds[np.isfinite(speeds)]
    if len(finite) < 2:
        return "-"
    mean = Estimate(finite.mean(), finite.std(ddof=1) / len(finite) ** 0.5)
    return f"{mean.value:.3f} ± {mean.stderr:.3f}"
