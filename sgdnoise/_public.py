"""What a subpackage shows: exactly its public names, each of which says where it is found."""

from types import ModuleType


def publish(package: str, names: dict) -> list[str]:
    """The public names among the globals of a subpackage, sorted: its `__all__`.

    Public is every name without a leading underscore that is no module.  Functions and classes
    that the subpackage's own modules define get the subpackage as their `__module__`, so that
    `help`, error messages and pickles name the path by which users import them.
    """
    public = [
        name
        for name, value in names.items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    ]
    for name in public:
        if getattr(names[name], "__module__", "").startswith(f"{package}._"):
            names[name].__module__ = package
    return sorted(public)
