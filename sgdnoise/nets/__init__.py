"""Networks in torch: a network as a Problem, its gradient noise, and watching its training."""

from sgdnoise._extras import require as _require

_require("torch", "torch")

from sgdnoise._public import publish as _publish
from sgdnoise.nets import models as models
from sgdnoise.nets._as_problem import as_problem as as_problem
from sgdnoise.nets._batch_norm import freeze_batch_norm as freeze_batch_norm
from sgdnoise.nets._distributed import shared as shared
from sgdnoise.nets._live._live_noise_scale import LiveNoiseScale as LiveNoiseScale
from sgdnoise.nets._live._live_noise_scale import live_noise_scale as live_noise_scale
from sgdnoise.nets._per_example._network_covariance import (
    gradient_covariance as gradient_covariance,
)
from sgdnoise.nets._per_example._operator import NetworkGradients as NetworkGradients
from sgdnoise.nets._per_example._operator import per_example_gradients as per_example_gradients
from sgdnoise.nets._per_example._plan import FallbackWarning as FallbackWarning
from sgdnoise.nets._per_example._plan import UnusedWarning as UnusedWarning
from sgdnoise.nets._representations import (
    representation_dimensions as representation_dimensions,
)
from sgdnoise.nets._smooth import smooth_relus as smooth_relus
from sgdnoise.nets._walk import walk as walk
from sgdnoise.nets._watch._activations import UnmeasuredWarning as UnmeasuredWarning
from sgdnoise.nets._watch._watch import Watch as Watch
from sgdnoise.nets._watch._watch import watch as watch

__all__ = sorted([*_publish(__name__, globals()), "models"])


def __dir__():
    return __all__
