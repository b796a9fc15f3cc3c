"""Products with the Hessian and the Gauss-Newton matrix of the mean loss of a network."""

from collections.abc import Callable, Iterable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten, tree_unflatten

from sgdnoise.nets._network import Network

KINDS = ("hessian", "gauss_newton")


def curvature_product(
    networks: Callable[[], Iterable[Network]], n: int, names: list[str], kind: str
) -> Callable:
    """v -> Hv or Gv for the mean loss of n examples and the parameters of these names.

    networks: () -> the network on some of the examples at a time.
    H is the Hessian.  G = (1/n) sum_i J_i^T (d^2 l_i / d out^2) J_i is the Gauss-Newton matrix, for
    the derivative J_i of the outputs of example i.  For cross-entropy G is the Fisher information.
    Raises ValueError for another kind, and for a network or loss without second derivatives.
    """
    if kind not in KINDS:
        raise ValueError(f"the curvature is {KINDS[0]!r}, {KINDS[1]!r} or a function, not {kind!r}")
    image_of = _hessian_image if kind == "hessian" else _gauss_newton_image

    def product(vector):
        total = torch.zeros_like(vector)
        for network in networks():
            total += image_of(network, names, vector)
        return total / n

    return product


def _hessian_image(network, names, vector):
    """The Hessian of the summed losses times a vector."""
    leaves = network.leaves()
    kept = [leaves[name] for name in names]
    with _second_derivatives(), network.at(leaves):
        losses = network.losses_inside(network.examples)
        gradients = torch.autograd.grad(
            losses.sum(), kept, create_graph=True, materialize_grads=True
        )
        along = sum((g * v).sum() for g, v in zip(gradients, _parts(vector, kept), strict=True))
        return _flat(_derivatives(along, kept))


def _gauss_newton_image(network, names, vector):
    """J^T L'' J times a vector, summed over examples."""
    leaves = network.leaves()
    kept = [leaves[name] for name in names]
    with _second_derivatives(), network.at(leaves):
        parts, structure = tree_flatten(network.outputs_inside(network.examples))
        places = [k for k, part in enumerate(parts) if _is_differentiable(part)]
        outputs = [parts[k] for k in places]
        # J v is the derivative of J^T u along u, which is linear in u.
        dummies = [torch.zeros_like(output).requires_grad_() for output in outputs]
        pulled = torch.autograd.grad(
            outputs, kept, dummies, create_graph=True, allow_unused=True, materialize_grads=True
        )
        pairs = zip(pulled, _parts(vector, kept), strict=True)
        pushed = _derivatives(sum((g * v).sum() for g, v in pairs), dummies)
        free = [output.detach().requires_grad_() for output in outputs]
        for place, tensor in zip(places, free, strict=True):
            parts[place] = tensor
        losses = network.losses_of_outputs(tree_unflatten(parts, structure), network.examples)
        slopes = _derivatives(losses.sum(), free, create_graph=True)
        along = sum((s * u.detach()).sum() for s, u in zip(slopes, pushed, strict=True))
        bent = _derivatives(along, free)
        return _flat(
            torch.autograd.grad(outputs, kept, bent, allow_unused=True, materialize_grads=True)
        )


def _is_differentiable(part):
    return torch.is_tensor(part) and part.is_floating_point() and part.requires_grad


def _derivatives(total, leaves, create_graph=False):
    """The gradient of a number, zero where it does not depend on a leaf."""
    if not torch.is_tensor(total) or not total.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    try:
        return torch.autograd.grad(
            total, leaves, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
    except RuntimeError as error:
        if "not implemented" not in str(error):
            raise
        raise ValueError("the network or its loss has no second derivatives") from error


def _parts(vector, leaves):
    """The vector, as tensors in the shapes of the leaves."""
    pieces = vector.split([leaf.numel() for leaf in leaves])
    return [
        piece.view(leaf.shape).to(leaf.dtype) for piece, leaf in zip(pieces, leaves, strict=True)
    ]


def _flat(tensors):
    return torch.cat([t.detach().reshape(-1) for t in tensors])


def _second_derivatives():
    """A context for attention: its fused kernels have no second derivative, the formula has."""
    return sdpa_kernel(SDPBackend.MATH)
