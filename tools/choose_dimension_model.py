"""Compare the regressions of `dimension.estimate` on kinds of manifolds left out of training.

Every map and every density of tools/train_dimension_model.py is left out in turn; trees, the
Gaussian process and their mean learn from the others and are tested on the one left out.  The
manifolds are those of the shipped reference: only their kinds are drawn again, from its seed.  The
length scales of the process, a dozen numbers learned from all kinds, are learned again only by
--anew.
"""

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from typing import Annotated, Any, NamedTuple

import numpy as np
import rich.box
import rich.table
import typer
from typer import Option

from sgdnoise.core import mean
from sgdnoise.dimension._trained._model import REFERENCE, fit, matern
from sgdnoise.dimension._trained._predict import predict
from sgdnoise.lab import workers
from sgdnoise.lab._terminal import console, exit_on_error, progress
from tools.train_dimension_model import begun, likeliest

MAX_ERROR = 1.0  # larger errors are counted as this
METHODS = ("uncorrected", "trees", "process", "mean of both")


class Learned(NamedTuple):
    """Training data: coordinates (m, c), residuals (m,) of log d, and kinds (m, 2).

    lengths (c,) and variance are those of the process, learned from all data.
    """

    coordinates: Any
    residuals: Any
    kinds: Any
    lengths: Any
    variance: Any


def main(
    table: Annotated[Path, Option(help="the reference")] = REFERENCE,
    anew: Annotated[
        bool, Option("--anew", help="learn lengths without each kind: minutes")
    ] = False,
    jobs: Annotated[int, Option(help="processes")] = 1,
) -> None:
    """Print how far off each regression is on each kind left out, in percent."""
    with exit_on_error("nothing was printed"), workers(jobs) as pool:
        known, seed = shipped(table)
        left = [(axis, kind) for axis in (0, 1) for kind in sorted(set(known.kinds[:, axis]))]
        futures = [
            pool.submit(left_out, known, axis, kind, seed if anew else None) for axis, kind in left
        ]
        with progress("kinds", lambda: sum(f.done() for f in futures), len(futures)):
            errors = [future.result() for future in futures]
    show(known, left, errors)


def shipped(table) -> tuple[Learned, int]:
    """The clean manifolds of a reference with their kinds, and its seed.

    Raises ValueError if the manifolds drawn again have other dimensions than those stored.
    """
    with np.load(table) as arrays:
        names = ("coordinates", "residuals", "lengths", "variance")
        inputs, residuals, *process = (np.asarray(arrays[f"clean_{n}"], float) for n in names)
        arguments = json.loads(str(arrays["provenance"]))["arguments"]
    drawn = [begun(index, False, arguments["seed"])[:3] for index in range(arguments["count"])]
    dimensions = [x.shape[1] for x, _, _ in drawn]
    stored = np.exp(inputs[:, 0] + residuals)
    if len(dimensions) != stored.size or not np.allclose(dimensions, stored, rtol=1e-3):
        raise ValueError(f"{Path(table).name} is of other manifolds than those its seed draws")
    kinds = np.asarray([kinds for _, *kinds in drawn])
    return Learned(inputs, residuals, kinds, *process), arguments["seed"]


def left_out(known: Learned, axis: int, kind: str, seed: int | None = None) -> np.ndarray:
    """Errors on the manifolds of one density (axis 0) or map (1), learned from the others.

    |estimate / true - 1| of each method, (manifold, method).  A seed learns the lengths again.
    """
    tested = known.kinds[:, axis] == kind
    inputs, residuals = known.coordinates[~tested], known.residuals[~tested]
    process = known[3:] if seed is None else likeliest(inputs, residuals, seed)
    model = fit(inputs, residuals, *process)
    both = np.asarray([predict(model, values) for values in known.coordinates[tested]])
    smooth = matern(known.coordinates[tested], model.coordinates, model.lengths) @ model.weights
    predictions = np.stack([0 * both, 2 * both - smooth, smooth, both], axis=1)
    errors = np.abs(np.expm1(predictions - known.residuals[tested][:, None]))
    return np.minimum(errors, MAX_ERROR)


def show(known: Learned, left, errors) -> None:
    """A row for each kind, the mean over all, and how much each method differs from the last.

    A manifold counts once there, with the mean of its errors without its density and its map.
    """
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, title="Percent off, kind left out")
    for heading in ("left out", "manifolds", *METHODS):
        table.add_column(heading, justify="left" if heading == "left out" else "right")
    twice = np.empty((2, len(known.residuals), len(METHODS)))
    for (axis, kind), value in zip(left, errors, strict=True):
        twice[axis, known.kinds[:, axis] == kind] = 100 * value
        name = f"{('density', 'map')[axis]} {kind}"
        table.add_row(name, str(len(value)), *map(_number, 100 * value.mean(axis=0)))
    table.add_section()
    everything = twice.mean(axis=0)
    cells = (f"{_number(e.value)} ± {e.stderr:.1f}" for e in map(mean, everything.T))
    table.add_row("all", str(len(everything)), *cells)
    apart = map(mean, (everything - everything[:, -1:]).T[:-1])
    cells = (f"{e.value:+.1f} ± {e.stderr:.1f}" for e in apart)
    table.add_row("less the last", "", *cells, "")
    console.print(table)


def _number(value):
    return f"{value:.1f}"


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
