"""Trials on a few examples: where the examples are in each call, and which routes agree."""

from typing import NamedTuple

import torch
from torch.linalg import vector_norm

from sgdnoise.nets._per_example._assembly import Layout, layout_of, overlapping
from sgdnoise.nets._per_example._recorder import LayerCall

PROBE = 3  # examples on which routes are chosen; the second of them is changed
ROUNDING = 0.4  # eps to this power, of the largest entry, is what rounding may do: 2e-3 in float32


class Trial(NamedTuple):
    """Uses, where the examples are in each, and whose outputs are handed on for each example."""

    calls: list[LayerCall]
    layouts: list[Layout | None]
    repeated: frozenset

    def nowhere(self) -> set:
        return {
            call.order
            for call, parameter in zip(self.calls, self.layouts, strict=True)
            if not parameter
        }


def find_layouts(calls, changed, repeated=frozenset()):
    """Where the examples are in what each use saw: None where nowhere; no uses if these change."""
    if [signature(call) for call in calls] != [signature(call) for call in changed]:
        return Trial([], [], frozenset())
    pairs = zip(calls, changed, strict=True)
    first = Layout(0, False, False)
    return Trial(
        calls,
        [first if a.order in repeated else layout_of(a, b, PROBE) for a, b in pairs],
        repeated,
    )


def routes_of(trial):
    """name -> the kind of layer it belongs to, of parameters all of whose uses are placed."""
    kinds_of: dict = {}
    for call, parameter in zip(trial.calls, trial.layouts, strict=True):
        for parameter_block in (call.weight, call.bias):
            if parameter_block:
                kinds_of.setdefault(parameter_block.name, []).append(
                    call.kind if parameter else None
                )
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
    """Parameters of which the parts and autograd do not find the same."""
    views = {
        n: torch.zeros_like(g.view(g.shape or 1)) for n, g in expected.items() if g is not None
    }
    for form in forms:
        form.combine(unequal_weights(form.squares()), views)
    return {name for name, view in views.items() if not equal_to_rounding(view, expected[name])}


def equal_to_rounding(first, second) -> bool:
    """The same but for rounding."""
    tolerance = torch.finfo(second.dtype).eps ** ROUNDING
    return bool(
        vector_norm(first - second, torch.inf) <= tolerance * vector_norm(second, torch.inf)
    )


def unequal_weights(losses):
    """Weights by which examples cannot be confused."""
    return torch.linspace(0.4, 1.7, len(losses), dtype=losses.dtype, device=losses.device).square()


def signature(call):
    return call.kind, call.weight, call.bias


def generator_states(tensors):
    """The states of torch's generators, which move when a number is drawn."""
    device = next(iter(tensors.values())).device
    on_device = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_device]
