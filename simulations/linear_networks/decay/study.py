"""Weight decay against label noise: which inputs they make a network forget, nothing fitted.

Linear networks f(x) = x W V start with weights from irrelevant inputs of different variances. Decay
shrinks all of these alike, noise each in proportion to its variance; both start with the same
total shrinkage, so that only its direction distinguishes them.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from sgdnoise import noise
from sgdnoise.core import batch_means
from sgdnoise.dynamics import sgd
from sgdnoise.lab import Study, option
from sgdnoise.theory import (
    amplification,
    equal_decay,
    label_noise_task,
    mode_with_decay,
    shrink_rates,
)
from simulations import _linear_networks as shared
from simulations.linear_networks.decay import claims, figure

EXAMPLES, SUBRECORDS = 200, 10  # records of the modes for each record that is stored
GROUPS = 32  # of the runs, whose means are stored
STRENGTHS = np.asarray([1.5, 1.0])  # of the product's modes, each with an input of its own
IRRELEVANT = 0.25 * 8 ** np.linspace(0, 1, 6)  # variances of the inputs that it does not use
POWERS = 0.3 / IRRELEVANT  # squared weights from these: the same hidden power from each
OUTPUTS, HIDDEN = len(STRENGTHS), len(STRENGTHS) + len(IRRELEVANT)
VARIANCES = np.concatenate([np.ones(OUTPUTS), IRRELEVANT])


class Setting(NamedTuple):
    """What shrinks the weights, in fractions of label noise and of the equivalent decay."""

    noise: float = 0.0  # fraction of the variance of label noise
    decay: float = 0.0
    rate: float = 0.04
    batch: int = 4
    steps: int = 10_000
    frozen: bool = False  # whether the readout is fixed

    @property
    def label_noise(self) -> float:
        """Standard deviation of the noise in the targets."""
        return 0.5 * self.noise**0.5

    @property
    def weight_decay(self) -> float:
        """The decay; 1 shrinks the irrelevant part as fast in total as label noise of 1."""
        unit = equal_decay(IRRELEVANT, POWERS, OUTPUTS, 0.5, self.rate, self.batch)
        return self.decay * unit


SETTINGS = {
    "decay": Setting(decay=1),
    "both": Setting(0.5, 0.5),
    "noise": Setting(1),
    "noise and decay": Setting(1, 1),
    "decay, batch 16": Setting(decay=1, batch=16, steps=40_000),
    "both, batch 16": Setting(0.5, 0.5, batch=16, steps=40_000),
    "noise, batch 16": Setting(1, batch=16, steps=40_000),
    "strong noise": Setting(4, steps=2500),
    "decay, frozen readout": Setting(decay=1, frozen=True),
    "noise, frozen readout": Setting(1, frozen=True),
    "neither": Setting(),
}


def task_and_start(setting: Setting):
    """Inputs (n, d) whose second moment is diagonal, targets, and W, V with stationary modes.

    Each irrelevant input reaches a unit of its own, which has no readout.
    """
    x = shared.inputs_with_moments(np.random.default_rng(0), EXAMPLES, VARIANCES)
    y = x[:, :OUTPUTS] * STRENGTHS
    modes = stationary_modes(setting)
    first = [*(mode.first for mode in modes), *POWERS]
    v = np.zeros((HIDDEN, OUTPUTS))
    v[range(OUTPUTS), range(OUTPUTS)] = [mode.second**0.5 for mode in modes]
    return x, y, np.diag(np.sqrt(first)), v


def stationary_modes(setting: Setting, u: float = 0.0):
    """The stationary modes of the product by theory; balanced where nothing acts.

    u: the amplification of label noise by the residuals that it makes.
    """
    kappa = setting.rate * setting.label_noise**2 / (4 * setting.batch * (1 - u))
    prices = {"decay": setting.weight_decay or 1e-9 * (kappa == 0), "kappa": kappa}
    return [mode_with_decay(m, 1.0, VARIANCES.sum(), OUTPUTS, **prices) for m in STRENGTHS]


def problem_of(setting: Setting, x, y, w, v):
    """The problem, its start theta, and theta -> (W, V)."""
    return shared.two_layer_problem(x, y, w, v, frozen=setting.frozen)


def process_of(setting: Setting, x, y, w, v):
    """The process, its start theta, and theta -> (W, V)."""
    problem, theta, weights = problem_of(setting, x, y, w, v)
    model = noise.label_noise(problem, setting.batch, setting.label_noise)
    return sgd(model, setting.rate, setting.weight_decay), theta, weights


def observe(loss, weights, theta):
    """The records of one theta, with its loss (theta) on all examples."""
    w, v = weights(theta)
    return {
        "loss": loss(theta),
        "ratio": shared.participation_ratio(
            w.T @ (jnp.asarray(VARIANCES, jnp.float32)[:, None] * w)
        ),
        "useless": jnp.diagonal(w)[OUTPUTS:],
        "modes": (w[:OUTPUTS] ** 2).sum(1),
        "product": jnp.diagonal(w @ v),
    }


def run(setting: str, *, runs: int, fraction: float, seed: int) -> xr.Dataset:
    """Chains of one setting, and what theory says of them."""
    chosen = SETTINGS[setting]
    x, y, w, v = task_and_start(chosen)
    process, theta, weights = process_of(chosen, x, y, w, v)
    every = shared.steps_between_records(chosen.steps * fraction / SUBRECORDS)
    records = shared.run_chains(
        process,
        jax.random.fold_in(jax.random.key(seed), [*SETTINGS].index(setting)),
        theta,
        runs=runs,
        every=every,
        records=shared.RECORDS * SUBRECORDS,
        observe=partial(observe, problem_of(chosen, x, y, w, v)[0].value, weights),
    )
    time_means = {name: ("part", "mode") for name in ("modes", "product")}
    axes = {"ratio": ("part", "watch"), "useless": ("part", "watch", "input")} | time_means
    mean_loss = np.asarray(records.pop("loss"), float)
    mean_loss = mean_loss.reshape(runs, shared.RECORDS, SUBRECORDS).mean(2)
    strength = {"learning_rate": chosen.rate, "batch_size": chosen.batch}
    u = amplification(np.diag(VARIANCES), [w, v], **strength)
    modes = stationary_modes(chosen, u)
    rate, steps = rates(chosen, u, v), every * SUBRECORDS * np.arange(1.0, shared.RECORDS + 1)
    return xr.Dataset(
        {name: (axes[name], _group_means(value, axes[name])) for name, value in records.items()}
        | regime_of(chosen, x, w, v, rate * steps[-1])
        | excess_of(chosen, x, modes, np.outer([0.0, *steps], rate))
        | {
            "loss": (("part", "watch"), batch_means(mean_loss, GROUPS).astype(np.float32)),
            "rate": ("input", rate),
            "start": ("input", POWERS**0.5),
            "variance": ("input", IRRELEVANT),
            "modes_rest": ("mode", [mode.first for mode in modes]),
            "product_rest": ("mode", [mode.product for mode in modes]),
            "strength": ("mode", STRENGTHS),
            "decay": chosen.weight_decay,
            "trained": int(not chosen.frozen),
            "step": ("watch", steps),
        }
    )


def regime_of(chosen: Setting, x, w, v, shrunk) -> dict[str, float]:
    """The small parameters of the noise, with the irrelevant weights of the start and the end.

    shrunk: (input,), the logarithm by which each of them shrinks.
    """
    end = w.copy()
    end[OUTPUTS:] *= np.exp(-shrunk)[:, None]
    task = label_noise_task(x, OUTPUTS, chosen.label_noise)
    path, strength = [np.stack([w, end]), np.stack([v, v])], (chosen.rate, chosen.batch)
    return shared.regime_variables(task, path, learning_rate=strength[0], batch_size=strength[1])


def excess_of(chosen: Setting, x, modes, shrunk) -> dict:
    """The excess loss where modes rest and irrelevant weights shrink, and kappa Tr H.

    shrunk: (t, input), the logarithm by which the irrelevant weights have shrunk at the records.
    decay_effect: the relative size of what decay changes in the jitter, which relaxes along a
    curvature h at the rate h + decay.  It is included, to first order.
    """
    first = np.sqrt([[mode.first for mode in modes]] * len(shrunk))
    powers = np.concatenate([first, POWERS**0.5 * np.exp(-shrunk)], 1)
    second = np.zeros((len(shrunk), HIDDEN, OUTPUTS))
    second[:, range(OUTPUTS), range(OUTPUTS)] = [mode.second**0.5 for mode in modes]
    layers = [powers[:, :, None] * np.eye(HIDDEN), second]
    task = label_noise_task(x, OUTPUTS, chosen.label_noise)
    refined = {"learning_rate": chosen.rate, "batch_size": chosen.batch}
    base = refined | {"discrete_steps": 0.0, "with_feedback": False}
    missing = [m - mode.product for m, mode in zip(STRENGTHS, modes, strict=True)]
    excess = shared.excess_variables(task, layers, np.sum(np.square(missing)) / 2, refined, base)
    h = shared.curvatures_across(np.diag(VARIANCES), [layers[0][0], second[0]])
    slower = h + chosen.weight_decay
    with_decay = np.sum(h**2 / slower / (2 - chosen.rate * slower))
    factor = with_decay / np.sum(h / (2 - chosen.rate * h))
    excess["excess"] = ("watch", factor * excess["excess"][1])
    return excess | {"decay_effect": 1 - factor}


def _group_means(value, axes):
    """Every tenth record, or the mean of all records, of groups of the runs."""
    value = np.asarray(value)
    value = (
        value[:, SUBRECORDS - 1 :: SUBRECORDS] if "watch" in axes else value.mean(1, dtype=float)
    )
    return batch_means(value, GROUPS).astype(np.float32)


def rates(chosen: Setting, u, v):
    """Decay rates, per step, of the irrelevant weights, with label noise sigma^2 / (1 - u).

    With a fixed readout decay alone acts: its jitter is what makes noise shrink weights.
    """
    return shrink_rates(
        IRRELEVANT,
        POWERS,
        np.linalg.eigvalsh(v.T @ v),
        label_noise=0.0 if chosen.frozen else chosen.label_noise,
        learning_rate=chosen.rate,
        batch_size=chosen.batch,
        decay=chosen.weight_decay,
        amplification=u,
    )


study = Study(
    run,
    grid={"setting": [*SETTINGS]},
    sizes={
        "full": {"runs": 256, "fraction": 1.0},
        "small": {"setting": ["decay", "noise", "neither"], "runs": 16, "fraction": 0.25},
    },
    options={
        "setting": option(list, "only this setting; repeat for more", choices=SETTINGS),
        "runs": option(int, "chains of each setting", least=2),
    },
    claims=claims,
    figure=figure,
    seed=True,
)

if __name__ == "__main__":
    study.main()
