"""Where the examples lie in the arrays of a call."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch

from sgdnoise.nets._per_example._recorder import LayerCall


class Layout(NamedTuple):
    """The axis of an array along which the examples lie.

    shared: positions lie along the same axis, as after a flatten of (n, T) to (n T,).
    minor: on a shared axis, the example changes fastest, as after a flatten of (T, n).
    """

    axis: int
    shared: bool
    minor: bool

    def first(self, array, n: int):
        """The array as (n, ...); the positions that shared the axis come next."""
        array = array.movedim(self.axis, 0)
        if not self.shared:
            return array
        if self.minor:
            return array.unflatten(0, (-1, n)).transpose(0, 1)
        return array.unflatten(0, (n, -1))


def find_layout(first, second, n: int, index: int, n_own_axes: int) -> Layout | None:
    """The layout of an array, from two batches that differ in the example `index` alone.

    The last `n_own_axes` axes belong to the layer, such as its features, and hold no examples.
    Returns None if no axis has the differences at that example and nowhere else.
    """
    # Shapes alone would not do: widths and sequence lengths may equal the number of examples.
    different = (first != second).to(torch.uint8)
    for axis in range(first.ndim - n_own_axes):
        if first.shape[axis] % n or not first.shape[axis]:
            continue
        shared = first.shape[axis] != n
        for minor in (False, True) if shared else (False,):
            candidate = Layout(axis, shared, minor)
            differs = candidate.first(different, n).reshape(n, -1).any(1)
            # On a wrong axis, or in the wrong order, several examples differ, or another one.
            if differs[index] and int(differs.sum()) == 1:
                return candidate
    return None


def layout_of(call: LayerCall, changed: LayerCall, n: int) -> Layout | None:
    """The layout of a call, from another call in which the second example differs.

    It is read off the inputs, or off the gradient to the output if the inputs do not differ.
    """
    # The input of an expansion is the parameter, in which there are no examples to look for.
    if call.kind == "copies":
        return Layout(0, False, False) if call.output_gradient.shape[0] == n else None
    if call.inputs.shape != changed.inputs.shape:  # rows without an axis of examples, as if packed
        return None
    n_own_axes = _own_axes(call)
    if not torch.equal(call.inputs, changed.inputs):
        return find_layout(call.inputs, changed.inputs, n, 1, n_own_axes)
    # Position embeddings have the same inputs for all examples; only their gradients differ.  The
    # output of an embedding has one axis more than its input, and that one is the layer's too.
    return find_layout(
        call.output_gradient,
        changed.output_gradient,
        n,
        1,
        n_own_axes + call.output_gradient.ndim - call.inputs.ndim,
    )


def _own_axes(call: LayerCall) -> int:
    """The number of last axes of the inputs that belong to the layer."""
    if call.kind.endswith("convolution") or call.kind in ("group norm", "batch norm"):
        return call.inputs.ndim - 1
    if call.kind in ("sum", "product"):
        return call.inputs.ndim - 1
    return {"linear": 1, "matrix": 1, "embedding": 0}.get(call.kind, call.options.get("axes", 0))


def overlapping(calls: list[LayerCall], roots: Callable[[str], set]) -> set[str]:
    """Parameters of which some rows are used in two different slices.

    roots: name -> the parameters from which a tensor of that name is computed, itself included.
    """
    # Norms and Gram matrices are added over slices, as over different parameters.  Rows that are
    # in two slices would lose the products of one use with the other.
    row_ranges: dict = {}
    for call in calls:
        for parameter in (call.weight, call.bias):
            for name in roots(parameter.name) if parameter else ():
                row_ranges.setdefault(name, set()).add(key_of(parameter)[1])
    return {name for name, rows in row_ranges.items() if _meet(rows)}


def _meet(rows):
    """Whether two of these ranges of rows overlap; None stands for all rows."""
    if len(rows) > 1 and None in rows:
        return True
    ends = sorted(rows) if len(rows) > 1 else []
    return any(lower[1] > upper[0] for lower, upper in pairwise(ends))


def key_of(parameter):
    """What tells a parameter or a block of its rows from others."""
    return parameter.name, parameter.rows and (parameter.rows.start, parameter.rows.stop)
