"""Tr H of networks that are linear in each parameter, from the gradients of random outputs."""

import warnings
from dataclasses import replace

import numpy as np
import torch

from sgdnoise.core._arrays import as_numpy
from sgdnoise.core._estimate import Estimate
from sgdnoise.nets._network import Network
from sgdnoise.nets._per_example._linear_in_each import is_linear_in_each
from sgdnoise.nets._per_example._plan import FallbackWarning, UnusedWarning
from sgdnoise.nets._watch._plans import Plans

N_DRAWS = 2  # random signs of each output of each example
LARGEST = 128  # outputs of an example, of which the second derivatives of its loss are computed
ROUNDING = 1e-6  # negative curvature of a loss, relative to the largest, that is taken for rounding


def exact_trace(network: Network, plans: Plans, rng) -> Estimate | None:
    """Tr H of the mean loss, from N_DRAWS backward passes; None where it is not Tr G.

    H = G + R with the Gauss-Newton matrix G = (1/n) sum_i J_i^T L_i J_i, for the derivative J_i of
    the outputs of example i and the second derivative L_i of its loss by them.  R has the second
    derivatives of the outputs.  Their diagonal, and so Tr R, vanishes if the network is linear in
    each parameter.  Then Tr H = (1/n) sum_i E |J_i^T L_i^(1/2) z_i|^2 for random signs z_i.
    The error is that of the signs, not that of the examples.  Its degrees of freedom are those of
    Satterthwaite (1946), for normal deviations.
    """
    outputs, roots = _roots(network)
    if roots is None:
        return None
    squares = []
    for _ in range(N_DRAWS):
        signs = torch.as_tensor(rng.choice([-1.0, 1.0], tuple(roots.shape[:2]))).to(roots)
        along = torch.einsum("noi,ni->no", roots, signs).view_as(outputs)
        examples = replace(network.examples, targets=along)
        drawn = replace(network, loss=_inner, examples=examples)
        squares.append(_squares(plans, drawn))
    values = np.asarray(squares)
    variances = values.var(0, ddof=1) / N_DRAWS  # of each example, from one deviation
    total, fourth = variances.sum(), (variances**2).sum()
    dof = max(1.0, 3 * total**2 / fourth) if fourth else float(len(network))
    return Estimate(float(values.mean()), float(total**0.5 / len(network)), dof)


def _squares(plans, network):
    """|g_i|^2 of each example; the gradients of the losses have warned of slow routes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        warnings.simplefilter("ignore", UnusedWarning)
        return as_numpy(plans.gradients("outputs", network).squares()).astype(float)


def _inner(outputs, along):
    """The inner product of the outputs of each example with a vector."""
    return (outputs * along).flatten(1).sum(1)


def _roots(network: Network):
    """The outputs, and L_i^(1/2) of each example (n, o, o); None if they do not give Tr H."""
    leaves = network.leaves()
    with network.at(leaves):
        outputs = network.outputs_inside(network.examples)
        if not _usable(outputs, len(network)) or not is_linear_in_each(outputs, leaves):
            return outputs, None
        free = outputs.detach().requires_grad_()
        losses = network.losses_of_outputs(free, network.examples)
        curvature = _second_derivatives(losses.sum(), free, list(leaves.values()))
    if curvature is None:
        return free, None
    values, vectors = torch.linalg.eigh(curvature.double())
    if float(values.min()) < -ROUNDING * float(values.abs().max()):  # a loss that is not convex
        return free, None
    return free.detach(), (vectors * values.clamp(min=0).sqrt()[:, None]).to(free.dtype)


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
