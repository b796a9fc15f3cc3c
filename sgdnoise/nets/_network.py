"""A network and its losses, evaluated with other parameters, in its recorded state."""

import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from sgdnoise.nets._checks import check_shape, check_tensors, described, refused_as
from sgdnoise.nets._examples import Examples, check_examples

_LOCK = threading.RLock()


def unwrapped(net: nn.Module) -> nn.Module:
    """The network within DataParallel, DistributedDataParallel and torch.compile."""
    while True:
        if isinstance(net, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            net = net.module
        elif isinstance(inner := getattr(net, "_orig_mod", None), nn.Module):
            net = inner
        else:
            return net


def maybe_compiled() -> bool:
    """Whether anything can have been compiled.

    torch.compile loads this module, with any backend.  The optimizers of torch load the compiler
    without it.
    """
    return "torch._dynamo.repro.after_dynamo" in sys.modules


@contextmanager
def uncompiled():
    """A context in which compiled parts run uncompiled, for one thread at a time."""
    if not maybe_compiled():
        yield
        return
    # The stance is that of all threads: two that set it would not set it back in order.
    with _LOCK, torch.compiler.set_stance("force_eager"):
        yield


def plain_torch(device: torch.device):
    """A context without autocast, inference mode and compilation, in which gradients are on."""
    # Half precision is too coarse for covariances.  Most often nothing has to be changed, which is
    # seen in less time than contexts take.
    inference, autocast = torch.is_inference_mode_enabled(), torch.is_autocast_enabled(device.type)
    if torch.is_grad_enabled() and not inference and not autocast and not maybe_compiled():
        return nullcontext()
    return _plain_torch(device, inference, autocast)


@contextmanager
def _plain_torch(device, inference, autocast):
    with ExitStack() as contexts:
        if inference:
            contexts.enter_context(torch.inference_mode(False))
        contexts.enter_context(torch.enable_grad())
        if autocast:
            contexts.enter_context(torch.autocast(device.type, enabled=False))
        contexts.enter_context(uncompiled())
        yield


def device_of(net: nn.Module) -> torch.device:
    """The device of the first parameter of a network, or the default device."""
    if not isinstance(net, nn.Module):
        raise ValueError(f"the network must be a torch module, not {type(net).__name__}")
    return next((parameter.device for parameter in net.parameters()), torch.get_default_device())


def trainable(net: nn.Module) -> dict:
    """name -> parameter, for the parameters that are trained."""
    return {name: tensor for name, tensor in net.named_parameters() if tensor.requires_grad}


class NetworkState(NamedTuple):
    """The state of a network besides its trained parameters.

    others: name -> buffer or frozen parameter.  buffers: the names of buffers.
    training: the mode of each module.
    slots: (dictionary of a module, key in it, name) of each tensor, tied ones included.
    parts: (dictionary of a module, key in it, module) of each module within another.
    """

    others: dict
    buffers: tuple
    training: dict
    slots: list
    parts: list

    @classmethod
    def of(cls, net) -> "NetworkState":
        buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
        parameters = net.named_parameters()
        frozen = {name: tensor for name, tensor in parameters if not tensor.requires_grad}
        others = {name: _usable(tensor) for name, tensor in (buffers | frozen).items()}
        names = {id(t): n for n, t in (*net.named_parameters(), *net.named_buffers())}
        slots = [
            (held, key, names[id(tensor)])
            for module in net.modules()
            for held in (module._parameters, module._buffers)
            for key, tensor in held.items()
            if tensor is not None
        ]
        training = {module: module.training for module in net.modules()}
        parts = [
            (module._modules, key, part)
            for module in net.modules()
            for key, part in module._modules.items()
        ]
        return cls(others, tuple(buffers), training, slots, parts)

    @contextmanager
    def again(self, tensors: dict):
        """A context in which the network has these parameters, and else its recorded state.

        Yields copies of the buffers, which a pass may change, and the frozen parameters.
        """
        if any(held.get(key) is not part for held, key, part in self.parts):
            raise ValueError("the network has other modules than before; read it again")
        others = {n: t.clone() if n in self.buffers else t for n, t in self.others.items()}
        inside = {**others, **tensors}
        with _LOCK:  # the tensors of a module are those of one thread at a time
            before = [held[key] for held, key, _ in self.slots]
            modes = [(m, m.training) for m, mode in self.training.items() if m.training != mode]
            try:
                for held, key, name in self.slots:
                    held[key] = inside[name]
                for module, mode in modes:
                    module.training = not mode
                yield others
            finally:
                for (held, key, _), tensor in zip(self.slots, before, strict=True):
                    held[key] = tensor
                for module, mode in modes:
                    module.training = mode


def _usable(tensor):
    """A tensor that autograd can use: one that was made in inference mode is copied."""
    return tensor.clone() if tensor.is_inference() else tensor


# Losses below the square of so many eps, in units of the targets, are rounding.
AT_ROUNDING, N_TRIED = 64, 8


@dataclass(frozen=True, eq=False)
class Network:
    """A network, its losses and the examples, at given values of its parameters by name.

    autocast: the type in which the products of the network are computed, if not in its own.
    """

    net: nn.Module
    loss: Callable
    examples: Examples
    tensors: dict
    state: NetworkState
    autocast: torch.dtype | None = None

    @classmethod
    def of(cls, net, loss, examples: Examples, *, smallest: int = 2, autocast=None) -> "Network":
        """The network in its present state, with `smallest` examples or more.

        Raises ValueError as `per_example_gradients`.
        """
        if not isinstance(net, nn.Module):
            raise ValueError(f"the network must be a torch module, not {type(net).__name__}")
        if getattr(nn.utils.parametrize, "_cache_enabled", 0):
            raise ValueError("parametrizations are cached here; leave parametrize.cached() first")
        if any(is_lazy(parameter) for parameter in net.parameters()):
            raise ValueError("some layers have no size before a first batch: run one through them")
        if any(isinstance(module, torch.jit.ScriptModule) for module in net.modules()):
            raise ValueError("a scripted network hides its layers; pass the module it was made of")
        # Copies, so that later training does not change gradients that are computed again.
        tensors = {name: tensor.detach().clone() for name, tensor in trainable(net).items()}
        check_tensors(net, tensors)
        check_examples(examples, next(iter(tensors.values())).device, smallest)
        state = NetworkState.of(net)
        return cls(net, loss, examples.mapped(_usable), tensors, state, autocast)

    def __len__(self):
        return len(self.examples)

    @property
    def like(self):
        """A parameter, of the type and on the device of all."""
        return next(iter(self.tensors.values()))

    @property
    def device(self):
        return self.like.device

    def with_copied_frozen(self) -> "Network":
        """The same network on copies of its frozen parameters, which a pass may overwrite."""
        others = {name: tensor.clone() for name, tensor in self.state.others.items()}
        return replace(self, state=self.state._replace(others=others))

    def at_rounding(self, losses) -> bool:
        """Whether losses are zero but for rounding, as on the network's own outputs as targets."""
        size = self._size_of_targets()
        if size is None or not losses.numel():
            return False
        smallest = (AT_ROUNDING * torch.finfo(losses.dtype).eps * size) ** 2
        return bool(losses.abs().max() <= smallest)

    def away_from_zero(self) -> "Network":
        """The network with other targets if its losses are at rounding, where no check can fail."""
        index = torch.arange(min(len(self), N_TRIED))
        if self._size_of_targets() is None or not self.at_rounding(self.losses(index)):
            return self
        targets = self.examples.targets
        numbers = torch.arange(targets.numel(), device=targets.device) % 7 + 1
        shift = numbers.view(targets.shape).to(targets.dtype) * (self._size_of_targets() / 7)
        away = replace(self, examples=replace(self.examples, targets=targets + shift))
        try:  # losses that vanish at any targets, or refuse these, are left as they are
            return self if self.at_rounding(away.losses(index)) else away
        except ValueError:
            return self

    def _size_of_targets(self):
        """One more than the largest of targets that are real numbers, else None."""
        targets = self.examples.targets
        if not torch.is_tensor(targets) or not targets.is_floating_point() or not targets.numel():
            return None
        return 1 + float(targets.abs().max())

    def originals(self) -> dict:
        """id -> name of the parameters of the network itself, which the losses must not use."""
        return {id(tensor): name for name, tensor in trainable(self.net).items()}

    def leaves(self) -> dict:
        """New leaves of autograd with the values of the parameters, by name."""
        return {name: tensor.detach().requires_grad_() for name, tensor in self.tensors.items()}

    @contextmanager
    def at(self, tensors: dict):
        """A context in which the network has other parameters; see `NetworkState.again`."""
        # A backward pass needs it as well, if it runs parts of the network again (checkpoints).
        with plain_torch(self.device), self.state.again(tensors) as others:
            yield others

    def value(self, tensors: dict, examples: Examples, constants: Callable | None = None):
        """The losses of some examples at other parameters, (n,).

        The losses are computed while the parameters are in the network too, so that a loss that
        reads the parameters, or calls the network again, has them as well.
        constants: called with the buffers and frozen parameters of this pass.
        """
        with self.at(tensors) as others:
            if constants is not None:
                constants(others)
            return self.losses_inside(examples)

    def losses(self, index):
        """The losses of some examples, without their graph."""
        # With autograd: some networks take another path without, or need it within.
        examples = self.examples.at(index)
        losses = self.value(self.leaves(), examples).detach()
        check_shape(losses, len(examples))
        return losses

    def losses_inside(self, examples: Examples):
        """The losses of some examples, within `at`."""
        return self.losses_of_outputs(self.outputs_inside(examples), examples)

    def outputs_inside(self, examples: Examples):
        """What the network returns for some examples, within `at`."""
        args, named = examples.args, examples.named
        kind = type(self.net).__name__
        with refused_as(lambda: f"{kind} does not take inputs {described((args, named))}"):
            return self._outputs(args, named)

    def losses_of_outputs(self, outputs, examples: Examples):
        """The losses of some examples from what the network returned, within `at`."""
        targets = examples.targets
        both = lambda: f"outputs {described(outputs)} and targets {described(targets)}"  # noqa: E731
        with refused_as(lambda: f"the loss does not take {both()}"):
            losses = self.loss(outputs, targets)
        if not torch.is_tensor(losses) or not losses.is_floating_point():
            found = str(losses.dtype) if torch.is_tensor(losses) else type(losses).__name__
            raise ValueError(f"the losses must be a tensor of real numbers, not {found}")
        return losses.to(self.like.dtype)

    def _outputs(self, args, named):
        if self.autocast is None:
            return self.net(*args, **named)
        with torch.autocast(self.device.type, self.autocast):
            outputs = self.net(*args, **named)
        return outputs.to(self.like.dtype) if torch.is_tensor(outputs) else outputs
