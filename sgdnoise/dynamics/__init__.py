"""Dynamics of the parameters: SGD of every kind, and the stochastic equations behind it."""

from typing import TYPE_CHECKING

from sgdnoise._public import load as _load
from sgdnoise._public import publish as _publish
from sgdnoise.dynamics._adaptive import adam as adam
from sgdnoise.dynamics._adaptive import adam_langevin as adam_langevin
from sgdnoise.dynamics._adaptive import adamw as adamw
from sgdnoise.dynamics._adaptive import rmsprop as rmsprop
from sgdnoise.dynamics._adaptive import rmsprop_langevin as rmsprop_langevin
from sgdnoise.dynamics._langevin import heun as heun
from sgdnoise.dynamics._langevin import langevin as langevin
from sgdnoise.dynamics._langevin import overdamped_langevin as overdamped_langevin
from sgdnoise.dynamics._levy import levy_sgd as levy_sgd
from sgdnoise.dynamics._levy import stable_variates as stable_variates
from sgdnoise.dynamics._momentum import heavy_ball as heavy_ball
from sgdnoise.dynamics._momentum import nesterov as nesterov
from sgdnoise.dynamics._ornstein_uhlenbeck import ornstein_uhlenbeck as ornstein_uhlenbeck
from sgdnoise.dynamics._process import Process as Process
from sgdnoise.dynamics._process import side_by_side as side_by_side
from sgdnoise.dynamics._process import with_weak_increments as with_weak_increments
from sgdnoise.dynamics._sgd import sgd as sgd
from sgdnoise.dynamics._sgd import svag as svag
from sgdnoise.dynamics._underdamped import baoab as baoab
from sgdnoise.dynamics._underdamped import underdamped as underdamped
from sgdnoise.dynamics._underdamped import underdamped_parameters as underdamped_parameters

if TYPE_CHECKING:
    from sgdnoise.dynamics._chains._checkpoint import simulate_resumable as simulate_resumable
    from sgdnoise.dynamics._chains._observables import Autocovariance as Autocovariance
    from sgdnoise.dynamics._chains._observables import Histogram as Histogram
    from sgdnoise.dynamics._chains._observables import Moments as Moments
    from sgdnoise.dynamics._chains._observables import Observable as Observable
    from sgdnoise.dynamics._chains._observables import Passage as Passage
    from sgdnoise.dynamics._chains._observables import autocorrelation as autocorrelation
    from sgdnoise.dynamics._chains._observables import combine as combine
    from sgdnoise.dynamics._chains._observables import correlation_time as correlation_time
    from sgdnoise.dynamics._chains._observables import correlations as correlations
    from sgdnoise.dynamics._chains._observables import first_passage as first_passage
    from sgdnoise.dynamics._chains._observables import histogram as histogram
    from sgdnoise.dynamics._chains._observables import moments as moments
    from sgdnoise.dynamics._chains._observables import passage_rate as passage_rate
    from sgdnoise.dynamics._chains._observables import pool as pool
    from sgdnoise.dynamics._chains._simulate import Diverged as Diverged
    from sgdnoise.dynamics._chains._simulate import State as State
    from sgdnoise.dynamics._chains._simulate import Trajectory as Trajectory
    from sgdnoise.dynamics._chains._simulate import simulate as simulate
    from sgdnoise.dynamics._chains._simulate import start_state as start_state
    from sgdnoise.dynamics._chains._simulate import step_many as step_many
    from sgdnoise.dynamics._mlp import mlp_problem as mlp_problem
    from sgdnoise.dynamics._pytree import pytree_problem as pytree_problem

# What needs jax is loaded when it is first asked for: a process alone does not need it.
_NEEDS_JAX = {
    "_chains._checkpoint": ("simulate_resumable",),
    "_chains._observables": (
        "Autocovariance",
        "Histogram",
        "Moments",
        "Observable",
        "Passage",
        "autocorrelation",
        "combine",
        "correlation_time",
        "correlations",
        "first_passage",
        "histogram",
        "moments",
        "passage_rate",
        "pool",
    ),
    "_chains._simulate": (
        "Diverged",
        "State",
        "Trajectory",
        "simulate",
        "start_state",
        "step_many",
    ),
    "_mlp": ("mlp_problem",),
    "_pytree": ("pytree_problem",),
}
_HOME = {name: module for module, names in _NEEDS_JAX.items() for name in names}

__all__ = sorted({*_publish(__name__, globals()), *_HOME} - {"TYPE_CHECKING"})


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, _load(__name__, _HOME[name], name, "jax"))


def __dir__():
    return __all__
