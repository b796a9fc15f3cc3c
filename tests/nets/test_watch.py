"""Watching a network sees what a dense computation sees, and changes nothing in its training."""

import gc
import json
import math
import random
import re
import subprocess
import sys
import weakref
from itertools import pairwise
from pathlib import Path
from time import perf_counter, sleep
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import Written, dense
from torch import nn
from witnesses import SURE

from sgdnoise.core import GradientMatrix, mean
from sgdnoise.nets import FallbackWarning, UnmeasuredWarning, as_problem, watch
from sgdnoise.nets._watch._activations import DEFAULT_ESTIMATORS, points_of
from sgdnoise.nets._watch._loss_traces import batch_sharpness, hessian_trace, noise_trace
from sgdnoise.nets._watch._watch import doubling
from sgdnoise.noise import batch_sharpness as sharpness_of_all_batches
from sgdnoise.noise import gradient_noise_scale

ENTROPY = nn.CrossEntropyLoss(reduction="none")
N = 24  # probe examples
SPREAD = {"spread": lambda points: points.std()}  # quick to compute


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        yield


def mlp(*sizes, activation=nn.Tanh):
    pairs = pairwise(sizes)
    return nn.Sequential(
        *[piece for pair in pairs for piece in (nn.Linear(*pair), activation())][:-1]
    )


