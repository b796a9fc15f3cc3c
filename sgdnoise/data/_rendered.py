"""Rendered images of known dimension: one shape on a plain background, smooth in all latents."""

import math
from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
from jaxtyping import Float

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, device, namespace
from sgdnoise.data._labels import mislabelled, stripes
from sgdnoise.data._sets import Data

# The values of latents of -1 and of 1, the same for all kinds of shape; the image is [-1, 1]^2.
# Aspects are above 1, where rotating an ellipse would have no effect; angles span half a turn,
# after which all shapes but the triangle repeat; both hues cover the whole circle.
FACTORS = {
    "x": (-0.22, 0.22),  # to the right
    "y": (-0.22, 0.22),  # down
    "log_size": (math.log(0.21), math.log(0.32)),  # radius of the disc of equal area
    "log_aspect": (math.log(1.3), math.log(1.8)),  # length over width
    "angle": (-math.pi / 2, math.pi / 2),
    "hue": (-math.pi, math.pi),
    "ground": (-math.pi, math.pi),  # hue of the background
    "light": (0.15, 0.3),  # brightness of the background; that of the shape is 0.7
}
BATCH = 256


@checked
def rendered(
    n: int,
    *,
    factors: Sequence[str] = tuple(FACTORS),
    kinds: Sequence[str] = ("disc", "square", "triangle", "star"),
    label: str | Callable = "stripes",
    wrong: float = 0.0,
    size: int = 32,
    rng,
) -> Data:
    """Images (n, 3, size, size) in float32, their classes (n,), and their dimension.

    Latents come from `scenes`, and kinds are equally likely.  The dimension is that of the manifold
    of each kind, len(factors): see `render`.
    label: "stripes", ten curved, equally likely classes from the first three factors; "kind", the
    index in `kinds`; "latents", for the latents (n, 8) as targets; or a function (n, 8) -> (n,).
    wrong: the fraction of classes replaced by another, see `mislabelled`.
    rng: a numpy Generator or a seed; the images do not depend on `label` and `wrong`.
    Raises ValueError for unknown or repeated names, and for `wrong` without classes.

    Example:
        >>> data = rendered(3, factors=["x", "hue"], size=8, rng=0)
        >>> data.inputs.shape, data.dimension
        ((3, 3, 8, 8), 2)
    """
    _check(kinds, KINDS, "kind")
    generator = np.random.default_rng(rng)
    latents = scenes(n, factors=factors, rng=generator)
    which = generator.integers(len(kinds), size=n)
    targets, classes = _labels(label, latents, which, factors, kinds)
    images = np.empty((n, 3, size, size), np.float32)
    for i, kind in enumerate(kinds):
        rows = np.nonzero(which == i)[0]
        for batch in np.split(rows, range(BATCH, len(rows), BATCH)):
            images[batch] = render(latents[batch].astype(np.float32), kind, size=size)
    data = Data(images, targets, len(factors))
    return mislabelled(data, wrong, classes, rng=generator) if wrong else data


@checked
def scenes(n: int, *, factors: Sequence[str] = tuple(FACTORS), rng) -> Float[np.ndarray, "n 8"]:
    """Latents (n, 8), uniform in [-1, 1] for the named factors, and 0 for the others.

    rng: a numpy Generator or a seed.  Raises ValueError for n below 1 and names not in `FACTORS`.

    Example:
        >>> scenes(10, rng=0).shape
        (10, 8)
    """
    if n < 1:
        raise ValueError(f"scenes are drawn with n of 1 or more, not {n}")
    _check(factors, FACTORS, "factor")
    drawn = np.random.default_rng(rng).uniform(-1, 1, (n, len(FACTORS)))
    return drawn * np.asarray([name in factors for name in FACTORS])


