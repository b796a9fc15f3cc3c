"""How heavy the stationary tails of theta are: from minibatches, from Lévy noise, or apparent.

Linear regression with fresh batches, with one input and several, against Kesten's equation; SGD
driven by stable noise on a quadratic loss, against the exact law of its steps; and layers with
noise of different scales, pooled and separate.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from sgdnoise.core import Problem, mean
from sgdnoise.dynamics import Process, levy_sgd, simulate
from sgdnoise.lab import Study, estimate_variables, merge_sweeps, option, size_table
from sgdnoise.noise import Normal, tail_index
from sgdnoise.theory import online_covariance, radial_index
from simulations.tails import claims, figure
from simulations.tails._theory import diverging, driven_scale, flow_scale

LABEL_NOISE, JUMP = 1.0, 1.0  # of targets; scale of the stable gradient noise
SMALLEST = 0.1  # the smallest of several unequal curvatures; the largest is 1
COORDINATES = 4  # of the quadratic loss
LAYER_SCALES, LAYER_SIZE = np.geomspace(1, 100, 5), 8  # scales of the noise, coordinates of each
FREQUENCIES, BEYOND = (0.3, 1.0, 2.0), (1, 5, 20)  # over and in units of the predicted scale


def line(share: float, batch: int, curvature: float, **setting) -> xr.Dataset:
    """Hill's index and the second moment of stationary theta, regression on one input.

    share: fraction of the rate from which the variance is infinite.
    """
    rate = share * diverging(batch, curvature, 1)
    theta = _regression((curvature,), batch, rate, 0, **setting)[..., 0]
    index = np.asarray([tail_index(x).value for x in theta])
    exact = online_covariance(np.asarray([[curvature]]), LABEL_NOISE, rate, batch, diverging=True)
    return xr.Dataset(
        estimate_variables("line", mean(index))
        | estimate_variables("square", mean((theta**2).mean(1)))
        | {
            "line_kesten": radial_index(rate, batch, 1, curvature),
            "square_exact": float(exact[0, 0]),
            "line_rate": rate,
        }
    )


def plane(share: float, dimension: int, even: int, **setting) -> xr.Dataset:
    """Hill's index of |theta|, regression on several inputs, equal or not, at a batch of one."""
    curvatures = np.geomspace(1, 1 if even else SMALLEST, dimension)
    rate = share * diverging(1, 1.0, dimension)
    theta = _regression(tuple(curvatures.tolist()), 1, rate, 1, **setting)
    index = np.asarray([tail_index(x).value for x in np.linalg.norm(theta, axis=-1)])
    kesten = {"plane_kesten": radial_index(rate, 1, dimension)}
    return xr.Dataset(estimate_variables("plane", mean(index)) | kesten)


def driven(alpha: float, *, pulls, driven: int, steps: int, seed: int) -> xr.Dataset:
    """The stationary law of SGD with stable noise on a quadratic loss of curvature 1."""
    theta = _quadratic(alpha, np.repeat(pulls, driven), JUMP, COORDINATES, steps, (seed, 2))
    rows = [_law(x, alpha, rate) for x, rate in zip(theta, pulls, strict=True)]
    return xr.concat(rows, "pull").assign_coords(pull=[*pulls])


