"""The noise of stochastic gradient descent, and the dimension of what networks represent."""

import importlib

__version__ = "0.1.0"

__all__ = [
    "arrays",
    "covariance",
    "data",
    "dimension",
    "dynamics",
    "estimate",
    "learn",
    "nets",
    "noise",
    "plot",
    "problem",
    "read",
    "report",
    "rows",
    "spectrum",
    "store",
    "survey",
    "sweep",
    "theory",
    "track",
    "verdict",
]


def __getattr__(name):
    """Load a submodule when it is first asked for: importing costs neither torch nor jax."""
    if name in __all__:
        return importlib.import_module(f"sgdnoise.{name}")
    raise AttributeError(f"module 'sgdnoise' has no attribute {name!r}")


def __dir__():
    return [*__all__, "__version__"]
