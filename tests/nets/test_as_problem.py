"""Real torch networks as Problems over one vector, and their walks."""

import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, mse_loss
from witnesses import SURE, by_hand, curved, matrix

from sgdnoise import noise
from sgdnoise.core import mean
from sgdnoise.dynamics import sgd, side_by_side
from sgdnoise.nets import as_problem, walk
from sgdnoise.nets._walk import draws
from sgdnoise.noise import (
    Normal,
    Uniform,
    WithoutReplacement,
    WithReplacement,
    bernoulli,
    svag_weights,
    with_replacement,
)


def each_entropy(outputs, targets):
    return cross_entropy(outputs, targets, reduction="none")


@pytest.fixture
def classifier(rng):
    """A small network with normal random parameters, inputs and classes."""
    net = torch.nn.Sequential(
        torch.nn.Linear(4, 5), torch.nn.LayerNorm(5), torch.nn.Tanh(), torch.nn.Linear(5, 3)
    ).double()
    for piece in net.parameters():
        piece.data = torch.asarray(rng.normal(size=tuple(piece.shape)))
    inputs, classes = rng.normal(size=(12, 4)), rng.integers(0, 3, 12)
    return net, torch.asarray(inputs), torch.asarray(classes)


def gradient_by_autograd(net, loss):
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(net.parameters()))])


def test_a_flat_network_has_the_losses_and_gradients_of_autograd(classifier):
    net, inputs, classes = classifier
    problem, theta = as_problem(net, each_entropy, inputs, classes)
    losses = each_entropy(net(inputs), classes)
    expected = gradient_by_autograd(net, losses.mean())
    np.testing.assert_allclose(problem.losses(theta, inputs, classes), losses.detach(), rtol=1e-12)
    np.testing.assert_allclose(problem.gradient(theta), expected, rtol=1e-10, atol=1e-14)


def test_the_gradient_of_each_example_is_that_of_the_example_alone(classifier):
    net, inputs, classes = classifier
    problem, theta = as_problem(net, each_entropy, inputs, classes)
    for i, result in enumerate(problem.gradients(theta)):
        loss = cross_entropy(net(inputs[i : i + 1]), classes[i : i + 1])
        np.testing.assert_allclose(result, gradient_by_autograd(net, loss), rtol=1e-10, atol=1e-14)


def test_theta_is_a_copy_and_the_network_stays_as_it_was(classifier):
    net, inputs, classes = classifier
    before = [piece.clone() for piece in net.parameters()]
    problem, theta = as_problem(net, each_entropy, inputs, classes)
    theta += 1
    problem.gradient(theta)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_weights_that_are_shared_are_one_part_of_theta():
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3))
    net[2].weight = net[0].weight
    x = torch.ones(2, 3)
    problem, theta = as_problem(net, lambda f, y: ((f - y) ** 2).sum(1), x, torch.zeros(2, 3))
    assert theta.numel() == 9 + 3 + 3
    expected = gradient_by_autograd(net, (net(x) ** 2).sum(1).mean())
    np.testing.assert_allclose(problem.gradient(theta), expected, rtol=1e-5)


