"""Per-example gradients of norms, of their scales and shifts, and of sums and products."""

from sgdnoise.nets._per_example._layers import StoredGradients


def layer_norm(call, layout, n):
    # The normalised input is computed again: the output has it only after scale and shift.
    axes = tuple(range(-call.options["axes"], 0))
    mean = call.inputs.mean(axes, keepdim=True)
    deviation = (call.inputs.var(axes, correction=0, keepdim=True) + call.options["eps"]).sqrt()
    yield from _scale(call, layout, n, (call.inputs - mean) / deviation, len(axes))


def rms_norm(call, layout, n):
    axes = tuple(range(-call.options["axes"], 0))
    deviation = (call.inputs.square().mean(axes, keepdim=True) + call.options["eps"]).sqrt()
    yield from _scale(call, layout, n, call.inputs / deviation, len(axes))


def group_norm(call, layout, n):
    inputs = call.inputs.unflatten(1, (call.options["groups"], -1))
    axes = tuple(range(2, inputs.ndim))
    mean = inputs.mean(axes, keepdim=True)
    deviation = (inputs.var(axes, correction=0, keepdim=True) + call.options["eps"]).sqrt()
    normal = ((inputs - mean) / deviation).flatten(1, 2)
    yield from _channels(call, layout, n, normal)


def batch_norm(call, layout, n):
    shape = (1, -1) + (1,) * (call.inputs.ndim - 2)
    # In eval the running statistics are constants, so that examples do not mix.
    mean, variance = call.options["mean"].view(shape), (call.options["var"] + call.options["eps"])
    yield from _channels(call, layout, n, (call.inputs - mean) / variance.sqrt().view(shape))


def _scale(call, layout, n, normalised, axes):
    """The gradients of a scale and a shift that act on the last axes."""
    for parameter, gradients in (
        (call.weight, call.output_gradient * normalised),
        (call.bias, call.output_gradient),
    ):
        if parameter:
            gradients = layout.first(gradients, n)
            yield StoredGradients(
                parameter, gradients.reshape(n, -1, *gradients.shape[-axes:]).sum(1)
            )


def _channels(call, layout, n, normalised):
    """The gradients of a scale and a shift that act on the second axis."""
    for parameter, gradients in (
        (call.weight, call.output_gradient * normalised),
        (call.bias, call.output_gradient),
    ):
        if parameter:
            yield StoredGradients(parameter, sum_to_channels(gradients, layout, n, 1))


def sum_to_channels(gradients, layout, n, channel):
    """Gradients (n, channels), summed over all other axes."""
    gradients = layout.first(gradients.movedim(channel, -1), n)
    return gradients.reshape(n, -1, gradients.shape[-1]).sum(1)


def added(call, layout, n):
    yield _reduced(call, layout.first(call.output_gradient, n), n)


def product(call, layout, n):
    yield _reduced(call, layout.first(call.output_gradient * call.inputs, n), n)


def _reduced(call, gradients, n):
    """Gradients (n, *shape of the parameter), summed over the axes that were broadcast."""
    shape = call.options["weight"].shape
    # A parameter may have an axis of length 1 for the examples, as position embeddings (1, T, d)
    # have.  It is left out of the sum, since examples stay apart, and the reshape restores it.
    inner = shape[max(0, len(shape) - gradients.ndim + 1) :]
    ones = (1,) * (gradients.ndim - 1 - len(inner))
    gradients = gradients.sum_to_size(n, *ones, *inner)
    return StoredGradients(call.weight, gradients.reshape(n, *(shape or (1,))))
