"""A long run of chains, kept on disk chunk by chunk and taken up again where it stopped."""

import hashlib
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgdnoise.dynamics._chains._simulate import (
    State,
    keys_for,
    result,
    start_state,
    step_many,
    within,
)
from sgdnoise.lab._store import atomic_write, load_arrays, save_arrays


def simulate_resumable(
    process,
    key,
    start,
    *,
    steps,
    every,
    chunk,
    folder,
    observe,
    given=None,
    block=None,
    devices=None,
    done=lambda: None,
):
    """As `simulate` with `observe`: the last State and what was observed, (chain, t, ...).

    Each `chunk` steps a file in `folder` is finished, whole or absent, and `done()` is called.
    Started again on the same folder, it reads the finished chunks and runs the others; the
    numbers are those of an undisturbed run, bit for bit; with more `steps` the run goes on.
    A damaged chunk is run again.  Raises ValueError unless every | chunk | steps, and for a folder
    that holds another run: other keys, start, process, observable, chunks, or version of jax.
    """
    if steps % chunk or chunk % every:
        raise ValueError(
            f"steps {steps}, chunk {chunk}, every {every}: each must divide the former"
        )
    keys = keys_for(key, jax.tree.leaves(start)[0].shape[0])
    how = {"steps": chunk, "every": every, "observe": observe, "given": given}
    how |= {"block": block, "devices": devices}
    state, seen = start_state(start, process, given, observe), []

    def piece(state, first):
        return step_many(process, keys, state, first, **how)

    traced, shape = jax.make_jaxpr(piece, return_shape=True)(state, 0)
    _claim(Path(folder), _fingerprint(traced, (keys, state, given, chunk, every)))
    for first in range(0, steps, chunk):
        path = Path(folder) / f"chunk-{first // chunk:04d}.npz"
        found = _load(path, shape)
        if found is None:
            found = piece(state, first)
            save_arrays(path, jax.tree.leaves(found))
        state, part = found
        seen.append(part)
        done()
    if state.kept is not None:
        return state, result(observe, state, given)
    return state, jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *seen)


def _claim(folder, fingerprint):
    """Make the folder that of a run, unless it is that of another."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.txt"
    held = path.read_text() if path.exists() else None
    if held is None and any(folder.glob("chunk-*.npz")):
        held = "unknown"
    if held not in (None, fingerprint):
        raise ValueError(f"the folder {folder} holds another run, so take a new one or empty it")
    if held is None:
        with atomic_write(path) as new:
            new.write_text(fingerprint)


def _fingerprint(traced, settings) -> str:
    """A hash of what a run computes, of the numbers in it, and of those it starts from."""
    text = re.sub(r" at 0x[0-9a-f]+", "", str(traced))
    values = [*_constants(traced), *jax.tree.leaves(settings)]
    return hashlib.sha256(b"".join([text.encode(), *map(_bytes, values)])).hexdigest()


def _constants(computation):
    """Arrays that a computation holds, and those it calls, of which its text tells no number."""
    yield from getattr(computation, "consts", ())
    for eqn in computation.eqns:
        yield from (v.val for v in eqn.invars if hasattr(v, "val"))
    for inner in within(computation):
        yield from _constants(inner)


def _bytes(values):
    if jnp.issubdtype(jnp.result_type(values), jax.dtypes.prng_key):
        values = jax.random.key_data(values)
    return np.asarray(values).tobytes()


def _load(path, shape) -> tuple[State, object] | None:
    """A finished chunk, if the file is whole and of the shape that this run makes."""
    tree: Any
    leaves, tree = jax.tree.flatten(shape)
    arrays = load_arrays(path)
    if arrays is None or [a.shape for a in arrays] != [leaf.shape for leaf in leaves]:
        return None
    return tree.unflatten([jnp.asarray(a) for a in arrays])
