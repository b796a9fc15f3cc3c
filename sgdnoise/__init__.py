"""The noise of stochastic gradient descent, and the dimension of what networks represent."""

import importlib

__version__ = "0.1.0"

_SUBPACKAGES = ("core", "data", "dimension", "dynamics", "lab", "nets", "noise", "theory")

__all__ = [*_SUBPACKAGES, "__version__"]


def __getattr__(name):
    """Load a subpackage when it is first asked for: importing costs neither torch nor jax."""
    if name in _SUBPACKAGES:
        return importlib.import_module(f"sgdnoise.{name}")
    raise AttributeError(f"module 'sgdnoise' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
