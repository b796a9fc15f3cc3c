"""What the compression study claims: predicted against measured, and where theory applies."""

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate, nanmean
from sgdnoise.lab import Table, Verdict

__all__ = ["LEAD", "TITLE", "diverged", "in_regime", "values", "verdicts"]

TITLE = "Compression and expansion: dimension follows the loss that the noise makes effective"
LEAD = (
    "A two-layer tanh network learns digits by gradient descent and goes on from the very same "
    "weights under noise of several shapes.",
    "Theory puts one loss in the place of label noise, L + κ Tr H with κ = rate label_noise² / "
    "(4 batch), and nothing is fitted: the prediction is noiseless descent on it.",
    "Whether the dimension of the hidden layer falls or rises is then decided by that loss, not by "
    "there being noise: where it falls in one task it rises in another, under the same kind of "
    "noise.",
)


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """What is claimed, and whether these results bear it out."""
    return [v for name in results.setting.values for v in _claims(_of(results, name), name)]


def _of(results, name) -> xr.Dataset:
    """One setting, with the modes that were run in it."""
    part = results.sel(setting=name)
    return part.isel(mode=np.flatnonzero(part.lasted.notnull().all("seed")))


def _claims(part, name) -> list[Verdict]:
    """The claims of one setting; the error of each is that of the difference paired by seed."""
    regime, allowed = in_regime(part), float(part.allowed)
    last, middle = part.sizes["watch"] - 1, part.sizes["watch"] // 2
    steps = part.step.values
    start = part.isel(watch=0).expand_dims("watch")

    def claim(text, mode, other, allowed, what="dimension", at=last, claimed=regime):
        return _paired(f"{name}: {text}", part, mode, other, allowed, what, at, claimed)

    half, end = (f"after {steps[at]:,} steps" for at in (middle, last))
    found = [
        claim("no noise, PR stays", "none", start, 0.02, claimed=True),
        claim(f"label noise, PR {half}", "label", "prediction", allowed, at=middle),
        claim(f"label noise, PR {end}", "label", "prediction", allowed),
        claim(f"label noise, Tr H {end}", "label", "prediction", allowed, what="trace"),
        claim("Gaussian of same covariance, PR as label noise", "gaussian", "label", 0.05),
        claim("diagonal only, PR", "diagonal", "prediction", allowed, claimed=False),
        claim("isotropic of same trace, PR", "isotropic", "prediction", allowed, claimed=False),
    ]
    return [verdict for verdict in found if verdict is not None]


def _paired(text, part, mode, other, allowed, what, at, claimed) -> Verdict | None:
    """A mode against what it should be: another mode, or a Dataset of the start."""
    wanted = [mode] if not isinstance(other, str) else [mode, other]
    if not set(wanted) <= set(part.mode.values.tolist()):
        return None
    seen = part[what].sel(mode=mode).isel(watch=at).values
    if isinstance(other, str):
        due = part[what].sel(mode=other).isel(watch=at).values
    else:
        due = other[what].sel(mode=mode).isel(watch=0).values
    fine = np.isfinite(seen) & np.isfinite(due)
    difference = nanmean((seen - due)[fine])
    expected = float(due[fine].mean()) if fine.any() else np.nan
    measured = Estimate(expected + float(difference.value), float(difference.stderr))
    return Verdict(text, expected, measured, claimed, allowed * abs(expected))


def in_regime(part) -> bool:
    """Whether theory claims to hold: u <= 0.12 and rate lambda_max <= 0.3 at the start."""
    u, steep = float(part.amplification.max()), float((part.rate * part.sharpness).max())
    return u <= 0.12 and steep <= 0.3


def diverged(results) -> list[str]:
    """A sentence for each chain that did not stay finite, with its step and seed."""
    found = results.lasted.where(results.lasted < results.steps).to_series().dropna()
    return [
        f"{setting}: {mode} of seed {seed} diverged at step {int(step) + 1}; it is in no average"
        for (setting, mode, seed), step in found.items()
    ]


def values(results) -> list[Table]:
    """What was watched, at the start and at the end, as text."""
    shown = {
        "PR": "dimension",
        "Tr H": "trace",
        "loss": "loss",
        "accuracy": "accuracy",
        "TwoNN": "twonn",
    }
    return [
        Table(
            f"{name}: start, then end of each mode (mean ± s.e., {results.sizes['seed']} seeds)",
            ("mode", *shown),
            _values(_of(results, name), shown.values()),
        )
        for name in results.setting.values
    ]


def _values(part, names):
    ends = [("start", part.isel(mode=0, watch=0))]
    ends += [(str(mode), part.sel(mode=mode).isel(watch=-1)) for mode in part.mode.values]
    return [(mode, *(_pm(nanmean(end[name].values)) for name in names)) for mode, end in ends]


def _pm(found: Estimate) -> str:
    return f"{float(found.value):.4g} ± {float(found.stderr):.2g}"
