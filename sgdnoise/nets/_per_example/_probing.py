"""Trials on a few examples: the layout of the examples in each call, and which routes agree."""

from typing import NamedTuple

import torch
from torch.linalg import vector_norm

from sgdnoise.nets._checks import check_losses, why_mixed
from sgdnoise.nets._network import Network
from sgdnoise.nets._per_example._layouts import Layout, layout_of, overlapping
from sgdnoise.nets._per_example._recorder import LayerCall, Recording, record

# Examples on which layouts are found: the fewest of which one has a neighbour on either side.  That
# one, the second, is changed.
PROBE = 3
# What rounding may do: eps to this power of the largest entry, 2e-3 in float32, or so many eps of
# the numbers that are summed, which matters if they cancel.
ROUNDING, SUMMED = 0.4, 100


class Trial(NamedTuple):
    """A pass, its calls, the layout of the examples in each, and which outputs are repeated."""

    recording: Recording
    calls: list[LayerCall]
    layouts: list[Layout | None]
    repeated: frozenset

    def nowhere(self) -> set:
        """The order of the calls in which no axis of examples was found."""
        return {
            call.order for call, layout in zip(self.calls, self.layouts, strict=True) if not layout
        }

    def routes(self) -> dict:
        """name -> kind of layer, for the parameters all of whose calls have a layout."""
        # A gradient is the sum over all calls of a parameter: one without a layout spoils it.
        kinds_of: dict = {}
        for call, layout in zip(self.calls, self.layouts, strict=True):
            for parameter in (call.weight, call.bias):
                for name in self.recording.roots(parameter.name) if parameter else ():
                    kinds_of.setdefault(name, []).append(call.kind if layout else None)
        mixed = overlapping(self.calls, self.recording.roots)
        return {
            name: kinds[0]
            for name, kinds in kinds_of.items()
            if None not in kinds and name not in mixed
        }

    def numbers_per_example(self) -> int:
        """The numbers in the inputs and outputs of all calls, for one example."""
        numbers = (call.inputs.numel() + call.output_gradient.numel() for call in self.calls)
        return sum(numbers) // PROBE + 1


def find_trial(network: Network) -> Trial:
    """The calls of layers for three examples, and the layout of the examples in each.

    An output without an axis for the examples is repeated for each of them, if the network still
    computes the same losses from it.
    Raises ValueError for a network that is random, or whose losses depend on the rest of the batch.
    """
    # Two examples are enough: then the third of the trial is the first once more.
    index = torch.arange(PROBE) % len(network)
    changed_index = _changed_index(network, index)
    recording, changed = record(network, index), record(network, changed_index)
    losses = recording.losses.detach()
    check_losses(losses, PROBE)
    # The losses of the examples that are the same in both.
    unchanged = (index == changed_index).to(losses.device)
    check_same(network, changed.losses.detach()[unchanged], losses[unchanged], index)
    # One output at a time, since repeating one may give those after it their axis of examples.
    trial, tried = _layouts(recording, changed), frozenset[int]()
    while untried := trial.nowhere() - tried:
        repeated = trial.repeated | {min(untried)}
        tried |= repeated
        trial = _repeated_trial(network, index, changed_index, losses, repeated) or trial
    return trial


def _layouts(recording, changed, repeated=frozenset()):
    """The trial of two passes; without calls if these differ in the two."""
    # A network that makes other calls for another example has no layouts that hold for all.
    try:
        calls, other_calls = recording.calls(), changed.calls()
    except RuntimeError:  # of parts that allow no gradient to an edge, such as some checkpoints
        return Trial(recording, [], [], frozenset())
    if [signature(call) for call in calls] != [signature(call) for call in other_calls]:
        return Trial(recording, [], [], frozenset())
    pairs = zip(calls, other_calls, strict=True)
    # Outputs that were repeated have the examples first, by construction.
    first = Layout(0, False, False)
    layouts = [first if a.order in repeated else layout_of(a, b, PROBE) for a, b in pairs]
    return Trial(recording, calls, layouts, repeated)


