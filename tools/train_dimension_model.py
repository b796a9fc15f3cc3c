"""The manifolds that `dimension.estimate` has learned from: draws them, and fits the regression.

Balls of many sizes and dimensions, and random manifolds that resemble none of the benchmark:
uneven latent densities under linear, spherical, toroidal, quadratic, random-Fourier and warping
maps.  What it finds is shipped as sgdnoise/dimension/reference.npz; --out writes elsewhere.
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
import typer
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from typer import Option

from sgdnoise.data import ball
from sgdnoise.dimension._calibration import DIMENSIONS
from sgdnoise.dimension._trained._features import Balls, coordinates, features
from sgdnoise.dimension._trained._model import TABLE
from sgdnoise.lab import provenance
from sgdnoise.lab._store import atomic_write
from sgdnoise.lab._terminal import console, exit_on_error, progress, workers

SIZES = (45, 70, 100, 200, 400, 800, 1600, 3200, 6400, 12_800)  # points of a ball
LATENTS = ("ball", "cube", "gaussian", "beta", "mixture", "oblong")
MAPS = ("linear", "linear", "sphere", "torus", "quadratic", "fourier", "warp")


def main(
    count: Annotated[int, Option(help="manifolds to learn from, of each kind")] = 1800,
    jobs: Annotated[int, Option(help="processes")] = 2,
    seed: Annotated[int, Option(help="of the manifolds and the balls")] = 0,
    out: Annotated[Path, Option(help="file to write")] = TABLE,
) -> None:
    """Draw the manifolds, fit the regression, and write the table."""
    origin = provenance({"count": count, "seed": seed})
    with exit_on_error("nothing was written"), workers(jobs) as pool:
        began = time.monotonic()
        balls = [(n, d, seed) for n in SIZES for d in DIMENSIONS]
        portraits = np.asarray(_all(pool, of_balls, balls, "balls"))
        portraits = portraits.reshape(len(SIZES), len(DIMENSIONS), -1)
        table: dict = {"sizes": SIZES, "dimensions": DIMENSIONS, "portraits": portraits}
        for kind in ("clean", "noisy"):
            tasks = [(place, kind == "noisy", seed) for place in range(count)]
            seen = _all(pool, of_manifold, tasks, f"{kind} manifolds")
            table |= {f"{kind}_{name}": part for name, part in fitted(seen, table, seed).items()}
        with atomic_write(Path(out)) as new:
            kept: dict = {name: np.asarray(part, np.float32) for name, part in table.items()}
            kept["provenance"] = np.asarray(json.dumps(origin))
            with open(new, "wb") as file:
                np.savez_compressed(file, **kept)
        console.print(f"{out}: {time.monotonic() - began:.0f} s", soft_wrap=True)


def of_balls(n, d, seed):
    """Mean portrait of balls of n points, 12,000 points of them or at least two."""
    rngs = [np.random.default_rng([seed, n, d, repeat]) for repeat in range(max(2, 12_000 // n))]
    return np.mean([features(ball(n, d, rng=rng).inputs) for rng in rngs], axis=0)


def of_manifold(place, noisy, seed):
    """Number of points, dimension and portrait of a random manifold."""
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


def fitted(seen, table, seed) -> dict:
    """Places, what is to be added to their log d, and what `likeliest` says of these."""
    balls = Balls(*(np.asarray(table[name]) for name in Balls._fields))
    places = np.asarray([coordinates(balls, look, n) for n, _, look in seen])
    rest = np.log([d for _, d, _ in seen]) - places[:, 0]
    kept = np.abs(rest) < 1.5
    places, rest = places[kept], rest[kept]
    lengths, variance = likeliest(places, rest, seed)
    return {"places": places, "rest": rest, "lengths": lengths, "variance": variance}


def likeliest(places, rest, seed):
    """Lengths over which the rest changes, of 1 scale at least, and its variance in its own units.

    By marginal likelihood on 800 manifolds; no single one is believed to better than 4% in d.
    """
    scale = places.std(axis=0)
    kernel = ConstantKernel(0.2) * Matern(np.full(places.shape[1], 3.0), (1, 100), nu=1.5)
    process = GaussianProcessRegressor(kernel + WhiteKernel(0.004, (0.0016, 1)), random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # at a bound, as is meant
        found = process.fit(places[:800] / scale, rest[:800]).kernel_
    variance = found.k2.noise_level / found.k1.k1.constant_value
    return scale * found.k1.k2.length_scale, variance


def _between(low, high, rng):
    return np.exp(rng.uniform(np.log(low), np.log(high)))


def _all(pool, task, arguments, what) -> list:
    futures = [pool.submit(task, *each) for each in arguments]
    with progress(what, lambda: sum(future.done() for future in futures), len(futures)):
        return [future.result() for future in futures]


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
