"""Warnings that points do not have the properties that estimators of dimension assume."""


class DimensionWarning(UserWarning):
    """A warning about points or the dimension that was estimated from them.

    It is the base of all other warnings of `sgdnoise.dimension`, so that one filter treats all:
    `warnings.simplefilter("ignore", DimensionWarning)`.
    """


class Duplicates(DimensionWarning):
    """A warning that duplicate points were merged."""


class NearDuplicates(Duplicates):
    """A warning that points much closer than all other neighbours were merged."""


class ClosePairs(DimensionWarning):
    """A warning that more pairs of points are close than one dimension allows."""


class SeveralDimensions(DimensionWarning):
    """A warning that one part of the points has another dimension than the rest."""


class Ties(DimensionWarning):
    """A warning that many points have their two nearest neighbours at one distance."""


class Discrete(DimensionWarning):
    """A warning that coordinates take few values, whose steps are as large as distances."""


class SerialDependence(DimensionWarning):
    """A warning that the nearest neighbours of many rows are the rows before or after them."""


class Passages(DimensionWarning):
    """A warning that two neighbours of many rows are moments of one passage of a path."""


class AboveCoordinates(DimensionWarning):
    """A warning that a dimension is larger than the number of coordinates, or the rank."""


class BeyondReference(DimensionWarning):
    """A warning that a dimension is larger than those that an estimator was trained for."""


class ScalesDisagree(DimensionWarning):
    """A warning that the dimension depends on the distance between neighbours."""


class Outliers(DimensionWarning):
    """A warning that points without a plausible local value were left out of a mean."""


class NotSettled(DimensionWarning):
    """A warning that an iteration ended before its value stopped changing."""
