"""A stand-in for a GPU: tensors that compute on the CPU but are not on it.

Their device is "meta", which torch has on every machine.  As on a GPU, an operation on tensors of
two devices is an error, unless one of them is a number, and numpy cannot read them.  Every transfer
to the host is counted: `float()`, `bool()`, `item()`, `tolist()`, `.cpu()` and `numpy(force=True)`.
"""

import contextlib
from collections import Counter
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
COPIES = {"aten::_to_copy", "aten::copy_", "aten::to"}  # operations between devices
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_"}  # indices may be on the CPU
READS = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal"}
MAKERS = {torch.asarray, torch.tensor, torch.as_tensor, torch.from_numpy}


class OnDevice(torch.Tensor):
    """A tensor on the stand-in device; `held` are its numbers."""

    @staticmethod
    def __new__(cls, held):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
            dispatch_device=True,
            requires_grad=held.requires_grad,
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self):
        return f"OnDevice({self.held})"

    def tolist(self):
        TRANSFERS["tolist"] += 1
        return self.held.tolist()

    def numpy(self, force=False):
        if not force:
            raise TypeError("numpy cannot read a tensor on a device; use Tensor.cpu() first")
        TRANSFERS["numpy"] += 1
        return self.held.detach().numpy()

    def __array__(self, *_, **__):
        return self.numpy()

    def __dlpack__(self, *_, **__):
        raise BufferError("a tensor on a device is not exported")

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


TRANSFERS: Counter = Counter()  # kind -> number since `stand_in` began


@contextlib.contextmanager
def stand_in():
    """A context in which the device exists; yields the counter of transfers to the host."""
    TRANSFERS.clear()
    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.object(torch, "autocast", _without_meta(torch.autocast)))
        enabled = _without_meta(torch.is_autocast_enabled, bool)
        stack.enter_context(patch.object(torch, "is_autocast_enabled", enabled))
        stack.enter_context(_Making())
        stack.enter_context(_Dispatch())
        yield TRANSFERS


def _without_meta(function, otherwise=contextlib.nullcontext):
    """A function of a kind of device that torch knows for real devices alone."""

    def wrapped(kind="cuda", *args, **kwargs):
        return otherwise() if kind == DEVICE.type else function(kind, *args, **kwargs)

    return wrapped


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Making(TorchFunctionMode):
    """Functions that make tensors of other objects make them on the CPU, and then move them."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        device = kwargs.get("device")
        there = args and isinstance(args[0], OnDevice)
        if func in MAKERS and device is not None and _is_ours(device) and not there:
            return func(*args, **{k: v for k, v in kwargs.items() if k != "device"}).to(DEVICE)
        return func(*args, **kwargs)


def _is_ours(device):
    return torch.device(device).type == DEVICE.type


def _run(func, args, kwargs):
    """Run an operation on the CPU; its results are where torch would put them."""
    if func is torch.ops.prim.device.default:
        return DEVICE
    name = func.name().partition(".")[0]
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
    _check_devices(name, ours, [t for t in tensors if not isinstance(t, OnDevice) and t.dim()])
    device, result_is_ours = kwargs.get("device"), bool(ours)
    if device is not None:
        result_is_ours = _is_ours(device)
        kwargs = kwargs | {"device": torch.device("cpu")}
    if name == "aten::copy_":
        result_is_ours = isinstance(args[0], OnDevice)
    _count(name, ours, result_is_ours)
    result = func(*tree_map(_held, args), **tree_map(_held, kwargs))
    in_place = name.endswith("_") and not name.endswith("__") and isinstance(args[0], torch.Tensor)
    if in_place:
        return args[0]
    return tree_map(_wrapped, result) if result_is_ours else result


def _check_devices(name, ours, on_cpu):
    if ours and on_cpu and name not in COPIES | INDEXING:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in on_cpu)
        raise RuntimeError(f"{name} mixes the device with tensors of the CPU of shape {shapes}")


def _count(name, ours, result_is_ours):
    if ours and (name in READS or (name in COPIES and not result_is_ours)):
        TRANSFERS["read" if name in READS else "cpu"] += 1


def _held(leaf):
    return leaf.held if isinstance(leaf, OnDevice) else leaf


def _wrapped(leaf):
    plain = isinstance(leaf, torch.Tensor) and not isinstance(leaf, OnDevice)
    return OnDevice(leaf) if plain else leaf


class OnDeviceGenerator(torch.Generator):
    """A generator of the CPU whose numbers are drawn on the device."""

    device = DEVICE
