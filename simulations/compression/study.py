"""What label noise does to the dimension of a network's hidden layer, and what theory predicts.

A two-layer tanh network learns scikit-learn's digits by gradient descent, and goes on from the very
same weights under noise of several shapes, and without noise on the loss that theory puts in the
place of the noise, L + kappa Tr H.  Nothing is fitted.  A run that was stopped at any moment goes
on from the last finished chunk when it is started again with the same options.
"""

from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from sgdnoise.lab import Study, option, progress, sweep
from simulations.compression import claims, figure
from simulations.compression._chains import LEARNING, MODES, Setting
from simulations.compression._chains import run as run_chains

SETTINGS = {
    "three": Setting("digits 0-2, whitened", 3, True, learning_rate=0.05, steps=80_000),
    "ten": Setting("ten digits, not whitened", 10, False, learning_rate=0.03, steps=60_000),
    "three_weak": Setting(
        "digits 0-2, whitened, a quarter of the noise",
        *(3, True, 0.05, 320_000, 0.5),
        modes=("label", "prediction"),
        allowed=0.05,
    ),
    "ten_weak": Setting(
        "ten digits, not whitened, a quarter of the noise",
        *(10, False, 0.03, 240_000, 0.5),
        modes=("label", "prediction"),
        allowed=0.05,
    ),
}
QUICK = {"descent_steps": 4000, "steps": 400, "watches": 4, "quench": 100}
SIZES = {  # changes: setting -> fields that differ at this size
    "small": {"setting": ["three", "ten"], "seeds": 2, "changes": {"three": QUICK, "ten": QUICK}},
    "demo": {
        "setting": ["three", "ten"],
        "seeds": 4,
        "changes": {"three": {"steps": 24_000}, "ten": {"steps": 14_000}},
    },
    "full": {"setting": [*SETTINGS], "seeds": 16, "changes": {}},
}


def settings_of(parameters: dict) -> dict[str, Setting]:
    """The settings with the changes of their size and of the command line."""
    fields = ("learning_rate", "batch_size", "label_noise", "steps")
    changes = {name: parameters[name] for name in fields if name in parameters}
    settings = {}
    for name in parameters["setting"]:
        base = SETTINGS[name]
        wanted = parameters.get("mode") or base.modes
        modes = tuple(mode for mode in MODES if mode in wanted)
        of_size = parameters["changes"].get(name, {})
        settings[name] = base._replace(**{**of_size, **changes, "modes": modes})
    return settings


def check(parameters: dict) -> None:
    """Raises ValueError, in one sentence, for what cannot be run."""
    for name, s in settings_of(parameters).items():
        if s.batch_size > s.examples:
            raise ValueError(
                f"a batch of {s.batch_size} is larger than the data, {s.examples} examples; "
                "take less"
            )
        if not s.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, not {s.learning_rate}")
        if s.steps < s.watches or s.steps % s.watches:
            raise ValueError(
                f"steps must be a multiple of {s.watches}, the number of records of setting "
                f"{name}, not {s.steps}"
            )


def execute(parameters: dict, session) -> xr.Dataset:
    """Every setting at every seed, axes (setting, mode, seed, watch)."""
    settings = settings_of(parameters)
    seeds = range(parameters["seed"], parameters["seed"] + parameters["seeds"])
    per_block = _block(len(seeds), len(settings), session.jobs)
    blocks = np.reshape(seeds, (-1, per_block)).tolist()
    folder = Path(session.folder).absolute()
    work = partial(run, settings=settings, blocks=blocks, folder=folder)
    grid = {"setting": list(settings), "block": list(range(len(blocks)))}
    total = sum(s.watches + LEARNING for s in settings.values()) * len(blocks)

    def finished():
        return sum(1 for _ in folder.rglob("chunk-*.npz"))

    with session.workers() as pool, progress("chunks", finished, total):
        dataset = sweep(work, grid, pool, folder / "points")
    return _by_seed(dataset).sel(setting=list(settings))


def _block(seeds: int, settings: int, jobs: int) -> int:
    """How many seeds run together: at most 4, and few enough that every process has work."""
    sizes = [k for k in range(1, 5) if seeds % k == 0 and seeds // k * settings >= jobs]
    return max(sizes, default=1)


def run(setting, block, *, settings, blocks, folder) -> xr.Dataset:
    """One setting and one block of seeds; seeds become `member`s, alike in every block."""
    chains = run_chains(settings[setting], blocks[block], folder=folder / f"{setting}-{block}")
    return chains.assign(label=chains.seed).drop_vars("seed").rename(seed="member")


def _by_seed(dataset) -> xr.Dataset:
    """Blocks and their members as one axis `seed`."""
    shared = dataset[["step", "kappa", "rate", "steps", "allowed"]].isel(block=0, drop=True)
    varying = dataset.drop_vars(list(shared)).stack(seed=("block", "member"))
    labels = varying.label.isel(setting=0).values
    varying = varying.drop_vars(["seed", "block", "member", "label"])
    varying = varying.assign_coords(seed=labels).transpose("setting", "mode", "seed", "watch", ...)
    return xr.merge([varying, shared]).sel(mode=[m for m in MODES if m in dataset.mode])


study = Study(
    execute=execute,
    sizes=SIZES,
    options={
        "setting": option(list, "only this task; repeat for more", choices=SETTINGS),
        "mode": option(list, "only this noise; repeat", choices=MODES, default="all"),
        "seeds": option(int, "how many seeds, from --seed on", least=2),
        "learning_rate": option(float, "learning rate", default="ten 0.03, three 0.05"),
        "batch_size": option(int, "examples of a step", least=1, default="8"),
        "label_noise": option(
            float, "standard deviation of one-hot labels", least=0, default="1, weak 0.5"
        ),
        "steps": option(int, "steps under noise", default="by setting and size"),
    },
    claims=claims,
    figure=figure,
    check=check,
    notes=claims.diverged,
    seed=True,
    device="jax",
)

if __name__ == "__main__":
    study.main()
