"""What is claimed of label noise on small networks of relus, where, and with which tolerance."""

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import Table, Verdict, prediction_if, rivals_of_effect, settings_of

TITLE = "Label noise on small networks of relus"
LEAD = (
    "A perceptron of relus that has learned digits starts at zero loss on its own outputs for some "
    "of them and continues by SGD with label noise. The participation ratio (PR) of its hidden "
    "layers, Tr H and the loss are compared with theory.",
    "Theory: the mean of the weights follows minus the mean gradient under Gaussian jitter, whose "
    "covariance S is that of label noise to the next order in the rate. Nothing is fitted. The "
    "rival is descent on kappa Tr H with the gradient of autograd, which does not see that J jumps "
    "where a unit switches on.",
    "Changes are claimed to 10%, which was set before any run, where theory's own error e is at "
    "most 10%: e is u + |1 - E L / (Tr(H S) / 2)|, what sampled residuals add to the noise, and "
    "how much the loss under the jitter differs from its quadratic form. Of one layer, 10% of "
    "the root mean square over layers.",
)
TOLERANCE, LARGEST = 0.1, 0.1  # of a change; error of theory beyond which none is claimed
AUTOGRAD = "gradient of Tr H by autograd"


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """The speeds of Tr H and of all layers together, each layer, and the loss, of each noise."""
    rows = []
    for noise, data in settings_of(results, "label_noise"):
        name = f"noise {noise:g}"
        rows += [*_together(data, name), *_layers(data, name), _loss(data, name)]
    return rows


def changes(data: xr.Dataset, what: str) -> np.ndarray:
    """Relative changes since the start, of theory, sgd or autograd.  (k, quantity, watch)"""
    paths = [path for path in data.path.values if path.startswith(f"{what} ")]
    values = data.value.sel(path=paths).transpose("path", "network", "quantity", "watch").values
    flat = values.reshape(-1, *values.shape[2:])
    flat = flat[np.isfinite(flat).all((1, 2))]
    return flat / flat[:, :, :1] - 1


def own_error(data: xr.Dataset) -> float:
    """u, plus the relative difference of the mean loss and its quadratic form."""
    at = data.sel(path=[p for p in data.path.values if p.startswith("theory ")])
    at = at.isel(watch=slice(1, None))
    return float(at.amplification.mean() + abs(1 - (at.loss / at.linear_loss).mean()))


def speed(measured: np.ndarray, predicted: np.ndarray) -> Estimate:
    """The factor sum m p / sum p^2 between changes of quantities, (k, quantity) each.

    Its error is that over networks, and over the paths of theory, which have their own draws.
    """
    p = predicted.mean(0)
    values, between = (rows @ p / (p @ p) for rows in (measured, predicted))
    return Estimate(float(values.mean()), _error(values, between), len(values) - 1)


def _error(values, between) -> float:
    parts = [v.std(ddof=1) / len(v) ** 0.5 for v in (values, between)]
    return float(np.hypot(*parts))


def _together(data, name):
    theory, measured = (changes(data, what)[..., -1] for what in ("theory", "sgd"))
    autograd, rows = changes(data, "autograd")[0, :, -1], []
    kind = prediction_if(own_error(data) <= LARGEST)
    for label, part in (("Tr H", slice(-1, None)), ("PR of all layers", slice(-1))):
        p = theory.mean(0)[part]
        rival = float(autograd[part] @ p / (p @ p))
        others = ((AUTOGRAD, rival),) if label == "Tr H" else ()
        rivals = rivals_of_effect(lambda f: f, "kappa", *others)
        estimate = speed(measured[:, part], theory[:, part])
        text = f"{name}: {label}, change / predicted"
        rows.append(Verdict(text, 1.0, estimate, kind, TOLERANCE, rivals))
        text = f"{name}: {label}, change / predicted by autograd"
        by_autograd = speed(measured[:, part], autograd[None, part].repeat(2, 0))
        rows.append(Verdict(text, 1.0, by_autograd, "contrast", TOLERANCE))
    return rows


def _layers(data, name):
    theory, measured = (100 * changes(data, what)[..., -1] for what in ("theory", "sgd"))
    size = float(np.sqrt(np.mean(theory.mean(0)[:-1] ** 2)))
    kind, rows = prediction_if(own_error(data) <= LARGEST), []
    for k in range(theory.shape[1] - 1):
        predicted = float(theory[:, k].mean())
        error = _error(measured[:, k], theory[:, k])
        value = Estimate(float(measured[:, k].mean()), error, len(measured) - 1)
        text = f"{name}: change of PR in %, {data.quantity.values[k]}"
        rivals = rivals_of_effect(predicted, "kappa")
        rows.append(Verdict(text, predicted, value, kind, TOLERANCE * size, rivals))
    return rows


def _loss(data, name):
    """Paths of SGD have the mean loss of all their networks."""
    half = slice(data.sizes["watch"] // 2 + 1, None)
    theory, measured = (
        data.loss.sel(path=[p for p in data.path.values if p.startswith(f"{what} ")])
        for what in ("theory", "sgd")
    )
    expected = float(theory.isel(watch=half).mean())
    values = measured.isel(watch=half).values.ravel() / expected
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    kind = prediction_if(own_error(data) <= LARGEST) if len(values) > 1 else "observation"
    text = f"{name}: mean loss of the second half / predicted"
    rivals = rivals_of_effect(lambda f: f, "kappa")
    return Verdict(text, 1.0, Estimate(values.mean(), error), kind, TOLERANCE, rivals)


def tables(results: xr.Dataset) -> list[Table]:
    """The small parameters of each noise, and changes by theory, SGD and autograd."""
    rows = []
    for noise, data in settings_of(results, "label_noise"):
        for watch in range(1, data.sizes["watch"]):
            steps = int(data.step.isel(path=0, watch=watch))
            cells = []
            for k in range(data.sizes["quantity"]):
                for what in ("theory", "sgd", "autograd"):
                    cells.append(f"{100 * changes(data, what)[:, k, watch].mean():+.2f}")
            u, error = float(data.amplification.mean()), own_error(data)
            rows.append((f"{noise:g}", str(steps), f"{u:.3f}", f"{error:.3f}", *cells))
    names = [
        f"{quantity}, {what}"
        for quantity in results.quantity.values
        for what in ("theory", "SGD", "autograd")
    ]
    headings = ("noise", "steps", "u", "own error", *names)
    return [Table("Changes since the start in %", headings, rows)]
