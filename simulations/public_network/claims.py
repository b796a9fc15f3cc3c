"""What is claimed of label noise on public networks, where, and with which tolerance."""

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import (
    Table,
    Verdict,
    prediction_if,
    rivals_of_effect,
    settings_of,
)

TITLE = "Label noise on public networks that were trained on GPUs"
LEAD = (
    "A public ResNet with frozen batch norm starts at zero loss on its own outputs for some "
    "photographs of CIFAR-10 and continues by SGD with label noise. The participation ratio (PR) "
    "of the pooled output of every block, Tr H and the loss are compared with theory.",
    "Theory: the mean of the weights follows minus the mean gradient under Gaussian jitter, whose "
    "covariance S is that of label noise to the next order in the rate. PR and Tr H are taken "
    "after a short descent without noise, in theory also from jitter about the mean. Nothing is "
    "fitted. "
    "'smooth': every relu of the network is replaced by its mean over jitter of 0.3 standard "
    "deviations of its input.",
    "Theory's own error e is u + |1 - E L / (Tr(H S) / 2)|: what sampled residuals add to the "
    "noise, and how much the loss under the jitter differs from its quadratic form. Changes are "
    "claimed to max(5%, e) if e is at most 20%; of one layer, that share of the root mean square "
    "over layers.",
)
LEAST, LARGEST = 0.05, 0.2  # tolerance as a share of the change; error beyond which none is claimed
AUTOGRAD, BY_DEPTH = "gradient of Tr H by autograd", "Tr H / depth"
LAYERS = 20  # of the network whose Tr H would be divided by its depth


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """The speeds of all layers together and of Tr H, each layer, the loss, and the controls."""
    rows = []
    for name, data in settings_of(results, "case"):
        if paths_of(data, "sgd").sizes["path"]:
            rows += [*_together(data, name), *_layers(data, name), *_loss(data, name)]
        rows += _controls(data)
    return rows


def paths_of(data: xr.Dataset, what: str) -> xr.Dataset:
    """The paths of a kind that this case has: theory, sgd, isotropic or diagonal."""
    chosen = [p for p in data.path.values if p.startswith(f"{what} ")]
    some = data.sel(path=chosen)
    return some.isel(path=np.flatnonzero(np.isfinite(some.trace.isel(watch=0).values)))


def own_error(data: xr.Dataset) -> float:
    """u, plus the relative difference of the mean loss and its quadratic form."""
    theory = paths_of(data, "theory").isel(watch=slice(1, None))
    curved = abs(1 - (theory.loss / theory.linear_loss).mean())
    return float(theory.amplification.mean() + curved)


def changes(paths: xr.Dataset) -> np.ndarray:
    """Relative changes of each PR and of Tr H since the start, (path, layer + 1, watch)."""
    ratio = paths.ratio.transpose("path", "layer", "watch").values
    trace = paths.trace.transpose("path", "watch").values[:, None]
    values = np.concatenate([ratio, trace], 1)
    return values[:, np.isfinite(values[0, :, 0])] / values[:, np.isfinite(values[0, :, 0]), :1] - 1


def slopes(data: xr.Dataset) -> np.ndarray:
    """Relative changes in a step that the gradient of autograd gives, (layer + 1,)."""
    first = paths_of(data, "theory").isel(path=0)
    numbers = np.append(first.slope_ratio / first.ratio[:, 0], first.slope_trace / first.trace[0])
    return numbers[np.isfinite(numbers)]


def speeds(measured: np.ndarray, predicted: np.ndarray) -> Estimate:
    """The factor between increments, sum m p / sum p^2, of paths (path, layer, watch).

    Its error is that over paths, or for one path that of its increments, which are independent.
    The error of the prediction is that over its own paths, from their draws of jitter.
    """
    p = predicted.mean(0)

    def factor(m, p):
        return np.sum(m * p) / np.sum(p * p)

    values = np.asarray([factor(m[:, -1], p[:, -1]) for m in measured])
    if len(values) > 1:
        error = values.std(ddof=1) / len(values) ** 0.5
    else:
        steps = np.diff(measured[0], axis=1) - values[0] * np.diff(p, axis=1)
        parts = np.sum(steps * p[:, -1:], 0) / np.sum(p[:, -1] ** 2)
        error = parts.std(ddof=1) * len(parts) ** 0.5
    between = np.asarray([factor(q[:, -1], p[:, -1]) for q in predicted])
    drawn = between.std(ddof=1) / len(between) ** 0.5 if len(between) > 1 else 0.0
    return Estimate(values.mean(), np.hypot(error, drawn))