class Counting(torch.nn.Linear):
    """A layer that counts its calls."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls.add_(1)
        return super().forward(x)


def test_buffers_that_a_forward_pass_changes_are_refused_by_name():
    x, classes = torch.ones(2, 2), torch.zeros(2, dtype=int)
    with pytest.raises(ValueError, match=r"changes the buffers 0\.calls; call net\.eval\(\)"):
        as_problem(torch.nn.Sequential(Counting(2, 2)), each_entropy, x, classes)
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    with pytest.raises(ValueError, match=r"others in its batch: 1 \(BatchNorm1d\) is in training"):
        as_problem(net, each_entropy, x, classes)


@pytest.mark.parametrize(
    ("loss", "shape"), [(cross_entropy, r"\(\)"), (lambda f, y: f * y[:, None], r"\(2, 3\)")]
)
def test_a_loss_of_another_shape_is_refused(classifier, loss, shape):
    with pytest.raises(
        ValueError, match=rf"one number for each example, \(2,\), not {shape}; .*none"
    ):
        as_problem(classifier[0], loss, *classifier[1:])


def test_a_loss_that_has_the_right_shape_for_two_examples_alone_is_refused(classifier):
    with pytest.raises(ValueError, match=r"one number for each example, \(12,\), not \(2,\)"):
        as_problem(classifier[0], lambda f, y: cross_entropy(f, y).repeat(2), *classifier[1:])


def each_square(outputs, targets):
    return (outputs - targets).square().mean(1)


NAN = torch.ones(12, 4, dtype=torch.float64)
NAN[[3, 7], 1] = torch.nan


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"inputs": NAN}, "2 of 12 examples are not finite, first number 3"),
        ({"targets": NAN[:, 1]}, "2 of 12 examples are not finite, first number 3"),
        ({"inputs": NAN[:0], "targets": torch.ones(0)}, "at least 1 example, not 0"),
        ({"inputs": NAN[4:6]}, r"inputs and targets differ in length: \[2, 12\]"),
        ({"inputs": np.ones((12, 4))}, "are tensors, .*not ndarray"),
        ({"inputs": torch.ones(12, 5)}, r"does not take inputs \(2, 5\) of float32"),
        ({"inputs": torch.ones(12, 4)}, r"does not take inputs \(2, 4\) of float32"),
        ({"loss": each_square}, r"outputs \(2, 3\) of float64 and targets \(2,\) of int64"),
        ({"targets": torch.arange(12)}, r"outputs \(2, 3\) .* \(2,\) of int64 up to 11"),
        ({"targets": torch.rand(12)}, r"loss does not take .* targets \(2,\) of float32"),
    ],
)
def test_what_cannot_be_fitted_is_refused_by_a_sentence(classifier, changed, said):
    net, inputs, targets = classifier
    arguments = {"loss": each_entropy, "inputs": inputs, "targets": targets} | changed
    with pytest.raises(ValueError, match=said):
        as_problem(net, **arguments)


def test_a_network_that_draws_random_numbers_is_refused(classifier):
    net, inputs, targets = classifier
    with pytest.raises(ValueError, match=r"random numbers: 1 \(Dropout\) is in training"):
        as_problem(torch.nn.Sequential(net, torch.nn.Dropout()), each_entropy, inputs, targets)
    with pytest.raises(ValueError, match="depends on the others in its batch"):
        as_problem(net, lambda f, y: each_entropy(f, y) / len(y), inputs, targets)


def convolutional(form=torch.contiguous_format):
    """A small network of convolutions, its weights laid as asked, with images and classes."""
    torch.manual_seed(3)
    pieces = torch.nn.Conv2d(2, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 3, 3), torch.nn.Flatten()
    net = torch.nn.Sequential(*pieces, torch.nn.Linear(12, 3)).to(memory_format=form)
    return net, torch.randn(8, 2, 6, 6), torch.randint(3, (8,))


def test_weights_laid_channels_last_stay_so_and_change_nothing(monkeypatch):
    laid = []
    conv = torch.nn.functional.conv2d

    def seen(images, weight, *rest):
        laid.append(weight.is_contiguous(memory_format=torch.channels_last))
        return conv(images, weight, *rest)

    net, x, y = convolutional()
    plain, theta = as_problem(net, each_entropy, x, y)
    net, x, y = convolutional(torch.channels_last)
    last, same = as_problem(net, each_entropy, x, y)
    assert torch.equal(theta, same)
    torch.testing.assert_close(last.gradients(theta), plain.gradients(theta))
    monkeypatch.setattr(torch.nn.functional, "conv2d", seen)
    torch.testing.assert_close(last.gradient(theta), plain.gradient(theta))
    assert laid == [True, True, False, False]


def test_autocast_makes_the_products_of_the_network_in_its_type_and_no_other():
    """As torch's own loop within autocast; losses, theta and covariances in float32."""
    net, x, y = convolutional()
    coarse, theta = as_problem(net, each_entropy, x, y, autocast=torch.bfloat16)
    fine, _ = as_problem(net, each_entropy, x, y)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = net(x)
    assert outputs.dtype == torch.bfloat16
    loss = each_entropy(outputs.float(), y).mean()
    result = coarse.gradient(theta)
    assert result.dtype == coarse.losses(theta, x, y).dtype == torch.float32
    torch.testing.assert_close(result, gradient_by_autograd(net, loss), rtol=1e-6, atol=1e-7)
    apart = torch.linalg.vector_norm(result - fine.gradient(theta)) / torch.linalg.vector_norm(
        result
    )
    assert 1e-4 < apart < 16 * torch.finfo(torch.bfloat16).eps
    traces = [noise.minibatch(value, 4).covariance(theta).trace() for value in (coarse, fine)]
    assert traces[0] == traces[1]


