"""The noise scale of a training's own backward passes against that of all examples."""

import json
import math
import subprocess
import sys
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn
from torch.nn.functional import cross_entropy

from sgdnoise.nets import UnmeasuredWarning, live_noise_scale, per_example_gradients
from sgdnoise.noise import gradient_noise_scale
from sgdnoise.noise._measure._moving_ratio import MovingRatio

N, BATCH = 400, 20


class Normed(nn.Module):
    """Positions (n, t, d) with the three norms, and a linear layer at the end."""

    def __init__(self):
        super().__init__()
        self.first, self.mixing = nn.LayerNorm(6), nn.Linear(6, 6)
        self.second, self.third = nn.RMSNorm(6), nn.GroupNorm(3, 6)
        self.last = nn.Linear(6, 3)
        for norm in (self.first, self.second, self.third):
            nn.init.normal_(norm.weight, 1.0, 0.3)

    def forward(self, x):
        x = self.second(torch.tanh(self.mixing(self.first(x))))
        return self.last(self.third(x.transpose(1, 2)).mean(2))


def mlp():
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


@pytest.fixture(params=["mlp", "normed"])
def given(request):
    torch.manual_seed(1)
    net, shape = (mlp(), (N, 6)) if request.param == "mlp" else (Normed(), (N, 5, 6))
    x = torch.randn(shape)
    y = (x.reshape(N, -1)[:, :3] + 0.5 * torch.randn(N, 3)).argmax(1)
    return net, x, y