def images():
    """With batch norm, dropout, and layers in two different modes."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.BatchNorm1d(8).eval(),
        nn.Dropout(0.5),
        nn.Linear(8, 3),
    )


def some(*shape, n=N):
    return torch.randn(n, *shape), torch.arange(n) % 3


# What is seen


def test_each_layer_is_seen_as_by_hand_and_errors_ride_along():
    net, (x, _) = mlp(4, 8, 6, 3), some(4)
    usual = DEFAULT_ESTIMATORS | {"width": lambda points: mean(points.std(axis=0))}
    recorded = watch(net, x, layers=["1", "2"], every=1, estimators=usual)
    with torch.no_grad():
        net[2].weight.mul_(1.5)
    recorded.step()
    result = recorded.results()
    assert dict(result.sizes) == {"step": 2, "layer": 2}
    np.testing.assert_array_equal(result.step, [0, 1])
    with torch.no_grad():
        rows = {"1": net[:2](x).numpy(), "2": net[:3](x).numpy()}
    for layer, row in rows.items():
        last = result.sel(step=1, layer=layer)
        for name, estimator in DEFAULT_ESTIMATORS.items():
            assert float(last[name]) == estimator(row)
        assert float(last.width) == float(usual["width"](row).value)
        assert float(last.width_stderr) == float(usual["width"](row).stderr)
    assert float(result.twonn.sel(step=0, layer="1")) == float(result.twonn.sel(step=1, layer="1"))
    assert float(result.width[0, 1]) != float(result.width[1, 1])


def test_without_names_all_layers_with_a_weight_of_two_axes_are_seen():
    result = watch(images(), some(1, 4, 4)[0], estimators=SPREAD).results()
    assert result.layer.values.tolist() == ["0", "5", "8"]


def test_images_and_sequences_are_laid_out_or_pooled():
    image, sequence = torch.randn(5, 3, 4, 2), torch.randn(5, 7, 3)
    layer, convolution = nn.Linear(3, 3), nn.Conv1d(1, 1, 1)
    cases = [
        (image, layer, False, image.reshape(5, 24)),
        (image, layer, True, image.mean((2, 3))),
        (sequence, layer, True, sequence.mean(1)),
        (sequence, convolution, True, sequence.mean(2)),
        (image[:, :, 0, 0], layer, True, image[:, :, 0, 0]),
        (image[:, 0, 0, 0], layer, True, image[:, :1, 0, 0]),
    ]
    for output, module, pooled, expected in cases:
        result = points_of("0", module, output, 5, pooled)
        torch.testing.assert_close(torch.from_numpy(result), expected, rtol=1e-6, atol=1e-6)


def test_a_layer_is_seen_before_the_next_one_changes_it_in_place():
    net, (x, _) = mlp(4, 5, 3, activation=lambda: nn.ReLU(inplace=True)), some(4)
    result = watch(net, x, layers=["0"], estimators={"least": np.min}).results()
    assert float(result["least"].squeeze()) == float(net[0](x).detach().min())


def test_the_trace_and_scale_of_noise_are_those_of_dense_gradients():
    net, (x, y) = mlp(4, 5, 3).double(), some(4)
    result = watch(net, x.double(), y, ENTROPY, estimators={}).results().isel(step=0)
    rows = dense(net, ENTROPY, x.double(), y).numpy()
    assert float(result.noise_trace) == pytest.approx(rows.var(axis=0, ddof=1).sum(), rel=1e-10)
    first = rows[:, : 4 * 5 + 5]
    assert float(result.layer_noise_trace.sel(layer="0")) == pytest.approx(
        first.var(axis=0, ddof=1).sum(), rel=1e-10
    )
    expected = gradient_noise_scale(rows)
    assert float(result.noise_scale) == pytest.approx(expected.value, rel=1e-8)
    assert float(result.noise_scale_stderr) == pytest.approx(expected.stderr, rel=1e-8)
    losses = ENTROPY(net(x.double()), y).detach().numpy()
    assert float(result.loss) == pytest.approx(losses.mean(), rel=1e-12)
    assert float(result.loss_stderr) == pytest.approx(losses.std(ddof=1) / N**0.5, rel=1e-12)


def test_the_error_of_the_trace_is_the_spread_of_repeats(rng):
    """Of normal rows of three numbers, |g - mean|^2 is chi-square: moderate tails."""
    result = [
        noise_trace(GradientMatrix(torch.from_numpy(rng.normal(size=(40, 3))))) for _ in range(1000)
    ]
    repeats = mean(np.asarray([value.value for value in result]))
    assert abs(repeats.z(3.0)) < SURE
    claimed = mean(np.asarray([value.stderr**2 for value in result])).value ** 0.5
    spread_error = (
        1.2 / 2000**0.5
    )  # of a spread of 1000 values whose tails exceed normal ones a bit
    assert abs(claimed / (repeats.stderr * 1000**0.5) - 1) < SURE * spread_error + 0.5 / 40


@pytest.mark.parametrize("loss", [ENTROPY, lambda out, y: out.sum(1).square()])
def test_the_trace_of_the_hessian_is_that_of_the_dense_one_within_its_error(loss, rng):
    """The second has products of parameters all of one sign, which signs must average away."""
    net, (x, y) = mlp(*((3, 4, 3) if loss is ENTROPY else (12, 1))).double(), some(3)
    x = x if loss is ENTROPY else x.repeat(1, 4).abs()
    theta = torch.nn.utils.parameters_to_vector(net.parameters()).detach()
    sizes = [(name, row.shape) for name, row in net.named_parameters()]

    def value(flat):
        pieces = flat.split([shape.numel() for _, shape in sizes])
        named = {
            name: piece.view(shape) for (name, shape), piece in zip(sizes, pieces, strict=True)
        }
        return loss(torch.func.functional_call(net, named, (x.double(),)), y).mean()

    matrix = torch.autograd.functional.hessian(value, theta).numpy()
    result = hessian_trace(net, loss, (x.double(),), y, 400, rng)
    assert abs(result.z(np.trace(matrix))) < SURE
    exact = (2 * (np.sum(matrix**2) - np.sum(np.diag(matrix) ** 2)) / 400) ** 0.5  # Hutchinson's
    assert abs(result.stderr / exact - 1) < SURE * 0.1  # of 400 chi-squares, at most


def test_batch_sharpness_is_that_of_all_batches_within_its_error(rng):
    net, (x, y) = mlp(3, 4, 3).double(), some(3)
    problem, theta = as_problem(net, ENTROPY, x.double(), y)
    exact = float(sharpness_of_all_batches(problem, theta, 2))
    result = batch_sharpness(net, ENTROPY, ((x.double(),), y), 2, 2000, rng)
    assert abs(result.z(exact)) < SURE
    assert 0 < result.stderr < 0.05 * exact
    small = [batch_sharpness(net, ENTROPY, ((x.double(),), y), 2, 50, rng) for _ in range(40)]
    spread = np.std([e.value for e in small], ddof=1)
    assert abs(np.mean([e.stderr for e in small]) / spread - 1) < SURE * 0.12


def test_batch_sharpness_is_recorded_where_the_size_is_given():
    net, (x, y) = mlp(3, 4, 3), some(3)
    options = {"estimators": {}, "n_probes": 3}
    result = watch(net, x, y, ENTROPY, batch_size=4, **options).results().isel(step=0)
    assert float(result.batch_sharpness) > 0
    assert float(result.batch_sharpness_stderr) > 0
    assert "batch_sharpness" not in watch(net, x, y, ENTROPY, **options).results()
    with pytest.raises(ValueError, match="takes a loss and probes"):
        watch(net, x, batch_size=4, estimators={})
    with pytest.raises(ValueError, match="batch_size"):
        watch(net, x, y, ENTROPY, batch_size=0, **options)


def test_a_linear_network_has_the_trace_of_its_inputs_exactly():
    """A diagonal Hessian leaves nothing to random signs."""
    net, x = nn.Linear(1, 1, bias=False).double(), torch.randn(N, 1).double()
    squared = lambda out, y: (out - y).square().sum(1) / 2  # noqa: E731
    result = watch(net, x, x, squared, estimators={}, n_probes=2).results().isel(step=0)
    assert float(result.hessian_trace) == pytest.approx(float(x.square().mean()), rel=1e-12)
    assert float(result.hessian_trace_stderr) < 1e-12


def test_a_slope_that_knows_nothing_of_the_parameters_has_no_curvature():
    net, (x, y) = nn.Linear(4, 1), some(4)
    result = watch(net, x, y, lambda out, y: out[:, 0], estimators={}, n_probes=2).results()
    assert result.hessian_trace.item() == 0


def test_attention_has_a_trace_of_its_hessian_and_its_first_output_is_seen():
    def run(s, x):
        return s.out(s.mix(x, x, x, need_weights=False)[0].mean(1))

    net = Written(run, mix=nn.MultiheadAttention(4, 2, batch_first=True), out=nn.Linear(4, 3))
    x, y = some(5, 4)
    result = watch(net, x, y, ENTROPY, estimators=SPREAD, pooled=True, n_probes=2).results()
    assert result.layer.values.tolist() == ["mix", "out"]
    assert np.isfinite(result.hessian_trace.item())


# When


def test_the_usual_schedule_doubles():
    assert [step for step in range(70) if doubling(step)] == [1, 2, 4, 8, 16, 32, 64]


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (None, [0, 1, 2, 4, 8, 10]),
        (4, [0, 4, 8, 10]),
        (np.int64(5), [0, 5, 10]),
        ([2, 3], [0, 2, 3, 10]),
        (range(9, 20), [0, 9, 10]),
        (lambda step: step == 7, [0, 7, 10]),
    ],
)
def test_looks_come_at_the_start_and_when_the_schedule_says(every, expected):
    recorded = watch(mlp(4, 3), some(4)[0], every=every, estimators=SPREAD)
    for _ in range(10):
        recorded.step()
    assert recorded.results().step.values.tolist() == expected
    assert recorded.results().step.values.tolist() == expected  # the last state is measured once


def test_the_last_state_is_measured_at_the_end_of_a_with_block_unless_it_fails():
    with watch(mlp(4, 3), some(4)[0], every=4, estimators=SPREAD) as recorded:
        for _ in range(6):
            recorded.step()
    recorded.step()
    assert recorded.results().step.values.tolist() == [0, 4, 6]
    failed = watch(mlp(4, 3), some(4)[0], estimators=SPREAD)
    for _ in range(3):
        failed.step()
    failed.__exit__(KeyError, KeyError(), None)
    assert failed.results().step.values.tolist() == [0, 1, 2]


def test_who_counts_steps_may_say_so_and_nothing_is_seen_twice():
    reported = []
    recorded = watch(
        *(mlp(4, 3), some(4)[0]),
        every=2,
        estimators=SPREAD,
        start=100,
        log=lambda *x: reported.append(x),
    )
    for step in (100, 101, 102, 102, 103, 104):
        recorded.step(step)
    assert (
        recorded.results().step.values.tolist() == [100, 102, 104] == [step for _, step in reported]
    )
    assert recorded.count == 104
    recorded.step()
    recorded.measure()
    assert recorded.results().step.values.tolist() == [100, 102, 104, 105]


def test_the_log_is_told_numbers_by_layer_and_name():
    reported = {}
    net, (x, y) = mlp(4, 5, 3), some(4)
    watched = watch(
        net, x, y, ENTROPY, layers="2", estimators=SPREAD, log=lambda d, s: reported.update({s: d})
    )
    assert list(reported) == [0]
    assert {"2/spread", "noise_trace", "noise_trace_stderr", "2/layer_noise_trace"} <= set(
        reported[0]
    )
    assert all(type(value) is float for value in reported[0].values())
    assert reported[0]["2/spread"] == watched.results().spread.item()


# What it leaves behind


def trained(net, watched=None, steps=6, **options):
    """State, gradients, modes, and random numbers after some steps, with or without a watch."""
    torch.manual_seed(0), np.random.seed(0), random.seed(0)  # noqa: NPY002 - the global ones
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    x, y = some(1, 4, 4, n=32)
    recorded = watch(net, *watched, every=1, **options) if watched else None
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        if recorded:
            recorded.step()
    left = {name: value.clone() for name, value in net.state_dict().items()}
    left |= {f"{name}.grad": value.grad.clone() for name, value in net.named_parameters()}
    draws = torch.rand(2).tolist(), np.random.rand(), random.random()  # noqa: NPY002
    return left, [module.training for module in net.modules()], draws


def restless(points):
    """Draws from all that can be drawn from."""
    return float(points.sum()) + np.random.rand() + random.random() + float(torch.rand(()))  # noqa: NPY002


def same(one, other):
    assert one[1:] == other[1:]
    assert one[0].keys() == other[0].keys()
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])


def fresh(make=images):
    torch.manual_seed(5)
    return make()


@pytest.mark.parametrize("with_loss", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_training_goes_on_bit_for_bit_as_without(with_loss, training):
    x, y = some(1, 4, 4)
    probe = (x, y, ENTROPY) if with_loss and not training else (x,)
    log = lambda *_: restless(np.zeros(1))  # noqa: E731
    options = {"estimators": {"restless": restless}, "training": training, "log": log}
    net = fresh()
    same(trained(fresh()), trained(net, probe, **options))
    assert not any(module._forward_hooks for module in net.modules())


def test_a_look_within_autocast_leaves_its_cache_of_weights_alone():
    """Older torch would not train a weight that was cast without autograd, and kept."""
    x, y = some(4)

    def after(look):
        net = fresh(lambda: mlp(4, 8, 3))
        recorded = watch(net, x, y, ENTROPY, every=1, estimators=SPREAD, n_probes=0)
        with torch.autocast("cpu", torch.bfloat16):
            if look:
                recorded.step()
            assert torch.is_autocast_enabled("cpu")
            assert torch.is_autocast_cache_enabled()
            F.cross_entropy(net(x), y).backward()
        return [value.grad for value in net.parameters()]

    assert all(map(torch.equal, after(False), after(True)))


def test_a_look_within_autocast_sees_the_weights_of_now_in_its_precision():
    net, (x, _) = mlp(4, 8), some(4)
    recorded = watch(net, x, every=1, estimators={"sum": np.sum})
    with torch.autocast("cpu", torch.bfloat16):
        net(x)  # which keeps a cast of its weights
        with torch.no_grad():
            net[0].weight.mul_(2)
        recorded.step()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = net(x).float().numpy().sum()
    assert recorded.results()["sum"][1].item() == expected


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_looking_without_autograd_is_looking(context):
    net, (x, y) = mlp(4, 5, 3), some(4)
    recorded = watch(net, x, y, ENTROPY, every=1, estimators=SPREAD, n_probes=2)
    with context():
        recorded.step()
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    result = recorded.results()
    probed = [name for name in result if name.startswith(("hessian_trace", "critical_batch"))]
    result = result.drop_vars(probed)  # other signs
    assert all(np.array_equal(value[0], value[1]) for value in result.values())


def test_a_look_that_raises_leaves_modes_hooks_and_random_numbers_as_they_were():
    net, (x, _) = images(), some(1, 4, 4)
    modes = [module.training for module in net.modules()]

    def wrong(points):
        torch.rand(len(points))
        raise KeyError("wrong") if armed else ValueError("not to be had")

    armed = False
    with pytest.warns(UnmeasuredWarning):
        recorded = watch(net, x, every=1, layers=["5"], estimators={"wrong": wrong})
    armed, state = True, torch.get_rng_state()
    with pytest.raises(KeyError, match="wrong"):
        recorded.step()
    net[5].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        recorded.measure()
    assert modes == [module.training for module in net.modules()]
    assert torch.equal(state, torch.get_rng_state())
    assert len(net[5]._forward_hooks) == 1  # its owner's


def test_a_network_that_changes_its_inputs_does_not_change_the_held_ones():
    net, (x, _) = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3)), some(4)
    before = x.clone()
    watch(net, x, estimators=SPREAD)
    assert torch.equal(x, before)


def test_nothing_is_kept_that_could_be_derived():
    built = []

    def run(s, x):
        out = s.into(x)
        built.append(weakref.ref(out))
        return out

    net, (x, y) = Written(run, into=nn.Linear(4, 3)), some(4)
    recorded = watch(net, x, y, ENTROPY, every=1, estimators=SPREAD)
    recorded.step()
    gc.collect()
    assert len(built) > 4
    assert not any(stored() is not None for stored in built)
    assert all(value.grad is None for value in net.parameters())


def test_after_its_end_a_watch_looks_no_more():
    with watch(mlp(4, 3), some(4)[0], every=1, estimators=SPREAD) as recorded:
        recorded.step()
    recorded.step()
    assert recorded.results().step.values.tolist() == [0, 1]


@pytest.mark.parametrize("wrap", [nn.DataParallel, nn.Identity])
def test_a_wrapped_network_is_looked_at_within(wrap):
    net = mlp(4, 3)
    wrapped = wrap(net) if wrap is nn.DataParallel else torch.compile(net, backend="eager")
    result = watch(wrapped, some(4)[0], layers=["0"], estimators=SPREAD).results()
    assert result.layer.values.tolist() == ["0"]


def test_what_is_compiled_is_not_compiled_again_for_a_look():
    compiled = []

    def backend(graph, _):
        compiled.append(graph)
        return graph.forward

    net, (x, y) = Written(lambda s, x: s.into(x).tanh(), into=nn.Linear(4, 3)), some(4)
    net.compile(backend=backend)
    recorded = watch(net, x, y, ENTROPY, every=1, layers=["into"], estimators=SPREAD, n_probes=0)
    for _ in range(3):
        F.cross_entropy(net(x), y).backward()
        recorded.step()
    assert len(compiled) == 1
    assert np.isfinite(recorded.results().spread).all()


# What cannot be seen


def test_what_cannot_be_measured_later_is_nan_with_a_warning_and_training_goes_on():
    net, (x, y) = mlp(4, 5, 3), some(4)
    recorded = watch(net, x, y, ENTROPY, layers=["0", "2"], every=1, n_probes=0)
    with torch.no_grad():
        net[0].weight.zero_()
    with pytest.warns(UnmeasuredWarning) as reported:
        recorded.step()
    assert "twonn of layer '0' could not be measured: all 24 points coincide" in str(
        reported[1].message
    )
    with torch.no_grad():
        net[0].weight.fill_(math.nan)
    with pytest.warns(UnmeasuredWarning) as reported:
        recorded.step()
    assert "no gradient noise: the loss of example 0 is not finite" in str(reported[-1].message)
    result = recorded.results()
    assert np.isnan(result.twonn.sel(layer="0")).values.tolist() == [False, True, True]
    assert np.isnan(result.noise_trace).values.tolist() == [False, False, True]


def recurrent():
    def run(s, x):
        return s.out(s.turn(x.transpose(0, 1))[0][-1])

    return Written(run, turn=nn.LSTM(4, 5), out=nn.Linear(5, 3))


def unreached():
    return Written(lambda s, x: s.used(x), used=nn.Linear(4, 3), spare=nn.Linear(4, 3))


def named_outputs():
    def run(s, x):
        return s.head(s.body(x)["hidden"])

    return Written(run, body=Written(lambda s, x: {"hidden": x}), head=nn.Linear(4, 3))


def holed(x, value=math.nan):
    return x.clone().index_fill_(0, torch.tensor([3, 5]), value)


X, Y = torch.randn(N, 4, generator=torch.Generator().manual_seed(0)), torch.arange(N) % 3
REFUSED = {
    r"no layer is called 'fc'; there are 0, 1, 2": (mlp(4, 5, 3), X, {"layers": ["0", "fc"]}),
    r"no layer is called '9'; there are 0, 1, 2 and 4 more": (
        mlp(4, 5, 5, 5, 3),
        X,
        {"layers": "9"},
    ),
    r"does not reach layer 'spare'": (unreached(), X, {"layers": ["spare", "used"]}),
    r"layer 'body' returns a dict, but a watched layer must return a tensor, or a tuple": (
        *(named_outputs(), X),
        {"layers": ["body"]},
    ),
    r"layer 'turn' returns \(2, 3, 5\) of torch.float32, not real numbers of 3 examples": (
        *(recurrent(), torch.randn(N, 2, 4)),
        {"layers": ["turn"]},
    ),
    r"levina_bickel needs 11 examples, 10 beside each, not 10": (mlp(4, 3), X[:10], {}),
    r"needs at least 2 examples, not 1": (mlp(4, 3), X[:1], {"estimators": SPREAD}),
    r"2 of 24 examples are not finite, first number 3": (mlp(4, 3), holed(X), {}),
    r"1 of 24 examples are not finite": (
        mlp(4, 3),
        X.clone().index_fill_(0, torch.tensor(0), math.inf),
        {},
    ),
    r"the network is on cpu, and some of the examples on meta": (mlp(4, 3), X.to("meta"), {}),
    r"the inputs are an empty tuple": (mlp(4, 3), (), {}),
    r"inputs and targets are tensors, .* not ndarray": (mlp(4, 3), X.numpy(), {}),
    r"inputs and targets differ in length: \[12, 24\]": (
        mlp(4, 3),
        X,
        {"targets": Y[:12], "loss": ENTROPY},
    ),
    r"every 1 or more steps, not every 0": (mlp(4, 3), X, {"every": 0}),
    r"every 1 or more steps, not every -2": (mlp(4, 3), X, {"every": -2}),
    r"a collection of steps, or step -> bool, not 1.5": (mlp(4, 3), X, {"every": 1.5}),
    r"steps are counted by integers, not 0.5": (mlp(4, 3), X, {"every": [0.5, 2]}),
    r"steps are counted by integers, not -1": (mlp(4, 3), X, {"every": [-1, 2]}),
    r"targets and a loss are given both": (mlp(4, 3), X, {"loss": None, "targets": Y}),
    r"Tr H takes 2 probes or more, or 0 for none, not 1": (mlp(4, 3), X, {"n_probes": 1}),
    r"some layers have no size": (nn.Sequential(nn.LazyLinear(3)), X, {}),
    r"does not take outputs \(3, 3\) with targets \(3, 2\) of torch.int64": (
        *(mlp(4, 3), X),
        {
            "targets": torch.stack([Y, Y], 1),
            "loss": lambda out, y: F.mse_loss(out, y, reduction="none"),
        },
    ),
    r"one number for each example, \(3,\), not \(3, 3\)": (
        *(mlp(4, 3), X),
        {"targets": Y, "loss": nn.MSELoss(reduction="none")},
    ),
    r"does not take outputs \(3, 3\) with targets \(3,\) of torch.float32": (
        *(mlp(4, 3), X),
        {"targets": Y.float(), "loss": ENTROPY},
    ),
    r"one number for each example, \(3,\), not \(\)": (
        *(mlp(4, 3), X),
        {"targets": Y, "loss": nn.CrossEntropyLoss()},
    ),
    r"random numbers: 0.1 \(Dropout\) is in training; call net.eval\(\) first": (
        *(nn.Sequential(nn.Sequential(nn.Linear(4, 3), nn.Dropout())), X),
        {"targets": Y, "loss": ENTROPY, "training": True},
    ),
    r"others in its batch: 1 \(BatchNorm1d\) is in training": (
        *(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), X),
        {"targets": Y, "loss": ENTROPY, "training": True},
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_bad_input_gets_one_sentence_at_once(message):
    net, inputs, options = REFUSED[message]
    with pytest.raises(ValueError, match=message) as refused:
        watch(net, inputs, **options)
    output = str(refused.value)
    assert 20 <= len(output) <= 200
    assert ". " not in output


class Once(torch.autograd.Function):
    """A square that can be derived once."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        return 2 * ctx.saved_tensors[0] * slope


