"""What is claimed of Adam and SGD under label noise, where, and with which tolerance."""

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import Table, Verdict, prediction_if, rivals_of_effect, settings_of

PENALTIES = ("Tr H", "Tr D^1/2")
TITLE = "Adam, RMSprop and SGD under label noise"
LEAD = (
    "Perceptrons that have learned digits start at zero loss on their own outputs for some of them "
    "and continue with label noise under SGD, RMSprop or Adam. The participation ratio (PR) of "
    "each hidden layer, Tr H, the sum Tr D^1/2 of the roots of the diagonal of H, and the mean "
    "loss are compared with theory, in which nothing is fitted.",
    "Theory: the mean of the weights follows -rate P times the mean gradient under the jitter of "
    "the noise, with P = 1 for SGD, and for Adam one over the root of the mean squared gradient. "
    "To first order SGD descends on Tr H, and Adam on Tr D^1/2 in the metric 1 / P.",
    "Theory's own error e is u^2 + |1 - E L / (Tr(H S) / 2)|: the next order of what sampled "
    "residuals add to the noise, and how much the loss under the jitter differs from its quadratic "
    "form. Changes are claimed to max(5%, e) if e is at most 20%; PR, which may rise and fall, to "
    "that share of the longest path of a PR in the case. Rivals of Adam: no change, half and twice "
    "the effect, and the PR that SGD is predicted to have at the same Tr H, or at its end if Tr H "
    "does not fall so far.",
    "Errors are those over the chains of the same networks, and over two paths of theory with "
    "their own draws; what is told is of these networks. Of sign descent, where the average of "
    "squared gradients has no memory, theory says nothing; its rows compare it with the prediction "
    "for Adam.",
)
LEAST, LARGEST = 0.05, 0.2  # tolerance as a share of the change; error beyond which none is claimed
AT_SAME_TRACE = "path of SGD"
HALF = "adam, half the noise"


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """PR, both penalties and the loss of each optimiser in each case, and the contrasts."""
    rows = []
    for name, case in settings_of(results, "case"):
        longest = max(path_length(optimiser) for _, optimiser in described(case))
        for optimiser, data in described(case):
            text = f"{name}, {optimiser}"
            rows += _layers(data, case, text, longest)
            rows += [_penalty(data, text, what) for what in PENALTIES]
            rows.append(_loss(data, text))
        rows += _contrasts(case, name)
    return rows


def described(case: xr.Dataset):
    """The optimisers of a case that theory describes, with their data."""
    for optimiser, data in settings_of(case, "optimiser"):
        if np.isfinite(data.theory.sel(quantity="Tr H").isel(watch=-1).values).any():
            yield optimiser, data


def percent(data: xr.Dataset, quantity: str, what: str) -> np.ndarray:
    """Changes in % since the start, (network, path or chain, watch)."""
    dims = ("network", "path" if what == "theory" else "chain", "watch")
    return 100 * data[what].sel(quantity=quantity).transpose(*dims).values


def layers_of(data: xr.Dataset) -> list[str]:
    """The layers that the network has."""
    names = [q for q in data.quantity.values.tolist() if q.startswith("PR")]
    return [q for q in names if np.isfinite(data.simulated.sel(quantity=q).values).any()]


def mean_over_networks(values: np.ndarray) -> Estimate:
    """The mean over networks of the mean over chains or paths (network, k), with its error."""
    errors = values.std(1, ddof=1) / values.shape[1] ** 0.5
    return Estimate(float(values.mean()), float(np.sqrt(np.sum(errors**2)) / len(errors)))


def path_length(data: xr.Dataset) -> float:
    """The longest predicted path of a PR in %, as the sum of its absolute changes."""
    paths = [percent(data, q, "theory").mean((0, 1)) for q in layers_of(data)]
    return float(max(np.abs(np.diff(path)).sum() for path in paths))


def own_error(data: xr.Dataset) -> float:
    """u^2, plus the relative difference of the mean loss and its quadratic form."""
    curved = float((data.predicted_loss / data.quadratic_loss).mean())
    return float(data.amplification.mean()) ** 2 + abs(1 - curved)


def at_same_trace(case: xr.Dataset, data: xr.Dataset, quantity: str) -> float:
    """The PR that SGD is predicted to have where its Tr H has changed as much, or at its end."""
    other = dict(described(case)).get("sgd")
    if other is None:
        return np.nan
    trace, ratio = (percent(other, q, "theory").mean((0, 1)) for q in ("Tr H", quantity))
    reached = percent(data, "Tr H", "theory")[..., -1].mean()
    return float(np.interp(reached, trace[::-1], ratio[::-1]))


def _compared(data, quantity) -> tuple[float, Estimate]:
    """The predicted change at the end, and the measured one with the error of both."""
    theory, measured = (
        mean_over_networks(percent(data, quantity, what)[..., -1])
        for what in ("theory", "simulated")
    )
    return theory.value, Estimate(measured.value, np.hypot(measured.stderr, theory.stderr))


