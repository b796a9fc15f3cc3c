"""Dimension of a cloud of points: one function an estimator, (n, D) -> ()."""

from collections.abc import Callable
from typing import Any

from sgdnoise.dimension.angles import abid as abid
from sgdnoise.dimension.angles import ess as ess
from sgdnoise.dimension.calibration import calibrated as calibrated
from sgdnoise.dimension.cloud import Duplicates as Duplicates
from sgdnoise.dimension.cloud import Neighbours as Neighbours
from sgdnoise.dimension.cloud import Ties as Ties
from sgdnoise.dimension.cloud import cloud as cloud
from sgdnoise.dimension.cloud import distinct as distinct
from sgdnoise.dimension.cloud import nearest as nearest
from sgdnoise.dimension.counts import abide as abide
from sgdnoise.dimension.counts import adaptive_neighbours as adaptive_neighbours
from sgdnoise.dimension.counts import binomial as binomial
from sgdnoise.dimension.counts import i3d as i3d
from sgdnoise.dimension.divergence import danco as danco
from sgdnoise.dimension.local import Plateau as Plateau
from sgdnoise.dimension.local import Profile as Profile
from sgdnoise.dimension.local import jacobian_dimension as jacobian_dimension
from sgdnoise.dimension.local import jacobians as jacobians
from sgdnoise.dimension.local import noise_scale as noise_scale
from sgdnoise.dimension.local import plateau as plateau
from sgdnoise.dimension.local import pointwise as pointwise
from sgdnoise.dimension.local import scale_participation_ratio as scale_participation_ratio
from sgdnoise.dimension.local import scale_profile as scale_profile
from sgdnoise.dimension.pairs import correlation as correlation
from sgdnoise.dimension.pairs import full_correlation_integral as full_correlation_integral
from sgdnoise.dimension.paths import geodesic as geodesic
from sgdnoise.dimension.principal import local_pca as local_pca
from sgdnoise.dimension.principal import pca as pca
from sgdnoise.dimension.radii import mada as mada
from sgdnoise.dimension.radii import mom as mom
from sgdnoise.dimension.radii import tle as tle
from sgdnoise.dimension.ratios import gride as gride
from sgdnoise.dimension.ratios import l2n2 as l2n2
from sgdnoise.dimension.ratios import levina_bickel as levina_bickel
from sgdnoise.dimension.ratios import mind_ml as mind_ml
from sgdnoise.dimension.ratios import twonn as twonn
from sgdnoise.dimension.recommended import estimate as estimate
from sgdnoise.dimension.recommended import learned as learned
from sgdnoise.dimension.separability import fisher_separability as fisher_separability
from sgdnoise.dimension.spectral import effective_rank as effective_rank
from sgdnoise.dimension.spectral import participation_ratio as participation_ratio
from sgdnoise.dimension.spectral import stable_rank as stable_rank

# Of manifolds: from the neighbours of each point, which `neighbours=` may hand in.
NEIGHBOUR: dict[str, Callable[..., Any]] = {
    "learned": learned,
    "twonn": twonn,
    "l2n2": l2n2,
    "levina_bickel": levina_bickel,
    "gride": gride,
    "mind_ml": mind_ml,
    "danco": danco,
    "mom": mom,
    "mada": mada,
    "tle": tle,
    "binomial": binomial,
    "abide": abide,
    "ess": ess,
    "abid": abid,
    "local_pca": local_pca,
    "correlation": correlation,
    "geodesic": geodesic,
}
# Of the space the cloud spans.
LINEAR: dict[str, Callable[..., Any]] = {
    "full_correlation_integral": full_correlation_integral,
    "fisher_separability": fisher_separability,
    "participation_ratio": participation_ratio,
    "effective_rank": effective_rank,
    "stable_rank": stable_rank,
    "pca": pca,
}
ESTIMATORS: dict[str, Callable[..., Any]] = NEIGHBOUR | LINEAR
# How `grouped` is to find the error of those that have corners.
GROUPS: dict[str, dict[str, int]] = {"stable_rank": {"groups": 10, "fewer": 4}}