def _repeated_trial(network, index, changed_index, losses, repeated):
    """A trial in which outputs are repeated for each example; None if the network fails."""
    try:
        recording = record(network, index, repeated)
        changed = record(network, changed_index, repeated)
    except Exception:  # networks raise anything for shapes that they do not expect
        return None
    again = recording.losses.detach()
    same = again.shape == losses.shape and equal_to_rounding(again, losses)
    return _layouts(recording, changed, repeated) if same else None


def _changed_index(network, index):
    """The same examples, but the second is replaced by the one that differs most from it."""
    # It must differ in many entries: tokens or pixels in common hide where the example is.  The
    # second has a neighbour on either side, whose loss shows whether examples mix.
    index_with_change, n = index.clone(), len(network)
    differences = [
        (x != x[index[1]]).reshape(n, -1).float().mean(1) for x in network.examples.inputs()
    ]
    index_with_change[1] = int(sum(differences).argmax())
    return index_with_change


def check_same(network, losses_alone, losses, index) -> None:
    """Check that losses agree with those of the same examples in another batch.

    index: the examples of the batch in which `losses` are.  Raises ValueError.
    """
    if equal_to_rounding(losses_alone, losses):
        return
    if network.at_rounding(losses) and network.at_rounding(losses_alone):
        return
    net = network.net
    # A second call with the same examples tells randomness from a mixture of examples.
    first, second = network.losses(index), network.losses(index)
    if torch.equal(first, second):
        why = why_mixed(net)
        raise ValueError(f"the loss of an example depends on the others in its batch{why}")
    raise ValueError("the losses differ from one call to the next: is there dropout?")


def disagreeing(forms, expected: dict, weights, sizes: dict) -> set:
    """The parameters for which the forms and autograd give different weighted gradients.

    expected: name -> the gradient of sum_i w_i l_i, or None.  sizes: name -> size of its terms.
    """
    views = {name: _zeros_of(g) for name, g in expected.items() if g is not None}
    for form in forms:
        form.combine(weights, views)
    return {
        name
        for name, view in views.items()
        if not equal_to_rounding(view, expected[name], sizes.get(name, 0.0))
    }


def _zeros_of(gradient):
    shaped = gradient.view(gradient.shape or 1)
    return torch.zeros_like(shaped, memory_format=torch.contiguous_format)


def sizes_of(calls: list[LayerCall]) -> dict:
    """name -> the size of the terms of which the gradients of a parameter are sums."""
    sizes: dict = {}
    for call in calls:
        outputs, largest = float(vector_norm(call.output_gradient)), 1.0
        if call.inputs.is_floating_point() and call.inputs.numel():
            largest = float(call.inputs.abs().max())
        for parameter, factor in ((call.weight, max(1.0, largest)), (call.bias, 1.0)):
            if parameter:
                sizes[parameter.name] = sizes.get(parameter.name, 0.0) + outputs * factor
    return sizes


def equal_to_rounding(first, second, summed: float = 0.0) -> bool:
    """Whether two arrays agree to rounding, relative to the largest entry or to what is summed."""
    if not second.numel():
        return first.shape == second.shape
    eps = torch.finfo(second.dtype).eps
    tolerance = max(eps**ROUNDING * float(vector_norm(second, torch.inf)), SUMMED * eps * summed)
    return bool(vector_norm(first.view_as(second) - second, torch.inf) <= tolerance)


def unequal_weights(n: int, like):
    """A weight for each example, of either sign and a size from 0.5 to 1.5; always the same."""
    # With equal weights, gradients of the wrong examples could still have the right sum.  Weights
    # that differ little between neighbours would not show if two of these are exchanged.
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(n, generator=generator, dtype=torch.float64)
    signs = 2.0 * torch.randint(2, (n,), generator=generator) - 1
    return ((0.5 + uniform) * signs).to(like)


def signature(call):
    return call.kind, call.weight, call.bias
