"""By which route the gradient of each parameter is had, found on a few examples and verified."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.func import functional_call
from torch.linalg import vector_norm

from sgdnoise.nets._checks import (
    check_examples,
    check_finite,
    check_losses,
    check_mode,
    check_tensors,
    listed,
)
from sgdnoise.nets._per_example._assembly import Layout, overlapping, parts, placed
from sgdnoise.nets._per_example._fallback import one_by_one
from sgdnoise.nets._per_example._layers import ParameterBlock, Table
from sgdnoise.nets._per_example._recorder import LayerCall, RandomState, record

PROBE = 3  # examples on which routes are chosen; the second of them is changed
ROUNDING = 0.4  # eps to this power, of the largest entry, is what rounding may do: 2e-3 in float32
SLOW, UNUSED = "torch.func", "unused"


class FallbackWarning(UserWarning):
    """Some parameters have no fast route: their gradients are held, example by example."""


class UnusedWarning(UserWarning):
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
    state: RandomState

    @classmethod
    def of(cls, net, losses, inputs, targets, tensors) -> "Network":
        """As the network is at present; raises ValueError for what has no covariance."""
        check_tensors(net, tensors)
        check_examples(inputs, targets, next(iter(tensors.values())).device)
        check_mode(net)
        return cls(net, losses, inputs, targets, tensors, RandomState.of(net))

    def __len__(self):
        return self.targets.shape[0]

    def some(self, index) -> tuple:
        """Inputs and targets of some of the examples."""
        return tuple(part[index] for part in self.inputs), self.targets[index]

    def uses(self, index, spread: frozenset = frozenset()) -> tuple[Any, list[LayerCall]]:
        """Losses of some examples, and what the layers have seen of them: see `record`."""
        inputs, targets = self.some(index)
        before = [part._version for part in inputs]

        def losses(leaves):
            return self.value(leaves, inputs, targets)

        found = record(losses, self.tensors, len(targets), spread)
        if before != [part._version for part in inputs]:
            raise ValueError("the network changes its inputs in place; let it work on a copy")
        return found

    def value(self, tensors, inputs, targets):
        """The losses at other parameters."""
        with self.state.again() as buffers:
            return self.losses(functional_call(self.net, {**tensors, **buffers}, inputs), targets)

    def plan(self) -> "Plan":
        """How to have the gradient of each parameter, tried on three examples."""
        index = torch.arange(PROBE) % len(self)
        trial, truth = self._tried(index), self._truth(index)
        plan = Plan(self, [], trial.places, _routes(trial), trial.spread, _each(trial))
        found = plan.fast(trial.uses, PROBE)
        for part in found:
            check_finite(part, 0)
        wrong = _disagreeing(found, truth)
        routes = {n: _route(plan.routes.get(n), n in wrong, g) for n, g in truth.items()}
        _warn(routes)
        return replace(plan, calls=[_call(use) for use in trial.uses], routes=routes)

    def _tried(self, index) -> "Trial":
        """What layers see of these examples, and where these are in it.

        An output in which they are nowhere is handed on for each of them, if the network takes it.
        """
        before = _generators(self.tensors)
        each, uses = self.uses(index)
        check_losses(each, PROBE)
        if not all(map(torch.equal, before, _generators(self.tensors))):
            raise ValueError("the network draws random numbers, as dropout does; call net.eval()")
        other = self._other(index)
        found, changed = self.uses(other)
        self._check_alone(index, each, other, found)
        trial, tried = _trial(uses, changed), frozenset[int]()
        while untried := trial.nowhere() - tried:
            spread = trial.spread | {min(untried)}
            tried |= spread
            trial = self._spread(index, each, other, spread) or trial
        return trial

    def _spread(self, index, each, other, spread):
        """A trial where outputs are handed on for each example; None where that does not go."""
        try:
            found, uses = self.uses(index, spread)
            _, changed = self.uses(other, spread)
        except Exception:  # whatever a network says to what it has not been made for
            return None
        same = found.shape == each.shape and _close(found, each)
        return _trial(uses, changed, spread) if same else None

    def _other(self, index):
        """The same examples but for the second, now the one that differs from it the most."""
        other, n = index.clone(), len(self)
        differ = [(x != x[index[1]]).reshape(n, -1).float().mean(1) for x in self.inputs]
        other[1] = int(sum(differ).argmax())
        return other

    def _check_alone(self, index, each, other, found):
        """The loss of an example is the same, whichever and how many others are in its batch."""
        kept = (index == other).to(each.device)
        with torch.no_grad():
            fewer = self.value(self.tensors, *self.some(index[:2]))
            if _close(found[kept], each[kept]) and _close(fewer, each[:2]):
                return
            again = self.value(self.tensors, *self.some(index))
        if torch.equal(again, each):
            raise ValueError("the loss of an example depends on the others in its batch")
        raise ValueError("the losses differ from one call to the next: is there dropout?")

    def _truth(self, index) -> dict:
        """The gradient of a weighted sum of losses to each parameter, by autograd; else None."""
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in self.tensors.items()}
        with torch.enable_grad():
            each = self.value(leaves, *self.some(index))
            total = (_unequal(each) * each).sum()
        if not each.requires_grad:
            raise ValueError("the losses have no gradient; is there a torch.no_grad or a detach?")
        found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        return dict(zip(leaves, found, strict=True))


class Trial(NamedTuple):
    """Uses, where the examples are in each, and whose outputs are handed on for each example."""

    uses: list[LayerCall]
    places: list[Layout | None]
    spread: frozenset

    def nowhere(self) -> set:
        return {use.order for use, place in zip(self.uses, self.places, strict=True) if not place}


@dataclass(frozen=True, eq=False)
class Plan:
    """The uses to expect, where the examples are in what each saw, and all parameters' routes.

    each: how many numbers all uses together see and hand on of one example.
    """

    network: Network
    calls: list[tuple]
    places: list[Layout | None]
    routes: dict
    spread: frozenset
    each: int

    def block(self, span: slice) -> Block:
        """The gradients of some examples; raises ValueError where one is not finite."""
        each, uses = self.network.uses(span, self.spread)
        n = each.shape[0]
        check_losses(each, n, span.start)
        if self.calls and [_call(use) for use in uses] != self.calls:
            raise ValueError(f"the network takes another path from example {span.start} on")
        found = [*self.fast(uses, n), *self._slow(span)] if self.calls else self._slow(span)
        for part in found:
            check_finite(part, span.start)
        return Block(n, found)

    def fast(self, uses: list[LayerCall], n: int) -> list[Any]:
        """The parts that come from layers."""
        known = {name for name, route in self.routes.items() if route not in (SLOW, UNUSED)}
        some = [(_only(use, known), place) for use, place in zip(uses, self.places, strict=True)]
        return parts([(use, place) for use, place in some if place and (use.weight or use.bias)], n)

    def _slow(self, span) -> list[Table]:
        names = [name for name, route in self.routes.items() if route == SLOW]
        if not names:
            return []
        inputs, targets = self.network.some(span)

        def losses(tensors, *examples):
            return self.network.value(tensors, examples[:-1], examples[-1])

        found = one_by_one(losses, self.network.tensors, names, (*inputs, targets))
        return [Table(ParameterBlock(name), _held(each)) for name, each in found.items()]


def _held(each):
    """Gradients to a lone number as those to one in a row."""
    return each if each.ndim > 1 else each[:, None]


def _trial(uses, changed, spread=frozenset()):
    """Where the examples are in what each use saw: None where nowhere; no uses if these change."""
    if [_call(use) for use in uses] != [_call(use) for use in changed]:
        return Trial([], [], frozenset())
    pairs = zip(uses, changed, strict=True)
    first = Layout(0, False, False)
    return Trial(
        uses, [first if a.order in spread else placed(a, b, PROBE) for a, b in pairs], spread
    )


def _routes(trial):
    """name -> the kind of layer it belongs to, of parameters all of whose uses are placed."""
    found: dict = {}
    for use, place in zip(trial.uses, trial.places, strict=True):
        for at in (use.weight, use.bias):
            if at:
                found.setdefault(at.name, []).append(use.kind if place else None)
    mixed = overlapping(trial.uses)
    return {n: kinds[0] for n, kinds in found.items() if None not in kinds and n not in mixed}


def _each(trial):
    return sum(use.seen.numel() + use.edge.numel() for use in trial.uses) // PROBE + 1


def _route(kind, wrong, truth):
    if truth is None:
        return UNUSED
    return SLOW if kind is None or wrong else kind


def _disagreeing(parts, truth) -> set:
    """Parameters of which the parts and autograd do not find the same."""
    views = {n: torch.zeros_like(g.view(g.shape or 1)) for n, g in truth.items() if g is not None}
    for part in parts:
        part.combine(_unequal(part.squares()), views)
    return {name for name, view in views.items() if not _close(view, truth[name])}


def _close(one, other) -> bool:
    """The same but for rounding."""
    close = torch.finfo(other.dtype).eps ** ROUNDING
    return bool(vector_norm(one - other, torch.inf) <= close * vector_norm(other, torch.inf))


def _unequal(each):
    """Weights by which examples cannot be confused."""
    return torch.linspace(0.4, 1.7, len(each), dtype=each.dtype, device=each.device).square()


def _only(use, known):
    """A use of those of its parameters that are known."""
    weight, bias = (at if at and at.name in known else None for at in (use.weight, use.bias))
    return use._replace(weight=weight, bias=bias)


def _call(use):
    return use.kind, use.weight, use.bias


def _generators(tensors):
    """The states of torch's generators, which move when a number is drawn."""
    device = next(iter(tensors.values())).device
    on_device = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_device]


def _warn(routes):
    for route, kind, text in (
        (SLOW, FallbackWarning, "no fast route: their gradients are held, example by example"),
        (UNUSED, UnusedWarning, "no part in the losses: their gradients are zero"),
    ):
        names = [name for name, found in routes.items() if found == route]
        if names:
            warnings.warn(f"{listed(names)} have {text}", kind, stacklevel=5)
