"""What is claimed of the moment closure, where, and with which tolerance."""

import numpy as np
import xarray as xr

from sgdnoise.lab import Table, Verdict, mean_of, prediction_if, rivals_of_effect, settings_of

TITLE = "The moment closure: mean and covariance of SGD, far from a minimum"
LEAD = (
    "Means over runs of tanh networks that learn a noisy teacher from a random start are compared "
    "with two equations for the mean m and covariance S of theta, without a fitted number.",
    "closure: E f = f(m) + Tr(f'' S) / 2, with the Hessian and the noise averaged over S; plain: "
    "both taken at m; middle: f(m) alone; descent: no noise; rank r: the plain closure with a "
    "covariance of rank r.",
    "The regime is where two effects, of which the squares are neglected, are small.  The closure "
    "error, the fraction by which the Hessian averaged over the covariance differs from that at "
    "the mean, is at most 0.2.  The feedback, the fraction by which the covariance increases the "
    "noise, is at most 0.12, as for the slow flow.  The trials behind these numbers are in "
    "trials.md.",
    "The tolerance is the theory's own error: the largest effect of the noise so far times the "
    "largest closure error and feedback so far, and what the second order leaves out of the mean "
    "under a normal law.  It is at most 0.5% of the participation ratio and 1% of the loss.  A "
    "number is claimed where half of the effect of the noise is beyond the tolerance.",
    "all modes: in the wide network the closure averages over 30 of 506 eigenvectors; the same "
    "with averages over all of them, by normal draws, is claimed to the same tolerance.",
)
CONTROL, ALL_MODES = "no noise", "all modes"
MAX_CLOSURE_ERROR, MAX_FEEDBACK = 0.2, 0.12
TOLERANCE = {"ratio": 0.005, "loss": 0.01}  # largest fractions of the value
MOMENTS = {"a third": 1, "two thirds": 3, "the end": 5}  # indices of the recorded moments


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Ratio and loss at three moments of every case with noise."""
    rows: list[Verdict] = []
    for name, data in settings_of(results, "case"):
        rows += [] if name == CONTROL else _claims(data, name)
    return rows


def in_regime(data: xr.Dataset) -> bool:
    """Whether both neglected effects stay below their bounds at all moments of this part."""
    error, feedback = (float(abs(data[name]).max()) for name in ("strain", "feedback"))
    return error <= MAX_CLOSURE_ERROR and feedback <= MAX_FEEDBACK


def _claims(data, name):
    rows = []
    for moment, watch in MOMENTS.items():
        at, inside = data.isel(watch=watch), in_regime(data.isel(watch=slice(watch + 1)))
        for label, key in (("PR", "ratio"), ("loss", "loss")):
            predicted = float(at.sel(how="closure")[f"{key}_by"])
            tolerance, rivals = own_error(data, key, watch), _rivals(at, key)
            text, kind = f"{name}: {label} at {moment}", prediction_if(inside)
            if inside and abs(_effect(at, key)) / 2 <= tolerance:
                kind = "observation"  # half of the noise would hold too, whatever is measured
            rows.append(Verdict(text, predicted, mean_of(at[key]), kind, tolerance, rivals))
            if key == "loss" and has_all_modes(data):  # which the PR does not depend on
                average = float(at.sel(how=ALL_MODES)[f"{key}_by"])
                text, few = f"{text}, {ALL_MODES}", (("averages over 30 modes", predicted),)
                measured = mean_of(at[key])
                rows.append(Verdict(text, average, measured, kind, tolerance, (*rivals, *few)))
    return rows


def has_all_modes(data: xr.Dataset) -> bool:
    """Whether the closure was also averaged over all eigenvectors of the covariance."""
    return ALL_MODES in data.how and bool(data.loss_by.sel(how=ALL_MODES).notnull().all())


def own_error(data: xr.Dataset, key: str, watch: int) -> float:
    """The theory's own error of the ratio or the loss at a moment, at most the fraction claimed.

    (closure error + feedback) x effect of the noise, each the largest so far, as the fraction by
    which covariance and noise may be wrong; and the remainder of the second order.
    """
    so_far, at = data.isel(watch=slice(watch + 1)), data.isel(watch=watch)
    fraction = sum(float(abs(so_far[name]).max()) for name in ("strain", "feedback"))
    error = fraction * float(abs(_effect(so_far, key)).max())
    error += abs(float(at[f"{key}_remainder"]))
    return min(error, TOLERANCE[key] * abs(float(at.sel(how="closure")[f"{key}_by"])))


def _effect(data, key):
    """What the noise changes by the closure."""
    values = data[f"{key}_by"]
    return values.sel(how="closure") - values.sel(how="descent")


def _rivals(at, key):
    """Other strengths of the noise, to first order in it; and the loss f(m) of the mean alone."""
    names = "descent", "middle", "closure", "plain"
    descent, middle, closure, plain = (float(at.sel(how=how)[f"{key}_by"]) for how in names)
    others = ("f of the mean alone", middle), ("Hessian and noise at the mean", plain)
    return rivals_of_effect(lambda factor: descent + factor * (closure - descent), "noise", *others)


def tables(results: xr.Dataset) -> list[Table]:
    """The deviation of each method at the last moment in regime, and what low rank costs."""
    return [_methods(results), _ranks(results)]


def last_in_regime(data: xr.Dataset) -> int:
    """Index of the last moment in regime, or of the first moment."""
    inside = [k for k in range(data.sizes["watch"]) if in_regime(data.isel(watch=slice(k + 1)))]
    return inside[-1] if inside else 0


def _methods(results):
    methods, rows = ("closure", "plain", "middle", "descent"), []
    for name, data in settings_of(results, "case"):
        at = data.isel(watch=last_in_regime(data))
        shift = mean_of(at["shift"])
        row = [
            name,
            f"{float(at.time):.0f}",
            f"{float(at.strain):.3f}",
            f"{float(at.feedback):.3f}",
        ]
        for key in ("ratio", "loss"):
            mean = mean_of(at[key])
            deviation = 100 * (at[f"{key}_by"] / mean.value - 1)
            row += [f"{float(deviation.sel(how=m)):+.2f}" for m in methods]
            row += [f"{100 * mean.stderr / mean.value:.2f}"]
        trace = float(at.spread / at.spread_runs) if name != CONTROL else 1.0
        rows.append((*row, f"{shift.value:.2f} ± {shift.stderr:.2f}", f"{trace:.3f}"))
    headings = ["case", "time", "closure error", "feedback"]
    for key in ("PR", "loss"):
        headings += [*(f"{key} by {m}, %" for m in methods), f"{key} s.e. %"]
    caption = (
        "Deviation of each method from the runs at the last moment in regime; the shift of the "
        "mean theta from descent over that of the closure, and Tr S over that of the runs"
    )
    return Table(caption, (*headings, "shift of the mean", "Tr S"), rows)


def deviation_by_rank(data: xr.Dataset, key: str, watch: int) -> dict[int, float]:
    """Deviation of each rank from the dense plain closure at a moment, in per cent."""
    at, deviations = data[f"{key}_by"].isel(watch=watch), {}
    for method in (m for m in at.how.values.tolist() if m.startswith("rank")):
        value = 100 * float(at.sel(how=method) / at.sel(how="plain") - 1)
        if np.isfinite(value):
            deviations[int(method.split()[1])] = value
    return deviations


def _ranks(results):
    rows = []
    for name, data in settings_of(results, "case"):
        watch = last_in_regime(data)
        ratio, loss = (deviation_by_rank(data, key, watch) for key in ("ratio", "loss"))
        size = str(int(data.parameters))
        rows += [(name, size, str(r), f"{ratio[r]:+.3f}", f"{loss[r]:+.3f}") for r in ratio]
    caption = "What a covariance of low rank costs: deviation from the dense plain closure, then"
    headings = ("case", "parameters", "rank", "PR deviation, %", "loss deviation, %")
    return Table(caption, headings, rows)
