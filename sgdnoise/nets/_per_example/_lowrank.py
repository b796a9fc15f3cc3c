"""Gradients that are sums over positions, left_t right_t^T, by the cheaper order of products."""

from typing import Any

import torch
import torch.nn.functional as F

MAX_HELD = 1 << 20  # numbers of per-example gradients made at once, all of some examples
MAX_WIDE = 1 << 22  # and some of all examples
ALL = slice(None)

# A form: gradients of one weight, left (n, ...) and right (n, ...), the weight's shape, and
# factors: some examples -> outputs (m, g, o / g, T), inputs (m, g, i / g, T), in g groups.


def patches(form: Any, rows: slice = ALL, channels: slice = ALL):
    """What the kernel sees at each position, (n, i k, T); of some of a group's channels."""
    options, kernel = form.options, form.shape[2:]
    inputs = form.right[rows].unflatten(1, (options["groups"], -1))[:, :, channels].flatten(1, 2)
    padding = [side for width in reversed(options["padding"]) for side in (width, width)]
    inputs = F.pad(inputs, padding).contiguous()
    kernel_steps = list(zip(kernel, options["stride"], options["dilation"], strict=True))
    ends = zip(inputs.shape[2:], kernel_steps, strict=True)
    positions = [(size - d * (k - 1) - 1) // s + 1 for size, (k, s, d) in ends]
    strides_of_axes = [
        (s * step, d * step)
        for (_, s, d), step in zip(kernel_steps, inputs.stride()[2:], strict=True)
    ]
    outer, inner = zip(*strides_of_axes, strict=True)
    shape, strides = (
        (*inputs.shape[:2], *kernel, *positions),
        (*inputs.stride()[:2], *inner, *outer),
    )
    return inputs.as_strided(shape, strides).reshape(
        len(inputs), inputs.shape[1] * kernel.numel(), -1
    )


def few(form: Any) -> bool:
    """Whether of two examples all pairs of positions cost less than their two gradients."""
    positions, cost, size = _costs(form)
    return positions**2 * cost < size


def squares(form: Any):
    """(n,), by the cheaper of two orders."""
    positions, cost, size = _costs(form)
    if positions * cost >= size:
        return torch.cat([gradients.flatten(1).square_().sum(1) for _, gradients in products(form)])
    factors = (form.factors(rows) for rows in _example_slices(form))
    return torch.cat([((a.mT @ a) * (b.mT @ b)).sum((1, 2, 3)) for a, b in factors])


def _costs(form):
    """Positions, what an inner product of two of them costs, and the size of a gradient."""
    n_parameters, (_, groups, o, positions) = form.shape.numel(), form.factors(slice(0, 1))[0].shape
    return positions, groups * o + n_parameters // o, n_parameters


def column_squares(form: Any, views: dict) -> None:
    """Add them to the views."""
    view = form.weight.of(views)
    for _, gradients in products(form):
        view.add_(gradients.square_().sum(0).view(view.shape))


def products(form: Any):
    """The gradients themselves, of some examples at a time."""
    for rows in _example_slices(form):
        left, right = form.factors(rows)
        yield rows, (left @ right.mT).reshape(-1, *form.shape)


def _example_slices(form):
    """Slices of examples."""
    left, right = form.factors(slice(0, 1))
    numbers = form.shape.numel() + left.numel() + right.numel()
    return steps(form.left.shape[0], numbers, MAX_HELD)


def steps(length: int, numbers: int, limit: int) -> list[slice]:
    """Slices as long as the limit allows, for `numbers` in memory for each index."""
    step = max(1, limit // max(1, numbers))
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]
