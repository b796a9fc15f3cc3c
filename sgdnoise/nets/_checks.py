"""What is refused of a network, its losses and its examples, and how it is said."""

from collections.abc import Iterable
from contextlib import contextmanager

import torch

NAMED = 3  # names in a message; of more, how many there are


def listed(names: Iterable[str]) -> str:
    """Some names for a message, no more than a reader reads."""
    names = list(names)
    rest = len(names) - NAMED
    return ", ".join(names) if rest < 2 else f"{', '.join(names[:NAMED])} and {rest} more"


def check_tensors(net, tensors: dict):
    """Parameters to train are there, and all of one type, not a half one, and on one device."""
    if not tensors:
        raise ValueError(f"{type(net).__name__} has no parameters to train")
    first = next(iter(tensors))
    for name, tensor in tensors.items():
        if tensor.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"{name} is {tensor.dtype}, too coarse for covariances; use float32")
        for kind in ("dtype", "device"):
            one, other = getattr(tensors[first], kind), getattr(tensor, kind)
            if one != other:
                raise ValueError(f"{first} is in {one} and {name} in {other}; have all in one")


def check_fit(net, loss, inputs, targets, device):
    """Examples are whole and finite, and two of them pass through network and loss."""
    check_examples((inputs,), targets, device, least=1)
    for part in (inputs, targets):
        check_finite_inputs(part)
    other = int(targets.double().argmax()) if targets.ndim == 1 else -1  # of the highest class
    x, y = inputs[[0, other]], targets[[0, other]]
    cuda = [device] if device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(cuda):
        with _said(f"{type(net).__name__} does not take inputs {_told(x)}"):
            outputs = net(x)
        with _said(f"the loss does not take outputs {_told(outputs)} and targets {_told(y)}"):
            each = loss(outputs, y)
    check_shape(each, len(x))


def _told(part) -> str:
    """The shape and type of a tensor, for a message."""
    if not torch.is_tensor(part):
        return f"of type {type(part).__name__}"
    reach = "" if part.is_floating_point() else f" up to {part.max()}"
    return f"{tuple(part.shape)} of {str(part.dtype).removeprefix('torch.')}{reach}"


@contextmanager
def _said(what: str):
    """What torch refuses is refused by a sentence that says of what."""
    try:
        yield
    except (RuntimeError, IndexError, TypeError) as refused:
        raise ValueError(what) from refused


def check_finite_inputs(part: torch.Tensor) -> None:
    """Raises ValueError where some of the examples (n, ...) are not finite."""
    bad = ~part.isfinite().reshape(len(part), -1).all(1)
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        raise ValueError(
            f"{int(bad.sum())} of {len(part)} examples are not finite, first number {first}"
        )


def check_examples(inputs: tuple, targets, device, least: int = 2):
    """At least so many, all in tensors on the device of the network."""
    for part in (*inputs, targets):
        if not torch.is_tensor(part) or not part.ndim:
            raise ValueError(
                "inputs and targets are tensors, or inputs a tuple of them, examples first, not "
                f"{'a number' if torch.is_tensor(part) else type(part).__name__}"
            )
        if part.device != device:
            raise ValueError(
                f"the network is on {device}, and some of the examples on {part.device}"
            )
    lengths = {part.shape[0] for part in (*inputs, targets)}
    if len(lengths) > 1:
        raise ValueError(f"inputs and targets differ in length: {sorted(lengths)}")
    if min(lengths) < least:
        some = f"{least} example{'s' * (least > 1)}"
        raise ValueError(f"this needs at least {some}, not {min(lengths)}")


def check_mode(net):
    """Nothing in it is random, or mixes examples, by being in training."""
    for name, module in net.named_modules():
        kind = type(module).__name__
        if "Dropout" in kind and module.training and module.p:
            raise ValueError(f"{name} ({kind}) is random in training; call net.eval() first")
        if "BatchNorm" in kind and (module.training or module.running_mean is None):
            raise ValueError(f"{name} ({kind}) mixes examples in training; call net.eval() first")


def check_shape(each, n: int):
    """One number an example."""
    if each.shape != (n,):
        raise ValueError(
            f"the losses must be one number an example, ({n},), not {tuple(each.shape)}; "
            'with torch losses use reduction="none"'
        )


def check_losses(each, n: int, start: int = 0):
    """One number an example, and a finite one."""
    check_shape(each, n)
    if not bool(each.isfinite().all()):
        first = start + int((~each.isfinite()).nonzero()[0])
        raise ValueError(f"the loss of example {first} is not finite")


def check_finite(part, start: int):
    """The gradients of one part, of examples from `start` on, are finite."""
    held = [
        each for each in vars(part).values() if torch.is_tensor(each) and each.is_floating_point()
    ]
    if all(bool(each.sum().isfinite()) for each in held):
        return
    squares = part.squares()
    if not bool(squares.isfinite().all()):
        first = start + int((~squares.isfinite()).nonzero()[0])
        names = " and ".join(sorted(part.names()))
        raise ValueError(f"the gradient of example {first} in {names} is not finite")
