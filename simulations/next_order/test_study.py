"""The study of the next order: its network, its force, a small run, and wrong results."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from sgdnoise.lab import exit_status
from simulations.next_order import claims, study
from simulations.next_order import figure as drawing
from simulations.next_order._network import Flow, Net, descend, sgd

WIDTHS = (3, 4, 2)
SIZE = 3 * 4 + 4 * 2 + 4 + 2


@pytest.fixture
def net():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(6, k, generator=generator, dtype=torch.float64) for k in (3, 2))
    return Net(WIDTHS, x, y)


@pytest.fixture
def theta():
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(scope="module")
def results():
    """A few steps of one case, in this process."""
    return study.study.simulate("small", steps=32, learning=200, replicas=2)


def test_the_energy_is_half_the_curvature_of_the_loss_along_directions(net, theta):
    directions = torch.eye(SIZE, dtype=torch.float64)
    hessian = torch.func.hessian(net.loss)(theta)
    assert_allclose(net.energy(theta, directions), hessian.trace() / 2 / SIZE, rtol=1e-12)
    some = torch.randn(1, SIZE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert_allclose(net.energy(theta, some), (some @ hessian @ some.T)[0, 0] / 2, rtol=1e-12)


def test_the_trace_is_that_of_gauss_and_newton(net, theta):
    jacobian = torch.func.jacrev(net.outputs)(theta, net.x).flatten(0, 1)
    assert_allclose(net.trace(theta), (jacobian.T @ jacobian).trace() / 6, rtol=1e-12)


def test_a_step_of_sgd_has_the_mean_of_descent_and_the_noise_of_labels(net, theta):
    """Of many chains: the mean gradient, and without examples' noise the covariance of labels."""
    alone = Net(WIDTHS, net.x[:1], net.y[:1])  # one example: label noise only
    chains, rate, sigma = 20_000, 0.1, 0.5
    generator = torch.Generator().manual_seed(3)
    options = {"batch": 2, "label_noise": sigma, "generator": generator}
    ends, _ = sgd(alone, theta.repeat(chains, 1), rate, 1, **options)
    steps = (theta - ends) / rate
    gradient = torch.func.grad(alone.loss)(theta)
    jacobian = alone.jacobian(theta).flatten(0, 1)
    covariance = sigma**2 / 2 * jacobian.T @ jacobian
    error = (covariance.diagonal() / chains) ** 0.5
    assert torch.all(abs(steps.mean(0) - gradient) < 5 * error + 1e-12)
    assert_allclose(steps.var(0).sum(), covariance.trace(), rtol=0.05)


def test_the_flow_of_first_order_descends_kappa_tr_h_on_average(net, theta):
    """From a network without residuals; p > n o, so that S is kappa times a projector."""
    small = Net(WIDTHS, net.x[:3], net.outputs(theta, net.x[:3]))
    rate, batch, sigma = 0.05, 4, 0.8
    options = {"rate": rate, "batch": batch, "label_noise": sigma}
    flow = Flow(small, 1, generator=torch.Generator().manual_seed(0), **options)
    rows = flow.covariance(theta, 1e9)
    # all rows at once: the mean over random signs
    force = len(rows) * torch.func.grad(small.energy)(theta, rows)
    kappa = rate * sigma**2 / (4 * batch)
    jacobian = small.jacobian(theta).flatten(0, 1)
    across = torch.linalg.pinv(jacobian) @ jacobian
    along = torch.eye(SIZE, dtype=torch.float64) - across  # the manifold of minima
    expected = kappa * torch.func.grad(small.trace)(theta)
    assert_allclose(along @ force, along @ expected, rtol=1e-6, atol=1e-9)


def test_descent_of_several_rows_is_that_of_each(net, theta):
    rows = torch.stack([theta, theta / 2])
    together = descend(net.loss, rows, 0.1, 5)
    apart = torch.stack([descend(net.loss, row, 0.1, 5) for row in rows])
    assert_allclose(together, apart, rtol=1e-12)


def test_a_small_run_is_judged_and_drawn(results):
    rows = claims.verdicts(results)
    assert {row.kind for row in rows} <= {"prediction", "observation", "outside"}
    assert all(isinstance(f, Figure) for _, f in drawing.figures(results).values())
    assert not any(len(row) != len(t.headings) for t in claims.tables(results) for row in t.rows)


