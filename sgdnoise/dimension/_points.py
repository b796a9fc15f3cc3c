"""The nearest neighbours of distinct points, and warnings of what misleads estimators."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy, concrete, device, namespace
from sgdnoise.core._groups import current_group
from sgdnoise.dimension._assumptions import flaws
from sgdnoise.dimension._check_points import MERGED, check_points, merging, repeated_points
from sgdnoise.dimension._check_points import unique_points as unique_points
from sgdnoise.dimension._close_pairs import close_pairs
from sgdnoise.dimension._known_neighbours import check_neighbours
from sgdnoise.dimension._near_duplicates import copies
from sgdnoise.dimension._neighbours import nearest_among, nearest_neighbours
from sgdnoise.dimension._products import Products
from sgdnoise.dimension._serial import check_window
from sgdnoise.dimension._several_dimensions import K, several_dimensions
from sgdnoise.dimension._shared import arrays_of_group, n_for_groups, n_shared, share
from sgdnoise.dimension._warnings import (
    DimensionWarning,
    Duplicates,
    NearDuplicates,
    Passages,
    SerialDependence,
    Ties,
)

MAX_PASSES = 3  # in which near copies are merged
N_TESTED = 10  # neighbours for the tests of assumptions


class _Arrays(NamedTuple):
    points: Any
    distances: Any
    index: Any


class Neighbours(_Arrays):
    """Distinct points (n, D), and the distances and indices (n, k) of the k nearest others.

    Distances are ascending.  doubts: the warnings of `find_neighbours` about these points.
    searched: whether `find_neighbours` has made them.  rows (n,): the row of each point in the
    data, if `window` rows on both sides of it were excluded.  products: of all pairs of points, if
    many neighbourhoods need them.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.dimension import find_neighbours, gride, twonn
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> neighbours = find_neighbours(points, 10)  # found once, used by several estimators
        >>> neighbours.distances.shape, neighbours.index.shape
        ((500, 10), (500, 10))
        >>> bool(twonn(points, neighbours=neighbours) == twonn(points))
        True
    """

    doubts: tuple[DimensionWarning, ...] = ()
    searched = False
    rows: Any = None
    window = 0
    products: Products | None = None

    def first(self, k: int) -> "Neighbours":
        """The same points with their `k` nearest only.  Raises ValueError if there are fewer."""
        if not 1 <= k <= self.distances.shape[1]:
            raise ValueError(
                f"{self.distances.shape[1]} neighbours are known, and {k} were requested"
            )
        result = Neighbours(self.points, self.distances[:, :k], self.index[:, :k])
        result.__dict__.update(self.__dict__)
        return result


@checked
def find_neighbours(
    points,
    k: int,
    neighbours: Neighbours | None = None,
    *,
    allow_fewer: bool = False,
    refuse: bool = False,
    approximate: bool = False,
    exclude: int | str = 0,
) -> Neighbours:
    """The k nearest neighbours of each distinct point, which estimators take as `neighbours`.

    neighbours: those of an earlier call, of which the k nearest are returned after a check.
    allow_fewer: return all there are if there are fewer than k.
    approximate: candidates from pynndescent's nearest-neighbour descent, on the CPU, for sets of
    10^5 points and more: their distances are exact, but some neighbours are missed, most in many
    dimensions; docs/dimension.md lists the effect on estimates.
    exclude: for rows that are moments in time, the window of Theiler (1986): rows within as many of
    each other are not neighbours; "auto" takes twice the time in which the autocorrelation of the
    rows falls to 1/e.
    Points that repeat others, or nearly do, are merged, with the warnings `Duplicates` and
    `NearDuplicates`.  It warns `Ties`, `Discrete` and `SerialDependence` as `doubts` explains.
    Under compilation by jax, which can neither merge nor warn, a distance of zero is nan.
    Raises ValueError as `check_points` and `unique_points` do, for fewer than k + 1 distinct
    points, or k + 1 + 2 exclude, for k < 1, and for `neighbours` of other points.

    Example:
        >>> import numpy as np
        >>> find_neighbours(np.asarray([[0.0], [1.0], [3.0]]), 1).index.tolist()
        [[1], [0], [1]]
    """
    if neighbours is not None:
        check_neighbours(points, neighbours, exclude)
        known = neighbours.distances.shape[1]
        return neighbours.first(min(k, known) if allow_fewer else k)
    group = None if approximate else current_group(points)
    points = check_points(points, min_points=2 if allow_fewer else max(k, 1) + 1)
    if group is not None and group.rows is not None:
        return _in_group(group, points, k, allow_fewer, exclude)
    window = check_window(exclude, points)
    search = _Search(k, window, allow_fewer, approximate)
    issued = group is not None and "neighbours" in group.shared
    result = _of_all(group, points, search)
    for warning in () if issued else result.doubts:
        if refuse and isinstance(warning, Duplicates):
            raise ValueError(str(warning).removesuffix(MERGED))
        warnings.warn(warning, stacklevel=3)
    return result


def refuse_ties(neighbours: Neighbours) -> None:
    """Raise ValueError if `Ties` was warned of: the nearest ratios then determine no dimension."""
    for doubt in neighbours.doubts:
        if isinstance(doubt, Ties):
            raise ValueError(f"ratios of distances have no dimension here: {doubt}")


def _of_all(group, points, search):
    """The neighbours of all points; if a statistic has groups, more are found and shared."""
    rows, n, k = np.arange(points.shape[0]), points.shape[0], search.k
    if group is None or not _visible(points) or n <= k:
        return search.all_of(points, rows)
    known = group.shared.get("neighbours")
    group.shared["k"] = max(k, group.shared.get("k", 0))
    if known is None or known.distances.shape[1] < min(n_shared(k, group.most), n - 1):
        wider = search._replace(k=max(k, n_for_groups(n, k, group.most)), allow_fewer=True)
        known = wider.all_of(points, rows)
        share(group, known, search.window)
    width = known.distances.shape[1]
    if width < k and not search.allow_fewer:
        return search.all_of(points, rows)  # which raises, and says how many there are
    return known.first(min(k, width))


def _in_group(group, points, k, allow_fewer, exclude):
    """The neighbours within a group, without warnings: they were issued for all points."""
    count = min(k, points.shape[0] - 1) if allow_fewer else k
    if (shared := arrays_of_group(group, points, count)) is not None:
        result = Neighbours(points, *shared)
        result.rows, result.window = group.rows, group.shared["window"]
        if (products := group.shared["neighbours"].products) is not None:
            result.products = products._replace(rows=group.rows)
        return result
    window = group.shared.get("window", 0) if exclude == "auto" else check_window(exclude, points)
    return _Search(k, window, allow_fewer, False).all_of(points, group.rows)


@checked
def doubts(points, *, exclude: int | str = 0) -> list[DimensionWarning]:
    """What speaks against an estimate from distances: warnings that are returned, not issued.

    (n, D) -> list.  `str` of each is a sentence and its type a category.  An empty list means that
    no test objects:
    `Duplicates`: points that repeat others.
    `NearDuplicates`: pairs far closer than the next neighbour, at E_j = j d log(r_(j+1) / r_j)
    beyond what n standard exponentials allow; they are merged.
    `ClosePairs`: too many pairs that are close, none of which is improbable; they are not merged.
    `SeveralDimensions`: the dimensions at the points are around two values, with few between them;
    estimators test this if they compare 20 neighbours or more.
    `Ties`: far more points with r_2 / r_1 < 1 + e than 1 - (1 + e)^-d, with d from ranks 5 to 10.
    `Discrete`: coordinates whose steps are as large as distances, as counts have.
    `SerialDependence`: far more nearest neighbours than by chance are rows just before or after.
    `Passages`: with `exclude`, two nearest neighbours that are moments of one passage of a path.
    exclude: as in `find_neighbours`, which issues these warnings.
    Raises ValueError as `find_neighbours` does.

    Example:
        >>> import numpy as np
        >>> steps = np.arange(300.0)[:, None] * [1, 2]
        >>> [type(doubt).__name__ for doubt in doubts(steps)]
        ['Ties']
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DimensionWarning)
        found = find_neighbours(points, K, allow_fewer=True, exclude=exclude)
    return list(found.doubts)