def _together(data, name):
    theory, measured = (changes(paths_of(data, what)) for what in ("theory", "sgd"))
    error, steps = own_error(data), float(data.step.isel(path=0, watch=-1))
    kind, allowed = prediction_if(error <= LARGEST), max(LEAST, error)
    rows = []
    parts = {"PR of all layers": slice(None, -1), "Tr H": slice(-1, None)}
    for label, part in parts.items():
        p = theory.mean(0)[part, -1]
        autograd = float(np.sum(slopes(data)[part] * steps * p) / np.sum(p * p))
        rivals = rivals_of_effect(
            lambda f: f, "kappa", (AUTOGRAD, autograd), (BY_DEPTH, 1 / LAYERS)
        )
        if "smooth" in name:  # where the gradient of autograd is right to first order
            rivals = tuple(rival for rival in rivals if rival[0] != AUTOGRAD)
        estimate = speeds(measured[:, part], theory[:, part])
        rows.append(
            Verdict(f"{name}: {label}, change / predicted", 1.0, estimate, kind, allowed, rivals)
        )
    return rows


def _layers(data, name):
    theory, measured = (changes(paths_of(data, what))[..., -1] for what in ("theory", "sgd"))
    error = own_error(data)
    kind = prediction_if(error <= LARGEST and len(measured) > 1)
    size = float(np.sqrt(np.mean(theory.mean(0)[:-1] ** 2)))
    allowed = max(LEAST, error) * size
    rows = []
    for k in range(theory.shape[1] - 1):
        drawn = theory[:, k].std(ddof=1) / len(theory) ** 0.5 if len(theory) > 1 else 0.0
        spread = measured[:, k].std(ddof=1) / len(measured) ** 0.5 if len(measured) > 1 else np.nan
        value = Estimate(100 * measured[:, k].mean(), 100 * np.hypot(spread, drawn))
        predicted = 100 * theory[:, k].mean()
        label = f"block {k + 1}" if k < theory.shape[1] - 2 else "outputs"
        rivals = rivals_of_effect(predicted, "kappa")
        row = Verdict(
            f"{name}: change of PR in %, {label}", predicted, value, kind, 100 * allowed, rivals
        )
        rows += [row] if len(measured) > 1 else []
    return rows


def _loss(data, name):
    theory, measured = paths_of(data, "theory"), paths_of(data, "sgd")
    half = slice(data.sizes["watch"] // 2 + 1, None)
    expected = theory.loss.isel(watch=half).mean()
    values = (measured.loss.isel(watch=half).mean("watch") / expected).values
    error = own_error(data)
    spread = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    kind = prediction_if(error <= LARGEST) if len(values) > 1 else "observation"
    rivals = rivals_of_effect(lambda f: f, "kappa")
    estimate = Estimate(values.mean(), spread)
    text = f"{name}: mean loss of the second half / predicted"
    return [Verdict(text, 1.0, estimate, kind, max(LEAST, error), rivals)]


def _controls(data):
    theory, rows = changes(paths_of(data, "theory")), []
    for shape in ("isotropic", "diagonal"):
        paths = paths_of(data, shape)
        if not paths.sizes["path"]:
            continue
        measured = changes(paths)
        for label, part in {"PR of all layers": slice(None, -1), "Tr H": slice(-1, None)}.items():
            text = f"smooth, {shape} of equal trace: {label}, change / predicted for label noise"
            estimate = speeds(measured[:, part], theory[:, part])
            rows.append(Verdict(text, 1.0, estimate, "contrast", max(LEAST, own_error(data))))
    return rows


def tables(results: xr.Dataset) -> list[Table]:
    """The small parameters of each case, and the speeds of autograd's gradient."""
    rows = []
    for name, data in settings_of(results, "case"):
        theory = paths_of(data, "theory")
        p = changes(theory).mean(0)[:, -1]
        line = slopes(data) * float(data.step.isel(path=0, watch=-1))
        rows.append(
            (
                name,
                f"{float(theory.amplification.mean()):.3f}",
                f"{float(theory.sharpness.mean()):.2f}",
                f"{own_error(data):.3f}",
                f"{100 * p[-1]:+.2f}",
                f"{100 * line[-1]:+.2f}",
            )
        )
    headings = ("case", "u", "rate lambda_max", "own error", "Tr H, theory", "Tr H, autograd")
    caption = "Small parameters, and the predicted change of Tr H in % at the end"
    return [Table(caption, headings, rows)]