def test_a_network_without_second_derivatives_goes_without_the_trace_of_its_hessian():
    net, (x, y) = Written(lambda s, x: Once.apply(s.into(x)), into=nn.Linear(4, 3)), some(4)
    with pytest.raises(ValueError, match=r"no second derivatives, .* n_probes=0 leaves it out"):
        watch(net, x, y, ENTROPY, estimators={})
    assert "noise_trace" in watch(net, x, y, ENTROPY, estimators={}, n_probes=0).results()


def test_a_slow_route_is_warned_of_at_the_start_alone():
    def run(s, x):
        return s.into(torch.einsum("ni,i->ni", x, s.gain))

    net, (x, y) = Written(run, gain=nn.Parameter(torch.ones(4)), into=nn.Linear(4, 3)), some(4)
    with pytest.warns(FallbackWarning):
        recorded = watch(net, x, y, ENTROPY, estimators={}, n_probes=0, every=1)
    recorded.step()
    assert recorded.results().sizes["step"] == 2


# With other people's loops


class Told:
    """Keeps what it is told, as a logger or a writer of summaries would."""

    def __init__(self):
        self.metrics, self.scalars = {}, {}

    def log_metrics(self, metrics, step):
        self.metrics[step] = metrics

    def add_scalar(self, name, value, step):
        self.scalars[name, step] = value


