"""Points on manifolds of known dimension, uniform in their volume."""

from collections.abc import Callable
from typing import Any

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.data._sets import Data

# In all functions inputs are points (n, D), targets their latent coordinates or None, and dimension
# is the true one; rng is a numpy Generator or a seed; sizes below 1 raise ValueError.


@checked
def ball(n: int, d: int, *, rng) -> Data:
    """Points of the unit ball of R^d: a direction times U^(1/d), with U uniform.

    The points are their latents.

    Example:
        >>> data = ball(100, 3, rng=0)
        >>> data.inputs.shape, data.dimension
        ((100, 3), 3)
    """
    generator = _generator(rng, n=n, d=d)
    points = _directions(n, d, generator) * generator.uniform(size=(n, 1)) ** (1 / d)
    return Data(points, points, d)


@checked
def sphere(n: int, d: int, *, rng) -> Data:
    """Points of the unit sphere S^d in R^(d + 1), without latents, since no chart covers it.

    Example:
        >>> data = sphere(500, 2, rng=0)
        >>> data.inputs.shape, data.dimension
        ((500, 3), 2)
    """
    return Data(_directions(n, d + 1, _generator(rng, n=n, d=d)), None, d)


@checked
def cube(n: int, d: int, *, rng) -> Data:
    """Points of the unit cube [0, 1]^d, which are their latents.

    Example:
        >>> cube(500, 3, rng=0).inputs.shape
        (500, 3)
    """
    points = _generator(rng, n=n, d=d).uniform(size=(n, d))
    return Data(points, points, d)


@checked
def gaussian(n: int, d: int, *, rng) -> Data:
    """Standard normal points of R^d, which are their latents.

    Example:
        >>> gaussian(500, 3, rng=0).inputs.shape
        (500, 3)
    """
    points = _generator(rng, n=n, d=d).normal(size=(n, d))
    return Data(points, points, d)


@checked
def torus(n: int, d: int, *, rng) -> Data:
    """Points of the flat torus (cos a_1, ..., cos a_d, sin a_1, ..., sin a_d) in R^(2d).

    The latents are the angles in [0, 2 pi).

    Example:
        >>> data = torus(500, 2, rng=0)
        >>> data.inputs.shape, data.dimension
        ((500, 4), 2)
    """
    angles = _generator(rng, n=n, d=d).uniform(0, 2 * np.pi, (n, d))
    return Data(np.concatenate([np.cos(angles), np.sin(angles)], axis=1), angles, d)


@checked
def swiss_roll(n: int, height: float = 21.0, *, rng) -> Data:
    """Points of the Swiss roll (t cos t, y, t sin t), 3 pi / 2 < t < 9 pi / 2, 0 < y < height.

    The latents are t and y.  They are uniform on the rolled rectangle: t has a density proportional
    to sqrt(1 + t^2), unlike the roll of the benchmark, where t is uniform.
    Raises ValueError for a height of 0 or less.

    Example:
        >>> data = swiss_roll(500, rng=0)
        >>> data.inputs.shape, data.dimension
        ((500, 3), 2)
    """
    _positive(height=height)
    generator = _generator(rng, n=n)
    t = _archimedean(n, 1.5 * np.pi, 4.5 * np.pi, generator)
    y = generator.uniform(0, height, n)
    return Data(_columns(t * np.cos(t), y, t * np.sin(t)), _columns(t, y), 2)


@checked
def spiral(n: int, turns: float = 3.0, *, rng) -> Data:
    """Points of the spiral of Archimedes (t cos t, t sin t), 0 < t < 2 pi turns, with latent t.

    Raises ValueError for turns of 0 or less.

    Example:
        >>> data = spiral(500, rng=0)
        >>> data.inputs.shape, data.dimension
        ((500, 2), 1)
    """
    _positive(turns=turns)
    t = _archimedean(n, 0.0, 2 * np.pi * turns, _generator(rng, n=n))
    return Data(_columns(t * np.cos(t), t * np.sin(t)), t[:, None], 1)


@checked
def helix(n: int, turns: float = 3.0, pitch: float = 1.0, *, rng) -> Data:
    """Points of the helix (cos t, sin t, pitch t / (2 pi)), 0 < t < 2 pi turns, with latent t.

    Raises ValueError for turns of 0 or less.

    Example:
        >>> data = helix(500, rng=0)
        >>> data.inputs.shape, data.dimension
        ((500, 3), 1)
    """
    _positive(turns=turns)
    t = _generator(rng, n=n).uniform(0, 2 * np.pi * turns, n)
    return Data(_columns(np.cos(t), np.sin(t), pitch * t / (2 * np.pi)), t[:, None], 1)


