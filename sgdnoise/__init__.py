"""The noise of stochastic gradient descent, and the dimension of what networks represent.

Subpackages are loaded when they are first used: `import sgdnoise` loads neither torch nor jax.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_SUBPACKAGES = ("core", "data", "dimension", "dynamics", "lab", "nets", "noise", "theory")
_NAMES = {  # what is used most, by the subpackage where it is found
    "core": ["Estimate", "Problem", "jackknife", "mean", "with_group_error"],
    "data": ["read_points"],
    "dimension": ["levina_bickel", "participation_ratio", "twonn"],
    "dynamics": [
        "Process",
        "adam",
        "adamw",
        "heavy_ball",
        "langevin",
        "levy_sgd",
        "nesterov",
        "ornstein_uhlenbeck",
        "overdamped_langevin",
        "sgd",
        "simulate",
        "svag",
        "underdamped",
    ],
    "lab": ["Study", "Verdict", "sweep"],
    "nets": ["as_problem", "gradient_covariance", "per_example_gradients", "walk", "watch"],
    "noise": [
        "alignment",
        "full_batch",
        "gaussian",
        "gaussianity",
        "gradient_noise_scale",
        "isotropic",
        "label_noise",
        "minibatch",
        "signal_to_noise",
        "tail_index",
    ],
    "sklearn": ["IntrinsicDimension"],
    "theory": [
        "label_noise_flow",
        "label_noise_strength",
        "moment_closure",
        "stationary_covariance",
    ],
}
_HOME = {name: home for home, names in _NAMES.items() for name in names}
_HOME["estimate_dimension"] = "dimension"

if TYPE_CHECKING:
    from sgdnoise.core import Estimate as Estimate
    from sgdnoise.core import Problem as Problem
    from sgdnoise.core import jackknife as jackknife
    from sgdnoise.core import mean as mean
    from sgdnoise.core import with_group_error as with_group_error
    from sgdnoise.data import read_points as read_points
    from sgdnoise.dimension import estimate as estimate_dimension  # noqa: F401 - reached by __getattr__
    from sgdnoise.dimension import levina_bickel as levina_bickel
    from sgdnoise.dimension import participation_ratio as participation_ratio
    from sgdnoise.dimension import twonn as twonn
    from sgdnoise.dynamics import Process as Process
    from sgdnoise.dynamics import adam as adam
    from sgdnoise.dynamics import adamw as adamw
    from sgdnoise.dynamics import heavy_ball as heavy_ball
    from sgdnoise.dynamics import langevin as langevin
    from sgdnoise.dynamics import levy_sgd as levy_sgd
    from sgdnoise.dynamics import nesterov as nesterov
    from sgdnoise.dynamics import ornstein_uhlenbeck as ornstein_uhlenbeck
    from sgdnoise.dynamics import overdamped_langevin as overdamped_langevin
    from sgdnoise.dynamics import sgd as sgd
    from sgdnoise.dynamics import simulate as simulate
    from sgdnoise.dynamics import svag as svag
    from sgdnoise.dynamics import underdamped as underdamped
    from sgdnoise.lab import Study as Study
    from sgdnoise.lab import Verdict as Verdict
    from sgdnoise.lab import sweep as sweep
    from sgdnoise.nets import as_problem as as_problem
    from sgdnoise.nets import gradient_covariance as gradient_covariance
    from sgdnoise.nets import per_example_gradients as per_example_gradients
    from sgdnoise.nets import walk as walk
    from sgdnoise.nets import watch as watch
    from sgdnoise.noise import alignment as alignment
    from sgdnoise.noise import full_batch as full_batch
    from sgdnoise.noise import gaussian as gaussian
    from sgdnoise.noise import gaussianity as gaussianity
    from sgdnoise.noise import gradient_noise_scale as gradient_noise_scale
    from sgdnoise.noise import isotropic as isotropic
    from sgdnoise.noise import label_noise as label_noise
    from sgdnoise.noise import minibatch as minibatch
    from sgdnoise.noise import signal_to_noise as signal_to_noise
    from sgdnoise.noise import tail_index as tail_index
    from sgdnoise.sklearn import IntrinsicDimension as IntrinsicDimension
    from sgdnoise.theory import label_noise_flow as label_noise_flow
    from sgdnoise.theory import label_noise_strength as label_noise_strength
    from sgdnoise.theory import moment_closure as moment_closure
    from sgdnoise.theory import stationary_covariance as stationary_covariance

__all__ = sorted([*_SUBPACKAGES, *_HOME, "__version__"])


def __getattr__(name):
    """Load a subpackage, or a name of one, when it is first asked for."""
    if name in _SUBPACKAGES:
        return importlib.import_module(f"sgdnoise.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'sgdnoise' has no attribute {name!r}")
    module = importlib.import_module(f"sgdnoise.{_HOME[name]}")
    return getattr(module, "estimate" if name == "estimate_dimension" else name)


def __dir__():
    return __all__