def steps(net, x, y, live, n, *, passes=1, factor=1.0, seed=0):
    """Backward passes on batches with replacement, at fixed weights."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        net.zero_grad()
        for index in torch.randint(len(x), (BATCH,), generator=generator).chunk(passes):
            (factor * cross_entropy(net(x[index]), y[index]) / passes).backward()
        live.step(factor)


def of_all(net, x, y, names):
    """The scale of all examples, as a population."""
    rows = per_example_gradients(net, nn.CrossEntropyLoss(reduction="none"), x, y)
    keys = [key for key in rows.shapes if not names or key.startswith(names)]
    matrix = torch.cat([rows.layer(key).project(torch.eye(rows.layer(key).p)) for key in keys], 1)
    return gradient_noise_scale(matrix.double(), population=True).value


def test_it_is_the_scale_of_all_examples_within_its_error(given):
    net, x, y = given
    names = ("first", "second", "third", "last") if isinstance(net, Normed) else ()
    live = live_noise_scale(net, every=1, horizon=1e9)
    steps(net, x, y, live, 1500)
    estimate = live.estimate()
    assert estimate.stderr < 0.1 * estimate.value
    assert abs(estimate.z(of_all(net, x, y, names))) < 3


def test_accumulated_batches_give_the_scale_of_all_layers(given):
    net, x, y = given
    live = live_noise_scale(net, micro_batch=BATCH // 4, every=1, horizon=1e9)
    steps(net, x, y, live, 3000, passes=4)
    estimate = live.estimate()
    assert estimate.stderr < 0.15 * estimate.value
    assert abs(estimate.z(of_all(net, x, y, ()))) < 3
    assert len(live.parameters) == len(list(net.parameters()))


def test_each_part_is_that_of_the_gradients_of_examples(given):
    """One step, exactly: Tr C and |g|^2 of its batch as from per-example gradients."""
    net, x, y = given
    names = ("first", "second", "third", "last") if isinstance(net, Normed) else ()
    x, y = x[:BATCH], y[:BATCH]
    live = live_noise_scale(net, every=1)
    net.zero_grad()
    cross_entropy(net(x), y).backward()
    live.step()
    rows = per_example_gradients(net, nn.CrossEntropyLoss(reduction="none"), x, y)
    keys = [key for key in rows.shapes if not names or key.startswith(names)]
    squares = sum(rows.layer(key).squares().sum() for key in keys) / BATCH
    mean = rows.combine(torch.full((BATCH,), 1 / BATCH))
    offsets = np.cumsum([0, *(shape.numel() for shape in rows.shapes.values())])
    parts = dict(zip(rows.shapes, pairwise(offsets), strict=True))
    big = sum(float(mean[slice(*parts[key])].square().sum()) for key in keys)
    trace = (float(squares) - big) / (1 - 1 / BATCH)
    expected = [trace, (BATCH * big - float(squares)) / (BATCH - 1)]
    assert_allclose(live._ratio.weights[1:], expected, rtol=1e-4)


def test_without_a_schedule_measurements_keep_to_their_share_of_the_time():
    net, x, y = mlp(), torch.randn(N, 6), torch.randint(3, (N,))
    live = live_noise_scale(net, budget=0.05)
    steps(net, x, y, live, 3000)
    measured, used = live._ratio.pairs, live._budget.used
    assert 3 < measured < 1500
    assert 0.01 < used < 0.06
    with pytest.raises(ValueError, match="between 0 and 1"):
        live_noise_scale(net, budget=2.0)


def test_a_factor_of_the_loss_changes_nothing(given):
    net, x, y = given
    results = []
    for factor in (1.0, 1024.0):
        live = live_noise_scale(net, every=1)
        steps(net, x, y, live, 10, factor=factor)
        results.append(live._ratio.weights)
    assert_allclose(*results, rtol=1e-4)


@pytest.mark.parametrize("micro_batch", [None, BATCH // 2])
def test_the_training_stays_the_same_and_steps_between_have_no_hooks(micro_batch):
    weights = []
    for measured in (False, True):
        torch.manual_seed(0)
        net, x, y = mlp(), torch.randn(N, 6), torch.randint(3, (N,))
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        live = live_noise_scale(net, every=5, micro_batch=micro_batch) if measured else None
        for step in range(12):
            hooked = [m._forward_hooks for m in net.modules()]
            hooked += [p._backward_hooks for p in net.parameters()]
            assert any(hooked) == (measured and step % 5 == 0)
            optimizer.zero_grad()
            for index in torch.randint(N, (BATCH,)).chunk(2):
                (cross_entropy(net(x[index]), y[index]) / 2).backward()
            if live is not None:
                live.step()
            optimizer.step()
        weights.append([p.detach().clone() for p in net.parameters()])
    assert all(map(torch.equal, *weights))
    assert live.estimate().dof > 1


def test_a_checkpoint_continues_the_averages(given):
    net, x, y = given
    whole = live_noise_scale(net, every=2)
    steps(net, x, y, whole, 20)
    steps(net, x, y, whole, 20, seed=1)
    first = live_noise_scale(net, every=2)
    steps(net, x, y, first, 20)
    first.close()
    second = live_noise_scale(net, every=2)
    second.load_state_dict(first.state_dict())
    steps(net, x, y, second, 20, seed=1)
    assert second.estimate() == whole.estimate()


def test_what_cannot_be_measured_is_a_sentence():
    net = mlp()
    with pytest.raises(ValueError, match="no layer is called 'head'"):
        live_noise_scale(net, layers=["head"])
    with pytest.raises(ValueError, match="micro_batch="):
        live_noise_scale(nn.Conv2d(1, 2, 3))
    with pytest.raises(ValueError, match="micro_batch must be 1 or more"):
        live_noise_scale(net, micro_batch=0)
    with pytest.raises(ValueError, match="compiled"):
        live_noise_scale(torch.compile(net))
    live = live_noise_scale(net, every=1)
    net(torch.randn(5, 6)).sum().backward()
    net.zero_grad()
    with pytest.raises(ValueError, match="before zero_grad"):
        live.step()
    live = live_noise_scale(net, every=1)
    with pytest.warns(UnmeasuredWarning, match="fewer than two parts"):
        live.step()
    assert str(live.estimate()).startswith("not resolved")


def one_step(net, *inputs):
    """The parameters that are measured in one step; warnings pass."""
    live = live_noise_scale(net, every=1)
    net.zero_grad()
    net(*inputs).square().mean().backward()
    live.step()
    live.close()
    return {id(parameter) for parameter in live.parameters}


def ids(module):
    return {id(parameter) for parameter in module.parameters()}


def test_a_layer_that_is_called_twice_is_left_out():
    first, last = nn.Linear(6, 6), nn.Linear(6, 3)
    with pytest.warns(UnmeasuredWarning, match="'0': it was called twice"):
        measured = one_step(nn.Sequential(first, first, last), torch.randn(8, 6))
    assert measured == ids(last)


def test_other_forward_passes_with_gradients_are_named():
    net = mlp()
    live = live_noise_scale(net, every=1)
    net(torch.randn(7, 6))  # of a metric, without no_grad
    net(torch.randn(8, 6)).square().mean().backward()
    with pytest.warns(UnmeasuredWarning) as told:
        live.step()
    assert any("belong in torch.no_grad()" in str(one.message) for one in told)


class Tokens(nn.Module):
    """A norm of sequences, and a head on all their tokens, as of a language model."""

    def __init__(self):
        super().__init__()
        self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.norm(x).reshape(-1, 6))


def test_layers_that_see_tokens_as_examples_are_left_out():
    net = Tokens()
    with pytest.warns(UnmeasuredWarning, match="'head': the first axis"):
        measured = one_step(net, torch.randn(8, 5, 6))
    assert measured == ids(net.norm)


def test_a_network_with_the_batch_second_is_refused():
    layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0)
    with pytest.raises(ValueError, match="batch_first=False"):
        live_noise_scale(layer)
    live_noise_scale(layer, micro_batch=4).close()
    live_noise_scale(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)).close()


class Keyword(nn.Module):
    """The second layer is called by the name of its argument."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.b(input=self.a(x))


