"""Many chains at once: each a function of its key and of the step, and of nothing else."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dynamics.test_process import NOISES
from witnesses import SIZE, SURE, bowl, curved

from sgdnoise import noise
from sgdnoise.core import Problem, mean
from sgdnoise.dynamics import (
    Process,
    State,
    langevin,
    sgd,
    side_by_side,
    simulate,
    start_state,
    step_many,
)
from sgdnoise.dynamics._chains import _blocks as blocks_of_chains
from sgdnoise.dynamics._chains._blocks import block_size
from sgdnoise.dynamics._chains._random import draw, keys_for
from sgdnoise.noise import (
    Normal,
    Permutation,
    Uniform,
    WithoutReplacement,
    WithReplacement,
    reshuffled,
)

pytestmark = pytest.mark.usefixtures("quick_to_compile")
KEY = jax.random.key(7)
SOME = ["minibatch", "reshuffled", "bernoulli", "label", "same_diagonal"]


@cache
def process(name="label"):
    """Descent on the curved problem, and starts of five chains; kept, so compiled once."""
    problem, theta = curved()
    starts = theta + 0.1 * np.random.default_rng(0).normal(size=(5, SIZE))
    return sgd(NOISES[name](problem), 0.05), starts


def itself(theta):
    return theta


@pytest.mark.parametrize("name", SOME)
def test_a_chain_is_the_loop_that_its_draws_and_steps_make(name):
    """Compiled in one piece, sums may round otherwise than step by step."""
    first, starts = process(name)
    path = simulate(first, KEY, starts, steps=6).theta
    key, theta, step = keys_for(KEY, 5)[2], starts[2], jax.jit(first.step)
    drawn = jax.jit(lambda k: draw(first.draw, key, k, theta.dtype))
    for k in range(6):
        theta = step(theta, drawn(k))
        np.testing.assert_allclose(path[2, k], theta, rtol=1e-12)


ALONE = """
import jax, numpy as np
from dynamics.test_chains import bits
bits(jax.devices())
"""


def bits(devices):
    """A network of which products are rounded by their shape, ten chains in blocks of three."""
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(30, 6)).astype("f"), rng.normal(size=(30, 4)).astype("f")
    starts = rng.normal(size=(10, 6 * 9 + 9 * 4)).astype("f") / 3

    def losses(t, x, y):
        return ((jnp.tanh(x @ t[:54].reshape(6, 9)) @ t[54:].reshape(9, 4) - y) ** 2).sum(1)

    problem = Problem(losses, (jnp.asarray(inputs), jnp.asarray(targets)))
    first, settings = langevin(noise.minibatch(problem, 5), 0.01), {"steps": 6, "block": 3}
    full = simulate(first, KEY, starts, **settings).theta
    np.testing.assert_array_equal(simulate(first, KEY, starts[:4], **settings).theta, full[:4])
    rare = simulate(first, KEY, starts, every=3, **settings).theta
    np.testing.assert_array_equal(rare, full[:, 2::3])
    for subset in (1, 2, 4):
        deviation = simulate(first, KEY, starts, devices=devices[:subset], **settings).theta
        np.testing.assert_array_equal(deviation, full)
    state, settings = (
        start_state(starts, first),
        {"steps": 1, "every": 1, "observe": itself, "block": 3},
    )
    for k in range(6):
        state, recorded = step_many(first, keys_for(KEY, 10), state, k, **settings)
        np.testing.assert_array_equal(recorded[:, 0], full[:, k])


def test_with_a_block_other_chains_devices_looks_and_cuts_change_no_bit():
    """Fully optimised and in float32, on four devices, which need a process of their own."""
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    here = Path(__file__).parent
    env["PYTHONPATH"] = os.pathsep.join([str(here.parent), str(here)])
    subprocess.run([sys.executable, "-c", ALONE], env=env, check=True)


@pytest.mark.parametrize("block", [1, 2, 7])
def test_blocks_change_no_draw_and_no_number_but_by_rounding(block):
    first, starts = process()
    result = simulate(first, KEY, starts, steps=6, block=block).theta
    np.testing.assert_allclose(result, simulate(first, KEY, starts, steps=6).theta, rtol=1e-12)


def test_a_block_is_as_large_as_the_room_for_its_largest_array(monkeypatch):
    """A step that makes 2 x 50 numbers of each chain; seven chains make three equal blocks."""

    def step(theta, drawn):
        return theta + 0 * (theta[:, None] * jnp.ones(50)).sum(1) + drawn

    keys, state = keys_for(KEY, 7), start_state(jnp.ones((7, 2)))
    for room, expected in {99: 1, 100: 1, 200: 2, 399: 3, 400: 4, 10_000: 7}.items():
        monkeypatch.setattr(blocks_of_chains, "CACHE_NUMBERS", room)
        assert block_size(Process(step, Normal(2), 1.0), keys, state, None, 1) == expected


@pytest.mark.parametrize("name", SOME)
def test_other_chains_change_no_draw_and_no_number_but_by_rounding(name):
    first, starts = process(name)
    fewer = simulate(first, KEY, starts[:2], steps=6).theta
    np.testing.assert_allclose(fewer, simulate(first, KEY, starts, steps=6).theta[:2], rtol=1e-13)


@pytest.mark.parametrize("every", [2, 6])
def test_how_often_one_looks_changes_no_number(every):
    first, starts = process()
    value = simulate(first, KEY, starts, steps=6)
    path = simulate(first, KEY, starts, steps=6, every=every)
    np.testing.assert_array_equal(path.theta, value.theta[:, every - 1 :: every])
    np.testing.assert_allclose(path.time, value.time[every - 1 :: every], rtol=1e-15)


@pytest.mark.parametrize("pieces", [(1,) * 8, (3, 5)], ids=str)
@pytest.mark.parametrize("name", ["label", "reshuffled"])
def test_cut_anywhere_a_run_is_the_same(name, pieces):
    """An epoch of reshuffling has two steps here: a cut at 3 falls into the middle of one."""
    left, starts = process(name)
    keys, settings = keys_for(KEY, 5), {"every": 1, "observe": itself}
    full, recorded = step_many(left, keys, start_state(starts), steps=8, **settings)
    state, first, blocks = start_state(starts), 0, []
    for steps in pieces:
        state, piece = step_many(left, keys, state, first, steps=steps, **settings)
        blocks.append(piece)
        first += steps
    np.testing.assert_array_equal(jnp.concatenate(blocks, axis=1), recorded)
    np.testing.assert_array_equal(state.theta, full.theta)
    np.testing.assert_array_equal(state.n_finite, full.n_finite)


@pytest.mark.slow
def test_side_by_side_a_member_keeps_its_numbers_whoever_else_is_there():
    problem, theta = curved()
    members = {name: sgd(NOISES[name](problem), 0.05) for name in SOME}

    def run(names):
        start = {name: jnp.stack([theta, theta]) for name in names}
        return simulate(side_by_side({name: members[name] for name in names}), KEY, start, steps=5)

    everyone = run(members)
    for names in (["label"], ["same_diagonal", "bernoulli"]):
        piece = run(names)
        for name in names:
            np.testing.assert_array_equal(piece.theta[name], everyone.theta[name])
            np.testing.assert_allclose(piece.time[name], 0.05 * np.arange(1, 6), rtol=1e-15)


def test_an_observable_is_seen_in_place_of_theta():
    first, starts = process()
    recorded = simulate(
        first, KEY, starts, steps=6, every=2, observe=lambda t: {"norm": (t**2).sum()}
    )
    path = simulate(first, KEY, starts, steps=6, every=2).theta
    np.testing.assert_allclose(recorded["norm"], (path**2).sum(-1), rtol=1e-14)


@pytest.mark.slow
def test_chains_given_different_rates_are_the_runs_at_each_rate():
    problem, theta = curved()
    model, rates = noise.label_noise(problem, 2, 0.3), np.asarray([0.01, 0.05, 0.1])
    starts = jnp.stack([theta] * 3)
    recorded = simulate(
        lambda rate: sgd(model, rate), KEY, starts, steps=6, every=3, given=jnp.asarray(rates)
    )
    for i, rate in list(enumerate(rates))[1:]:
        alone = simulate(sgd(model, float(rate)), KEY, starts, steps=6, every=3)
        np.testing.assert_allclose(recorded[i], alone.theta[i], rtol=1e-12)


def test_chains_may_be_given_their_own_data_noise_and_observable(rng):
    """Everything that a row holds reaches its own chain and no other."""
    problem, theta = curved()
    rows = {
        "targets": jnp.asarray(rng.normal(size=(3, 4, 1))),
        "noise": jnp.asarray([0.0, 0.2, 0.5]),
        "variance": jnp.asarray([0.1, 0.0, 0.3]),
        "dt": jnp.asarray([0.02, 0.05, 0.1]),
    }

    def make(row):
        direct = problem.with_target_shift(row["targets"])
        return side_by_side(
            {
                "label": sgd(noise.label_noise(direct, 2, row["noise"]), row["dt"]),
                "isotropic": langevin(noise.isotropic(direct, row["variance"]), 0.05, row["dt"]),
            }
        )

    def look(row):
        return lambda theta: jax.tree.map(lambda t: t * row["dt"], theta)

    start = {name: jnp.stack([theta] * 3) for name in ("label", "isotropic")}
    recorded = simulate(make, KEY, start, steps=4, every=2, observe=look, given=rows)
    for i in (0, 2):
        row = jax.tree.map(lambda part, i=i: np.asarray(part)[i], rows)
        alone = simulate(make(row), KEY, start, steps=4, every=2, observe=look(row))
        for name in start:
            np.testing.assert_allclose(recorded[name][i], alone[name][i], rtol=1e-12)


@pytest.mark.parametrize("rate", [0.1, 2.5])
def test_lasted_counts_the_steps_until_a_chain_is_no_longer_finite(rate):
    """theta <- theta - rate theta^3 explodes from afar: the hand loop says when."""

    def step(theta, drawn):
        return theta - rate * theta**3 + 0 * drawn

    cubic = Process(step, Normal(2), rate)
    starts = np.asarray([[0.1, 0.1], [3.0, 0.1], [0.2, 1e3], [10.0, 20.0], [np.nan, 0.0]])
    state, _ = step_many(
        cubic, keys_for(KEY, 5), start_state(starts), steps=30, every=30, observe=itself
    )
    for start, lasted in zip(starts, state.n_finite, strict=True):
        theta, count = start, 0
        with np.errstate(all="ignore"):
            for _ in range(30):
                theta = step(theta, 0.0)
                count += bool(np.isfinite(theta).all())
        assert lasted == count
    assert sorted(set(np.asarray(state.n_finite)))[0] == 0
    assert len(set(np.asarray(state.n_finite))) >= 3


def test_lasted_goes_on_where_it_stood():
    first, starts = process()
    state = State(starts, jnp.arange(5))
    after, _ = step_many(first, keys_for(KEY, 5), state, steps=8, every=1, observe=itself)
    np.testing.assert_array_equal(after.n_finite, np.arange(5) + 8)


def many(kind, steps):
    """Draws of two chains, (chain, step, size)."""

    def one(key, k):
        return draw(kind, key, k, float)

    over_steps = jax.vmap(one, (None, 0))
    return np.asarray(jax.vmap(over_steps, (0, None))(keys_for(KEY, 2), jnp.arange(steps)))


def test_normal_numbers_are_normal():
    z = many(Normal(10), 2000).ravel()
    for power, moment in {1: 0, 2: 1, 3: 0, 4: 3}.items():
        assert abs(mean(z**power).z(moment)) < SURE


def test_uniform_numbers_are_uniform():
    u = many(Uniform(10), 2000).ravel()
    assert np.all((u >= 0) & (u < 1))
    for power in (1, 2, 3):
        assert abs(mean(u**power).z(1 / (power + 1))) < SURE


@pytest.mark.parametrize(
    "kind", [WithReplacement(3, 5), WithoutReplacement(3, 5), Permutation(2, 5)], ids=repr
)
def test_each_place_holds_each_example_equally_often(kind):
    drawn = many(kind, 4000).reshape(-1, kind.size)
    assert np.all(abs(mean((drawn[:, :, None] == np.arange(5)).astype(float)).z(0.2)) < SURE)


@pytest.mark.parametrize(
    ("kind", "twice"),
    [(WithReplacement(2, 5), 0.2), (WithoutReplacement(2, 5), 0.0), (Permutation(2, 5), 0.0)],
    ids=repr,
)
def test_two_of_a_batch_coincide_as_often_as_their_law_says(kind, twice):
    """Distinct pairs are equally likely besides: all 20 of them."""
    drawn = many(kind, 4000).reshape(-1, 2)
    same = (drawn[:, 0] == drawn[:, 1]).astype(float)
    assert abs(mean(same).z(twice)) < SURE if twice else not same.any()
    pairs = [(drawn == pair).all(1) for pair in np.ndindex(5, 5) if pair[0] != pair[1]]
    assert np.all(abs(mean(np.stack(pairs, 1).astype(float)).z((1 - twice) / 20)) < SURE)


def test_no_draw_comes_twice():
    """Not at another step, in another chain, under another name or in another place."""
    kinds = {"a": Normal(3), "b": (Normal(3), Normal(3), Uniform(3))}
    recorded = [
        np.ravel(piece)
        for key in keys_for(KEY, 4)
        for step in range(6)
        for piece in jax.tree.leaves(draw(kinds, key, step, float))
    ]
    assert len(np.unique(np.concatenate(recorded))) == 4 * 6 * 4 * 3


def test_the_draws_of_a_path_do_not_depend_on_the_other_paths():
    kinds = {"a": Normal(3), "b": (WithReplacement(3, 9), Uniform(2))}
    key = keys_for(KEY, 1)[0]
    both, alone = draw(kinds, key, 4, float), draw({"b": kinds["b"]}, key, 4, float)
    jax.tree.map(np.testing.assert_array_equal, both["b"], alone["b"])


def test_numbers_have_the_type_of_theta():
    problem, theta = curved()
    single = sgd(noise.isotropic(problem, 0.1), 0.05)
    result = draw(single.draw, KEY, 0, theta.astype("float32").dtype)
    assert result.dtype == np.float32


def test_there_is_no_way_to_draw_an_unknown_kind():
    with pytest.raises(TypeError, match="no way to draw 'dice'"):
        draw("dice", KEY, 0, float)


def test_keys_of_chains_may_be_given():
    first, starts = process()
    keys = keys_for(KEY, 5)
    turned = simulate(first, keys[::-1], starts[::-1], steps=6).theta
    np.testing.assert_array_equal(turned[::-1], simulate(first, KEY, starts, steps=6).theta)


@pytest.mark.parametrize(("steps", "every"), [(10, 3), (0, 1), (4, 0), (-4, 2), (4, 8)])
def test_steps_that_every_does_not_divide_are_refused(steps, every):
    first, starts = process()
    with pytest.raises(ValueError, match=f"not {steps} of {every}"):
        simulate(first, KEY, starts, steps=steps, every=every)


def test_a_block_without_chains_is_refused():
    first, starts = process()
    with pytest.raises(ValueError, match="a block needs at least one chain, not 0"):
        simulate(first, KEY, starts, steps=2, block=0)


def test_more_steps_than_a_number_of_32_bits_counts_are_refused():
    first, starts = process()
    with pytest.raises(ValueError, match="fewer than 2147483648 steps, not 4294967296"):
        simulate(first, KEY, starts, steps=2**32, every=2**31)


def test_an_epoch_of_reshuffling_on_a_linear_loss_sums_to_the_mean_gradient_exactly():
    """Where gradients do not depend on theta, what an epoch adds up to is no longer random."""
    flat = bowl(n=8)
    linear = type(flat)(lambda t, c: (c + 1) @ t, flat.examples)
    first = sgd(noise.from_weights(linear, reshuffled(8, 2)), 0.1)
    path = simulate(first, KEY, np.zeros((3, 3)), steps=12, every=4).theta
    expected = -0.1 * 4 * np.arange(1, 4)[:, None] * np.ones(3)
    np.testing.assert_allclose(path, np.stack([expected] * 3), rtol=1e-12)
