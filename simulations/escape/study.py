"""How long noise takes to leave a well: chains that leave one by one, against integrals and limits.

Noise of one temperature in a double well and in a parabola with an end, noise that depends on where
it is, label noise in wells sharp and flat, and gradients that jump.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from typer import Option

from sgdnoise import noise
from sgdnoise.core import Diagonal, Problem, mean
from sgdnoise.dynamics import (
    Process,
    first_passage,
    langevin,
    levy_sgd,
    overdamped_langevin,
    sgd,
    simulate,
)
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
from sgdnoise.theory import (
    boundary_time,
    discrete_passage_time,
    kramers_time,
    label_noise_height,
    passage_time,
    quasipotential,
    shaped_kramers_time,
    stable_exit_time,
)
from simulations.escape import claims
from simulations.escape import figure as picture

OUT = Path("out/escape")
WAIT = 8  # predicted mean times that chains are waited for: exp(-8) of them stay
BARRIER, BOTTOM, TOP = 0.25, 2.0, -1.0  # of (x^2 - 1)^2 / 4: height, and curvatures at both
FAR = 4.0  # where nothing ever is
ALPHA = 1.5  # of the jumps
RATE, BATCH, LABEL_NOISE = 0.005, 2, 0.5


class Well(NamedTuple):
    """What moves, from where, until when, and how long theory says it takes."""

    made: Process
    start: float
    passed: Callable[[Any], Any]
    seen: float  # mean time as steps see it: exact but for steps, of jumps the limit
    exact: float  # the same for steps of no length
    formula: float  # the limit of small noise
    height: float  # E, the barrier in units of the noise
    plain: float = np.nan  # Kramers' time as if the noise were everywhere that of the bottom


def double_well(height: float, end: float = 1.0) -> Well:
    """From one minimum of (x^2 - 1)^2 / 4 to the other, or to the top at 0: one temperature."""
    temperature, dt = BARRIER / height, 0.02
    seen, exact = _passages(_cubic, temperature, -1.0, end, -FAR, dt)
    formula = kramers_time(BARRIER, temperature, BOTTOM, TOP) * (1 if end else 0.5)
    made = overdamped_langevin(_problem(_quartic), temperature, dt, 1)
    return Well(made, -1.0, partial(_above, end), seen, exact, formula, height)


def shaped(height: float) -> Well:
    """The same well, where noise grows with curvature: D = T (1/2 + x^2) = T (5 + 2 U'') / 6."""
    temperature, dt = quasipotential(_cubic, _shape, -1.0, 0.0) / height, 0.01

    def diffusion(x):
        return temperature * _shape(x)

    ends = float(diffusion(1.0)), float(diffusion(0.0))
    seen, exact = _passages(_cubic, diffusion, -1.0, 1.0, -FAR, dt)
    formula = shaped_kramers_time(height, BOTTOM, TOP, *ends)
    plain = kramers_time(BARRIER, ends[0], BOTTOM, TOP)
    model = noise.additive(_problem(_quartic), lambda t: Diagonal(2 * diffusion(t) / dt), 1)
    made = langevin(model, dt)
    return Well(made, -1.0, partial(_above, 1.0), seen, exact, formula, height, plain)


def parabola(height: float) -> Well:
    """Out of x^2 / 2 by an end at 1, one temperature."""
    temperature, dt = 1 / (2 * height), 0.005
    seen, exact = _passages(lambda x: x, temperature, 0.0, 1.0, -FAR, dt)
    made = overdamped_langevin(_problem(partial(_square, 1.0)), temperature, dt, 1)
    formula = boundary_time(height, 1.0)
    return Well(made, 0.0, partial(_above, 1.0), seen, exact, formula, height)


def label_noise(curvature: float, height: float) -> Well:
    """Out of linear regression, descent with noisy labels, by two ends as far as E wants them."""
    width = (height * RATE * LABEL_NOISE**2 / BATCH) ** 0.5
    reached = label_noise_height(width, RATE, LABEL_NOISE, BATCH)
    diffusion = RATE * LABEL_NOISE**2 * curvature / (2 * BATCH)
    seen, exact = _passages(lambda x: curvature * x, diffusion, 0.0, width, 0.0, RATE)
    inputs = curvature**0.5 * jnp.asarray([1.0, -1.0, 1.0, -1.0])
    problem = Problem(lambda t, x, y: (x * t[0] - y) ** 2 / 2, (inputs, 0 * inputs), jax)
    made = sgd(noise.label_noise(problem, BATCH, LABEL_NOISE), RATE)
    formula = boundary_time(reached, curvature) / 2
    return Well(made, 0.0, partial(_beyond, width), seen, exact, formula, reached)


def jumps(strength: float, curvature: float = 1.0) -> Well:
    """Out of a parabola by ends at -1 and 1, by gradients that jump."""
    made = levy_sgd(_problem(partial(_square, curvature)), ALPHA, strength, 0.05 / curvature, 1)
    formula = stable_exit_time(ALPHA, strength, 1.0, 1.0)
    return Well(made, 0.0, partial(_beyond, 1.0), formula, formula, formula, curvature * formula)


SETTINGS: dict[str, Callable[[], Well]] = {
    **{f"double well, E = {e:g}": partial(double_well, e) for e in (2.0, 3.0, 4.0, 5.0)},
    **{f"to the top, E = {e:g}": partial(double_well, e, 0.0) for e in (3.0, 4.0)},
    **{f"shaped noise, E = {e:g}": partial(shaped, e) for e in (2.0, 3.0, 4.0)},
    **{f"parabola, E = {e:g}": partial(parabola, e) for e in (2.0, 3.0, 4.0)},
    "label noise, flat": partial(label_noise, 0.5, 4.0),
    "label noise, as wide": partial(label_noise, 1.0, 4.0),
    "label noise, as high": partial(label_noise, 1.0, 2.0),
    **{f"jumps, eps = {e}": partial(jumps, e) for e in (0.2, 0.1, 0.05, 0.025)},
    "jumps, 4 times as high, eps = 0.05": partial(jumps, 0.05, 4.0),
}


class Size(NamedTuple):
    """How much is run."""

    settings: tuple[str, ...]
    chains: int


FULL = Size(tuple(SETTINGS), 20_000)
SMALL = Size(
    (
        "double well, E = 2",
        "shaped noise, E = 2",
        "parabola, E = 2",
        "label noise, as high",
        "jumps, eps = 0.2",
        "jumps, eps = 0.1",
    ),
    2000,
)


def run(setting: str, *, size: Size) -> xr.Dataset:
    """Mean time to leave one well, over chains that all start at its bottom."""
    well = SETTINGS[setting]()
    dt, seed = well.made.dt, list(SETTINGS).index(setting)
    steps = round(WAIT * well.seen / dt)
    start = jnp.full((size.chains, 1), well.start, jnp.float32)
    look, key = first_passage(well.passed), jax.random.key(seed)
    found = simulate(well.made, key, start, steps=steps, observe=look)
    time = mean(np.asarray(found.step) * dt)
    return xr.Dataset(
        {n: float(getattr(well, n)) for n in ("seen", "exact", "formula", "height", "plain")}
        | {
            "time": time.value,
            "time_stderr": time.stderr,
            "stayed": 1 - np.asarray(found.passed).mean(),
            "steps": well.seen / dt,
        }
    )


def _passages(slope, diffusion, start, end, low, dt):
    """Exact mean times, as steps dt see them and of no steps; a low that is 0 mirrors the end."""
    where = slope, diffusion, start, end, low
    return discrete_passage_time(*where, dt), passage_time(*where)


def _problem(value):
    """A loss of theta (1,) without any data."""
    return Problem(lambda theta, _: value(theta), (jnp.zeros(1),), jax)


def _quartic(x):
    return (x**2 - 1) ** 2 / 4


def _cubic(x):
    return x**3 - x


def _shape(x):
    return 0.5 + x**2


def _square(curvature, x):
    return curvature * x**2 / 2


def _above(end, theta):
    return theta[0] >= end


def _beyond(end, theta):
    return abs(theta[0]) >= end


def study(size: Size, *, jobs: int, folder, cluster: str | None = None) -> xr.Dataset:
    """All settings, on `jobs` processes; what is finished is kept in `folder`."""
    return sweep_one(
        partial(run, size=size),
        {"setting": list(size.settings)},
        folder,
        jobs=jobs,
        cluster=cluster,
    )


def main(
    small: Small = False,
    setting: Annotated[list[str] | None, Option(help="one of them; again for more")] = None,
    chains: Annotated[
        int | None, Option(help="in each well", show_default="20000, small 2000")
    ] = None,
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Let many chains leave many wells, and hold their mean times against theory."""
    size = SMALL if small else FULL
    size = size._replace(
        chains=size.chains if chains is None else chains, settings=tuple(setting or size.settings)
    )
    with exit_on_error(f"run the same command again to go on from what is in {out}"):
        if size.chains < 2:
            raise ValueError(f"an error needs at least 2 chains, not {size.chains}")
        if unknown := set(size.settings) - set(SETTINGS):
            raise ValueError(f"no setting {unknown.pop()!r}: there are {'; '.join(SETTINGS)}")
        run_study(
            partial(study, size, jobs=jobs, cluster=cluster), size._asdict(), claims, picture, out
        )


if __name__ == "__main__":
    command(main)
