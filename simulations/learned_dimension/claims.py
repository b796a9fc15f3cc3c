"""What is claimed of learning a dimension, and what is shown for contrast, with its allowances.

They were written before the full run, after short trials on other seeds.
"""

from functools import partial

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate, nanmean
from sgdnoise.lab import Table, Verdict

TITLE = "Learning a dimension: a measure in the loss, and the noise that acts like one"
SHORT = {"participation_ratio": "PR", "effective_rank": "effective rank", "twonn": "TwoNN"}
NAMES = list(SHORT)
CROSS = 1e-3  # differences of second order in a step of 1e-5, and corners of TwoNN between
RESPONSE, POWER = 0.02, 0.05  # terms of the next order in c
SOLVED = 1e-12  # L where it starts, at which it has a manifold of minima to rise from
CONSERVED = 0.002  # of the squared weights: terms of the next order in the rate
NOISE = 0.1  # of PR, as the study of compression allows the same prediction
RISE = 1e-3  # of PR at the start, between two looks
BIAS = 0.1  # of PR in a batch: rows are not normal
MATCHED = {"participation_ratio": "participation_ratio", "effective_rank": "participation_ratio"}
MATCHED |= {"twonn": "twonn"}  # at no c tried does it bring the participation ratio as low
SAME = {
    "trace": "Tr H",
    "norm": "|θ|²",
    "jacobian": "|df/dx|²",
    "participation_ratio": "PR",
    "effective_rank": "effective rank",
    "twonn": "TwoNN",
}


def lead(device: str, size) -> tuple[str, ...]:
    """What is read before all else."""
    smaller = "; small networks: a result of this size is not the full one" * (device == "cpu")
    return (
        f"Computed on {device}: {size.seeds} two-layer networks of {size.units} units on digits "
        f"0-2, {size.nets} convolutional ones on ten digits{smaller}.",
        "Networks descend L + c m, m a measure of their hidden layer; others go on under label "
        "noise, whose effective loss L + κ Tr H they follow. The two are compared at the c that "
        "brings each seed to the dimension of its own label noise, between two that were tried.",
        "Claimed is what calculus and the slow flow say without a fitted number. What the two have "
        "in common at one dimension, and robustness before all, is measured and not predicted.",
    )


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """What theory claims, then what stands beside the noise at one dimension."""
    found = [v for name in NAMES for v in _flow(results.sel(measure=name), SHORT[name])]
    found += [*_conserved(results), *_noise(results), _falls(results), _bound(results)]
    found += [v for name in NAMES for v in _beside(results, name)]
    return found + [v for kind in results.kind.values[1:] for v in _images(results, str(kind))]


def _flow(part, short):
    """One measure: the identity, the response to small c, and the power of the loss.

    In trials the first two held to 1e-4 and the power to 0.002.  Of the effective rank no power is
    claimed: f = y of one-hot y gives the hidden layer a direction without variance, V 1, at which
    p log p has no slope, so that c^2 comes with logarithms of c.
    """
    texts = {
        "cross": (f"{short}: dm/dt with c m less without, over -c |grad m|²", CROSS),
        "response": (
            f"{short}: its response to small c, over that of the linearised flow",
            RESPONSE,
        ),
    }
    found = []
    for name, (text, allowed) in texts.items():
        ratio = part[name].isel(side=1) / part[name].isel(side=0)
        found.append(Verdict(text, 1.0, _mean(ratio), True, allowed))
    text = f"{short}: power of c in the loss, c halved"
    claimed = float(part.solved.max()) < SOLVED and short != SHORT["effective_rank"]
    found.append(Verdict(text, 2.0, _mean(part.power.isel(side=1)), claimed, POWER))
    text += " and the time doubled"
    return [*found, Verdict(text, 2.0, _mean(part.slow.isel(side=1)), False, POWER)]


