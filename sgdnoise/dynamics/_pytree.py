"""A loss over any pytree of parameters, as of flax or equinox, as a Problem in jax."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._problem import Problem


@checked
def pytree_problem(losses: Callable, parameters, *examples) -> tuple[Problem, Any, Callable]:
    """A Problem, its first theta (p,), and theta -> the tree, for a loss over a tree of parameters.

    losses: (tree, *examples) -> (n,), one number for each example, such as those of a flax module
    by `module.apply`, or of an equinox module with `jax.vmap(module)`.
    parameters: any pytree.  Its arrays and scalars of real numbers, of jax or numpy, are the
    parameters; all else, such as integers, floats of Python and functions, stays as it is.
    examples: arrays with one leading axis n; the last of them is the target.
    The third result takes theta with any axes before the last, as `simulate(...).theta` has, and
    returns the tree with these axes first in every parameter.
    Raises ValueError for a tree without arrays of real numbers, or with complex ones.

    Example:
        >>> def losses(tree, x, y):
        ...     return (jnp.tanh(x @ tree["w"]) + tree["b"] - y) ** 2
        >>> tree = {"w": jnp.ones(3), "b": jnp.zeros(())}
        >>> problem, theta, unravel = pytree_problem(losses, tree, jnp.eye(3), jnp.ones(3))
        >>> theta.shape, unravel(jnp.zeros((5, 4)))["w"].shape
        ((4,), (5, 3))
    """
    leaves, structure = jax.tree.flatten(parameters)
    places = [k for k, leaf in enumerate(leaves) if _is_real(leaf)]
    if not places:
        raise ValueError("the tree of parameters has no arrays of real numbers")
    arrays = [jnp.asarray(leaves[k]) for k in places]
    dtype = jnp.result_type(*arrays)
    theta = jnp.concatenate([array.astype(dtype).ravel() for array in arrays])
    ends = np.cumsum([array.size for array in arrays])

    def unravel(theta):
        theta = jnp.asarray(theta)
        if theta.ndim < 1 or theta.shape[-1] != ends[-1]:
            raise ValueError(f"theta must be (..., {ends[-1]}), not {theta.shape}")
        pieces = jnp.split(theta, ends[:-1], axis=-1)
        tree = list(leaves)
        for place, array, piece in zip(places, arrays, pieces, strict=True):
            shaped = piece.reshape(*theta.shape[:-1], *array.shape)
            tree[place] = shaped.astype(array.dtype) if array.dtype != dtype else shaped
        return jax.tree.unflatten(structure, tree)

    def flat_losses(theta, *examples):
        return losses(unravel(theta), *examples)

    examples = tuple(jnp.asarray(array) for array in examples)
    return Problem(flat_losses, examples, size=int(ends[-1])), theta, unravel


def _is_real(leaf) -> bool:
    if not isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
        return False
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        raise ValueError("the tree has complex numbers; give real and imaginary parts")
    return jnp.issubdtype(leaf.dtype, jnp.floating)
