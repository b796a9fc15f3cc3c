"""Random numbers are functions of key, step, name and place, and have the laws they claim."""

import math
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists
from jax.extend.random import threefry_2x32
from scipy.stats import kstest
from witnesses import SURE

from sgdnoise.core import mean
from sgdnoise.dynamics._chains._random import (
    _below,
    _distinct,
    _log,
    _polar,
    draw,
    keys_for,
    numbers,
    orders,
    streams,
    threefry,
)
from sgdnoise.noise import (
    Normal,
    Permutation,
    Rademacher,
    StepNumber,
    ThreePoint,
    Uniform,
    WithoutReplacement,
)

pytestmark = pytest.mark.usefixtures("quick_to_compile")
WORDS = integers(0, 2**32 - 1)
TYPES = ["float32", "float64"]
UNLIKELY = 1e-6  # as odd as SURE standard errors


def at(kinds, keys, step, dtype="float32"):
    """One draw, compiled as a whole."""
    return jax.jit(lambda keys, step: draw(kinds, keys, step, dtype))(keys, step)


def drawn(kind, dtype, seed=0, chains=3, steps=2000):
    """Many steps of some chains, (step, size, chain)."""
    keys = keys_for(jax.random.key(seed), chains)

    def one(k):
        return draw(kind, keys, k, dtype)

    return np.asarray(jax.jit(jax.vmap(one))(jnp.arange(steps)))


@pytest.mark.parametrize("seed", [0, 7])
def test_words_are_those_of_jax(seed):
    """Its function hashes pairs from the two halves of what it is given."""
    rng = np.random.default_rng(seed)
    key, count = (rng.integers(0, 2**32, n, dtype="uint32") for n in (2, 12))
    ours = threefry(tuple(key), (count[:6], count[6:]))
    np.testing.assert_array_equal(np.concatenate(ours), threefry_2x32(key, count))


def test_a_number_is_the_word_of_its_key_name_step_and_place():
    """Uniform numbers show 24 bits of it."""
    key, kinds = jax.random.key(5), {"a": Uniform(5), "b": (Normal(2),)}
    named = jax.random.fold_in(key, crc32(b"['a']"))
    count = np.asarray([9, 9, 9, 0, 1, 2], "uint32")
    words = np.asarray(threefry_2x32(jax.random.key_data(named), count))
    result = at(kinds, key, 9)["a"]
    np.testing.assert_array_equal(result, (words[:5] >> 8) / np.float32(2**24))


@pytest.mark.parametrize(
    "kind", [Normal(3), Uniform(3), Rademacher(40), WithoutReplacement(3, 9), Permutation(3, 9)]
)
def test_a_chain_draws_the_same_whoever_else_draws(kind):
    keys = keys_for(jax.random.key(1), 4)
    alone = at({"x": kind}, keys[2], 5)["x"]
    np.testing.assert_array_equal(at({"x": kind}, keys, 5)["x"][:, 2], alone)
    beside = at({"a": kind, "x": kind}, keys[1:], 5)
    np.testing.assert_array_equal(beside["x"][:, 1], alone)
    assert np.any(beside["a"][:, 1] != alone)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_normal_numbers_are_normal(seed, dtype):
    z = drawn(Normal(7), dtype, seed)
    assert z.dtype == dtype
    for power, moment in {1: 0, 2: 1, 3: 0, 4: 3, 6: 15}.items():
        assert abs(mean(z.astype(float).ravel() ** power).z(moment)) < SURE
    assert kstest(z.ravel(), "norm").pvalue > UNLIKELY


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_numbers_of_other_steps_places_and_chains_are_independent(seed, dtype):
    """Places 0 and 3 share a radius: squares would tell."""
    z = drawn(Normal(6), dtype, seed).astype(float)
    pairs = [(z[:-1], z[1:]), (z[:-2], z[2:]), (z[..., :1], z[..., 1:]), (z[:, :3], z[:, 3:])]
    pairs += [(z[:, :5], z[:, 1:])]
    for first, two in pairs:
        assert abs(mean((first * two).ravel()).z(0)) < SURE
        assert abs(mean((first**2 * two**2).ravel()).z(1)) < SURE


@pytest.mark.parametrize("dtype", TYPES)
def test_normal_numbers_are_those_of_box_and_muller(dtype, rng):
    """Radius (-2 log u)^1/2; angle the low bits about the axis that two bits name."""
    bits = 32 if dtype == "float32" else 64
    first, two = rng.integers(0, 2**bits, (2, 300), dtype=f"uint{bits}")
    low = (two << np.uint8(2)).astype(f"int{bits}").astype(float) * 2.0 ** (1 - bits)
    turns = np.asarray([0, -1, 2, 1])[(two >> np.uint8(bits - 2)).astype(int)]
    angle = np.pi / 4 * low + np.pi / 2 * turns
    radius = np.sqrt(-2 * np.log((first.astype(float) + 0.5) / 2.0**bits))
    result = _polar(jnp.asarray(first), jnp.asarray(two), jnp.dtype(dtype))
    room = 8 * np.finfo(dtype).eps * radius.max()
    np.testing.assert_allclose(result, radius * [np.cos(angle), np.sin(angle)], rtol=0, atol=room)


