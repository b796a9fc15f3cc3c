"""Gradient noise: laws of example weights, label noise, additive noise."""

from sgdnoise.noise.models import Noise as Noise
from sgdnoise.noise.models import additive as additive
from sgdnoise.noise.models import gaussian as gaussian
from sgdnoise.noise.models import isotropic as isotropic
from sgdnoise.noise.models import label as label
from sgdnoise.noise.models import minibatch as minibatch
from sgdnoise.noise.models import quiet as quiet
from sgdnoise.noise.models import same_diagonal as same_diagonal
from sgdnoise.noise.models import same_trace as same_trace
from sgdnoise.noise.models import sampled as sampled
