"""Where chains start."""

from typing import Any

import jax
import jax.numpy as jnp

from sgdnoise.core._arrays import widened
from sgdnoise.core._scalars import described


def chains_of(start, given=None):
    """The start as arrays (chain, p), and the number of chains.

    start: theta (chain, ...), a vector (p,) for one chain, or a tree of these.
    given: a tree of arrays with one row for each chain, or None.
    Raises ValueError for numbers instead of vectors, for no chain, and for unequal numbers of
    chains.
    """
    tree: Any
    leaves, tree = jax.tree.flatten(start)
    if not leaves or any(isinstance(leaf, str) for leaf in leaves):
        raise ValueError(f"start must be an array (chain, p), not {described(start)}")
    if all(_is_number(leaf) for leaf in leaves) and isinstance(start, (list, tuple)):
        leaves, tree = jax.tree.flatten(jnp.asarray(start))  # a list of numbers is one theta
    leaves = [jnp.asarray(widened(leaf, "start")) for leaf in leaves]
    axes = {leaf.ndim for leaf in leaves}
    if 0 in axes:
        raise ValueError("start must be an array (chain, p), or (p,) for one chain, not a number")
    if 1 in axes and axes != {1}:
        raise ValueError("start must hold arrays (chain, p) only, or vectors (p,) only, not both")
    if axes == {1}:
        leaves = [leaf[None] for leaf in leaves]
    return tree.unflatten(leaves), _checked(leaves, given)


def _is_number(leaf) -> bool:
    return not getattr(leaf, "shape", ())


def _checked(leaves, given):
    """The number of chains, which all arrays have in common."""
    lengths = sorted({leaf.shape[0] for leaf in leaves})
    if len(lengths) > 1:
        raise ValueError(f"start must have one number of chains, not {lengths}")
    if not lengths[0] or any(not leaf.size for leaf in leaves):
        raise ValueError(f"start has no numbers: its shape is {leaves[0].shape}")
    for row in jax.tree.leaves(given):
        if not getattr(row, "shape", ()) or row.shape[0] != lengths[0]:
            raise ValueError(
                f"given must have one row for each of {lengths[0]} chains, "
                f"not the shape {tuple(getattr(row, 'shape', ()))}"
            )
    return lengths[0]