@pytest.mark.parametrize("wrong", [None, 0.5, True, np.random.default_rng(0)])
def test_a_walk_takes_a_generator_of_torch_or_a_whole_number(classifier, wrong):
    problem, theta = as_problem(classifier[0], each_entropy, *classifier[1:])
    process = sgd(noise.minibatch(problem, 4), 0.05)
    first = [next(walk(process, theta, seed)) for seed in (3, np.int64(3))]
    assert torch.equal(*first)
    with pytest.raises(ValueError, match=r"a torch.Generator or an int as seed"):
        next(walk(process, theta, wrong))


def test_a_walk_repeats_itself_with_its_seed_and_not_with_another(classifier):
    problem, theta = as_problem(classifier[0], each_entropy, *classifier[1:])
    process = sgd(noise.minibatch(problem, 4), 0.05)
    first, again, second = (list(islice(walk(process, theta, seed), 5)) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[-1], second[-1])
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(next(walk(process, theta, generator)), first[0])


def test_a_walk_of_sgd_has_the_bits_of_the_optimizer_of_torch(classifier):
    net, inputs, targets = classifier
    problem, theta = as_problem(net, each_entropy, inputs, targets)
    steps = walk(sgd(noise.minibatch(problem, 4), 0.05), theta, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(3)
    for _ in range(20):
        index = torch.randint(len(inputs), (4,), generator=generator)
        optimizer.zero_grad()
        cross_entropy(net(inputs[index]), targets[index]).backward()
        optimizer.step()
        by_torch = torch.cat([piece.detach().reshape(-1) for piece in net.parameters()])
        assert torch.equal(next(steps), by_torch)


def test_a_walk_does_not_compile_its_loss(classifier):
    compiled = []

    def backend(graph, _):
        compiled.append(graph)
        return graph.forward

    net, inputs, targets = classifier
    loss = torch.compile(each_entropy, backend=backend)
    problem, theta = as_problem(net, loss, inputs, targets)
    next(walk(sgd(noise.minibatch(problem, 4), 0.05), theta, 3))
    assert not compiled
    loss(net(inputs).detach(), targets)
    assert len(compiled) == 1


def test_a_walk_goes_down(classifier):
    problem, theta = as_problem(classifier[0], each_entropy, *classifier[1:])
    *_, last = islice(walk(sgd(noise.minibatch(problem, 4), 0.1), theta, 0), 200)
    assert problem.value(last) < problem.value(theta) / 2


def test_a_walk_is_the_loop_that_its_draws_and_steps_make():
    problem, theta = curved("torch")
    process = sgd(noise.label_noise(problem, 2, 0.1), 0.05)
    generator = torch.Generator().manual_seed(5)
    for drawn, recorded in zip(
        islice(draws(process.draw, generator, theta.dtype), 4),
        walk(process, theta, 5),
        strict=False,
    ):
        theta = process.step(theta, drawn)
        assert torch.equal(theta, recorded)


def test_two_walks_go_together():
    problem, theta = curved("torch")
    members = {
        "a": sgd(noise.minibatch(problem, 2), 0.05),
        "b": sgd(noise.full_batch(problem), 0.1),
    }
    *_, last = islice(walk(side_by_side(members), {"a": theta, "b": theta}, 0), 3)
    *_, alone = islice(walk(members["b"], theta, 1), 3)
    assert torch.equal(last["b"], alone)


def test_draws_come_in_the_tuples_and_dicts_that_were_asked_for(rng):
    kinds = {"a": (Normal(2), ()), "b": {"c": WithReplacement(3, 5)}}
    drawn = next(draws(kinds, torch.Generator().manual_seed(0), torch.float32))
    expected = by_hand(kinds, rng)
    assert drawn["a"][0].dtype == torch.float32
    assert drawn["a"][0].shape == expected["a"][0].shape
    assert drawn["a"][1] == ()
    assert drawn["b"]["c"].shape == (3,)


def many(kind, steps=4000):
    """Draws of one stream, (step, size)."""
    stream = draws(kind, torch.Generator().manual_seed(0), torch.float64)
    return torch.stack(list(islice(stream, steps))).numpy()


def test_torch_draws_have_the_moments_of_their_laws():
    z, u = many(Normal(3)).ravel(), many(Uniform(3)).ravel()
    for power, moment in {1: 0, 2: 1, 4: 3}.items():
        assert abs(mean(z**power).z(moment)) < SURE
    for power in (1, 2):
        assert abs(mean(u**power).z(1 / (power + 1))) < SURE


@pytest.mark.parametrize(
    ("kind", "twice"), [(WithReplacement(2, 5), 0.2), (WithoutReplacement(2, 5), 0.0)], ids=repr
)
def test_two_of_a_torch_batch_coincide_as_often_as_their_law_says(kind, twice):
    drawn = many(kind)
    same = (drawn[:, 0] == drawn[:, 1]).astype(float)
    assert abs(mean(same).z(twice)) < SURE if twice else not same.any()
    assert np.all(abs(mean((drawn[:, :, None] == np.arange(5)).astype(float)).z(0.2)) < SURE)


def test_there_is_no_way_to_draw_an_unknown_kind():
    with pytest.raises(TypeError, match="no way to draw 'dice'"):
        next(draws("dice", torch.Generator(), torch.float32))


def test_a_mean_squared_loss_needs_its_own_mean_over_outputs(classifier):
    """Torch's own, without reduction, has one number an output and is refused."""
    net, inputs, _ = classifier

    def loss(f, y):
        return mse_loss(f, y, reduction="none")

    with pytest.raises(ValueError, match=r"not \(2, 3\)"):
        as_problem(net, loss, inputs, torch.zeros((12, 3)).double())


def one_by_one(net, loss, inputs, targets):
    """Gradients of the trained parameters (n, p) by autograd."""
    trained = [piece for piece in net.parameters() if piece.requires_grad]
    value = loss(net(inputs), targets)
    rows = [torch.autograd.grad(first, trained, retain_graph=True) for first in value]
    return torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in rows])


