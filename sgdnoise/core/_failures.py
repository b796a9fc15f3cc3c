"""Errors that libraries and Python raise below a public function, told in its own terms."""

import dis
import os
import sysconfig
from pathlib import Path
from types import TracebackType

from sgdnoise.core._scalars import described

PACKAGE = str(Path(__file__).parents[1])
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
FAILURES = TypeError, AttributeError, LookupError, ArithmeticError, ValueError, RuntimeError
RAISING = dis.opmap["RAISE_VARARGS"], dis.opmap["RERAISE"]
LONGEST = 200  # letters of the error that is told


def told(error: BaseException, function: str, arguments: dict) -> str | None:
    """A sentence with the arguments of a function that failed; None if the error stands as it is.

    It stands if the package raised it on purpose, if it comes from a function of the user, and if
    it is of a kind of its own, such as those of jax for traced values and of torch for memory.
    """
    if not type(error).__module__.startswith(("builtins", "numpy")):
        return None
    if isinstance(error, RuntimeError) and type(error) not in (RuntimeError, NotImplementedError):
        return None
    traces = _below(error)
    if any(_is_of_the_user(trace.tb_frame) for trace in traces):
        return None
    code, last = traces[-1].tb_frame.f_code, traces[-1].tb_lasti
    if code.co_filename.startswith(PACKAGE) and code.co_code[last] in RAISING:
        return None
    values = {name: value for name, value in arguments.items() if name != "self"}
    given = ", ".join(f"{name} = {described(value)}" for name, value in values.items())
    return f"{function} does not take {given}: {_first_line(error)}"


def _below(error) -> list[TracebackType]:
    """The traceback of an error, frame by frame, from the guard of the function on."""
    traces, trace = [], error.__traceback__
    while trace is not None:
        traces.append(trace)
        trace = trace.tb_next
    return traces


def _is_of_the_user(frame) -> bool:
    """Whether code is neither of the package, nor of an installed library or of Python."""
    file = frame.f_code.co_filename
    if file.startswith("<"):  # made from a text: a program of the user, or by a library
        return frame.f_globals.get("__name__", "__main__") == "__main__"
    of_cython = not os.path.isabs(file)
    return not (of_cython or file.startswith((PACKAGE, *LIBRARIES)))


def _first_line(error) -> str:
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return line if len(line) <= LONGEST else line[:LONGEST] + " ..."
