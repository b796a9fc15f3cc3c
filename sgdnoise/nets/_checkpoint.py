"""Checkpoints: the parameters and buffers of a network, read from a file without running code."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from sgdnoise.nets._checks import listed
from sgdnoise.nets._network import unwrapped

COUNTER = "num_batches_tracked"  # of batch norm, which no forward pass in eval reads
PREFIX = "module."  # of networks that were saved within DataParallel

Net = TypeVar("Net", bound=nn.Module)


def load(file: str | os.PathLike, net: Net) -> Net:
    """Copy the parameters and buffers of a checkpoint into a network, which is returned.

    file: what torch.save wrote of a state dict, or of a dict with one as "state_dict".  It is read
    with weights_only=True, so that no code of the file runs.  The prefix "module." of names is
    removed.  Counters of batches, which batch norm reads only in training without a momentum, may
    be missing on either side.  Devices and floating types remain those of the network.
    Raises ValueError if the file is missing, cut short or no checkpoint, and for names that are
    missing, that the network does not have, or whose tensors have other shapes; the network is then
    as before.

    Example:
        >>> import tempfile
        >>> from sgdnoise.nets.models import mlp
        >>> first, second = mlp([3, 2], seed=0), mlp([3, 2], seed=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(first.state_dict(), f"{folder}/first.pt")
        ...     net = load(f"{folder}/first.pt", second)
        >>> net is second, torch.equal(first[1].weight, second[1].weight)
        (True, True)
    """
    path, inner = Path(file), unwrapped(net)
    tensors = _tensors(path)
    own = inner.state_dict()
    expected = {name: value for name, value in own.items() if torch.is_tensor(value)}
    _check_names(path.name, tensors, expected)
    _check_values(path.name, tensors, expected)
    inner.load_state_dict(own | {name: tensors[name] for name in tensors if name in own})
    return net


def _tensors(path):
    """The tensors of a checkpoint by name, without a common prefix."""
    stored = _stored(path)
    if isinstance(stored, Mapping) and isinstance(stored.get("state_dict"), Mapping):
        stored = stored["state_dict"]
    if not isinstance(stored, Mapping) or not stored:
        kind = f"an empty {type(stored).__name__}" if stored == {} else type(stored).__name__
        raise ValueError(f"{path.name} holds no state dict but {kind}")
    for name, value in stored.items():
        if not torch.is_tensor(value):
            raise ValueError(
                f"{path.name} holds no state dict: its {name!r} is of type {type(value).__name__} "
                "and not a tensor"
            )
    return {str(name).removeprefix(PREFIX): value for name, value in stored.items()}


def _stored(path):
    if not path.is_file():
        raise ValueError(f"there is no file {path.name} in the folder {path.parent.name or '.'}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises errors of many kinds for files of other kinds
        raise ValueError(
            f"{path.name} is cut short or no checkpoint: torch.load with weights_only=True, which "
            "reads tensors alone, refuses it"
        ) from None


def _check_names(file, tensors, expected):
    missing = [name for name in expected if name not in tensors and not _counts(name)]
    extra = [name for name in tensors if name not in expected and not _counts(name)]
    if missing:
        more = f", and holds {listed(extra)}, which the network does not have" if extra else ""
        raise ValueError(f"{file} has no {listed(missing)}{more}")
    if extra:
        raise ValueError(f"{file} holds {listed(extra)}, which the network does not have")


def _check_values(file, tensors, expected):
    for name, tensor in tensors.items():
        own = expected.get(name, tensor)
        if tensor.shape != own.shape:
            raise ValueError(
                f"{name} is {tuple(tensor.shape)} in {file} and {tuple(own.shape)} in the network"
            )
        if tensor.is_complex() != own.is_complex():
            raise ValueError(f"{name} is {tensor.dtype} in {file} and {own.dtype} in the network")


def _counts(name):
    return name.rpartition(".")[2] == COUNTER
