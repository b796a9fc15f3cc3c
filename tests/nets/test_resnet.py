"""The public residual network, its checkpoints, and batch norm as a fixed map."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.functional import cross_entropy

from sgdnoise import noise
from sgdnoise.dynamics import sgd
from sgdnoise.nets import as_problem, freeze_batch_norm, gradient_covariance, walk, watch
from sgdnoise.nets.models import load, mlp, resnet

# He et al. (2016), table 6: millions of parameters
PUBLISHED = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}


def images(n=6, channels=3, size=8, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, channels, size, size, generator=generator, dtype=dtype)


def lively(net, seed=2):
    """The network with other norms than those it begins with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if "bn" in name and tensor.is_floating_point():
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return net


def by_hand(state, x, blocks):
    """The outputs from the state dict alone, as the article describes the network."""

    def normed(x, name):
        mean, var, weight, bias = (
            state[f"{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def convolved(x, name, stride=1):
        return F.conv2d(x, state[f"{name}.weight"], stride=stride, padding=1)

    x = normed(convolved(x, "conv1"), "bn1").clamp(min=0)
    for stage in (1, 2, 3):
        for number in range(blocks):
            name, halve = f"layer{stage}.{number}", stage > 1 and number == 0
            change = normed(convolved(x, f"{name}.conv1", 2 if halve else 1), f"{name}.bn1")
            change = normed(convolved(change.clamp(min=0), f"{name}.conv2"), f"{name}.bn2")
            if halve:
                zeros = torch.zeros_like(change[:, : x.shape[1] // 2])
                x = torch.cat([zeros, x[:, :, ::2, ::2], zeros], 1)
            x = (change + x).clamp(min=0)
    return x.mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"]


@pytest.mark.parametrize("depth", PUBLISHED)
def test_a_resnet_has_the_published_depth_and_parameters(depth):
    net = resnet(depth, seed=0)
    layers = [module for module in net.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert len(layers) == depth
    count = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    assert abs(count - PUBLISHED[depth]) <= (0.05 if depth == 110 else 0.005)


def test_the_names_of_a_resnet_are_those_of_public_checkpoints():
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    blocks = [f"layer{stage}.{number}." for stage in (1, 2, 3) for number in range(2)]
    expected = {"conv1.weight", *(f"bn1.{part}" for part in norm), "linear.weight", "linear.bias"}
    for block in blocks:
        for i in "12":
            expected |= {f"{block}conv{i}.weight", *(f"{block}bn{i}.{part}" for part in norm)}
    assert set(resnet(14, seed=0).state_dict()) == expected


def test_a_resnet_computes_what_the_article_describes():
    net = lively(resnet(14, seed=0)).double().eval()
    outputs = net(images(size=9)).detach()
    np.testing.assert_allclose(outputs, by_hand(net.state_dict(), images(size=9), 2), rtol=1e-10)


def test_weights_of_a_resnet_have_the_published_variance():
    """Of N normal numbers the mean square errs by (2 / N)^(1/2): five of these."""
    net = resnet(20, seed=0)
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            weight = module.weight.detach()
            expected = 2 / weight[0].numel()
            assert (
                abs(float(weight.square().mean()) / expected - 1) < 5 * (2 / weight.numel()) ** 0.5
            )


def test_a_seed_decides_a_resnet_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (resnet(8, seed=seed) for seed in (7, 7, 8))
    assert torch.equal(torch.rand(3), expected)
    pairs = zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    assert not torch.equal(first.linear.bias, other.linear.bias)


def test_watch_measures_blocks_relus_and_the_pool_of_a_resnet():
    layers = ["layer1.0.relu1", "layer1.0", "layer3.0", "pool", "linear"]
    x = images(40, dtype=torch.float32)
    net = resnet(8, seed=0)
    result = watch(net, x, layers=layers).results()
    assert result.layer.values.tolist() == layers
    outputs = net.eval()(x).detach()
    centred = outputs - outputs.mean(0)
    squares = torch.linalg.svdvals(centred) ** 2
    expected = float(squares.sum() ** 2 / (squares**2).sum())
    pr = float(result.participation_ratio.sel(layer="linear")[0])
    assert pr == pytest.approx(expected, rel=1e-5)


# networks with every batch norm, with inputs
NORMED = {
    "numbers": (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), (5, 3)),
    "sequences": (nn.Sequential(nn.Conv1d(3, 4, 2), nn.BatchNorm1d(4, eps=0.1)), (5, 3, 6)),
    "images": (nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.ReLU()), (5, 3, 4, 4)),
    "volumes": (nn.Sequential(nn.Conv3d(3, 4, 2), nn.BatchNorm3d(4)), (5, 3, 4, 4, 4)),
    "not affine": (
        nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4, affine=False)),
        (5, 3, 4, 4),
    ),
    "across devices": (nn.Sequential(nn.Conv2d(3, 4, 2), nn.SyncBatchNorm(4)), (5, 3, 4, 4)),
    "a norm alone": (nn.BatchNorm1d(3), (5, 3)),
    "resnet": (resnet(8, seed=0), (5, 3, 8, 8)),
    "no norm": (nn.Sequential(nn.Linear(3, 4), nn.ReLU()), (5, 3)),
}  # fmt: skip


@pytest.fixture(params=NORMED)
def normed(request):
    """A network whose norms have statistics, and inputs."""
    net, shape = NORMED[request.param]
    generator = torch.Generator().manual_seed(3)
    for name, tensor in (net := copy.deepcopy(net)).state_dict().items():
        if tensor.is_floating_point() and ("running" in name or tensor.ndim == 1):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return net.requires_grad_(True), torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_frozen_batch_norm_is_exact_in_eval_and_in_training(normed, dtype, tolerance):
    net, x = normed[0].to(dtype), normed[1].to(dtype)
    frozen = freeze_batch_norm(net)
    expected = net.eval()(x)
    for result in (frozen.train()(x), frozen.eval()(x)):
        assert (result - expected).abs().max() <= tolerance * expected.abs().max()
    assert not any(
        isinstance(module, nn.modules.batchnorm._BatchNorm) for module in frozen.modules()
    )


def test_freezing_leaves_the_network_unchanged_and_shares_nothing(normed):
    net, x = normed[0].double(), normed[1]
    before, kinds = copy.deepcopy(net.state_dict()), [type(module) for module in net.modules()]
    frozen = freeze_batch_norm(net).train()
    with torch.no_grad():
        for parameter in frozen.parameters():
            parameter.add_(1)
    frozen(x)
    assert [type(module) for module in net.modules()] == kinds
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_frozen_batch_norm_has_the_parameters_and_gradients_of_eval(normed):
    net, x = normed[0].double().eval(), normed[1]
    frozen = freeze_batch_norm(net).train()
    names, frozen_names = ([name for name, _ in n.named_parameters()] for n in (net, frozen))
    assert names == frozen_names
    if not names:
        return
    gradients = [
        torch.autograd.grad(n(x).square().mean(), list(n.parameters())) for n in (net, frozen)
    ]
    for expected, result in zip(*gradients, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-11, atol=1e-13)


def test_freezing_keeps_a_norm_that_is_used_twice_one_norm():
    norm = nn.BatchNorm1d(3)
    frozen = freeze_batch_norm(nn.Sequential(norm, nn.ReLU(), nn.Sequential(norm)))
    assert frozen[0] is frozen[2][0]
    assert len(list(frozen.parameters())) == 2


def test_all_noise_applies_to_a_frozen_resnet():
    """The covariance is that of one gradient for each example by autograd's own loop."""
    net = freeze_batch_norm(lively(resnet(8, 3, seed=0)).double())
    x, y = images(8), torch.arange(8) % 3

    def losses(outputs, targets):
        return cross_entropy(outputs, targets, reduction="none")

    def gradient(i):
        loss = losses(net(x[i : i + 1]), y[i : i + 1]).sum()
        gradients = torch.autograd.grad(loss, net.parameters())
        return torch.cat([piece.reshape(-1) for piece in gradients])

    rows = torch.stack([gradient(i) for i in range(8)])
    centred = rows - rows.mean(0)
    trace = float(centred.square().sum() / 8)
    assert float(gradient_covariance(net, losses, x, y).trace()) == pytest.approx(trace, rel=1e-9)
    problem, theta = as_problem(net, losses, x, y)
    np.testing.assert_allclose(problem.gradient(theta), rows.mean(0), rtol=1e-9, atol=1e-12)
    process = sgd(noise.minibatch(problem, 4), learning_rate=0.01)
    step = next(iter(walk(process, theta, 0)))
    assert torch.isfinite(step).all()
    assert step.shape == theta.shape == (sum(p.numel() for p in net.parameters()),)


class Scaled(nn.BatchNorm1d):
    """A batch norm with a formula of its own."""

    def forward(self, x):
        return 2 * super().forward(x)


def parametrised():
    return nn.utils.parametrizations.weight_norm(nn.BatchNorm1d(3), dim=None)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (lambda: nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)), r"0 \(BatchNorm1d\)"),
        (lambda: nn.BatchNorm2d(3, track_running_stats=False), "track_running_stats=True"),
        (lambda: nn.Sequential(nn.LazyBatchNorm1d()), "before a first batch"),
        (lambda: nn.Sequential(Scaled(3)), r"0 \(Scaled\) has a forward of its own"),
        (lambda: nn.Sequential(parametrised()), "parametrised"),
    ],
)
def test_a_batch_norm_that_cannot_be_frozen_is_one_sentence(net, words):
    with pytest.raises(ValueError, match=words) as caught:
        freeze_batch_norm(net())
    assert ". " not in str(caught.value)


