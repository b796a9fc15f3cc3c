"""A study: what runs, its sizes and options, its claims and its figures.

Everything that studies share is here: checks of options, resuming, provenance, verdicts, reports,
figures, exit statuses and the command line.
"""

import inspect
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from sgdnoise.core._arguments import checked_by_annotation
from sgdnoise.lab import _options as cli
from sgdnoise.lab._compilation import cache_compiled_programs
from sgdnoise.lab._options import Option
from sgdnoise.lab._output import draw_results, publish, report
from sgdnoise.lab._session import Session, use_device
from sgdnoise.lab._store import plain_attributes, provenance, read_parts
from sgdnoise.lab._sweep._code import code_hash
from sgdnoise.lab._sweep._conduct import Incomplete
from sgdnoise.lab._sweep._keys import fingerprint, source_file
from sgdnoise.lab._terminal import console, exit_on_error, writable
from sgdnoise.lab._trials import record_trial, words_of
from sgdnoise.lab._verdict import Verdict, without_powerless, without_verdicts


class _Runnable:
    """What a study and a group of studies have in common; `parts` is label -> Study."""

    package: str  # of its modules, such as simulations.stationary
    folder: Path  # that holds its files
    parts: "dict[str, Study]"

    @property
    def name(self) -> str:
        """The name by which the command line knows it."""
        return self.package.partition(".")[2] or self.package

    @property
    def stored(self) -> Path:
        """The file of the committed result."""
        return self.folder / "result.nc"

    def read(self, path: Path | None = None) -> dict[str, Any]:
        """Label -> Dataset of a stored result, the committed one unless another is given."""
        path = path or self.stored
        results = read_parts(path)
        if unknown := sorted(set(results) - set(self.parts)):
            contents = f"the part {unknown[0]!r}" if unknown[0] else "a result without parts"
            if set(self.parts) == {""}:
                expected = "which has no parts"
            else:
                expected = f"whose parts are {', '.join(self.parts)}"
            raise ValueError(
                f"{path} is not a result of {self.name}, {expected}: it holds {contents}"
            )
        return results

    def main(self, arguments: list[str] | None = None, *, command: str | None = None) -> None:
        """Run what the command line says, and end with the exit status."""
        self._by_name().command_line()(arguments, prog_name=command)

    def _by_name(self):
        """This study as its own module has it, so that finished work has one name."""
        functions = [study.execute or study.run for study in self.parts.values()]
        if all(function.__module__ != "__main__" for function in functions):
            return self
        sys.path.insert(0, str(self.folder.parents[self.package.count(".")]))
        return import_module(f"{self.package}.study").study

    def command_line(self):
        """The typer application of the command `run`."""
        studies = self.parts.values()
        demo = "demo" if any("demo" in study.sizes for study in studies) else "demo (as small)"
        sizes = ", ".join(demo if size == "demo" else size for size in cli.SIZES)
        parameters = [
            cli.parameter("size", str, "full", f"how much is run: {sizes}"),
            *self._own_parameters(),
        ]
        for name, (kind, default, help) in cli.COMMON.items():
            default = Path("out") / self.name if name == "out" else default
            parameters.append(cli.parameter(name, kind, default, help))
        if any(study.device for study in studies):
            parameters.append(cli.parameter("device", *cli.DEVICE))
        if any(study.seed for study in studies):
            parameters.append(cli.parameter("seed", *cli.SEED))
        return cli.command_line(self._run, parameters, self.__doc__ or "")

    def _own_parameters(self):
        options: dict[str, tuple[Option, str]] = {}
        for study in self.parts.values():
            for name, choice in study.options.items():
                shown = cli.default_text(study.all_sizes(), name, choice)
                options.setdefault(name, (choice, shown if len(self.parts) == 1 else "by part"))
        return [cli.study_parameter(name, *known) for name, known in options.items()]

    def _run(self, values):
        """Run, judge, draw and write what was asked for; ends with the exit status."""
        out, size, why = (values.pop(name) for name in ("out", "size", "trial"))
        arguments = words_of(size, values)
        common = {k: values.pop(k) for k in ("jobs", "cluster", "device", "seed") if k in values}
        again = f"run the same command again to continue from what is in {out}"
        cache_compiled_programs()
        with exit_on_error(again):
            if why is not None and not why.strip():
                raise ValueError("a trial needs a reason, in words: --trial 'why'")
            chosen = self._chosen(values.pop("part", None))
            plans = {
                label: study.prepare(size, Session(out / label, **common), values)
                for label, study in chosen.items()
            }
            results, failures = {}, []
            for label, study in chosen.items():
                try:
                    results[label] = study.conduct(*plans[label])
                except Incomplete as error:
                    failures += error.failures
            if failures:
                raise Incomplete(failures)
            status = publish(self, results, out)
            if why is not None:
                verdicts = [v for label, d in results.items() for v in self.parts[label].judge(d)]
                path = record_trial(self.folder, why, arguments, results, verdicts)
                console.print(f"  {path}", markup=False, soft_wrap=True)
            raise SystemExit(status)

    def _chosen(self, labels):
        for label in labels or ():
            if label not in self.parts:
                raise ValueError(f"there is no part {label!r}; there are {', '.join(self.parts)}")
        return {k: v for k, v in self.parts.items() if not labels or k in labels}


