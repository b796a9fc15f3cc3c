"""The examples of a network: tensors with one leading axis, alone, in tuples or in dictionaries."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

CONSTANTS = (type(None), bool, int, float, str)  # what may stand beside tensors


@dataclass(frozen=True)
class Examples:
    """What a network and its losses are given: losses(net(*args, **named), targets)."""

    args: tuple
    named: dict
    targets: Any

    @classmethod
    def of(cls, inputs, targets) -> "Examples":
        """The examples of a user: inputs are a tensor, a tuple of them, or a dictionary.

        The dictionary has the names of the arguments of the network.
        """
        if isinstance(inputs, Mapping):
            return cls((), dict(inputs), targets)
        return cls(inputs if isinstance(inputs, tuple) else (inputs,), {}, targets)

    def __len__(self):
        return len(self.tensors()[0])

    def inputs(self) -> list:
        """The tensors among the inputs."""
        return leaves((self.args, self.named))

    def tensors(self) -> list:
        """All tensors, inputs first."""
        return leaves((self.args, self.named, self.targets))

    def mapped(self, function: Callable) -> "Examples":
        """The same examples with a function applied to each tensor."""
        return Examples(*(_mapped(function, p) for p in (self.args, self.named, self.targets)))

    def at(self, index) -> "Examples":
        """Some of the examples."""
        return self.mapped(lambda tensor: tensor[index])

    def skeleton(self) -> "Examples":
        """The same structure, with its names and constants, without tensors."""
        return self.mapped(lambda _: None)

    def ordered_as(self, other: "Examples") -> "Examples":
        """The same examples with names in the order of another; as they are if names differ."""
        return Examples(
            *(
                _ordered(part, like)
                for part, like in zip(
                    (self.args, self.named, self.targets),
                    (other.args, other.named, other.targets),
                    strict=True,
                )
            )
        )

    def with_tensors(self, tensors) -> "Examples":
        """The same structure with other tensors, in the order of `tensors()`."""
        remaining = iter(tensors)
        return self.mapped(lambda _: next(remaining))


def leaves(tree) -> list:
    """All that is neither a container nor a constant, in order."""
    if isinstance(tree, Mapping):
        tree = tuple(tree.values())
    if isinstance(tree, (tuple, list)):
        return [leaf for part in tree for leaf in leaves(part)]
    return [] if isinstance(tree, CONSTANTS) else [tree]


def _mapped(function, tree):
    """The same structure with a function applied to each of its leaves."""
    if isinstance(tree, Mapping):
        return {name: _mapped(function, part) for name, part in tree.items()}
    if isinstance(tree, (tuple, list)):
        parts = [_mapped(function, part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree if isinstance(tree, CONSTANTS) else function(tree)


def _ordered(tree, like):
    """A dictionary with its names in the order of another of the same names."""
    if not isinstance(tree, Mapping) or not isinstance(like, Mapping) or set(tree) != set(like):
        return tree
    return {name: _ordered(tree[name], like[name]) for name in like}


def check_examples(examples: Examples, device, smallest: int = 2) -> None:
    """Check that there are `smallest` examples or more, in tensors on the device of the network.

    Raises ValueError.
    """
    for part in (*examples.args, examples.targets):
        if not isinstance(part, (torch.Tensor, tuple, Mapping)):
            raise _not_tensors(type(part).__name__)
    tensors = examples.tensors()
    for tensor in tensors:
        if not torch.is_tensor(tensor) or not tensor.ndim:
            raise _not_tensors("a number" if torch.is_tensor(tensor) else type(tensor).__name__)
        if tensor.layout is not torch.strided or tensor.is_nested:
            raise ValueError("inputs and targets must be dense tensors; call to_dense() first")
        if tensor.device != device:
            raise ValueError(
                f"the network is on {device}, and some of the examples on {tensor.device}"
            )
    if not examples.inputs() or len(tensors) == len(examples.inputs()):
        raise _not_tensors("an empty container")
    lengths = {len(tensor) for tensor in tensors}
    if len(lengths) > 1:
        raise ValueError(f"inputs and targets differ in length: {sorted(lengths)}")
    if min(lengths) < smallest:
        needed = f"{smallest} example{'s' * (smallest > 1)}"
        raise ValueError(f"this needs at least {needed}, not {min(lengths)}")


def _not_tensors(kind):
    return ValueError(
        "inputs and targets are tensors, or tuples or dictionaries of them, examples first, not "
        f"{kind}"
    )