def test_the_logarithm_has_the_digits_of_single_precision(rng):
    """Down to 2^-33; near 1 too, where log u vanishes."""
    u = np.concatenate([2.0 ** -rng.uniform(0, 33, 3000), 1 - 2.0 ** -rng.uniform(3, 24, 300)])
    u = np.concatenate([u, [1.0, 2.0**-33, 0.5**0.5]]).astype("float32")
    expected = np.log(u.astype(float))
    np.testing.assert_allclose(_log(jnp.asarray(u)), expected, rtol=4e-7)


@pytest.mark.parametrize(("dtype", "reach"), [("float32", 33), ("float64", 65)])
def test_the_most_extreme_words_give_finite_numbers(dtype, reach):
    """The least u is 2^-33, or 2^-65: radius (2 reach log 2)^1/2."""
    bits = reach - 1
    ends = np.asarray([0, 2**bits - 1], f"uint{bits}")
    first, two = (jnp.asarray(piece.ravel()) for piece in np.meshgrid(ends, ends))
    result = np.stack(_polar(first, two, jnp.dtype(dtype)))
    assert np.all(np.isfinite(result))
    largest = np.sqrt((result**2).sum(0)).max()
    np.testing.assert_allclose(largest, math.sqrt(2 * reach * math.log(2)), rtol=1e-6)


@pytest.mark.parametrize("dtype", TYPES)
def test_uniform_numbers_are_uniform(dtype):
    u = drawn(Uniform(5), dtype)
    assert u.dtype == dtype
    assert np.all((u >= 0) & (u < 1))
    assert kstest(u.ravel(), "uniform").pvalue > UNLIKELY
    assert abs(mean((u[:, 1:] * u[:, :-1]).ravel()).z(0.25)) < SURE


def test_signs_are_fair_and_independent_in_pairs_within_a_word_and_beyond():
    """All 70 x 69 / 2 pairs of places, of which none may stand out but by the odds of so many."""
    signs = drawn(Rademacher(70), "float32", chains=1, steps=4000)[:, :, 0].astype(float)
    assert np.all(abs(signs) == 1)
    scaled = signs.sum(0) / 4000**0.5
    assert np.all(abs(scaled) < SURE)
    products = (signs.T @ signs / 4000**0.5)[np.triu_indices(70, 1)]
    assert np.all(abs(products) < SURE + 1)
    assert abs(mean(products**2).z(1)) < SURE


def test_three_points_have_five_moments_of_normal_numbers():
    three = drawn(ThreePoint(4), "float64").ravel()
    np.testing.assert_allclose(np.unique(three), [-(3**0.5), 0, 3**0.5], rtol=1e-15)
    for power, moment in {1: 0, 2: 1, 3: 0, 4: 3, 5: 0}.items():
        assert abs(mean(three**power).z(moment)) < SURE


@given(words=lists(WORDS, min_size=1, max_size=4), n=integers(1, 2**32 - 1))
def test_an_index_is_the_integer_part_of_n_times_a_word(words, n):
    """In 32-bit arithmetic, what Python does in integers of any length."""
    padded = np.asarray((words * 4)[:4], "uint32")
    result = _below(padded, np.uint32(n))
    assert [int(x) for x in result] == [int(w) * n >> 32 for w in padded]


@pytest.mark.parametrize(("size", "below"), [(1, 5), (4, 4), (6, 40)])
def test_distinct_indices_are_those_of_a_list_that_is_shuffled(size, below, rng):
    """Fisher and Yates by hand: entry j changes places with one behind it."""
    words = rng.integers(0, 2**32, (size, 50), dtype="uint32")
    result = np.asarray(_distinct(jnp.asarray(words), below))
    for chain in range(50):
        entries = list(range(below))
        for j in range(size):
            second = j + (int(words[j, chain]) * (below - j) >> 32)
            entries[j], entries[second] = entries[second], entries[j]
        assert entries[:size] == result[:, chain].tolist()


def test_an_epoch_is_a_permutation_and_the_next_another():
    kind = Permutation(2, 7)
    steps = drawn(kind, float, chains=4, steps=6)
    first, second = np.concatenate(steps[:3]), np.concatenate(steps[3:])
    for epoch in (first, second):
        assert all(len(set(chain)) == 6 for chain in epoch.T)
    assert np.any(first != second)
    assert np.any(first[:, 0] != first[:, 1])


def test_an_order_that_is_carried_on_is_the_one_made_anew():
    kinds, keys = (Permutation(2, 7), Normal(2)), keys_for(jax.random.key(0), 3)
    direct = streams(kinds, keys)

    @jax.jit
    def both(k, before):
        order = orders(kinds, direct, k, before)
        return order, numbers(kinds, direct, k, float, order), draw(kinds, keys, k, float)

    carried = orders(kinds, direct, 0)
    for k in range(7):
        carried, result, anew = both(k, carried)
        jax.tree.map(np.testing.assert_array_equal, result, anew)


def test_the_number_of_the_step_is_handed_on():
    assert draw(StepNumber(), jax.random.key(0), 11, float) == 11


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(TypeError, match="no way to draw 'dice'"):
        draw("dice", jax.random.key(0), 0, float)
    with pytest.raises(ValueError, match="keys of threefry2x32, not of"):
        draw(Normal(2), jax.random.key(0, impl="rbg"), 0, float)
