"""`python -m sgdnoise`: dimensions of a file of points, and the verdicts of committed results."""

from pathlib import Path
from typing import Annotated

import numpy as np
import rich.box
import rich.table
import typer

from sgdnoise.cli import console, guarded, show

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, help=__doc__
)
RESULTS = Path("simulations/results")


@app.command()
def dimension(
    file: Annotated[Path, typer.Argument(help="points, one a row: .npy, .npz or .csv")],
    groups: Annotated[
        int | None,
        typer.Option(
            help="disjoint groups that errors come from",
            show_default="20 points a group, at most 20",
        ),
    ] = None,
) -> None:
    """Print how many dimensions the points of a file have, by each estimator, with its error."""
    from sgdnoise import dimension as estimators
    from sgdnoise.estimate import grouped

    with guarded("nothing was written"):
        points = _points(file)
        parts = _groups(len(points)) if groups is None else groups
        n, width = points.shape
        console.print(f"{file}: {n} points in {width} dimensions", markup=False, soft_wrap=True)
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
        for heading in ("estimator", "dimension", "standard error"):
            table.add_column(heading, justify="left" if heading == "estimator" else "right")
        for estimator in (
            estimators.twonn,
            estimators.levina_bickel,
            estimators.participation_ratio,
        ):
            found = grouped(estimator, points, parts)
            table.add_row(estimator.__name__, f"{found.value:.3f}", f"{found.stderr:.3f}")
        console.print(table)


@app.command()
def verdicts(
    folder: Annotated[Path, typer.Argument(help="folder of result files, NAME.nc")] = RESULTS,
) -> None:
    """Print the verdicts of every result: exit status 1 if a claim fails inside its regime."""
    from sgdnoise.store import read
    from sgdnoise.verdict import status, summary, verdicts_in

    with guarded("nothing was written"):
        files = sorted(folder.glob("*.nc"))
        if not files:
            raise ValueError(f"there are no result files in {folder}")
        everything = []
        for file in files:
            results = read(file)
            found = verdicts_in(results)
            made = f"{results.attrs.get('device', '?')}, {results.attrs.get('date', '?')[:10]}"
            show(f"{file.stem} ({made}): {summary(found)}", found)
            everything += found
    raise SystemExit(status(everything))


def _groups(n: int) -> int:
    if n < 40:
        raise ValueError(f"errors need 2 groups of 20 points or more, not {n} points in all")
    return min(20, n // 20)


def _points(file: Path):
    """The array of a file, (n, D).  Raises ValueError in one sentence for what is none."""
    readers = {".npy": np.load, ".npz": _only, ".csv": _csv}
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    if file.suffix not in readers:
        raise ValueError(f"{file.name} must end in one of {', '.join(readers)}")
    try:
        points = np.asarray(readers[file.suffix](file), dtype=float)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{file} holds no array of numbers: {error}") from None
    if points.ndim != 2:
        raise ValueError(f"{file} must hold points (n, D), one a row, not shape {points.shape}")
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if bad.size:
        raise ValueError(f"{file} has {bad.size} rows that are not finite, the first is {bad[0]}")
    return points


def _only(file):
    arrays = np.load(file)
    if len(arrays.files) != 1:
        raise ValueError(
            f"it holds {len(arrays.files)} arrays ({', '.join(arrays.files)}), not one"
        )
    return arrays[arrays.files[0]]


def _csv(file):
    return np.loadtxt(file, delimiter=",", ndmin=2)


def main() -> None:
    """The command line."""
    app()


if __name__ == "__main__":
    main()