class Study(_Runnable):
    """A run function over a grid, with sizes, options, claims and figures.

    run: (**point, **parameters) -> Dataset, at one point of the grid; it gets the parameters that
    its signature names.  grid: axis -> values, or a function of the parameters that gives them.
    sizes: "full", "small" and perhaps "demo" and "cuda" -> parameters, or fewer values of an axis;
    what a size does not name is as in "full"; "cuda" replaces "full" on that device.
    options: parameter -> `option`.  claims: a module with TITLE, LEAD, verdicts(dataset) and
    tables(dataset); LEAD may be a function of the attributes of the result.  figure: a module with
    figures(dataset) -> {stem: (caption, Figure)}.  check: (parameters) -> None, raises ValueError.
    arrange: (dataset) -> dataset, after the sweep.  execute: (parameters, session) -> Dataset, for
    a study that is no plain grid.  notes: (dataset) -> sentences for the terminal and the report.
    seed: whether --seed has a meaning.  device: "jax" or "torch" where --device has one.

    Example:
        >>> from types import ModuleType
        >>> import xarray as xr
        >>> def square(n, *, factor):
        ...     return xr.Dataset({"value": factor * n**2})
        >>> claims, figure = ModuleType("claims"), ModuleType("figure")  # in place of files
        >>> claims.__file__ = "claims.py"
        >>> sizes = {"full": {"factor": 1.0}, "small": {"n": [1, 2]}}
        >>> study = Study(square, grid={"n": [1, 2, 3]}, sizes=sizes, claims=claims, figure=figure)
        >>> study.simulate("small", factor=2.0).value.values.tolist()
        [2.0, 8.0]
    """

    @checked_by_annotation
    def __init__(
        self,
        run: Callable[..., Any] | None = None,
        *,
        sizes: dict[str, dict],
        claims: ModuleType,
        figure: ModuleType,
        grid: dict[str, Any] | None = None,
        options: dict[str, Option] | None = None,
        check: Callable[[dict], None] | None = None,
        arrange: Callable[[Any], Any] | None = None,
        execute: Callable[[dict, Session], Any] | None = None,
        notes: Callable[[Any], Iterable[str]] | None = None,
        seed: bool = False,
        device: str | None = None,
    ):
        if run is None and execute is None:
            raise ValueError("a study needs a run function, or execute")
        self.run: Any = run
        self.grid, self.sizes, self.options = grid or {}, sizes, options or {}
        self.claims, self.figure = claims, figure
        self.check, self.arrange, self.execute, self.notes = check, arrange, execute, notes
        self.seed, self.device = seed, device
        self.package = claims.__name__.rpartition(".")[0]
        self.folder = Path(claims.__file__ or "").parent
        self.parts = {"": self}
        self.__doc__ = sys.modules[(execute or self.run).__module__].__doc__

    def all_sizes(self) -> dict[str, dict]:
        """Size -> all parameters."""
        return {size: {**self.grid, **self.sizes["full"], **v} for size, v in self.sizes.items()}

    def parameters(self, size: str, session: Session, changes: dict) -> dict:
        """The parameters of a size, with those that were changed, checked."""
        sizes = self.all_sizes()
        sizes.setdefault("demo", sizes["small"])
        if size not in cli.SIZES:
            raise ValueError(f"there is no size {size!r}; there are {', '.join(cli.SIZES)}")
        on_gpu = session.device == "cuda" and size == "full" and "cuda" in sizes
        parameters = sizes["cuda" if on_gpu else size]
        parameters |= {name: value for name, value in changes.items() if value is not None}
        for name, choice in self.options.items():
            if parameters.get(name) is not None and not callable(parameters[name]):
                parameters[name] = choice.value(name, parameters[name])
        parameters |= {"seed": cli.checked_seed(session.seed)} if self.seed else {}
        parameters |= {"device": session.device} if self.device else {}
        parameters |= {k: v(parameters) for k, v in parameters.items() if callable(v)}
        parameters = {k: [*v] if k in self.grid else v for k, v in parameters.items()}
        if self.check is not None:
            self.check(parameters)
        return parameters

    def prepare(self, size: str, session: Session, changes: dict) -> tuple[dict, Session, dict]:
        """Parameters, a session whose folder is theirs and the code's, and the provenance.

        The provenance is taken before the run: it is that of the code that runs.
        """
        options = {name: value for name, value in changes.items() if name in self.options}
        parameters = self.parameters(size, session, options)
        device = use_device(self.device, session.device) if self.device else "cpu"
        code = code_hash(source_file(self.execute or self.run))
        folder = session.folder / f"work-{fingerprint(code=code, **parameters)}"
        seed = session.seed if self.seed else None
        origin = provenance(parameters, device, seed=seed)
        prepared = Session(folder, session.jobs, session.cluster, session.device, session.seed)
        return parameters, prepared, origin

    def conduct(self, parameters: dict, session: Session, origin: dict) -> Any:
        """Run, say what is to be noted, and return the Dataset with where it comes from."""
        began = time.monotonic()
        writable(session.folder)
        dataset = self._executed(parameters, session)
        for sentence in self.notes(dataset) if self.notes else ():
            console.print(f"[bold red]{sentence}[/]")
        origin |= {"seconds": round(time.monotonic() - began, 1)}
        if "cpu_seconds" in dataset.attrs:  # of all points, whenever and wherever they ran
            origin |= {"cpu_seconds": round(dataset.attrs["cpu_seconds"], 1)}
        return dataset.assign_attrs(plain_attributes(origin))

    def _executed(self, parameters, session):
        if self.execute is not None:
            dataset = self.execute(parameters, session)
        else:
            known = inspect.signature(self.run).parameters
            grid = {name: parameters[name] for name in self.grid}
            bound = {k: v for k, v in parameters.items() if k in known and k not in grid}
            dataset = session.sweep(partial(self.run, **bound), grid)
        return dataset if self.arrange is None else self.arrange(dataset)

    def simulate(self, size: str = "small", session: Session | None = None, **changes) -> Any:
        """The Dataset of a size, with changed parameters; in this process without a session.

        Parameters that are no options can be changed too.
        """
        if session is None:
            with TemporaryDirectory(prefix="study-") as folder:
                return self.simulate(size, Session(Path(folder), in_process=True), **changes)
        return self._executed(self.parameters(size, session, changes), session)

    def judge(self, dataset) -> list[Verdict]:
        """The verdicts of a Dataset, whether it was just computed or stored.

        A prediction that none of its rivals would fail is an observation.
        """
        return without_powerless(self.claims.verdicts(without_verdicts(dataset)))

    def lead(self, dataset) -> list[str]:
        """The sentences at the head of its report."""
        lead = self.claims.LEAD
        notes = self.notes(dataset) if self.notes else ()
        return [*(lead(dataset.attrs) if callable(lead) else lead), *notes]

    def draw(self, dataset, folder) -> list[Path]:
        """Draw the figures of a Dataset into a folder; their paths."""
        return draw_results(self, {"": dataset}, Path(folder))

    def report(self, dataset, folder) -> Path:
        """Write report.html of a Dataset into a folder; its path."""
        return report(self, {"": dataset}, Path(folder))


