"""The functions of torch that are recorded as layers, and how their arguments are read."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def _linear(input, weight, bias=None):
    return {"inputs": input, "weight": weight, "bias": bias}


def _convolution(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """The arguments, with numbers as tuples; none if the padding differs on the two sides."""
    size = weight.ndim - 2
    stride, dilation, padding = (_per_axis(x, size) for x in (stride, dilation, padding))
    if padding == ("valid",) * size:
        padding = (0,) * size
    if padding == ("same",) * size:
        padding_sums = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if any(total % 2 for total in padding_sums):  # torch.nn.grad pads both sides alike
            return {}
        padding = tuple(total // 2 for total in padding_sums)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return {"inputs": input, "weight": weight, "bias": bias, **options}


def _per_axis(given, size):
    return (
        tuple(given) * (size // len(given)) if isinstance(given, (tuple, list)) else (given,) * size
    )


def _pair(input, other, *, alpha=1, out=None):
    """The two operands of a sum or a product; the recorder finds which is the parameter."""
    plain = alpha == 1 and out is None and torch.is_tensor(input) and torch.is_tensor(other)
    return {"inputs": input, "weight": other} if plain else {}


def _times(input, other, *, out=None):
    return {} if out is not None or other.ndim != 2 else {"inputs": input, "weight": other}


def _affine(input, mat1, mat2, *, beta=1, alpha=1, out=None):
    plain = beta == 1 and alpha == 1 and out is None and input.ndim == 1
    return {"inputs": mat1, "weight": mat2, "bias": input} if plain else {}


def _expanded(input, *_, **__):
    return {"weight": input}


def _embedding(
    input,
    weight,
    padding_idx=None,
    max_norm=None,  # noqa: ARG001 - torch's signature
    norm_type=2.0,  # noqa: ARG001
    scale_grad_by_freq=False,
    sparse=False,
):
    if sparse or scale_grad_by_freq:  # no dense gradient, or one that depends on the batch
        return {}
    if padding_idx is not None and padding_idx < 0:
        padding_idx += weight.shape[0]
    return {"inputs": input, "weight": weight, "padding": padding_idx}


def _transposed_convolution(
    input,
    weight,
    bias=None,
    stride=1,
    padding=0,
    output_padding=0,  # noqa: ARG001 - torch's signature
    groups=1,
    dilation=1,
):
    size = weight.ndim - 2
    stride, dilation, padding = (_per_axis(x, size) for x in (stride, dilation, padding))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return {"inputs": input, "weight": weight, "bias": bias, **options}


def _layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    options = {"axes": len(normalized_shape), "eps": eps}
    return {"inputs": input, "weight": weight, "bias": bias, **options}


def _rms_norm(input, normalized_shape, weight=None, eps=None):
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    return {"inputs": input, "weight": weight, "axes": len(normalized_shape), "eps": eps}


def _group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    return {"inputs": input, "weight": weight, "bias": bias, "groups": num_groups, "eps": eps}


def _batch_norm(input, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):  # noqa: ARG001 - torch's signature
    options = {"mean": mean, "var": var, "eps": eps}
    return {"inputs": input, "weight": weight, "bias": bias, **options}


CALLS: dict[Any, tuple[str, Callable]] = {
    F.linear: ("linear", _linear),
    F.conv1d: ("convolution", _convolution),
    F.conv2d: ("convolution", _convolution),
    F.conv3d: ("convolution", _convolution),
    F.conv_transpose1d: ("transposed convolution", _transposed_convolution),
    F.conv_transpose2d: ("transposed convolution", _transposed_convolution),
    F.conv_transpose3d: ("transposed convolution", _transposed_convolution),
    F.embedding: ("embedding", _embedding),
    F.layer_norm: ("layer norm", _layer_norm),
    F.rms_norm: ("rms norm", _rms_norm),
    F.group_norm: ("group norm", _group_norm),
    F.batch_norm: ("batch norm", _batch_norm),
    **dict.fromkeys((torch.add, Tensor.add), ("sum", _pair)),
    **dict.fromkeys((torch.mul, Tensor.mul), ("product", _pair)),
    **dict.fromkeys((torch.matmul, Tensor.matmul), ("matrix", _times)),
    **dict.fromkeys((torch.mm, Tensor.mm), ("matrix", _times)),
    **dict.fromkeys((torch.addmm, Tensor.addmm), ("matrix", _affine)),
    Tensor.expand: ("copies", _expanded),
}
SET_DATA = Tensor.data.__set__  # type: ignore[attr-defined]
SYMMETRIC = ("sum", "product")
LOOKED_UP = {F.embedding, Tensor.expand}  # calls that are recorded even if all in them is constant
CREATED = {torch.arange, torch.zeros, torch.ones, torch.eye, torch.linspace}
TRANSPOSED = {"linear": "matrix", "matrix": "linear"}
