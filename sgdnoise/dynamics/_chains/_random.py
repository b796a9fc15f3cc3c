"""Random numbers for all chains at once, each a function of key, step, kind and position alone.

We use our own counter-based generator instead of jax.random for three reasons.  First, a number
that depends on (key, step, position) alone lets a run be cut, resumed and recorded anywhere without
changing a bit; splitting keys would make it depend on history.  Second, chains lie along the last
axis, where XLA's CPU code is fastest.  Third, Box & Muller's method with short polynomials takes
about half the time of jax's inverse error function (benchmarks/tables.md).  The words are those of
jax's own threefry, which a test checks.
"""

import math
from functools import partial
from typing import Any
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.polynomial import Chebyshev, Polynomial

from sgdnoise.core._checks import is_integer
from sgdnoise.core._scalars import described
from sgdnoise.noise._draws import (
    Normal,
    Permutation,
    Rademacher,
    Sampled,
    StepNumber,
    ThreePoint,
    Uniform,
    WithoutReplacement,
    WithReplacement,
)

ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)  # of threefry2x32, by round
PARITY = np.uint32(0x1BD11BDA)  # of threefry2x32's key schedule
# log u = log(1 + x) + a power of two, with x in this interval, where log(1 + x) / x is smooth.
INTERVAL = 0.5**0.5 - 1, 2**0.5 - 1
LOWER_BITS = int(np.float32(0.5**0.5).view("int32"))  # the bits of the lower end of 1 + x
RATIO = Chebyshev.interpolate(lambda x: np.log1p(x) / x, 9, INTERVAL).convert(kind=Polynomial)
LOG_COEFFICIENTS = [float(factor) for factor in RATIO.coef]  # of log(1 + x) / x


@jax.jit
def threefry(key, counter):
    """threefry2x32 of 20 rounds (Salmon et al., 2011): two words from two words and a key of two.

    It acts elementwise on uint32 arrays that broadcast.  Its words are those of jax.
    """
    keys = (*key, key[0] ^ key[1] ^ PARITY)
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for rotation in map(np.uint32, ROTATIONS[group % 2]):
            x = x + y
            y = x ^ (y << rotation | y >> np.uint32(32 - rotation))
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def keys_for(key, chains: int):
    """One key for each chain; the first keys do not depend on the number of chains.

    key: an int, a key of jax of either kind (typed, or two words of uint32), or a key per chain.
    Raises ValueError for anything else, and for another number of keys than chains.
    """
    key = _typed(key)
    if not key.ndim:
        return jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(chains))
    if key.shape != (chains,):
        raise ValueError(f"{chains} chains need one key, or one key each, not {key.shape} keys")
    return key


def _typed(key):
    """A key, or an array of keys, of jax's typed kind."""
    if is_integer(key):
        return jax.random.key(int(key))
    if isinstance(key, (jax.Array, np.ndarray)):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            return key
        if key.dtype == np.uint32 and key.ndim and key.shape[-1] == 2:
            return jax.random.wrap_key_data(jnp.asarray(key), impl="threefry2x32")
        if key.ndim == 0 and jnp.issubdtype(key.dtype, jnp.integer):
            return jax.random.key(key)
        kind = f"an array of {key.dtype} of shape {tuple(key.shape)}"
    else:
        kind = described(key)
    raise ValueError(f"key must be an int or a key of jax, such as jax.random.key(0), not {kind}")


def draw(kinds, keys, step, dtype):
    """The random numbers that `kinds` ask for at a step, (size, chain) for keys (chain,).

    A number depends only on its key, the step, the name of its kind in `kinds` and its position.
    Raises TypeError for an unknown kind and ValueError for keys that are not threefry's.
    """
    stream_list = streams(kinds, keys)
    return numbers(kinds, stream_list, step, dtype, orders(kinds, stream_list, step))


def streams(kinds, keys) -> list:
    """For each kind in the tree `kinds` a key of its own, two words (chain,)."""
    words = jax.random.key_data(keys)
    if words.shape[-1] != 2:
        raise ValueError(f"chains want keys of threefry2x32, not of {jax.random.key_impl(keys)}")
    names, _ = jax.tree_util.tree_flatten_with_path(kinds)
    texts = (jax.tree_util.keystr(path).encode() for path, _ in names)
    zero = np.uint32(0)
    return [threefry((words[..., 0], words[..., 1]), (zero, np.uint32(crc32(t)))) for t in texts]


