"""The estimators of dimension in the interface of scikit-learn: fit, then read `dimension_`."""

import inspect
import math
from functools import partial

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted, validate_data

from sgdnoise.core._estimate import Estimate, with_group_error
from sgdnoise.dimension._calibration import calibrated
from sgdnoise.dimension._catalogue import ERROR_GROUPS, ESTIMATORS
from sgdnoise.dimension._points import unique_points
from sgdnoise.dimension._trained._predict import estimate, learned


class IntrinsicDimension(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """The dimension of points, and of the neighbourhood of any point, by one of our estimators.

    method: a name in `sgdnoise.dimension.ESTIMATORS`, or "estimate", which is the most accurate: it
    corrects the effects of curvature, edges and uneven density on `twonn` and the others.  It needs
    205 points to fit.  Other methods are for comparison, for less time, or for fewer points.
    options: the options of that estimator, a dict.
    calibrate: invert the estimator by its values on uniform balls, which are simulated once;
    "estimate" is already calibrated.
    n_neighbors: the fitted points in the neighbourhood of a point, 2 or more.  With few the value
    is noisy, and nan if the estimator needs more.
    groups: the groups of points, 2 or more, whose standard deviation gives the error, which is nan
    if they are too small; "estimate" computes its own error.

    After fit: dimension_, stderr_, points_ (duplicates are merged, with a warning `Duplicates`),
    n_features_in_.  Raises ValueError for an unknown method or option and for fewer points than the
    estimator needs.
    """

    def __init__(self, method="twonn", *, options=None, calibrate=False, n_neighbors=50, groups=5):
        self.method = method
        self.options = options
        self.calibrate = calibrate
        self.n_neighbors = n_neighbors
        self.groups = groups

    def fit(self, X, y=None):  # noqa: ARG002 - scikit-learn passes it
        """Estimate the dimension of the rows of X, (n_samples, n_features)."""
        self._check()
        X = validate_data(self, X, dtype="numeric", ensure_min_samples=2)
        points = unique_points(X)
        result = self._measured(points)
        self.dimension_, self.stderr_ = float(result.value), float(result.stderr)
        self.points_ = points
        return self

    def transform(self, X):
        """The dimension of the `n_neighbors` fitted points nearest to each row, (n_samples, 1).

        It is nan if the estimator raises ValueError for these points.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype="numeric", reset=False)
        count = min(self.n_neighbors, len(self.points_))
        search = NearestNeighbors(n_neighbors=count).fit(self.points_)
        places = search.kneighbors(X, return_distance=False)
        value = self._estimator()
        return np.asarray([[_or_nan(value, self.points_[np.sort(row)])] for row in places])

    @property
    def _n_features_out(self):
        return 1

    def _check(self):
        if self.method not in (known := [*ESTIMATORS, "estimate"]):
            raise ValueError(
                f"{self.method!r} is none of the methods, such as {known[0]}, estimate"
            )
        if self.calibrate and self.method == "estimate":
            raise ValueError("the method 'estimate' is calibrated as it is: leave calibrate=False")
        if not (self.n_neighbors >= 2 and self.groups >= 2):
            raise ValueError(
                f"n_neighbors and groups are 2 or more, not {self.n_neighbors} and {self.groups}"
            )
        function = ESTIMATORS.get(self.method, estimate)
        allowed = [*inspect.signature(function).parameters.keys() - {"points", "neighbours"}]
        for name in self.options or {}:
            if name not in allowed:
                listed = ", ".join(sorted(allowed)) or "none"
                raise ValueError(f"{self.method} has no option {name!r} but {listed}")

    def _measured(self, points):
        if self.method == "estimate":
            return estimate(points, **(self.options or {}))
        value = self._estimator()
        try:
            return with_group_error(
                value, points, **ERROR_GROUPS.get(self.method, {"groups": self.groups})
            )
        except ValueError:  # from small groups; if all points are too few, the next line raises
            return Estimate(value(points), math.nan)

    def _estimator(self):
        """The function from points to their dimension, without an error."""
        function = ESTIMATORS.get(self.method, learned)  # whose value that of `estimate` is
        function = calibrated(function) if self.calibrate else function
        return partial(function, **(self.options or {}))


def _or_nan(value, points):
    try:
        return float(value(points))
    except ValueError:
        return math.nan