@checked
def moebius(n: int, twists: int = 1, *, rng) -> Data:
    """Points (n, 3) of a band of width 1 about the unit circle of R^3, with half twists.

    ((1 + r cos b) cos a, (1 + r cos b) sin a, r sin b) with b = twists a / 2: it is one-sided for
    odd twists.  The latents are the angle a and -1/2 < r < 1/2.
    Raises ValueError for fewer than 1 twist.

    Example:
        >>> data = moebius(500, rng=0)
        >>> data.inputs.shape, data.dimension
        ((500, 3), 2)
    """
    generator = _generator(rng, n=n, twists=twists)

    def volume(latents):
        a, r = latents.T
        return np.hypot(1 + r * np.cos(twists * a / 2), r * twists / 2)

    bound = float(np.hypot(1.5, twists / 4))
    latents = _uniform(n, (0.0, -0.5), (2 * np.pi, 0.5), volume, bound, generator)
    a, r = latents.T
    b = twists * a / 2
    radius = 1 + r * np.cos(b)
    return Data(_columns(radius * np.cos(a), radius * np.sin(a), r * np.sin(b)), latents, 2)


@checked
def klein_bottle(n: int, *, rng) -> Data:
    """Points of the Klein bottle in R^4, where it has no self-intersection.

    ((2 + cos v) cos u, (2 + cos v) sin u, sin v cos(u / 2), sin v sin(u / 2)), with latents u, v.

    Example:
        >>> data = klein_bottle(500, rng=0)
        >>> data.inputs.shape, data.dimension
        ((500, 4), 2)
    """

    def volume(latents):
        v = latents[:, 1]
        return np.hypot(2 + np.cos(v), np.sin(v) / 2)

    periods = (2 * np.pi, 2 * np.pi)
    latents = _uniform(n, (0.0, 0.0), periods, volume, 3.0, _generator(rng, n=n))
    u, v = latents.T
    r, z = 2 + np.cos(v), np.sin(v)
    points = _columns(r * np.cos(u), r * np.sin(u), z * np.cos(u / 2), z * np.sin(u / 2))
    return Data(points, latents, 2)


@checked
def paraboloid(n: int, d: int, *, rng) -> Data:
    """Points of the graph (x, |x|^2) over the unit ball of R^d, in R^(d + 1), with latents x.

    Example:
        >>> data = paraboloid(500, 3, rng=0)
        >>> data.inputs.shape, data.dimension
        ((500, 4), 3)
    """
    generator = _generator(rng, n=n, d=d)

    def draw():
        return ball(n, d, rng=generator).inputs

    def volume(x):
        return np.sqrt(1 + 4 * (x**2).sum(axis=1))

    x = _accepted(n, draw, volume, 5**0.5, generator)
    return Data(np.concatenate([x, (x**2).sum(axis=1, keepdims=True)], axis=1), x, d)