def test_calls_by_keyword_count_and_shared_or_reparametrised_weights_do_not():
    net = Keyword()
    assert one_step(net, torch.randn(8, 6)) == ids(net)
    tied = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 2))
    tied[2].weight = tied[0].weight
    assert one_step(tied, torch.randn(8, 6)) == ids(tied[3])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        normed = nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(6, 6)), nn.Linear(6, 2))
    assert one_step(normed, torch.randn(8, 6)) == {id(normed[0].bias)} | ids(normed[1])


def test_batch_norm_in_training_is_told():
    net = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))
    with pytest.warns(UnmeasuredWarning, match="mixes the examples"):
        live_noise_scale(net).close()


@pytest.mark.parametrize(("signal", "n"), [(1.0, 40), (0.3, 100), (0.05, 40)])
def test_intervals_hold_the_ratio(signal, n):
    """Of 95%, with averages that forget nothing: noise of chi squares around a small signal."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        moving = MovingRatio(1e9)
        for x, y in zip(rng.gamma(5, 2.0, n), signal + 0.3 * rng.normal(size=n), strict=True):
            moving.add(x, y)
        low, high = moving.ratio().interval(0.95)
        held += low <= 10 / signal <= high
    assert 0.92 < held / 400 < 0.98


def test_averages_forget():
    moving = MovingRatio(10)
    for t in range(200):
        moving.add(1.0 if t < 100 else 5.0, 1.0 + 1e-3 * (-1) ** t)
    assert_allclose(moving.ratio().value, 5, rtol=0.01)
    assert math.isinf(MovingRatio(10).ratio().value)


RANKS = """
import json, sys
sys.path[:0] = ["tests", "."]
import torch
torch.set_num_threads(1)
import torch.distributed as dist
from torch import nn
from nets.test_live_noise_scale import of_ranks

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
print(json.dumps(of_ranks(rank, nn.parallel.DistributedDataParallel)))
dist.destroy_process_group()
"""


def of_ranks(rank, wrap):
    """The averages after one step of two ranks, or of one process with all examples (None)."""
    torch.manual_seed(0)
    inner = mlp()
    net, x, y = wrap(inner), torch.randn(24, 6), torch.randint(3, (24,))
    mine = slice(None) if rank is None else slice(12 * rank, 12 * rank + 12)
    results = []
    for micro_batch in (None, 12):
        live = live_noise_scale(net, every=1, micro_batch=micro_batch)
        net.zero_grad()
        parts = [mine] if rank is not None or micro_batch is None else [slice(12), slice(12, 24)]
        for part in parts:
            (cross_entropy(net(x[part]), y[part]) / len(parts)).backward()
        live.step()
        results.append(live._ratio.weights.tolist())
        live.close()
    return results


@pytest.mark.slow
def test_two_ranks_measure_what_one_process_measures(tmp_path):
    command = [sys.executable, "-c", RANKS]
    both = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meet")], stdout=subprocess.PIPE)
        for rank in range(2)
    ]
    first, second = (json.loads(child.communicate(timeout=120)[0]) for child in both)
    assert_allclose(first, of_ranks(None, lambda net: net), rtol=1e-4)
    assert_allclose(second, first, rtol=1e-6)
