"""Calls of every public function with one argument replaced by something it does not expect.

The valid calls are those of the examples in the docstrings.  Each argument of each of them is
replaced by each of the values below, and what happens is sorted by where an error was raised.
`python tests/hostile_calls.py HOME [SHARE]` tries one of SHARE calls of a subpackage, prints what
ends in an error that the package did not raise, and then how many calls were tried.
"""

import contextlib
import dis
import doctest
import hashlib
import importlib
import inspect
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse
import torch

HOMES = "core", "data", "dimension", "noise", "dynamics", "theory", "nets", "lab"
NAN, INF = float("nan"), float("inf")
DOCUMENTED = ValueError, TypeError, FileNotFoundError, BrokenExecutor


class Valid(NamedTuple):
    """A call of an example: a public object and its arguments by name."""

    name: str
    function: Callable
    arguments: dict[str, Any]


class Outcome(NamedTuple):
    """What a call did: "returned", "refused", "raw" or "library", and the error."""

    kind: str
    error: BaseException | None


HOSTILE: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "a text": lambda: "abc",
    "an empty text": lambda: "",
    "True": lambda: True,
    "zero": lambda: 0,
    "a negative number": lambda: -1,
    "a large negative number": lambda: -1e200,
    "a fraction": lambda: 2.5,
    "a large number": lambda: 1e300,
    "nan": lambda: NAN,
    "infinity": lambda: INF,
    "a complex number": lambda: 1j,
    "a huge integer": lambda: 10**400,
    "an empty list": list,
    "a list of texts": lambda: ["a", "b"],
    "lists of unequal length": lambda: [[1.0], [1.0, 2.0]],
    "an empty dictionary": dict,
    "an object": object,
    "a function": lambda: lambda *_: None,
    "a type": lambda: int,
    "bytes": lambda: b"1",
    "no axes": lambda: np.asarray(1.0),
    "one number": lambda: np.ones(1),
    "an empty array": lambda: np.empty(0),
    "no rows": lambda: np.empty((0, 3)),
    "no columns": lambda: np.empty((3, 0)),
    "four axes": lambda: np.ones((2, 2, 2, 2)),
    "an array with nan": lambda: np.full((4, 2), NAN),
    "an array with infinity": lambda: np.asarray([[1.0, INF], [0.0, 1.0]]),
    "large numbers": lambda: np.diag([1e300, 1e305]),
    "complex numbers": lambda: np.eye(2) * 1j,
    "objects": lambda: np.asarray([object(), 1.0], dtype=object),
    "texts": lambda: np.asarray(["a", "b"]),
    "dates": lambda: np.asarray(["2020-01-01", "2020-01-02"], dtype="datetime64[D]"),
    "masked": lambda: np.ma.masked_array(np.eye(2), mask=np.eye(2)),
    "sparse": lambda: scipy.sparse.csr_array(np.eye(2)),
    "a frame of texts": lambda: pd.DataFrame({"a": ["x", "y"]}),
    "a complex tensor": lambda: torch.ones(2, 2) * 1j,
}


def public_objects(homes=HOMES) -> Iterator[tuple[str, Callable]]:
    """(name, object) of every public function and class."""
    for home in homes:
        module = importlib.import_module(f"sgdnoise.{home}")
        for name in module.__all__:
            found = getattr(module, name)
            if inspect.isfunction(found) or inspect.isclass(found):
                yield f"{home}.{name}", found


def valid_call(name: str, function: Callable) -> Valid | None:
    """The first call of a public object in the example of its docstring."""
    plain = inspect.unwrap(function)
    globs = dict(vars(importlib.import_module(plain.__module__)))
    calls: list[dict] = []

    def recorded(*args, **kwargs):
        result = function(*args, **kwargs)
        with contextlib.suppress(TypeError, ValueError):
            bound = inspect.signature(function).bind(*args, **kwargs)
            calls.append(dict(bound.arguments))
        return result

    short = name.rpartition(".")[2]
    home = importlib.import_module(f"sgdnoise.{name.partition('.')[0]}")
    for example in doctest.DocTestFinder(recurse=False).find(function, short, globs=globs):
        example.globs[short] = recorded
        example.globs.pop("__builtins__", None)
        before = vars(home).get(short)
        vars(home)[short] = recorded  # of an example that imports it
        try:
            doctest.DocTestRunner(verbose=False).run(
                example, out=io.StringIO().write, clear_globs=False
            )
        finally:
            vars(home)[short] = before
    return Valid(name, function, calls[0]) if calls else None


def attempts(valid: Valid) -> Iterator[tuple[str, str, dict]]:
    """(argument, what it is replaced by, all arguments)."""
    parameters = inspect.signature(valid.function).parameters
    for argument in valid.arguments:
        if parameters[argument].kind in (
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        ):
            continue
        for what, make in HOSTILE.items():
            yield argument, what, valid.arguments | {argument: make()}


def attempt(function: Callable, arguments: dict) -> Outcome:
    """What a call does."""
    parameters = inspect.signature(function).parameters
    args, kwargs = [], {}
    for name, value in arguments.items():
        kind = parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            args += value
        elif kind is inspect.Parameter.VAR_KEYWORD:
            kwargs |= value
        elif kind is inspect.Parameter.KEYWORD_ONLY:
            kwargs[name] = value
        else:
            args.append(value)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            function(*args, **kwargs)
        except Exception as error:
            return Outcome(_kind(error), error)
    return Outcome("returned", None)


def _kind(error: BaseException) -> str:
    """Whether an error was raised by the package on purpose, by Python in it, or by a library."""
    trace = error.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    if "/sgdnoise/" not in code.co_filename.replace("\\", "/"):
        return "library"
    raising = dis.opmap["RAISE_VARARGS"], dis.opmap["RERAISE"]
    purposeful = code.co_code[trace.tb_lasti] in raising
    return "refused" if purposeful and isinstance(error, DOCUMENTED) else "raw"


def is_chosen(share: int, *words: str) -> bool:
    """Whether a call is one of a share of all calls, the same ones on each machine."""
    return hashlib.sha256("/".join(words).encode()).digest()[0] % share == 0


def unexpected(name: str, function: Callable, share: int) -> Iterator[str | None]:
    """For each call of a share of all: None, or a line on an error that is not the package's."""
    valid = valid_call(name, function)
    for argument, what, arguments in attempts(valid) if valid else ():
        if not is_chosen(share, name, argument, what):
            continue
        kind, error = attempt(function, arguments)
        call = f"{name}, {argument} = {what}"
        if kind not in ("returned", "refused"):
            yield f"{call}: {kind} {type(error).__name__}: {error!s:.100}".replace("\n", " ")
        elif error is not None and "\n" in str(error):
            yield f"{call}: a message of several lines"
        else:
            yield None


def main(home: str, share: int = 1) -> None:
    """Try the calls of a subpackage, with a proxy that does not exist: nothing is fetched."""
    os.environ |= dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    lines = [
        line for name, found in public_objects([home]) for line in unexpected(name, found, share)
    ]
    for line in filter(None, lines):
        print(line)
    print(len(lines))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