@checked
def render(
    latents: Float[Array, "n 8"], kind: str = "disc", *, size: int = 32, edge: float = 1.0
) -> Float[Array, "n 3 {size} {size}"]:
    """Images, channels first as in torch, in the library, type and device of the latents.

    image = ground + sigmoid(-4 distance / edge) (colour - ground), with the distance to the shape
    in pixels, so that edges are `edge` pixels wide; colours are level + chroma cos(hue - 2 pi k/3).
    It is smooth in all 8 latents (`FACTORS`), and the Jacobian has full rank, so that the images of
    one kind have the dimension of the latents that vary.  The manifold curves over the shift of a
    pixel, so that few points, far apart, appear to have more dimensions.
    Raises ValueError for an unknown kind, and for a size or an edge that is not positive.

    Example:
        >>> render(np.full((2, 8), 0.5), "disc", size=16).shape
        (2, 3, 16, 16)
    """
    xp = namespace(latents)
    _check([kind], KINDS, "kind")
    if size < 1 or not 0 < edge < math.inf:
        raise ValueError(f"an image has pixels and edges of some width, not {size} and {edge}")
    x, y, log_size, log_aspect, angle, hue, ground, light = (
        ((high + low) / 2 + (high - low) / 2 * latents[:, i])[:, None, None]
        for i, (low, high) in enumerate(FACTORS.values())
    )
    pixels = xp.arange(size, dtype=latents.dtype, device=device(latents))
    pixels = (2 * pixels + 1) / size - 1
    right, down = pixels[None, None, :] - x, pixels[None, :, None] - y
    along = xp.cos(angle) * right + xp.sin(angle) * down
    across = xp.cos(angle) * down - xp.sin(angle) * right
    half = xp.exp(log_size + log_aspect / 2), xp.exp(log_size - log_aspect / 2)
    distance = KINDS[kind](xp, along, across, half, 0.5 / size)
    inside = (1 - xp.tanh(distance * size / edge)) / 2  # sigmoid(-4 d), d = distance size / 2 edge

    def channel(phase):
        background = light + 0.12 * xp.cos(ground - phase)
        return background + inside * (0.7 + 0.3 * xp.cos(hue - phase) - background)

    return xp.stack([channel(2 * math.pi * k / 3) for k in range(3)], axis=1)


# Signed distances, negative inside.  along, across: coordinates of the pixels (n, size, size);
# half: the factors that stretch the shape of area pi along and across, (n, 1, 1) each; soft: the
# scale on which corners are rounded, which keeps the distance smooth.


def _disc(xp, along, across, half, _):
    """(q - 1) / |grad q| with q = (along / a)^2 + (across / b)^2: exact to first order at q = 1."""
    a, b = half
    level = (along / a) ** 2 + (across / b) ** 2 - 1
    slope = 4 * ((along / a**2) ** 2 + (across / b**2) ** 2)
    return level / xp.sqrt(slope + 0.1 / (a * b))  # the gradient alone vanishes at the centre


def _polygon(corners, inradius, rotation=0.0):
    """A regular polygon, stretched: the smooth maximum of the exact distances to its sides.

    A side at angle t is cos t along / a + sin t across / b = inradius.
    """
    angles = [rotation + 2 * math.pi * i / corners for i in range(corners)]

    def distance(xp, along, across, half, soft):
        a, b = half
        sides = []
        for normal in ((math.cos(t) / a, math.sin(t) / b) for t in angles):
            level = normal[0] * along + normal[1] * across - inradius
            sides.append(level / xp.sqrt(normal[0] ** 2 + normal[1] ** 2) / soft)
        return soft * reduce(xp.logaddexp, sides)

    return distance


def _star(xp, along, across, half, soft):
    """Two triangles, one upside down: the smooth minimum of their distances."""
    up, down = (triangle(xp, along, across, half, soft) / soft for triangle in STAR)
    return -soft * xp.logaddexp(-up, -down)


INRADIUS = (math.pi / 3**1.5) ** 0.5  # of a triangle of area pi = sqrt(27) r^2
STAR = [_polygon(3, 3**0.5 / 2 * INRADIUS, angle) for angle in (0.0, math.pi)]  # 4 sqrt(3) r^2
KINDS: dict[str, Callable] = {
    "disc": _disc,
    "square": _polygon(4, math.pi**0.5 / 2),
    "triangle": _polygon(3, INRADIUS),
    "star": _star,
}


def _labels(label, latents, which, factors, kinds):
    """Targets, and the number of their classes."""
    if label == "latents":
        return latents, 0
    if label == "kind":
        return which, len(kinds)
    if label == "stripes":
        return stripes(latents[:, [list(FACTORS).index(name) for name in factors[:3]]]), 10
    if not callable(label):
        raise ValueError(f"labels are 'stripes', 'kind', 'latents' or a function, not {label!r}")
    targets = np.asarray(label(latents))
    return targets, int(targets.max()) + 1


def _check(names, known, what):
    for name in names:
        if name not in known:
            raise ValueError(f"no {what} is called {name!r}; there are {', '.join(known)}")
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"each {what} is named once, and at least one is needed, not {list(names)}"
        )
