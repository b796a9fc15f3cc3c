"""The gradient of each example, layer by layer, from the recorded calls of a network."""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from sgdnoise.nets._per_example._layers import (
    Convolution,
    EmbeddingRows,
    ParameterBlock,
    RankOne,
    StoredGradients,
    SumOfOuters,
    patches,
)
from sgdnoise.nets._per_example._layouts import Layout, key_of
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
from sgdnoise.nets._per_example._stored import (
    Multiples,
    WithMultiples,
    as_stored,
    smaller,
    stored,
    table,
)


def gradient_forms(calls: list[tuple[LayerCall, Layout]], n: int, derived: dict) -> list[Any]:
    """The gradients of n examples, parameter by parameter, from the calls of a network.

    Calls of the same parameter are added.  A bias joins its weight if the layer is called once.
    derived: name -> (tensor, parameters by name from which it is computed); the gradients to it
    are taken on to these.
    """
    by_parameter: dict = {}
    for call, layout in calls:
        for form in _MAKE[call.kind](call, layout, n):
            by_parameter.setdefault(_key_of(form), []).append(form)
    for name, (tensor, parameters) in derived.items():
        group = by_parameter.pop((name, None), None)
        for form in _pulled_back(tensor, parameters, _added(group)) if group else ():
            by_parameter.setdefault(_key_of(form), []).append(form)
    repeated = {key for key, group in by_parameter.items() if len(group) > 1}
    for call, _ in calls:
        _marry(by_parameter, repeated, call)
    return [_smaller(_added(group)) for group in by_parameter.values()]


def _smaller(form):
    """The form that takes less memory."""
    if not isinstance(form, WithMultiples):
        return smaller(form)
    inner = smaller(form.form)
    if isinstance(inner, StoredGradients):
        return as_stored(replace(form, form=inner))
    return replace(form, form=inner)


def _pulled_back(tensor, parameters: dict, form):
    """The gradients of parameters, from those of a tensor that is computed from them alone."""
    gradients = as_stored(form).gradients.view(-1, *tensor.shape)
    names, leaves = list(parameters), list(parameters.values())
    if tensor.numel() == 1:
        one = torch.ones_like(tensor)
        directions = torch.autograd.grad(tensor, leaves, one, retain_graph=True)
        for name, direction in zip(names, directions, strict=True):
            yield Multiples(ParameterBlock(name), gradients.flatten(), direction)
        return
    try:
        pulled = torch.autograd.grad(
            tensor, leaves, gradients, retain_graph=True, is_grads_batched=True
        )
    except RuntimeError:  # an operation whose derivative torch cannot take for all at once
        rows = [torch.autograd.grad(tensor, leaves, row, retain_graph=True) for row in gradients]
        pulled = tuple(map(torch.stack, zip(*rows, strict=True)))
    for name, values in zip(names, pulled, strict=True):
        yield StoredGradients(ParameterBlock(name), with_an_axis(values))


def with_an_axis(gradients):
    """Gradients (n, 1) of a parameter that is a single number, instead of (n,)."""
    return gradients if gradients.ndim > 1 else gradients[:, None]


def _key_of(form):
    return key_of(form.parameter if isinstance(form, StoredGradients) else form.weight)


def _marry(by_parameter, repeated, call):
    """Join weight and bias of a linear layer that has one position for each example."""
    # Both gradients have the same left factor, so that one product with it serves for both.
    if not (call.weight and call.bias):
        return
    keys = [key_of(call.weight), key_of(call.bias)]
    if repeated & set(keys) or not by_parameter.keys() >= set(keys):
        return
    (outer,) = by_parameter[keys[0]]
    (shift,) = by_parameter[keys[1]]
    if isinstance(outer, RankOne) and shift.gradients is outer.left:
        by_parameter[keys[0]] = [RankOne(outer.weight, call.bias, outer.left, outer.right)]
        del by_parameter[keys[1]]


def _added(group):
    """The sum of several forms of the gradient of one parameter."""
    multiples = [form for form in group if isinstance(form, Multiples)]
    others = [form for form in group if not isinstance(form, Multiples)]
    form = _sum_of(others) if others else None
    for multiple in multiples:
        if form is None or isinstance(form, StoredGradients):
            scaled = _scaled(multiple)
            form = scaled if form is None else _sum_of([form, scaled])
        else:
            form = WithMultiples(form, multiple.coefficients, multiple.direction)
    return form


