"""Examples that come in batches, as from a DataLoader."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from sgdnoise.nets._examples import Examples, check_examples
from sgdnoise.nets._network import device_of

FEW = 8  # examples that a first look needs
LABELS = "labels"  # the name of the targets in a dictionary


@dataclass(frozen=True, eq=False)
class Batches:
    """Batches of examples on the device of a network, the same each time."""

    batches: Iterable
    device: Any

    @classmethod
    def of(cls, batches, net) -> "Batches":
        """Raises ValueError for what cannot be gone through twice."""
        if not isinstance(batches, Iterable) or isinstance(batches, str):
            kind = type(batches).__name__
            raise ValueError(f"inputs are tensors, or an iterable of batches, not {kind}")
        if isinstance(batches, Iterator):
            raise ValueError("the batches can be gone through once only; pass a list or DataLoader")
        return cls(batches, device_of(net))

    def __iter__(self) -> Iterator[Examples]:
        count = 0
        for number, batch in enumerate(self.batches):
            examples = _examples_of(batch).mapped(lambda tensor: tensor.to(self.device))
            if number >= len(self._sums) or _sums(examples) != self._sums[number]:
                raise ValueError(
                    f"batch {number} is another one than before; the batches must be the same each "
                    "time, without shuffling and random augmentation"
                )
            count += 1
            yield examples
        if count < len(self._sums):
            raise ValueError(f"there are {count} batches, and there were {len(self._sums)} before")

    @cached_property
    def first(self) -> Examples:
        """The first batch, or several if it is small and they can be joined."""
        batches = iter(self)
        parts = [next(batches)]
        for part in batches:
            if sum(map(len, parts)) >= FEW or not _alike(parts[0], part):
                break
            parts.append(part)
        return joined(parts)

    @cached_property
    def n(self) -> int:
        """The number of examples in all batches."""
        return sum(n for n, _ in self._sums)

    @cached_property
    def _sums(self) -> list:
        """The number of examples of each batch, and the sums of its tensors."""
        sums = [_sums(_examples_of(batch)) for batch in self.batches]
        if not sums:
            raise ValueError("there are no batches of examples")
        return sums


def joined(parts: list[Examples]) -> Examples:
    """The examples of several batches; raises ValueError if they cannot be joined."""
    first = parts[0]
    for number, part in enumerate(parts):
        if not _alike(first, part):
            raise ValueError(
                f"batch {number} differs from the first in its names, constants or widths, so that "
                "they cannot be joined"
            )
    tensors = [part.ordered_as(first).tensors() for part in parts]
    return first.with_tensors([torch.cat(pieces) for pieces in zip(*tensors, strict=True)])


def _alike(first, second):
    """Whether two batches have the same names, constants, and shapes of an example."""
    second = second.ordered_as(first)
    shapes = ([(t.shape[1:], t.dtype) for t in part.tensors()] for part in (first, second))
    return first.skeleton() == second.skeleton() and len({*map(str, shapes)}) == 1


def _examples_of(batch) -> Examples:
    """A batch (inputs, targets), (input, ..., targets), or a dictionary with its labels."""
    if isinstance(batch, Mapping):
        if LABELS not in batch:
            raise ValueError(f"a batch that is a dictionary has its targets as {LABELS!r}")
        named = {name: value for name, value in batch.items() if name != LABELS}
        examples = Examples.of(named, batch[LABELS])
    elif isinstance(batch, (tuple, list)) and len(batch) > 1:
        *inputs, targets = batch
        examples = Examples.of(inputs[0] if len(inputs) == 1 else tuple(inputs), targets)
    else:
        raise ValueError(
            f"a batch is (inputs, targets), or a dictionary with labels, not {type(batch).__name__}"
        )
    check_examples(examples, examples.tensors()[0].device, smallest=1)
    return examples


def _sums(examples):
    """What tells whether a batch is the same as before, without a copy of it."""
    tensors = [tensor.detach().to("cpu", torch.float64) for tensor in examples.tensors()]
    return len(examples), [_weighted_sum(tensor.flatten()) for tensor in tensors]


def _weighted_sum(numbers):
    """A sum that the order of the numbers changes."""
    weights = torch.linspace(1, 2, len(numbers), dtype=torch.float64)
    return float((weights * numbers.nan_to_num()).sum())
