"""What label noise does to the dimension of a network's hidden layer, and what theory says.

A two-layer tanh network learns scikit-learn's digits by gradient descent, and goes on from the very
same weights under noise of several shapes, and under no noise on the loss that theory puts in the
place of the noise, L + kappa Tr H.  Nothing is fitted.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # a script's own folder would hide Python 3.14's module `compression`
    sys.path[0] = str(Path(__file__).parents[1])

import os
import time
from functools import partial
from typing import Annotated

import jax
import numpy as np
import typer
import xarray as xr
from typer import Option

from sgdnoise.lab import fingerprint, provenance, sweep, tally
from sgdnoise.lab._store import code_hash
from sgdnoise.lab._terminal import (
    console,
    cpu_seconds,
    exit_on_error,
    progress,
    publish,
    workers,
    writable,
)
from simulations.compression import claims
from simulations.compression import figure as picture
from simulations.compression._chains import LEARNING, MODES, Setting, run

OUT = Path("out/compression")
SETTINGS = {
    "three": Setting("digits 0-2, whitened", 3, True, rate=0.05, steps=80_000),
    "ten": Setting("ten digits, not whitened", 10, False, rate=0.03, steps=60_000),
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
_QUICK = {"descent_steps": 4000, "steps": 400, "watches": 4, "quench": 100}
SIZES: dict[str, tuple[int, dict[str, dict]]] = {  # seeds; settings, and what is changed in them
    "small": (2, {"three": _QUICK, "ten": _QUICK}),
    "demo": (4, {"three": {"steps": 24_000}, "ten": {"steps": 14_000}}),
    "full": (16, {name: {} for name in SETTINGS}),
}


def study(
    settings: dict[str, Setting], seeds, *, jobs: int, folder, cluster: str | None = None
) -> xr.Dataset:
    """Every setting at every seed, axes (setting, mode, seed, watch), on `jobs` processes.

    What is finished is kept in `folder`; on the same folder it goes on where it stopped.
    """
    blocks = np.reshape(seeds, (-1, _block(len(seeds), len(settings), jobs))).tolist()
    work = partial(point, settings=settings, blocks=blocks, folder=folder.absolute())
    grid = {"setting": list(settings), "block": list(range(len(blocks)))}
    total = sum(s.watches + LEARNING for s in settings.values()) * len(blocks)

    def finished():
        return sum(1 for _ in folder.rglob("chunk-*.npz")), tally(folder)[1]

    with workers(jobs, cluster) as pool, progress("chunks", finished, total):
        found = sweep(work, grid, pool, folder / "points")
    return _laid_out(found).sel(setting=list(settings))


def _block(seeds: int, settings: int, jobs: int) -> int:
    """How many seeds run as one: the most, up to 4, that leave work for every process."""
    sizes = [k for k in range(1, 5) if seeds % k == 0 and seeds // k * settings >= jobs]
    return max(sizes, default=1)


def point(setting, block, *, settings, blocks, folder) -> xr.Dataset:
    """One setting and one block of seeds; seeds become `member`s, alike in every block."""
    home = folder / f"{setting}-{block}"
    found = run(settings[setting], blocks[block], folder=home)
    return found.assign(label=found.seed).drop_vars("seed").rename(seed="member")


def _laid_out(found) -> xr.Dataset:
    """Blocks and their members as one axis `seed`."""
    shared = found[["step", "kappa", "rate", "steps", "allowed"]].isel(block=0, drop=True)
    several = found.drop_vars(list(shared)).stack(seed=("block", "member"))
    labels = several.label.isel(setting=0).values
    several = several.drop_vars(["seed", "block", "member", "label"])
    several = several.assign_coords(seed=labels).transpose("setting", "mode", "seed", "watch", ...)
    return xr.merge([several, shared]).sel(mode=[m for m in MODES if m in found.mode])


def checked(settings: dict[str, Setting], seeds: int, first: int) -> None:
    """Raises ValueError, in one sentence, for what cannot be run."""
    if seeds < 2:
        raise ValueError(f"an error bar needs at least 2 seeds, not {seeds}")
    if not 0 <= first < 2**31 - seeds:
        raise ValueError(f"a seed is a whole number from 0 to 2147483647, not {first}")
    for name, s in settings.items():
        if s.batch > s.examples:
            raise ValueError(
                f"a batch of {s.batch} is larger than the data, {s.examples} examples; take less"
            )
        if s.batch < 1:
            raise ValueError(f"a batch needs at least one example, not {s.batch}")
        if not 0 < s.rate < np.inf:
            raise ValueError(f"the learning rate must be positive, not {s.rate}")
        if not 0 <= s.label_noise < np.inf:
            raise ValueError(f"label noise is a standard deviation >= 0, not {s.label_noise}")
        if s.steps < s.watches or s.steps % s.watches:
            raise ValueError(
                f"steps must be a multiple of {s.watches}, the moments of setting {name} at which "
                f"it is watched, not {s.steps}"
            )


def main(
    setting: Annotated[
        list[str] | None,
        Option(help="a task, of four; repeat", show_default="by size"),
    ] = None,
    mode: Annotated[list[str] | None, Option(help="a noise; repeat", show_default="all")] = None,
    size: Annotated[str, Option(help="small, demo (2 minutes) or full (20)")] = "full",
    small: Annotated[bool, Option("--small", help="short for --size small")] = False,
    seeds: Annotated[
        int | None, Option(help="how many seeds", show_default="2, 4, 16 by size")
    ] = None,
    seed: Annotated[int, Option(help="the first seed, the others follow it")] = 0,
    rate: Annotated[
        float | None,
        Option(help="learning rate, 1 / curvature", show_default="ten 0.03, three 0.05"),
    ] = None,
    batch: Annotated[int | None, Option(help="examples in a step", show_default="8")] = None,
    label_noise: Annotated[
        float | None,
        Option(help="standard deviation, one-hot labels", show_default="1, weak 0.5"),
    ] = None,
    steps: Annotated[
        int | None,
        Option(help="steps of noisy descent", show_default="by setting and size"),
    ] = None,
    jobs: Annotated[int, Option(help="processes, one thread each")] = 2,
    cluster: Annotated[
        str | None, Option(help="address of a Dask scheduler, whose workers see the folder")
    ] = None,
    device: Annotated[str, Option(help="cpu or cuda")] = "cpu",
    out: Annotated[Path, Option(help="folder for what is made")] = OUT,
) -> None:
    """Label noise and the dimension of a hidden layer: theory and measurement side by side.

    The tasks: three, ten, and with a quarter of the noise three_weak, ten_weak.
    The noises: none, label, gaussian, diagonal, isotropic, and prediction, which is the theory.
    Stopped at any moment, it goes on where it stopped when started again with the same arguments.
    Exit status: 0 the claims hold, 1 one fails inside its regime, 2 bad input, 3 points failed.
    """
    asked = {"rate": rate, "batch": batch, "label_noise": label_noise, "steps": steps}
    with exit_on_error("the same command goes on from the last finished chunk"):
        default, sizes = _known("size", "small" if small else size, SIZES)
        count = default if seeds is None else seeds
        changes = {k: v for k, v in asked.items() if v is not None}
        settings = {name: _setting(name, sizes, mode, changes) for name in setting or sizes}
        checked(settings, count, seed)
        raise SystemExit(_report(settings, range(seed, seed + count), jobs, device, out, cluster))


def _setting(name, sizes, modes, changes) -> Setting:
    """A setting as it was asked for."""
    base = _known("setting", name, SETTINGS)
    wanted = [_known("mode", mode, dict.fromkeys(MODES, mode)) for mode in modes or base.modes]
    kept = tuple(mode for mode in MODES if mode in wanted)
    return base._replace(**{**sizes.get(name, {}), **changes, "modes": kept})


def _report(settings, seeds, jobs, device, out, cluster=None) -> int:
    """Run, judge, draw and write: exit status."""
    began = time.monotonic()
    arguments = {"settings": {k: v._asdict() for k, v in settings.items()}, "seeds": list(seeds)}
    name = on_device(device)
    folder = writable(out / f"work-{fingerprint(source=code_hash(), device=device, **arguments)}")
    origin = provenance(arguments, name)  # before the run: of the code that runs
    results = study(settings, seeds, jobs=jobs, folder=folder, cluster=cluster)
    for sentence in claims.diverged(results):
        console.print(f"[bold red]{sentence}[/]")
    return publish(
        results,
        claims.verdicts(results),
        picture.figures(results),
        claims.values(results),
        title=claims.TITLE,
        lead=[*claims.LEAD, *claims.diverged(results)],
        origin=origin | {"seconds": round(time.monotonic() - began, 1)} | cpu_seconds(results),
        out=out,
    )


def _known(what, name, table):
    if name not in table:
        raise ValueError(f"there is no {what} {name!r}; there are {', '.join(table)}")
    return table[name]


def on_device(device: str) -> str:
    """Make jax use a device, here and in processes to come; its name.

    Raises ValueError for a device that is unknown or absent.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"there is no device {device!r}; there are cpu and cuda")
    os.environ["JAX_PLATFORMS"] = device
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax.config.update("jax_platforms", device)
    try:
        return jax.devices()[0].device_kind
    except (RuntimeError, AssertionError):  # the latter is what jax 0.10 does without a GPU
        raise ValueError("no CUDA device is to be found here; use --device cpu") from None


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
