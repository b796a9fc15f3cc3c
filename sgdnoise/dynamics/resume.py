"""A long run of chains, kept on disk chunk by chunk and taken up again where it stopped."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from sgdnoise.dynamics.chains import State, advance, begin, keys_for
from sgdnoise.store import load_arrays, save_arrays

__all__ = ["chunked"]


def chunked(
    process, key, start, *, steps, every, chunk, folder, observe, given=None, done=lambda: None
):
    """As `simulate` with `observe`: the last State and what was observed, (chain, t, ...).

    Each `chunk` steps a file in `folder` is finished, whole or absent, and `done()` is called.
    Started again on the same folder, it reads the finished chunks and runs the others; the
    numbers are those of an undisturbed run, bit for bit.  The folder must belong to this run.
    A damaged chunk is run again.  Raises ValueError unless every | chunk | steps.
    """
    if steps % chunk or chunk % every:
        raise ValueError(
            f"steps {steps}, chunk {chunk}, every {every}: each must divide the former"
        )
    Path(folder).mkdir(parents=True, exist_ok=True)
    state, keys, seen = (
        begin(start, process, given),
        keys_for(key, jax.tree.leaves(start)[0].shape[0]),
        [],
    )
    how = {"steps": chunk, "every": every, "observe": observe, "given": given}
    shape = jax.eval_shape(lambda s, k: advance(process, keys, s, k, **how), state, 0)
    for first in range(0, steps, chunk):
        path = Path(folder) / f"chunk-{first // chunk:04d}.npz"
        found = _load(path, shape)
        if found is None:
            found = advance(process, keys, state, first, **how)
            save_arrays(path, jax.tree.leaves(found))
        state, part = found
        seen.append(part)
        done()
    return state, jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *seen)


def _load(path, shape) -> tuple[State, object] | None:
    """A finished chunk, if the file is whole and of the shape that this run makes."""
    tree: Any
    leaves, tree = jax.tree.flatten(shape)
    arrays = load_arrays(path)
    if arrays is None or [a.shape for a in arrays] != [leaf.shape for leaf in leaves]:
        return None
    return tree.unflatten([jnp.asarray(a) for a in arrays])
