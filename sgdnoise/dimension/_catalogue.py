"""The estimators of dimension by name."""

from collections.abc import Callable
from typing import Any

from sgdnoise.dimension._angles import abid, ess
from sgdnoise.dimension._ball_radii import mada, mom, tle
from sgdnoise.dimension._correlation import correlation, full_correlation_integral
from sgdnoise.dimension._counts import abide, binomial
from sgdnoise.dimension._danco import danco
from sgdnoise.dimension._distance_ratios import gride, l2n2, levina_bickel, mind_ml, twonn
from sgdnoise.dimension._geodesic import geodesic
from sgdnoise.dimension._pca import local_pca, pca
from sgdnoise.dimension._separability import fisher_separability
from sgdnoise.dimension._spectral import effective_rank, participation_ratio, stable_rank
from sgdnoise.dimension._trained._predict import learned

# Estimators of the dimension of a manifold, from the neighbours of each point (`neighbours=`).
MANIFOLD: dict[str, Callable[..., Any]] = {
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
# Estimators of the dimension of the linear space that the points span.
LINEAR: dict[str, Callable[..., Any]] = {
    "full_correlation_integral": full_correlation_integral,
    "fisher_separability": fisher_separability,
    "participation_ratio": participation_ratio,
    "effective_rank": effective_rank,
    "stable_rank": stable_rank,
    "pca": pca,
}
ESTIMATORS: dict[str, Callable[..., Any]] = MANIFOLD | LINEAR
# Arguments of `with_group_error` for estimators that are not differentiable everywhere.
ERROR_GROUPS: dict[str, dict[str, int]] = {"stable_rank": {"groups": 10, "n_fewer": 4}}
