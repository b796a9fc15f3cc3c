"""The route by which the gradient of each parameter is computed, found on a few examples."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.func import functional_call

from sgdnoise.nets._checks import (
    check_examples,
    check_finite,
    check_losses,
    check_mode,
    check_tensors,
    listed,
)
from sgdnoise.nets._per_example._assembly import Layout, gradient_forms
from sgdnoise.nets._per_example._fallback import one_by_one
from sgdnoise.nets._per_example._layers import ParameterBlock, StoredGradients
from sgdnoise.nets._per_example._probing import (
    PROBE,
    Trial,
    disagreeing,
    equal_to_rounding,
    find_layouts,
    generator_states,
    numbers_per_example,
    routes_of,
    signature,
    unequal_weights,
)
from sgdnoise.nets._per_example._recorder import LayerCall, RandomState, record

SLOW, UNUSED = "torch.func", "unused"


class FallbackWarning(UserWarning):
    """Some parameters have no fast route: their gradients are stored, example by example."""


class UnusedWarning(UserWarning):
    """Some parameters do not enter the losses."""


class Block(NamedTuple):
    """Some of the examples, and the forms of their gradients, layer by layer."""

    n: int
    forms: list[Any]


@dataclass(frozen=True, eq=False)
class Network:
    """A network, its losses and the examples, at given values of its parameters by name."""

    net: nn.Module
    losses: Callable
    inputs: tuple
    targets: Any
    tensors: dict
    state: RandomState

    @classmethod
    def of(cls, net, losses, inputs, targets, tensors) -> "Network":
        """The network in its present state; raises ValueError as `per_example_gradients`."""
        check_tensors(net, tensors)
        check_examples(inputs, targets, next(iter(tensors.values())).device)
        check_mode(net)
        return cls(net, losses, inputs, targets, tensors, RandomState.of(net))

    def __len__(self):
        return self.targets.shape[0]

    def examples_at(self, index) -> tuple:
        """Inputs and targets of some of the examples."""
        return tuple(array[index] for array in self.inputs), self.targets[index]

    def calls(self, index, repeated: frozenset = frozenset()) -> tuple[Any, list[LayerCall]]:
        """The losses of some examples, and the calls of layers: see `record`."""
        inputs, targets = self.examples_at(index)
        # torch counts the writes to a tensor.  A network that overwrites its inputs would be given
        # other examples in the next pass.
        versions = [array._version for array in inputs]

        def losses(leaves):
            return self.value(leaves, inputs, targets)

        recorded = record(losses, self.tensors, len(targets), repeated)
        if versions != [array._version for array in inputs]:
            raise ValueError("the network changes its inputs in place; let it work on a copy")
        return recorded

    def value(self, tensors, inputs, targets):
        """The losses at other parameters."""
        with self.state.again() as buffers:
            return self.losses(functional_call(self.net, {**tensors, **buffers}, inputs), targets)

    def plan(self) -> "Plan":
        """The route to the gradient of each parameter, chosen by a trial on three examples."""
        # Two examples are enough: then the third of the trial is the first once more.
        index = torch.arange(PROBE) % len(self)
        trial, expected = self._find_trial(index), self._autograd(index)
        plan = Plan(
            self, [], trial.layouts, routes_of(trial), trial.repeated, numbers_per_example(trial)
        )
        # A formula is used only if it agrees with autograd here.  That also finds uses that were
        # not recorded, such as a norm of the weights that is added to the losses.
        forms = plan.fast(trial.calls, PROBE)
        for form in forms:
            check_finite(form, 0)
        disagree = disagreeing(forms, expected)
        routes = {n: _route(plan.routes.get(n), n in disagree, g) for n, g in expected.items()}
        _warn(routes)
        return replace(plan, signatures=[signature(call) for call in trial.calls], routes=routes)

    def _find_trial(self, index) -> "Trial":
        """The calls of layers for these examples, and the layout of the examples in each.

        An output without an axis for the examples is repeated for each of them, if the network
        still computes the same losses from it.
        """
        # States are compared because a draw need not show in the losses of three examples.
        before = generator_states(self.tensors)
        losses, calls = self.calls(index)
        check_losses(losses, PROBE)
        if not all(map(torch.equal, before, generator_states(self.tensors))):
            raise ValueError("the network draws random numbers, as dropout does; call net.eval()")
        changed_index = self._changed_index(index)
        changed_losses, changed = self.calls(changed_index)
        self._check_alone(index, losses, changed_index, changed_losses)
        # One output at a time, since repeating one may give those after it their axis of examples.
        trial, tried = find_layouts(calls, changed), frozenset[int]()
        while untried := trial.nowhere() - tried:
            repeated = trial.repeated | {min(untried)}
            tried |= repeated
            trial = self._repeated_trial(index, losses, changed_index, repeated) or trial
        return trial

    def _repeated_trial(self, index, losses, changed_index, repeated):
        """A trial in which outputs are repeated for each example; None if the network fails."""
        try:
            losses_again, calls = self.calls(index, repeated)
            _, changed = self.calls(changed_index, repeated)
        except Exception:  # networks raise anything for shapes that they do not expect
            return None
        same = losses_again.shape == losses.shape and equal_to_rounding(losses_again, losses)
        return find_layouts(calls, changed, repeated) if same else None

    def _changed_index(self, index):
        """The same examples, but the second is replaced by the one that differs most from it."""
        # It must differ in many entries: tokens or pixels in common hide where the example is.  The
        # second has a neighbour on either side, whose loss shows whether examples mix.
        index_with_change, n = index.clone(), len(self)
        differences = [(x != x[index[1]]).reshape(n, -1).float().mean(1) for x in self.inputs]
        index_with_change[1] = int(sum(differences).argmax())
        return index_with_change

    def _check_alone(self, index, losses, changed_index, changed_losses):
        """Check that the loss of an example does not depend on the others in its batch."""
        unchanged = (index == changed_index).to(losses.device)
        with torch.no_grad():
            # A smaller batch too: losses divided by the batch size do not show in a changed batch.
            fewer = self.value(self.tensors, *self.examples_at(index[:2]))
            if equal_to_rounding(
                changed_losses[unchanged], losses[unchanged]
            ) and equal_to_rounding(fewer, losses[:2]):
                return
            # A second call with the same examples tells randomness from a mixture of examples.
            again = self.value(self.tensors, *self.examples_at(index))
        if torch.equal(again, losses):
            raise ValueError("the loss of an example depends on the others in its batch")
        raise ValueError("the losses differ from one call to the next: is there dropout?")

    def _autograd(self, index) -> dict:
        """The gradient of a weighted sum of losses to each parameter; None if it has no part."""
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in self.tensors.items()}
        with torch.enable_grad():
            losses = self.value(leaves, *self.examples_at(index))
            total = (unequal_weights(losses) * losses).sum()
        if not losses.requires_grad:
            raise ValueError("the losses have no gradient; is there a torch.no_grad or a detach?")
        gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        return dict(zip(leaves, gradients, strict=True))


@dataclass(frozen=True, eq=False)
class Plan:
    """The expected calls, the layout of the examples in each, and the route of each parameter.

    numbers_per_example: the numbers in the inputs and outputs of all calls, for one example.
    """

    network: Network
    signatures: list[tuple]
    layouts: list[Layout | None]
    routes: dict
    repeated: frozenset
    numbers_per_example: int

    def block(self, span: slice) -> Block:
        """The gradients of some examples; raises ValueError where one is not finite."""
        losses, calls = self.network.calls(span, self.repeated)
        n = losses.shape[0]
        check_losses(losses, n, span.start)
        # Layouts belong to calls by their order.  A network that branches on its examples may make
        # other calls than in the trial, and the layouts would then be wrong.
        if self.signatures and [signature(call) for call in calls] != self.signatures:
            raise ValueError(f"the network takes another path from example {span.start} on")
        forms = [*self.fast(calls, n), *self._slow(span)] if self.signatures else self._slow(span)
        for form in forms:
            check_finite(form, span.start)
        return Block(n, forms)

    def fast(self, calls: list[LayerCall], n: int) -> list[Any]:
        """The forms of the gradients that come from layers."""
        names = {name for name, route in self.routes.items() if route not in (SLOW, UNUSED)}
        known_calls = [
            (_only(call, names), layout) for call, layout in zip(calls, self.layouts, strict=True)
        ]
        return gradient_forms(
            [
                (call, layout)
                for call, layout in known_calls
                if layout and (call.weight or call.bias)
            ],
            n,
        )

    def _slow(self, span) -> list[StoredGradients]:
        names = [name for name, route in self.routes.items() if route == SLOW]
        if not names:
            return []
        inputs, targets = self.network.examples_at(span)

        def losses(tensors, *examples):
            return self.network.value(tensors, examples[:-1], examples[-1])

        gradients = one_by_one(losses, self.network.tensors, names, (*inputs, targets))
        return [
            StoredGradients(ParameterBlock(name), _at_least_one_axis(values))
            for name, values in gradients.items()
        ]


def _at_least_one_axis(gradients):
    """Gradients (n, 1) of a parameter that is a single number, instead of (n,)."""
    return gradients if gradients.ndim > 1 else gradients[:, None]


def _only(call, names):
    """A call without those of its parameters that have another route."""
    weight, bias = (
        block if block and block.name in names else None for block in (call.weight, call.bias)
    )
    return call._replace(weight=weight, bias=bias)


def _route(kind, disagrees, expected):
    if expected is None:
        return UNUSED
    return SLOW if kind is None or disagrees else kind


def _warn(routes):
    for route, kind, text in (
        (SLOW, FallbackWarning, "no fast route: their gradients are stored, example by example"),
        (UNUSED, UnusedWarning, "no part in the losses: their gradients are zero"),
    ):
        names = [name for name, chosen in routes.items() if chosen == route]
        if names:
            warnings.warn(f"{listed(names)} have {text}", kind, stacklevel=5)