class _Search(NamedTuple):
    """A search for `k` neighbours that merges copies and tests the points."""

    k: int
    window: int
    allow_fewer: bool
    approximate: bool

    def all_of(self, points, rows) -> Neighbours:
        """The neighbours of distinct points, whose rows in the data are `rows`."""
        count = max(self.k, N_TESTED)
        distances, index = self._nearest(points, rows, count)
        found: list[DimensionWarning] = []
        xp = namespace(points)
        if concrete(xp.any(distances[:, 0] == 0)):
            points, rows = self._merged(points, rows, repeated_points(points), found, Duplicates)
            distances, index = self._nearest(points, rows, count)
        n = points.shape[0]
        for _ in range(MAX_PASSES):  # many copies lower the dimension by which they are judged
            if (near := _near_copies(distances, index)) is None:
                break
            points, rows = self._merged(points, rows, near, found, NearDuplicates)
            distances, index = self._nearest(points, rows, count)
        found = _added(found, n - points.shape[0], n)
        found += _flaws(points, distances, index, rows, self)
        result = Neighbours(points, xp.where(distances > 0, distances, xp.nan), index)
        result.doubts, result.searched = tuple(found), True
        result.rows, result.window = rows, self.window
        return result.first(min(self.k, distances.shape[1]))

    def _nearest(self, points, rows, count):
        """The nearest of each point: `count`, or as many as there are, but not fewer than k."""
        n = points.shape[0]
        available = max(n - 1 - 2 * self.window, 1)
        least = 1 if self.allow_fewer else self.k
        count = min(count, max(available, least))
        if self.approximate:
            return _by_descent(points, count)
        if not self.window:
            return nearest_neighbours(points, count)
        times = namespace(points).asarray(rows, device=device(points))
        return nearest_neighbours(points, count, times=times, window=self.window)

    def _merged(self, points, rows, later, found, category):
        """The points that are no later copy, and their rows."""
        xp, n = namespace(points), points.shape[0]
        first = np.flatnonzero(~later)
        found.append(merging(category, int(np.count_nonzero(later)), n))
        if first.size <= self.k and not self.allow_fewer:
            warnings.warn(found[-1], stacklevel=5)
            raise ValueError(
                f"{self.k} neighbours need {self.k + 1} distinct points, and only {first.size} are"
            )
        places = xp.asarray(first, device=device(points))
        return xp.take(points, places, axis=0), rows[first]


