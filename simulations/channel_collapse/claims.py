"""What is claimed of channels that collapse, where, and with which tolerance."""

import math

import numpy as np
import xarray as xr
from scipy.stats import mannwhitneyu, spearmanr

from sgdnoise.lab import Table, Verdict, mean_of, prediction_if, rivals_of_effect, settings_of
from simulations.channel_collapse._channels import SMALLEST as DEAD

TITLE = "Collapse of channels of a public network at raised rates"
LEAD = (
    "A channel of a block is gone where its outgoing weights v, scale w and shift b are zero. The "
    "growth of (v, w, b) close to this set is predicted from gradients of photographs without the "
    "channel, to 10%, for SGD that moves these weights alone: what theory leaves out is that units "
    "may switch as (w, b) turns. Nothing is fitted.",
    "A channel should die if its exponent is negative. This is claimed to 2% of the channels where "
    "SGD keeps a loss below that of equal probabilities, log 10.",
    "A channel is dead if at most one in 10,000 of its units is active. Ranks are areas under the "
    "curve (AUC): the probability that a channel that dies has the lower score.",
)
WAYS = (
    *("theory", "mean gradient", "own direction", "others fixed", "all move"),
    "theory after all moved",
)
GROWTH, FRACTION = 0.1, 0.02
LOSS = math.log(10)  # of equal probabilities
CHANCE, RANK = 0.5, 0.1  # AUC of a score that knows nothing, and what counts as more than that
FEWEST = 3  # channels that die in a seed, for its rank


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Growth close to the set, fractions that die, and what ranks them."""
    rows = []
    for name, data in settings_of(results, "setting"):
        rows += [*_growth(data, name), *_deaths(data, name), *_ranks(data, name)]
    return rows


def live(data: xr.Dataset) -> xr.DataArray:
    """Whether a channel is alive before SGD.  (seed, channel)"""
    return data.active > DEAD


def total(data: xr.Dataset, way: str) -> xr.DataArray:
    """Growth summed over the channels that are put close to the set, of each seed."""
    return data.near.sel(way=way).sum("placed")


def _growth(data, name):
    if not np.isfinite(data.near.sel(way="others fixed").values).all():
        return []
    theory = total(data, "theory")

    def ratio(way):
        return mean_of((total(data, way) / theory).values)

    others = [(way, float(ratio(way).value)) for way in WAYS[1:3]]
    rivals = rivals_of_effect(1.0, "growth", *others)
    text = f"{name}, close to the set: growth / predicted"
    rows = [Verdict(text, 1.0, ratio("others fixed"), "prediction", GROWTH, rivals)]
    if not np.isfinite(data.near.values).all():  # SGD of all weights diverged
        return rows
    ranks = [
        spearmanr(at.near.sel(way="theory"), at.near.sel(way="all move")).statistic
        for _, at in settings_of(data, "seed")
    ]
    observed = {
        f"{text}, all weights move": ratio("all move"),
        f"{name}, theory after all moved / before": ratio("theory after all moved"),
        f"{name}, rank correlation, all weights move": mean_of(ranks),
    }
    return rows + [Verdict(text, 1.0, value, "observation") for text, value in observed.items()]


def newly_dead(data: xr.Dataset) -> xr.DataArray:
    """Whether a channel that was alive is dead after SGD; nan where it diverged."""
    return data.dead.where(live(data))


def finite(data: xr.Dataset) -> xr.Dataset:
    """The seeds whose SGD did not diverge."""
    return data.isel(seed=np.flatnonzero(np.isfinite(data.loss.values)))


def _deaths(data, name):
    data = finite(data)
    if data.sizes["seed"] < 2:
        return []
    dead = newly_dead(data).mean("channel")
    negative, own = (
        (data[key] < 0).where(live(data)).mean("channel") for key in ("exponent", "own_exponent")
    )
    kind = prediction_if(float(data.loss.max()) < LOSS)
    predicted = float(negative.mean())
    rivals = (("own direction", float(own.mean())), ("all", 1.0))
    measured = mean_of(dead.values)
    text = f"{name}: fraction of channels that die"
    rows = [Verdict(text, predicted, measured, kind, FRACTION, rivals)]
    change = data.norm_after / data.norm
    data = with_deaths(data)
    if data.sizes["seed"] >= 2:
        left = mean_of(change.where(newly_dead(data) == 1).mean("channel").values)
        text = f"{name}: |(v, w, b)| of those that die / before"
        rows.append(Verdict(text, 0.0, left, "contrast", GROWTH))
    return rows


def with_deaths(data: xr.Dataset) -> xr.Dataset:
    """The seeds in which some channels die, and SGD does not diverge."""
    data = finite(data)
    count = (newly_dead(data) == 1).sum("channel").values
    return data.isel(seed=np.flatnonzero(count >= FEWEST))


SCORES = {
    "exponent": "exponent",
    "own_exponent": "exponent of its own direction",
    "norm": "|(v, w, b)|",
    "size": "size of what it adds",
    "active": "fraction of active units",
}


def rank(data: xr.Dataset, score: str) -> list[float]:
    """AUC of a score of each seed, among channels that were alive."""
    values = []
    for _, at in settings_of(data, "seed"):
        dead, alive = newly_dead(at) == 1, newly_dead(at) == 0
        low, high = at[score].values[dead.values], at[score].values[alive.values]
        values.append(mannwhitneyu(high, low).statistic / (len(low) * len(high)))
    return values


def _ranks(data, name):
    data = with_deaths(data)
    if data.sizes["seed"] < 2:
        return []
    rows = []
    for score, text in SCORES.items():
        kind = "contrast" if score == "exponent" else "observation"
        claim = f"{name}: AUC of channels that die, by {text}"
        rows.append(Verdict(claim, CHANCE, mean_of(rank(data, score)), kind, RANK))
    return rows


def _loss(value):
    return f"{value:.2f}" if np.isfinite(value) else "diverged"


def _range(values):
    known = values[np.isfinite(values)]
    return f"{known.min():.2f} to {known.max():.2f}" if known.size else "-"


def tables(results: xr.Dataset) -> list[Table]:
    """Exponents and deaths of each setting, deaths by block, and dead channels as published."""
    exponents, blocks = [], []
    for name, data in settings_of(results, "setting"):
        alive = live(data)
        values = data.exponent.where(alive)
        quantiles = values.quantile([0, 0.5, 1], ["seed", "channel"]).values
        dead, moved = newly_dead(data), (data.norm_after / data.norm).where(alive)
        exponents.append(
            (
                name,
                *(f"{number:.5f}" for number in quantiles),
                ", ".join(_loss(value) for value in data.loss.values),
                ", ".join(f"{float(count):.0f}" for count in dead.sum("channel", min_count=1)),
                _range(moved.values),
            )
        )
        shares = [float(dead.where(data.block == block).mean()) for block in range(9)]
        if np.isfinite(shares).all():
            blocks.append((name, *(f"{100 * share:.0f}%" for share in shares)))
    headings = (
        *("setting", "smallest exponent", "median", "largest", "last loss, each seed"),
        *("channels that die, each seed", "|(v, w, b)| after / before"),
    )
    counts = [("ResNet-20", f"{100 * float((results.active <= DEAD).isel(seed=0).mean()):.1f}%")]
    for other, at in settings_of(results, "other"):
        counts.append((f"ResNet-{other}", f"{100 * float(at.dead_in.max()):.1f}%"))
    return [
        Table("Exponents per step of live channels, and SGD", headings, exponents),
        Table("Live channels that die, by block", ("setting", *map(str, range(1, 10))), blocks),
        Table("Dead channels as published", ("network", "of its inner channels"), counts),
    ]
