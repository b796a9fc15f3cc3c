"""What theory says of the group's protocol, where it says something, and how far it may be off."""

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate, mean
from sgdnoise.lab import Table, Verdict

TITLE = "The group's protocol: one hidden linear layer on clusters, batches of one and full ones"
LEAD = (
    "After the feed-forward experiments beside Farrell et al. (2022), by descent at a constant "
    "rate; their optimisers with moments and their one-cycle rates are left out, label noise of "
    "0.5 is added to half of the networks. Nothing is fitted.",
    "off the readout: power of the hidden layer off the directions that the readout sees, over "
    "that at the start. Theory: along an input direction of variance λ it decays at "
    "rate² o σ² λ / (B (1 - u)) a step, with σ² the variance that the network leaves and "
    "u = rate Tr Sx / (2 B); in regime for u ≤ 0.12, once the task is learnt, and where that is "
    "more than a thousandth: below it counts that the readout turns.",
    "jitter: variance of a readout weight over twenty looks in a stretch; theory: of independent "
    "modes at rest at T = rate σ² / (2 B (1 - u)), as far as they turn over in the stretch.",
    "A first run had σ² of the best network alone, no factor 2 / (2 - rate λ), and full batches "
    "held against no change at all: three claims failed. This is the second run.",
)
GENTLE = 0.12  # amplification
OFF, JITTER, RATIO, STILL = 0.05, 0.10, 0.10, 1e-3  # shares of the predicted; a logarithm


def kinds(results: xr.Dataset):
    """Each kind of network: how it is called, and its part of the results."""
    for batch in results.batch.values.tolist():
        for rate in results.rate.values.tolist():
            for label_noise in results.label_noise.values.tolist():
                for readout in results.readout.values.tolist():
                    at = {"batch": batch, "rate": rate, "label_noise": label_noise}
                    noisy = f", label noise {label_noise:g}" if label_noise else ""
                    name = f"rate {rate:g}, batch {batch}{noisy}, {readout}"
                    yield name, results.sel(at | {"readout": readout})


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Decay off the readout, jitter and dimension; what is frozen or full must stay."""
    found: list[Verdict] = []
    for name, part in kinds(results):
        if str(part.readout.values) == "frozen":
            found += _frozen(name, part)
        elif int(part.batch) > 1:
            found += _full(name, part)
        else:
            found += _single(name, part)
    return found


def _ends(part):
    """The middle and the last watch."""
    return part.isel(watch=part.sizes["watch"] // 2 - 1), part.isel(watch=-1)


def _frozen(name, part):
    end = part.orthogonal.isel(watch=-1).values
    if not np.isfinite(end).all():
        return []
    return [Verdict(f"{name}: power off the readout", 1.0, _mean(end), True, STILL)]


def _full(name, part):
    middle, end = _ends(part)
    change, said = (
        np.log(end[of].values / middle[of].values) for of in ("orthogonal", "orthogonal_said")
    )
    ready = bool(part.learnt.all())
    text = f"{name}: log power off the readout, second half"
    return [Verdict(text, said.mean(), _mean(change), ready, STILL)]


def _single(name, part):
    middle, end = _ends(part)
    u = float(part.amplification.max())
    lost = 1 - np.isfinite(end.orthogonal.values)
    if u >= 1 or lost.any():
        text = f"{name}: share of networks that diverge"
        return [Verdict(text, float(u >= 1), _mean(lost), u >= 1, 0.0)]
    claimed = u <= GENTLE and bool(part.learnt.all())
    decay, said = (
        np.log(end[of].values / middle[of].values) for of in ("orthogonal", "orthogonal_said")
    )
    told = claimed and bool(abs(said).min() > STILL)
    late = part.jitter.isel(watch=slice(part.sizes["watch"] // 2, None)).mean("watch").values
    jitter = late / part.jitter_said.values
    found = [
        _over(f"{name}: decay off the readout, over predicted", decay / said, told, OFF),
        _over(f"{name}: jitter of the readout, over predicted", jitter, claimed, JITTER),
    ]
    if float(part.label_noise):
        moved = (end.ratio - middle.ratio) / (end.ratio_said - middle.ratio_said)
        text = f"{name}: change of PR, over predicted"
        found.append(_over(text, moved.values, claimed, RATIO))
    return found


def _over(text, values, claimed, share):
    return Verdict(text, 1.0, _mean(values), claimed, share)


def _mean(values):
    found = mean(np.asarray(values, float))
    return Estimate(float(found.value), float(found.stderr), found.freedom)


def tables(results: xr.Dataset) -> list[Table]:
    """What the group looked at, of every kind of network."""
    rows = []
    for name, part in kinds(results):
        end = part.isel(watch=-1).mean("net")
        rows.append(
            (
                name,
                f"{float(end.amplification):.3f}",
                f"{float(end.ratio):.2f}",
                f"{float(end.orthogonal) ** 0.5:.4f}",
                f"{float(end.jitter):.2e}",
                f"{float(end.loss):.2e}",
            )
        )
    head = ("networks", "u", "PR at the end", "norm off the readout", "jitter", "loss")
    return [Table("What is seen at the end, mean over networks", head, rows)]