def _added(found, merged, n):
    """The warnings with one in place of those of all passes."""
    others = [warning for warning in found if not isinstance(warning, NearDuplicates)]
    return [*others, merging(NearDuplicates, merged, n)] if merged else others


def _near_copies(distances, index):
    """Which points nearly repeat others, None if none does, or while jax traces."""
    later = copies(distances, index) if _visible(distances) else None
    return later if later is not None and later.any() else None


def _flaws(points, distances, index, rows, search):
    if not _visible(distances):
        return []
    count = min(N_TESTED, distances.shape[1])
    tested = flaws(points, distances[:, :count], index[:, :count], rows, search.window)
    if not any(isinstance(flaw, Ties | SerialDependence | Passages) for flaw in tested):
        kinds = several_dimensions(distances, index)  # which also explain close pairs
        tested += [kinds] if kinds is not None else []
    if not tested:
        pairs = close_pairs(as_numpy(distances[:, :count]), as_numpy(index[:, :1]))
        tested += [pairs] if pairs is not None else []
    # One neighbour has no ratio.
    return [flaw for flaw in tested if search.k > 1 or not isinstance(flaw, Ties)]


def _visible(array):
    """Whether values are known, and not traced by jax."""
    try:
        as_numpy(array)
    except TypeError:
        return False
    return True


def _by_descent(points, k):
    """Neighbours (n, k) among more candidates from pynndescent, with exact distances."""
    try:
        from pynndescent import NNDescent
    except ImportError:
        raise ValueError(
            "approximate neighbours need pynndescent: pip install 'sgdnoise[approximate]'"
        ) from None
    xp, n = namespace(points), points.shape[0]
    count = min(k + k // 2 + 10, n)
    array = as_numpy(points)
    centre = np.median(array[:: max(1, n // 500)], axis=0)
    graph = NNDescent(array - centre, n_neighbors=count, random_state=0)
    columns = xp.asarray(graph.neighbor_graph[0].astype(np.int64), device=device(points))
    return nearest_among(points, columns, k)
