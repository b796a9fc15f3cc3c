"""The route by which the gradient of each parameter is computed, and its check by autograd."""

import warnings
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch

from sgdnoise.nets._checks import check_finite, check_losses, listed
from sgdnoise.nets._network import Network
from sgdnoise.nets._per_example._assembly import gradient_forms, with_an_axis
from sgdnoise.nets._per_example._fallback import by_vmap, one_by_one
from sgdnoise.nets._per_example._layers import ParameterBlock, StoredGradients
from sgdnoise.nets._per_example._layouts import Layout
from sgdnoise.nets._per_example._probing import (
    PROBE,
    check_same,
    disagreeing,
    find_trial,
    signature,
    sizes_of,
    unequal_weights,
)
from sgdnoise.nets._per_example._recorder import LayerCall, Recording, record

SLOW, UNUSED = "torch.func", "unused"
MIN_CHECKED, FRACTION_CHECKED = 8, 128  # examples checked first: n / 128, and at least 8


class FallbackWarning(UserWarning):
    """Some parameters have no fast route: their gradients are stored, example by example.

    Example:
        >>> import warnings
        >>> import torch
        >>> from sgdnoise.nets import per_example_gradients
        >>> class Powers(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.power = torch.nn.Parameter(torch.ones(2))
        ...     def forward(self, x):
        ...         return x.abs() ** self.power
        >>> examples = torch.randn(5, 2), torch.zeros(5)
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     _ = per_example_gradients(Powers(), lambda out, y: out.sum(1) - y, *examples)
        >>> [warning.category.__name__ for warning in said]
        ['FallbackWarning']
    """


class UnusedWarning(UserWarning):
    """Some parameters do not enter the losses.

    Example:
        >>> import warnings
        >>> import torch
        >>> from sgdnoise.nets import per_example_gradients
        >>> net = torch.nn.Linear(2, 1)
        >>> net.unused = torch.nn.Linear(2, 1)
        >>> examples = torch.randn(5, 2), torch.zeros(5)
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     _ = per_example_gradients(net, lambda out, y: out[:, 0] - y, *examples)
        >>> [warning.category.__name__ for warning in said]
        ['UnusedWarning']
    """


class Block(NamedTuple):
    """Some of the examples, and the forms of their gradients, layer by layer."""

    n: int
    forms: list[Any]