def _conserved(results):
    """Of a linear network, on L + c PR and on L + c Tr H, which has another scale."""
    text = "linear network: change of |W|² - |V|² on L + c"
    change = results.imbalance
    return [
        Verdict(
            f"{text} {short}", 0.0, _mean(change.sel(objective=name)), name != "trace", CONSERVED
        )
        for name, short in (("participation_ratio", "PR"), ("trace", "Tr H"))
    ]


def _noise(results):
    """Label noise against its effective loss, and PR in batches."""
    by = results.participation_ratio
    ratio = by.sel(arm="label noise") / by.sel(arm="trace")
    naive = results.batch_naive / results.batch_predicted
    unbiased = results.batch_unbiased / results.batch_whole
    size = int(results.batch_size.max())
    return [
        Verdict(
            "label noise: PR, over that of descent on L + κ Tr H", 1.0, _mean(ratio), True, NOISE
        ),
        Verdict(f"PR in batches of {size}, over that predicted", 1.0, _mean(naive), True, BIAS),
        Verdict(
            f"PR in batches of {size}, unbiased moments averaged, over that of all",
            *(1.0, _mean(unbiased), True, BIAS),
        ),
    ]


def _falls(results):
    """The slow flow on L + c PR lowers PR at every look."""
    start = results.participation_ratio.sel(arm="start")
    every = [results.path.sel(arm=arm) / start for arm in arms(results, "participation_ratio")]
    ways = xr.concat(every, "c", join="override", coords="minimal", compat="override")
    rise = np.maximum(ways.diff("look").max(("c", "look")), 0)
    return Verdict(
        "PR: largest rise on L + c PR, c > 0, between looks", 0.0, _mean(rise), True, RISE
    )


def _bound(results):
    """Ma & Ying's bound on |df/dx| by |df/dW|, at each example of each network."""
    most = Estimate(float(np.maximum(results.bound - 1, 0).max()), 0.0)
    return Verdict("|df/dx|² above |W|² |df/dW|² / |x|², anywhere", 0.0, most, True, 1e-9)


def arms(results, name, least: float = 0.0) -> list[str]:
    """Arms of one measure with c above the least, by c."""
    found = [str(arm) for arm in results.arm.values if str(arm).startswith(f"{name} ")]
    return sorted((arm for arm in found if strength(arm) > least), key=strength)


def strength(arm: str) -> float:
    """The c of an arm."""
    return float(arm.split()[-1])


def at_noise(results, name, values) -> xr.DataArray:
    """`values` after a penalty of the c that takes each seed to the dimension of its label noise.

    Between neighbouring c from 0 on, linear in the logarithm of the measure that is matched; nan
    where no c tried goes as far.
    """
    every = ["descent", *arms(results, name)]
    places = np.log(results[MATCHED[name]])
    return xr.apply_ufunc(
        _between,
        *(places.sel(arm="label noise"), places.sel(arm=every), values.sel(arm=every)),
        input_core_dims=[[], ["arm"], ["arm"]],
        vectorize=True,
    )


def _between(goal, places, values):
    order = np.argsort(places)
    return np.interp(goal, places[order], values[order], left=np.nan, right=np.nan)


def _beside(results, name):
    """The penalty over label noise at one dimension, paired by seed: nothing is predicted."""
    short, found = SHORT[name], []

    def pair(values):
        return at_noise(results, name, values), values.sel(arm="label noise")

    for key, text in SAME.items():
        if key != MATCHED[name]:
            one, other = pair(results[key])
            text = f"{short} at one dimension: {text}, over label noise"
            found.append(Verdict(text, 1.0, _mean(one / other), False, 0))
    robust = {
        "accuracy elsewhere": results.accuracy,
        "with pixel noise": results.noisy.mean("noise"),
        "after an adversarial step": results.adversarial.mean("push"),
    }
    for text, values in robust.items():
        one, other = pair(values)
        text = f"{short} at one dimension: {text}, less label noise's"
        found.append(Verdict(text, 0.0, _mean(one - other), False, 0))
    return found


