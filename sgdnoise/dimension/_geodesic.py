"""Dimension from how many points lie at each distance along the cloud."""

import warnings

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra

from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.dimension._points import Neighbours, find_neighbours

PATHS = 5_000_000  # followed, at most
ELSE = ", unlike those on a sphere; take more points, or another estimator as for a flat torus"


def geodesic(points, k: int = 10, *, bins: int = 50, neighbours: Neighbours | None = None):
    r"""Distances along a graph, of Granata & Carnevale (2016).  (n, D) -> ()

    Shortest paths through the graph of k nearest neighbours, either of the other, have a density
    that near its peak at r_max is taken for that of great circles on the d-sphere,
    p(r) / p(r_max) = sin(pi r / (2 r_max))^(d-1): exact there, a fit elsewhere, where edges make d
    too small; paths of few steps make it too large, on the 5-sphere by a tenth, in 20 dimensions
    beyond use.  Paths start at all points, or above 2236 of them at 5 000 000 / n points equally
    spaced in their order.  Points not connected to half of the others are left out, with a warning.
    Raises ValueError for k < 1 or fewer than k + 1 points, where the graph has no such half, where
    the peak lies within a step of the graph or in none, and for fewer than 4 bins to fit.
    """
    near = find_neighbours(points, k, neighbours)
    xp = namespace(near.points)
    graph = _largest(_graph(as_numpy(near.distances), as_numpy(near.index)), k)
    lengths = _path_lengths(graph)
    d = sine_exponent(lengths, float(np.median(as_numpy(near.distances[:, -1]))), bins)
    return xp.asarray(d, dtype=near.points.dtype, device=device(near.points))


def sine_exponent(lengths: np.ndarray, step: float, bins: int = 50) -> float:
    """d of the law sin(pi r / (2 r_max))^(d-1) fitted to the histogram of these path lengths.

    log counts are fitted by a parabola from one sigma below the peak to half of one above, first
    about the fullest bin with the spread of all lengths, then about the peak found with its own
    sigma.  The slope of log p against log sin is taken from r_max - 2 sigma to r_max.
    """
    counts, edges = np.histogram(lengths, bins)
    full = counts > 0
    r, log_count = ((edges[1:] + edges[:-1]) / 2)[full], np.log(counts[full])
    peak, sigma = r[np.argmax(log_count)], np.std(lengths)
    for _ in range(2):
        peak, sigma, top = _parabola(r, log_count, peak, sigma)
    if not step < peak < r[-1]:
        raise ValueError(
            f"the commonest distance {peak:.3g} is not between a step and the longest{ELSE}"
        )
    part = (r >= max(peak - 2 * sigma, step)) & (r <= peak)
    if np.count_nonzero(part) < 4:
        raise ValueError(
            f"only {np.count_nonzero(part)} bins lie below the commonest distance; take more bins, "
            "more points or fewer neighbours"
        )
    log_sine = np.log(np.sin(np.pi * r[part] / (2 * peak)))
    return float(1 + np.sum(log_sine * (log_count[part] - top)) / np.sum(log_sine**2))


def _graph(distances, index):
    """Distances between neighbours, as a symmetric sparse matrix."""
    n, k = index.shape
    own, other, length = np.repeat(np.arange(n), k), index.reshape(-1), distances.reshape(-1)
    graph = csr_array((length.astype(np.float64), (own, other)), shape=(n, n))
    return graph.maximum(graph.T)


def _largest(graph, k):
    """The part of the graph connected to half of all points."""
    pieces, label = connected_components(graph, directed=False)
    if pieces == 1:
        return graph
    size = np.bincount(label)
    if 2 * size.max() <= graph.shape[0]:
        raise ValueError(
            f"a graph of {k} neighbours falls into {pieces} parts, none of them half; take more "
            "neighbours, or the points of one part alone"
        )
    kept = np.flatnonzero(label == size.argmax())
    lost = graph.shape[0] - kept.size
    warnings.warn(
        f"{lost} points are not connected to half of the others and were left out, "
        f"in a graph of {k} neighbours",
        stacklevel=3,
    )
    return graph[kept][:, kept]


def _path_lengths(graph):
    """Lengths of the shortest paths between some points and all others."""
    n = graph.shape[0]
    source = np.linspace(0, n - 1, min(n, max(2, PATHS // n))).astype(int)
    lengths = dijkstra(graph, indices=source)
    return lengths[lengths > 0]


def _parabola(r, log_count, peak, sigma):
    """Peak, sigma and height of a parabola about the peak."""
    part = (r >= peak - sigma) & (r <= peak + sigma / 2)
    if np.count_nonzero(part) < 4:
        raise ValueError(
            f"only {np.count_nonzero(part)} bins lie about the commonest distance; take more bins"
        )
    a, b, c = np.polyfit(r[part] - peak, log_count[part], 2)
    if not a < 0:
        raise ValueError(f"the distances have no commonest one{ELSE}")
    return peak - b / (2 * a), (-1 / (2 * a)) ** 0.5, c - b**2 / (4 * a)
