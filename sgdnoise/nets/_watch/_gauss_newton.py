"""The Gauss-Newton matrix of a network, from the gradients of random vectors of its outputs.

H = G + R with G = (1/n) sum_i J_i^T L_i J_i, for the derivative J_i of the outputs of example i and
the second derivative L_i of its loss by them.  R has the second derivatives of the outputs.  Their
diagonal, and so Tr R, vanishes if the network is linear in each parameter.
"""

import warnings
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from sgdnoise.core._arrays import as_numpy
from sgdnoise.core._estimate import Estimate
from sgdnoise.nets._network import Network
from sgdnoise.nets._per_example._linear_in_each import is_linear_in_each
from sgdnoise.nets._per_example._operator import NetworkGradients
from sgdnoise.nets._per_example._plan import FallbackWarning, UnusedWarning
from sgdnoise.nets._watch._plans import Plans

N_DRAWS = 2  # random signs of each output of each example
LARGEST = 128  # outputs of an example, of which the second derivatives of its loss are computed
ROUNDING = 1e-6  # negative curvature of a loss, relative to the largest, that is taken for rounding


class RandomOutputs(NamedTuple):
    """The gradients s_i^T f(x_i) of random vectors s_i with E s_i s_i^T = L_i, for each draw.

    linear: whether the network is linear in each parameter, so that Tr H = Tr G.
    """

    draws: list[NetworkGradients]
    linear: bool

    @classmethod
    def of(cls, network: Network, plans: Plans, rng) -> "RandomOutputs | None":
        """With s_i = L_i^(1/2) z_i for random signs z_i; None where L_i is not at hand.

        It must be a convex loss of few outputs, which does not read the parameters itself.
        """
        outputs, roots, linear = _roots(network)
        if roots is None:
            return None
        draws = []
        for _ in range(N_DRAWS):
            signs = torch.as_tensor(rng.choice([-1.0, 1.0], tuple(roots.shape[:2]))).to(roots)
            along = torch.einsum("noi,ni->no", roots, signs).view_as(outputs)
            examples = replace(network.examples, targets=along)
            draws.append(_gradients(plans, replace(network, loss=_inner, examples=examples)))
        return cls(draws, linear)

    def trace(self) -> Estimate:
        """Tr G = (1/n) sum_i E |J_i^T s_i|^2.

        The error is that of the signs, not that of the examples.  Its degrees of freedom are those
        of Satterthwaite (1946), for normal deviations.
        """
        values = np.asarray([as_numpy(rows.squares()).astype(float) for rows in self.draws])
        variances = values.var(0, ddof=1) / N_DRAWS  # of each example, from one deviation
        total, fourth, n = variances.sum(), (variances**2).sum(), values.shape[1]
        dof = max(1.0, 3 * total**2 / fourth) if fourth else float(n)
        return Estimate(float(values.mean()), float(total**0.5 / n), dof)

    def product(self, vector):
        """G v, from the random vectors: unbiased."""
        columns = vector[:, None]
        total = sum(rows.normal(columns, 0.0) for rows in self.draws)
        return total[:, 0] / (len(self.draws) * self.draws[0].n)


def _gradients(plans, network) -> NetworkGradients:
    """The gradients; those of the losses have warned of slow routes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        warnings.simplefilter("ignore", UnusedWarning)
        return plans.gradients("outputs", network)


def _inner(outputs, along):
    """The inner product of the outputs of each example with a vector."""
    return (outputs * along).flatten(1).sum(1)


def _roots(network: Network):
    """The outputs, L_i^(1/2) of each example (n, o, o) or None, and whether Tr H = Tr G."""
    leaves = network.leaves()
    with network.at(leaves):
        outputs = network.outputs_inside(network.examples)
        if not _usable(outputs, len(network)):
            return outputs, None, False
        linear = is_linear_in_each(outputs, leaves)
        free = outputs.detach().requires_grad_()
        losses = network.losses_of_outputs(free, network.examples)
        curvature = _second_derivatives(losses.sum(), free, list(leaves.values()))
    if curvature is None:
        return free, None, linear
    values, vectors = torch.linalg.eigh(curvature.double())
    if float(values.min()) < -ROUNDING * float(values.abs().max()):  # a loss that is not convex
        return free, None, linear
    roots = vectors * values.clamp(min=0).sqrt()[:, None]
    return free.detach(), roots.to(free.dtype), linear


def _usable(outputs, n) -> bool:
    return (
        torch.is_tensor(outputs)
        and outputs.is_floating_point()
        and outputs.ndim > 1
        and len(outputs) == n
        and outputs[0].numel() <= LARGEST
    )


def _second_derivatives(total, free, parameters):
    """The second derivatives of a sum of losses by their outputs, (n, o, o).

    None if the losses read the parameters themselves, or have no second derivatives.
    """
    n, size = len(free), free[0].numel()
    if not total.requires_grad:
        return free.new_zeros(n, size, size)
    (slope, *own) = torch.autograd.grad(
        total, [free, *parameters], create_graph=True, allow_unused=True
    )
    if slope is None or any(gradient is not None for gradient in own):
        return None
    if not slope.requires_grad:
        return free.new_zeros(n, size, size)
    try:
        rows = [
            torch.autograd.grad(column.sum(), free, retain_graph=True, materialize_grads=True)[0]
            for column in slope.flatten(1).T
        ]
    except RuntimeError as error:
        if "not implemented" not in str(error):
            raise
        return None
    return torch.stack([row.flatten(1) for row in rows], 1)
