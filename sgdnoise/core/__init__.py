"""Problems, estimates with errors, per-example gradients and covariances."""

from sgdnoise._public import publish as _publish
from sgdnoise.core._covariance import Eigenpairs as Eigenpairs
from sgdnoise.core._covariance import Gram as Gram
from sgdnoise.core._eigen import (
    eigenvalue_participation_ratio as eigenvalue_participation_ratio,
)
from sgdnoise.core._eigen import largest_eigenpairs as largest_eigenpairs
from sgdnoise.core._estimate import Estimate as Estimate
from sgdnoise.core._estimate import batch_means as batch_means
from sgdnoise.core._estimate import jackknife as jackknife
from sgdnoise.core._estimate import mean as mean
from sgdnoise.core._estimate import nanmean as nanmean
from sgdnoise.core._estimate import with_group_error as with_group_error
from sgdnoise.core._gradients import GradientMatrix as GradientMatrix
from sgdnoise.core._gradients import PerExampleGradients as PerExampleGradients
from sgdnoise.core._operators import Covariance as Covariance
from sgdnoise.core._operators import Diagonal as Diagonal
from sgdnoise.core._operators import Factor as Factor
from sgdnoise.core._operators import Isotropic as Isotropic
from sgdnoise.core._problem import Problem as Problem
from sgdnoise.core._ratio import Ratio as Ratio
from sgdnoise.core._sampling import finite_population_factor as finite_population_factor
from sgdnoise.core._series import series_mean as series_mean

__all__ = _publish(__name__, globals())


def __dir__():
    return __all__
