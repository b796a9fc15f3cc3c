"""Random numbers for all chains at once, each a function of key, step, name and place alone."""

import math
from functools import partial
from typing import Any
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.polynomial import Chebyshev, Polynomial

from sgdnoise.noise._draws import (
    Normal,
    Permutation,
    Rademacher,
    StepNumber,
    ThreePoint,
    Uniform,
    WithoutReplacement,
    WithReplacement,
)

TURNS = (13, 15, 26, 6), (17, 29, 16, 24)
PARITY = np.uint32(0x1BD11BDA)
ENDS = 0.5**0.5 - 1, 2**0.5 - 1
MIDDLE = int(np.float32(0.5**0.5).view("int32"))
RATIO = Chebyshev.interpolate(lambda x: np.log1p(x) / x, 9, ENDS).convert(kind=Polynomial)
LOG = [float(factor) for factor in RATIO.coef]  # of log(1 + x) / x


@jax.jit
def threefry(key, counter):
    """Two words of two words under a key of two, threefry2x32 of 20 rounds (Salmon et al., 2011).

    Elementwise on arrays of uint32 that broadcast; the words of jax's own threefry.
    """
    keys = (*key, key[0] ^ key[1] ^ PARITY)
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for turn in map(np.uint32, TURNS[group % 2]):
            x = x + y
            y = x ^ (y << turn | y >> np.uint32(32 - turn))
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def keys_for(key, chains: int):
    """One key a chain, of which the first ones do not depend on how many there are."""
    if key.ndim:
        return key
    return jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(chains))


def draw(kinds, keys, step, dtype):
    """What `kinds` ask for at an integer step, (size, chain) for keys (chain,), (size,) for one.

    A number depends on its key, the step, the name of its kind among `kinds` and its place alone.
    Raises TypeError for a kind that is unknown, ValueError for keys that are not threefry's.
    """
    own = streams(kinds, keys)
    return numbers(kinds, own, step, dtype, orders(kinds, own, step))


def streams(kinds, keys) -> list:
    """For each kind the key of its own, two words (chain,), in the order of the tree."""
    words = jax.random.key_data(keys)
    if words.shape[-1] != 2:
        raise ValueError(f"chains want keys of threefry2x32, not of {jax.random.key_impl(keys)}")
    names, _ = jax.tree_util.tree_flatten_with_path(kinds)
    texts = (jax.tree_util.keystr(path).encode() for path, _ in names)
    zero = np.uint32(0)
    return [threefry((words[..., 0], words[..., 1]), (zero, np.uint32(crc32(t)))) for t in texts]


def orders(kinds, streams, step, before=None) -> list:
    """For each Shuffle its permutation of this epoch (below, chain), None for other kinds.

    With those of the step before only a new epoch makes new ones.
    """
    leaves = jax.tree.leaves(kinds)
    old = [None] * len(leaves) if before is None else before
    return [_order(*parts, step) for parts in zip(leaves, streams, old, strict=True)]


def numbers(kinds, streams, step, dtype, orders):
    """`draw` by streams and orders that are known."""
    tree: Any
    leaves, tree = jax.tree.flatten(kinds)
    parts = zip(leaves, streams, orders, strict=True)
    return tree.unflatten([_numbers(*part, step, jnp.result_type(dtype)) for part in parts])


def along(kinds, axis: int):
    """For `jax.vmap`: over which axis of what is drawn the chains lie; a Step has none."""
    return jax.tree.map(lambda kind: None if isinstance(kind, StepNumber) else axis, kinds)


