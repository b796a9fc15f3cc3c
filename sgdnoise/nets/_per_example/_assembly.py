"""From the recorded calls of a network to the gradient of each example, layer by layer."""

from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from sgdnoise.nets._per_example._layers import (
    Convolution,
    EmbeddingRows,
    RankOne,
    StoredGradients,
    SumOfOuters,
    patches,
    smaller,
    table,
)
from sgdnoise.nets._per_example._norms import (
    added,
    batch_norm,
    group_norm,
    layer_norm,
    product,
    rms_norm,
    sum_to_channels,
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


def find_layout(first, second, n: int, index: int, n_own_axes: int) -> Layout | None:
    """Where the examples are in what a layer saw, from two batches that differ in one of them.

    The last `n_own_axes` axes are the layer's own.  None where that example is nowhere to be found.
    """
    different = (first != second).to(torch.uint8)
    for axis in range(first.ndim - n_own_axes):
        if first.shape[axis] % n or not first.shape[axis]:
            continue
        shared = first.shape[axis] != n
        for minor in (False, True) if shared else (False,):
            candidate = Layout(axis, shared, minor)
            differs = candidate.first(different, n).reshape(n, -1).any(1)
            if differs[index] and int(differs.sum()) == 1:
                return candidate
    return None


def layout_of(call: LayerCall, changed: LayerCall, n: int) -> Layout | None:
    """Where the examples are in a use, from another in which the second of them differs.

    Found in what it saw, or where that is the same in both, in the gradient to its output.
    """
    if call.kind == "copies":
        return Layout(0, False, False) if call.output_gradient.shape[0] == n else None
    n_own_axes = _own_axes(call)
    if not torch.equal(call.inputs, changed.inputs):
        return find_layout(call.inputs, changed.inputs, n, 1, n_own_axes)
    return find_layout(
        call.output_gradient,
        changed.output_gradient,
        n,
        1,
        n_own_axes + call.output_gradient.ndim - call.inputs.ndim,
    )


def _own_axes(call: LayerCall) -> int:
    """How many of the last axes of what it saw are the layer's own."""
    if call.kind in ("convolution", "group norm", "batch norm", "sum", "product"):
        return call.inputs.ndim - 1
    return {"linear": 1, "matrix": 1, "embedding": 0}.get(call.kind, call.options.get("axes", 0))


def overlapping(calls: list[LayerCall]) -> set[str]:
    """Parameters of which some rows are used by themselves and with others too."""
    row_ranges: dict = {}
    for call in calls:
        for parameter in (call.weight, call.bias):
            if parameter:
                row_ranges.setdefault(parameter.name, set()).add(_key(parameter)[1])
    return {name for name, rows in row_ranges.items() if _meet(rows)}


def _meet(rows):
    """Whether any of these ranges have something in common; None is all there is."""
    if len(rows) > 1 and None in rows:
        return True
    ends = sorted(rows) if len(rows) > 1 else []
    return any(lower[1] > upper[0] for lower, upper in pairwise(ends))


def gradient_forms(calls: list[tuple[LayerCall, Layout]], n: int) -> list[Any]:
    """The gradients of n examples, parameter by parameter, from the uses of a network.

    Uses of the same parameter are added up; a bias goes with its weight where that is seen once.
    """
    by_parameter: dict = {}
    for call, layout in calls:
        for form in _MAKE[call.kind](call, layout, n):
            parameter = form.parameter if isinstance(form, StoredGradients) else form.weight
            by_parameter.setdefault(_key(parameter), []).append(form)
    repeated = {key for key, group in by_parameter.items() if len(group) > 1}
    for call, _ in calls:
        _marry(by_parameter, repeated, call)
    return [smaller(_added(group)) for group in by_parameter.values()]


def _key(parameter):
    return parameter.name, parameter.rows and (parameter.rows.start, parameter.rows.stop)


def _marry(by_parameter, repeated, call):
    """Weight and bias of a linear layer seen once an example, as one part."""
    if not (call.weight and call.bias):
        return
    keys = [_key(call.weight), _key(call.bias)]
    if repeated & set(keys):
        return
    (outer,) = by_parameter[keys[0]]
    if isinstance(outer, RankOne):
        by_parameter[keys[0]] = [RankOne(outer.weight, call.bias, outer.left, outer.right)]
        del by_parameter[keys[1]]


def _added(group):
    """Several parts of the same parameter as one."""
    if len(group) == 1:
        return group[0]
    group = [_as_sums(form) if isinstance(form, RankOne) else form for form in group]
    if any(isinstance(form, StoredGradients) or _grouped(form) for form in group):
        group = [form if isinstance(form, StoredGradients) else table(form) for form in group]
        return StoredGradients(group[0].parameter, sum(form.gradients for form in group))
    parameter, shape = group[0].weight, group[0].shape
    if all(isinstance(form, EmbeddingRows) for form in group):
        tokens, lefts = zip(*((form.tokens, form.left) for form in group), strict=True)
        return EmbeddingRows(parameter, torch.cat(tokens, 1), torch.cat(lefts, 1), shape)
    lefts, rights = zip(*(_as_products(form) for form in group), strict=True)
    return SumOfOuters(parameter, torch.cat(lefts, 1), torch.cat(rights, 1), shape)


def _grouped(form):
    return isinstance(form, Convolution) and form.options["groups"] > 1


def _as_sums(form):
    """A layer seen once an example as one seen at many positions, of which there is one."""
    shape = torch.Size((form.left.shape[1], form.right.shape[1]))
    return SumOfOuters(form.weight, form.left[:, None], form.right[:, None], shape)


def _as_products(form):
    """(n, T, o) and (n, T, i) whose products are the gradients of a part."""
    match form:
        case EmbeddingRows():
            return F.one_hot(form.tokens, form.shape[0]).to(form.left.dtype), form.left
        case Convolution():
            return form.left.flatten(2).mT, patches(form).mT
        case _:
            return form.left, form.right


def _linear(call, layout, n):
    left, right = (layout.first(array, n) for array in (call.output_gradient, call.inputs))
    left, right = left.reshape(n, -1, left.shape[-1]), right.reshape(n, -1, right.shape[-1])
    single = left.shape[1] == 1
    if call.bias:
        yield StoredGradients(call.bias, left[:, 0] if single else left.sum(1))
    if call.weight and single:
        yield RankOne(call.weight, None, left[:, 0], right[:, 0])
    elif call.weight:
        yield SumOfOuters(call.weight, left, right, call.options["weight"].shape)


def _matrix(call, layout, n):
    """Something times a weight (i, o), rather than a weight (o, i) times something."""
    left, right = (layout.first(array, n) for array in (call.inputs, call.output_gradient))
    left, right = left.reshape(n, -1, left.shape[-1]), right.reshape(n, -1, right.shape[-1])
    parameter = call.weight
    if left.shape[1] == 1:
        yield RankOne(parameter, None, left[:, 0], right[:, 0])
    else:
        yield SumOfOuters(parameter, left, right, call.options["weight"].shape)


def _convolution(call, layout, n):
    if call.bias:
        yield StoredGradients(call.bias, sum_to_channels(call.output_gradient, layout, n, 1))
    if not call.weight:
        return
    options = {k: call.options[k] for k in ("stride", "padding", "dilation", "groups")}
    form = Convolution(
        call.weight, call.output_gradient, call.inputs, call.options["weight"].shape, options
    )
    if not layout.shared:
        yield form
    elif _grouped(form):
        yield StoredGradients(call.weight, layout.first(table(form).gradients, n).sum(1))
    else:
        left, right = (layout.first(array, n).flatten(1, 2) for array in _as_products(form))
        yield SumOfOuters(call.weight, left, right, form.shape)


def _embedding(call, layout, n):
    tokens, left = (layout.first(array, n) for array in (call.inputs, call.output_gradient))
    tokens, left = tokens.reshape(n, -1), left.reshape(n, -1, left.shape[-1])
    if call.options["padding"] is not None:
        left = left * (tokens != call.options["padding"])[..., None]
    yield EmbeddingRows(call.weight, tokens, left, call.options["weight"].shape)


_MAKE = {
    "sum": added,
    "copies": added,
    "product": product,
    "linear": _linear,
    "matrix": _matrix,
    "convolution": _convolution,
    "embedding": _embedding,
    "layer norm": layer_norm,
    "rms norm": rms_norm,
    "group norm": group_norm,
    "batch norm": batch_norm,
}
