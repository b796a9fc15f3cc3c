"""From the uses of a network's parameters to the gradient of each example, layer by layer."""

from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from sgdnoise.nets._per_example._layers import (
    Convolution,
    EmbeddingRows,
    RankOne,
    SumOfOuters,
    Table,
    patches,
    smaller,
    table,
)
from sgdnoise.nets._per_example._recorder import LayerCall


class Layout(NamedTuple):
    """Where the examples are in an array: on which axis, alone, or with other places.

    minor: where they share the axis, whether the example is what changes fastest.
    """

    axis: int
    shared: bool
    minor: bool

    def first(self, array, n: int):
        """The array as (n, ...), what shared the axis next to it."""
        array = array.movedim(self.axis, 0)
        if not self.shared:
            return array
        if self.minor:
            return array.unflatten(0, (-1, n)).transpose(0, 1)
        return array.unflatten(0, (n, -1))


def layout(one, other, n: int, changed: int, last: int) -> Layout | None:
    """Where the examples are in what a layer saw, from two batches that differ in one of them.

    The last `last` axes are the layer's own.  None where that example is nowhere to be found.
    """
    different = (one != other).to(torch.uint8)
    for axis in range(one.ndim - last):
        if one.shape[axis] % n or not one.shape[axis]:
            continue
        shared = one.shape[axis] != n
        for minor in (False, True) if shared else (False,):
            found = Layout(axis, shared, minor)
            moved = found.first(different, n).reshape(n, -1).any(1)
            if moved[changed] and int(moved.sum()) == 1:
                return found
    return None


def placed(use: LayerCall, changed: LayerCall, n: int) -> Layout | None:
    """Where the examples are in a use, from another in which the second of them differs.

    Found in what it saw, or where that is the same in both, in the gradient to its output.
    """
    if use.kind == "copies":
        return Layout(0, False, False) if use.edge.shape[0] == n else None
    own = _own_axes(use)
    if not torch.equal(use.seen, changed.seen):
        return layout(use.seen, changed.seen, n, 1, own)
    return layout(use.edge, changed.edge, n, 1, own + use.edge.ndim - use.seen.ndim)


def _own_axes(use: LayerCall) -> int:
    """How many of the last axes of what it saw are the layer's own."""
    if use.kind in ("convolution", "group norm", "batch norm", "sum", "product"):
        return use.seen.ndim - 1
    return {"linear": 1, "matrix": 1, "embedding": 0}.get(use.kind, use.options.get("axes", 0))


def overlapping(uses: list[LayerCall]) -> set[str]:
    """Parameters of which some rows are used by themselves and with others too."""
    found: dict = {}
    for use in uses:
        for place in (use.weight, use.bias):
            if place:
                found.setdefault(place.name, set()).add(_key(place)[1])
    return {name for name, rows in found.items() if _meet(rows)}


def _meet(rows):
    """Whether any of these ranges have something in common; None is all there is."""
    if len(rows) > 1 and None in rows:
        return True
    ends = sorted(rows) if len(rows) > 1 else []
    return any(one[1] > other[0] for one, other in pairwise(ends))


def parts(uses: list[tuple[LayerCall, Layout]], n: int) -> list[Any]:
    """The gradients of n examples, parameter by parameter, from the uses of a network.

    Uses of the same parameter are added up; a bias goes with its weight where that is seen once.
    """
    found: dict = {}
    for use, where in uses:
        for part in _MAKE[use.kind](use, where, n):
            place = part.place if isinstance(part, Table) else part.weight
            found.setdefault(_key(place), []).append(part)
    several = {key for key, group in found.items() if len(group) > 1}
    for use, _ in uses:
        _marry(found, several, use)
    return [smaller(_added(group)) for group in found.values()]


def _key(place):
    return place.name, place.rows and (place.rows.start, place.rows.stop)


def _marry(found, several, use):
    """Weight and bias of a linear layer seen once an example, as one part."""
    if not (use.weight and use.bias):
        return
    keys = [_key(use.weight), _key(use.bias)]
    if several & set(keys):
        return
    (outer,) = found[keys[0]]
    if isinstance(outer, RankOne):
        found[keys[0]] = [RankOne(outer.weight, use.bias, outer.left, outer.right)]
        del found[keys[1]]


def _added(group):
    """Several parts of the same parameter as one."""
    if len(group) == 1:
        return group[0]
    group = [_as_sums(part) if isinstance(part, RankOne) else part for part in group]
    if any(isinstance(part, Table) or _grouped(part) for part in group):
        group = [part if isinstance(part, Table) else table(part) for part in group]
        return Table(group[0].place, sum(part.each for part in group))
    place, shape = group[0].weight, group[0].shape
    if all(isinstance(part, EmbeddingRows) for part in group):
        tokens, lefts = zip(*((part.tokens, part.left) for part in group), strict=True)
        return EmbeddingRows(place, torch.cat(tokens, 1), torch.cat(lefts, 1), shape)
    lefts, rights = zip(*(_as_products(part) for part in group), strict=True)
    return SumOfOuters(place, torch.cat(lefts, 1), torch.cat(rights, 1), shape)


def _grouped(part):
    return isinstance(part, Convolution) and part.options["groups"] > 1


def _as_sums(part):
    """A layer seen once an example as one seen at many positions, of which there is one."""
    shape = torch.Size((part.left.shape[1], part.right.shape[1]))
    return SumOfOuters(part.weight, part.left[:, None], part.right[:, None], shape)


