"""Checks of a network, its losses and its examples; each raises ValueError."""

from collections.abc import Iterable
from contextlib import contextmanager

import torch

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
        if tensor.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"{name} is {tensor.dtype}, too coarse for covariances; use float32")
        for kind in ("dtype", "device"):
            expected, actual = getattr(tensors[first], kind), getattr(tensor, kind)
            if expected != actual:
                raise ValueError(
                    f"{first} is in {expected} and {name} in {actual}; move all to one"
                )


def check_fit(net, loss, inputs, targets, device):
    """Check that examples are finite, and that network and loss accept two of them."""
    check_examples((inputs,), targets, device, smallest=1)
    for array in (inputs, targets):
        check_finite_inputs(array)
    second = int(targets.double().argmax()) if targets.ndim == 1 else -1  # of the highest class
    x, y = inputs[[0, second]], targets[[0, second]]
    cuda = [device] if device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(cuda):
        with _refused_as(f"{type(net).__name__} does not take inputs {_described(x)}"):
            outputs = net(x)
        with _refused_as(
            f"the loss does not take outputs {_described(outputs)} and targets {_described(y)}"
        ):
            losses = loss(outputs, y)
    check_shape(losses, len(x))


def _described(value) -> str:
    """The shape and type of a tensor, for a message."""
    if not torch.is_tensor(value):
        return f"of type {type(value).__name__}"
    largest = "" if value.is_floating_point() else f" up to {value.max()}"
    return f"{tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}{largest}"


@contextmanager
def _refused_as(what: str):
    """A context that turns errors of torch into a ValueError with one sentence."""
    try:
        yield
    except (RuntimeError, IndexError, TypeError) as refused:
        raise ValueError(what) from refused


def check_finite_inputs(examples: torch.Tensor) -> None:
    """Raises ValueError where some of the examples (n, ...) are not finite."""
    bad = ~examples.isfinite().reshape(len(examples), -1).all(1)
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        raise ValueError(
            f"{int(bad.sum())} of {len(examples)} examples are not finite, first number {first}"
        )


def check_examples(inputs: tuple, targets, device, smallest: int = 2):
    """Check that there are `smallest` examples or more, in tensors on the device of the network."""
    for array in (*inputs, targets):
        if not torch.is_tensor(array) or not array.ndim:
            raise ValueError(
                "inputs and targets are tensors, or inputs a tuple of them, examples first, not "
                f"{'a number' if torch.is_tensor(array) else type(array).__name__}"
            )
        if array.device != device:
            raise ValueError(
                f"the network is on {device}, and some of the examples on {array.device}"
            )
    lengths = {array.shape[0] for array in (*inputs, targets)}
    if len(lengths) > 1:
        raise ValueError(f"inputs and targets differ in length: {sorted(lengths)}")
    if min(lengths) < smallest:
        needed = f"{smallest} example{'s' * (smallest > 1)}"
        raise ValueError(f"this needs at least {needed}, not {min(lengths)}")


def check_mode(net):
    """Check that no module is random or mixes examples because it is in training mode."""
    for name, module in net.named_modules():
        kind = type(module).__name__
        if "Dropout" in kind and module.training and module.p:
            raise ValueError(f"{name} ({kind}) is random in training; call net.eval() first")
        if "BatchNorm" in kind and (module.training or module.running_mean is None):
            raise ValueError(f"{name} ({kind}) mixes examples in training; call net.eval() first")


def check_shape(losses, n: int):
    """Check that the losses are one number for each example."""
    if losses.shape != (n,):
        raise ValueError(
            f"the losses must be one number for each example, ({n},), not {tuple(losses.shape)}; "
            'with torch losses use reduction="none"'
        )


def check_losses(losses, n: int, start: int = 0):
    """Check that the losses are one finite number for each example."""
    check_shape(losses, n)
    if not bool(losses.isfinite().all()):
        first = start + int((~losses.isfinite()).nonzero()[0])
        raise ValueError(f"the loss of example {first} is not finite")


def check_finite(form, start: int):
    """Check that the gradients of one form, of examples from `start` on, are finite."""
    tensors = [
        tensor
        for tensor in vars(form).values()
        if torch.is_tensor(tensor) and tensor.is_floating_point()
    ]
    if all(bool(tensor.sum().isfinite()) for tensor in tensors):
        return
    squares = form.squares()
    if not bool(squares.isfinite().all()):
        first = start + int((~squares.isfinite()).nonzero()[0])
        names = " and ".join(sorted(form.names()))
        raise ValueError(f"the gradient of example {first} in {names} is not finite")
