"""Dimension from the distribution of geodesic distances."""

import warnings

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.dimension._any_scale import any_scale
from sgdnoise.dimension._bounds import check_above
from sgdnoise.dimension._points import Neighbours, find_neighbours

MAX_PATHS = 5_000_000
ADVICE = "take more points, or another estimator, such as twonn"


@checked
@any_scale
def geodesic(
    points,
    k: int = 10,
    *,
    bins: int = 50,
    neighbours: Neighbours | None = None,
    exclude: int | str = 0,
):
    r"""The dimension from distances along a graph, of Granata & Carnevale (2016).  (n, D) -> ()

    Shortest paths through the symmetric graph of k nearest neighbours have a density that near its
    peak at r_max is fitted by that of great circles on the d-sphere,
    p(r) / p(r_max) = sin(pi r / (2 r_max))^(d-1).  It is exact for a sphere; elsewhere edges make d
    too small, and paths of few steps make it too large, on the 5-sphere by a tenth, in 20
    dimensions beyond use.  Paths start at all points, or above 2236 points at 5 000 000 / n equally
    spaced ones.  Points not connected to half of the others are omitted, with a warning.
    Raises ValueError for k < 1 or fewer than k + 1 points, if no component has half of the points,
    if there is no peak beyond the first step of the graph, and for fewer than 4 bins to fit.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> round(float(geodesic(points)), 1)
        2.0
    """
    neighbours = find_neighbours(points, k, neighbours, exclude=exclude)
    _, distances, index = neighbours
    graph = _main_component(_graph(as_numpy(distances), as_numpy(index)), k)
    step = float(np.median(as_numpy(distances[:, -1])))
    d = sine_exponent(_path_lengths(graph), step, bins)
    d = namespace(distances).asarray(d, dtype=distances.dtype, device=device(distances))
    return check_above(d, neighbours)


def sine_exponent(lengths: np.ndarray, step: float, bins: int = 50) -> float:
    """The d of the density sin(pi r / (2 r_max))^(d-1) fitted to a histogram of path lengths.

    Log counts are fitted by a parabola from one sigma below the peak to half a sigma above, first
    about the fullest bin with the standard deviation of all lengths, then about the fitted peak
    with its own sigma.  The slope of log p against log sin is taken from r_max - 2 sigma to r_max.
    """
    counts, edges = np.histogram(lengths, bins)
    occupied = counts > 0
    r, log_count = ((edges[1:] + edges[:-1]) / 2)[occupied], np.log(counts[occupied])
    peak, sigma = r[np.argmax(log_count)], np.std(lengths)
    for _ in range(2):
        peak, sigma, top = _parabola(r, log_count, peak, sigma)
    if not step < peak < r[-1]:
        raise ValueError(
            f"the most frequent path length, {peak:.3g}, is not between a step and the longest, so "
            f"that geodesic cannot fit its histogram; {ADVICE}"
        )
    fitted = (r >= max(peak - 2 * sigma, step)) & (r <= peak)
    if np.count_nonzero(fitted) < 4:
        raise ValueError(
            f"geodesic fits 4 or more bins of path lengths, and only {np.count_nonzero(fitted)} "
            "bins lie below the most frequent one; take more bins, more points or a smaller k"
        )
    log_sine = np.log(np.sin(np.pi * r[fitted] / (2 * peak)))
    return float(1 + np.sum(log_sine * (log_count[fitted] - top)) / np.sum(log_sine**2))


def _graph(distances, index):
    """Distances between neighbours, as a symmetric sparse matrix."""
    n, k = index.shape
    i, j, length = np.repeat(np.arange(n), k), index.reshape(-1), distances.reshape(-1)
    graph = csr_array((length.astype(np.float64), (i, j)), shape=(n, n))
    return graph.maximum(graph.T)


def _main_component(graph, k):
    """The component of the graph that has at least half of all points."""
    pieces, label = connected_components(graph, directed=False)
    if pieces == 1:
        return graph
    size = np.bincount(label)
    if 2 * size.max() <= graph.shape[0]:
        raise ValueError(
            f"a graph of {k} neighbours has {pieces} components, none with half of the points; "
            "take more neighbours, or the points of one component only"
        )
    members = np.flatnonzero(label == size.argmax())
    lost = graph.shape[0] - members.size
    warnings.warn(
        f"{lost} points are not connected to half of the others and were omitted, "
        f"in a graph of {k} neighbours",
        stacklevel=3,
    )
    return graph[members][:, members]


def _path_lengths(graph):
    """Lengths of the shortest paths between some points and all others."""
    n = graph.shape[0]
    source = np.linspace(0, n - 1, min(n, max(2, MAX_PATHS // n))).astype(int)
    lengths = dijkstra(graph, indices=source)
    return lengths[lengths > 0]


def _parabola(r, log_count, peak, sigma):
    """Peak, sigma and height of a parabola fitted about the peak."""
    fitted = (r >= peak - sigma) & (r <= peak + sigma / 2)
    if np.count_nonzero(fitted) < 4:
        raise ValueError(
            f"geodesic fits 4 or more bins of path lengths, and only {np.count_nonzero(fitted)} "
            "bins lie about the most frequent one; take more bins or more points"
        )
    a, b, c = np.polyfit(r[fitted] - peak, log_count[fitted], 2)
    if not a < 0:
        raise ValueError(
            "geodesic fits the histogram of path lengths about the most frequent one, and it has "
            f"no peak, as it has on a sphere; {ADVICE}"
        )
    return peak - b / (2 * a), (-1 / (2 * a)) ** 0.5, c - b**2 / (4 * a)