@pytest.mark.parametrize("depth", [19, 2, 0, -4, 18])
def test_a_depth_that_no_resnet_has_is_one_sentence(depth):
    with pytest.raises(ValueError, match=rf"6 n \+ 2, such as 20 or 56, not {depth}"):
        resnet(depth, seed=0)


@pytest.fixture
def trained():
    return lively(resnet(8, seed=1))


@pytest.mark.parametrize("form", ["plain", "nested", "prefixed", "without counters"])
def test_a_checkpoint_is_loaded_in_the_forms_that_are_published(trained, form, tmp_path):
    state = trained.state_dict()
    if form == "without counters":
        state = {name: value for name, value in state.items() if "tracked" not in name}
    if form == "prefixed":
        state = nn.DataParallel(trained).state_dict()
        assert all(name.startswith("module.") for name in state)
    torch.save(
        {"state_dict": state, "best": 91.7} if form == "nested" else state, tmp_path / "a.th"
    )
    net = resnet(8, seed=2)
    assert load(tmp_path / "a.th", net) is net
    for name, tensor in trained.state_dict().items():
        if "tracked" not in name:
            assert torch.equal(net.state_dict()[name], tensor)


def test_a_checkpoint_is_loaded_into_networks_of_other_forms(trained, tmp_path):
    torch.save(trained.state_dict(), tmp_path / "a.th")
    x = images(dtype=torch.float32)
    expected = trained.eval()(x).detach()
    parallel = nn.DataParallel(resnet(8, seed=2))
    assert load(tmp_path / "a.th", parallel) is parallel
    assert torch.equal(parallel.module.eval()(x), expected)
    frozen = load(str(tmp_path / "a.th"), freeze_batch_norm(resnet(8, seed=2)))
    assert torch.equal(frozen(x), expected)
    double = load(tmp_path / "a.th", resnet(8, seed=2).double())
    assert double.linear.weight.dtype == torch.float64
    np.testing.assert_allclose(double.eval()(x.double()).detach(), expected, rtol=1e-4, atol=1e-5)