@checked
def rotations(n: int, m: int, *, rng) -> Data:
    """Rotations SO(m), each an m x m matrix flattened by rows, of dimension m (m - 1) / 2.

    They have the Haar measure: a Gaussian matrix is orthogonalised (Mezzadri, 2007), and its first
    column changes sign if the determinant is -1.  Raises ValueError for m below 2.

    Example:
        >>> data = rotations(500, 3, rng=0)
        >>> data.inputs.shape, data.dimension
        ((500, 9), 3)
    """
    generator = _generator(rng, n=n)
    if m < 2:
        raise ValueError(f"rotations need a space of 2 or more dimensions, not {m}")
    frames = _frames(n, m, m, generator)
    frames[:, :, 0] *= np.sign(np.linalg.det(frames))[:, None]
    return Data(frames.reshape(n, m * m), None, m * (m - 1) // 2)


@checked
def stiefel(n: int, m: int, p: int, *, rng) -> Data:
    """Frames of p orthonormal vectors in R^m, flattened by rows from m x p.

    The Stiefel manifold has dimension m p - p (p + 1) / 2; points are uniform under rotations
    (Mezzadri, 2007), for p = m in two components, of determinant 1 and -1.
    Raises ValueError unless 1 <= p <= m with m of 2 or more.

    Example:
        >>> data = stiefel(500, 4, 2, rng=0)
        >>> data.inputs.shape, data.dimension
        ((500, 8), 5)
    """
    generator = _generator(rng, n=n, p=p)
    if not p <= m or m < 2:
        raise ValueError(f"frames in R^{m} have 1 to {m} vectors, with m of 2 or more, not {p}")
    return Data(_frames(n, m, p, generator).reshape(n, m * p), None, m * p - p * (p + 1) // 2)


@checked
def product(first: Data, second: Data) -> Data:
    """The product of two sets: their coordinates side by side, with the sum of their dimensions.

    Points are independent if the two were drawn by one Generator, or by different seeds.  Latents
    are side by side if both have them.  Raises ValueError for sets of different n.

    Example:
        >>> both = product(circle := spiral(500, rng=0), circle)
        >>> both.inputs.shape, both.dimension
        ((500, 4), 2)
    """
    sizes = len(first.inputs), len(second.inputs)
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"a product needs as many points in both sets, not {sizes[0]} and {sizes[1]}"
        )
    unlabelled = first.targets is None or second.targets is None
    latents = None if unlabelled else np.concatenate([first.targets, second.targets], axis=1)
    points = np.concatenate([first.inputs, second.inputs], axis=1)
    return Data(points, latents, first.dimension + second.dimension)


@checked
def embedded(data: Data, width: int, *, rng) -> Data:
    """The same points in `width` coordinates, by a random linear isometry.

    Raises ValueError for a width below that of the points.

    Example:
        >>> embedded(cube(500, 3, rng=0), 20, rng=0).inputs.shape
        (500, 20)
    """
    columns = data.inputs.shape[1]
    if width < columns:
        raise ValueError(f"points of {columns} coordinates have no isometric copy in {width}")
    frame = _frames(1, width, columns, np.random.default_rng(rng))[0]
    return data._replace(inputs=data.inputs @ frame.T)


@checked
def noisy(data: Data, level: float, *, rng) -> Data:
    """The points plus independent Gaussian noise, of the same variance in all coordinates.

    Its standard deviation is level sqrt(sum_ij (x_ij - mean_j)^2 / (n D)), `level` times the root
    mean square deviation of all coordinates.  The dimension is that without noise.
    Raises ValueError for a level that is negative or not finite.

    Example:
        >>> noisy(cube(500, 3, rng=0), 0.01, rng=0).inputs.shape
        (500, 3)
    """
    if not 0 <= level < np.inf:
        raise ValueError(f"the level of the noise is a number of 0 or more, not {level}")
    deviation = np.sqrt(np.var(data.inputs, axis=0).mean())
    noise = np.random.default_rng(rng).normal(size=data.inputs.shape)
    return data._replace(inputs=data.inputs + level * deviation * noise)


@checked
def thinned(data: Data, density: Callable[[Any], Any], size: int, *, rng) -> Data:
    """A subset of `size` points, drawn without replacement in proportion to a density.

    density: latents (n, l), or points if there are no latents, -> weights (n,).  For `size` much
    smaller than n it multiplies the density of the points; for size = n nothing changes.
    Raises ValueError for weights that are negative or not finite, and if fewer than `size` are
    above zero.

    Example:
        >>> data = cube(2000, 2, rng=0)
        >>> thinned(data, lambda inputs: inputs[:, 0], 100, rng=0).inputs.shape
        (100, 2)
    """
    n = len(data.inputs)
    weights = np.asarray(density(data.inputs if data.targets is None else data.targets), float)
    if weights.shape != (n,) or not np.all((weights >= 0) & (weights < np.inf)):
        raise ValueError(f"a density gives {n} weights, finite and of 0 or more")
    possible = np.count_nonzero(weights)
    if not 1 <= size <= possible:
        raise ValueError(f"{possible} of {n} points can be drawn, which cannot give {size}")
    rows = np.random.default_rng(rng).choice(n, size, replace=False, p=weights / weights.sum())
    targets = None if data.targets is None else data.targets[rows]
    return Data(data.inputs[rows], targets, data.dimension)


def _generator(rng, **sizes):
    """A Generator, after checking that every size is 1 or more."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"a manifold is sampled with {name} of 1 or more, not {size}")
    return np.random.default_rng(rng)


def _positive(**lengths):
    for name, length in lengths.items():
        if not 0 < length < np.inf:
            raise ValueError(f"a manifold is sampled with {name} above 0, not {length}")


def _columns(*coordinates):
    return np.stack(coordinates, axis=1)


def _directions(n, width, generator):
    """Uniform points of the unit sphere of R^width."""
    points = generator.normal(size=(n, width))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def _frames(n, m, p, generator):
    """Orthonormal columns (n, m, p): Q is uniform if R has a positive diagonal."""
    q, r = np.linalg.qr(generator.normal(size=(n, m, p)))
    return q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]


def _archimedean(n, start, end, generator):
    """The parameter t of the spiral (t cos t, t sin t), uniform in its length."""

    def volume(latents):
        return np.hypot(1, latents[:, 0])

    return _uniform(n, (start,), (end,), volume, float(np.hypot(1, end)), generator)[:, 0]


def _uniform(n, low, high, volume, bound, generator):
    """Latents of a box, with a density proportional to the volume element `volume` <= `bound`."""

    def draw():
        return generator.uniform(low, high, (n, len(low)))

    return _accepted(n, draw, volume, bound, generator)


def _accepted(n, draw, volume, bound, generator):
    """The first n draws that rejection sampling accepts, with probability volume / bound."""
    accepted: list[Any] = []
    while sum(map(len, accepted)) < n:
        latents = draw()
        accepted.append(latents[generator.uniform(0, bound, len(latents)) < volume(latents)])
    return np.concatenate(accepted)[:n]
