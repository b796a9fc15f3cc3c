"""Optional dependencies: one sentence names the extra that installs what is missing."""

import importlib
import importlib.util
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Raises ImportError with a sentence that names the extra if the dependency is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise _missing(module.split(".")[0], extra) from None


def check_installed(module: str, extra: str) -> None:
    """Raise the ImportError of `require` if a module is not installed, without importing it."""
    try:
        installed = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        installed = False
    if not installed:
        raise _missing(module, extra)


def _missing(name, extra):
    return ImportError(
        f"{name} is not installed; it comes with the extra '{extra}': "
        f"pip install 'sgdnoise[{extra}]'",
        name=name,
    )
