"""Inner products of the gradients of all examples, tile by tile."""

from collections.abc import Sequence
from typing import Any

import torch

from sgdnoise.nets._per_example._layers import Convolution, RankOne, SumOfOuters
from sgdnoise.nets._per_example._lowrank import MAX_WIDE, few


def gram(forms: Sequence[Any], out) -> None:
    """Add the inner products of all gradients to the lower tiles of `out` (n, n).

    parts: one layer's, block by block of examples.
    """
    form = forms[0] if len(forms) == 1 else _joined(forms)
    cross = _cross(form)
    if cross:
        for tile in _tiles(out):
            cross(form, tile, slice(0, tile.stop), out[tile, : tile.stop])
        return
    for columns in form.chunks():
        for tile in _tiles(out):
            out[tile, : tile.stop].addmm_(columns[tile], columns[: tile.stop].T)


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


def _cross(form):
    """How the inner products of some gradients with others are had without the gradients."""
    if isinstance(form, RankOne):
        return _of_outer
    return _of_pairs if isinstance(form, (SumOfOuters, Convolution)) and few(form) else None


def _of_outer(form, tile, columns, out):
    left = form.left[tile] @ form.left[columns].T
    if not form.weight:
        out += left
        return
    has_bias = left.new_full((), float(bool(form.bias)))
    out.addcmul_(left, torch.addmm(has_bias, form.right[tile], form.right[columns].T))


def _of_pairs(form, tile, columns, out):
    """Summed over all pairs of positions, one of either."""
    factors, positions = form.factors(tile), form.factors(slice(0, 1))[0].shape[-1]
    step = max(1, MAX_WIDE // (out.shape[0] * positions**2))
    for start in range(columns.start, columns.stop, step):
        block = slice(start, min(start + step, columns.stop))
        left, right = (
            _rows(a) @ _rows(b).mT for a, b in zip(factors, form.factors(block), strict=True)
        )
        pairs = left.mul_(right).sum(0).view(out.shape[0], positions, -1, positions)
        out[:, block] += pairs.sum((1, 3))


def _rows(factor):
    """(m, g, c, T) -> (g, m T, c)."""
    return factor.permute(1, 0, 3, 2).flatten(1, 2)


def _joined(forms):
    """The same layer's parts on several blocks of examples as one."""
    first = forms[0]
    names = [
        n
        for n in ("gradients", "left", "right", "tokens")
        if isinstance(getattr(first, n, 0), torch.Tensor)
    ]
    cat = {name: torch.cat([getattr(form, name) for form in forms]) for name in names}
    return type(first)(**{**vars(first), **cat})
