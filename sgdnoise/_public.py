"""What a subpackage shows: exactly its public names, each of which says where it is found."""

import importlib
from types import ModuleType

from sgdnoise._extras import require


def publish(package: str, names: dict) -> list[str]:
    """The public names among the globals of a subpackage, sorted: its `__all__`.

    Public is every name without a leading underscore that is not a module.  Functions and classes
    from private modules get the subpackage as their `__module__`, so that `help`, error messages
    and pickles name the path by which users import them.
    """
    public = [
        name
        for name, value in names.items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    ]
    for name in public:
        _found_in(package, names[name])
    return sorted(public)


def load(package: str, module: str, name: str, extra: str | None = None):
    """A public name of a private module, loaded when asked for.

    extra: the optional dependency of the module, which is an extra of the same name.
    """
    if extra is not None:
        require(extra, extra)
    value = getattr(importlib.import_module(f"{package}.{module}"), name)
    return _found_in(package, value)


def _found_in(package, value):
    module = getattr(value, "__module__", None) or ""
    if module.startswith("sgdnoise.") and "._" in module:
        value.__module__ = package
    return value