def _images(results, kind):
    """Convolutional networks, against none: for contrast."""
    one, other = results.sel(kind=kind), results.sel(kind="none")
    gaps = {
        "accuracy elsewhere": one.net_accuracy - other.net_accuracy,
        "with pixel noise": (one.net_noisy - other.net_noisy).mean("noise"),
        "after an adversarial step": (one.net_adversarial - other.net_adversarial).mean("push"),
    }
    ratio = one.net_participation_ratio / other.net_participation_ratio
    return [
        Verdict(f"convolutions, {kind}: PR, over none", 1.0, _mean(ratio), False, 0),
        *(
            Verdict(f"convolutions, {kind}: {text}, less none's", 0.0, _mean(gap), False, 0)
            for text, gap in gaps.items()
        ),
    ]


def _mean(values):
    """Over seeds that are there: others are of the other networks, or not brought as far."""
    found = nanmean(np.asarray(values, float).ravel())
    return Estimate(float(found.value), float(found.stderr), found.freedom)


def tables(results: xr.Dataset) -> list[Table]:
    """All arms, and all kinds of convolutional networks, means over seeds."""
    return [_every(results), _kinds(results), _robust(results)]


def _every(results):
    names = ("participation_ratio", "effective_rank", "twonn", "trace", "norm", "jacobian")
    rows = []
    for arm in results.arm.values:
        at = results.sel(arm=arm)
        of = [at[name] for name in (*names, "loss", "accuracy")]
        rows.append((str(arm), *(f"{float(e.mean()):.3g}" for e in of)))
    for name, short in SHORT.items():
        met = [at_noise(results, name, results[key]) for key in (*names, "loss", "accuracy")]
        text = f"{short}, as label noise, {int(np.isfinite(met[0]).sum())} seeds"
        rows.append((text, *(f"{float(e.mean()):.3g}" for e in met)))
    headings = (
        "network",
        "PR",
        "effective rank",
        "TwoNN",
        "Tr H",
        "|θ|²",
        "|df/dx|²",
        "L",
        "accuracy",
    )
    return Table("Two-layer networks after a quench, means over seeds", headings, rows)


def _robust(results):
    """Accuracy under disturbances, of label noise and of penalties at one dimension with it."""
    rows = []
    shown = {arm: partial(_arm, arm=arm) for arm in ("start", "label noise", "trace")}
    shown |= {f"{SHORT[name]}, as noise": partial(at_noise, results, name) for name in NAMES}
    for text, of in shown.items():
        cells = [
            _cell(of(results[name].isel({axis: i})))
            for name, axis in (("noisy", "noise"), ("adversarial", "push"))
            for i in range(results.sizes[axis])
        ]
        rows.append((text, *cells))
    headings = ["network"]
    headings += [f"noise {float(size):g}" for size in results.noise]
    headings += [f"step {float(size):g}" for size in results.push]
    caption = (
        "Accuracy elsewhere, pixels between 0 and 1 disturbed by normal noise or one step each"
    )
    return Table(caption, tuple(headings), rows)


def _arm(values, arm):
    return values.sel(arm=arm)


def _kinds(results):
    rows = []
    for kind in results.kind.values:
        at = results.sel(kind=kind)
        names = ("participation_ratio", "effective_rank", "twonn", "accuracy", "norm")
        cells = [_cell(at[f"net_{name}"]) for name in names]
        cells += [_cell(at.net_noisy.mean("noise")), _cell(at.net_adversarial.mean("push"))]
        rows.append((str(kind), *cells))
    headings = ("training", "PR", "effective rank", "TwoNN", "accuracy", "|θ|²", "noise", "step")
    return Table("Convolutional networks, other digits, means over nets", headings, rows)


def _cell(values):
    found = _mean(values)
    return f"{found.value:.3g} ± {found.stderr:.1g}"