def made_up(results, speed, *, excess=1.0, rates=(0.1, 0.1), slow=(0.01, 0.01), noise=0.001):
    """Paths that relax exponentially; SGD `speed` times as fast as the flow of the next order.

    excess: the excess loss of SGD over that of the flow of the next order.  slow: haste and jitter.
    """
    watch = np.arange(9.0)
    paths = {"sgd": speed, "first order": 0.85, "next order": 1.0}
    rng = np.random.default_rng(0)
    values = np.stack([np.exp(-0.2 * factor * watch) for factor in paths.values()])
    shape = (1, results.sizes["network"], 3, results.sizes["replica"], 9)
    values = np.broadcast_to(values[None, None, :, None], shape).copy()
    values[:, :, 0, :, 1:] += noise * rng.normal(size=values[:, :, 0, :, 1:].shape)
    dims = ("case", "network", "how", "replica", "watch")
    data = {name: (dims, 5 + 3 * values) for name in ("ratio", "trace", "loss")}
    data["step"] = (("case", "network", "watch"), np.broadcast_to(1000 * watch, (*shape[:2], 9)))
    names = "amplification", "sharpness", "haste", "jitter", "kappa"
    for name, value in zip(names, (*rates, *slow, 0.001), strict=True):
        data[name] = (("case", "network"), np.full(shape[:2], value))
    data["flow_loss"] = (("case", "network", "flow", "watch"), np.full((*shape[:2], 2, 9), 0.02))
    trace = 0.001 * data["trace"][1][:, :, 1:, 0] * np.asarray([[1.0], [1.1]])
    data["excess"] = (("case", "network", "flow", "watch"), trace)
    ends = 0.001 * 1.1 * excess * data["trace"][1][:, :, 0]
    ends[..., 1:] = (ends[..., 1:] + ends[..., :-1]) / 2  # the mean of each interval
    data["mean_loss"] = (("case", "network", "replica", "watch"), 0.02 + ends)
    coordinates = {"case": ["three"], "how": list(paths), "network": results.network.values}
    coordinates["flow"] = list(paths)[1:]
    return type(results)(data, coordinates)


@pytest.mark.parametrize(("speed", "status"), [(1.0, 0), (1.2, 1), (0.8, 1)])
def test_another_speed_than_predicted_fails(results, speed, status):
    assert exit_status(claims.verdicts(made_up(results, speed))) == status


@pytest.mark.parametrize(
    ("excess", "outcome"), [(1.0, "holds"), (0.5, "fails"), (1.25, "fails"), (0.8, "fails")]
)
def test_another_excess_loss_than_predicted_fails(results, excess, outcome):
    rows = claims.verdicts(made_up(results, 1.0, excess=excess))
    [row] = [row for row in rows if "excess" in row.name]
    assert (row.kind, row.outcome) == ("prediction", outcome)
    assert row.predicted == pytest.approx(1.1, rel=1e-3)
    assert row.measured.value == pytest.approx(1.1 * excess, rel=5e-3)
    assert row.excluded[claims.BASE]


@pytest.mark.parametrize(
    "small", [{"rates": (0.1, 0.3)}, {"slow": (0.11, 0.01)}, {"slow": (0.01, 0.051)}]
)
def test_nothing_is_claimed_beyond_a_limit(results, small):
    rows = claims.verdicts(made_up(results, 1.0, **small))
    assert not any(row.kind == "prediction" for row in rows)


def test_all_is_claimed_just_within_the_limits(results):
    rows = claims.verdicts(made_up(results, 1.0, rates=(0.1, 0.19), slow=(0.099, 0.049)))
    assert any(row.kind == "prediction" for row in rows)


def test_the_mean_loss_is_that_of_the_weights_before_each_step(net, theta):
    """One example, without label noise: the mean of the losses along descent."""
    alone = Net(WIDTHS, net.x[:1], net.y[:1])
    options = {"batch": 1, "label_noise": 0.0, "generator": torch.Generator().manual_seed(0)}
    _, mean_loss = sgd(alone, theta[None], 0.01, 3, **options)
    path = [theta, *(descend(alone.loss, theta, 0.01, k) for k in (1, 2))]
    assert_allclose(mean_loss[0], np.mean([float(alone.loss(t)) for t in path]), rtol=1e-9)


def test_the_excess_is_half_the_trace_of_hessian_and_covariance(net, theta):
    options = {"rate": 0.01, "batch": 4, "label_noise": 0.3}
    flow = Flow(net, 2, generator=torch.Generator().manual_seed(0), **options)
    rows = flow.covariance(theta, 30.0)
    hessian = torch.func.hessian(net.loss)(theta)
    expected = (hessian * (rows.T @ rows)).sum() / 2
    assert_allclose(flow.excess(theta, 30.0), expected, rtol=1e-10)


def test_unknown_cases_are_refused():
    with pytest.raises(ValueError, match="there is no case 'nothing'"):
        study.study.simulate("small", case=["nothing"])