def orders(kinds, streams, step, before=None) -> list:
    """The permutation (below, chain) of the current epoch for each Permutation, else None.

    before: the orders of the previous step; they are reused within an epoch.
    """
    leaves = jax.tree.leaves(kinds)
    old = [None] * len(leaves) if before is None else before
    return [_order(*results, step) for results in zip(leaves, streams, old, strict=True)]


def numbers(kinds, streams, step, dtype, orders):
    """The numbers of `draw`, from streams and orders that are known."""
    tree: Any
    leaves, tree = jax.tree.flatten(kinds)
    results = zip(leaves, streams, orders, strict=True)
    return tree.unflatten([_numbers(*kind, step, jnp.result_type(dtype)) for kind in results])


def along(kinds, axis: int):
    """For `jax.vmap`: the axis of each draw along which chains lie; a StepNumber has none."""
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
        case Sampled(size, sample):
            return _sampled(stream, step, size, dtype, sample)
        case WithReplacement(size, below):
            return _below(_words(stream, step, size), np.uint32(below)).astype(int)
        case WithoutReplacement(size, below):
            return _distinct(_words(stream, step, size), below).astype(int)
        case Permutation(size, below):
            return lax.dynamic_slice_in_dim(order, step % (below // size) * size, size)
        case StepNumber():
            return step
    raise TypeError(f"no way to draw {kind!r}")


def _pairs(stream, step, positions):
    """Two words for each position (number,) at a step: two arrays (number, chain)."""
    column = lax.expand_dims(jnp.asarray(positions, "uint32"), range(1, 1 + stream[0].ndim))
    return threefry(stream, (jnp.asarray(step).astype("uint32"), column))


def _words(stream, step, size):
    """The first `size` words, (size, chain)."""
    return _joined(_pairs(stream, step, np.arange(-(-size // 2))), size)


def _joined(halves, size):
    """Two arrays, one below the other.  The barrier keeps XLA from hashing twice for them."""
    return jnp.concatenate(lax.optimization_barrier(halves))[:size]


def _wide(stream, step, positions):
    """Words of 64 bits for each position."""
    high, low = (word.astype("uint64") for word in _pairs(stream, step, positions))
    return high << 32 | low


def _normal(stream, step, size, dtype):
    """Normal numbers by Box & Muller (1958), two from two words, of 64 bits for float64.

    The largest is 6.8 standard deviations, in float64 9.5.
    """
    half = np.arange(-(-size // 2))
    if dtype == jnp.float64:
        first, second = (_wide(stream, step, 2 * half + i) for i in (0, 1))
        return _joined(_polar(first, second, dtype), size)
    first, second = _pairs(stream, step, half)
    return _joined(_polar(first, second, jnp.float32), size).astype(dtype)


def _polar(first, second, dtype):
    """Two normal numbers: the radius from one word, the angle from the other.

    Two bits of the second word choose the quarter of the circle, the others the angle in it.
    """
    bits = jnp.iinfo(first.dtype).bits
    radius = jnp.sqrt(-2 * _log((first.astype(dtype) + 0.5) * 2.0**-bits))
    low = lax.bitcast_convert_type(second << 2, f"int{bits}").astype(dtype)
    cosine, sine = _circle(low * (math.pi / 4 * 2.0 ** (1 - bits)))
    odd = (second >> (bits - 2)) & 1
    side = radius * (1 - (second >> (bits - 1)).astype(dtype) * 2)
    return side * jnp.where(odd, sine, cosine), side * jnp.where(odd, -cosine, sine)


def _log(u):
    """log u of a normal float32, from its exponent and a polynomial: faster than that of XLA."""
    if u.dtype == jnp.float64:
        return jnp.log(u)
    bits = lax.bitcast_convert_type(u, "int32")
    power = (bits - LOWER_BITS) >> 23
    x = lax.bitcast_convert_type(bits - (power << 23), "float32") - 1
    ratio: Any = 0.0
    for factor in LOG_COEFFICIENTS[::-1]:
        ratio = ratio * x + factor
    return power.astype("float32") * math.log(2) + x * ratio


def _circle(x):
    """cos x and sin x for |x| <= pi/4, by the series of exp(i x) to order 9, 19 for float64."""
    square, cosine, sine = x * x, 0.0, 0.0
    for k in range(9 if x.dtype == jnp.float32 else 19, 0, -2):
        sine = sine * square + (-1) ** (k // 2) / math.factorial(k)
        cosine = cosine * square + (-1) ** (k // 2) / math.factorial(k - 1)
    return cosine, x * sine


def _sampled(stream, step, size, dtype, sample):
    """Numbers of a function of a key, which is one for each chain and step."""
    words = threefry(stream, (jnp.asarray(step).astype("uint32"), np.uint32(0)))
    keys = jax.random.wrap_key_data(jnp.stack(words, axis=-1), impl="threefry2x32")

    def of_key(key):
        numbers = sample(key, (size,), dtype)
        if not isinstance(numbers, jax.Array) or numbers.shape != (size,):
            found = getattr(numbers, "shape", type(numbers).__name__)
            raise ValueError(
                f"a sampler must make ({size},) numbers of jax from its key, not {found}"
            )
        if isinstance(key, jax.core.Tracer) and not isinstance(numbers, jax.core.Tracer):
            raise ValueError("a sampler must make its numbers from the key, or all chains have one")
        return numbers

    return jax.vmap(of_key, out_axes=1)(keys) if keys.ndim else of_key(keys)


def _uniform(stream, step, size, dtype):
    """Uniform numbers, multiples of 2^-24, or of 2^-53 for float64."""
    if dtype == jnp.float64:
        return (_wide(stream, step, np.arange(size)) >> 11).astype(dtype) * 2.0**-53
    return ((_words(stream, step, size) >> 8).astype("float32") * 2.0**-24).astype(dtype)


def _signs(stream, step, size, dtype):
    """Random signs, thirty-two from each word."""
    words = lax.optimization_barrier(_words(stream, step, -(-size // 32)))
    shifts = np.arange(32, dtype="uint32").reshape(1, 32, *[1] * (words.ndim - 1))
    bits = words[:, None] >> shifts & 1
    return 1 - 2 * bits.reshape(-1, *words.shape[1:])[:size].astype(dtype)


def _below(words, n):
    """Indices below n: the integer part of n times word / 2^32, for n (or an array) below 2^32.

    It is computed with 32-bit words, since jax has no 64-bit integers by default: the product is
    put together from those of the halves.  Each index has a probability within 2^-32 of 1/n.
    """
    half = np.uint32(0xFFFF)
    low, high = words & half, words >> 16
    first, cross = low * (n & half), high * (n & half)
    second = low * (n >> 16) + (first >> 16)
    carry = (cross & half) + (second & half)
    return high * (n >> 16) + (cross >> 16) + (second >> 16) + (carry >> 16)


def _distinct(words, below):
    """The first entries of a permutation of `below` indices, by the shuffle of Fisher & Yates.

    Entry j swaps with position j + (an index below n - j).  Only the first entries are wanted, so
    no array of n is made: the swaps are followed backwards to where each entry came from.
    """
    size = words.shape[0]
    column = np.arange(size, dtype="uint32").reshape(size, *[1] * (words.ndim - 1))
    swapped = lax.optimization_barrier(column + _below(words, below - column))

    def back(i, position):
        k = size - 2 - i
        hit = (column > k) & (position == lax.dynamic_index_in_dim(swapped, k))
        return jnp.where(hit, jnp.uint32(k), position)

    return lax.fori_loop(0, max(size - 1, 0), back, swapped, unroll=min(8, max(size - 1, 1)))


def _order(kind, stream, before, step):
    if not isinstance(kind, Permutation):
        return None
    length = kind.below // kind.size

    def new_order():
        # Sorting by random words permutes: equal pairs of words are too rare to matter.
        words = [w.T for w in _pairs(stream, step // length, np.arange(kind.below))]
        positions = lax.broadcasted_iota(int, words[0].shape, words[0].ndim - 1)
        return lax.sort((*words, positions), num_keys=2)[2].T

    if before is None:
        return new_order()
    return lax.cond(step % length == 0, new_order, lambda: before)