@pytest.fixture(scope="module")
def shown():
    """What the document defines, where its packages are stand-ins of ours."""
    there = {name: ModuleType(name) for name in ("lightning", "transformers")}
    there["lightning"].Callback = there["transformers"].TrainerCallback = object
    text = Path("docs/watching.md").read_text(encoding="utf-8")
    space = {"writer": Told()}
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        for name, package in there.items():
            patch.setitem(sys.modules, name, package)
            patch.delitem(sys.modules, f"sgdnoise.nets.{name}", raising=False)
        for code in re.findall(r"```python\n(.*?)```", text, flags=re.S):
            exec(code, space)
        for name in there:  # made with the stand-in
            patch.delitem(sys.modules, f"sgdnoise.nets.{name}")
    return space


def test_the_code_of_the_document_runs_and_sees(shown):
    result = shown["results"]
    assert result.sizes["step"] > 8
    assert not any(np.isnan(value).any() for value in result.values())
    assert np.isfinite(result.critical_batch).any()
    assert {name for name, _ in shown["writer"].scalars} >= {"loss", "1/twonn", "3/twonn"}


SETUP = """
import torch
from torch import nn
from sgdnoise.nets import watch
from sgdnoise.nets._watch._activations import DEFAULT_ESTIMATORS

SPLIT = 0, 10, 24  # of the examples, unequal, the first of them too few
entropy = nn.CrossEntropyLoss(reduction="none")
torch.manual_seed(0)
inputs, labels = torch.randn(24, 4), torch.arange(24) % 3
net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
# the order of the ranks shows in the first point
own = DEFAULT_ESTIMATORS | {"first": lambda points: points[0].sum()}
"""
SCRIPT = """
import json, sys
torch.set_num_threads(1)
import torch.distributed as dist

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
net = nn.parallel.DistributedDataParallel(net)
mine, told = slice(*SPLIT[rank : rank + 2]), []
try:
    watch(net, inputs[mine] / rank)
except ValueError as error:
    told.append(str(error))
log = lambda numbers, step: told.append(step)
seen = watch(net, inputs[mine], labels[mine], entropy, every=2, log=log, estimators=own)
alone = watch(net, inputs, gather=False)
optimizer = torch.optim.SGD(net.parameters(), 0.1)
for _ in range(4):
    optimizer.zero_grad()
    entropy(net(inputs[mine]), labels[mine]).mean().backward()
    optimizer.step()
    seen.step()
found, single = seen.results(), alone.results()
numbers = {name: found[name].values.tolist() for name in found}
weights = [each.tolist() for each in net.module.parameters()]
print(json.dumps([told, numbers, single.sizes["step"], weights]))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_ranks_see_what_one_process_sees_and_rank_0_alone_tells(tmp_path):
    command = [sys.executable, "-c", SETUP + SCRIPT]
    both = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meet")], stdout=subprocess.PIPE)
        for rank in range(2)
    ]
    first, second = (json.loads(child.communicate(timeout=120)[0]) for child in both)
    refused = "rank 0: 10 of 10 examples are not finite, first number 0"
    assert first[0] == [refused, 0, 2, 4]
    assert second[:2] == [[refused], {}]
    assert first[2] == second[2] == 1
    assert first[3] == second[3]

    here: dict = {}
    exec(SETUP, here)
    probe = (here[name] for name in ("net", "inputs", "labels", "entropy"))
    recorded = watch(*probe, every=4, estimators=here["own"])
    with torch.no_grad():
        for tensor, values in zip(here["net"].parameters(), first[3], strict=True):
            tensor.copy_(torch.tensor(values))
    recorded.step(4)
    result = recorded.results()
    assert set(first[1]) == set(result.data_vars)
    for name, values in first[1].items():
        expected = result[name].values  # in float32, with its sums in another order
        np.testing.assert_allclose(values[::2], expected, rtol=1e-3, err_msg=name)


def test_a_watch_of_one_process_asks_no_other():
    assert not torch.distributed.is_initialized()
    assert watch(mlp(4, 3), X, estimators=SPREAD).results().sizes["step"] == 1


def test_a_budget_bounds_the_share_of_time_and_is_told():
    net, (x, y) = mlp(4, 32, 3), some(4)
    watcher = watch(net, x, y, ENTROPY, budget=0.3)
    began = perf_counter()
    while perf_counter() - began < 3.0:
        net(x).sum().backward()
        watcher.step()
    measured = [step for step in watcher._records if step]
    record = watcher.results()
    assert len(measured) > 2
    assert float(record.time_share[-2]) <= 0.31
    assert len(measured) < watcher.count / 2
    assert int(record.n_probes[0]) == 10
    assert 2 <= int(record.n_probes[-1]) <= 10
    assert record.hessian_trace.notnull().all()
    with pytest.raises(ValueError, match="share of the time"):
        watch(net, x, budget=3.0)


def test_a_budget_takes_the_steps_that_are_due():
    net, (x, _) = mlp(4, 8), some(4)
    watcher = watch(net, x, every=[3, 5], budget=0.999999)
    for _ in range(6):
        sleep(0.05)
        watcher.step()
    assert [*watcher._records] == [0, 3, 5]


def test_convolutions_are_pooled_by_default_and_it_is_told():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    x = torch.randn(20, 1, 4, 4)
    columns = {"columns": lambda rows: rows.shape[1]}
    for pooled, expected in ((None, 3), (True, 3), (False, 12)):
        record = watch(net, x, estimators=columns, pooled=pooled).results()
        assert record["columns"].sel(layer="0").item() == expected
        assert record["columns"].sel(layer="3").item() == 2
        assert record.attrs["pooled"] == ("0, 3" if pooled else "0" if pooled is None else "")