class StudyGroup(_Runnable):
    """Studies of one question: one command and one result file, with a part for each.

    parts: label -> Study, whose folder is a subfolder of that of the group.
    Raises ValueError without a study.

    Example:
        >>> from types import ModuleType
        >>> import xarray as xr
        >>> def square(n):
        ...     return xr.Dataset({"value": n**2})
        >>> claims, figure = ModuleType("roots.squares.claims"), ModuleType("roots.squares.figure")
        >>> claims.__file__ = "roots/squares/claims.py"  # in place of files
        >>> sizes = {"full": {}, "small": {"n": [1, 2]}}
        >>> part = Study(square, grid={"n": [1, 2, 3]}, sizes=sizes, claims=claims, figure=figure)
        >>> group = StudyGroup({"squares": part}, title="Roots and squares")
        >>> group.folder.name, [*group.parts]
        ('roots', ['squares'])
    """

    @checked_by_annotation
    def __init__(self, parts: dict[str, Study], *, title: str):
        if not parts:
            raise ValueError("a group needs at least one study")
        first = next(iter(parts.values()))
        self.parts, self.title = parts, title
        self.package, self.folder = first.package.rpartition(".")[0], first.folder.parent
        self.__doc__ = title

    def _own_parameters(self):
        labels = ", ".join(self.parts)
        help = f"only this part, of {labels}; repeat for more"
        return [
            cli.parameter("part", list[str] | None, None, help, "all"),
            *super()._own_parameters(),
        ]
