"""Weight decay against label noise: which inputs they forget first, nothing fitted.

Linear networks f(x) = x W V start with weights from useless inputs of different variances. Decay
shrinks all of these alike, noise each in proportion to its variance; both start with the same
shrinkage in total, so that only its direction tells them apart.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from functools import partial
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from typer import Option

from sgdnoise import noise
from sgdnoise.core import Problem, batch_means
from sgdnoise.dynamics import sgd, simulate
from sgdnoise.lab._terminal import (
    Cluster,
    Jobs,
    Out,
    Small,
    command,
    exit_on_error,
    run_study,
    sweep_one,
)
from sgdnoise.theory import TwoLayer, amplification, equal_decay, mode_with_decay, shrink_rates
from simulations.linear_networks.decay import claims
from simulations.linear_networks.decay import figure as picture

OUT = Path("out/decay")
EXAMPLES, WATCHES, LOOKS = 200, 40, 10  # looks: at the modes, for each watch
PARTS = 32  # of the runs, whose means are kept
STRENGTHS = np.asarray(
    [1.5, 1.0]
)  # of the modes of the product, each read from an input of its own
USELESS = 0.25 * 8 ** np.linspace(0, 1, 6)  # variances of the inputs that it does not read
POWERS = 0.3 / USELESS  # squared weights from these: the same hidden power from each
OUTPUTS, HIDDEN = len(STRENGTHS), len(STRENGTHS) + len(USELESS)
VARIANCES = np.concatenate([np.ones(OUTPUTS), USELESS])


class Setting(NamedTuple):
    """What shrinks the weights, in shares of label noise and of the decay that is its equal."""

    noise: float = 0.0  # share of the variance of label noise
    decay: float = 0.0
    rate: float = 0.04
    batch: int = 4
    steps: int = 10_000
    frozen: bool = False  # the readout stays

    @property
    def label_noise(self) -> float:
        """Standard deviation of the noise in the targets."""
        return 0.5 * self.noise**0.5

    @property
    def weight_decay(self) -> float:
        """The decay, of which 1 shrinks the useless part as fast in total as label noise of 1."""
        whole = equal_decay(USELESS, POWERS, OUTPUTS, 0.5, self.rate, self.batch)
        return self.decay * whole


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


class Size(NamedTuple):
    """How much is run."""

    settings: tuple[str, ...]
    runs: int
    share: float  # of the steps
    seed: int = 0


FULL = Size(tuple(SETTINGS), 256, 1.0)
SMALL = Size(("decay", "noise", "neither"), 16, 0.25)


def task_and_start(setting: Setting):
    """Inputs (n, d) whose second moment is diagonal, targets, and W, V where the used part rests.

    Each useless input reaches a unit of its own, which has no readout.
    """
    rng = np.random.default_rng(0)
    x = np.linalg.qr(rng.normal(size=(EXAMPLES, HIDDEN)))[0] * (EXAMPLES * VARIANCES) ** 0.5
    y = x[:, :OUTPUTS] * STRENGTHS
    modes = rest(setting)
    first = [*(mode.first for mode in modes), *POWERS]
    v = np.zeros((HIDDEN, OUTPUTS))
    v[range(OUTPUTS), range(OUTPUTS)] = [mode.second**0.5 for mode in modes]
    return x, y, np.diag(np.sqrt(first)), v


def rest(setting: Setting, u: float = 0.0):
    """Where theory has the modes of the product rest; balanced where nothing acts.

    u: the amplification by which label noise is fed.
    """
    kappa = setting.rate * setting.label_noise**2 / (4 * setting.batch * (1 - u))
    prices = {"decay": setting.weight_decay or 1e-9 * (kappa == 0), "kappa": kappa}
    return [mode_with_decay(m, 1.0, VARIANCES.sum(), OUTPUTS, **prices) for m in STRENGTHS]


def process(setting: Setting, x, y, w, v):
    """What descends, from which theta, and how W and V are read from it."""
    net = TwoLayer(HIDDEN, HIDDEN, OUTPUTS, "linear")
    losses, theta, read = net.losses, np.concatenate([w.ravel(), v.ravel()]), net.weights
    if setting.frozen:
        fixed, theta = jnp.asarray(v, jnp.float32), w.ravel()

        def losses(t, inputs, targets):
            return 0.5 * ((inputs @ t.reshape(w.shape) @ fixed - targets) ** 2).sum(1)

        def read(theta):
            return theta.reshape(w.shape), fixed

    problem = Problem(losses, (jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)), jax)
    model = noise.label_noise(problem, setting.batch, setting.label_noise)
    made = sgd(model, setting.rate, setting.weight_decay)
    return made, jnp.asarray(theta, jnp.float32), read


def seen(read, theta):
    """What is watched of one theta."""
    w, v = read(theta)
    hidden = w.T @ (jnp.asarray(VARIANCES, jnp.float32)[:, None] * w)
    return {
        "ratio": jnp.trace(hidden) ** 2 / (hidden**2).sum(),
        "useless": jnp.diagonal(w)[OUTPUTS:],
        "modes": (w[:OUTPUTS] ** 2).sum(1),
        "product": jnp.diagonal(w @ v),
    }


def run(setting: str, *, size: Size) -> xr.Dataset:
    """Chains of one setting, and what theory says of them."""
    seed = [size.seed, list(SETTINGS).index(setting)]
    return measured(SETTINGS[setting], runs=size.runs, share=size.share, seed=seed)


def measured(chosen: Setting, *, runs: int, share: float, seed) -> xr.Dataset:
    """The same of any setting, for a share of its steps."""
    x, y, w, v = task_and_start(chosen)
    made, theta, read = process(chosen, x, y, w, v)
    every = max(1, round(chosen.steps * share / WATCHES / LOOKS))
    key = jax.random.fold_in(jax.random.key(seed[0]), seed[1])
    found = simulate(
        made,
        key,
        jnp.tile(theta, (runs, 1)),
        steps=WATCHES * LOOKS * every,
        every=every,
        observe=partial(seen, read),
    )
    middle = {name: ("part", "mode") for name in ("modes", "product")}
    axes = {"ratio": ("part", "watch"), "useless": ("part", "watch", "input")} | middle
    u = amplification(np.diag(VARIANCES), w, v, chosen.rate, chosen.batch)
    modes = rest(chosen, u)
    return xr.Dataset(
        {name: (axes[name], _kept(value, axes[name])) for name, value in found.items()}
        | {
            "rate": ("input", rates(chosen, u, v)),
            "start": ("input", POWERS**0.5),
            "variance": ("input", USELESS),
            "modes_rest": ("mode", [mode.first for mode in modes]),
            "product_rest": ("mode", [mode.product for mode in modes]),
            "strength": ("mode", STRENGTHS),
            "amplification": u,
            "haste": haste(chosen, modes),
            "sharpness": chosen.rate * max(mode.first + mode.second for mode in modes),
            "decay": chosen.weight_decay,
            "trained": int(not chosen.frozen),
            "step": ("watch", every * LOOKS * np.arange(1.0, WATCHES + 1)),
        }
    )


def haste(chosen: Setting, modes) -> float:
    """Speed rate sigma^2 Tr Sx / (2 batch) of the readout under noise, over the least curvature."""
    speed = chosen.rate * chosen.label_noise**2 * VARIANCES.sum() / (2 * chosen.batch)
    return speed / (USELESS.min() * min(mode.second for mode in modes))


def _kept(value, axes):
    """Every tenth look, or the mean of all, of parts of the runs."""
    value = np.asarray(value)
    value = value[:, LOOKS - 1 :: LOOKS] if "watch" in axes else value.mean(1, dtype=float)
    return batch_means(value, PARTS).astype(np.float32)


def rates(chosen: Setting, u, v):
    """Rates a step of the useless weights, label noise fed by what it makes: sigma^2 / (1 - u).

    Decay alone where the readout stays: then it has no jitter to shrink them by.
    """
    return shrink_rates(
        USELESS,
        POWERS,
        np.linalg.eigvalsh(v.T @ v),
        label_noise=0.0 if chosen.frozen else chosen.label_noise / (1 - u) ** 0.5,
        learning_rate=chosen.rate,
        batch_size=chosen.batch,
        decay=chosen.weight_decay,
    )


def study(size: Size, *, jobs: int, folder, cluster: str | None = None) -> xr.Dataset:
    """All settings, on `jobs` processes; what is finished is kept in `folder`."""
    grid = {"setting": list(size.settings)}
    return sweep_one(partial(run, size=size), grid, folder, jobs=jobs, cluster=cluster)


def main(
    small: Small = False,
    setting: Annotated[list[str] | None, Option(help="one of them; again for more")] = None,
    runs: Annotated[
        int | None, Option(help="of each setting", show_default="256, small 16")
    ] = None,
    seed: Annotated[int, Option(help="of all draws")] = 0,
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Shrink useless weights by decay, by label noise and by both, and see which go first."""
    size = SMALL if small else FULL
    size = size._replace(
        runs=size.runs if runs is None else runs,
        settings=tuple(setting or size.settings),
        seed=seed,
    )
    with exit_on_error(f"run the same command again to go on from what is in {out}"):
        if size.runs < 2:
            raise ValueError(f"an error needs at least 2 runs, not {size.runs}")
        if size.seed < 0:
            raise ValueError(f"a seed is a whole number from 0, not {size.seed}")
        if unknown := set(size.settings) - set(SETTINGS):
            raise ValueError(f"no setting {unknown.pop()!r}: there are {'; '.join(SETTINGS)}")
        run_study(
            partial(study, size, jobs=jobs, cluster=cluster), size._asdict(), claims, picture, out
        )


if __name__ == "__main__":
    command(main)
