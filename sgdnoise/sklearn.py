"""The estimators of dimension in the interface of scikit-learn: fit, then read `dimension_`."""

import inspect
import math
import warnings
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, validate_data

from sgdnoise.core._estimate import Estimate, with_group_error
from sgdnoise.dimension._calibration import calibrated
from sgdnoise.dimension._catalogue import ERROR_GROUPS, ESTIMATORS
from sgdnoise.dimension._local import local_levina_bickel, local_mada, local_mom, local_tle
from sgdnoise.dimension._metric import (
    COORDINATES,
    OF_DISTANCES,
    check_matrix,
    check_metric,
    in_metric,
    metric_neighbours,
    nearest_rows,
)
from sgdnoise.dimension._points import Neighbours, unique_points
from sgdnoise.dimension._trained._predict import MIN_POINTS, estimate, learned
from sgdnoise.dimension._warnings import DimensionWarning

__all__ = ["IntrinsicDimension", "NoDimension"]

# Methods whose local dimension is a formula of the distances to the neighbours of a point.
LOCAL = {
    "levina_bickel": local_levina_bickel,
    "mom": local_mom,
    "mada": local_mada,
    "tle": local_tle,
}
NEIGHBOURHOOD = 50  # points on which `transform` evaluates other methods


class NoDimension(DimensionWarning):
    """A warning that a method has no answer for these points, or uses fewer neighbours.

    Example:
        >>> import warnings
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(9, 2))
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     _ = IntrinsicDimension("levina_bickel", n_neighbors=20).fit(points)
        >>> "NoDimension" in [warning.category.__name__ for warning in said]
        True
    """


