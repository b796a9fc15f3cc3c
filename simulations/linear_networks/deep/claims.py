"""What is claimed of deeper networks and of other noises, its regime, and its tolerance."""

import numpy as np
import xarray as xr

from sgdnoise.lab import Table, Verdict, mean_of, prediction_if
from sgdnoise.theory import FlowLimits
from simulations._linear_networks import (
    PARAMETERS,
    allowed_or_own,
    parameter_cells,
    small_parameters,
)
from simulations.linear_networks._claims import (
    at_fraction,
    depends_on_speed,
    excess,
    of_other_speeds,
    relative,
    sensitive_fraction,
    speed,
)

TITLE = "Deeper: which layer label noise compresses, at 2, 3 and 4 layers, and under other noises"
LEAD = (
    "Means over runs of the same start; every prediction is the solution of an ordinary "
    "differential equation on the manifold of minima, without a fitted number.",
    "base: descent on κ Tr H; refined: with the jitter of discrete steps, and where examples are "
    "sampled with the residuals that it makes. For squared loss all hidden layers are equally "
    "compressed in the stationary state.",
    "In regime: amplification u ≤ 0.3, rate λ_max ≤ 1.2, slow rate over the least curvature (time "
    "scales) ≤ 0.1 and share of the jitter ≤ 0.05, where the refined flow is claimed to 3%; for "
    "u ≤ 0.12 and rate λ_max ≤ 0.3 the base flow is claimed to 5%. The speed is claimed to "
    "theory's own error, the next order. Separable classes have no minimum: for contrast.",
    "The excess loss (E L - L) / (κ Tr H) is that of the jitter on the refined flow, and claimed "
    "to theory's own error: E L is the mean loss after a quarter of the time. Reshuffled examples "
    "do not have the feedback of independent ones: u is then allowed as well.",
)
CONTROLS = ("no label noise", "first layer alone")
NOISY = "three layers"  # the setting of the controls, with noise in all layers
CONTRASTS = ("separable", "separable, quiet")  # no minimum at finite weights
UNCHANGED = 0.02  # relative shift of the dimension that jitter of a single layer may cause
INNER_REGIME, REGIME = FlowLimits(), FlowLimits(amplification=0.3, sharpness=1.2)
REFINED, BASE = 0.03, 0.05  # relative tolerances of the flows


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Dimension of each layer and imbalances of every setting; controls must not change."""
    judged: list[Verdict] = []
    for name in results.setting.values.tolist():
        setting = with_layers(results.sel(setting=name))
        if name in CONTROLS or name in CONTRASTS:
            judged += _unchanged(results, setting, name)
        else:
            judged += _claims(setting, name)
    return judged


def with_layers(setting: xr.Dataset) -> xr.Dataset:
    """A setting with the hidden layers that its network has."""
    return setting.isel(layer=slice(int(setting.depth) - 1))


def regime(setting: xr.Dataset, limits: FlowLimits = REGIME) -> bool:
    """Whether theory claims to hold: all small parameters within their limits."""
    return small_parameters(setting).claimed(limits)


def _unchanged(results, setting, name):
    """Controls, whose rival is the noise of all layers, and contrasts, outside of the regime."""
    later = setting.ratio.isel(watch=slice(setting.sizes["watch"] // 2, None)).mean("watch")
    text, kind = (
        f"{name}: PR {{}} of the second half over its start",
        prediction_if(name in CONTROLS),
    )
    if NOISY in results.setting.values:
        noisy = results.sel(setting=NOISY, flow="refined")
        moved = noisy.ratio_flow.isel(watch=-1) / noisy.ratio_start
    else:
        moved = setting.ratio_flow.isel(watch=-1, flow=-1) / np.nan
    return [
        Verdict(
            *(text.format(k), 1.0, mean_of(values), kind, UNCHANGED),
            (("noise in all layers", float(moved.sel(layer=k))),),
        )
        for k, values in _by_layer(later / setting.ratio_start)
    ]


def _claims(setting, name):
    end = at_fraction(setting, 1)
    claimed, inner = regime(setting), regime(setting, INNER_REGIME)
    refined, layers = allowed_or_own(setting, REFINED), setting.layer.values.tolist()
    return [
        *_ratios(setting, name, "on the way, refined", "refined", claimed, refined),
        *_ratios(setting, name, "at the end, refined", "refined", claimed, refined),
        *_ratios(setting, name, "on the way, base", "base", inner, BASE),
        *_imbalances(setting, end, name, claimed),
        *_last_over_first(setting, end, name, claimed),
        *(row for k in layers for row in speed(setting, name, "refined", claimed, k)),
        excess(setting, name, claimed, _reshuffled(setting, name)),
    ]


def _reshuffled(setting, name) -> float:
    """The size of the feedback where the refined flow has that of independent examples instead."""
    return float(setting.amplification) if name == "reshuffled" else 0.0


def _ratios(setting, name, time, flow, claimed, tolerance):
    """Each layer at the end, or on the way where its prediction depends most on kappa."""
    judged = []
    for layer, k in enumerate(setting.layer.values.tolist()):
        path = setting.ratio_flow.sel(flow=flow, layer=k)
        start = float(np.atleast_1d(setting.ratio_start.values)[layer])
        fraction = sensitive_fraction(path, start) if time.startswith("on the way") else 1.0
        measured = mean_of(at_fraction(setting, fraction).ratio.sel(layer=k))
        predicted, rivals = (
            float(at_fraction(path, fraction)),
            of_other_speeds(path, start, fraction),
        )
        text = f"{name}: PR {k} {time}"
        row = relative(text, measured, predicted, claimed, tolerance, rivals)
        judged.append(depends_on_speed(row))
    return judged


def _imbalances(setting, at, name, claimed):
    """The change of Tr D of each two neighbours, over the largest that is predicted."""
    predicted = at.imbalance_flow.sel(flow="refined") - setting.imbalance_start
    largest = float(abs(predicted).max())
    measured = _by_layer((at.imbalance - setting.imbalance_start) / largest)
    text = f"{name}: change of Tr D {{}}, over the largest"
    paths = setting.imbalance_flow.sel(flow="refined") - setting.imbalance_start
    kind = prediction_if(claimed)
    return [
        depends_on_speed(
            Verdict(
                text.format(k),
                p,
                mean_of(values),
                kind,
                2 * REFINED,
                tuple(of_other_speeds(paths.sel(layer=k) / largest, 0.0, 1)),
            )
        )
        for (k, values), p in zip(measured, (predicted / largest).values.tolist(), strict=True)
    ]


def _last_over_first(setting, at, name, claimed):
    """The last hidden layer over the first; in the stationary state they are equal."""
    if at.sizes["layer"] < 2:
        return []
    predicted = at.ratio_flow.sel(flow="refined").values
    measured = mean_of(at.ratio.isel(layer=-1) / at.ratio.isel(layer=0))
    text = f"{name}: PR of the last hidden layer over the first, at the end"
    kind, ratio = prediction_if(claimed), float(predicted[-1] / predicted[0])
    starts = setting.ratio_start.values
    rivals = (("nothing changes", float(starts[-1] / starts[0])),)  # at rest kappa has no effect
    return [Verdict(text, ratio, measured, kind, REFINED, rivals)]


def _by_layer(values):
    return [(int(k), values.sel(layer=k)) for k in values.layer.values]


def tables(results: xr.Dataset) -> list[Table]:
    """Each layer at the start, at the end and stationary, and the deviation of each flow."""
    rows, flows, constant = [], results.flow.values.tolist(), CONTROLS + CONTRASTS
    for name in results.setting.values.tolist():
        setting = with_layers(results.sel(setting=name))
        mean, runs = setting.ratio.mean("run"), setting.sizes["run"]
        off = 100 * abs(mean / setting.ratio_flow - 1).max(("watch", "layer"))
        error = setting.ratio.std("run", ddof=1) / mean / runs**0.5
        rows.append(
            (
                name,
                *parameter_cells(setting),
                _list(setting.ratio_start),
                _list(setting.ratio.isel(watch=-1).mean("run")),
                "-" if np.isnan(setting.ratio_rest) else f"{float(setting.ratio_rest):.2f}",
                *("-" if name in constant else f"{float(off.sel(flow=f)):.2f}" for f in flows),
                f"{100 * float(error.max()):.2f}",
            )
        )
    headings = ("setting", *PARAMETERS, "PRs at the start", "at the end", "stationary")
    deviations = tuple(f"{f} off by %" for f in flows)
    caption = "PR of the hidden layers: largest deviation of each flow in any layer at any time"
    return [Table(caption, (*headings, *deviations, "s.e. %"), rows)]


def _list(values):
    return ", ".join(f"{value:.2f}" for value in values.values)
