"""The study of the effective loss: its steps against slow twins, its smallest run, its refusals."""

import json
from itertools import product

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from scipy.interpolate import PchipInterpolator
from torch.func import functional_call
from witnesses import SURE

from sgdnoise.core import mean
from sgdnoise.dimension import participation_ratio
from sgdnoise.lab import Session, exit_status
from sgdnoise.nets.models import convnet, mlp
from sgdnoise.theory import label_noise_covariance
from simulations.effective_loss import _nets as nets
from simulations.effective_loss import _next_order as next_order
from simulations.effective_loss import _steps as steps
from simulations.effective_loss import claims, study
from simulations.effective_loss import figure as drawing

EXAMPLES, OUTPUTS, RATE, BATCH = 3, 2, 0.1, 2
WIDTHS = {"tanh": (3, 4, OUTPUTS), "relu": (3, 4, 5, OUTPUTS)}


@pytest.fixture(scope="module")
def small():
    """A run of three tasks, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "RECORDS", 4)
        patch.setattr(study, "PROBES", 1)
        gentle = study.TASKS["tanh"]._replace(rate=None)  # inside the regime, where claims are made
        patch.setitem(study.TASKS, "tanh", gentle)
        tasks = ["tanh", "minibatch", "resnet"]
        return study.study.simulate("small", task=tasks, share=0.008, images=6)


def made(kind, copies=1, seed=0):
    """A net of float64, some copies of it as Nets, inputs (n, d) and targets (n, o)."""
    draw = torch.Generator().manual_seed(seed)
    if kind == "conv":
        net = convnet((2, 2), OUTPUTS, 2, 1, "tanh", seed=draw).double()
        stacked, shape = nets.convolutional([net] * copies), (EXAMPLES, 1, 2, 2)
    else:
        net = mlp(WIDTHS[kind], kind, seed=draw).double()
        stacked, shape = nets.perceptrons([net] * copies), (EXAMPLES, 3)
    inputs = torch.randn(shape, generator=draw, dtype=torch.float64)
    targets = torch.randn((EXAMPLES, OUTPUTS), generator=draw, dtype=torch.float64)
    return net, stacked, inputs, targets


def training(kind, copies=1, label_noise=0.7):
    net, stacked, inputs, targets = made(kind, copies)
    x, y = (array.expand(copies, *array.shape) for array in (inputs, targets))
    generator = torch.Generator().manual_seed(1)
    return net, steps.Training(stacked, x, y, BATCH, label_noise, generator)


def jacobian(net, inputs):
    """Derivatives of all outputs by all weights, one output at a time.  (n o, p)"""
    weights = [*net.parameters()]
    rows = [torch.autograd.grad(f, weights, retain_graph=True) for f in net(inputs).flatten()]
    return torch.stack([torch.cat([array.flatten() for array in row]) for row in rows])


def noise_traces(net, inputs, targets):
    """Tr H of Gauss-Newton, and Tr C of the gradients of the examples, as they are defined."""
    rows = jacobian(net, inputs).reshape(EXAMPLES, OUTPUTS, -1)
    of_examples = torch.einsum("nop,no->np", rows, net(inputs).detach() - targets)
    return rows.square().sum() / EXAMPLES, (
        of_examples - of_examples.mean(0)
    ).square().sum() / EXAMPLES


def flat(theta):
    """The numbers of each network, (k, p)."""
    return torch.cat([array.flatten(1) for array in theta], 1)


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_the_trace_of_perceptrons_is_that_of_the_jacobian(kind):
    net, setup = training(kind, 2)
    trace, squares = noise_traces(net, setup.x[0], setup.y[0])
    result = setup.nets.trace(setup.nets.start, setup.x, setup.signs())
    assert_allclose(result, [float(trace)] * 2, rtol=1e-10)
    residual = net(setup.x[0]) - setup.y[0]
    slope = torch.autograd.grad(residual.square().sum() / (2 * EXAMPLES), net.parameters())
    result = setup.nets.square(setup.nets.start, setup.x, setup.y)
    square = sum(array.square().sum() for array in slope)
    assert_allclose(result, [float(squares + square)] * 2, rtol=1e-10)


def every_sign():
    return torch.tensor([*product((-1.0, 1.0), repeat=EXAMPLES * OUTPUTS)], dtype=torch.float64)


def test_random_signs_give_the_trace_on_average_with_the_variance_that_is_told():
    """Over all signs there are, hence without an error."""
    signs = every_sign().reshape(-1, EXAMPLES, OUTPUTS)
    net, setup = training("conv", len(signs))
    leaves = tuple(array.requires_grad_() for array in setup.nets.start)
    result = setup.nets.trace(leaves, setup.x, signs).detach()
    inner = jacobian(net, setup.x[0])
    inner = inner @ inner.T
    assert_allclose(result.mean(), inner.trace() / EXAMPLES, rtol=1e-10)
    across = inner - torch.diag(inner.diagonal())
    assert_allclose(result.var(correction=0), 2 * across.square().sum() / EXAMPLES**2, rtol=1e-10)


def test_slopes_of_the_estimated_trace_are_those_of_the_exact_one_on_average():
    signs = every_sign().reshape(-1, EXAMPLES, OUTPUTS)
    _, setup = training("tanh", len(signs))
    leaves = tuple(array.requires_grad_() for array in setup.nets.start)
    last = {"materialize_grads": True}  # for the last bias, on which nothing depends
    exact = torch.autograd.grad(setup.nets.trace(leaves, setup.x, signs).sum(), leaves, **last)
    estimate = nets.estimated_trace(leaves, setup.nets.layers(leaves, setup.x)[-1], signs)
    result = torch.autograd.grad(estimate.sum(), leaves, **last)
    assert_allclose(flat(result).mean(0), flat(exact)[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["tanh", "relu", "conv"])
def test_networks_together_are_each_by_itself(kind):
    first_net, two = made(kind)[0], made(kind, seed=1)[0]
    stack = nets.convolutional if kind == "conv" else nets.perceptrons
    both, x = stack([first_net, two]), torch.stack([made(kind)[2], made(kind, seed=1)[2]])
    layers = both.layers(both.start, x)
    for at, net in enumerate((first_net, two)):
        assert_allclose(layers[-1][at], net(x[at]).detach(), rtol=1e-12)
        assert_allclose(layers[-2][at], net[:-1](x[at]).detach().flatten(1), rtol=1e-12)


def test_participation_is_that_of_the_package(rng):
    rows = rng.normal(size=(3, 7, 4)) + 5
    expected = [float(participation_ratio(cloud)) for cloud in rows]
    assert_allclose(nets.participation(torch.asarray(rows)), expected, rtol=1e-10)


@pytest.mark.parametrize("label_noise", [0.7, 0.0])
def test_the_effective_loss_is_that_of_theory(label_noise):
    """kappa = rate sigma^2 / (4 batch), for a loss with its factor 1/2."""
    net, setup = training("tanh", 1, label_noise)
    trace, squares = noise_traces(net, setup.x[0], setup.y[0])
    penalty = label_noise**2 * trace if label_noise else squares
    loss = (net(setup.x[0]) - setup.y[0]).square().sum() / (2 * EXAMPLES)
    leaves = tuple(array.requires_grad_() for array in setup.nets.start)
    result = setup.effective(leaves, RATE)
    expected = loss + RATE / (4 * BATCH) * penalty
    assert_allclose(result.detach(), [float(expected.detach())], rtol=1e-10)


def test_the_spread_of_gradients_is_told_of_perceptrons_alone():
    setup = training("conv", 1, 0.0)[1]
    with pytest.raises(ValueError, match="Tr C is known of perceptrons only; give other networks"):
        setup.effective(tuple(array.requires_grad_() for array in setup.nets.start), RATE)


def test_descent_goes_down_the_slope_of_each_network():
    net, setup = training("tanh", 2)
    result = steps.descend(setup.loss, setup.nets.start, RATE, 1)
    loss = (net(setup.x[0]) - setup.y[0]).square().sum() / (2 * EXAMPLES)
    slopes = torch.autograd.grad(loss, [*net.parameters()])
    pairs = zip(net.named_parameters(), slopes, strict=True)
    moved = {name: array - RATE * slope for (name, array), slope in pairs}
    expected = functional_call(net, moved, (setup.x[0],)).detach()
    assert_allclose(setup.nets.layers(result, setup.x)[-1], [expected.numpy()] * 2, rtol=1e-10)


@pytest.mark.parametrize("label_noise", [0.7, 0.0])
def test_noisy_steps_have_the_mean_and_trace_of_theory_whatever_their_shape(label_noise):
    """Mean -rate grad L, trace rate^2 (Tr C + sigma^2 Tr H) / batch; of thousands of copies."""
    copies = 4000
    net, setup = training("tanh", copies, label_noise)
    shapes = study.SHAPES if label_noise else study.SHAPES[:1]
    many = tuple(array.repeat(len(shapes), 1, 1) for array in setup.nets.start)
    moved = flat(setup.noisy_step(many, shapes, RATE)[0]) - flat(many)
    trace, squares = noise_traces(net, setup.x[0], setup.y[0])
    expected = RATE**2 * float(squares + label_noise**2 * trace) / BATCH
    descent = flat(steps.descend(setup.loss, setup.nets.start, RATE, 1)) - flat(setup.nets.start)
    for array in moved.chunk(len(shapes)):
        beside = (array - descent[0]).numpy()
        assert abs(mean((beside**2).sum(1)).z(expected)) < SURE
        assert (abs(mean(beside).z(0)) < SURE).all()


def test_every_shape_of_noise_runs_on_the_examples_of_its_own_seed():
    """With one example each and hardly any noise, a step is plain descent."""
    both = nets.perceptrons([made("tanh", seed=seed)[0] for seed in (0, 1)])
    x, y = (torch.stack([made("tanh", seed=s)[at][:1] for s in (0, 1)]) for at in (2, 3))
    setup = steps.Training(both, x, y, BATCH, 1e-9, torch.Generator().manual_seed(0))
    expected = flat(steps.descend(setup.loss, both.start, RATE, 1))
    result, losses = setup.noisy_step(
        tuple(array.repeat(2, 1, 1) for array in both.start), study.SHAPES[:2], RATE
    )
    assert_allclose(losses, setup.loss(both.start).repeat(2), rtol=1e-12)
    assert_allclose(flat(result), torch.cat([expected, expected]), atol=1e-7)  # of noise 1e-9


def test_shapes_of_noise_keep_its_size_and_have_the_covariance_that_is_told():
    copies = 20_000
    first_net = torch.tensor([1.0, -2.0, 0.5])
    setup = [first_net[:2].repeat(copies, 1), first_net[2:].repeat(copies, 1)]
    generator = torch.Generator().manual_seed(0)
    expected = {
        "label": torch.outer(first_net, first_net),
        "diagonal": torch.diag(first_net**2),
        "isotropic": torch.eye(3) * (first_net @ first_net) / 3,
    }
    for shape, covariance in expected.items():
        result = flat(steps.reshaped(shape, setup, generator))
        assert_allclose(
            result.square().sum(1), torch.full((copies,), first_net @ first_net), rtol=1e-5
        )
        products = mean((result[:, :, None] * result[:, None]).double().numpy())
        assert (abs(products.value - covariance.numpy()) <= SURE * products.stderr + 1e-6).all()
    with pytest.raises(ValueError, match="a noise is label, diagonal or isotropic, not 'pink'"):
        steps.reshaped("pink", setup, generator)


def test_the_steepest_curvature_is_the_largest_of_the_dense_hessian():
    setup = training("tanh", 2)[1]
    shapes = [array.shape[1:] for array in setup.nets.start]
    theta = flat(setup.nets.start)[0]

    def loss(numbers):
        tensors = numbers.split([shape.numel() for shape in shapes])
        both = [p.view(1, *s).repeat(2, 1, 1) for p, s in zip(tensors, shapes, strict=True)]
        return setup.loss(tuple(both))[0]

    values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, theta))
    result = steps.largest_curvature(setup, setup.nets.start, iterations=300)
    assert_allclose(result, [float(abs(values).max())] * 2, rtol=1e-6)  # as gaps^600


def test_a_rate_is_that_of_the_task_or_gentle():
    task = study.TASKS["resnet"]
    assert study.rate_in_regime(study.TASKS["relu"], 1e9, 1e9, 3) == 0.05
    assert study.rate_in_regime(task, 160.0, 1e-3, 10) == pytest.approx(
        0.1
    )  # u = rate 160 / (2 8 10)
    assert study.rate_in_regime(task, 1e-3, 5.0, 10) == pytest.approx(0.056)
    half = study.shortened(task, 0.5)
    assert (half.steps, half.learning, half.quench) == (700, (0.05, 400), 6)


def test_the_smallest_run_holds_and_is_drawn(small):
    result = claims.verdicts(small)
    judged = [v for v in result if v.kind == "prediction"]
    assert exit_status(result) == 0
    # So small a run excludes no rival in most layers, whose rows are then observations.
    assert len(judged) >= 1
    assert all(v.rivals for v in judged)
    figures = drawing.figures(small)
    assert all(isinstance(figure, Figure) for _, figure in figures.values())
    for table in claims.tables(small):
        assert {len(row) for row in table.rows} == {len(table.headings)}
    assert small.ratio_later.dims == ("task", "seed", "later", "layer")
    assert (small.trace_later.sel(task="tanh") > 0).all()
    start = small.ratio.sel(task="tanh").isel(watch=0, layer=0)
    assert (start == start.isel(mode=0)).all()
    bare = small.sel(task="minibatch", mode="diagonal").isel(watch=slice(1, None))
    assert np.isnan(bare.trace).all()
    assert list(small.layers) == [1, 1, 5]


@pytest.mark.parametrize(("name", "claim"), [("ratio", "layer 1: PR"), ("trace", "Tr H")])
def test_noise_that_does_not_follow_fails(small, name, claim):
    """The prediction moves, and label noise is 30% above it."""
    path = small[name].isel(watch=0) * np.exp(-0.4 * xr.DataArray(np.arange(5.0), dims="watch"))
    path = path.transpose(*small[name].dims)
    wrong = small.drop_vars(f"{name}_later").sel(task=["tanh"])
    wrong = wrong.assign({name: (path * (1 + 0.3 * (small.mode == "label"))).sel(task=["tanh"])})
    failed = [v.name for v in claims.verdicts(wrong) if v.outcome == "fails"]
    assert failed
    assert all(claim in text for text in failed)


def test_nothing_is_claimed_of_relu_nor_of_four_layers_at_the_end(small):
    array = small.sel(task="tanh")
    assert claims.moments(array, "tanh") == [(2, "prediction"), (4, "prediction")]
    assert claims.moments(array, "deep") == [(2, "prediction"), (4, "outside")]
    assert claims.moments(array, "resnet") == [(2, "observation"), (4, "observation")]
    sharp = array.assign(sharpness=array.sharpness + 1)
    assert claims.moments(sharp, "tanh") == [(2, "outside"), (4, "outside")]


@pytest.mark.parametrize("name", claims.SMALL)
def test_nothing_is_claimed_beyond_a_limit(small, name):
    array, limit = small.sel(task="tanh"), getattr(claims.LIMITS, name)
    for factor, claimed in ((0.99, True), (1.01, False), (np.nan, False)):
        changed = array.assign({name: 0 * array[name] + factor * limit})
        assert claims.in_regime(changed) is claimed


@pytest.mark.parametrize(
    ("factor", "outcome"),
    [(1.0, "holds"), (0.0, "fails"), (0.5, "fails"), (0.8, "fails"), (1.25, "fails")],
)
def test_another_excess_loss_than_predicted_fails(small, factor, outcome):
    """Losses whose excess is the predicted one times a factor."""
    data = small.sel(task="tanh").copy(deep=True)
    first = data.sizes["watch"] // 2
    trace = data.trace.sel(mode="prediction")
    data.trace.loc[{"mode": "label"}] = trace
    data["excess"] = 1.1 * data.kappa * trace
    mean_loss = [claims.between(data.running_loss.sel(mode="prediction"), first)] * 5
    excess = claims.between(data.excess, first)
    values = np.stack(mean_loss, 1) + factor * excess.values[:, None]
    data.running_loss.loc[{"mode": "label"}] = values
    [row] = claims._excess(data, "tanh")
    assert (row.kind, row.outcome) == ("prediction", outcome)
    assert_allclose((row.predicted, row.measured.value), (1.1, 1.1 * factor), rtol=1e-5)
    assert claims._excess(data, "relu")[0].kind == "observation"


def test_the_mean_between_records_is_that_of_straight_lines():
    path = xr.DataArray([5.0, 1.0, 3.0, 9.0], dims="watch")
    assert float(claims.between(path, 1)) == pytest.approx((2.0 + 6.0) / 2)


def test_derivatives_are_those_of_one_output_at_a_time():
    net, setup = training("relu", 2)
    *hidden, (outputs, slopes) = next_order.derivatives(setup, setup.nets.start, 1)
    rows = jacobian(net, setup.x[1]).reshape(EXAMPLES, OUTPUTS, -1)
    # The weights of all layers come first and are transposed; squares are the same.
    assert_allclose(slopes.square().sum(2), rows.square().sum(2), rtol=1e-10)
    assert_allclose(outputs, net(setup.x[1]).detach(), rtol=1e-12)
    assert [a.shape for a, _ in hidden] == [(EXAMPLES, 4), (EXAMPLES, 5)]


def test_the_excess_of_a_long_run_is_that_of_drawn_weights():
    """Gaussian weights of the covariance of theory, in a network that is nearly linear in them."""
    _, setup = training("tanh", 1, 1e-3)
    start = setup.nets.start
    setup.y[:] = setup.nets.layers(start, setup.x)[-1]
    [value] = next_order.excess(setup, start, RATE, 1e9)
    [(outputs, slopes)] = next_order.derivatives(setup, start, 0, first=-1)
    rows = label_noise_covariance(slopes, **next_order.noise_of(setup, RATE)).rows
    draws = torch.as_tensor(np.random.default_rng(0).normal(size=(4000, len(rows))) @ rows)
    pieces = draws.split([t[0].numel() for t in start], 1)
    moved = [t + d.reshape(-1, *t.shape[1:]) for t, d in zip(start, pieces, strict=True)]
    many = setup.nets.layers(moved, setup.x.expand(4000, -1, -1))[-1]
    losses = 0.5 * (many - outputs).square().sum(2).mean(1)
    assert abs(mean(losses.numpy()).z(value)) < SURE


def test_convolutional_networks_have_no_exact_theory(small):
    assert np.isnan(small.excess.sel(task="resnet")).all()
    assert np.isnan(small.jitter.sel(task=["resnet", "minibatch"])).all()
    [row] = claims._excess(small.sel(task="resnet"), "resnet")
    assert row.kind == "observation"
    assert row.predicted == pytest.approx(1 / (1 - small.amplification.sel(task="resnet").mean()))


def test_a_row_that_does_not_depend_on_kappa_is_an_observation(small):
    values = small.trace.sel(task="tanh").copy(deep=True)
    logs = np.log(values.sel(mode="prediction"))
    slow = values.copy(deep=True)
    slow.loc[{"mode": "prediction"}] = np.exp(0.1 * (logs - logs.isel(watch=0)))
    fast = values.copy(deep=True)
    fast.loc[{"mode": "prediction"}] = np.exp(-np.arange(5.0)) * np.ones((2, 1))
    kinds = [claims._against("", v, "label", 2, "prediction", 0.1).kind for v in (slow, fast)]
    assert kinds == ["observation", "prediction"]


def test_a_share_is_the_ratio_of_mean_changes(small):
    setup = small.ratio.sel(task="minibatch").isel(layer=0).copy(deep=True)
    shape = len(setup.seed), len(setup.watch)
    for mode, change in {"none": [0, 0], "label": [0.2, 0.4], "prediction": [0.1, 0.2]}.items():
        setup.loc[{"mode": mode}] = np.broadcast_to(np.exp(change)[:, None], shape)
    result = claims.explained(setup, 0)
    assert_allclose((result.value, result.stderr), (0.5, 0), atol=1e-12)


def test_the_lead_names_the_device_and_the_size():
    attributes = {"device": "cpu", "arguments": json.dumps(study.FULL)}
    assert all(
        words in claims.LEAD(attributes)[0] for words in ("on cpu", "for a CPU", "64 digits")
    )
    gpu = study.FULL | study.study.sizes["cuda"]
    lead = claims.LEAD({"device": "a GPU", "arguments": json.dumps(gpu)})[0]
    assert all(words in lead for words in ("on a GPU", "256 rendered"))
    assert "for a CPU" not in lead


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": ["lstm"]}, "there is no task 'lstm'; there are resnet, vgg, tanh"),
        ({"seeds": 1}, "seeds must be at least 2, not 1"),
        ({"share": 0.0}, "share must be above 0, not 0.0"),
    ],
)
def test_bad_input_is_answered_by_one_sentence(changes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        study.study.parameters("small", Session(tmp_path), changes)


def test_speeds_are_observed_where_a_path_moves():
    """Committed numbers, of which one layer follows its prediction at half the speed."""
    data = study.study.read()[""].sel(task="ten")
    wrong, steps = data.copy(deep=True), data.step.values
    path = data.trace.sel(mode="prediction").values
    wrong.trace.loc[{"mode": "label"}] = PchipInterpolator(steps, path, axis=1)(steps / 2)
    rows = {row.name: row for row in claims._speeds(wrong, "ten")}
    speed = rows["ten, speed of Tr H: kappa-hat / kappa"]
    assert speed.kind == "observation"
    assert speed.measured.value == pytest.approx(0.5, abs=0.01)
    assert rows["ten, speed of PR of layer 1: kappa-hat / kappa"].measured.value > 1.1
    still = wrong.assign(trace=0 * data.trace + 1)
    assert not any("Tr H" in row.name for row in claims._speeds(still, "ten"))