def _layers(data, case, text, longest):
    error, rows = own_error(data), []
    for quantity in layers_of(data):
        predicted, measured = _compared(data, quantity)
        same = np.nan if "sgd" in text else at_same_trace(case, data, quantity)
        others = ((AT_SAME_TRACE, same),) if np.isfinite(same) else ()
        rivals = rivals_of_effect(predicted, "effect", *others)
        row = Verdict(
            f"{text}: change of {quantity} in %",
            predicted,
            measured,
            prediction_if(error <= LARGEST),
            max(LEAST, error) * longest,
            rivals,
        )
        rows.append(row)
    return rows


def _penalty(data, text, quantity):
    error = own_error(data)
    predicted, measured = _compared(data, quantity)
    return Verdict(
        f"{text}: change of {quantity} in %",
        predicted,
        measured,
        prediction_if(error <= LARGEST),
        max(LEAST, error) * abs(predicted),
        rivals_of_effect(predicted, "effect"),
    )


def _loss(data, text):
    half = data.sizes["interval"] // 2
    ends = data.predicted_loss.transpose("network", "path", "interval").values[..., half - 1 :]
    expected = (ends[..., 1:] + ends[..., :-1]).mean(-1) / 2  # between the records
    measured = data.loss.isel(interval=slice(half, None)).mean("interval")
    measured = measured.transpose("network", "chain").values
    value = mean_over_networks(measured / expected.mean(1, keepdims=True))
    drawn = mean_over_networks(expected / expected.mean(1, keepdims=True))
    error = own_error(data)
    return Verdict(
        f"{text}: mean loss of the second half / predicted",
        1.0,
        Estimate(value.value, np.hypot(value.stderr, drawn.stderr)),
        prediction_if(error <= LARGEST),
        max(LEAST, error),
        rivals_of_effect(lambda factor: factor, "loss"),
    )


def _contrasts(case, name):
    """Sign descent against Adam; and that the path of Adam does not depend on the noise."""
    optimisers = dict(settings_of(case, "optimiser"))
    adam, sign, half = (optimisers.get(key) for key in ("adam", "sign descent", HALF))
    rows = []
    if adam is not None and sign is not None:
        value = mean_over_networks(percent(sign, "Tr H", "simulated")[..., -1])
        if np.isfinite(value.value):
            predicted = mean_over_networks(percent(adam, "Tr H", "theory")[..., -1]).value
            text = f"{name}, sign descent: change of Tr H in %, beside the prediction for Adam"
            rows.append(Verdict(text, predicted, value, "contrast", LEAST * abs(predicted)))
    if adam is not None and half is not None and np.isfinite(half.theory.values).any():
        rows.append(_share_of_half(adam, half, name))
    return rows


def _share_of_half(adam, half, name):
    """The change of Tr H at half the noise over that at the whole noise, at the same rate."""
    (p_half, m_half), (p_whole, m_whole) = (_compared(data, "Tr H") for data in (half, adam))
    value = m_half.value / m_whole.value
    error = abs(value) * np.hypot(m_half.stderr / m_half.value, m_whole.stderr / m_whole.value)
    tolerance = max(LEAST, own_error(adam), own_error(half))
    rivals = (("speed as the noise", 0.5), ("speed as the squared noise, as SGD", 0.25))
    return Verdict(
        f"{name}, adam: change of Tr H at half the noise / at the whole noise",
        p_half / p_whole,
        Estimate(value, error),
        prediction_if(tolerance <= LARGEST),
        tolerance * p_half / p_whole,
        rivals,
    )


def tables(results: xr.Dataset) -> list[Table]:
    """Each optimiser: rate, small parameters, and what it changes."""
    rows = []
    for name, case in settings_of(results, "case"):
        for optimiser, data in settings_of(case, "optimiser"):
            if not np.isfinite(data.simulated.sel(quantity="Tr H").values).any():
                continue
            cells = []
            for quantity in data.quantity.values.tolist():
                theory, seen = (
                    percent(data, quantity, what)[..., -1].mean()
                    for what in ("theory", "simulated")
                )
                both = (f"{v:+.2f}" if np.isfinite(v) else "-" for v in (theory, seen))
                cells.append(" / ".join(both))
            known = np.isfinite(data.predicted_loss.values).any()
            numbers = (data.rate.mean(), data.amplification.mean())
            small = [f"{float(v):.3g}" for v in numbers]
            rows.append(
                (name, optimiser, *small, f"{own_error(data):.3f}" if known else "-", *cells)
            )
    headings = ("case", "optimiser", "rate", "u", "own error", *results.quantity.values.tolist())
    return [Table("Changes in % at the end: predicted / measured", headings, rows)]
