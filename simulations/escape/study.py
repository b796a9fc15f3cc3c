"""How long noise takes to leave a well: first passage times against integrals and limits.

Isotropic noise in a double well and in a parabola with an end, noise that depends on the position,
label noise in sharp and flat wells, and Lévy noise.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

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
from sgdnoise.lab import Study, estimate_variables, option
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
from simulations.escape import claims, figure

DURATION = 8  # of a run, in predicted mean times: a fraction exp(-8) of the chains never leaves
BARRIER, BOTTOM, TOP = 0.25, 2.0, -1.0  # of (x^2 - 1)^2 / 4: height, curvatures at both ends
LOW = -4.0  # a position that no chain reaches
ALPHA = 1.5  # of the Lévy noise
RATE, BATCH, LABEL_NOISE = 0.005, 2, 0.5


class Well(NamedTuple):
    """A process, where it starts, when it has left, and the mean times that theory predicts."""

    process: Process
    start: float
    passed: Callable[[Any], Any]
    discrete: float  # mean time of discrete steps; of Lévy noise the limit
    exact: float  # mean time in continuous time
    formula: float  # limit of small noise
    height: float  # E, the barrier in units of the noise
    plain: float = np.nan  # Kramers' time as if the noise were everywhere that at the bottom


def double_well(height: float, end: float = 1.0) -> Well:
    """From one minimum of (x^2 - 1)^2 / 4 to the other, or to the top at 0; isotropic noise."""
    temperature, dt = BARRIER / height, 0.02
    discrete, exact = _times(_cubic, temperature, -1.0, end, LOW, dt)
    formula = kramers_time(BARRIER, temperature, BOTTOM, TOP) * (1 if end else 0.5)
    process = overdamped_langevin(_problem(_quartic), temperature, dt)
    return Well(process, -1.0, partial(_above, end), discrete, exact, formula, height)


def shaped(height: float) -> Well:
    """The same well with noise D = T (1/2 + x^2), which grows with curvature."""
    temperature, dt = quasipotential(_cubic, _shape, -1.0, 0.0) / height, 0.01

    def diffusion(x):
        return temperature * _shape(x)

    ends = float(diffusion(1.0)), float(diffusion(0.0))
    discrete, exact = _times(_cubic, diffusion, -1.0, 1.0, LOW, dt)
    formula = shaped_kramers_time(height, BOTTOM, TOP, *ends)
    plain = kramers_time(BARRIER, ends[0], BOTTOM, TOP)
    model = noise.additive(_problem(_quartic), lambda t: Diagonal(2 * diffusion(t) / dt))
    process = langevin(model, dt)
    return Well(process, -1.0, partial(_above, 1.0), discrete, exact, formula, height, plain)


def parabola(height: float) -> Well:
    """Out of x^2 / 2 through an end at 1, isotropic noise."""
    temperature, dt = 1 / (2 * height), 0.005
    discrete, exact = _times(lambda x: x, temperature, 0.0, 1.0, LOW, dt)
    process = overdamped_langevin(_problem(partial(_square, 1.0)), temperature, dt)
    formula = boundary_time(height, 1.0)
    return Well(process, 0.0, partial(_above, 1.0), discrete, exact, formula, height)


def label_noise(curvature: float, height: float) -> Well:
    """Out of linear regression, SGD with label noise, through two ends at the distance of E."""
    width = (height * RATE * LABEL_NOISE**2 / BATCH) ** 0.5
    barrier = label_noise_height(width, RATE, LABEL_NOISE, BATCH)
    diffusion = RATE * LABEL_NOISE**2 * curvature / (2 * BATCH)
    discrete, exact = _times(lambda x: curvature * x, diffusion, 0.0, width, 0.0, RATE)
    inputs = curvature**0.5 * jnp.asarray([1.0, -1.0, 1.0, -1.0])
    problem = Problem(lambda t, x, y: (x * t[0] - y) ** 2 / 2, (inputs, 0 * inputs))
    process = sgd(noise.label_noise(problem, BATCH, LABEL_NOISE), RATE)
    formula = boundary_time(barrier, curvature) / 2
    return Well(process, 0.0, partial(_beyond, width), discrete, exact, formula, barrier)


def jumps(strength: float, curvature: float = 1.0) -> Well:
    """Out of a parabola through ends at -1 and 1, by Lévy noise."""
    process = levy_sgd(_problem(partial(_square, curvature)), ALPHA, strength, 0.05 / curvature)
    time = stable_exit_time(ALPHA, strength, 1.0, 1.0)
    return Well(process, 0.0, partial(_beyond, 1.0), time, time, time, curvature * time)


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
SMALL = [
    *("double well, E = 2", "shaped noise, E = 2", "parabola, E = 2"),
    *("label noise, as high", "jumps, eps = 0.2", "jumps, eps = 0.1"),
]


def run(setting: str, *, chains: int) -> xr.Dataset:
    """Mean time to leave one well, over chains that all start at its bottom."""
    well = SETTINGS[setting]()
    dt, key = well.process.dt, jax.random.key(list(SETTINGS).index(setting))
    start = jnp.full((chains, 1), well.start, jnp.float32)
    steps = round(DURATION * well.discrete / dt)
    result = simulate(well.process, key, start, steps=steps, observe=first_passage(well.passed))
    theory = {n: float(getattr(well, n)) for n in ("exact", "formula", "height", "plain")}
    theory["seen"] = float(well.discrete)
    stayed = {"stayed": 1 - np.asarray(result.passed).mean(), "steps": well.discrete / dt}
    return xr.Dataset(
        theory | estimate_variables("time", mean(np.asarray(result.step) * dt)) | stayed
    )


def _times(gradient, diffusion, start, end, low, dt):
    """Exact mean times of steps dt and in continuous time; a reflecting end at low = 0."""
    setting = gradient, diffusion, start, end, low
    return discrete_passage_time(*setting, dt), passage_time(*setting)


def _problem(value):
    """A loss of theta (1,) without any data."""
    return Problem(lambda theta, _: value(theta), (jnp.zeros(1),))


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


study = Study(
    run,
    grid={"setting": [*SETTINGS]},
    sizes={"full": {"chains": 20_000}, "small": {"setting": SMALL, "chains": 2000}},
    options={
        "setting": option(list, "only this well; may be repeated", choices=list(SETTINGS)),
        "chains": option(int, "chains in each well", least=2),
    },
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
