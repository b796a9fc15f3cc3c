"""The options of a study: their checks, and the command line that is made of them."""

import inspect
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from sgdnoise.core._arguments import checked


@dataclass(frozen=True)
class Option:
    """A parameter of a study that the command line can change; see `option`."""

    kind: type
    help: str = ""
    least: int | float | None = None
    choices: tuple | None = None
    default: str | None = None

    def value(self, name: str, given: Any) -> Any:
        """The value that was given, checked.  Raises ValueError in a sentence."""
        if self.kind is list:
            return [self._chosen(name, item) for item in given]
        value = self._chosen(name, given)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, not {value}")
        if self.least is not None and value < self.least:
            raise ValueError(f"{name} must be at least {self.least:g}, not {value:g}")
        return value

    def _chosen(self, name, item):
        if self.choices is None:
            return item
        for choice in self.choices:
            if str(choice) == str(item):
                return choice
        names = [*map(str, self.choices)]
        listed = ("; " if any("," in text for text in names) else ", ").join(names)
        raise ValueError(f"there is no {name.replace('_', ' ')} {str(item)!r}; there are {listed}")


@checked
def option(
    kind: type,
    help: str = "",
    *,
    least: int | float | None = None,
    choices: Collection | None = None,
    default: str | None = None,
) -> Option:
    """An option of a study, by the name of the parameter that it changes.

    kind: int, float, str, bool, or list, for an option that may be repeated.  least: the smallest
    value.  choices: the values that exist.  default: words for the help, where the value that
    applies without the option stands in no size.

    Example:
        >>> chains = option(int, "chains per case", least=2)
        >>> chains.value("chains", 4)
        4
        >>> chains.value("chains", 1)
        Traceback (most recent call last):
            ...
        ValueError: chains must be at least 2, not 1
    """
    return Option(kind, help, least, None if choices is None else tuple(choices), default)


SIZES = ("small", "demo", "full")
COMMON: dict[str, tuple[Any, Any, str]] = {  # name -> type, default, help
    "out": (Path, None, "folder for results; a run that was stopped goes on there"),
    "jobs": (int, 2, "processes, of one thread each"),
    "cluster": (str | None, None, "address of a Dask scheduler, whose workers see the folder"),
    "trial": (str | None, None, "why: adds the run to trials.md of the study, its ledger"),
}
DEVICE = (str, "cpu", "cpu or cuda")
SEED = (int, 0, "seed of all random numbers")


def checked_seed(seed: int) -> int:
    """The seed.  Raises ValueError for one that no generator takes."""
    if not 0 <= seed < 2**31:
        raise ValueError(f"a seed is an integer from 0 to {2**31 - 1}, not {seed}")
    return seed


def default_text(sizes: dict[str, dict], name: str, choice: Option) -> str:
    """The value of a parameter at each size, for the help."""
    if choice.default is not None:
        return choice.default
    values = {size: values[name] for size, values in sizes.items() if name in values}
    texts = {size: _short(value, choice) for size, value in values.items()}
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{size} {text}" for size, text in texts.items()) or "none"


def _short(value, choice):
    if not isinstance(value, (list, tuple, range)):
        return str(value)
    if choice.choices is not None and len(value) == len(choice.choices):
        return "all"
    return "some" if len(value) > 3 else ", ".join(map(str, value))


def parameter(name: str, kind: Any, default: Any, help: str, shown: Any = True):
    """A parameter of a function that typer makes an option of."""
    flag = [f"--{name.replace('_', '-')}"] if kind is not bool else []
    annotation = Annotated[kind, typer.Option(*flag, help=help, show_default=shown)]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def study_parameter(name: str, choice: Option, shown: str):
    """The same of an option of a study, whose value is None where it was not given."""
    kind: Any = list[str] if choice.kind is list else choice.kind
    return parameter(name, kind | None, None, choice.help, shown)


def command_line(
    body: Callable[[dict], None], parameters: list[inspect.Parameter], help: str
) -> typer.Typer:
    """A command line whose options are these parameters; `body` takes name -> value.

    help: paragraphs, whose lines are broken again to fit the terminal.
    """

    def main(**values):
        body(values)

    main.__doc__ = "\n\n".join(" ".join(lines.split()) for lines in help.split("\n\n"))
    main.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    main.__annotations__ = {item.name: item.annotation for item in parameters}
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    return app
