"""Warnings that points do not have the properties that estimators of dimension assume."""


class DimensionWarning(UserWarning):
    """A warning about points or the dimension that was estimated from them.

    It is the base of all other warnings of `sgdnoise.dimension`, so that one filter treats all:
    `warnings.simplefilter("ignore", DimensionWarning)`.

    Example:
        >>> import warnings
        >>> import numpy as np
        >>> from sgdnoise.dimension import twonn
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", DimensionWarning)  # here of the duplicates
        ...     dimension = twonn(np.concatenate([points, points]))
        >>> bool(dimension == twonn(points))
        True
    """


class Duplicates(DimensionWarning):
    """A warning that duplicate points were merged.

    Example:
        >>> import warnings
        >>> import numpy as np
        >>> from sgdnoise.dimension import twonn
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     _ = twonn(np.concatenate([points, points]))
        >>> [warning.category.__name__ for warning in said]
        ['Duplicates']
    """


class NearDuplicates(Duplicates):
    """A warning that points much closer than all other neighbours were merged.

    Example:
        >>> import warnings
        >>> import numpy as np
        >>> from sgdnoise.dimension import twonn
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     _ = twonn(np.concatenate([points, points[:50] + 1e-6]))
        >>> [warning.category.__name__ for warning in said]
        ['NearDuplicates']
    """


class ClosePairs(DimensionWarning):
    """A warning that more pairs of points are close than one dimension allows.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.dimension import doubts
        >>> rng = np.random.default_rng(0)
        >>> points = rng.normal(size=(1000, 2))
        >>> points[-100:] = points[:100] + 0.01 * rng.normal(size=(100, 2))
        >>> [type(doubt).__name__ for doubt in doubts(points)]
        ['ClosePairs']
    """


class SeveralDimensions(DimensionWarning):
    """A warning that one part of the points has another dimension than the rest.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.dimension import doubts
        >>> points = np.random.default_rng(0).normal(size=(1000, 6))
        >>> points[:400, 3:] = 0  # these have 3 dimensions
        >>> points[400:] += 10  # and these have 6
        >>> [type(doubt).__name__ for doubt in doubts(points)]
        ['SeveralDimensions']
    """


class Ties(DimensionWarning):
    """A warning that many points have their two nearest neighbours at one distance.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.dimension import doubts
        >>> lattice = np.stack(np.meshgrid(*[np.arange(12.0)] * 2), axis=-1).reshape(-1, 2)
        >>> [type(doubt).__name__ for doubt in doubts(lattice)]
        ['Ties', 'Discrete']
    """


class Discrete(DimensionWarning):
    """A warning that coordinates take few values, whose steps are as large as distances.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.dimension import doubts
        >>> points = np.random.default_rng(0).poisson(1.0, size=(500, 20))
        >>> [type(doubt).__name__ for doubt in doubts(points)]
        ['Ties', 'Discrete']
    """


class SerialDependence(DimensionWarning):
    """A warning that the nearest neighbours of many rows are the rows before or after them.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.dimension import doubts
        >>> walk = np.cumsum(np.random.default_rng(0).normal(size=(500, 5)), axis=0)
        >>> [type(doubt).__name__ for doubt in doubts(walk)]
        ['SerialDependence']
    """


class Passages(DimensionWarning):
    """A warning that two neighbours of many rows are moments of one passage of a path.

    Example:
        >>> import warnings
        >>> import numpy as np
        >>> from sgdnoise.dimension import twonn
        >>> path = np.random.default_rng(0).normal(size=(2000, 10))
        >>> for row in range(1, 2000):
        ...     path[row] = 0.98 * path[row - 1] + 0.2 * path[row]
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     _ = twonn(path, exclude="auto")
        >>> "Passages" in [warning.category.__name__ for warning in said]
        True
    """


class AboveCoordinates(DimensionWarning):
    """A warning that a dimension is larger than the number of coordinates, or the rank.

    Example:
        >>> import warnings
        >>> import numpy as np
        >>> from sgdnoise.dimension import mada
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     dimension = mada(np.random.default_rng(0).normal(size=(500, 3)), 5)
        >>> bool(dimension > 3), [warning.category.__name__ for warning in said]
        (True, ['AboveCoordinates'])
    """


class BeyondReference(DimensionWarning):
    """A warning that a dimension is larger than those that an estimator was trained for.

    Example:
        >>> import warnings
        >>> import numpy as np
        >>> from sgdnoise.dimension import learned
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     _ = learned(np.random.default_rng(0).normal(size=(300, 120)))
        >>> [warning.category.__name__ for warning in said]
        ['BeyondReference']
    """


class ScalesDisagree(DimensionWarning):
    """A warning that the dimension depends on the distance between neighbours.

    Example:
        >>> import warnings
        >>> import numpy as np
        >>> from sgdnoise.dimension import estimate
        >>> rng = np.random.default_rng(0)
        >>> sphere = np.zeros((2000, 20))
        >>> sphere[:, :3] = rng.normal(size=(2000, 3))
        >>> sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     _ = estimate(sphere + 0.015 * rng.normal(size=sphere.shape))
        >>> [warning.category.__name__ for warning in said]
        ['ScalesDisagree']
    """


class Outliers(DimensionWarning):
    """A warning that points without a plausible local value were left out of a mean.

    Example:
        >>> import warnings
        >>> import numpy as np
        >>> from sgdnoise.dimension import mada
        >>> points = np.random.default_rng(0).normal(size=(500, 3))
        >>> points[0] = 1e4
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     _ = mada(points)
        >>> [warning.category.__name__ for warning in said]
        ['Outliers']
    """


class NotSettled(DimensionWarning):
    """A warning that an iteration ended before its value stopped changing.

    Example:
        >>> import warnings
        >>> import numpy as np
        >>> from sgdnoise.dimension import abide
        >>> rng = np.random.default_rng(121)
        >>> points = rng.normal(size=(60, 3)) * np.exp(rng.normal(size=(60, 1)))
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     _ = abide(points, 20, 0.5)
        >>> [warning.category.__name__ for warning in said]
        ['NotSettled']
    """
