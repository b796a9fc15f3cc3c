"""Estimators of dimension as scikit-learn has them: fit, then read `dimension_`."""

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted, validate_data

__all__ = ["IntrinsicDimension"]


class IntrinsicDimension(TransformerMixin, BaseEstimator):
    """Dimension of a cloud, and of the neighbourhood of any point, by an estimator of ours.

    method: a name in `sgdnoise.dimension.ESTIMATORS`.  options: of that estimator, a dict.
    calibrate: invert its values on uniform balls.  near: fitted points in the neighbourhood of a
    point.  groups: whose spread makes the error; nan where the groups come to be too small.
    After fit: dimension_, stderr_, n_features_in_.  Raises ValueError for an unknown method.
    """

    def __init__(self, method="twonn", *, options=None, calibrate=False, near=50, groups=5):
        self.method = method
        self.options = options
        self.calibrate = calibrate
        self.near = near
        self.groups = groups

    def fit(self, X, y=None):  # noqa: ARG002
        """Estimate the dimension of the rows of X, (n_samples, n_features)."""
        X = validate_data(self, X, dtype="numeric", ensure_min_samples=4)
        measured = self._grouped(X)
        self.dimension_, self.stderr_ = float(measured.value), float(measured.stderr)
        self.points_ = X
        return self

    def transform(self, X):
        """Dimension of the fitted points nearest to each row of X, (n_samples, 1)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype="numeric", reset=False)
        count = min(self.near, len(self.points_))
        index = NearestNeighbors(n_neighbors=count).fit(self.points_)
        places = index.kneighbors(X, return_distance=False)
        return np.asarray([[self._or_nan(self.points_[row])] for row in places])
