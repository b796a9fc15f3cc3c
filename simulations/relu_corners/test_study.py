"""The study of corners: its functions against direct computations, a small run, wrong results."""

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from sgdnoise.lab import exit_status
from sgdnoise.nets.models import mlp
from simulations.relu_corners import _network as networks
from simulations.relu_corners import _paths as paths
from simulations.relu_corners import claims, study
from simulations.relu_corners import figure as drawing
from simulations.relu_corners._network import Perceptron, participation


@pytest.fixture
def net():
    inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Perceptron(mlp((4, 8, 8, 3), seed=0).double(), inputs)


@pytest.fixture(scope="module")
def results():
    """A smaller run than the smallest, at one noise."""
    changes = {"examples": 8, "steps": 96, "chains": 3}
    return study.study.simulate("small", label_noise=[0.3], **changes)


def test_layers_are_those_of_the_network(net):
    module = mlp((4, 8, 8, 3), seed=0).double()
    with torch.no_grad():
        expected = module(net.inputs)
    torch.testing.assert_close(net.layers(net.start)[-1], expected)
    many = net.layers(torch.stack([net.start, 2 * net.start]))
    assert [tuple(rows.shape) for rows in many] == [(2, 6, 8), (2, 6, 8), (2, 6, 3)]
    torch.testing.assert_close(many[0][0], net.layers(net.start)[0])


def test_the_start_is_a_minimum_without_residuals(net):
    gradient, loss = net.gradient(net.start)
    assert float(loss) == 0.0
    assert float(abs(gradient).max()) == 0.0


def test_noise_of_labels_reaches_the_weights_through_the_jacobian(net):
    """-J^T eps / b of one draw, for each of two networks on its own examples."""
    index = torch.tensor([[0, 2], [3, 3]])
    white = torch.randn(2, 2, 3, dtype=torch.float64)
    gradient, _ = net.gradient(net.start.repeat(2, 1), index, white)
    rows = net.jacobian(net.start)
    for row, chosen, noise in zip(gradient, index, white, strict=True):
        expected = -torch.einsum("iop,io->p", rows[chosen], noise) / 2
        torch.testing.assert_close(row, expected)


def test_the_gradient_of_the_trace_is_that_of_differences_away_from_corners(net):
    direction = torch.randn(net.start.shape, dtype=torch.float64)
    direction /= direction.norm()
    size = 1e-6
    ends = [net.observe(net.start + sign * size * direction)[-1] for sign in (1, -1)]
    slope = float(net.trace_gradient(net.start) @ direction)
    assert_allclose(slope, (ends[0] - ends[1]) / (2 * size), rtol=1e-5)


def test_observations_are_those_of_layers_and_jacobian(net):
    values = net.observe(net.start)
    assert_allclose(values[0], float(participation(net.layers(net.start)[0])))
    assert_allclose(values[-1], float(net.jacobian(net.start).square().sum()) / 6)
    points = torch.randn(5, 3, dtype=torch.float64)
    spectrum = torch.linalg.eigvalsh(torch.cov(points.T))
    expected = spectrum.sum() ** 2 / spectrum.square().sum()
    torch.testing.assert_close(participation(points), expected)


def test_a_displaced_network_returns_to_a_minimum(net):
    rate, trace = paths.largest_rate(net, 0.2)
    assert_allclose(trace, net.observe(net.start)[-1])
    away = net.start + 1e-3 * torch.randn(2, len(net.start), dtype=torch.float64)
    for before, after in zip(away, net.quenched(away, rate), strict=True):
        assert float(net.gradient(after)[1]) < 1e-6 * float(net.gradient(before)[1])


def test_sgd_makes_the_steps_of_its_draws(net):
    noise = paths.Noise(0.1, 4, 0.05)
    theta = net.start.repeat(2, 1)
    after, loss = paths.sgd(net, theta, noise, 2, torch.Generator().manual_seed(3))
    generator, losses = torch.Generator().manual_seed(3), []
    for _ in range(2):
        index = torch.randint(6, (2, 4), generator=generator)
        white = torch.randn(2, 4, 3, dtype=torch.float64, generator=generator)
        gradient, at = net.gradient(theta, index, 0.1 * white)
        theta = theta - 0.05 * gradient
        losses.append(float(at.mean()))
    torch.testing.assert_close(after, theta)
    assert_allclose(loss, np.mean(losses))


