"""Per-example gradients of one network, measured again and again as it trains."""

from dataclasses import replace

import torch

from sgdnoise.nets._network import Network
from sgdnoise.nets._per_example._operator import NetworkGradients, gradients_by_plan
from sgdnoise.nets._per_example._plan import Plan

N_ALONE = 8  # examples whose losses alone are compared with those in a larger batch


class Plans:
    """The plans of a network and its losses, which are kept while its parameters change."""

    def __init__(self):
        self._kept: dict[str, Plan] = {}

    def gradients(self, kind: str, network: Network) -> NetworkGradients:
        """The per-example gradients, by the plan of the last network of this kind.

        A plan is made anew where other parameters are trained, or modules have changed their modes.
        Otherwise losses alone and in a batch, and the graph of each block, are checked as always.
        Raises ValueError as `per_example_gradients` does.
        """
        plan = self._kept.get(kind)
        if plan is None or not _fits(plan.network, network):
            plan = Plan.of(network)
        else:
            plan = _with_reference(plan.at(network))
        self._kept[kind] = plan
        return gradients_by_plan(plan)


def _fits(before: Network, now: Network) -> bool:
    """Whether the same parameters are trained, in modules of the same modes."""
    return before.tensors.keys() == now.tensors.keys() and (
        before.state.training == now.state.training
    )


def _with_reference(plan: Plan) -> Plan:
    """The plan with the losses of a few examples alone, unless all vanish."""
    if plan.reference:
        return plan
    first = torch.arange(min(N_ALONE, len(plan.network) - 1))
    alone = plan.network.losses(first)
    return plan if plan.network.at_rounding(alone) else replace(plan, reference=(first, alone))