def mixed(alpha: float, *, driven: int, steps: int, seed: int) -> xr.Dataset:
    """The index of theta whose layers have noise of different scales, pooled and separate."""
    scales = np.repeat(LAYER_SCALES, LAYER_SIZE)
    rates = np.repeat(0.5, driven // 10)
    theta = _quadratic(alpha, rates, scales, len(scales), steps, (seed, 3))[0]
    variables: dict = {}
    for method in ("stable", "blocks"):
        separate = tail_index(theta, method=method, layers=np.zeros(len(scales)))
        pooled = tail_index(theta.reshape(-1), method=method)
        for name, estimate in (("apart", separate), ("pooled", pooled)):
            value, error = (np.ravel(x)[0] for x in (estimate.value, estimate.stderr))
            key = f"{method}_{name}"
            variables |= {key: float(value), f"{key}_stderr": float(error)}
    return xr.Dataset(variables)


def _law(x, alpha, rate):
    """Characteristic function and tail of theta, in units of the predicted scale."""
    scale = driven_scale(rate, alpha, JUMP)
    unit = x.reshape(-1) / scale
    waves = [mean(np.cos(w * unit)) for w in FREQUENCIES]
    beyond = [mean((abs(unit) > t).astype(float)) for t in BEYOND]
    return xr.Dataset(
        estimate_variables("wave", waves, "wave_at")
        | estimate_variables("beyond", beyond, "beyond_at")
        | estimate_variables("driven", tail_index(unit, method="stable"))
        | {"scale": scale, "scale_flow": flow_scale(rate, alpha, JUMP)},
        {"wave_at": [*FREQUENCIES], "beyond_at": [*BEYOND]},
    )


def _regression(curvatures, batch, rate, part, *, members, chains, steps, seed):
    """Stationary theta (member, chain, input), targets noise, a fresh batch at each step."""
    count, d = members * chains, len(curvatures)
    setting = {"given": np.full(count, rate), "every": steps, "observe": _observe_theta}
    process, start = _regression_sgd(curvatures, batch), np.zeros((count, d))
    with jax.enable_x64(True):
        key = _key(seed, part, d, batch, round(1e6 * rate), round(1e6 * sum(curvatures)))
        theta = np.asarray(simulate(process, key, start, steps=steps, **setting))
    return theta.reshape(members, chains, d)


@cache
def _regression_sgd(curvatures, batch):
    """rate -> Process; cached, so that settings that differ in rate alone are compiled once."""
    d, deviations = len(curvatures), np.sqrt(curvatures)

    def process(rate):
        def step(theta, normal):
            x = normal[: batch * d].reshape(batch, d) * deviations
            residual = x @ theta - LABEL_NOISE * normal[batch * d :]
            return theta - rate * (residual @ x) / batch

        return Process(step, Normal(batch * (d + 1)), rate)

    return process


def _observe_theta(row):  # noqa: ARG001 - the same for every chain
    return _identity


def _identity(theta):
    return theta


def _quadratic(alpha, rates, jump, size, steps, key):
    """Stationary theta (rate, chain, size) on a quadratic loss of curvature 1."""

    def process(rate):
        return levy_sgd(problem, alpha, jump * rate ** (1 - 1 / alpha), rate)

    setting = {"given": rates, "every": steps, "observe": _observe_theta}
    with jax.enable_x64(True):
        problem = Problem(lambda t, c: ((t - c) ** 2).sum(1) / 2, (jnp.zeros((1, size)),))
        start, root = np.zeros((len(rates), size)), _key(*key, round(1000 * alpha))
        theta = simulate(process, root, start, steps=steps, **setting)
        return np.asarray(theta).reshape(len(np.unique(rates)), -1, size)


def _key(seed, *numbers):
    key = jax.random.key(seed)
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key


def execute(parameters: dict, session) -> xr.Dataset:
    """All four experiments, each on its own grid."""
    p = parameters
    common = {"steps": p["steps"], "seed": p["seed"]}
    samples = common | {"members": p["members"], "chains": p["chains"]}
    stable = common | {"driven": p["driven"]}
    shares, alphas = {"share": list(p["shares"])}, {"alpha": list(p["alphas"])}
    lines = {"batch": list(p["batches"]), "curvature": list(p["curvatures"])}
    planes = {"dimension": list(p["dimensions"]), "even": [1, 0]}
    sweeps = {
        "line": (partial(line, **samples), shares | lines),
        "plane": (partial(plane, **samples), shares | planes),
        "driven": (partial(driven, pulls=tuple(p["pulls"]), **stable), alphas),
        "mixed": (partial(mixed, **stable), alphas),
    }
    return merge_sweeps(session.sweep_all(sweeps))


FULL, SMALL = size_table(  # parameter: full, small
    {
        "shares": ((0.3, 0.7, 1.0, 1.2), (0.7, 1.2)),
        "batches": ((1, 4), (1,)),
        "curvatures": ((1.0, 4.0), (1.0,)),
        "dimensions": ((2, 3), (2,)),
        "alphas": ((1.0, 1.3, 1.7, 2.0), (1.3,)),
        "pulls": ((0.1, 0.5, 1.0, 1.6), (0.1, 1.6)),  # rate x curvature
        "members": (16, 4),
        "chains": (40_000, 4000),
        "steps": (150, 60),
        "driven": (40_000, 20_000),
    }
)

study = Study(
    execute=execute,
    sizes={"full": FULL, "small": SMALL},
    options={
        "members": option(int, "samples of each setting", least=2),
        "chains": option(int, "chains of each sample", least=100),
    },
    seed=True,
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
