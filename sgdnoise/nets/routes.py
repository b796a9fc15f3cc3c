"""By which route the gradient of each parameter is had, found on a few examples and verified."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from sgdnoise.nets.layers import Place, Table
from sgdnoise.nets.tape import Use, record
from sgdnoise.nets.uses import Layout, parts, placed

__all__ = ["Block", "Fallback", "Network", "Plan", "Unused"]

PROBE = 3  # examples on which routes are chosen; the second of them is changed
CLOSE = 2e-3  # of the largest entry: what rounding may do to a gradient in float32
SLOW, UNUSED = "torch.func", "unused"


class Fallback(UserWarning):
    """Some parameters have no fast route: their gradients are held, example by example."""


class Unused(UserWarning):
    """Some parameters do not enter the losses."""


class Block(NamedTuple):
    """Some of the examples, and the parts that make up their gradients."""

    n: int
    parts: list[Any]


@dataclass(frozen=True, eq=False)
class Network:
    """A network, its losses and the examples, at these values of its parameters by name."""

    net: nn.Module
    losses: Callable
    inputs: tuple
    targets: Any
    tensors: dict

    def __len__(self):
        return self.inputs[0].shape[0]

    def some(self, index) -> tuple:
        """Inputs and targets of some of the examples."""
        return tuple(part[index] for part in self.inputs), self.targets[index]

    def uses(self, index, spread: frozenset = frozenset()) -> tuple[Any, list[Use]]:
        """Losses of some examples, and what the layers have seen of them: see `record`."""
        inputs, targets = self.some(index)
        return record(self.net, self.losses, self.tensors, inputs, targets, spread)

    def value(self, tensors, inputs, targets):
        """The losses at other parameters."""
        buffers = {name: buffer.clone() for name, buffer in self.net.named_buffers()}
        return self.losses(functional_call(self.net, {**tensors, **buffers}, inputs), targets)

    def plan(self) -> "Plan":
        """How to have the gradient of each parameter, tried on three examples."""
        self._check()
        index = torch.arange(PROBE) % len(self)
        each, uses = self.uses(index)
        _check_losses(each, PROBE)
        other = self._other(index)
        found, changed = self.uses(other)
        self._check_alone(index, each, other, found)
        places = _places(uses, changed)
        spread = frozenset(i for i, place in enumerate(places) if place is None)
        if spread and (again := self._spread(index, each, spread)):
            uses, places = again
        else:
            spread = frozenset()
        routes, truth = _routes(uses, places), self._truth(index)
        wrong = _disagreeing(Plan(self, places, routes, spread).fast(uses, PROBE), truth)
        routes = {n: _route(routes.get(n), n in wrong, g) for n, g in truth.items()}
        _warn(routes)
        return Plan(self, places, routes, spread)

    def _check(self):
        if not self.tensors:
            raise ValueError(f"{type(self.net).__name__} has no parameters to train")
        if len(self) < 2:
            raise ValueError(f"a covariance needs at least 2 examples, not {len(self)}")
        lengths = {part.shape[0] for part in (*self.inputs, self.targets)}
        if len(lengths) > 1:
            raise ValueError(f"inputs and targets differ in length: {sorted(lengths)}")
        _check_mode(self.net)

    def _spread(self, index, each, spread):
        """Uses and places where what is the same for all examples is handed on for each of them.

        None where the network does not take it so.
        """
        try:
            found, uses = self.uses(index, spread)
        except RuntimeError:
            return None
        if found.shape != each.shape or not torch.allclose(found, each, rtol=CLOSE):
            return None
        places = _places(uses, self.uses(self._other(index), spread)[1])
        return uses, [Layout(0, False, False) if i in spread else p for i, p in enumerate(places)]

    def _other(self, index):
        """The same examples but for the second, which is one that differs from it."""
        other = index.clone()
        for part in self.inputs:
            different = (part != part[index[1]]).flatten(1).any(1)
            if bool(different.any()):
                other[1] = int(different.nonzero()[0])
                break
        return other

    def _check_alone(self, index, each, other, found):
        """The losses of the examples that both batches have are the same in both."""
        kept = (index == other).to(each.device)
        if bool(((found - each).abs() <= CLOSE * each.abs().max())[kept].all()):
            return
        with torch.no_grad():
            again = self.value(self.tensors, *self.some(index))
        if torch.equal(again, each):
            raise ValueError("the loss of an example depends on the others in its batch")
        raise ValueError("the losses differ from one call to the next: is there dropout?")

    def _truth(self, index) -> dict:
        """The gradient of a weighted sum of losses to each parameter, by autograd; else None."""
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in self.tensors.items()}
        with torch.enable_grad():
            each = self.value(leaves, *self.some(index))
            total = (_unequal(each) * each).sum()
        found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        return dict(zip(leaves, found, strict=True))


@dataclass(frozen=True, eq=False)
class Plan:
    """Where the examples are in what each use saw, and the route of each parameter."""

    network: Network
    places: list[Layout | None]
    routes: dict
    spread: frozenset

    def block(self, span: slice) -> Block:
        """The gradients of some examples; raises ValueError where one is not finite."""
        each, uses = self.network.uses(span, self.spread)
        n = each.shape[0]
        _check_losses(each, n, span.start)
        if len(uses) != len(self.places):
            raise ValueError(f"the network takes another path from example {span.start} on")
        found = [*self.fast(uses, n), *self._slow(span)]
        for part in found:
            _check_finite(part, span.start)
        return Block(n, found)

    def fast(self, uses: list[Use], n: int) -> list[Any]:
        """The parts that come from layers."""
        known = {name for name, route in self.routes.items() if route not in (SLOW, UNUSED)}
        some = [(_only(use, known), place) for use, place in zip(uses, self.places, strict=True)]
        return parts([(use, place) for use, place in some if place and (use.weight or use.bias)], n)

    def _slow(self, span) -> list[Table]:
        names = [name for name, route in self.routes.items() if route == SLOW]
        if not names:
            return []
        found = _by_autodiff(self.network, names, span)
        return [Table(Place(name), each) for name, each in found.items()]


def _by_autodiff(network, names, span) -> dict:
    """Gradients (n, *shape) of some parameters by torch.func, or where it cannot, one by one."""
    rest = {name: t for name, t in network.tensors.items() if name not in names}
    inputs, targets = network.some(span)

    def alone(some, *example):
        *inputs, target = (part[None] for part in example)
        return network.value({**rest, **some}, tuple(inputs), target)[0]

    some = {name: network.tensors[name] for name in names}
    axes = (None, *[0] * (len(inputs) + 1))
    try:
        with warnings.catch_warnings():  # of operations that vmap can only do one by one
            warnings.simplefilter("ignore", UserWarning)
            return vmap(grad(alone), axes)(some, *inputs, targets)
    except RuntimeError:  # an operation that vmap does not know
        rows = [grad(alone)(some, *row) for row in zip(*inputs, targets, strict=True)]
        return {name: torch.stack([row[name] for row in rows]) for name in names}


def _places(uses, changed):
    """Where the examples are in what each use saw: None where they are not in it."""
    return [placed(a, b, PROBE) for a, b in zip(uses, changed, strict=True)]


def _routes(uses, places):
    """name -> the kind of layer it belongs to, of parameters all of whose uses are placed."""
    found: dict = {}
    for use, place in zip(uses, places, strict=True):
        for name in {use.weight, use.bias} - {None}:
            found.setdefault(name, []).append(use.kind if place else None)
    return {name: kinds[0] for name, kinds in found.items() if None not in kinds}


def _route(kind, wrong, truth):
    if truth is None:
        return UNUSED
    return SLOW if kind is None or wrong else kind


def _disagreeing(parts, truth) -> set:
    """Parameters of which the parts and autograd do not find the same."""
    views = {name: torch.zeros_like(g) for name, g in truth.items() if g is not None}
    for part in parts:
        part.combine(_unequal(part.squares()), views)
    return {
        name
        for name, view in views.items()
        if not bool((view - truth[name]).abs().max() <= CLOSE * truth[name].abs().max())
    }


def _unequal(each):
    """Weights by which examples cannot be confused."""
    return torch.linspace(0.4, 1.7, len(each), dtype=each.dtype, device=each.device).square()


def _only(use, known):
    """A use of those of its parameters that are known."""
    kept = {
        field: n if n in known else None
        for field, n in (("weight", use.weight), ("bias", use.bias))
    }
    return use._replace(**kept)


def _warn(routes):
    for route, kind, text in (
        (SLOW, Fallback, "have no fast route: their gradients are held, example by example"),
        (UNUSED, Unused, "do not enter the losses: their gradients are zero"),
    ):
        names = [name for name, found in routes.items() if found == route]
        if names:
            warnings.warn(f"{', '.join(names)} {text}", kind, stacklevel=5)


def _check_mode(net):
    for name, module in net.named_modules():
        kind = type(module).__name__
        if "Dropout" in kind and module.training and module.p:
            raise ValueError(f"{name} ({kind}) is random in training; call net.eval() first")
        if "BatchNorm" in kind and (module.training or module.running_mean is None):
            raise ValueError(f"{name} ({kind}) mixes examples in training; call net.eval() first")


def _check_losses(each, n, start=0):
    if each.shape != (n,):
        raise ValueError(
            f"the losses must be one number an example, ({n},), not {tuple(each.shape)}; "
            'with torch losses use reduction="none"'
        )
    if not bool(each.isfinite().all()):
        first = start + int((~each.isfinite()).nonzero()[0])
        raise ValueError(f"the loss of example {first} is not finite")


def _check_finite(part, start):
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
