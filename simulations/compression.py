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
from functools import cache, partial
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import typer
import xarray as xr
from typer import Option

from paper.figures import compression as picture
from sgdnoise import noise
from sgdnoise.cli import console, finish, guarded, progress, workers, writable
from sgdnoise.covariance import Diagonal, Isotropic
from sgdnoise.data import digits, principal, split
from sgdnoise.dimension import participation_ratio, twonn
from sgdnoise.dynamics import descent, together
from sgdnoise.dynamics.resume import chunked
from sgdnoise.problem import Problem
from sgdnoise.store import provenance, source
from sgdnoise.sweep import fingerprint, sweep
from sgdnoise.theory.modified_loss import label_noise_strength, residual_amplification
from sgdnoise.theory.two_layer import TwoLayer
from simulations import compression_claims as claims

OUT = Path("out/compression")
LEARNING = 4  # chunks of the descent that comes first
MODES = ("none", "label", "gaussian", "diagonal", "isotropic", "prediction")


class Setting(NamedTuple):
    """A task and the noise on it; rates and times in units of the loss with its factor 1/2."""

    title: str
    classes: int
    whiten: bool
    rate: float
    steps: int
    label_noise: float = 1.0
    batch: int = 8
    hidden: int = 40
    inputs: int = 20
    examples: int = 128
    descent_rate: float = 0.1
    descent_steps: int = 40_000
    quench: int = 500
    watches: int = 20


SETTINGS = {
    "three": Setting("digits 0-2, whitened", 3, True, rate=0.05, steps=80_000),
    "ten": Setting("ten digits, not whitened", 10, False, rate=0.04, steps=32_000),
}


SIZES = {  # seeds, and what is changed in the settings
    "small": (
        2,
        {
            name: {"descent_steps": 4000, "steps": 400, "watches": 4, "quench": 100}
            for name in SETTINGS
        },
    ),
    "demo": (4, {"three": {"steps": 40_000}, "ten": {"steps": 16_000}}),
    "full": (16, {}),
}


class Row(NamedTuple):
    """What one chain has of its own: its examples, and others to be tested on."""

    inputs: jax.Array
    targets: jax.Array
    test_inputs: jax.Array
    test_targets: jax.Array


def network(setting: Setting) -> TwoLayer:
    """The network of a setting."""
    return TwoLayer(setting.inputs, setting.hidden, setting.classes)


def rows(setting: Setting, seeds) -> Row:
    """Training and test examples of each seed, drawn from the digits by that seed."""
    parts = []
    for seed in seeds:
        train, test = split(digits(setting.classes), setting.examples, rng=seed)
        train, test = principal(train, test, setting.inputs, whiten=setting.whiten)
        parts.append((*train[:2], *test[:2]))
    return Row(*(jnp.asarray(np.stack(part), jnp.float32) for part in zip(*parts, strict=True)))


def fresh(setting: Setting, key):
    """Initial weights: independent normal of variance 1 / fan-in.  -> (p,)"""
    d, h, o = network(setting)
    one, two = jax.random.split(key)
    first = jax.random.normal(one, (d * h,)) / d**0.5
    return jnp.concatenate([first, jax.random.normal(two, (h * o,)) / h**0.5])


def problem(setting: Setting, row: Row, kappa: float = 0.0) -> Problem:
    """L + kappa Tr H on the examples of one chain."""
    net = network(setting)

    def losses(theta, inputs, targets):
        plain = net.losses(theta, inputs, targets)
        return plain + kappa * net.traces(theta, inputs) if kappa else plain

    return Problem(losses, (row.inputs, row.targets), jax)


def noises(setting: Setting, row: Row) -> dict[str, noise.Noise]:
    """The noise of each mode; those of another shape are matched to label noise at each theta."""
    net, plain = network(setting), problem(setting, row)
    label = noise.label(plain, setting.batch, setting.label_noise)
    kappa = label_noise_strength(setting.rate, setting.label_noise, setting.batch)

    known = row.inputs, row.targets, setting.batch, setting.label_noise

    def diagonal(theta):
        return Diagonal(net.label_noise_diagonal(theta, *known))

    def isotropic(theta):
        return Isotropic(net.label_noise_trace(theta, *known) / net.size, net.size)

    return {
        "none": noise.quiet(plain),
        "label": label,
        "gaussian": noise.gaussian(label),
        "diagonal": noise.additive(plain, diagonal, net.size),
        "isotropic": noise.additive(plain, isotropic, net.size),
        "prediction": noise.quiet(problem(setting, row, kappa)),
    }


