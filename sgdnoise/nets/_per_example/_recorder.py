"""One pass over a network that records what the gradient of each example is made of."""

from collections.abc import Callable
from contextlib import contextmanager
from types import FunctionType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import get_gradient_edge
from torch.overrides import TorchFunctionMode

from sgdnoise.nets._per_example._layers import ParameterBlock


class LayerCall(NamedTuple):
    """One call of a layer: what kind, its parameters, what went in, what came back.

    seen: the input; edge: where the gradient to the output arrives, and later that gradient.
    options: what else the call was given.  order: the how many-th call it was.
    """

    kind: str
    weight: ParameterBlock | None
    bias: ParameterBlock | None
    inputs: Any
    output_gradient: Any
    options: dict
    order: int


class RandomState(NamedTuple):
    """What a network is besides its parameters: its buffers, and which modules are in training."""

    buffers: dict
    training: dict

    @classmethod
    def of(cls, net) -> "RandomState":
        buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
        return cls(buffers, {module: module.training for module in net.modules()})

    @contextmanager
    def again(self):
        """Buffers to work with, while the modules are in training or not as they were."""
        now = {module: module.training for module in self.training}
        try:
            _set(self.training)
            yield {name: buffer.clone() for name, buffer in self.buffers.items()}
        finally:
            _set(now)


def record(
    losses: Callable[[dict], Any], tensors: dict, n: int, repeated: frozenset = frozenset()
) -> tuple[Any, list[LayerCall]]:
    """The losses (n,), and each use of a parameter with the gradient to its output.

    losses: parameters by name -> (n,); tensors: name -> parameter.  Gradients are those of the sum
    of losses; a use on which it does not depend is left out.
    spread: those calls, by their order, whose output is the same for all examples and is handed on
    as one for each of them, so that their gradients stay apart.
    """
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}
    with torch.enable_grad(), _Recorder(leaves, repeated, n) as tape:
        values = losses(leaves)
        total = values.sum()
    if not tape.calls or not values.requires_grad:
        return values.detach(), []
    edges = [call.output_gradient for call in tape.calls]
    gradients = torch.autograd.grad(total, edges, allow_unused=True)
    pairs = zip(tape.calls, gradients, strict=True)
    return values.detach(), [
        call._replace(output_gradient=gradient) for call, gradient in pairs if gradient is not None
    ]


class _Recorder(TorchFunctionMode):
    """Watches the calls by which layers use their parameters."""

    def __init__(self, leaves, repeated, n):
        super().__init__()
        self.names = {id(leaf): name for name, leaf in leaves.items()}
        self.repeated, self.n = repeated, n
        self.calls: list[LayerCall] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            with self:
                return _attention(*args, **kwargs)
        out = func(*args, **kwargs)
        if func in _CALLS and out.grad_fn is not None:
            kind, bound = _CALLS[func]
            return self._record(kind, out, **bound(*args, **kwargs))
        return out

    def _record(self, kind, out, inputs=None, weight=None, bias=None, **options):
        """The output, the call being noted if it is one of a parameter."""
        if kind in ("sum", "product") and not self._place(weight):
            inputs, weight = weight, inputs
        if kind in ("sum", "product") and inputs is not None:
            inputs = inputs.expand_as(out)
        if kind in _TRANSPOSED and self._transposed(weight):
            kind, weight = _TRANSPOSED[kind], weight._base
        parameter, bias_place = self._place(weight), self._place(bias)
        if not (parameter or bias_place):
            return out
        order = len(self.calls)
        if order in self.repeated:
            out, inputs = (
                array.expand(self.n, *_without_example_axis(array).shape) for array in (out, inputs)
            )
        options["weight"] = None if weight is None else weight.detach()
        inputs = (out if inputs is None else inputs).detach()
        output_gradient = get_gradient_edge(out)
        self.calls.append(
            LayerCall(kind, parameter, bias_place, inputs, output_gradient, options, order)
        )
        return out

    def _place(self, tensor) -> ParameterBlock | None:
        """Which parameter this is, or some rows of it."""
        if tensor is None or id(tensor) in self.names:
            return None if tensor is None else ParameterBlock(self.names[id(tensor)])
        base = tensor._base
        if base is None or id(base) not in self.names or not tensor.ndim:
            return None
        if tensor.shape[1:] != base.shape[1:] or tensor.stride() != base.stride():
            return None
        start = tensor.storage_offset() // base.stride(0)
        return ParameterBlock(self.names[id(base)], slice(start, start + tensor.shape[0]))

    def _transposed(self, tensor) -> bool:
        """Whether this is a parameter transposed."""
        base = None if tensor is None else tensor._base
        if base is None or id(base) not in self.names or tensor.shape != base.shape[::-1]:
            return False
        return base.ndim == 2 and tensor.stride() == base.stride()[::-1]


def _set(training):
    for module, mode in training.items():
        module.training = mode


def _without_example_axis(array):
    """What is the same for all examples, without an axis of length 1 for them."""
    return array[0] if array.shape[0] == 1 else array


def _linear(input, weight, bias=None):
    return {"inputs": input, "weight": weight, "bias": bias}


def _convolution(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Numbers as tuples, and padding in numbers; none of it where that cannot be."""
    size = weight.ndim - 2
    stride, dilation, padding = (_per_axis(x, size) for x in (stride, dilation, padding))
    if padding == ("valid",) * size:
        padding = (0,) * size
    if padding == ("same",) * size:
        padding_sums = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if any(total % 2 for total in padding_sums):
            return {}
        padding = tuple(total // 2 for total in padding_sums)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return {"inputs": input, "weight": weight, "bias": bias, **options}


def _per_axis(given, size):
    return (
        tuple(given) * (size // len(given)) if isinstance(given, (tuple, list)) else (given,) * size
    )


def _pair(input, other, *, alpha=1, out=None):
    """Of two that are added or multiplied; which of them is a parameter is seen later."""
    plain = alpha == 1 and out is None and torch.is_tensor(input) and torch.is_tensor(other)
    return {"inputs": input, "weight": other} if plain else {}


def _times(input, other, *, out=None):
    return {} if out is not None or other.ndim != 2 else {"inputs": input, "weight": other}


def _expanded(input, *_, **__):
    return {"weight": input}


def _embedding(input, weight, padding_idx=None, *_, **__):
    return {"inputs": input, "weight": weight, "padding": padding_idx}


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


_CALLS: dict[Any, tuple[str, Callable]] = {
    F.linear: ("linear", _linear),
    F.conv1d: ("convolution", _convolution),
    F.conv2d: ("convolution", _convolution),
    F.embedding: ("embedding", _embedding),
    F.layer_norm: ("layer norm", _layer_norm),
    F.rms_norm: ("rms norm", _rms_norm),
    F.group_norm: ("group norm", _group_norm),
    F.batch_norm: ("batch norm", _batch_norm),
    **dict.fromkeys((torch.add, Tensor.add), ("sum", _pair)),
    **dict.fromkeys((torch.mul, Tensor.mul), ("product", _pair)),
    **dict.fromkeys((torch.matmul, Tensor.matmul), ("matrix", _times)),
    Tensor.expand: ("copies", _expanded),
}
_TRANSPOSED = {"linear": "matrix", "matrix": "linear"}


def _unchecked(function):
    """The same function, which does not ask who else wants to be called in its place."""
    globals_ = {**function.__globals__, "has_torch_function": lambda *_: False}
    return FunctionType(
        function.__code__, globals_, None, function.__defaults__, function.__closure__
    )


_attention = _unchecked(F.multi_head_attention_forward)
