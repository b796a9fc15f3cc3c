"""The layers in time: networks, measures and theory against direct computations; wrong results."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from witnesses import SURE

from sgdnoise.core import mean
from sgdnoise.lab import Incomplete, exit_status
from simulations.mnist import _measures as measures
from simulations.mnist import _training as training
from simulations.mnist import _wide as wide
from simulations.mnist.in_time import claims, study
from simulations.mnist.in_time import figure as drawing


@pytest.fixture(scope="module")
def results():
    """A smaller run than the smallest, in this process."""
    changes = {"moments": (0, 1, 4), "looked": 80, "draws": 3, "starts": 3, "width": 30}
    return study.study.simulate("small", net=["mlp", training.DECAYED], **changes)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# --- training ---


@pytest.mark.parametrize("name", [*training.NETS, training.DECAYED])
def test_networks_have_three_hidden_layers_and_a_gain_of_one(name):
    net = training.network(name, 784, 64, (8, 16, 32), seed=0)
    names = training.layers_of(net)
    assert len(names) == len(training.LAYERS)
    inputs = torch.randn(400, 784, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = net(inputs)
        first = net[int(names[0])](inputs).flatten(1)
    assert outputs.shape == (400, 10)
    torch.testing.assert_close(first, inputs)
    assert 0.3 < float(outputs.square().mean()) < 3


def test_images_are_standardised_and_blocks_are_disjoint():
    train, test = training.images(None, False, "cpu")
    assert len(test.inputs) == training.TESTED
    assert_allclose((train.inputs.mean(), train.inputs.std()), (0, 1), atol=1e-3)
    first, second = (training.block(test, number, 50) for number in (0, 1))
    assert_allclose(first.inputs, test.inputs[:50])
    assert_allclose(second.labels, test.labels[50:100])


def test_a_step_follows_the_gradient_of_its_batch():
    train, _ = training.images(None, False, "cpu")
    net = training.network("mlp", 64, 8, (), seed=0)
    twin = training.network("mlp", 64, 8, (), seed=0)
    steps = []
    optimizer = training.optimizer_of("mlp", net, 0.1)
    training.descend(net, train, optimizer, 20, 1, np.random.default_rng(3), steps.append)
    index = np.random.default_rng(3).integers(0, len(train.inputs), 20)
    loss = F.cross_entropy(twin(train.inputs[index]), train.labels[index])
    gradients = torch.autograd.grad(loss, [*twin.parameters()])
    for after, before, gradient in zip(net.parameters(), twin.parameters(), gradients, strict=True):
        torch.testing.assert_close(after, before - 0.1 * gradient)
    assert steps == [1]


def test_weight_decay_comes_with_momentum_and_a_drop_of_the_rate():
    net = training.network("mlp", 64, 8, (), seed=0)
    for name, factor in ((training.DECAYED, 0.1), ("mlp", 1.0)):
        optimizer = training.optimizer_of(name, net, 0.1)
        first = optimizer.param_groups[0]["lr"]
        schedule = training.schedule_of(name, optimizer, 9)
        for _ in range(6):
            optimizer.step()
            schedule.step()
        assert_allclose(optimizer.param_groups[0]["lr"], factor * first)
    group = training.optimizer_of(training.DECAYED, net, 0.1).param_groups[0]
    assert (group["momentum"], group["weight_decay"], group["lr"]) == (0.9, 5e-4, 0.05)


def test_loss_and_error_are_those_of_all_images(monkeypatch):
    monkeypatch.setattr(training, "CHUNK", 7)
    _, test = training.images(None, False, "cpu")
    net = training.network("convnet", 64, 0, (2, 4, 8), seed=0)
    loss, error = training.loss_and_error(net, test)
    with torch.no_grad():
        outputs = net(test.inputs)
    assert_allclose(loss, float(F.cross_entropy(outputs, test.labels)), rtol=1e-5)
    assert_allclose(error, float((outputs.argmax(1) != test.labels).double().mean()))


# --- measures ---


def test_classes_of_equal_distance_have_one_dimension_less_than_classes():
    labels = np.repeat([7, 1, 3, 2], 5)
    inside = np.tile([1.0, -1.0, 2.0, -2.0, 0.0], 4)[:, None] * np.eye(5)[4]
    rows = np.hstack([np.repeat(np.eye(4), 5, axis=0), np.zeros((20, 1))]) + inside
    assert_allclose(measures.ratio_of_means(rows, labels=labels), 3.0, rtol=1e-12)
    assert_allclose(measures.within_classes(rows, labels=labels), 2 / 2.75, rtol=1e-12)


def test_drawn_surrogates_have_the_twonn_of_theory():
    rows = normal(400, 12) * np.geomspace(1, 0.2, 12)
    drawn = measures.surrogate(rows, draws=30, seed=0)
    theory = measures.theory(rows, centres=400)
    error = (drawn.stderr**2 + theory.stderr**2) ** 0.5
    assert abs(drawn.value - theory.value) < SURE * error + 0.01 * theory.value


# --- wide networks ---


def test_the_arc_cosine_kernel_is_the_mean_over_units():
    points = normal(6, 4)
    weights = normal(4, 400_000, seed=1)
    units = np.maximum(points @ weights, 0)
    expected = 2 * units @ units.T / units.shape[1]
    assert_allclose(wide.arc_cosine(points @ points.T), expected, rtol=0.02, atol=0.01)


def test_random_networks_have_the_participation_ratio_of_theory():
    """To the square of the first order in the inverse width, beyond which none is claimed."""
    inputs = normal(300, 20) * np.geomspace(1, 0.3, 20) + 0.5
    theory, infinite = wide.ratios(inputs, 2, 200, np.random.default_rng(0))
    measured = []
    for seed in range(60):
        rows, rng = inputs, np.random.default_rng(seed)
        measured.append([])
        for _ in range(2):
            weights = rng.normal(size=(rows.shape[1], 200)) * (2 / rows.shape[1]) ** 0.5
            rows = np.maximum(rows @ weights, 0)
            measured[-1].append(measures.unbiased_ratio(rows))
    result, order = mean(np.asarray(measured)), infinite / theory - 1
    allowed = SURE * result.stderr + order**2 * theory
    assert np.all(abs(result.value - theory) < allowed)
    assert np.all(abs(result.value - infinite) > SURE * result.stderr)


# --- results ---


def test_a_small_run_has_every_measure(results):
    assert results.layer.values.tolist() == list(training.LAYERS)
    assert results.step.values.tolist() == [0, 1, 4]
    for name in (*claims.MEASURED, "theory", "within", "pr_means", "loss", "error"):
        assert np.isfinite(results[name]).all(), name
    drawn = results.surrogate.sel(seed=0, net="mlp")
    assert np.isfinite(drawn).all()
    assert np.isnan(results.surrogate.sel(seed=1)).all()
    start = results.sel(net="mlp", seed=0)
    assert np.isfinite(start.wide.sel(layer=["first hidden", "last hidden"])).all()
    assert np.isnan(results.wide.sel(net=training.DECAYED)).all()
    first = results.pr.sel(layer="first hidden", images="test").isel(step=0)
    assert float(abs(first.sel(net="mlp") - first.sel(net=training.DECAYED)).max()) == 0
    figures = drawing.figures(results)
    assert all(isinstance(figure, Figure) for _, figure in figures.values())
    assert {row.kind for row in claims.verdicts(results)} <= {
        *("prediction", "outside", "observation")
    }


def made_up(*, surrogate=1.0, start=1.0, within=0.05, last=9.0, means=9.0):
    """Two networks as theory has them, but for what is changed."""
    steps, nets, seeds, layers = [0, 10, 100], ["mlp", "convnet"], [0, 1, 2], training.LAYERS
    axes = ("net", "seed", "step", "images", "layer")
    shape = (2, 3, 3, 2, 5)
    noise = 1 + 0.001 * normal(*shape)
    pr = np.full(shape, 30.0) * noise
    pr[..., -1, :, 3:] = last * noise[..., -1, :, 3:]
    ratio = np.full(shape, 5.0) * noise
    ratio[..., -1, :, :] = means * noise[..., -1, :, :]
    full = {"pr": pr, "twonn": 12 * noise, "theory": np.full(shape, 40.0), "pr_means": ratio}
    full |= {"theory_stderr": np.full(shape, 0.1), "within": within * noise}
    variables: dict = {name: (axes, values) for name, values in full.items()}
    by_layer = ("net", "seed", "step", "layer")
    variables["surrogate"] = (by_layer, np.full((2, 3, 3, 5), 40 * surrogate))
    variables["surrogate_stderr"] = (by_layer, np.full((2, 3, 3, 5), 0.1))
    hidden = np.asarray([np.nan, 1, 1, 1, np.nan]) * np.ones((2, 3, 1))
    hidden[1] = np.nan
    numbers = {"wide": 40.0, "infinite": 45.0, "start": 40 * start, "start_stderr": 0.1}
    variables |= {name: (("net", "seed", "layer"), v * hidden) for name, v in numbers.items()}
    variables |= {n: (axes[:-1], np.full(shape[:-1], 0.1)) for n in ("loss", "error")}
    coords = {"net": nets, "seed": seeds, "step": steps, "images": ["test", "training"]}
    return xr.Dataset(variables, coords | {"layer": list(layers)})


def outcomes(**changes):
    rows = study.study.judge(made_up(**changes))
    return {row.name: row.outcome for row in rows if row.kind == "prediction"}


def test_networks_as_theory_has_them_pass():
    assert set(outcomes().values()) == {"holds"}
    rows = study.study.judge(made_up())
    assert exit_status(rows) == 0
    assert len({row.name for row in rows}) == len(rows)
    assert claims.tables(made_up())[0].rows


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"surrogate": 1.1}, "TwoNN of Gaussian points"),
        ({"surrogate": 0.9}, "TwoNN of Gaussian points"),
        ({"start": 1.1}, "start: PR of"),
        ({"start": 0.8}, "start: PR of"),
        ({"last": 12.0}, "images, l"),
        ({"last": 6.0}, "images, l"),
        ({"means": 6.0}, "PR of the class means"),
    ],
)
def test_what_theory_does_not_say_fails(changes, words):
    failed = {name for name, outcome in outcomes(**changes).items() if outcome == "fails"}
    assert failed
    assert all(words in name for name in failed)


def test_collapse_is_not_claimed_where_classes_are_wide():
    rows = study.study.judge(made_up(within=0.5, last=15.0, means=6.0))
    assert exit_status(rows) == 0
    assert sum(row.kind == "outside" for row in rows) == 16


def test_moments_that_do_not_rise_are_one_sentence():
    with pytest.raises(ValueError, match="moments rise from 0, not 0, 5, 5"):
        study.study.simulate("small", moments=(0, 5, 5))


def test_a_folder_without_the_images_is_one_sentence(tmp_path):
    with pytest.raises(Incomplete, match="train-images-idx3-ubyte"):
        study.study.simulate("full", net=["mlp"], seed=[0], data=str(tmp_path))
