"""How heavy the tails of theta are at rest: made by fresh batches, driven by jumps, or faked.

Regression on fresh batches, on one input and several, against Kesten's equation; descent driven by
stable noise in a bowl, against the exact law of its steps; and layers of unlike scales, pooled.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from functools import cache, partial
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from typer import Option

from sgdnoise.core import Problem, mean
from sgdnoise.dynamics import Process, levy_sgd, simulate
from sgdnoise.lab._terminal import (
    Cluster,
    Jobs,
    Out,
    Small,
    command,
    exit_on_error,
    run_study,
    sweep_all,
)
from sgdnoise.noise import Normal, tail_index
from sgdnoise.theory import online_covariance, radial_index
from simulations.tails import claims
from simulations.tails import figure as picture

OUT = Path("out/tails")
LABEL_NOISE, JUMP = 1.0, 1.0  # of targets; scale of the stable gradient noise
UNEVEN = 0.1  # the smallest curvature of several that differ, the largest 1
COORDINATES = 4  # of a bowl
LAYERS, TENSOR = np.geomspace(1, 100, 5), 8  # scales of noise, and coordinates of each
WAVES, BEYOND = (0.3, 1.0, 2.0), (1, 5, 20)  # over and in units of the predicted scale


class Size(NamedTuple):
    """How much is run."""

    shares: tuple[float, ...]  # of the rate from which the variance is infinite
    batches: tuple[int, ...]
    curvatures: tuple[float, ...]
    dimensions: tuple[int, ...]
    alphas: tuple[float, ...]
    pulls: tuple[float, ...]  # rate x curvature of a bowl
    members: int
    chains: int
    steps: int
    driven: int
    seed: int = 0


FULL = Size(
    (0.3, 0.7, 1.0, 1.2),
    (1, 4),
    (1.0, 4.0),
    (2, 3),
    (1.0, 1.3, 1.7, 2.0),
    (0.1, 0.5, 1.0, 1.6),
    16,
    40_000,
    150,
    40_000,
)
SMALL = Size((0.7, 1.2), (1,), (1.0,), (2,), (1.3,), (0.1, 1.6), 4, 4000, 60, 20_000)


def line(share: float, batch: int, curvature: float, *, size: Size) -> xr.Dataset:
    """Hill's index and the second moment of theta, regression on one input."""
    rate = share * claims.diverging(batch, curvature, 1)
    theta = _regression((curvature,), batch, rate, size, 0)[..., 0]
    index = np.asarray([tail_index(x).value for x in theta])
    exact = online_covariance(np.asarray([[curvature]]), LABEL_NOISE, rate, batch, diverging=True)
    return xr.Dataset(
        _measured("line", mean(index))
        | _measured("square", mean((theta**2).mean(1)))
        | {
            "line_kesten": radial_index(rate, batch, 1, curvature),
            "square_exact": float(exact[0, 0]),
            "line_rate": rate,
        }
    )


def plane(share: float, dimension: int, even: int, *, size: Size) -> xr.Dataset:
    """Hill's index of |theta|, regression on several inputs, alike or not, at a batch of one."""
    curvatures = np.geomspace(1, 1 if even else UNEVEN, dimension)
    rate = share * claims.diverging(1, 1.0, dimension)
    theta = _regression(tuple(curvatures.tolist()), 1, rate, size, 1)
    index = np.asarray([tail_index(x).value for x in np.linalg.norm(theta, axis=-1)])
    return xr.Dataset(
        _measured("plane", mean(index)) | {"plane_kesten": radial_index(rate, 1, dimension)}
    )


def driven(alpha: float, *, size: Size) -> xr.Dataset:
    """The law of theta in a bowl of curvature 1, descent along gradients with stable noise."""
    rates = np.repeat(size.pulls, size.driven)
    theta = _bowl(alpha, rates, JUMP, COORDINATES, size, 2)
    rows = [_of_law(x, alpha, rate) for x, rate in zip(theta, size.pulls, strict=True)]
    return xr.concat(rows, "pull").assign_coords(pull=[*size.pulls])


