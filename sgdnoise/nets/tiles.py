"""Inner products of the gradients of all examples, tile by tile."""

from collections.abc import Sequence
from typing import Any

import torch

from sgdnoise.nets.layers import Outer

__all__ = ["gram", "mirrored"]

TILE = 256  # examples


def gram(parts: Sequence[Any], out) -> None:
    """Add the inner products of all gradients to the lower tiles of `out` (n, n).

    parts: one layer's, block by block of examples.
    """
    part = parts[0] if len(parts) == 1 else _joined(parts)
    n = out.shape[0]
    tiles = [slice(start, min(start + TILE, n)) for start in range(0, n, TILE)]
    if isinstance(part, Outer):
        for tile in tiles:
            part.cross(tile, slice(0, tile.stop), out)
        return
    for each in part.chunks():
        for tile in tiles:
            out[tile, : tile.stop].addmm_(each[tile], each[: tile.stop].T)


def mirrored(out):
    """The lower tiles copied to where they belong above."""
    for start in range(TILE, out.shape[0], TILE):
        tile = slice(start, start + TILE)
        out[:start, tile] = out[tile, :start].T
    return out


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
