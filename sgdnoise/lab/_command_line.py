"""The command `sgdnoise`: dimensions of a file of points, and verdicts of the studies."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import rich.box
import rich.table
import typer
from typer import Option

from sgdnoise import __version__
from sgdnoise.lab._dimension_command import dimension
from sgdnoise.lab._terminal import console, exit_on_error, say, show

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, help=__doc__
)
STUDIES = Path("simulations")


def _print_version(requested: bool) -> bool:
    if requested:
        say(f"sgdnoise {__version__}")
        raise typer.Exit
    return requested


@app.callback()
def options(
    version: Annotated[
        bool,
        Option("--version", is_eager=True, callback=_print_version, help="print the version"),
    ] = False,
) -> None:
    """Estimate dimensions, and judge studies."""


app.command()(dimension)


@app.command()
def verdicts(
    folder: Annotated[Path, typer.Argument(help="folder of studies, in a checkout")] = STUDIES,
    study: Annotated[
        list[str] | None, Option(help="show each claim of this one; repeat for more")
    ] = None,
    table: Annotated[
        Path | None, Option(help="Markdown file whose table of studies is renewed")
    ] = None,
) -> None:
    """Judge the committed results of all studies: exit status 1 if a claim in its regime fails."""
    from sgdnoise.lab._commands import load_study, study_names
    from sgdnoise.lab._output import with_table
    from sgdnoise.lab._power import overview_table
    from sgdnoise.lab._verdict import exit_status, summary

    with exit_on_error("nothing was written"):
        if not (names := study_names(folder)):
            raise ValueError(
                f"there are no studies in {folder}: verdicts needs a checkout of the repository"
            )
        if unknown := set(study or ()) - set(names):
            raise ValueError(f"there is no study {unknown.pop()!r}; there are {', '.join(names)}")
        judged = {}
        for name in names:
            loaded = load_study(folder, name)
            for label_of_part, dataset in loaded.read().items() if loaded.stored.exists() else ():
                label = f"{name}/{label_of_part}" if label_of_part else name
                judged[label] = loaded.parts[label_of_part].judge(dataset)
                if name in (study or ()):
                    show(label, judged[label])
        _overview(judged)
        if table is not None:
            table.write_text(
                with_table(table.read_text("utf-8"), "", overview_table(judged)), "utf-8"
            )
        everything = [replace(v, name=f"{k}, {v.name}") for k, vs in judged.items() for v in vs]
        if failing := [v for v in everything if v.outcome == "fails"]:
            show("Claims that fail in their regime", failing)
        say(summary(everything))
    raise SystemExit(exit_status(everything))


@app.command()
def sweep(folder: Annotated[Path, typer.Argument(help="folder of a sweep")]) -> None:
    """Print how many points of a sweep are finished, running, failed and left."""
    from sgdnoise.lab._sweep._status import progress_text

    with exit_on_error("nothing was written"):
        say(progress_text(folder))


def _overview(judged):
    """A line for each study: the outcomes of its predictions, and the power of these."""
    from sgdnoise.lab._power import CAPTION, OVERVIEW, overview_row

    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=0)
    for heading in OVERVIEW:
        words = heading == "study"
        table.add_column(heading, justify="left" if words else "right", no_wrap=not words)
    for name, verdicts in judged.items():
        table.add_row(*overview_row(name, verdicts))
    console.print(table)
    console.print(CAPTION, markup=False)