@dataclass(frozen=True, eq=False)
class Plan:
    """The expected calls, the layout of the examples in each, and the route of each parameter.

    numbers_per_example: the numbers in the inputs and outputs of all calls, for one example.
    reference: the numbers of the examples that were checked first, and their losses.
    size: the number of operations in the graph of these examples.
    unverified: parameters whose gradient was zero in all checks, so that no formula was tested.
    checked: the blocks, by their first example, whose gradients have been checked.
    """

    network: Network
    signatures: list[tuple]
    layouts: list[Layout | None]
    routes: dict
    repeated: frozenset
    numbers_per_example: int
    reference: tuple = ()
    size: int = 0
    unverified: set = field(default_factory=set)
    checked: set = field(default_factory=set)

    @classmethod
    @torch.enable_grad()
    def of(cls, network: Network) -> "Plan":
        """The plan of a network: layouts from three examples, and routes checked on some more.

        Where the losses are zero to rounding, it is made at other targets, and holds at these.
        """
        away = network.away_from_zero()
        if away is not network:
            return replace(cls.of(away), network=network, reference=())
        trial = find_trial(network.with_copied_frozen())
        kinds = trial.routes()
        routes = {name: kinds.get(name, SLOW) for name in network.tensors}
        signatures = [signature(call) for call in trial.calls]
        numbers = trial.numbers_per_example()
        plan = cls(network, signatures, trial.layouts, routes, trial.repeated, numbers)
        plan = plan.verified(trial.recording.losses.detach()[:1])
        _warn(plan.routes)
        return plan

    def at(self, network: Network) -> "Plan":
        """The plan for the network at other parameters or examples, with its checks to be made."""
        if self.unverified:  # layouts that were found without a gradient may be wrong
            return Plan.of(network)
        return replace(self, network=network, reference=(), checked=set(), routes={**self.routes})

    def verified(self, first) -> "Plan":
        """The plan with its routes as they are after a comparison with autograd on some examples.

        first: the loss of the first example in the batch of the trial, (1,).
        That also finds uses that were not recorded.  A route on which autograd disagrees is slow.
        """
        n = len(self.network)
        size = min(n, max(MIN_CHECKED, n // FRACTION_CHECKED))
        # No example is at its place of the trial or of a block, so that losses which depend on the
        # place, or on the first example of the batch, differ.
        index = torch.linspace(0, n - 1, size, dtype=torch.float64).round().long().roll(1)
        recording = record(self.network, index, self.repeated)
        losses = recording.losses.detach()
        check_losses(losses, size, index)
        # A batch of another size: losses that are divided by it do not show in a changed batch.
        alone = losses[1:2] if size != PROBE else self.network.losses(index[1:2])
        check_same(self.network, alone, first, index)
        if not recording.losses.requires_grad:
            raise ValueError("the losses have no gradient; is there a torch.no_grad or a detach?")
        forms, expected, disagree = self._compared(recording)
        expected = {} if expected is None else expected
        unused = {name for name, gradient in expected.items() if gradient is None}
        zero = {n for n, g in expected.items() if g is not None and not bool(g.any())}
        routes = {
            name: UNUSED if name in unused else SLOW if name in disagree else kind
            for name, kind in self.routes.items()
        }
        for form in forms:
            check_finite(form, index)
        reference, size = (index, losses), recording.uses.size
        return replace(self, routes=routes, reference=reference, size=size, unverified=zero)

    @torch.enable_grad()
    def block(self, span: slice) -> Block:
        """The gradients of some examples; raises ValueError where one is not finite."""
        recording = record(self.network, span, self.repeated)
        losses = recording.losses.detach()
        check_losses(losses, len(losses), range(span.start, span.stop))
        self._check_alone(span, losses)
        before = {**self.routes}
        forms, expected = self._forms(recording, span, losses)
        slow = [name for name, route in self.routes.items() if route == SLOW]
        forms = [form.restricted_to(set(self.routes) - set(slow)) for form in forms]
        forms = [form for form in forms if form is not None]
        forms += self._slow(slow, span, losses, expected, loop=recording.untransformable)
        for form in forms:
            check_finite(form, range(span.start, span.stop))
        _warn({name: route for name, route in self.routes.items() if route != before[name]})
        return Block(len(losses), forms)

    def _forms(self, recording, span, losses):
        """The forms from layers, and the weighted gradient by autograd where it was needed.

        Routes on which they disagree become slow, here and in all blocks after it.
        """
        if not self.signatures:
            return [], None
        if self._is_as_in_the_trial(recording) or span.start in self.checked:
            try:
                return self._fast(recording, recording.calls()), None
            except (RuntimeError, ValueError, IndexError):  # another path than in the trial
                recording = record(self.network, span, self.repeated)
        for first in (0, 1) if len(losses) > 1 else ():
            half = torch.arange(span.start + first, span.start + len(losses), 2)
            check_same(self.network, self.network.losses(half), losses[first::2], span)
        forms, expected, disagree = self._compared(recording)
        used = {n for n, g in (expected or {}).items() if g is not None}
        self.unverified.difference_update({n for n in used if bool(expected[n].any())})
        disagree |= {n for n, route in self.routes.items() if route == UNUSED and n in used}
        self.routes.update(dict.fromkeys(disagree, SLOW))
        self.checked.add(span.start)
        return forms, expected

    def _is_as_in_the_trial(self, recording) -> bool:
        """Whether the graph proves that the layouts of the trial hold here too."""
        uses, found = recording.uses, [signature(call) for call in recording.recorded]
        known = {name for name, route in self.routes.items() if route == SLOW}
        same = [s for s in found if s in self.signatures] == self.signatures
        same = same and uses.size == self.size
        return uses.batchwise and uses.parameters <= known and same and not self.unverified

    def _compared(self, recording: Recording):
        """The forms from layers, the weighted gradient by autograd, and where they disagree.

        Where autograd allows no gradients to some tensors of the graph, all are slow.
        """
        everything = {name for name, route in self.routes.items() if route != UNUSED}
        n = len(recording.losses)
        weights = unequal_weights(n, self.network.like)
        try:
            calls = recording.calls(again=True)
            expected = recording.weighted_gradient(weights)
        except RuntimeError:
            return [], None, everything
        try:
            forms = self._fast(recording, calls)
            disagree = disagreeing(forms, expected, weights, sizes_of(calls))
        except (RuntimeError, ValueError, IndexError):  # shapes that no layout of the trial fits
            return [], expected, everything
        # A use that was not recorded may be too small to show.
        return forms, expected, disagree | (recording.uses.parameters & everything)

    def _fast(self, recording: Recording, calls: list[LayerCall]) -> list[Any]:
        """The forms of the gradients that come from layers."""
        if [signature(call) for call in calls] != self.signatures:
            raise ValueError("the network takes another path for these examples")
        names = {name for name, route in self.routes.items() if route not in (SLOW, UNUSED)}
        derived = {
            name: (tensor, {n: recording.leaves[n] for n in recording.roots(name) & names})
            for name, tensor in recording.derived.items()
        }
        names |= {name for name, (_, leaves) in derived.items() if leaves}
        known = [(_only(c, names), at) for c, at in zip(calls, self.layouts, strict=True)]
        used = [(call, layout) for call, layout in known if layout and (call.weight or call.bias)]
        return gradient_forms(used, len(recording.losses), derived)

    def _slow(self, names, span, losses, expected, *, loop: bool) -> list[StoredGradients]:
        """The gradients of some parameters by torch.func, or by a loop if that fails.

        loop: by a loop at once.  torch.func crashes where `data` of a tensor is replaced.
        """
        if not names:
            return []
        if loop:
            return _stored(one_by_one(self.network, names, span, losses))
        weights = unequal_weights(len(losses), self.network.like)
        try:
            forms = _stored(by_vmap(self.network, names, span))
            if expected is None:
                expected = record(self.network, span).weighted_gradient(weights)
            wanted = {name: expected[name] for name in names if expected[name] is not None}
            if not disagreeing(forms, wanted, weights, {}):
                return forms
        except Exception:  # networks raise anything under the transforms of torch.func
            pass
        return _stored(one_by_one(self.network, names, span, losses))

    def _check_alone(self, span, losses):
        """Check the losses of examples that were in another batch before."""
        if not self.reference:
            return
        index, alone = self.reference
        here = (index >= span.start) & (index < span.start + len(losses))
        if bool(here.any()):
            there = losses[(index[here] - span.start).to(losses.device)]
            check_same(self.network, alone[here.to(alone.device)], there, span)


def _stored(gradients: dict) -> list[StoredGradients]:
    return [
        StoredGradients(ParameterBlock(name), with_an_axis(values))
        for name, values in gradients.items()
    ]


def _only(call, names):
    """A call without those of its parameters that have another route."""
    weight, bias = (
        block if block and block.name in names else None for block in (call.weight, call.bias)
    )
    return call._replace(weight=weight, bias=bias)


def _warn(routes):
    for route, kind, text in (
        (SLOW, FallbackWarning, "no fast route: their gradients are stored, example by example"),
        (UNUSED, UnusedWarning, "no part in the losses: their gradients are zero"),
    ):
        names = [name for name, chosen in routes.items() if chosen == route]
        if names:
            warnings.warn(f"{listed(names)} have {text}", kind, stacklevel=5)