def squared(outputs, targets):
    return 0.5 * ((outputs - targets) ** 2).sum(1)


@pytest.fixture
def regression(classifier):
    """A network with a frozen layer and targets that are numbers, flat; gradients one by one."""
    net, inputs, _ = classifier
    net[0].bias.requires_grad_(False)
    targets = torch.asarray(np.random.default_rng(3).normal(size=(12, 3)))
    g = one_by_one(net, squared, inputs, targets)
    return *as_problem(net, squared, inputs, targets), g


def test_frozen_parameters_are_no_part_of_theta(regression, classifier):
    problem, theta, g = regression
    assert theta.shape == (4 * 5 + 10 + 18,)
    np.testing.assert_allclose(problem.gradients(theta), g, rtol=1e-9, atol=1e-13)
    before = classifier[0][0].bias.clone()
    *_, last = islice(walk(sgd(noise.minibatch(problem, 4), 0.1), theta, 0), 3)
    assert last.shape == theta.shape
    assert torch.equal(classifier[0][0].bias, before)


def test_a_network_with_nothing_to_train_has_no_theta(classifier):
    with pytest.raises(ValueError, match="Sequential has no parameters to train"):
        as_problem(classifier[0].requires_grad_(False), each_entropy, *classifier[1:])


@pytest.mark.parametrize("replacement", [True, False])
def test_the_covariance_of_a_flat_network_is_dense_at_any_theta(classifier, replacement):
    problem, start = as_problem(classifier[0], each_entropy, *classifier[1:])
    model = noise.minibatch(problem, 4, replacement)
    for theta in (start, start / 2 + 0.1):
        g = problem.gradients(theta).numpy()
        fraction = 1 if replacement else (12 - 4) / (12 - 1)
        expected = fraction / 4 * np.cov(g.T, bias=True)
        c = model.covariance(theta)
        np.testing.assert_allclose(matrix(c, len(theta), torch.asarray), expected, atol=1e-12)