def _scaled(multiple):
    """The stored gradients of multiples of a direction."""
    gradients = torch.tensordot(multiple.coefficients[:, None], multiple.direction[None], 1)
    return StoredGradients(multiple.weight, with_an_axis(gradients))


def _sum_of(group):
    """The sum of several forms, none of which is a multiple of one direction."""
    if len(group) == 1:
        return group[0]
    # Gradients must be added before any square is taken.  For sums of outer products that needs no
    # gradient: the positions of all calls are concatenated.  A convolution in groups is not one
    # outer product but several, so that its gradients are stored.
    group = [_as_sums(form) if isinstance(form, RankOne) else form for form in group]
    if any(isinstance(form, StoredGradients) or _grouped(form) for form in group):
        group = [stored(form) for form in group]
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
    """A layer with one position for each example, in the form of one with many positions."""
    shape = torch.Size((form.left.shape[1], form.right.shape[1]))
    return SumOfOuters(form.weight, form.left[:, None], form.right[:, None], shape)


def _as_products(form):
    """Factors (n, T, o) and (n, T, i), whose products summed over T are the gradients."""
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
    first = left[:, 0]
    if call.bias:
        yield StoredGradients(call.bias, first if single else left.sum(1))
    if call.weight and single:
        yield RankOne(call.weight, None, first, right[:, 0])
    elif call.weight:
        yield SumOfOuters(call.weight, left, right, call.options["weight"].shape)


def _matrix(call, layout, n):
    """The gradients of a weight (i, o) that multiplies from the right, unlike that of `linear`."""
    left, right = (layout.first(array, n) for array in (call.inputs, call.output_gradient))
    left, right = left.reshape(n, -1, left.shape[-1]), right.reshape(n, -1, right.shape[-1])
    if call.bias:
        yield StoredGradients(call.bias, right.sum(1))
    if call.weight and left.shape[1] == 1:
        yield RankOne(call.weight, None, left[:, 0], right[:, 0])
    elif call.weight:
        yield SumOfOuters(call.weight, left, right, call.options["weight"].shape)


def _convolution(call, layout, n):
    if call.bias:
        yield StoredGradients(call.bias, sum_to_channels(call.output_gradient, layout, n, 1))
    if call.weight:
        yield _of_images(call, call.output_gradient, call.inputs, layout, n)


def _transposed_convolution(call, layout, n):
    """The adjoint of a convolution, so that inputs and gradients to outputs change their roles."""
    if call.bias:
        yield StoredGradients(call.bias, sum_to_channels(call.output_gradient, layout, n, 1))
    if call.weight:
        yield _of_images(call, call.inputs, call.output_gradient, layout, n)


def _of_images(call, left, right, layout, n):
    """The gradient of the weight of a convolution of `right`, with the gradient `left` to it."""
    options = {k: call.options[k] for k in ("stride", "padding", "dilation", "groups")}
    form = Convolution(call.weight, left, right, call.options["weight"].shape, options)
    # If positions share the batch axis, as the frames of a film do, one example is several images.
    if not layout.shared:
        return form
    if _grouped(form):
        return StoredGradients(call.weight, layout.first(table(form).gradients, n).sum(1))
    left, right = (layout.first(array, n).flatten(1, 2) for array in _as_products(form))
    return SumOfOuters(call.weight, left, right, form.shape)


def _embedding(call, layout, n):
    tokens, left = (layout.first(array, n) for array in (call.inputs, call.output_gradient))
    tokens, left = tokens.reshape(n, -1), left.reshape(n, -1, left.shape[-1])
    if call.options["padding"] is not None:  # torch gives the padding token no gradient
        left = left * (tokens != call.options["padding"])[..., None]
    yield EmbeddingRows(call.weight, tokens, left, call.options["weight"].shape)


_MAKE = {
    "sum": added,
    "copies": added,
    "product": product,
    "linear": _linear,
    "matrix": _matrix,
    "convolution": _convolution,
    "transposed convolution": _transposed_convolution,
    "embedding": _embedding,
    "layer norm": layer_norm,
    "rms norm": rms_norm,
    "group norm": group_norm,
    "batch norm": batch_norm,
}