def probe(setting: Setting, row: Row, theta) -> dict:
    """What is seen of one chain: the loss as it is, the rest after a quench on the plain loss."""
    net, plain = network(setting), problem(setting, row)

    def down(_, t):
        return t - setting.rate * plain.gradient(t)

    quenched = jax.lax.fori_loop(0, setting.quench, down, theta)
    scores = net.outputs(quenched, row.test_inputs)
    right = jnp.argmax(scores, axis=1) == jnp.argmax(row.test_targets, axis=1)
    return {
        "loss": plain.value(theta),
        "loss_quenched": plain.value(quenched),
        "dimension": participation_ratio(net.hidden(quenched, row.inputs)),
        "dimension_unquenched": participation_ratio(net.hidden(theta, row.inputs)),
        "dimension_test": participation_ratio(net.hidden(quenched, row.test_inputs)),
        "twonn": twonn(net.hidden(quenched, row.test_inputs)),
        "trace": jnp.mean(net.traces(quenched, row.inputs)),
        "accuracy": jnp.mean(right),
    }


@cache
def machinery(setting: Setting, modes: tuple[str, ...]):
    """Process and observable of a chain from its Row; kept, so that each is compiled once."""

    def process(row):
        found = noises(setting, row)
        return together({mode: descent(found[mode], setting.rate) for mode in modes})

    def observe(row):
        look = jax.vmap(partial(probe, setting, row))
        return lambda theta: look(jnp.stack([theta[mode] for mode in modes]))

    def learning(row):
        return descent(noise.quiet(problem(setting, row)), setting.descent_rate)

    def sharpness(row):
        return lambda theta: _sharpness(problem(setting, row), theta)

    return process, observe, learning, sharpness


def _sharpness(plain, theta):
    """Largest curvature, by power iteration."""

    def turn(_, v):
        v = plain.curvature(theta, v)
        return v / jnp.linalg.norm(v)

    v = jax.lax.fori_loop(0, 100, turn, jnp.ones_like(theta) / theta.shape[0] ** 0.5)
    return v @ plain.curvature(theta, v)


def trained(setting: Setting, data: Row, keys, folder, modes):
    """Weights after gradient descent, (chain, p), and the largest curvature there, (chain,)."""
    _, _, learning, sharpness = machinery(setting, modes)
    start = jax.vmap(lambda key: fresh(setting, jax.random.fold_in(key, 0)))(keys)
    part = setting.descent_steps // LEARNING
    state, seen = chunked(
        learning,
        keys,
        start,
        steps=part * LEARNING,
        every=part,
        chunk=part,
        folder=folder,
        observe=sharpness,
        given=data,
    )
    return state.theta, seen[:, -1]


def run(setting: Setting, seeds, *, modes=MODES, folder) -> xr.Dataset:
    """All modes of some seeds, watched (mode, seed, watch) from the same trained weights on.

    What is finished is kept in `folder` and not computed again.
    """
    data, keys = rows(setting, seeds), jax.vmap(jax.random.key)(jnp.asarray(seeds))
    theta, sharpness = trained(setting, data, keys, folder / "learning", modes)
    process, observe, *_ = machinery(setting, modes)
    every = setting.steps // setting.watches
    state, seen = chunked(
        process,
        keys,
        {mode: theta for mode in modes},
        steps=setting.steps,
        every=every,
        chunk=every,
        folder=folder / "noise",
        observe=observe,
        given=data,
    )
    first = jax.jit(jax.vmap(partial(probe, setting)))(data, theta)
    return _dataset(setting, seeds, modes, first, seen, state.lasted, sharpness)


def _dataset(setting, seeds, modes, first, seen, lasted, sharpness) -> xr.Dataset:
    """What `run` found, with names; `first` (seed,) is the start that all modes share."""

    def whole(name):
        """The start and what followed, (seed, watch, mode) -> (mode, seed, watch)."""
        start = np.broadcast_to(np.asarray(first[name])[:, None, None], (len(seeds), 1, len(modes)))
        return np.moveaxis(np.concatenate([start, seen[name]], axis=1), 2, 0)

    known = setting.rate, np.asarray(first["trace"]), setting.batch, setting.classes
    step = np.linspace(0, setting.steps, setting.watches + 1).round().astype(int)
    return xr.Dataset(
        {name: (("mode", "seed", "watch"), whole(name)) for name in first}
        | {
            "lasted": (("mode", "seed"), np.stack([lasted[mode] for mode in modes])),
            "step": ("watch", step),
            "kappa": label_noise_strength(setting.rate, setting.label_noise, setting.batch),
            "rate": setting.rate,
            "steps": setting.steps,
            "amplification": ("seed", residual_amplification(*known)),
            "sharpness": ("seed", np.asarray(sharpness)),
        },
        {"mode": list(modes), "seed": list(seeds)},
    )


def study(settings: dict[str, Setting], seeds, modes, *, jobs: int, folder) -> xr.Dataset:
    """Every setting at every seed, axes (setting, mode, seed, watch), on `jobs` processes.

    What is finished is kept in `folder`; on the same folder it goes on where it stopped.
    """
    blocks = np.reshape(seeds, (-1, _block(len(seeds), jobs))).tolist()
    work = partial(point, settings=settings, blocks=blocks, modes=tuple(modes), folder=folder)
    grid = {"setting": list(settings), "block": list(range(len(blocks)))}
    total = sum(s.watches + LEARNING for s in settings.values()) * len(blocks)

    def finished():
        return sum(1 for _ in folder.rglob("chunk-*.npz"))

    with workers(jobs) as pool, progress("chunks", finished, total):
        found = sweep(work, grid, pool, folder / "points")
    return _laid_out(found)