MODELS = {
    "minibatch": lambda p, d: noise.minibatch(p, 4),
    "without replacement": lambda p, d: noise.minibatch(p, 4, replacement=False),
    "bernoulli": lambda p, d: noise.from_weights(p, bernoulli(12, 4)),
    "twin": lambda p, d: noise.gaussian(noise.minibatch(p, 4)),
    "label": lambda p, d: noise.label_noise(p, 4, 0.7),
    "label's twin": lambda p, d: noise.gaussian(noise.label_noise(p, 4, 0.7)),
    "isotropic": lambda p, d: noise.isotropic(p, 0.3),
    "same trace": lambda p, d: noise.same_trace(noise.minibatch(p, 4)),
    "same diagonal": lambda p, d: noise.same_diagonal(noise.minibatch(p, 4)),
    "svag": lambda p, d: noise.from_weights(p, svag_weights(with_replacement(12, 4), 2)),
    "svag's twin": lambda p, d: noise.gaussian(
        noise.from_weights(p, svag_weights(with_replacement(12, 4), 2))
    ),
}
DRAWN = [
    "minibatch",
    "without replacement",
    "bernoulli",
    "label",
    "svag",
]  # not linear in what is drawn
BY_WHITE = [name for name in MODELS if name not in DRAWN]


@pytest.fixture
def made(request, regression):
    problem, theta, g = regression
    return MODELS[request.param](problem, len(theta)), theta, g


@pytest.mark.parametrize("made", BY_WHITE, indirect=True)
def test_what_is_added_to_a_gradient_has_the_covariance_it_claims(made):
    """Exactly: the noise is linear in the white numbers, which are put in one at a time."""
    model, theta, g = made
    center = model.gradient(theta, torch.zeros(model.draw.size).double())
    np.testing.assert_allclose(center, g.mean(0), rtol=1e-9, atol=1e-13)
    b = torch.stack([model.gradient(theta, e) for e in torch.eye(model.draw.size).double()], 1)
    b = (b - center[:, None]).numpy()
    claimed = matrix(model.covariance(theta), len(theta), torch.asarray)
    np.testing.assert_allclose(b @ b.T, claimed, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("made", DRAWN, indirect=True)
def test_draws_have_the_covariance_claimed(made):
    """Seen along three directions, so that each entry has its own error."""
    model, theta, g = made
    recorded = torch.asarray(np.random.default_rng(0).normal(size=(len(theta), 3)))
    claimed = (recorded.T @ (model.covariance(theta) @ recorded[:, 0])).numpy()
    stream = draws(model.draw, torch.Generator().manual_seed(0), theta.dtype)
    drawn = torch.stack([model.gradient(theta, first) for first in islice(stream, 600)])
    noisy = ((drawn - g.mean(0)) @ recorded).numpy()
    assert np.all(abs(mean(noisy).z(0)) < SURE)
    assert np.all(abs(mean(noisy[:, :1] * noisy).z(claimed)) < SURE)


def test_same_trace_and_same_diagonal_have_those_of_minibatches(regression):
    problem, theta, g = regression
    dense = torch.cov(g.T, correction=0) / 4
    for model, expected in (
        (noise.same_trace, torch.eye(len(theta)).double() * dense.trace() / len(theta)),
        (noise.same_diagonal, dense.diag().diag()),
    ):
        c = model(noise.minibatch(problem, 4)).covariance(theta)
        result = matrix(c, len(theta), torch.asarray)
        np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", MODELS)
def test_a_real_network_walks_under_any_noise(regression, name):
    problem, theta, _ = regression
    model = MODELS[name](problem, len(theta))
    *_, last = islice(walk(sgd(model, 0.01), theta, 0), 3)
    assert bool(last.isfinite().all())
    assert not torch.equal(last, theta)


BACKWARDS = {  # passes of a step, and examples in each: the full batch is of 12
    "quiet": ([12], lambda p, d: noise.full_batch(p)),
    "minibatch": ([4], MODELS["minibatch"]),
    "without replacement": ([4], MODELS["without replacement"]),
    "bernoulli": ([12], MODELS["bernoulli"]),
    "twin": ([12], MODELS["twin"]),
    "label": ([4], MODELS["label"]),
    "label's twin": ([12], MODELS["label's twin"]),
    "isotropic": ([12], MODELS["isotropic"]),
    "same trace": ([12, 12, 12], MODELS["same trace"]),
    "same diagonal": ([12, 12, 12], MODELS["same diagonal"]),
    "svag": ([8], MODELS["svag"]),
    "svag's twin": ([12], MODELS["svag's twin"]),
}


class Counted(torch.autograd.Function):
    """Nothing, but it tells of each backward pass how many examples it has."""

    generate_vmap_rule = True
    seen: list = []  # noqa: RUF012 - one test at a time

    @staticmethod
    def forward(x):
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, slope):  # noqa: ARG004 - torch's signature
        Counted.seen.append(len(slope))
        return slope

    @staticmethod
    def jvp(ctx, tangent):  # noqa: ARG004 - torch's signature
        return tangent.clone()