def without(state, *names):
    return {name: value for name, value in state.items() if name not in names}


def bad_files():
    state = lively(resnet(8, seed=1)).state_dict()
    weight = state["linear.weight"]
    return {
        "missing": (without(state, "linear.weight", "bn1.bias"), "has no bn1.bias, linear.weight"),
        "extra": (
            state | {"head.bias": weight},
            "holds head.bias, which the network does not have",
        ),
        "renamed": (
            without(state, "linear.bias") | {"fc.bias": weight},
            "has no linear.bias, and holds fc.bias, which",
        ),
        "deeper": (resnet(14, seed=0).state_dict(), r"holds layer1.1.conv1.weight, .* \d+ more"),
        "misshapen": (
            resnet(8, 7, seed=0).state_dict(),
            r"linear.weight is \(7, 64\) in a.th and \(10, 64\) in the network",
        ),
        "complex": (state | {"linear.weight": weight + 0j}, "complex64 in a.th and torch.float32"),
        "a tensor": (weight, "holds no state dict but Tensor"),
        "numbers": ({"epoch": 3}, "its 'epoch' is of type int"),
        "empty": ({}, "an empty dict"),
        "a network": (mlp([3, 2], seed=0), "cut short or no checkpoint"),
    }


@pytest.mark.parametrize("name", bad_files())
def test_a_checkpoint_that_does_not_fit_is_one_sentence_and_changes_nothing(name, tmp_path):
    stored, words = bad_files()[name]
    torch.save(stored, tmp_path / "a.th")
    _refused(tmp_path / "a.th", words)


@pytest.mark.parametrize("name", ["cut", "text", "nothing", "absent", "folder"])
def test_a_file_that_is_no_checkpoint_is_one_sentence(name, tmp_path):
    file = tmp_path / "a.th"
    if name == "cut":
        torch.save(resnet(8, seed=1).state_dict(), file)
        file.write_bytes(file.read_bytes()[:-5000])
    if name in ("text", "nothing"):
        file.write_text("no tensors\n" if name == "text" else "")
    if name == "folder":
        file.mkdir()
    absent = name in ("absent", "folder")
    _refused(file, "there is no file a.th" if absent else "a.th is cut short or no checkpoint")


def _refused(file, words):
    net = resnet(8, seed=2)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=words) as caught:
        load(file, net)
    assert ". " not in str(caught.value)
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())
