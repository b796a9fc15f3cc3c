"""How often intervals of 95% hold the mean value of an estimator, for 120 points of ten laws.

`python -m benchmarks.coverage [--repeats 400]` prints a table.  The mean value, over all repeats,
takes the place of the truth, since an error from groups is statistical: it does not know of bias.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import warnings
from collections.abc import Callable
from typing import Annotated

import numpy as np
import typer
from typer import Option

from sgdnoise.core import with_group_error
from sgdnoise.dimension import (
    ERROR_GROUPS,
    correlation,
    effective_rank,
    levina_bickel,
    participation_ratio,
    stable_rank,
    twonn,
)

N_POINTS = 120
ESTIMATORS: dict[str, Callable] = {
    "participation_ratio": participation_ratio,
    "effective_rank": effective_rank,
    "stable_rank": stable_rank,
    "twonn": twonn,
    "levina_bickel": levina_bickel,
    "correlation": correlation,
}


def clouds(rng) -> dict[str, np.ndarray]:
    """Points of ten laws: normal and not, of light and heavy tails, in 4 to 300 coordinates."""
    z = rng.normal(size=(N_POINTS, 10))
    t5 = rng.standard_t(5, size=(N_POINTS, 10))
    return {
        "normal": z[:, :5],
        "normal, decaying": z * 0.7 ** np.arange(10),
        "normal, two scales": z[:, :8] * np.repeat([3.0, 1.0], [2, 6]),
        "t5": t5[:, :5],
        "t5, decaying": t5 * 0.8 ** np.arange(10),
        "gamma": rng.gamma(2.0, size=(N_POINTS, 6)),
        "uniform": rng.uniform(size=(N_POINTS, 4)),
        "sphere": z[:, :4] / np.linalg.norm(z[:, :4], axis=1, keepdims=True),
        "two clusters": z[:, :6] + 4 * rng.integers(0, 2, size=(N_POINTS, 1)),
        "300 coordinates": rng.normal(size=(N_POINTS, 300)) * np.arange(1, 301) ** -0.7,
    }


def coverage(name: str, repeats: int, laws=None) -> dict[str, float]:
    """The share of intervals that hold the mean, for each law."""
    found: dict[str, list] = {}
    for repeat in range(repeats):
        for law, points in clouds(np.random.default_rng([repeat, 7])).items():
            if laws is None or law in laws:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    estimate = with_group_error(
                        ESTIMATORS[name], points, **ERROR_GROUPS.get(name, {})
                    )
                found.setdefault(law, []).append((float(estimate.value), *estimate.interval()))
    shares = {}
    for law, rows in found.items():
        values, low, high = np.transpose(np.asarray(rows, float))
        shares[law] = float(np.mean((low <= values.mean()) & (values.mean() <= high)))
    return shares


def main(repeats: Annotated[int, Option(min=10, help="clouds of each law")] = 400) -> None:
    """Print the table."""
    laws = [*clouds(np.random.default_rng(0))]
    print(f"| estimator | {' | '.join(laws)} |")
    print(f"|---|{'---:|' * len(laws)}")
    for name in ESTIMATORS:
        shares = coverage(name, repeats)
        print(f"| {name} | {' | '.join(f'{100 * shares[law]:.0f}' for law in laws)} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
