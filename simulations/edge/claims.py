"""What is claimed of training at the edge of stability, where, and with which tolerance."""

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import Table, Verdict, mean_of, prediction_if, rivals_of_effect, settings_of
from sgdnoise.theory import edge_period, edge_sharpness

TITLE = "The edge of stability, and the dimension of layers there"
LEAD = (
    "Means over windows of steps are compared with the central flow (theory.central_flow), with "
    "nothing fitted. All numbers are means over the second half of the windows. The sharpness, the "
    "largest curvature, and PR are those of the mean weights of a window.",
    "Gradient descent: the effect is the difference to the gradient flow from the same weights; of "
    "the loss it is that of the oscillation. SGD: the effect is the gap to 2 / rate, and of PR the "
    "difference to gradient descent; the named rival of the gap is the trace, 2 / rate - Tr / B.",
    "The regime: the second half begins at least a period of the cycles of descent, "
    "theory.edge_period, after the edge is reached, for SGD after its start; and its jitter has at "
    "most a third of the mean loss. The flow leaves out the square of that share: values are "
    "claimed to 15% of the effect.",
)
FRACTION, MAX_SHARE = 0.15, 1 / 3
FLOW, CENTRAL, DESCENT = "gradient flow", "central flow", "descent"
EDGE = 0.1  # of 2 / rate, within which batch sharpness would be there
TRACE, SINGLE = "2 / rate - Tr / B", "one direction"


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Descent and SGD of every case."""
    rows = []
    for name, data in settings_of(results, "case"):
        rows += _descent(name, data)
        for batch in batches_of(data):
            rows += _sgd(f"{name}, B = {batch}", data, data.sel(batch=batch))
    return rows


def batches_of(data) -> list[int]:
    """The batch sizes of a case."""
    return data.batch.values[np.isfinite(data.sgd_loss[:, 0, 0])].tolist()


def late(values):
    """The mean over the second half of the windows, the last axis of that name."""
    return values.isel(window=slice(values.sizes["window"] // 2, None)).mean("window")


def period_of(data) -> float:
    """The largest number of steps of a cycle at the edge, of all networks; inf if none is there."""
    steps, rate = data.step.values, float(data.rate)
    alone = data.sharpness.sel(how=FLOW).transpose("network", "window").values
    speeds = (alone[:, -1] - alone[:, 0]) / (rate * (steps[-1] - steps[0]))
    return max(edge_period(rate, float(v)) if v > 0 else float("inf") for v in speeds)


def onset_of(data) -> float:
    """The first window in which all networks have been at the edge; inf if one has not."""
    reached = data.unstable.transpose("network", "window").values > 0
    steps = [data.step.values[row.argmax()] if row.any() else float("inf") for row in reached]
    return float(max(steps))


def half_of(data) -> float:
    """The middle of the first window of the second half."""
    return float(data.step[data.sizes["window"] // 2])


def layers_of(data) -> list[int]:
    """The indices of the hidden layers."""
    return np.flatnonzero(np.isfinite(data.ratio.isel(network=0, how=0, window=0))).tolist()


def numbers_of_descent(data) -> dict:
    """Label -> values (network,) of the gradient flow, the central flow and descent."""
    hows = (FLOW, CENTRAL, DESCENT)
    excess = late(data.loss - data.still_loss)
    numbers = {"sharpness": [late(data.sharpness.sel(how=h)) for h in hows]}
    zero = 0 * excess.sel(how=CENTRAL)
    numbers["loss of the oscillation"] = [zero, *(excess.sel(how=h) for h in hows[1:])]
    for layer in layers_of(data):
        ratio = data.ratio.isel(layer=layer)
        numbers[f"PR of layer {layer + 1}"] = [late(ratio.sel(how=h)) for h in hows]
    return {label: [v.values for v in values] for label, values in numbers.items()}


def _descent(name, data):
    """The means over networks; the error is that of the differences to theory."""
    rows, claimed = [], half_of(data) - onset_of(data) >= period_of(data)
    for label, (flow, central, descent) in numbers_of_descent(data).items():
        base, predicted = float(flow.mean()), float(central.mean())
        measured = mean_of(descent - central) + predicted
        rows.append(_claim(f"{name}: {label}", base, predicted, measured, "edge", claimed))
    return rows


def _claim(text, base, predicted, measured, effect, claimed, *others):
    rivals = rivals_of_effect(lambda f: base + f * (predicted - base), effect, *others)
    tolerance = FRACTION * abs(predicted - base)
    return Verdict(text, predicted, measured, prediction_if(claimed), tolerance, rivals)


def share_of_jitter(part) -> float:
    """The largest share of the jitter in the mean loss, in the second half."""
    return float(1 - late(part.flow_still_loss) / late(part.flow_loss))


def _sgd(name, data, part):
    predicted, measured = float(late(part.flow_sharpness)), mean_of(late(part.sgd_sharpness))
    edge = 2 / float(data.rate)
    rows = [_batch_sharpness(name, part, edge)]
    if not np.isfinite(predicted):
        return [*rows, Verdict(f"{name}: sharpness", edge, measured, "observation")]
    claimed = share_of_jitter(part) <= MAX_SHARE and half_of(data) >= period_of(data)
    trace = edge - float(part.trace) / part.batch.item()
    others = [r for r in ((TRACE, trace), (SINGLE, single(data, part))) if np.isfinite(r[1])]
    text = f"{name}: sharpness"
    rows.append(_claim(text, edge, predicted, measured, "gap", claimed, *others))
    base = float(late(part.flow_still_loss))
    loss, mean_loss = mean_of(late(part.sgd_loss)), float(late(part.flow_loss))
    rows.append(_claim(f"{name}: mean loss", base, mean_loss, loss, "jitter", claimed))
    for layer in layers_of(data):
        central = late(data.ratio.sel(how=CENTRAL).isel(network=0, layer=layer))
        flow, sgd = (late(part[k].isel(layer=layer)) for k in ("flow_ratio", "sgd_ratio"))
        text = f"{name}: PR of layer {layer + 1}"
        rows.append(_claim(text, float(central), float(flow), mean_of(sgd), "noise", claimed))
    return rows


def _batch_sharpness(name, part, edge):
    """Whether batch sharpness is at the edge, as for long trainings."""
    measured = mean_of(late(part.batch_sharpness))
    return Verdict(f"{name}: batch sharpness", edge, measured, "contrast", EDGE * edge)


def single(data, part) -> float:
    """The sharpness of one direction whose oscillation is that of descent; nan if it has none."""
    moments = late(data.single.isel(network=0)).values
    if not np.isfinite(moments).all():
        return float("nan")
    oscillation, gradient, curvature = (float(m) for m in moments)
    batch = part.batch.item()
    return float(edge_sharpness(float(data.rate), oscillation, gradient / batch, curvature / batch))


def tables(results: xr.Dataset) -> list[Table]:
    """The distances of descent, and the shares of the gap that are explained."""
    return [_distances(results), _gaps(results)]


def _distances(results):
    rows = []
    for name, data in settings_of(results, "case"):
        central, flow = (
            mean_of(late(data[f"distance_{h}"]).values) for h in ("central", "gradient")
        )
        sizes = str(int(data.parameters)), f"{2 / float(data.rate):.2f}"
        times = f"{period_of(data):.0f}", f"{onset_of(data):.0f}"
        unstable = str(int(data.unstable.max()))
        rows.append((name, *sizes, unstable, f"{central}", f"{flow}", *times))
    headings = ("case", "parameters", "2 / rate", "directions at the edge")
    more = ("distance to the central flow", "to the gradient flow", "period", "onset")
    return Table("Descent: distances of its mean weights", headings + more, rows)


def _gaps(results):
    rows = []
    for name, data in settings_of(results, "case"):
        edge = 2 / float(data.rate)
        for batch in batches_of(data):
            part = data.sel(batch=batch)
            gap = -mean_of(late(part.sgd_sharpness)) + edge
            flow = edge - float(late(part.flow_sharpness))
            rivals = edge - single(data, part), float(part.trace) / batch
            batches = mean_of(late(part.batch_sharpness))
            theory = float(late(part.flow_batch_sharpness))
            numbers = (f"{gap}", *(f"{x:.2f}" for x in (flow, *rivals)), f"{batches}")
            rows.append((name, str(batch), f"{edge:.2f}", *numbers, f"{theory:.2f}"))
            rows[-1] += (f"{share_of_jitter(part):.2f}",)
    headings = ("case", "B", "2 / rate", "gap", "flow", SINGLE, "Tr / B", "batch sharpness")
    more = ("by theory", "jitter / mean loss")
    return Table("SGD: the gap of the sharpness to 2 / rate", headings + more, rows)


def relative_gap(data, part) -> Estimate:
    """The gap over 2 / rate."""
    return -mean_of(late(part.sgd_sharpness)) * (float(data.rate) / 2) + 1
