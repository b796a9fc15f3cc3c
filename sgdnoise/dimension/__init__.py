"""Estimators of the dimension of a point cloud, each a function (n, D) -> ()."""

from sgdnoise._public import publish as _publish
from sgdnoise.dimension._angles import abid as abid
from sgdnoise.dimension._angles import ess as ess
from sgdnoise.dimension._ball_radii import mada as mada
from sgdnoise.dimension._ball_radii import mom as mom
from sgdnoise.dimension._ball_radii import tle as tle
from sgdnoise.dimension._calibration import calibrated as calibrated
from sgdnoise.dimension._catalogue import ERROR_GROUPS as ERROR_GROUPS
from sgdnoise.dimension._catalogue import ESTIMATORS as ESTIMATORS
from sgdnoise.dimension._catalogue import LINEAR as LINEAR
from sgdnoise.dimension._catalogue import MANIFOLD as MANIFOLD
from sgdnoise.dimension._check_points import check_points as check_points
from sgdnoise.dimension._check_points import unique_points as unique_points
from sgdnoise.dimension._correlation import correlation as correlation
from sgdnoise.dimension._correlation import full_correlation_integral as full_correlation_integral
from sgdnoise.dimension._counts import abide as abide
from sgdnoise.dimension._counts import adaptive_neighbours as adaptive_neighbours
from sgdnoise.dimension._counts import binomial as binomial
from sgdnoise.dimension._counts import i3d as i3d
from sgdnoise.dimension._danco import danco as danco
from sgdnoise.dimension._distance_ratios import gride as gride
from sgdnoise.dimension._distance_ratios import l2n2 as l2n2
from sgdnoise.dimension._distance_ratios import levina_bickel as levina_bickel
from sgdnoise.dimension._distance_ratios import mind_ml as mind_ml
from sgdnoise.dimension._distance_ratios import twonn as twonn
from sgdnoise.dimension._geodesic import geodesic as geodesic
from sgdnoise.dimension._jacobian import jacobian_dimension as jacobian_dimension
from sgdnoise.dimension._jacobian import jacobians as jacobians
from sgdnoise.dimension._local import local_levina_bickel as local_levina_bickel
from sgdnoise.dimension._local import local_mada as local_mada
from sgdnoise.dimension._local import local_mom as local_mom
from sgdnoise.dimension._local import local_tle as local_tle
from sgdnoise.dimension._metric import metric_neighbours as metric_neighbours
from sgdnoise.dimension._pca import local_pca as local_pca
from sgdnoise.dimension._pca import pca as pca
from sgdnoise.dimension._points import Neighbours as Neighbours
from sgdnoise.dimension._points import doubts as doubts
from sgdnoise.dimension._points import find_neighbours as find_neighbours
from sgdnoise.dimension._pointwise import pointwise as pointwise
from sgdnoise.dimension._scale import Plateau as Plateau
from sgdnoise.dimension._scale import Profile as Profile
from sgdnoise.dimension._scale import noise_onset as noise_onset
from sgdnoise.dimension._scale import plateau as plateau
from sgdnoise.dimension._scale import scale_participation_ratio as scale_participation_ratio
from sgdnoise.dimension._scale import scale_profile as scale_profile
from sgdnoise.dimension._separability import fisher_separability as fisher_separability
from sgdnoise.dimension._spectral import debiased as debiased
from sgdnoise.dimension._spectral import effective_rank as effective_rank
from sgdnoise.dimension._spectral import participation_ratio as participation_ratio
from sgdnoise.dimension._spectral import stable_rank as stable_rank
from sgdnoise.dimension._surrogate import covariance_spectrum as covariance_spectrum
from sgdnoise.dimension._surrogate import gaussian_surrogate as gaussian_surrogate
from sgdnoise.dimension._surrogate import gaussian_twonn as gaussian_twonn
from sgdnoise.dimension._trained._predict import estimate as estimate
from sgdnoise.dimension._trained._predict import learned as learned
from sgdnoise.dimension._trained._scales import NoSingleDimension as NoSingleDimension
from sgdnoise.dimension._warnings import AboveCoordinates as AboveCoordinates
from sgdnoise.dimension._warnings import BeyondReference as BeyondReference
from sgdnoise.dimension._warnings import ClosePairs as ClosePairs
from sgdnoise.dimension._warnings import DimensionWarning as DimensionWarning
from sgdnoise.dimension._warnings import Discrete as Discrete
from sgdnoise.dimension._warnings import Duplicates as Duplicates
from sgdnoise.dimension._warnings import NearDuplicates as NearDuplicates
from sgdnoise.dimension._warnings import NotSettled as NotSettled
from sgdnoise.dimension._warnings import Outliers as Outliers
from sgdnoise.dimension._warnings import Passages as Passages
from sgdnoise.dimension._warnings import ScalesDisagree as ScalesDisagree
from sgdnoise.dimension._warnings import SerialDependence as SerialDependence
from sgdnoise.dimension._warnings import SeveralDimensions as SeveralDimensions
from sgdnoise.dimension._warnings import Ties as Ties

__all__ = _publish(__name__, globals())


def __dir__():
    return __all__
