"""Train the model of `dimension.estimate`: simulate manifolds, fit the regressions, grow the trees.

The data are balls of many sizes and dimensions, and random manifolds that resemble none of the
benchmark: uneven latent densities under linear, spherical, toroidal, quadratic, random-Fourier and
warping maps.  The results are shipped as sgdnoise/dimension/_trained/reference.npz and forest.npz;
--out writes to another folder.
"""

import json
import sys
import time
import warnings
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from typing import Annotated

import numpy as np
import sklearn
import typer
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from typer import Option

from sgdnoise.core._files import atomic_write
from sgdnoise.data import ball
from sgdnoise.dimension._calibration import DIMENSIONS
from sgdnoise.dimension._trained._features import Balls, coordinates, features
from sgdnoise.dimension._trained._model import FOREST, REFERENCE, grow
from sgdnoise.lab import provenance, workers
from sgdnoise.lab._terminal import console, exit_on_error, progress

# Balls reach farther than manifolds, so that larger dimensions are told apart.
BALL_DIMENSIONS = (*DIMENSIONS, 150, 190, 240, 300)
SIZES = (45, 70, 100, 200, 400, 800, 1600, 3200, 6400, 12_800)  # points of a ball
LATENTS = ("ball", "cube", "gaussian", "beta", "mixture", "oblong")
MAPS = ("linear", "linear", "sphere", "torus", "quadratic", "fourier", "warp")


def main(
    count: Annotated[int, Option(help="manifolds to learn from, of each kind")] = 1800,
    jobs: Annotated[int, Option(help="processes")] = 2,
    seed: Annotated[int, Option(help="of the manifolds and the balls")] = 0,
    out: Annotated[Path, Option(help="folder to write to")] = REFERENCE.parent,
) -> None:
    """Simulate the manifolds, fit the regressions, and write both files."""
    origin = provenance({"count": count, "seed": seed})
    with exit_on_error("nothing was written"), workers(jobs) as pool:
        began = time.monotonic()
        balls = [(n, d, seed) for n in SIZES for d in BALL_DIMENSIONS]
        of_size = np.asarray(_all(pool, of_balls, balls, "balls"))
        of_size = of_size.reshape(len(SIZES), len(BALL_DIMENSIONS), -1)
        table: dict = {"sizes": SIZES, "dimensions": BALL_DIMENSIONS, "features": of_size}
        for kind in ("clean", "noisy"):
            tasks = [(index, kind == "noisy", seed) for index in range(count)]
            manifolds = _all(pool, of_manifold, tasks, f"{kind} manifolds")
            data = fitted(manifolds, table, seed)
            table |= {f"{kind}_{name}": array for name, array in data.items()}
        reference: dict = {name: np.asarray(array, np.float32) for name, array in table.items()}
        _save(Path(out) / FOREST.name, grown(reference))
        reference["provenance"] = np.asarray(json.dumps(origin))
        _save(Path(out) / REFERENCE.name, reference)
        console.print(f"{out}: {time.monotonic() - began:.0f} s", soft_wrap=True)


def grown(reference) -> dict:
    """The packed forests of the clean and the noisy manifolds, and the version that grew them."""
    forest = {"scikit_learn": np.asarray(sklearn.__version__)}
    for kind in ("clean", "noisy"):
        data = [reference[f"{kind}_{name}"].astype(float) for name in ("coordinates", "residuals")]
        arrays = zip(("leaf", "feature", "threshold"), grow(*data), strict=True)
        forest |= {f"{kind}_{name}": array for name, array in arrays}
    return forest


