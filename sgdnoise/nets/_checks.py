"""Checks of a network, its losses and its examples; each raises ValueError."""

from collections.abc import Callable, Iterable, Mapping
from numbers import Integral

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from sgdnoise.nets._examples import leaves

LONGEST = 90  # characters of a message of torch that are told
REFUSALS = (  # what networks and losses raise for inputs that they do not take
    *(RuntimeError, IndexError, TypeError, AssertionError, AttributeError, KeyError),
    *(NotImplementedError, ZeroDivisionError),
)
NAMED = 3  # names in a message; the others are counted


def listed(names: Iterable[str]) -> str:
    """Names for a message: the first few, and the number of the others."""
    names = list(names)
    n_more = len(names) - NAMED
    return ", ".join(names) if n_more < 2 else f"{', '.join(names[:NAMED])} and {n_more} more"


def check_tensors(net, tensors: dict):
    """Check that there are parameters, all in float32 or all in float64, on one device."""
    if not tensors:
        raise ValueError(f"{type(net).__name__} has no parameters to train")
    first = next(iter(tensors))
    for name, tensor in tensors.items():
        if tensor.is_complex():
            raise ValueError(f"{name} is {tensor.dtype}, and gradient noise is of real parameters")
        if tensor.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"{name} is {tensor.dtype}, too coarse for covariances; use float32")
        for kind in ("dtype", "device"):
            expected, actual = getattr(tensors[first], kind), getattr(tensor, kind)
            if expected != actual:
                raise ValueError(
                    f"{first} is in {expected} and {name} in {actual}; move all to one"
                )


def described(value) -> str:
    """The shape and type of a tensor, or of the tensors in a container, for a message."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        tensors = [part for part in leaves(value) if torch.is_tensor(part)]
        return " and ".join(described(tensor) for tensor in tensors[:NAMED]) or "without tensors"
    if not torch.is_tensor(value):
        return f"of type {type(value).__name__}"
    return f"{tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}{_largest(value)}"


def _largest(tensor):
    """The largest of some whole numbers, such as classes."""
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype is torch.bool:
        return ""
    # The numbers cannot be read in a transform of torch.func, nor where there are none.
    readable = tensor.numel() and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    return f" up to {int(tensor.max())}" if readable else ""


class refused_as:
    """A context that turns errors of torch into a ValueError with one sentence.

    what: makes the beginning of the sentence, only when it is needed.
    """

    def __init__(self, what: Callable[[], str]):
        self.what = what

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if not isinstance(error, REFUSALS) or isinstance(error, torch.OutOfMemoryError):
            return
        if isinstance(error, ValueError):
            return
        # In a transform the network may fail although it takes the inputs.
        if torch._C._functorch.maybe_current_level() is not None:
            return
        reason = str(error).strip().split("\n")[0].split(". ")[0].rstrip(".")[:LONGEST]
        raise ValueError(f"{self.what()}: {reason}") from error


def check_block(block):
    """Check that a block is None or a whole number of examples."""
    if block is not None and (type(block) is bool or not isinstance(block, Integral)):
        raise ValueError(f"a block is a whole number of examples, not {block!r}")
    if block is not None and block < 1:
        raise ValueError(f"a block holds at least one example, not {block}")


def check_finite_inputs(examples: torch.Tensor) -> None:
    """Raises ValueError where some of the examples (n, ...) are not finite."""
    bad = ~examples.isfinite().reshape(len(examples), -1).all(1)
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        raise ValueError(
            f"{int(bad.sum())} of {len(examples)} examples are not finite, first number {first}"
        )


def _called(name, module):
    kind = type(module).__name__
    return f"{name} ({kind})" if name else kind


def why_mixed(net) -> str:
    """The modules that mix the examples of a batch, for a message; empty if none is known."""
    for name, module in net.named_modules():
        if isinstance(module, _BatchNorm):
            if module.running_mean is None and module.running_var is None:
                return f": {_called(name, module)} has no running statistics"
            if module.training:
                return f": {_called(name, module)} is in training; call net.eval() first"
    return ""


def why_random(net) -> str:
    """The modules that draw random numbers, for a message."""
    for name, module in net.named_modules():
        if isinstance(module, _DropoutNd) and module.training and module.p:
            return f": {_called(name, module)} is in training; call net.eval() first"
    return ", as dropout does; call net.eval()"


def check_shape(losses, n: int):
    """Check that the losses are one number for each example."""
    if losses.shape != (n,):
        raise ValueError(
            f"the losses must be one number for each example, ({n},), not {tuple(losses.shape)}; "
            'with torch losses use reduction="none"'
        )


def check_losses(losses, n: int, numbers=None):
    """Check that the losses are one finite number for each example, with these numbers."""
    check_shape(losses, n)
    if not bool(losses.isfinite().all()):
        first = int((~losses.isfinite()).nonzero()[0])
        number = first if numbers is None else int(numbers[first])
        raise ValueError(f"the loss of example {number} is not finite")


def check_finite(form, numbers):
    """Check that the gradients of one form, of examples with these numbers, are finite."""
    tensors = [
        tensor
        for tensor in vars(getattr(form, "form", form)).values()
        if torch.is_tensor(tensor) and tensor.is_floating_point()
    ]
    if all(bool(tensor.sum().isfinite()) for tensor in tensors):
        return
    squares = form.squares()
    if not bool(squares.isfinite().all()):
        number = int(numbers[int((~squares.isfinite()).nonzero()[0])])
        names = " and ".join(sorted(form.names()))
        raise ValueError(f"the gradient of example {number} in {names} is not finite")


def check_layers(modules: dict, names) -> list[str] | None:
    """The names as a list; raises ValueError for one that no module has.  None stays None."""
    if names is None:
        return None
    names = [names] if isinstance(names, str) else list(names)
    if unknown := [name for name in names if name not in modules]:
        there = listed(name for name in modules if name)
        raise ValueError(f"no layer is called {unknown[0]!r}; there are {there}")
    return names