class IntrinsicDimension(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """The dimension of points, and of the neighbourhood of any point, by one of our estimators.

    method: "estimate", the recommended one, as that of `sgdnoise.estimate_dimension`; or a name in
    `sgdnoise.dimension.ESTIMATORS`, for comparison, for less time, or for fewer points.
    n_neighbors: of "levina_bickel", "mom", "mada" and "tle" the number k of neighbours that they
    compare, by default 10 or 20, in `fit` and in `transform`; of other methods the number of points
    in the neighbourhood on which `transform` evaluates them, 50 by default.
    metric: "euclidean", "cosine" or "correlation"; for methods that need distances only, such as
    "twonn" and "levina_bickel", also "precomputed", a matrix (n, n), or a metric of scikit-learn.
    Cosine is the distance of rows scaled to length 1: see `dimension.metric_neighbours`.
    options: other options of the method, a dict.
    calibrate: invert the estimator by its values on uniform balls, which are simulated once;
    "estimate" is already calibrated.
    stderr: whether to compute the error, which takes most of the time of `fit`.
    groups: the groups of points, 2 or more, whose standard deviation gives the error, which is nan
    if they are too small; "estimate" computes its own error.
    n_jobs: processes for `transform` by methods without a formula, of which "estimate" takes 6 ms a
    row and "twonn" 0.5; None is 1, and -1 all.

    After fit: dimension_, stderr_ (nan without an error), points_ (duplicates are merged, with a
    warning `Duplicates`), n_features_in_.  If the method has no answer, as "estimate" for fewer
    than 41 points or where the dimension depends on scale, dimension_ is nan, with a warning
    `NoDimension` that says why.  For fewer points than neighbours all other points are the
    neighbours, with the same warning.  "estimate" has no error for fewer than 205 points.
    transform: the local dimension of each row, (n_samples, 1): by the formula of its n_neighbors
    distances (Levina & Bickel, 2004; Amsaleg et al., 2015) for the four methods named above, else
    by the method on the fitted points nearest to it, which is another number.
    Raises ValueError for an unknown method, option or metric.

    Example:
        >>> points = np.random.default_rng(0).normal(size=(500, 3))
        >>> fitted = IntrinsicDimension("twonn", stderr=False).fit(points)
        >>> bool(abs(fitted.dimension_ - 3) < 0.5)
        True
        >>> IntrinsicDimension("levina_bickel", n_neighbors=20).fit_transform(points).shape
        (500, 1)
    """

    def __init__(
        self,
        method="estimate",
        *,
        n_neighbors=None,
        metric="euclidean",
        options=None,
        calibrate=False,
        stderr=True,
        groups=5,
        n_jobs=None,
    ):
        self.method = method
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.options = options
        self.calibrate = calibrate
        self.stderr = stderr
        self.groups = groups
        self.n_jobs = n_jobs

    def fit(self, X, y=None):  # noqa: ARG002 - scikit-learn passes it
        """Estimate the dimension of the rows of X, (n_samples, n_features).

        With metric="precomputed" X is the matrix (n_samples, n_samples) of distances.
        """
        self._check()
        X = validate_data(self, X, dtype="numeric", ensure_min_samples=2)
        if self._is_precomputed():
            check_matrix(X)
        self.points_ = X if self._is_precomputed() else unique_points(self._mapped(X))
        result = self._measured(self.points_)
        self.dimension_, self.stderr_ = float(result.value), float(result.stderr)
        return self

    def transform(self, X):
        """The local dimension of each row of X, (n_samples, 1), from the fitted points near it.

        A fitted point is not its own neighbour in a formula, but is in its own neighbourhood.
        With metric="precomputed" X holds the distances (n_samples, n_fitted) to the fitted points.
        The result is nan if the method has no answer for these points.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype="numeric", reset=False)
        X = X if self._is_precomputed() else self._mapped(X)
        values = self._by_formula(X) if self.method in LOCAL else self._in_neighbourhoods(X)
        return np.asarray(values, dtype=float).reshape(-1, 1)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self._is_precomputed()
        return tags

    @property
    def _n_features_out(self):
        return 1

    def _is_precomputed(self):
        return isinstance(self.metric, str) and self.metric == "precomputed"

    def _has_coordinates(self):
        return isinstance(self.metric, str) and self.metric in COORDINATES

    def _mapped(self, X):
        """The rows, in the units whose Euclidean distances are those of the metric."""
        return in_metric(X, self.metric) if self._has_coordinates() else X

    def _check(self):
        if self.method not in (known := ["estimate", *ESTIMATORS]):
            raise ValueError(
                f"{self.method!r} is none of the methods, such as {', '.join(known[:4])}"
            )
        if self.calibrate and self.method == "estimate":
            raise ValueError("the method 'estimate' is calibrated as it is: leave calibrate=False")
        if not ((self.n_neighbors is None or self.n_neighbors >= 2) and self.groups >= 2):
            raise ValueError(
                f"n_neighbors and groups are 2 or more, not {self.n_neighbors} and {self.groups}"
            )
        check_metric(self.metric)
        if not self._has_coordinates() and (self.method not in OF_DISTANCES or self.calibrate):
            raise ValueError(
                f"the metric {self.metric!r} is for methods from distances, without calibrate: "
                f"{', '.join(OF_DISTANCES)}"
            )
        self._check_options()

    def _check_options(self):
        function = ESTIMATORS.get(self.method, estimate)
        known = inspect.signature(function).parameters.keys()
        allowed = [*known - {"points", "neighbours", "stderr"}]
        for name in self.options or {}:
            if name not in allowed and not (name == "n_neighbors" and "k" in allowed):
                listed = ", ".join(sorted(allowed)) or "none"
                raise ValueError(f"{self.method} has no option {name!r} but {listed}")

    def _measured(self, points):
        """The estimate for these points; nan, with a warning, if the method has none."""
        options = self._options(len(points))
        try:
            if self.method == "estimate":
                return self._recommended(points, options)
            value = self._estimator(options)
            return self._with_error(value, points) if self.stderr else _without_error(value(points))
        except ValueError as error:
            warnings.warn(f"{self.method} has no answer: {error}", NoDimension, 3)
            return _without_error(math.nan)

    def _recommended(self, points, options):
        """The recommended estimate, without an error if that needs more points."""
        enough = len(points) >= MIN_POINTS
        result = estimate(points, stderr=self.stderr and enough, **options)
        if self.stderr and not enough:
            need = f"{MIN_POINTS} points for an error, and there are {len(points)}"
            warnings.warn(f"estimate needs {need}", NoDimension, 4)
        return result

    def _with_error(self, value, points):
        """The value with its error from groups; nan if they are too small.

        Warnings are those of all points.
        """
        groups = ERROR_GROUPS.get(self.method, {"groups": self.groups})
        coordinates = self._has_coordinates()
        whole: list[Any] = []
        samples = points if coordinates else np.arange(float(len(points)))

        def statistic(part):
            if whole:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DimensionWarning)
                    return value(part) if coordinates else self._of_rows(value, part)
            whole.append(value(part) if coordinates else self._of_rows(value, part))
            return whole[0]

        try:
            return with_group_error(statistic, samples, **groups)
        except ValueError:
            return _without_error(whole[0] if whole else value(points))

    def _of_rows(self, value, rows):
        """The value of the fitted points with these numbers."""
        return value(self._part(rows.astype(int)))

    def _options(self, n):
        """The options of the method for n points, of which k is at most n - 1."""
        options = dict(self.options or {})
        if "n_neighbors" in options:
            options["k"] = options.pop("n_neighbors")
        if self.method in LOCAL and self.n_neighbors is not None:
            options.setdefault("k", self.n_neighbors)
        default = inspect.signature(ESTIMATORS.get(self.method, estimate)).parameters.get("k")
        if default is None:
            return options
        k, most = options.get("k", default.default), n - 1 - (self.method == "mind_ml")
        if k > most:
            warnings.warn(
                f"{self.method} compares {k} neighbours, and {n} points have {most}; it uses all",
                NoDimension,
                4,
            )
            options["k"] = most
        return options

    def _estimator(self, options):
        """The function from points to their dimension, without an error."""
        function = ESTIMATORS.get(self.method, learned)  # whose value that of `estimate` is
        function = calibrated(function) if self.calibrate else function
        function = partial(function, **options)
        if self._has_coordinates():
            return function
        return lambda points: _of_neighbours(function, points, self.metric)

    def _by_formula(self, X):
        """The local dimension by the formula of the distances to the fitted points."""
        options = self._quiet_options()
        k = options.pop("k", inspect.signature(ESTIMATORS[self.method]).parameters["k"].default)
        distances, index = nearest_rows(X, self.points_, min(k + 1, len(self.points_)), self.metric)
        own = distances[:, 0] == 0  # a fitted point, which is not its own neighbour
        columns = np.arange(min(k, len(self.points_) - 1)) + own[:, None]
        distances = np.take_along_axis(distances, columns, axis=1)
        if self.method != "tle":
            return LOCAL[self.method](distances)
        index = np.take_along_axis(index, columns, axis=1) + len(X)
        return local_tle(Neighbours(np.concatenate([X, self.points_]), distances, index))

    def _in_neighbourhoods(self, X):
        """The method on the fitted points nearest to each row."""
        count = min(self.n_neighbors or NEIGHBOURHOOD, len(self.points_))
        _, index = nearest_rows(X, self.points_, count, self.metric)
        value, evaluate = self._estimator(self._quiet_options()), delayed(_or_nan)
        return Parallel(n_jobs=self.n_jobs)(
            evaluate(value, self._part(rows)) for rows in np.sort(index, axis=1)
        )

    def _part(self, rows):
        """Some of the fitted points, or the distances between them."""
        return self.points_[np.ix_(rows, rows)] if self._is_precomputed() else self.points_[rows]

    def _quiet_options(self):
        """The options for neighbourhoods, whose rows are not moments in time."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NoDimension)
            options = self._options(len(self.points_))
        options.pop("exclude", None)
        return options


def _without_error(value):
    return Estimate(value, math.nan)


def _of_neighbours(function, points, metric):
    """An estimator from distances, under any metric."""
    numbers = (*function.keywords.values(), *_defaults(function.func))
    most = max([2, *(n for n in numbers if isinstance(n, int) and not isinstance(n, bool))])
    near = metric_neighbours(points, min(most + 1, len(points) - 1), metric)
    return function(near.points, neighbours=near)


def _defaults(function):
    return [item.default for item in inspect.signature(function).parameters.values()]


def _or_nan(value, points):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of single neighbourhoods
            return float(value(points))
    except ValueError:
        return math.nan