def _as_products(part):
    """(n, T, o) and (n, T, i) whose products are the gradients of a part."""
    match part:
        case EmbeddingRows():
            return F.one_hot(part.tokens, part.shape[0]).to(part.left.dtype), part.left
        case Convolution():
            return part.left.flatten(2).mT, patches(part).mT
        case _:
            return part.left, part.right


def _linear(use, where, n):
    left, right = (where.first(each, n) for each in (use.edge, use.seen))
    left, right = left.reshape(n, -1, left.shape[-1]), right.reshape(n, -1, right.shape[-1])
    once = left.shape[1] == 1
    if use.bias:
        yield Table(use.bias, left[:, 0] if once else left.sum(1))
    if use.weight and once:
        yield RankOne(use.weight, None, left[:, 0], right[:, 0])
    elif use.weight:
        yield SumOfOuters(use.weight, left, right, use.options["weight"].shape)


def _matrix(use, where, n):
    """Something times a weight (i, o), rather than a weight (o, i) times something."""
    left, right = (where.first(each, n) for each in (use.seen, use.edge))
    left, right = left.reshape(n, -1, left.shape[-1]), right.reshape(n, -1, right.shape[-1])
    place = use.weight
    if left.shape[1] == 1:
        yield RankOne(place, None, left[:, 0], right[:, 0])
    else:
        yield SumOfOuters(place, left, right, use.options["weight"].shape)


def _convolution(use, where, n):
    if use.bias:
        yield Table(use.bias, _summed(use.edge, where, n, 1))
    if not use.weight:
        return
    options = {k: use.options[k] for k in ("stride", "padding", "dilation", "groups")}
    part = Convolution(use.weight, use.edge, use.seen, use.options["weight"].shape, options)
    if not where.shared:
        yield part
    elif _grouped(part):
        yield Table(use.weight, where.first(table(part).each, n).sum(1))
    else:
        left, right = (where.first(each, n).flatten(1, 2) for each in _as_products(part))
        yield SumOfOuters(use.weight, left, right, part.shape)


def _embedding(use, where, n):
    tokens, left = (where.first(each, n) for each in (use.seen, use.edge))
    tokens, left = tokens.reshape(n, -1), left.reshape(n, -1, left.shape[-1])
    if use.options["padding"] is not None:
        left = left * (tokens != use.options["padding"])[..., None]
    yield EmbeddingRows(use.weight, tokens, left, use.options["weight"].shape)


def _layer_norm(use, where, n):
    axes = tuple(range(-use.options["axes"], 0))
    middle = use.seen.mean(axes, keepdim=True)
    spread = (use.seen.var(axes, correction=0, keepdim=True) + use.options["eps"]).sqrt()
    yield from _scale(use, where, n, (use.seen - middle) / spread, len(axes))


def _rms_norm(use, where, n):
    axes = tuple(range(-use.options["axes"], 0))
    spread = (use.seen.square().mean(axes, keepdim=True) + use.options["eps"]).sqrt()
    yield from _scale(use, where, n, use.seen / spread, len(axes))


def _group_norm(use, where, n):
    seen = use.seen.unflatten(1, (use.options["groups"], -1))
    axes = tuple(range(2, seen.ndim))
    middle = seen.mean(axes, keepdim=True)
    spread = (seen.var(axes, correction=0, keepdim=True) + use.options["eps"]).sqrt()
    normal = ((seen - middle) / spread).flatten(1, 2)
    yield from _channels(use, where, n, normal)


def _batch_norm(use, where, n):
    shape = (1, -1) + (1,) * (use.seen.ndim - 2)
    middle, spread = use.options["mean"].view(shape), (use.options["var"] + use.options["eps"])
    yield from _channels(use, where, n, (use.seen - middle) / spread.sqrt().view(shape))


def _scale(use, where, n, normal, axes):
    """Scale and shift of the last axes."""
    for place, each in ((use.weight, use.edge * normal), (use.bias, use.edge)):
        if place:
            each = where.first(each, n)
            yield Table(place, each.reshape(n, -1, *each.shape[-axes:]).sum(1))


def _channels(use, where, n, normal):
    """Scale and shift of the second axis."""
    for place, each in ((use.weight, use.edge * normal), (use.bias, use.edge)):
        if place:
            yield Table(place, _summed(each, where, n, 1))


def _summed(each, where, n, channel):
    """(n, channels), the rest summed."""
    each = where.first(each.movedim(channel, -1), n)
    return each.reshape(n, -1, each.shape[-1]).sum(1)


def _sum(use, where, n):
    yield _reduced(use, where.first(use.edge, n), n)


def _product(use, where, n):
    yield _reduced(use, where.first(use.edge * use.seen, n), n)


def _reduced(use, each, n):
    """(n, *shape of the parameter), summed over what it was repeated along."""
    shape = use.options["weight"].shape
    inner = shape[max(0, len(shape) - each.ndim + 1) :]
    ones = (1,) * (each.ndim - 1 - len(inner))
    each = each.sum_to_size(n, *ones, *inner)
    return Table(use.weight, each.reshape(n, *(shape or (1,))))


_MAKE = {
    "sum": _sum,
    "copies": _sum,
    "product": _product,
    "linear": _linear,
    "matrix": _matrix,
    "convolution": _convolution,
    "embedding": _embedding,
    "layer norm": _layer_norm,
    "rms norm": _rms_norm,
    "group norm": _group_norm,
    "batch norm": _batch_norm,
}