def _save(path, arrays):
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def of_balls(n, d, seed):
    """The mean features of balls of n points, at least two, of 12,000 points together."""
    rngs = [np.random.default_rng([seed, n, d, repeat]) for repeat in range(max(2, 12_000 // n))]
    return np.mean([features(ball(n, d, rng=rng).inputs) for rng in rngs], axis=0)


def of_manifold(place, noisy, seed):
    """The number of points, the dimension and the features of a random manifold."""
    x, _, form, rng = begun(place, noisy, seed)
    points = mapped(x, form, rng)
    if noisy:
        points = with_noise(points, rng)
    return *x.shape, features(points)


def begun(place, noisy, seed):
    """Latent points (n, d) of a random manifold, the name of their density, and of the map."""
    rng = np.random.default_rng([seed, 1 + noisy, place])
    n = int(np.exp(rng.uniform(np.log(250), np.log(5000))))
    d = max(1, round(np.exp(rng.uniform(np.log(0.75), np.log(90)))))
    law = rng.choice(LATENTS)
    return latent(law, n, d, rng), law, rng.choice(MAPS), rng


def latent(law, n, d, rng):
    """n latent points of unit scale, (n, d)."""
    match law:
        case "ball":
            return ball(n, d, rng=rng).inputs * (d + 2) ** 0.5
        case "cube":
            return rng.uniform(-1, 1, (n, d)) * 3**0.5
        case "gaussian":
            return rng.normal(size=(n, d))
        case "beta":
            a, b = np.exp(rng.uniform(np.log(0.4), np.log(8), 2))
            return (rng.beta(a, b, (n, d)) - a / (a + b)) * (a + b) * ((a + b + 1) / (a * b)) ** 0.5
        case "mixture":
            return rng.normal(size=(n, d)) * np.exp(0.4 * rng.normal(size=(n, 1)))
    return rng.uniform(-1, 1, (n, d)) * np.exp(rng.uniform(-1.5, 0, d))


def mapped(x, form, rng):
    """Points on a manifold, (n, D), of as many dimensions as the latents x (n, d)."""
    n, d = x.shape
    match form:
        case "linear":
            return x
        case "sphere":
            directions = rng.normal(size=(n, d + 1))
            return directions / np.linalg.norm(directions, axis=1, keepdims=True)
        case "torus":
            angles, radii = rng.uniform(0, 2 * np.pi, (n, d)), np.exp(rng.uniform(-0.7, 0.7, d))
            return np.concatenate([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
        case "quadratic":
            forms = rng.normal(size=(int(rng.integers(1, 2 * d + 2)), d, d)) / d
            bent = np.stack([np.sum((x @ form) * x, axis=1) for form in forms], axis=1)
            return np.concatenate([x, _between(0.1, 1.5, rng) * bent], axis=1)
        case "fourier":
            waves = rng.normal(size=(d, int(rng.integers(d + 1, 5 * d + 6)))) / d**0.5
            return np.cos(
                _between(0.3, 2.5, rng) * x @ waves + rng.uniform(0, 2 * np.pi, waves.shape[1])
            )
    turned = x @ rng.normal(size=(d, d)) / d**0.5
    return np.concatenate(
        [x, _between(0.2, 1.2, rng) * np.sin(_between(1, 4, rng) * turned)], axis=1
    )


def with_noise(points, rng):
    """Noise of 1 to 10% of the radius of the cloud, in up to 300 coordinates or its own."""
    width = max(points.shape[1], round(_between(min(points.shape[1], 300), 301, rng)))
    points = np.pad(points, [(0, 0), (0, width - points.shape[1])])
    radius = np.sqrt(np.mean(np.sum((points - points.mean(0)) ** 2, axis=1)))
    return points + _between(0.01, 0.1, rng) * radius / width**0.5 * rng.normal(size=points.shape)


def fitted(manifolds, table, seed) -> dict:
    """Coordinates, residuals of their log d, and the lengths and variance of the process."""
    balls = Balls(*(np.asarray(table[name]) for name in Balls._fields))
    inputs = np.asarray([coordinates(balls, cloud, n) for n, _, cloud in manifolds])
    residuals = np.log([d for _, d, _ in manifolds]) - inputs[:, 0]
    typical = np.abs(residuals) < 1.5
    inputs, residuals = inputs[typical], residuals[typical]
    lengths, variance = likeliest(inputs, residuals, seed)
    names = ("coordinates", "residuals", "lengths", "variance")
    return dict(zip(names, (inputs, residuals, lengths, variance), strict=True))


def likeliest(inputs, residuals, seed):
    """The length scales of the process, of at least one standard deviation, and relative variance.

    They maximise the marginal likelihood of 800 manifolds; the noise is at least 4% in d.
    """
    scale = inputs.std(axis=0)
    kernel = ConstantKernel(0.2) * Matern(np.full(inputs.shape[1], 3.0), (1, 100), nu=1.5)
    process = GaussianProcessRegressor(kernel + WhiteKernel(0.004, (0.0016, 1)), random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # at a bound, as intended
        optimum = process.fit(inputs[:800] / scale, residuals[:800]).kernel_
    variance = optimum.k2.noise_level / optimum.k1.k1.constant_value
    return scale * optimum.k1.k2.length_scale, variance


def _between(low, high, rng):
    return np.exp(rng.uniform(np.log(low), np.log(high)))


def _all(pool, task, arguments, what) -> list:
    futures = [pool.submit(task, *value) for value in arguments]
    with progress(what, lambda: sum(future.done() for future in futures), len(futures)):
        return [future.result() for future in futures]


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
