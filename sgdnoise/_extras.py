"""Optional dependencies: one sentence names the extra that installs what is missing."""

import importlib
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
        name = module.split(".")[0]
        raise ImportError(
            f"{name} is not installed; it comes with the extra '{extra}': "
            f"pip install 'sgdnoise[{extra}]'",
            name=name,
        ) from None
