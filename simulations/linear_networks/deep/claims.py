"""What is claimed of deeper networks and of other noises, its regime, and its tolerance."""

import numpy as np
import xarray as xr

from sgdnoise.lab import Table, Verdict, mean_of, prediction_if
from simulations.linear_networks._claims import at_fraction, of_other_speeds, relative

TITLE = "Deeper: which layer label noise compresses, at 2, 3 and 4 layers, and under other noises"
LEAD = (
    "Means over runs of the same start; every prediction is the solution of an ordinary "
    "differential equation on the manifold of minima, without a fitted number.",
    "base: descent on κ Tr H; refined: with the jitter of discrete steps, and where examples are "
    "sampled with the residuals that it makes. For squared loss all hidden layers are equally "
    "compressed in the stationary state.",
    "In regime: amplification u ≤ 0.3 and rate λ_max ≤ 1.2, where the refined flow is claimed to "
    "3%; for u ≤ 0.12 and rate λ_max ≤ 0.3 the base flow is claimed to 5%. These tolerances are "
    "those of earlier trials with two layers. Separable classes have no minimum: for contrast.",
)
CONTROLS = ("no label noise", "first layer alone")
CONTRASTS = ("separable", "separable, quiet")  # no minimum at finite weights
UNCHANGED = 0.02  # relative shift of the dimension that jitter of a single layer may cause
INNER_REGIME, REGIME = (0.12, 0.3), (0.3, 1.2)  # amplification and sharpness
REFINED, BASE = 0.03, 0.05  # relative tolerances of the flows


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Dimension of each layer and imbalances of every setting; controls must not change."""
    judged: list[Verdict] = []
    for name in results.setting.values.tolist():
        setting = with_layers(results.sel(setting=name))
        if name in CONTROLS or name in CONTRASTS:
            judged += _unchanged(setting, name, name in CONTROLS)
        else:
            judged += _claims(setting, name)
    return judged


def with_layers(setting: xr.Dataset) -> xr.Dataset:
    """A setting with the hidden layers that its network has."""
    return setting.isel(layer=slice(int(setting.depth) - 1))


def regime(setting: xr.Dataset, border: tuple[float, float] = REGIME) -> bool:
    """Whether theory claims to hold: amplification and sharpness within the border."""
    return float(setting.amplification) <= border[0] and float(setting.sharpness) <= border[1]


def _unchanged(setting, name, claimed):
    later = setting.ratio.isel(watch=slice(setting.sizes["watch"] // 2, None)).mean("watch")
    text = f"{name}: PR {{}} of the second half over its start"
    return [
        Verdict(text.format(k), 1.0, mean_of(values), prediction_if(claimed), UNCHANGED)
        for k, values in _by_layer(later / setting.ratio_start)
    ]


def _claims(setting, name):
    end, early = at_fraction(setting, 1), f"{name}: PR {{}} at a quarter"
    claimed, inner = regime(setting), regime(setting, INNER_REGIME)
    return [
        *_ratios(setting, 0.25, f"{early}, refined", "refined", claimed, REFINED),
        *_ratios(setting, 1, f"{name}: PR {{}} at the end, refined", "refined", claimed, REFINED),
        *_ratios(setting, 0.25, f"{early}, base", "base", inner, BASE),
        *_imbalances(setting, end, name, claimed),
        *_last_over_first(end, name, claimed),
    ]


def _ratios(setting, fraction, text, flow, claimed, tolerance):
    at, paths = at_fraction(setting, fraction), setting.ratio_flow.sel(flow=flow)
    predicted = at.ratio_flow.sel(flow=flow).values.tolist()
    starts = np.atleast_1d(setting.ratio_start.values)
    rivals = [
        of_other_speeds(paths.isel(layer=layer), float(starts[layer]), fraction)
        for layer in range(len(predicted))
    ]
    return [
        relative(text.format(k), mean_of(values), p, claimed, tolerance, others)
        for (k, values), p, others in zip(_by_layer(at.ratio), predicted, rivals, strict=True)
    ]


def _imbalances(setting, at, name, claimed):
    """The change of Tr D of each two neighbours, over the largest that is predicted."""
    predicted = at.imbalance_flow.sel(flow="refined") - setting.imbalance_start
    largest = float(abs(predicted).max())
    measured = _by_layer((at.imbalance - setting.imbalance_start) / largest)
    text = f"{name}: change of Tr D {{}}, over the largest"
    return [
        Verdict(text.format(k), p, mean_of(values), prediction_if(claimed), 2 * REFINED)
        for (k, values), p in zip(measured, (predicted / largest).values.tolist(), strict=True)
    ]


def _last_over_first(at, name, claimed):
    """The last hidden layer over the first; in the stationary state they are equal."""
    if at.sizes["layer"] < 2:
        return []
    predicted = at.ratio_flow.sel(flow="refined").values
    measured = mean_of(at.ratio.isel(layer=-1) / at.ratio.isel(layer=0))
    text = f"{name}: PR of the last hidden layer over the first, at the end"
    return [
        Verdict(
            text, float(predicted[-1] / predicted[0]), measured, prediction_if(claimed), REFINED
        )
    ]


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
                f"{float(setting.amplification):.3f}",
                f"{float(setting.sharpness):.2f}",
                _list(setting.ratio_start),
                _list(setting.ratio.isel(watch=-1).mean("run")),
                "-" if np.isnan(setting.ratio_rest) else f"{float(setting.ratio_rest):.2f}",
                *("-" if name in constant else f"{float(off.sel(flow=f)):.2f}" for f in flows),
                f"{100 * float(error.max()):.2f}",
            )
        )
    headings = ("setting", "u", "rate λ_max", "PRs at the start", "at the end", "stationary")
    deviations = tuple(f"{f} off by %" for f in flows)
    caption = "PR of the hidden layers: largest deviation of each flow in any layer at any time"
    return [Table(caption, (*headings, *deviations, "s.e. %"), rows)]


def _list(values):
    return ", ".join(f"{value:.2f}" for value in values.values)
