"""Examples on the device of a network."""

from collections.abc import Mapping

import torch


def moved(examples, device):
    """Tensors, and tuples and mappings of them, on a device; the rest as it is."""
    if isinstance(examples, torch.Tensor):
        return examples.to(device)
    if isinstance(examples, Mapping):
        return {name: moved(tensor, device) for name, tensor in examples.items()}
    if isinstance(examples, tuple):
        return tuple(moved(tensor, device) for tensor in examples)
    return examples