@pytest.mark.parametrize("name", BACKWARDS)
def test_a_step_takes_one_backward_pass_or_two_where_variances_are_measured(classifier, name):
    """After the first of those, which tries the routes; a minibatch has only its examples.

    Here variances take a third pass, a check by autograd, as for all that torch does not know.
    """
    expected, make = BACKWARDS[name]
    net = torch.nn.Sequential(classifier[0], torch.nn.Identity())
    net[1].forward = Counted.apply
    targets = torch.zeros(12, 3).double()
    problem, theta = as_problem(net, squared, classifier[1], targets)
    model = make(problem, len(theta))
    stream = draws(model.draw, torch.Generator().manual_seed(0), theta.dtype)
    model.gradient(theta, next(stream))
    Counted.seen.clear()
    model.gradient(theta, next(stream))
    assert Counted.seen == expected


class Unused(torch.nn.Module):
    """A network with a parameter that its output does not see."""

    def __init__(self):
        super().__init__()
        self.used = torch.nn.Linear(3, 2)
        self.idle = torch.nn.Parameter(torch.ones(4))

    def forward(self, x):
        return torch.tanh(self.used(x))


def test_plain_gradients_are_those_of_functions():
    """Whoever differentiates or maps further gets the slower way, with the same numbers."""
    x, y, weights = torch.randn(5, 3), torch.randn(5, 2), torch.rand(5)
    problem, theta = as_problem(Unused(), squared, x, y)
    slow = replace(problem, backward=None)
    torch.testing.assert_close(
        problem.weighted_gradient(theta, weights), slow.weighted_gradient(theta, weights)
    )
    torch.testing.assert_close(problem.gradient(theta), slow.gradient(theta))
    shift = torch.randn(5, 2)
    ours, theirs = (first.weighted_gradient(theta, weights, shift) for first in (problem, slow))
    torch.testing.assert_close(ours, theirs)
    many = torch.stack([theta, 2 * theta])
    mapped = torch.func.vmap(problem.gradient)(many)
    torch.testing.assert_close(mapped[1], slow.gradient(2 * theta))
    vector = torch.randn_like(theta)
    torch.testing.assert_close(problem.hvp(theta, vector), slow.hvp(theta, vector))
    free = theta.clone().requires_grad_()
    (curvature,) = torch.autograd.grad(problem.gradient(free) @ vector, free)
    torch.testing.assert_close(curvature, slow.hvp(theta, vector))
    with torch.no_grad():
        assert not problem.gradient(theta).requires_grad
        torch.testing.assert_close(problem.gradient(theta), slow.gradient(theta))


def test_the_code_of_the_document_runs_and_goes_down(capsys):
    text = Path("docs/networks.md").read_text(encoding="utf-8")
    for code in re.findall(r"```python\n(.*?)```", text, flags=re.S):
        exec(code, {})
    before, after, trace = map(float, capsys.readouterr().out.split())
    assert trace > 0
    assert 0 < after < before
