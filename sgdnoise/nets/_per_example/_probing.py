"""Trials on a few examples: the layout of the examples in each call, and which routes agree."""

from typing import NamedTuple

import torch
from torch.linalg import vector_norm

from sgdnoise.nets._per_example._assembly import Layout, layout_of, overlapping
from sgdnoise.nets._per_example._recorder import LayerCall

# Examples on which routes are chosen: the fewest of which one has a neighbour on either side.  That
# one, the second, is changed.
PROBE = 3
ROUNDING = 0.4  # eps to this power, of the largest entry, is what rounding may do: 2e-3 in float32


class Trial(NamedTuple):
    """Calls, the layout of the examples in each, and which outputs are repeated per example."""

    calls: list[LayerCall]
    layouts: list[Layout | None]
    repeated: frozenset

    def nowhere(self) -> set:
        """The order of the calls in which no axis of examples was found."""
        return {
            call.order for call, layout in zip(self.calls, self.layouts, strict=True) if not layout
        }


def find_layouts(calls, changed, repeated=frozenset()):
    """The layout of the examples in each call, or None; no calls if they differ in the two runs."""
    # A network that makes other calls for another example has no layouts that hold for all.
    if [signature(call) for call in calls] != [signature(call) for call in changed]:
        return Trial([], [], frozenset())
    pairs = zip(calls, changed, strict=True)
    # Outputs that were repeated have the examples first, by construction.
    first = Layout(0, False, False)
    return Trial(
        calls,
        [first if a.order in repeated else layout_of(a, b, PROBE) for a, b in pairs],
        repeated,
    )


def routes_of(trial):
    """name -> kind of layer, for the parameters all of whose calls have a layout."""
    # A gradient is the sum over all calls of a parameter, so that one without a layout spoils it.
    kinds_of: dict = {}
    for call, layout in zip(trial.calls, trial.layouts, strict=True):
        for parameter_block in (call.weight, call.bias):
            if parameter_block:
                kinds_of.setdefault(parameter_block.name, []).append(call.kind if layout else None)
    mixed = overlapping(trial.calls)
    return {
        n: kind_list[0]
        for n, kind_list in kinds_of.items()
        if None not in kind_list and n not in mixed
    }


def numbers_per_example(trial):
    return (
        sum(call.inputs.numel() + call.output_gradient.numel() for call in trial.calls) // PROBE + 1
    )


def disagreeing(forms, expected) -> set:
    """The parameters for which the formulas and autograd give different gradients."""
    views = {
        n: torch.zeros_like(g.view(g.shape or 1)) for n, g in expected.items() if g is not None
    }
    for form in forms:
        form.combine(unequal_weights(form.squares()), views)
    return {name for name, view in views.items() if not equal_to_rounding(view, expected[name])}


def equal_to_rounding(first, second) -> bool:
    """Whether two arrays agree to rounding, relative to the largest entry."""
    tolerance = torch.finfo(second.dtype).eps ** ROUNDING
    return bool(
        vector_norm(first - second, torch.inf) <= tolerance * vector_norm(second, torch.inf)
    )


def unequal_weights(losses):
    """A different weight for each example."""
    # With equal weights, gradients of the wrong examples could still have the right sum.
    return torch.linspace(0.4, 1.7, len(losses), dtype=losses.dtype, device=losses.device).square()


def signature(call):
    return call.kind, call.weight, call.bias


def generator_states(tensors):
    """The states of torch's generators, which move when a number is drawn."""
    device = next(iter(tensors.values())).device
    on_device = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_device]
