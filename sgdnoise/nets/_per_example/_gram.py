"""Inner products of the gradients of all examples, tile by tile."""

from collections.abc import Sequence
from typing import Any

import torch

from sgdnoise.nets._per_example._layers import Convolution, RankOne, SumOfOuters
from sgdnoise.nets._per_example._lowrank import WIDE, few


def gram(parts: Sequence[Any], out) -> None:
    """Add the inner products of all gradients to the lower tiles of `out` (n, n).

    parts: one layer's, block by block of examples.
    """
    part = parts[0] if len(parts) == 1 else _joined(parts)
    cross = _cross(part)
    if cross:
        for tile in _tiles(out):
            cross(part, tile, slice(0, tile.stop), out[tile, : tile.stop])
        return
    for each in part.chunks():
        for tile in _tiles(out):
            out[tile, : tile.stop].addmm_(each[tile], each[: tile.stop].T)


def mirrored(out):
    """The lower tiles copied to where they belong above."""
    for tile in _tiles(out):
        out[: tile.start, tile] = out[tile, : tile.start].T
    return out


def _tiles(out):
    """Slices of examples: few where there are few, so that little is done twice."""
    n = out.shape[0]
    width = min(256, max(128, n // 8))
    return [slice(start, min(start + width, n)) for start in range(0, n, width)]


def _cross(part):
    """How the inner products of some gradients with others are had without the gradients."""
    if isinstance(part, RankOne):
        return _of_outer
    return _of_pairs if isinstance(part, (SumOfOuters, Convolution)) and few(part) else None


def _of_outer(part, mine, other, out):
    left = part.left[mine] @ part.left[other].T
    if not part.weight:
        out += left
        return
    one = left.new_full((), float(bool(part.bias)))
    out.addcmul_(left, torch.addmm(one, part.right[mine], part.right[other].T))


def _of_pairs(part, mine, other, out):
    """Summed over all pairs of positions, one of either."""
    one, positions = part.factors(mine), part.factors(slice(0, 1))[0].shape[-1]
    step = max(1, WIDE // (out.shape[0] * positions**2))
    for start in range(other.start, other.stop, step):
        some = slice(start, min(start + step, other.stop))
        left, right = (_rows(a) @ _rows(b).mT for a, b in zip(one, part.factors(some), strict=True))
        pairs = left.mul_(right).sum(0).view(out.shape[0], positions, -1, positions)
        out[:, some] += pairs.sum((1, 3))


def _rows(factor):
    """(m, g, c, T) -> (g, m T, c)."""
    return factor.permute(1, 0, 3, 2).flatten(1, 2)


def _joined(parts):
    """The same layer's parts on several blocks of examples as one."""
    first = parts[0]
    names = [
        n
        for n in ("each", "left", "right", "tokens")
        if isinstance(getattr(first, n, 0), torch.Tensor)
    ]
    cat = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    return type(first)(**{**vars(first), **cat})
