"""The commands for a folder of studies: list, run, judge, draw and new."""

import ast
import sys
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import LazyLoader, find_spec, module_from_spec
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from sgdnoise._extras import require
from sgdnoise.core._arguments import checked
from sgdnoise.lab._output import draw_results, show_verdicts
from sgdnoise.lab._skeleton import write_study
from sgdnoise.lab._terminal import console, exit_on_error, fail

_PASSED_ON = {"ignore_unknown_options": True, "help_option_names": []}  # to the study
_Name = Annotated[str, typer.Argument(help="the study")]
_Result = Annotated[
    Path | None,
    typer.Argument(help="file of a result, or its folder", show_default="the committed one"),
]
_EXTRAS = {"jax": "jax", "torch": "torch"}  # the packages that studies import, and their extras


@checked
def study_names(folder: Path) -> list[str]:
    """The studies of a folder: its subfolders that have a study.py.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("one", "two"):
        ...         Path(folder, name).mkdir()
        ...         Path(folder, name, "study.py").touch()
        ...     study_names(Path(folder))
        ['one', 'two']
    """
    return sorted(path.parent.name for path in folder.glob("*/study.py"))


@checked
def load_study(folder: Path, name: str) -> Any:
    """The `study` of folder/NAME/study.py.

    Raises ValueError if there is none of this name, and ImportError with a sentence that names the
    extra if the study needs a package that is not installed.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     home = Path(folder, "my_studies")
        ...     (home / "squares").mkdir(parents=True)
        ...     _ = (home / "squares" / "study.py").write_text("study = 'in place of a Study'")
        ...     load_study(home, "squares")
        'in place of a Study'
    """
    if name not in (names := study_names(folder)):
        raise ValueError(f"there is no study {name!r}; there are {', '.join(names)}")
    folder = folder.resolve()
    if (root := str(folder.parent)) not in sys.path:
        sys.path.insert(0, root)
    try:
        _load_figures_later(folder, name)
        return import_module(f"{folder.name}.{name}.study").study
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in _EXTRAS:
            require(package, _EXTRAS[package])
        raise


def _load_figures_later(folder, name):
    """Let the modules `figure` of a study load when a figure is drawn: matplotlib takes a second.

    They become attributes of their packages, where the import in `study.py` finds them.
    """
    for file in sorted((folder / name).rglob("figure.py")):
        package = ".".join((folder.name, *file.parent.relative_to(folder).parts))
        parent = import_module(package)
        if hasattr(parent, "figure"):
            continue
        spec = cast(ModuleSpec, find_spec(f"{package}.figure"))
        loader = LazyLoader(cast(Loader, spec.loader))
        spec.loader, module = loader, module_from_spec(spec)
        sys.modules[spec.name] = parent.figure = module  # type: ignore[attr-defined]
        loader.exec_module(module)


@checked
def study_commands(folder: Path) -> typer.Typer:
    """The command line for the studies of a folder.

    Example:
        >>> from pathlib import Path
        >>> commands = study_commands(Path("simulations")).registered_commands
        >>> [command.name or command.callback.__name__ for command in commands]
        ['list', 'run', 'judge', 'draw', 'new']
    """
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        help="Run the studies of this folder, judge their results and draw their figures.",
    )

    @app.command("list")
    def list_studies() -> None:
        """List all studies, each with its first sentence."""
        names = study_names(folder)
        for name in names:
            text = ast.get_docstring(ast.parse((folder / name / "study.py").read_text("utf-8")))
            lines = (text or "").splitlines() or [""]
            console.print(f"{name:{max(map(len, names))}}  {lines[0]}", markup=False)

    @app.command(context_settings=_PASSED_ON)
    def run(words: Annotated[list[str] | None, typer.Argument(metavar="NAME")] = None) -> None:
        """Run a study, and write its result, figures and report into a folder.

        `run NAME --help` lists the options of a study.
        """
        known = f"NAME is one of {', '.join(study_names(folder))}"
        if not words:
            fail(f"run needs the NAME of a study; {known}")
        name, *options = words
        if name == "--help":
            console.print("usage: run NAME [OPTIONS]; `run NAME --help` lists the options of NAME")
            console.print(known)
            return
        with exit_on_error("nothing was run"):
            study = load_study(folder, name)
        study.main(options, command=f"python -m {folder.name} run {name}")

    @app.command()
    def judge(name: _Name, result: _Result = None) -> None:
        """Judge a stored result, without running: exit status 1 if a claim fails."""
        with exit_on_error("nothing was written"):
            study, result = load_study(folder, name), _file(result)
            results = _stored(study, result, f"judge {name}")
            with _refusing_foreign(study, result):
                status = show_verdicts(study, results)
        raise SystemExit(status)

    @app.command()
    def draw(name: _Name, result: _Result = None) -> None:
        """Draw the figures of a stored result beside it, and renew the table of its findings."""
        with exit_on_error("some figures may be new, others old"):
            study, result = load_study(folder, name), _file(result)
            home = study.folder if result is None else result.parent
            results = _stored(study, result, f"draw {name}")
            with _refusing_foreign(study, result):
                paths = draw_results(study, results, home)
            for path in paths:
                console.print(f"  {path}", markup=False, soft_wrap=True)

    @app.command()
    def new(name: _Name) -> None:
        """Write a new study that runs, judges, draws and passes its test."""
        with exit_on_error("nothing was written"):
            for path in write_study(folder, name):
                console.print(f"  {path}", markup=False, soft_wrap=True)

    return app


def _file(result):
    """The file of a result that was named by its file, or by the folder that holds result.nc."""
    return result / "result.nc" if result is not None and result.is_dir() else result


def _stored(study, result, command):
    try:
        return study.read(result)
    except FileNotFoundError as error:
        if result is None:
            example = f"{command} {Path('out') / study.name / 'result.nc'}"
            fail(f"{study.name} has no committed result; name the file of a run: {example}")
        fail(str(error))


@contextmanager
def _refusing_foreign(study, result):
    """Raise ValueError for a named file whose contents are not those of the study."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if result is None:  # the committed result is of this study: the claims have a mistake
            raise
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(f"{result} is not a result of {study.name} ({cause})") from None