def _block(seeds: int, jobs: int) -> int:
    """How many seeds run as one: the most, up to 4, that leave work for every process."""
    sizes = [k for k in range(1, 5) if seeds % k == 0 and seeds // k >= min(jobs, seeds)]
    return max(sizes, default=1)


def point(setting, block, *, settings, blocks, modes, folder) -> xr.Dataset:
    """One setting and one block of seeds; seeds become `member`s, alike in every block."""
    home = folder / f"{setting}-{block}"
    found = run(settings[setting], blocks[block], modes=modes, folder=home)
    return found.assign(label=found.seed).drop_vars("seed").rename(seed="member")


def _laid_out(found) -> xr.Dataset:
    """Blocks and their members as one axis `seed`."""
    shared = found[["step", "kappa", "rate", "steps"]].isel(block=0, drop=True)
    several = found.drop_vars(list(shared)).stack(seed=("block", "member"))
    labels = several.label.isel(setting=0).values
    several = several.drop_vars(["seed", "block", "member", "label"])
    several = several.assign_coords(seed=labels).transpose("setting", "mode", "seed", "watch", ...)
    return xr.merge([several, shared]).sel(mode=found.mode)


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
        list[str] | None, Option(help="three or ten; repeat", show_default="both")
    ] = None,
    mode: Annotated[
        list[str] | None, Option(help="a noise; repeat", show_default="all six")
    ] = None,
    size: Annotated[str, Option(help="small (seconds), demo (2 minutes) or full (10)")] = "full",
    small: Annotated[bool, Option("--small", help="short for --size small")] = False,
    seeds: Annotated[
        int | None, Option(help="how many seeds", show_default="2, 4, 16 by size")
    ] = None,
    seed: Annotated[int, Option(help="the first seed, the others follow it")] = 0,
    rate: Annotated[
        float | None,
        Option(help="learning rate, 1 / curvature", show_default="three 0.05, ten 0.04"),
    ] = None,
    batch: Annotated[int | None, Option(help="examples in a step", show_default="8")] = None,
    label_noise: Annotated[
        float | None, Option(help="standard deviation of noise on one-hot labels", show_default="1")
    ] = None,
    steps: Annotated[
        int | None,
        Option(help="steps of noisy descent", show_default="three 80000, ten 32000; demo half"),
    ] = None,
    jobs: Annotated[int, Option(help="processes, one thread each")] = 2,
    device: Annotated[str, Option(help="cpu or cuda")] = "cpu",
    out: Annotated[Path, Option(help="folder for what is made")] = OUT,
) -> None:
    """Label noise and the dimension of a hidden layer: theory and measurement side by side.

    The noises: none, label, gaussian, diagonal, isotropic, and prediction, which is the theory.
    Stopped at any moment, it goes on where it stopped when started again with the same arguments.
    Exit status: 0 the claims hold, 1 one fails inside its regime, 2 bad input.
    """
    asked = {"rate": rate, "batch": batch, "label_noise": label_noise, "steps": steps}
    with guarded("the same command goes on from the last finished chunk"):
        default, changes = _known("size", "small" if small else size, SIZES)
        settings = {
            name: _known("setting", name, SETTINGS)
            ._replace(**changes.get(name, {}))
            ._replace(**{k: v for k, v in asked.items() if v is not None})
            for name in setting or SETTINGS
        }
        modes = tuple(_known("mode", m, {m: m for m in MODES}) for m in mode or MODES)
        count = default if seeds is None else seeds
        checked(settings, count, seed)
        raise SystemExit(_report(settings, range(seed, seed + count), modes, jobs, device, out))


def _report(settings, seeds, modes, jobs, device, out) -> int:
    """Run, judge, draw and write: exit status."""
    began = time.monotonic()
    arguments = {"settings": settings, "seeds": list(seeds), "modes": modes}
    folder = writable(out / f"work-{fingerprint(source=source(), **arguments, device=device)}")
    name = on_device(device)
    results = study(settings, seeds, modes, jobs=jobs, folder=folder)
    for sentence in claims.diverged(results):
        console.print(f"[bold red]{sentence}[/]")
    return finish(
        "compression",
        results,
        claims.verdicts(results),
        {
            "compression": (picture.CAPTION, picture.draw(results)),
            "compression_others": (picture.CAPTION_OTHERS, picture.draw_others(results)),
        },
        claims.values(results),
        title=claims.TITLE,
        lead=[*claims.LEAD, *claims.diverged(results)],
        origin=provenance(arguments, name) | {"seconds": round(time.monotonic() - began, 1)},
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
    except RuntimeError:
        raise ValueError("no CUDA device is to be found here; use --device cpu") from None


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
