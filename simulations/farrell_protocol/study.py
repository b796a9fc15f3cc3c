"""A protocol after Farrell et al.: one hidden linear layer on clusters, and what theory predicts.

After the feed-forward experiments that accompany Farrell et al. (2022): 60 clusters of two classes
in 200 dimensions, 200 linear hidden units, batches of one example or of all 800 of an epoch, the
readout trained or frozen, six rates.  Widths and data are theirs, seeds and code are ours.
"""

import numpy as np
import xarray as xr

from sgdnoise.core import eigenvalue_participation_ratio
from sgdnoise.lab import Study, option
from sgdnoise.theory import hessian_trace
from simulations.farrell_protocol import _task as task
from simulations.farrell_protocol import claims, figure
from simulations.farrell_protocol._theory import Theory

DIVERGED = 1e6  # weights beyond it have diverged


def stretches(net, rate, batch, label_noise, frozen, watches, between, stretch):
    """W, the V (RECORDS, 200, 2) on the way, and the mean loss, at the end of each stretch of SGD.

    SGD descends on 1/2 |x W V - y|^2 of fresh examples.  The mean loss is that of `task.loss` since
    the previous record.  So large a matrix and so few networks are faster in plain numpy, one at a
    time and in place, than as chains.
    """
    centres, classes = task.clusters(net).astype("f"), task.targets().astype("f")
    w, v = (task.initial_weights(net)[name].astype("f") for name in ("w", "v"))
    rng = np.random.Generator(np.random.SFC64([9, net, batch]))

    def step():
        index = rng.integers(task.CLUSTERS, size=batch)
        x = centres[index] + np.float32(task.CLUSTER_STD) * rng.standard_normal(
            (batch, task.INPUTS), "f"
        )
        y = classes[index]
        if label_noise:
            y = y + np.float32(label_noise) * rng.standard_normal((batch, task.OUTPUTS), "f")
        gradient = x.T @ (x @ w @ v - y) * np.float32(rate / batch)  # by the product W V
        by_v = w.T @ gradient
        np.subtract(w, gradient @ v.T, out=w)
        if not frozen:
            np.subtract(v, by_v, out=v)

    points, apart = task.clusters(net), stretch // task.RECORDS  # steps between observations
    for _ in range(watches):
        losses, records = [], []
        for k in range(-between, stretch):
            step()
            if (k + 1) % apart == 0:
                losses.append(task.loss(points, w @ v))
                if k >= 0:
                    records.append(v.copy())
        yield w.copy(), np.stack(records), np.mean(losses)


def run(
    rate: float, batch: int, readout: str, label_noise: float, *, epochs: dict, nets: int, watches
) -> xr.Dataset:
    """Networks of one kind, recorded in stretches as long as an epoch of single examples.

    epochs: batch -> number of epochs; watches: number of stretches.
    """
    stretch = task.EPOCH if batch == 1 else task.RECORDS  # steps
    every = epochs[batch] * task.EPOCH // batch // watches
    setting = (rate, batch, label_noise, readout == "frozen", watches, every - stretch, stretch)
    with np.errstate(over="ignore", invalid="ignore"):  # some rates diverge, which is judged
        rows = [[_measures(net, *at) for at in stretches(net, *setting)] for net in range(nets)]
    measures = {
        name: (("net", "watch"), np.asarray([[at[name] for at in row] for row in rows], "f"))
        for name in rows[0][0]
    }
    steps = every * (1.0 + np.arange(watches))
    theories = [Theory(net, rate, batch, label_noise) for net in range(nets)]
    return xr.Dataset(measures | predictions(theories, steps) | {"step": ("watch", steps)})


def predictions(theories: list[Theory], steps) -> dict:
    """The prediction for networks with a trained readout, at the same moments."""
    return {
        "orthogonal_said": _table(theories, lambda t, step: t.power(step) / t.power(0), steps),
        "ratio_said": _table(theories, Theory.ratio, steps),
        "jitter_said": ("net", [t.jitter() for t in theories]),
        "amplification": ("net", [t.u for t in theories]),
        "sharpness": ("net", [t.rate * t.values[-1] for t in theories]),
        "loss_minimum": ("net", [t.minimum for t in theories]),
        "learnt": ("net", [int(t.learnt(steps[-1])) for t in theories]),
    }


def _table(theories, value, steps):
    """Missing where no stationary law is predicted."""
    rows = [[value(t, step) if t.u < 1 else np.nan for step in steps] for t in theories]
    return ("net", "watch"), np.asarray(rows)


def _measures(net, w, records, mean_loss) -> dict[str, float]:
    """Hidden dimension, power off the readout over the initial one, readout jitter, and losses.

    trace: Tr H of both layers; mean_loss: since the previous record.
    """
    centres, v, initial = (
        task.clusters(net),
        records[-1].astype(float),
        task.initial_weights(net)["w"],
    )
    if not (np.isfinite(w).all() and np.isfinite(records).all() and abs(w).max() < DIVERGED):
        names = "ratio", "orthogonal", "jitter", "loss", "mean_loss", "trace"
        return dict.fromkeys(names, np.nan)
    moment = centres.T @ centres / task.CLUSTERS + task.CLUSTER_STD**2 * np.eye(task.INPUTS)
    mean = centres.mean(0)
    values = np.linalg.eigvalsh(w.T @ (moment - np.outer(mean, mean)) @ w)
    readout = np.linalg.qr(records.mean(0).astype(float))[0]
    return {
        "ratio": eigenvalue_participation_ratio(values),
        "orthogonal": _power_off(moment, w, readout) / _power_off(moment, initial, readout),
        "jitter": records.var(axis=0, ddof=1).mean(),
        "loss": task.loss(centres, w @ v),
        "mean_loss": mean_loss,
        "trace": hessian_trace(moment, [w, v]),
    }


def _power_off(moment, w, readout):
    """Second moment of the hidden units off the directions of the readout."""
    hidden = w.T @ moment @ w
    return np.trace(hidden) - np.trace(readout.T @ hidden @ readout)


study = Study(
    run,
    grid={
        "rate": [*task.RATES],
        "batch": [1, task.EPOCH],
        "readout": ["trained", "frozen"],
        "label_noise": [0.0, 0.5],
    },
    sizes={
        "full": {"epochs": {1: 100, task.EPOCH: 1000}, "nets": 4, "watches": 10},
        "small": {"rate": [5e-4, 1e-2], "batch": [1], "epochs": {1: 6}, "nets": 2, "watches": 4},
    },
    options={"nets": option(int, "networks of each kind", least=2)},
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