def _numbers(kind, stream, order, step, dtype):
    match kind:
        case Normal(size):
            return _normal(stream, step, size, dtype)
        case Uniform(size):
            return _uniform(stream, step, size, dtype)
        case Rademacher(size):
            return _signs(stream, step, size, dtype)
        case ThreePoint(size):
            words = _words(stream, step, size)
            sixth = np.uint32(2**32 // 6)  # off by 2e-10
            return 3**0.5 * ((words < sixth).astype(dtype) - (words >= ~sixth).astype(dtype))
        case WithReplacement(size, below):
            return _below(_words(stream, step, size), np.uint32(below)).astype(int)
        case WithoutReplacement(size, below):
            return _distinct(_words(stream, step, size), below).astype(int)
        case Permutation(size, below):
            return lax.dynamic_slice_in_dim(order, step % (below // size) * size, size)
        case StepNumber():
            return step
    raise TypeError(f"no way to draw {kind!r}")


def _pairs(stream, step, places):
    """Words at a step and at places (number,): two arrays (number, chain)."""
    column = lax.expand_dims(jnp.asarray(places, "uint32"), range(1, 1 + stream[0].ndim))
    return threefry(stream, (jnp.asarray(step).astype("uint32"), column))


def _words(stream, step, size):
    """So many words, (size, chain)."""
    return _joined(_pairs(stream, step, np.arange(-(-size // 2))), size)


def _joined(halves, size):
    """Two arrays one below the other; apart, lest XLA hashes again for each."""
    return jnp.concatenate(lax.optimization_barrier(halves))[:size]


def _wide(stream, step, places):
    """Words of 64 bits."""
    high, low = (word.astype("uint64") for word in _pairs(stream, step, places))
    return high << 32 | low


def _normal(stream, step, size, dtype):
    """Normal numbers by Box & Muller (1958), two from two words, of 64 bits for float64.

    They reach 6.8 deviations, 9.5 in float64.
    """
    half = np.arange(-(-size // 2))
    if dtype == jnp.float64:
        first, second = (_wide(stream, step, 2 * half + i) for i in (0, 1))
        return _joined(_polar(first, second, dtype), size)
    first, second = _pairs(stream, step, half)
    return _joined(_polar(first, second, jnp.float32), size).astype(dtype)


def _polar(first, second, dtype):
    """Radius from one word and angle from another, of which two bits say the quarter."""
    bits = jnp.iinfo(first.dtype).bits
    radius = jnp.sqrt(-2 * _log((first.astype(dtype) + 0.5) * 2.0**-bits))
    low = lax.bitcast_convert_type(second << 2, f"int{bits}").astype(dtype)
    cosine, sine = _circle(low * (math.pi / 4 * 2.0 ** (1 - bits)))
    odd = (second >> (bits - 2)) & 1
    side = radius * (1 - (second >> (bits - 1)).astype(dtype) * 2)
    return side * jnp.where(odd, sine, cosine), side * jnp.where(odd, -cosine, sine)


def _log(u):
    """log u of a normal float32, by its exponent and a polynomial: less work than XLA's."""
    if u.dtype == jnp.float64:
        return jnp.log(u)
    bits = lax.bitcast_convert_type(u, "int32")
    power = (bits - MIDDLE) >> 23
    off = lax.bitcast_convert_type(bits - (power << 23), "float32") - 1
    ratio: Any = 0.0
    for factor in LOG[::-1]:
        ratio = ratio * off + factor
    return power.astype("float32") * math.log(2) + off * ratio


def _circle(x):
    """cos x and sin x for |x| <= pi/4, by the series of exp(i x) to order 9, 19 for float64."""
    square, cosine, sine = x * x, 0.0, 0.0
    for k in range(9 if x.dtype == jnp.float32 else 19, 0, -2):
        sine = sine * square + (-1) ** (k // 2) / math.factorial(k)
        cosine = cosine * square + (-1) ** (k // 2) / math.factorial(k - 1)
    return cosine, x * sine


def _uniform(stream, step, size, dtype):
    """Multiples of 2^-24, of 2^-53 for float64."""
    if dtype == jnp.float64:
        return (_wide(stream, step, np.arange(size)) >> 11).astype(dtype) * 2.0**-53
    return ((_words(stream, step, size) >> 8).astype("float32") * 2.0**-24).astype(dtype)


def _signs(stream, step, size, dtype):
    """Thirty-two of a word."""
    words = lax.optimization_barrier(_words(stream, step, -(-size // 32)))
    shifts = np.arange(32, dtype="uint32").reshape(1, 32, *[1] * (words.ndim - 1))
    bits = words[:, None] >> shifts & 1
    return 1 - 2 * bits.reshape(-1, *words.shape[1:])[:size].astype(dtype)


def _below(words, n):
    """The integer part of n times a word / 2^32, in 32-bit arithmetic, for n or array of n < 2^32.

    Each index has a probability within 2^-32 of 1/n.
    """
    half = np.uint32(0xFFFF)
    low, high = words & half, words >> 16
    first, cross = low * (n & half), high * (n & half)
    middle = low * (n >> 16) + (first >> 16)
    carry = (cross & half) + (middle & half)
    return high * (n >> 16) + (cross >> 16) + (middle >> 16) + (carry >> 16)


def _distinct(words, below):
    """The first entries of a permutation by Fisher and Yates, of which only these are made.

    Entry j swaps with place j + (an index below n - j): read backwards, where did it come from?
    """
    size = words.shape[0]
    column = np.arange(size, dtype="uint32").reshape(size, *[1] * (words.ndim - 1))
    swapped = lax.optimization_barrier(column + _below(words, below - column))

    def back(turn, place):
        k = size - 2 - turn
        hit = (column > k) & (place == lax.dynamic_index_in_dim(swapped, k))
        return jnp.where(hit, jnp.uint32(k), place)

    return lax.fori_loop(0, max(size - 1, 0), back, swapped, unroll=min(8, max(size - 1, 1)))


def _order(kind, stream, before, step):
    if not isinstance(kind, Permutation):
        return None
    length = kind.below // kind.size

    def fresh():
        words = [w.T for w in _pairs(stream, step // length, np.arange(kind.below))]
        places = lax.broadcasted_iota(int, words[0].shape, words[0].ndim - 1)
        return lax.sort((*words, places), num_keys=2)[2].T

    return fresh() if before is None else lax.cond(step % length == 0, fresh, lambda: before)
