"""Gradient noise: what a step draws, how large, of which shape and against which curvature."""

from sgdnoise.noise.aligned import alignment as alignment
from sgdnoise.noise.critical import scale as scale
from sgdnoise.noise.critical import signal_to_noise as signal_to_noise
from sgdnoise.noise.fisher_labels import sampled_labels as sampled_labels
from sgdnoise.noise.layers import by_layer as by_layer
from sgdnoise.noise.memory import autocorrelation as autocorrelation
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
from sgdnoise.noise.normality import gaussianity as gaussianity
from sgdnoise.noise.operator import gradient_covariance as gradient_covariance
from sgdnoise.noise.tails import tail_index as tail_index
