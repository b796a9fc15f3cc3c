"""Inner products of the gradients of all examples, tile by tile."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from sgdnoise.nets._per_example._layers import Convolution, RankOne, SumOfOuters
from sgdnoise.nets._per_example._lowrank import MAX_WIDE, few
from sgdnoise.nets._per_example._stored import WithMultiples, as_stored


def layers(blocks: Sequence[Sequence[Any]]) -> Iterable[Sequence[Any]]:
    """The forms of each layer, block by block, from the forms of each block."""
    kinds = {tuple((_kind(form), frozenset(form.names())) for form in forms) for forms in blocks}
    if len(kinds) == 1:
        return zip(*blocks, strict=True)
    # Blocks of other sizes, or on another path, have other forms: their gradients are made.
    by_parameter: dict = {}
    for number, forms in enumerate(blocks):
        for part in (form.restricted_to({name}) for form in forms for name in form.names()):
            held = as_stored(part)
            key = held.parameter.name, str(held.parameter.rows)
            by_parameter.setdefault(key, {})[number] = held
    return [list(parts.values()) for parts in by_parameter.values()]


def _kind(form):
    return ("plus", type(form.form)) if isinstance(form, WithMultiples) else type(form)


def gram(forms: Sequence[Any], out) -> None:
    """Add the inner products of all gradients of a layer to the lower tiles of `out` (n, n).

    forms: the gradients of that layer, block by block of examples.
    """
    # Inner products pair examples of different blocks as well.  Joined rows give all of them in a
    # few large matrix products instead of one for each pair of blocks.
    form = forms[0] if len(forms) == 1 else _joined(forms)
    if isinstance(form, WithMultiples):
        gram([form.form], out)
        _add_multiples(form, out)
        return
    cross = _cross(form)
    if cross:
        for tile in _tiles(out):
            cross(form, tile, slice(0, tile.stop), out[tile, : tile.stop])
        return
    # Otherwise the gradients are made, a few columns of all examples at a time.
    for columns in form.chunks():
        for tile in _tiles(out):
            out[tile, : tile.stop].addmm_(columns[tile], columns[: tile.stop].T)


def _add_multiples(form, out):
    """Add the products of c_i r with the others: (f_i + c_i r) . (f_j + c_j r) - f_i . f_j."""
    c, along = form.coefficients, form.along()
    square = form.direction.square().sum()
    left, right = torch.stack([along + c * square, c]), torch.stack([c, along])
    for tile in _tiles(out):
        out[tile, : tile.stop].addmm_(left[:, tile].T, right[:, : tile.stop])


def mirrored(out):
    """The matrix with its lower tiles copied to the upper triangle."""
    for tile in _tiles(out):
        out[: tile.start, tile] = out[tile, : tile.start].T
    return out


def _tiles(out):
    """Slices of examples, at most 256 in each."""
    # Only tiles up to the diagonal are computed, since the matrix is symmetric.  Narrow tiles waste
    # less of those on the diagonal, and wide ones make faster products.
    n = out.shape[0]
    width = min(256, max(128, n // 8))
    return [slice(start, min(start + width, n)) for start in range(0, n, width)]


def _cross(form):
    """The function that computes inner products without gradients, or None if they cost more."""
    if isinstance(form, RankOne):
        return _of_outer
    return _of_pairs if isinstance(form, (SumOfOuters, Convolution)) and few(form) else None


def _of_outer(form, tile, columns, out):
    # (l_i r_i^T) . (l_j r_j^T) = (l_i . l_j)(r_i . r_j); a bias adds the constant input 1 to r.
    left = form.left[tile] @ form.left[columns].T
    if not form.weight:
        out += left
        return
    has_bias = left.new_full((), float(bool(form.bias)))
    out.addcmul_(left, torch.addmm(has_bias, form.right[tile], form.right[columns].T))


def _of_pairs(form, tile, columns, out):
    """Add the inner products, as sums over all pairs of positions of two examples."""
    factors, positions = form.factors(tile), form.factors(slice(0, 1))[0].shape[-1]
    # All pairs of positions are in memory at once, hence a few columns of `out` at a time.
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
    """The gradients of one layer on several blocks of examples, joined along the examples."""
    first = forms[0]
    if isinstance(first, WithMultiples):
        coefficients = torch.cat([form.coefficients for form in forms])
        return WithMultiples(_joined([f.form for f in forms]), coefficients, first.direction)
    names = [
        n
        for n in ("gradients", "left", "right", "tokens")
        if isinstance(getattr(first, n, 0), torch.Tensor)
    ]
    cat = {name: torch.cat([getattr(form, name) for form in forms]) for name in names}
    return type(first)(**{**vars(first), **cat})
