"""Gradient noise: models of it, and measures of its size, shape and direction."""

from sgdnoise._public import publish as _publish
from sgdnoise.noise._draws import Normal as Normal
from sgdnoise.noise._draws import Permutation as Permutation
from sgdnoise.noise._draws import Rademacher as Rademacher
from sgdnoise.noise._draws import Sampled as Sampled
from sgdnoise.noise._draws import StepNumber as StepNumber
from sgdnoise.noise._draws import ThreePoint as ThreePoint
from sgdnoise.noise._draws import Uniform as Uniform
from sgdnoise.noise._draws import WithoutReplacement as WithoutReplacement
from sgdnoise.noise._draws import WithReplacement as WithReplacement
from sgdnoise.noise._label_noise import label_noise as label_noise
from sgdnoise.noise._linear_moments import linear_network_moments as linear_network_moments
from sgdnoise.noise._linear_moments import moment_slopes as moment_slopes
from sgdnoise.noise._measure._alignment import Alignment as Alignment
from sgdnoise.noise._measure._alignment import alignment as alignment
from sgdnoise.noise._measure._alignment import alignment_exponent as alignment_exponent
from sgdnoise.noise._measure._autocorrelation import autocorrelation as autocorrelation
from sgdnoise.noise._measure._autocorrelation import correlation_time as correlation_time
from sgdnoise.noise._measure._autocorrelation import (
    reshuffled_autocorrelation as reshuffled_autocorrelation,
)
from sgdnoise.noise._measure._batch_sharpness import batch_sharpness as batch_sharpness
from sgdnoise.noise._measure._fisher import fisher_inner_product as fisher_inner_product
from sgdnoise.noise._measure._fisher import fisher_scatter as fisher_scatter
from sgdnoise.noise._measure._fisher import fisher_trace as fisher_trace
from sgdnoise.noise._measure._gaussianity import Gaussianity as Gaussianity
from sgdnoise.noise._measure._gaussianity import gaussianity as gaussianity
from sgdnoise.noise._measure._gradient_noise_scale import batch_efficiency as batch_efficiency
from sgdnoise.noise._measure._gradient_noise_scale import (
    gradient_noise_scale as gradient_noise_scale,
)
from sgdnoise.noise._measure._gradient_noise_scale import (
    gradient_noise_scale_from_batches as gradient_noise_scale_from_batches,
)
from sgdnoise.noise._measure._gradient_noise_scale import signal_to_noise as signal_to_noise
from sgdnoise.noise._measure._layers import by_layer as by_layer
from sgdnoise.noise._measure._layers import gradient_norm as gradient_norm
from sgdnoise.noise._measure._minibatch_kurtosis import minibatch_kurtosis as minibatch_kurtosis
from sgdnoise.noise._measure._tail_index import METHODS as METHODS
from sgdnoise.noise._measure._tail_index import extreme_value_index as extreme_value_index
from sgdnoise.noise._measure._tail_index import tail_index as tail_index
from sgdnoise.noise._measure._variance_flatness import VarianceFlatness as VarianceFlatness
from sgdnoise.noise._measure._variance_flatness import loss_width as loss_width
from sgdnoise.noise._measure._variance_flatness import variance_flatness as variance_flatness
from sgdnoise.noise._models import Noise as Noise
from sgdnoise.noise._models import additive as additive
from sgdnoise.noise._models import clipped as clipped
from sgdnoise.noise._models import from_weights as from_weights
from sgdnoise.noise._models import full_batch as full_batch
from sgdnoise.noise._models import gaussian as gaussian
from sgdnoise.noise._models import isotropic as isotropic
from sgdnoise.noise._models import minibatch as minibatch
from sgdnoise.noise._models import non_gaussian as non_gaussian
from sgdnoise.noise._models import same_diagonal as same_diagonal
from sgdnoise.noise._models import same_trace as same_trace
from sgdnoise.noise._per_example import gradient_covariance as gradient_covariance
from sgdnoise.noise._sampled_labels import sampled_labels as sampled_labels
from sgdnoise.noise._weights import Weights as Weights
from sgdnoise.noise._weights import bernoulli as bernoulli
from sgdnoise.noise._weights import custom_weights as custom_weights
from sgdnoise.noise._weights import gaussian_weights as gaussian_weights
from sgdnoise.noise._weights import importance as importance
from sgdnoise.noise._weights import reshuffled as reshuffled
from sgdnoise.noise._weights import svag_weights as svag_weights
from sgdnoise.noise._weights import with_replacement as with_replacement
from sgdnoise.noise._weights import without_replacement as without_replacement

__all__ = _publish(__name__, globals())


def __dir__():
    return __all__
