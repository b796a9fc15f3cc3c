"""A network and its losses, evaluated with other parameters, in its recorded state."""

import sys
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from sgdnoise.nets._checks import check_shape, check_tensors, described, refused_as
from sgdnoise.nets._examples import Examples, check_examples


def unwrapped(net: nn.Module) -> nn.Module:
    """The network within DataParallel, DistributedDataParallel and torch.compile."""
    while True:
        if isinstance(net, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            net = net.module
        elif isinstance(inner := getattr(net, "_orig_mod", None), nn.Module):
            net = inner
        else:
            return net


def uncompiled():
    """A context in which compiled parts run uncompiled."""
    # Loading the compiler takes seconds, and if it is not loaded nothing has been compiled.
    loaded = "torch._dynamo" in sys.modules
    return torch.compiler.set_stance("force_eager") if loaded else nullcontext()


@contextmanager
def plain_torch(device: torch.device):
    """A context without autocast, inference mode and compilation, in which gradients are on."""
    # Half precision is too coarse for covariances.  Each context takes time, and few are needed.
    with ExitStack() as contexts:
        if torch.is_inference_mode_enabled():
            contexts.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            contexts.enter_context(torch.enable_grad())
        if torch.is_autocast_enabled(device.type):
            contexts.enter_context(torch.autocast(device.type, enabled=False))
        contexts.enter_context(uncompiled())
        yield


def device_of(net: nn.Module) -> torch.device:
    """The device of the first parameter of a network, or the default device."""
    return next((parameter.device for parameter in net.parameters()), torch.get_default_device())


def trainable(net: nn.Module) -> dict:
    """name -> parameter, for the parameters that are trained."""
    return {name: tensor for name, tensor in net.named_parameters() if tensor.requires_grad}


class NetworkState(NamedTuple):
    """The state of a network besides its trained parameters.

    others: name -> buffer or frozen parameter.  buffers: the names of buffers.
    training: the mode of each module.
    slots: (dictionary of a module, key in it, name) of each tensor, tied ones included.
    """

    others: dict
    buffers: tuple
    training: dict
    slots: list

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
        return cls(others, tuple(buffers), training, slots)

    @contextmanager
    def again(self, tensors: dict):
        """A context in which the network has these parameters, and else its recorded state.

        Yields copies of the buffers, which a pass may change, and the frozen parameters.
        """
        others = {n: t.clone() if n in self.buffers else t for n, t in self.others.items()}
        inside = others | tensors
        before = [held[key] for held, key, _ in self.slots]
        modes = {module: module.training for module in self.training}
        try:
            for held, key, name in self.slots:
                held[key] = inside[name]
            _set_modes(self.training)
            yield others
        finally:
            for (held, key, _), tensor in zip(self.slots, before, strict=True):
                held[key] = tensor
            _set_modes(modes)


def _usable(tensor):
    """A tensor that autograd can use: one that was made in inference mode is copied."""
    return tensor.clone() if tensor.is_inference() else tensor


def _set_modes(training):
    for module, mode in training.items():
        module.training = mode


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
    def device(self):
        return next(iter(self.tensors.values())).device

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
            return self._losses(examples)

    def losses(self, index):
        """The losses of some examples, without their graph."""
        # With autograd: some networks take another path without, or need it within.
        examples = self.examples.at(index)
        losses = self.value(self.leaves(), examples).detach()
        check_shape(losses, len(examples))
        return losses

    def _losses(self, examples):
        args, named, targets = examples.args, examples.named, examples.targets
        kind = type(self.net).__name__
        with refused_as(lambda: f"{kind} does not take inputs {described((args, named))}"):
            outputs = self._outputs(args, named)
        both = lambda: f"outputs {described(outputs)} and targets {described(targets)}"  # noqa: E731
        with refused_as(lambda: f"the loss does not take {both()}"):
            return self.loss(outputs, targets)

    def _outputs(self, args, named):
        if self.autocast is None:
            return self.net(*args, **named)
        with torch.autocast(self.device.type, self.autocast):
            outputs = self.net(*args, **named)
        dtype = next(iter(self.tensors.values())).dtype
        return outputs.to(dtype) if torch.is_tensor(outputs) else outputs
