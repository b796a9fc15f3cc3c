"""Which regression `dimension.estimate` learns: each, on the kinds of manifold it has not seen.

Every map and every density of simulations/reference.py is left out in turn; trees, the Gaussian
process and their mean learn from the others and are asked for the one left out.  The manifolds are
those of the shipped reference: only their kinds are drawn anew, from the seed kept with it.  The
lengths of the process, a dozen numbers learned from all kinds, are learned anew only by --anew.
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
from sgdnoise.dimension._trained._model import TABLE, fit, matern, predict
from sgdnoise.lab._terminal import console, exit_on_error, progress, workers
from tools.train_dimension_model import begun, likeliest

MOST = 1.0  # an error above 100% is counted as that
METHODS = ("uncorrected", "trees", "process", "mean of both")


class Learned(NamedTuple):
    """Manifolds as the regressions see them: places (m, c), rest (m,), kinds (m, 2).

    With lengths (c,) and variance of the process, as `likeliest` finds them from all.
    """

    places: Any
    rest: Any
    kinds: Any
    lengths: Any
    variance: Any


def main(
    table: Annotated[Path, Option(help="the reference to look at")] = TABLE,
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
    """The clean manifolds of a reference and their kinds, and its seed.

    Raises ValueError where the manifolds drawn anew have other dimensions than those kept.
    """
    with np.load(table) as kept:
        names = ("places", "rest", "lengths", "variance")
        places, rest, *learned = (np.asarray(kept[f"clean_{name}"], float) for name in names)
        said = json.loads(str(kept["provenance"]))["arguments"]
    drawn = [begun(place, False, said["seed"])[:3] for place in range(said["count"])]
    found = [x.shape[1] for x, _, _ in drawn]
    known = np.exp(places[:, 0] + rest)
    if len(found) != known.size or not np.allclose(found, known, rtol=1e-3):
        raise ValueError(f"{Path(table).name} is of other manifolds than those its seed draws")
    kinds = np.asarray([kinds for _, *kinds in drawn])
    return Learned(places, rest, kinds, *learned), said["seed"]


def left_out(known: Learned, axis: int, kind: str, seed: int | None = None) -> np.ndarray:
    """Errors on the manifolds of one density (axis 0) or map (1), learned from the others.

    |found / true - 1| of each method, (manifold, method).  Lengths are learned anew by a seed.
    """
    asked = known.kinds[:, axis] == kind
    places, rest = known.places[~asked], known.rest[~asked]
    process = known[3:] if seed is None else likeliest(places, rest, seed)
    regression = fit(places, rest, *process)
    both = np.asarray([predict(regression, place) for place in known.places[asked]])
    near = matern(known.places[asked], regression.places, regression.lengths)
    smooth = near @ regression.weights
    said = np.stack([0 * both, 2 * both - smooth, smooth, both], axis=1)
    return np.minimum(np.abs(np.expm1(said - known.rest[asked][:, None])), MOST)


def show(known: Learned, left, errors) -> None:
    """A row for each kind, the mean over all, and how much each method differs from the last.

    A manifold counts once there, with the mean of its errors without its density and its map.
    """
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, title="Percent off, kind left out")
    for heading in ("left out", "manifolds", *METHODS):
        table.add_column(heading, justify="left" if heading == "left out" else "right")
    twice = np.empty((2, len(known.rest), len(METHODS)))
    for (axis, kind), each in zip(left, errors, strict=True):
        twice[axis, known.kinds[:, axis] == kind] = 100 * each
        name = f"{('density', 'map')[axis]} {kind}"
        table.add_row(name, str(len(each)), *map(_number, 100 * each.mean(axis=0)))
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
