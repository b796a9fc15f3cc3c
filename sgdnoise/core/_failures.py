"""Errors that libraries and Python raise below a public function, told in its own terms."""

import dis
import os
import sysconfig
from pathlib import Path

from sgdnoise.core._scalars import described

PACKAGE = str(Path(__file__).parents[1])
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
FAILURES = TypeError, AttributeError, LookupError, ArithmeticError, ValueError, RuntimeError
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
    codes = _frames_below(error)
    if any(not _is_known(code.co_filename) for code, _ in codes):
        return None
    code, last = codes[-1]
    if code.co_filename.startswith(PACKAGE) and code.co_code[last] in RAISING:
        return None
    given = ", ".join(f"{name} = {described(value)}" for name, value in arguments.items())
    return f"{function} does not take {given}: {_first_line(error)}"


RAISING = dis.opmap["RAISE_VARARGS"], dis.opmap["RERAISE"]


def _frames_below(error) -> list[tuple]:
    """Code and place of each frame of an error, from the guard of the function on."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append((trace.tb_frame.f_code, trace.tb_lasti))
        trace = trace.tb_next
    return frames


def _is_known(file: str) -> bool:
    """Whether code is of the package, of an installed library or of Python."""
    compiled = not os.path.isabs(file)  # <string>, or a name that Cython gives
    return compiled or file.startswith((PACKAGE, *LIBRARIES))


def _first_line(error) -> str:
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return line if len(line) <= LONGEST else line[:LONGEST] + " ..."
