"""A long run of chains that is stored chunk by chunk and resumes where it stopped."""

import hashlib
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._files import atomic_write, load_arrays, save_arrays
from sgdnoise.dynamics._chains._blocks import computations_in
from sgdnoise.dynamics._chains._random import keys_for
from sgdnoise.dynamics._chains._simulate import (
    State,
    result,
    start_state,
    step_many,
    warn_of_divergence,
)
from sgdnoise.dynamics._chains._start import chains_of


@checked
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
    """Run `simulate` with `observe` in chunks.  Returns the last State and the records.

    After each `chunk` steps a file in `folder` is written, completely or not at all, and `done()`
    is called.  If it is started again on the same folder, it reads the finished chunks and runs
    the others.  The numbers are those of an uninterrupted run, bit for bit.  With more `steps` the
    run continues.  A damaged chunk is run again.
    Raises ValueError unless every divides chunk and chunk divides steps, and for a folder that
    holds another run: other keys, start, process, observable, chunks or version of jax.

    Example:
        >>> import numpy as np
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> import tempfile
        >>> from sgdnoise.dynamics import sgd
        >>> process = sgd(noise.minibatch(problem, 1), 0.1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ends = simulate_resumable(
        ...         process, 0, jnp.zeros((4, 1)), steps=20, every=10, chunk=10, folder=folder,
        ...         observe=lambda theta: theta,
        ...     )
        >>> np.shape(ends[1])
        (4, 2, 1)
    """
    if steps % chunk or chunk % every:
        raise ValueError(
            f"steps {steps}, chunk {chunk}, every {every}: each must divide the former"
        )
    start, chains = chains_of(start, given)
    keys = keys_for(key, chains)
    settings = {"steps": chunk, "every": every, "observe": observe, "given": given}
    settings |= {"block": block, "devices": devices}
    state, blocks = start_state(start, process, given, observe), []

    def run_chunk(state, first):
        return step_many(process, keys, state, first, **settings)

    traced, shape = jax.make_jaxpr(run_chunk, return_shape=True)(state, 0)
    _claim(Path(folder), _fingerprint(traced, (keys, state, given, chunk, every)))
    for first in range(0, steps, chunk):
        path = Path(folder) / f"chunk-{first // chunk:04d}.npz"
        loaded = _load(path, shape)
        if loaded is None:
            loaded = run_chunk(state, first)
            save_arrays(path, jax.tree.leaves(loaded))
        state, records = loaded
        blocks.append(records)
        done()
    warn_of_divergence(state.n_finite, steps)
    if state.accumulator is not None:
        return state, result(observe, state, given)
    return state, jax.tree.map(lambda *arrays: jnp.concatenate(arrays, axis=1), *blocks)


def _claim(folder, fingerprint):
    """Mark the folder as that of a run.  Raises ValueError if it holds another run."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.txt"
    present = path.read_text() if path.exists() else None
    if present is None and any(folder.glob("chunk-*.npz")):
        present = "unknown"
    if present not in (None, fingerprint):
        raise ValueError(f"the folder {folder} holds another run, so take a new one or empty it")
    if present is None:
        with atomic_write(path) as new:
            new.write_text(fingerprint)


def _fingerprint(traced, settings) -> str:
    """A hash of what a run computes, of the numbers in it, and of those it starts from."""
    text = re.sub(r" at 0x[0-9a-f]+", "", str(traced))
    values = [*_constants(traced), *jax.tree.leaves(settings)]
    return hashlib.sha256(b"".join([text.encode(), *map(_bytes, values)])).hexdigest()


def _constants(computation):
    """The arrays inside a computation and those that it calls; its text does not show them."""
    yield from getattr(computation, "consts", ())
    for eqn in computation.eqns:
        yield from (v.val for v in eqn.invars if hasattr(v, "val"))
    for inner in computations_in(computation):
        yield from _constants(inner)


def _bytes(values):
    if jnp.issubdtype(jnp.result_type(values), jax.dtypes.prng_key):
        values = jax.random.key_data(values)
    return np.asarray(values).tobytes()


def _load(path, shape) -> tuple[State, object] | None:
    """A finished chunk, or None if the file is damaged or of another shape than this run makes."""
    tree: Any
    leaves, tree = jax.tree.flatten(shape)
    arrays = load_arrays(path)
    if arrays is None or [a.shape for a in arrays] != [leaf.shape for leaf in leaves]:
        return None
    return tree.unflatten([jnp.asarray(a) for a in arrays])
