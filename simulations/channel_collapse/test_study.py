"""The study of collapse: its statistics against SGD of a network, and wrong results."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from sgdnoise.lab import Incomplete, exit_status
from simulations._vision import stand_in
from simulations.channel_collapse import _channels as channels
from simulations.channel_collapse import claims, study
from simulations.channel_collapse import figure as drawing
from simulations.channel_collapse._growth import curvature, exponent, growth, step
from simulations.channel_collapse._runs import sgd

RATE = 0.01


@pytest.fixture(scope="module")
def network():
    return stand_in(12, 8)


@pytest.fixture(scope="module")
def results():
    """A small run of a stand-in network, in this process."""
    sizes = {"steps": 4, "near_steps": 8, "linear_steps": 5, "photographs": 32}
    return study.study.simulate("small", training=32, groups=1, **sizes)


def at(net, group):
    return [np.concatenate(channels.weights_of(net, channel)) for channel in group]


def test_channels_and_groups_hold_each_channel_once(network):
    net = network[0]
    every = channels.channels_of(net)
    assert len(every) == 16 + 32 + 64
    groups = channels.groups_of(net)
    assert sorted(c for group in groups for c in group) == sorted(every)
    assert all(len({c.block for c in group}) == len(group) for group in groups)
    assert len(groups[0]) == 3
    assert len(groups[-1]) == 1


def test_a_step_close_to_the_set_is_that_of_the_network(network):
    """SGD with given photographs, of channels at a thousandth of their weights."""
    net, inputs, labels = network
    net, group = copy.deepcopy(net), channels.groups_of(net)[5]
    pairs = channels.statistics(net, inputs, labels, group)
    channels.scaled(net, group, 1e-3)
    before = at(net, group)
    weights = [p for p in net.parameters() if p.requires_grad]
    slopes = torch.autograd.grad(F.cross_entropy(net(inputs), labels), weights)
    with torch.no_grad():
        for weight, slope in zip(weights, slopes, strict=True):
            weight -= RATE * slope
    for k, start, end in zip(pairs, before, at(net, group), strict=True):
        v, s = step(k.mean(0)[None], start[None, :-2], start[None, -2:], RATE)
        expected = np.concatenate([v[0], s[0]]) - start
        assert_allclose(end - start, expected, rtol=0.02, atol=0.02 * abs(expected).max())


def test_statistics_leave_the_network_as_it_is(network):
    net, inputs, labels = network
    before = {name: p.clone() for name, p in net.named_parameters()}
    channels.statistics(net, inputs, labels, channels.groups_of(net)[0])
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    assert not any(m._forward_hooks for m in net.modules())


def test_norms_and_contributions_scale_with_the_channel(network):
    net, inputs, _ = network
    moving, every = copy.deepcopy(net), channels.channels_of(net)
    group = channels.groups_of(net)[2]
    index = [every.index(channel) for channel in group]
    active, size = channels.contributions(net, inputs)
    channels.scaled(moving, group, 0.1)
    assert_allclose(
        channels.norms(moving, every)[index], 0.1 * channels.norms(net, every)[index], rtol=1e-5
    )
    active_after, size_after = channels.contributions(moving, inputs)
    first = [i for i in index if every[i].block == "layer1.0"]  # whose inputs are the same
    assert_allclose(active_after[first], active[first], atol=1e-3)
    assert_allclose(size_after[first], 0.01 * size[first], rtol=1e-4)
    others = [i for i, c in enumerate(every) if c.block == "layer1.0" and i not in index]
    assert_allclose(size_after[others], size[others], rtol=1e-5)


def test_growth_without_noise_is_that_of_the_singular_value():
    pairs = np.random.default_rng(0).normal(size=(1, 6, 2))
    sigma = np.linalg.svd(pairs[0], compute_uv=False)[0]
    value = exponent(pairs, 0.01, np.zeros((1, 50, 1), int))
    assert_allclose(value, np.log(1 + 0.01 * sigma), rtol=1e-9)


def test_noise_repels_a_channel_of_many_outputs_to_second_order():
    """White K: (v, s) of length one moves by rate^2 (E|K s|^2 + E|K^T v|^2), less twice along."""
    rng = np.random.default_rng(0)
    d, rate = 40, 0.01
    pairs = rng.normal(size=(20_000, d, 2))
    v, s = np.ones(d) / (2 * d) ** 0.5, np.ones(2) / 2
    value = growth(pairs, v, s, rate, rng.integers(0, 20_000, (200_000, 1, 1)))
    along = 4 * 0.25  # E (2 v^T K s)^2 at |v|^2 = |s|^2 = 1/2
    expected = rate**2 / 2 * (0.5 * d + 0.5 * 2 - 2 * along)
    assert abs(value.mean() - expected) < 5 * value.std() / len(value) ** 0.5 + 0.03 * expected
    assert expected > 0
    assert_allclose(curvature(pairs, v, s).var(), along, rtol=0.05)


def test_growth_of_theory_is_that_of_sgd_with_the_same_batches(network):
    """Of channels close to the set, with all other weights fixed."""
    net, inputs, labels = network
    moving, group = copy.deepcopy(net), channels.groups_of(net)[3]
    pairs = channels.statistics(net, inputs, labels, group)
    order = np.random.default_rng(0).integers(0, len(inputs), (1, 5, 4))
    channels.scaled(moving, group, 1e-3)
    before = channels.norms(moving, group)
    sgd(moving, inputs, labels, 0.003, order[0], group)
    measured = np.log(channels.norms(moving, group) / before) / 5
    predicted = [
        growth(k, *channels.weights_of(net, c), 0.003, order)[0]
        for c, k in zip(group, pairs, strict=True)
    ]
    assert_allclose(measured, predicted, rtol=0.1)


def test_sgd_of_a_few_channels_leaves_all_else(network):
    net, inputs, labels = network
    moving, group = copy.deepcopy(net), channels.groups_of(net)[1]
    sgd(moving, inputs, labels, 0.01, np.arange(12).reshape(3, 4), group)
    assert all(abs(a - b).max() > 0 for a, b in zip(at(net, group), at(moving, group), strict=True))
    others = [c for c in channels.channels_of(net) if c not in group]
    assert all(
        np.array_equal(a, b) for a, b in zip(at(net, others), at(moving, others), strict=True)
    )
    for (_, p), (name, q) in zip(net.named_parameters(), moving.named_parameters(), strict=True):
        inner = any(part in name for part in ("conv2", "bn1.", "layer"))
        assert inner or torch.equal(p, q)


def test_sgd_that_diverges_is_nan(network):
    net, inputs, labels = network
    loss = sgd(copy.deepcopy(net), inputs, labels, 1e6, np.zeros((20, 4), int))
    assert np.isnan(loss)


def test_a_small_run_is_judged_and_drawn(results):
    rows = claims.verdicts(results)
    assert "prediction" in {row.kind for row in rows}
    assert all(isinstance(f, Figure) for _, f in drawing.figures(results).values())
    assert not any(len(row) != len(t.headings) for t in claims.tables(results) for row in t.rows)


def made_up(results, *, growth=1.0, dies=0.0):
    """Growth and deaths as theory has them, but for a factor and a fraction that dies."""
    data = results.copy(deep=True)
    theory = data.near.sel(way="theory")
    noise = 1 + 0.001 * np.arange(data.sizes["seed"])
    seeds = data.seed.copy(data=noise)
    data.near.loc[{"way": "others fixed"}] = (growth * theory * seeds).transpose(
        *data.near.sel(way="others fixed").dims
    )
    data["exponent"] = abs(data.exponent) + 1e-6
    data["loss"] = 0 * data.loss + 1.0
    first = data.channel < dies * int(np.isfinite(data.active.isel(seed=0)).sum())
    data["dead"] = (0 * data.dead + first).where(np.isfinite(data.dead))
    data["norm_after"] = data.norm + 0 * data.norm_after
    return data


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"growth": 1.3}, "growth"),
        ({"growth": 0.7}, "growth"),
        ({"dies": 0.1}, "channels that die"),
    ],
)
def test_what_theory_does_not_say_fails(results, changes, words):
    rows = study.study.judge(made_up(results, **changes))
    failed = [row.name for row in rows if row.outcome == "fails"]
    assert bool(failed) == bool(changes)
    assert exit_status(rows) == int(bool(changes))
    assert all(words in name for name in failed)


def test_a_score_that_knows_has_the_rank_one(results):
    data = made_up(results, dies=0.1).sel(setting="unstable")
    data["exponent"] = data.exponent + claims.newly_dead(data) * -1.0
    assert_allclose(claims.rank(data, "exponent"), 1.0)


def test_a_folder_without_data_is_refused():
    with pytest.raises(ValueError, match="there is no folder nowhere"):
        study.study.simulate("small", data="nowhere")


def test_a_folder_without_the_photographs_is_one_sentence(tmp_path):
    with pytest.raises(Incomplete, match=r"no .* in the folder"):
        study.study.simulate("full", data=str(tmp_path))


def test_more_photographs_than_of_training_are_refused():
    with pytest.raises(ValueError, match="300 photographs are more than the 200"):
        study.study.simulate("full", photographs=300, training=200)
