"""Gradients that are sums over positions, left_t right_t^T: what is had of them by either order."""

from typing import Any

import torch
import torch.nn.functional as F

HELD = 1 << 20  # numbers of per-example gradients made at once, all of some examples
WIDE = 1 << 22  # and some of all examples
ALL = slice(None)

# A part: gradients of one weight, left (n, ...) and right (n, ...), the weight's shape, and
# factors: some examples -> outputs (m, g, o / g, T), inputs (m, g, i / g, T), in g groups.


def patches(part: Any, rows: slice = ALL, channels: slice = ALL):
    """What the kernel sees at each position, (n, i k, T); of some of a group's channels."""
    options, kernel = part.options, part.shape[2:]
    seen = part.right[rows].unflatten(1, (options["groups"], -1))[:, :, channels].flatten(1, 2)
    around = [side for width in reversed(options["padding"]) for side in (width, width)]
    seen = F.pad(seen, around).contiguous()
    ways = list(zip(kernel, options["stride"], options["dilation"], strict=True))
    ends = zip(seen.shape[2:], ways, strict=True)
    positions = [(size - d * (k - 1) - 1) // s + 1 for size, (k, s, d) in ends]
    moves = [(s * step, d * step) for (_, s, d), step in zip(ways, seen.stride()[2:], strict=True)]
    across, within = zip(*moves, strict=True)
    shape, strides = (*seen.shape[:2], *kernel, *positions), (*seen.stride()[:2], *within, *across)
    return seen.as_strided(shape, strides).reshape(len(seen), seen.shape[1] * kernel.numel(), -1)


def few(part: Any) -> bool:
    """Whether of two examples all pairs of positions cost less than their two gradients."""
    positions, other, size = _costs(part)
    return positions**2 * other < size


def squares(part: Any):
    """(n,), by the cheaper of two orders."""
    positions, other, size = _costs(part)
    if positions * other >= size:
        return torch.cat([found.flatten(1).square_().sum(1) for _, found in products(part)])
    some = (part.factors(rows) for rows in _some(part))
    return torch.cat([((a.mT @ a) * (b.mT @ b)).sum((1, 2, 3)) for a, b in some])


def _costs(part):
    """Positions, what an inner product of two of them costs, and the size of a gradient."""
    size, (_, groups, o, positions) = part.shape.numel(), part.factors(slice(0, 1))[0].shape
    return positions, groups * o + size // o, size


def column_squares(part: Any, views: dict) -> None:
    """Add them to the views."""
    whole = part.weight.of(views)
    for _, found in products(part):
        whole.add_(found.square_().sum(0).view(whole.shape))


def products(part: Any):
    """The gradients themselves, of some examples at a time."""
    for rows in _some(part):
        left, right = part.factors(rows)
        yield rows, (left @ right.mT).reshape(-1, *part.shape)


def _some(part):
    """Slices of examples."""
    left, right = part.factors(slice(0, 1))
    each = part.shape.numel() + left.numel() + right.numel()
    return steps(part.left.shape[0], each, HELD)


def steps(length: int, each: int, held: int) -> list[slice]:
    """Slices of as many as can be with no more numbers held, `each` for one."""
    step = max(1, held // each)
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]