def test_theory_without_corners_is_descent_on_kappa_times_the_trace(monkeypatch):
    """Of a network of tanh the mean force is kappa grad Tr H, that of autograd."""
    monkeypatch.setattr(torch, "relu", torch.tanh)
    inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net = Perceptron(mlp((4, 8, 8, 3), "tanh", seed=0).double(), inputs)
    rate, _ = paths.largest_rate(net, 0.02)
    noise, settled, steps = paths.Noise(0.01, 64, rate), 10**9, 1000
    moved, (linear, loss) = paths.predicted(
        net, net.start, noise, settled, steps, 400, np.random.default_rng(0)
    )
    expected = paths.descended(net, net.start, noise, steps)
    trace = [net.observe(net.projected(at))[-1] for at in (net.start, moved, expected)]
    assert_allclose(trace[1] - trace[0], trace[2] - trace[0], rtol=0.2)
    assert trace[2] < trace[0]
    assert_allclose(linear, noise.kappa * trace[0], rtol=0.03)
    assert_allclose(loss, linear, rtol=0.01)


def test_digits_are_learned_before_the_study():
    net = networks.trained(8, 16, 200, "cpu")
    assert net.inputs.shape == (8, 64)
    again = networks.trained(8, 16, 200, "cpu")
    assert torch.equal(net.start, again.start)
    assert not torch.equal(net.start, networks.trained(8, 16, 0, "cpu").start)


def test_a_small_run_has_every_path(results):
    for what, count in (("theory", 2), ("sgd", 3), ("autograd", 1)):
        assert claims.changes(results.isel(label_noise=0), what).shape == (count, 3, 3)
    assert {row.kind for row in study.study.judge(results)} <= {
        *("prediction", "outside", "contrast", "observation")
    }
    assert all(isinstance(f, Figure) for _, f in drawing.figures(results).values())
    (table,) = claims.tables(results)
    assert all(len(row) == len(table.headings) for row in table.rows)
    expected = round(96 * (study.REFERENCE / 0.3) ** 2 / 8) * 4
    assert results.step.values[0, 0, 1] == expected


def made_up(*, factor=1.0, loss=1.0, nonlinear=1.0, autograd=0.4):
    """Two noises as theory has them, but for what is changed."""
    paths_, noises = [*study.PATHS], [0.1, 0.2]
    rng, course = np.random.default_rng(0), np.asarray([0, 0.5, 1.0])
    shape = (len(noises), len(paths_), 16, 3, 3)
    values = np.full(shape, np.nan)
    change = np.asarray([0.05, 0.1, -0.2])[:, None] * course
    for k, path in enumerate(paths_):
        size = {"sgd": factor, "theory": 1.0, "autograd": autograd}[path.split()[0]]
        rows = 16 if path.startswith("sgd") else 1
        noise = 0.0005 * rng.normal(size=(2, rows, 3, 3)) * course
        values[:, k, :rows] = 10 * (1 + size * change + noise)
    full = np.ones((2, len(paths_), 3)) + 0.001 * rng.normal(size=(2, len(paths_), 3))
    is_sgd = np.asarray([path.startswith("sgd") for path in paths_])[:, None]
    axes = ("label_noise", "path")
    variables = {
        "value": ((*axes, "network", "quantity", "watch"), values),
        "loss": ((*axes, "watch"), full * np.where(is_sgd, loss, 1.0)),
        "linear_loss": ((*axes, "watch"), full * nonlinear),
        "step": ((*axes, "watch"), np.broadcast_to(1000 * course, full.shape)),
        "amplification": (axes, np.full(full.shape[:2], 0.01)),
    }
    quantities = ["hidden layer 1", "hidden layer 2", "Tr H"]
    return xr.Dataset(variables, {"label_noise": noises, "path": paths_, "quantity": quantities})


def outcomes(**changes):
    rows = study.study.judge(made_up(**changes))
    assert len({row.name for row in rows}) == len(rows)
    return {row.name: row.outcome for row in rows if row.kind == "prediction"}


def test_networks_as_theory_has_them_pass():
    assert len(outcomes()) == 10
    assert set(outcomes().values()) == {"holds"}
    rows = study.study.judge(made_up())
    assert exit_status(rows) == 0
    rivals = [row.excluded for row in rows if row.kind == "prediction"]
    assert all(row["kappa x 0.5"] and row["kappa x 2"] for row in rivals)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"factor": 0.8}, "change"),
        ({"factor": 1.2}, "change"),
        ({"loss": 1.2}, "mean loss"),
        ({"loss": 0.8}, "mean loss"),
    ],
)
def test_what_theory_does_not_say_fails(changes, words):
    failed = {name for name, outcome in outcomes(**changes).items() if outcome == "fails"}
    assert failed
    assert all(words in name for name in failed)


def test_nothing_is_claimed_where_the_loss_is_far_from_quadratic():
    rows = study.study.judge(made_up(nonlinear=1.3, factor=0.5))
    assert exit_status(rows) == 0
    assert not [row for row in rows if row.kind == "prediction"]
