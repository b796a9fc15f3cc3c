"""The 24 benchmark manifolds for estimators of dimension, as in scikit-dimension."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.data._sets import Data


class Manifold(NamedTuple):
    """Dimension d, coordinates D, and the maps (n, Generator) -> latents (n, l) -> points.

    Example:
        >>> import numpy as np
        >>> def angles(n, rng):
        ...     return rng.uniform(0, 2 * np.pi, (n, 1))
        >>> circle = Manifold(1, 2, angles, lambda t: np.hstack([np.cos(t), np.sin(t)]))
        >>> points = circle.embedding(circle.latents(3, np.random.default_rng(0)))
        >>> np.linalg.norm(points, axis=1).round(6).tolist()
        [1.0, 1.0, 1.0]
    """

    dimension: int
    width: int
    latents: Callable[..., Any]
    embedding: Callable[..., Any]


@checked
def benchmark(name: str, n: int, *, rng) -> Data:
    """Points of one manifold of `BENCHMARK`, with their latents as targets.

    It is the set of Campadelli et al. (2015), mostly from Hein & Audibert (2005) and Rozza et al.
    (2012), with the densities of scikit-dimension, which are not uniform in volume.
    rng: a numpy Generator or a seed.  Raises ValueError for another name, and for n below 1.

    Example:
        >>> name = next(iter(BENCHMARK))
        >>> data = benchmark(name, 500, rng=0)
        >>> name, data.inputs.shape, data.dimension
        ('M1_Sphere', (500, 11), 10)
    """
    if name not in BENCHMARK:
        raise ValueError(f"no benchmark manifold is called {name!r}; {_similar(name)}")
    if n < 1:
        raise ValueError(f"a manifold is sampled with n of 1 or more, not {n}")
    manifold = BENCHMARK[name]
    latents = manifold.latents(n, np.random.default_rng(rng))
    return Data(manifold.embedding(latents), latents, manifold.dimension)


def _similar(name):
    matches = [key for key in BENCHMARK if name and key.lower().startswith(name.lower())]
    matches = matches[:4] or get_close_matches(name, BENCHMARK, n=3, cutoff=0.4)
    return f"similar are {', '.join(matches)}" if matches else "the names are the keys of BENCHMARK"


def _uniform(width, low=0.0, high=1.0):
    """Latents uniform in a box.  high: one number, or one per latent."""
    return lambda n, rng: rng.uniform(low, high, (n, width))


def _normal(width):
    return lambda n, rng: rng.normal(size=(n, width))


def _beta(width):
    """Beta(10, 1/2), whose density is unbounded at 1."""
    return lambda n, rng: rng.beta(10, 0.5, (n, width))


def _clayton(width):
    """Uniform marginals G / (G + E_i) with exponential G and E_i, the copula of the Burr law."""

    def draw(n, rng):
        common, separate = rng.exponential(size=(n, 1)), rng.exponential(size=(n, width))
        return common / (common + separate)

    return draw


def _direction(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


PLANE = np.asarray(
    [[1.2, -0.5, 0], [0.5, 0.9, 0], [-0.5, -0.2, 1], [0.4, -0.9, -0.1], [1.1, -0.3, 0]]
)
SHIFT = np.asarray([3.0, -1, 0, 0, 8])


def _affine(x):
    """An affine map; Hein & Audibert have the third latent in coordinates 2 and 5."""
    return x @ PLANE.T + SHIFT


def _concentrated(x):
    a, b, c, d = x.T
    angle = 2 * np.pi * a
    squares = [b + c + (b - d) ** 2, b - 2 * c + (a - d) ** 2, -b - 2 * c + (c - d) ** 2]
    saddle = a**2 - b**2 + c**2 - d**2
    return np.stack([b**2 * np.cos(angle), c**2 * np.sin(angle), *squares, saddle], axis=1)


def _wound(copies):
    """The pairs x_(i + 1) (cos, sin)(2 pi x_i), cyclic in i; copies only scale all distances."""

    def embedding(x):
        angle, radius = 2 * np.pi * x, np.roll(x, -1, axis=1)
        pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2)
        return np.tile(pairs.reshape(len(x), -1), (1, copies))

    return embedding


def _toroidal(x):
    """A closed curve that winds 8 times about a torus, which Hein & Audibert do not have."""
    t = x[:, 0]
    radius = 2 + np.cos(8 * t)
    return np.stack([radius * np.cos(t), radius * np.sin(t), np.sin(8 * t)], axis=1)


def _helicoid(x):
    """A helicoid of five turns; Hein & Audibert have radii in [-pi, pi] and one turn."""
    r, t = x.T
    return np.stack([r * np.cos(t), r * np.sin(t), t / 2], axis=1)


def _roll(x):
    """The Swiss roll of scikit-learn; Hein & Audibert have t sin 5t/2, t cos 5t/2."""
    t, y = x.T
    return np.stack([t * np.cos(t), y, t * np.sin(t)], axis=1)


def _face(x):
    """The faces of a cube, equally likely: the last latent selects one, the others fill it.

    Hein & Audibert have one face only.  scikit-dimension fills face after face and stops at n, so
    that for small n its last faces are empty; this is the intended law.
    """
    inside, d = x[:, :-1], x.shape[1] - 1
    axis, side = np.divmod((2 * (d + 1) * x[:, -1:]).astype(int), 2)
    column = np.arange(d + 1)
    source = np.minimum(column - (column > axis), d - 1)
    return np.where(column == axis, side, np.take_along_axis(inside, source, axis=1))


def _moebius(x):
    """A band of ten half twists: their number is even, so that it is two-sided despite its name."""
    a, r = x.T
    along = 1 + r / 2 * np.cos(5 * a)
    return np.stack([along * np.cos(a), along * np.sin(a), r / 2 * np.sin(5 * a)], axis=1)


def _scurve(x):
    """The S curve of scikit-learn, which Hein & Audibert do not have."""
    t, y = x.T
    return np.stack([np.sin(t), y, np.sign(t) * (np.cos(t) - 1)], axis=1)


def _spiral(x):
    """A helix in 3 of the 13 coordinates; the curve of Hein & Audibert uses all."""
    t = x[:, 0]
    return np.pad(np.stack([100 * np.cos(t), 100 * np.sin(t), t], axis=1), [(0, 0), (0, 10)])


def _folded(x):
    """Two coordinates from each latent, repeated twice."""
    angle = 2 * np.pi * x
    pairs = [x * np.sin(np.cos(angle)), x * np.cos(np.sin(angle))]
    return np.tile(np.concatenate(pairs, axis=1), (1, 2))


def _crossed(x):
    """Two coordinates from each latent and its mirror image in the row, repeated twice."""
    mirrored = x[:, ::-1]
    halves = [np.tan(x * np.cos(mirrored)), np.arctan(mirrored * np.sin(x))]
    return np.tile(np.concatenate(halves, axis=1), (1, 2))


def _paraboloid(x):
    """The graph y = (x, |x|^2), then sin y and y^2."""
    y = np.concatenate([x, (x**2).sum(axis=1, keepdims=True)], axis=1)
    return np.concatenate([y, np.sin(y), y**2], axis=1)


def _cubic(d):
    return Manifold(d, d + 1, _uniform(d + 1), _face)


PI = np.pi
BENCHMARK = {
    "M1_Sphere": Manifold(10, 11, _normal(11), _direction),
    "M2_Affine_3to5": Manifold(3, 5, _uniform(3, high=4.0), _affine),
    "M3_Nonlinear_4to6": Manifold(4, 6, _uniform(4), _concentrated),
    "M4_Nonlinear": Manifold(4, 8, _uniform(4), _wound(1)),
    "M5a_Helix1d": Manifold(1, 3, _uniform(1, high=2 * PI), _toroidal),
    "M5b_Helix2d": Manifold(2, 3, _uniform(2, high=10 * PI), _helicoid),
    "M6_Nonlinear": Manifold(6, 36, _uniform(6), _wound(3)),
    "M7_Roll": Manifold(2, 3, _uniform(2, (1.5 * PI, 0), (4.5 * PI, 21)), _roll),
    "M8_Nonlinear": Manifold(12, 72, _uniform(12), _wound(3)),
    "M9_Affine": Manifold(20, 20, _uniform(20, -2.5, 2.5), np.copy),
    "M10a_Cubic": _cubic(10),
    "M10b_Cubic": _cubic(17),
    "M10c_Cubic": _cubic(24),
    "M10d_Cubic": _cubic(70),
    "M11_Moebius": Manifold(2, 3, _uniform(2, (0, -1), (2 * PI, 1)), _moebius),
    "M12_Norm": Manifold(20, 20, _normal(20), np.copy),
    "M13a_Scurve": Manifold(2, 3, _uniform(2, (-1.5 * PI, 0), (1.5 * PI, 2)), _scurve),
    "M13b_Spiral": Manifold(1, 13, _uniform(1, high=10 * PI), _spiral),
    "Mbeta": Manifold(10, 40, _beta(10), _folded),
    "Mn1_Nonlinear": Manifold(18, 72, _uniform(18), _crossed),
    "Mn2_Nonlinear": Manifold(24, 96, _uniform(24), _crossed),
    "Mp1_Paraboloid": Manifold(3, 12, _clayton(3), _paraboloid),
    "Mp2_Paraboloid": Manifold(6, 21, _clayton(6), _paraboloid),
    "Mp3_Paraboloid": Manifold(9, 30, _clayton(9), _paraboloid),
}