def mixed(alpha: float, *, size: Size) -> xr.Dataset:
    """The index of theta whose layers have noise of unlike scales, pooled and apart."""
    scales = np.repeat(LAYERS, TENSOR)
    theta = _bowl(alpha, np.repeat(0.5, size.driven // 10), scales, len(scales), size, 3)[0]
    found: dict = {}
    for method in ("stable", "blocks"):
        apart = tail_index(theta, method=method, layers=np.zeros(len(scales)))
        naive = tail_index(theta.reshape(-1), method=method)
        found |= _measured(f"{method}_apart", (apart.value[0], apart.stderr[0]))
        found |= _measured(f"{method}_pooled", naive)
    return xr.Dataset(found)


def _of_law(x, alpha, rate):
    """Waves and shares of theta (chain, coordinate), in units of the scale that is predicted."""
    scale = claims.driven_scale(rate, alpha, JUMP)
    unit = x.reshape(-1) / scale
    waves = [mean(np.cos(w * unit)) for w in WAVES]
    beyond = [mean((abs(unit) > t).astype(float)) for t in BEYOND]
    index = tail_index(unit, method="stable")
    return xr.Dataset(
        _measured("wave", _columns(waves), "wave_at")
        | _measured("beyond", _columns(beyond), "beyond_at")
        | _measured("driven", index)
        | {"scale": scale, "scale_flow": claims.flow_scale(rate, alpha, JUMP)},
        {"wave_at": [*WAVES], "beyond_at": [*BEYOND]},
    )


def _regression(curvatures, batch, rate, size, part):
    """Theta at rest (member, chain, input), from zero, targets noise, a fresh batch each step."""
    count, d = size.members * size.chains, len(curvatures)
    how = {"given": np.full(count, rate), "every": size.steps, "observe": _as_it_is}
    made, start = _descent(curvatures, batch), np.zeros((count, d))
    with jax.enable_x64(True):
        key = _key(size.seed, part, d, batch, round(1e6 * rate), round(1e6 * sum(curvatures)))
        found = np.asarray(simulate(made, key, start, steps=size.steps, **how))
    return found.reshape(size.members, size.chains, d)


@cache
def _descent(curvatures, batch):
    """rate -> Process; kept, so that settings that differ in rate alone are compiled once."""
    d, deviations = len(curvatures), np.sqrt(curvatures)

    def process(rate):
        def step(theta, white):
            x = white[: batch * d].reshape(batch, d) * deviations
            residual = x @ theta - LABEL_NOISE * white[batch * d :]
            return theta - rate * (residual @ x) / batch

        return Process(step, Normal(batch * (d + 1)), rate)

    return process


def _as_it_is(row):  # noqa: ARG001 - the same for every chain
    return _same


def _same(theta):
    return theta


def _bowl(alpha, rates, jump, p, size, part):
    """Theta at rest (rate, chain, p) in a bowl of curvature 1."""
    count = len(np.unique(rates))

    def process(rate):
        return levy_sgd(bowl, alpha, jump * rate ** (1 - 1 / alpha), rate, p)

    how = {"given": rates, "every": size.steps, "observe": _as_it_is}
    with jax.enable_x64(True):
        bowl = Problem(lambda t, c: ((t - c) ** 2).sum(1) / 2, (jnp.zeros((1, p)),), jax)
        key = _key(size.seed, part, round(1000 * alpha))
        found = simulate(process, key, np.zeros((len(rates), p)), steps=size.steps, **how)
        return np.asarray(found).reshape(count, -1, p)


def _key(seed, *parts):
    key = jax.random.key(seed)
    for part in parts:
        key = jax.random.fold_in(key, part)
    return key


def _columns(found):
    return [e[0] for e in found], [e[1] for e in found]


def _measured(name, found, *axes):
    value, error = (np.asarray(part, float) for part in found[:2])
    return {name: (axes, value), f"{name}_stderr": (axes, error)}


def study(size: Size, *, jobs: int, folder, cluster: str | None = None) -> xr.Dataset:
    """All parts, on `jobs` processes; what is finished is kept in `folder`."""
    shares, alphas = {"share": [*size.shares]}, {"alpha": [*size.alphas]}
    more = {"batch": [*size.batches], "curvature": [*size.curvatures]}
    several = {"dimension": [*size.dimensions], "even": [1, 0]}
    parts: dict[str, tuple] = {
        "line": (line, shares | more),
        "plane": (plane, shares | several),
        "driven": (driven, alphas),
        "mixed": (mixed, alphas),
    }
    sized = {name: (partial(run, size=size), grid) for name, (run, grid) in parts.items()}
    found = sweep_all(sized, folder, jobs=jobs, cluster=cluster)
    return xr.merge(found.values(), join="outer", compat="no_conflicts")


def main(
    small: Small = False,
    members: Annotated[
        int | None, Option(help="samples of each setting", show_default="by size")
    ] = None,
    chains: Annotated[int | None, Option(help="in each sample", show_default="by size")] = None,
    seed: Annotated[int, Option(help="of all that is drawn")] = 0,
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Run all parts, and hold tails against what is predicted."""
    size = SMALL if small else FULL
    size = size._replace(
        members=size.members if members is None else members,
        chains=size.chains if chains is None else chains,
        seed=seed,
    )
    with exit_on_error(f"run the same command again to go on from what is in {out}"):
        if size.members < 2 or size.chains < 100:
            raise ValueError(
                f"a tail and its error need at least 2 members of 100 chains, "
                f"not {size.members} of {size.chains}"
            )
        if seed < 0:
            raise ValueError(f"a seed is a whole number from 0, not {seed}")
        run_study(
            partial(study, size, jobs=jobs, cluster=cluster), size._asdict(), claims, picture, out
        )


if __name__ == "__main__":
    command(main)
