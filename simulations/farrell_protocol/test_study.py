"""The group's protocol: its task, its descent, what theory says of it, and its smallest run."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from witnesses import SURE

from sgdnoise.lab import exit_status
from simulations.farrell_protocol import _task as task
from simulations.farrell_protocol import claims, study
from simulations.farrell_protocol import figure as drawing
from simulations.farrell_protocol._theory import Theory


@pytest.fixture(scope="module")
def results():
    """Two rates, two batches, four epochs, in this process."""
    changes = {"epochs": {1: 4}, "watches": 2, "label_noise": [0.5]}
    return study.study.simulate("small", **changes)


def test_clusters_are_apart_and_of_two_classes():
    points = task.clusters(0)
    gaps = np.linalg.norm(points[:, None] - points, axis=2)[~np.eye(task.CLUSTERS, dtype=bool)]
    assert gaps.min() > task.SEPARATION
    assert abs(points).max() <= 2
    assert_allclose(task.targets().sum(0), task.TARGET * task.CLUSTERS / 2)
    assert not np.allclose(points, task.clusters(1))


def test_a_step_is_the_gradient_of_torch():
    """One look of twenty steps, whose examples are drawn again from the same generator."""
    rate, batch, noise = 1e-3, 3, 0.4
    *_, (w, saved, _) = study.stretches(1, rate, batch, noise, False, 1, 0, task.RECORDS)
    rng = np.random.Generator(np.random.SFC64([9, 1, batch]))
    theta = [
        torch.tensor(task.initial_weights(1)[name], dtype=torch.float32) for name in ("w", "v")
    ]
    for _ in range(task.RECORDS):
        drawn = rng.integers(task.CLUSTERS, size=batch)
        x = task.clusters(1)[drawn] + task.CLUSTER_STD * rng.standard_normal(
            (batch, task.INPUTS), "f"
        )
        y = task.targets()[drawn] + noise * rng.standard_normal((batch, task.OUTPUTS), "f")
        x, y = (torch.tensor(data, dtype=torch.float32) for data in (x, y))
        free = [data.requires_grad_() for data in theta]
        (0.5 * ((x @ free[0] @ free[1] - y) ** 2).sum(1).mean()).backward()
        theta = [(data - rate * data.grad).detach() for data in free]
    assert_allclose(w, theta[0], atol=1e-5)
    assert_allclose(saved[-1], theta[1], atol=1e-5)


def test_the_mean_loss_is_that_of_fresh_examples_at_each_observation():
    """A stretch with one step before it has one observation more, the first of all."""
    setting = (1, 1e-3, 3, 0.4, True, 1)
    sums = [(k + 20) * next(study.stretches(*setting, k, task.RECORDS))[2] for k in (0, 1)]
    w, saved, _ = next(study.stretches(*setting, 1, task.RECORDS))
    rng, points, n = np.random.default_rng(0), task.clusters(1), 20_000
    drawn = rng.integers(task.CLUSTERS, size=n)
    x = points[drawn] + task.CLUSTER_STD * rng.normal(size=(n, task.INPUTS))
    draws = 0.5 * ((x @ w @ saved[-1] - task.targets()[drawn]) ** 2).sum(1)
    assert abs(sums[1] - sums[0] - draws.mean()) < SURE * draws.std() / n**0.5


def test_what_is_left_is_that_of_the_best_network_on_the_clusters():
    """Off the clusters the weights are those of the start; the spread is everywhere alike."""
    rng, theory, first = np.random.default_rng(0), Theory(0, 1e-3, 1, 0.0), task.initial_weights(0)
    points, y = task.clusters(0), task.targets()
    along = np.linalg.qr(points.T)[0]
    inside = points @ along
    ridge = inside.T @ inside + task.CLUSTERS * task.CLUSTER_STD**2 * np.eye(task.CLUSTERS)
    best = along @ np.linalg.solve(ridge, inside.T @ y)
    start = first["w"] @ first["v"]
    product = best + start - along @ (along.T @ start)
    drawn = rng.integers(task.CLUSTERS, size=40_000)
    x = points[drawn] + task.CLUSTER_STD * rng.normal(size=(40_000, task.INPUTS))
    draws = ((y[drawn] - x @ product) ** 2).mean(1)
    error = draws.std() / len(draws) ** 0.5
    assert abs(theory.variance * (1 - theory.u) - draws.mean()) < 4 * error
    assert_allclose(theory.minimum, task.loss(points, product), rtol=1e-6)


def test_jitter_is_that_of_independent_walks_at_rest():
    """Of each mode: a <- (1 - rate h) a + rate sigma (h / B)^1/2 z."""
    theory, rng = Theory(0, 5e-3, 2, 0.5), np.random.default_rng(0)
    h = theory.values
    decay, kick = 1 - 5e-3 * h, 5e-3 * (theory.variance * h / 2) ** 0.5
    theta = rng.normal(size=(400, len(h))) * (kick**2 / (1 - decay**2)) ** 0.5
    records = []
    for k in range(60):
        theta = decay * theta + kick * rng.normal(size=theta.shape)
        if k % 6 == 5:
            records.append(theta)
    draws = np.var(records, axis=0, ddof=1).mean(1)
    error = draws.std() / len(draws) ** 0.5
    assert abs(theory.jitter(6, 10) - draws.mean()) < 4 * error


def test_dimension_starts_at_that_of_the_clusters_and_power_decays():
    theory = Theory(2, 1e-3, 1, 0.5)
    points = task.clusters(2)
    values = np.linalg.eigvalsh(
        np.cov(points.T, ddof=0) + task.CLUSTER_STD**2 * np.eye(task.INPUTS)
    )
    assert_allclose(theory.ratio(0), values.sum() ** 2 / (values**2).sum())
    slope = theory.power(1) - theory.power(0)
    discrete = 2 / (2 - 1e-3 * theory.values)
    strength = 1e-6 * 2 * theory.variance * (theory.values**2 * discrete).sum()
    assert_allclose(slope, -strength, rtol=1e-4)  # rate^2 o sigma^2 Tr Sx^2, and discrete steps


def test_a_frozen_readout_leaves_all_else_alone_and_large_rates_diverge(results):
    verdicts = claims.verdicts(results)
    assert exit_status(verdicts) == 0
    assert not any("frozen" in v.name for v in verdicts)
    for data in (results, study.study.read()[""]):
        power = data.orthogonal.sel(readout="frozen").isel(watch=-1).values
        assert np.isfinite(power).any()
        assert_allclose(power[np.isfinite(power)], 1, rtol=1e-3)
    (lost,) = (v for v in verdicts if "diverge" in v.name)
    assert (lost.predicted, lost.kind, lost.outcome) == (1.0, "prediction", "holds")


@pytest.mark.parametrize(
    ("u", "learnt", "inside"), [(0.11, 1, True), (0.13, 1, False), (0.1, 0, False)]
)
def test_theory_is_claimed_in_its_regime_alone(results, u, learnt, inside):
    data = results.sel(rate=[5e-4], readout=["trained"])
    changed = data.assign(amplification=data.amplification * 0 + u, learnt=data.learnt * 0 + learnt)
    verdicts = claims.verdicts(changed)
    assert len(verdicts) == 3 + bool(learnt)
    assert {v.kind == "prediction" for v in verdicts} == {inside}


@pytest.mark.parametrize(
    ("label_noise", "u", "learnt", "rows"),
    [(0.5, 0.1, 1, 1), (0.0, 0.1, 1, 0), (0.5, 0.51, 1, 0), (0.5, 0.1, 0, 0)],
)
def test_the_excess_is_stated_of_learnt_tasks_with_label_noise(
    results, label_noise, u, learnt, rows
):
    data = results.sel(rate=[5e-4], readout=["trained"]).assign_coords(label_noise=[label_noise])
    changed = data.assign(amplification=data.amplification * 0 + u, learnt=data.learnt * 0 + learnt)
    verdicts = [v for v in claims.verdicts(changed) if "excess" in v.name]
    assert len(verdicts) == rows
    sharp = claims.verdicts(changed.assign(sharpness=data.sharpness * 0 + 0.31))
    assert all(v.kind == "outside" for v in sharp if "excess" in v.name)


@pytest.mark.parametrize("name", ["orthogonal", "jitter", "ratio", "mean_loss"])
def test_what_is_otherwise_than_predicted_fails(results, name):
    data = results.sel(rate=[5e-4], readout=["trained"])
    data = data.assign(amplification=data.amplification * 0, learnt=data.learnt * 0 + 1)
    kappa = 5e-4 * 0.5**2 / 4
    as_said = data.assign(
        orthogonal=data.orthogonal_said, ratio=data.ratio_said,
        jitter=data.jitter_said.broadcast_like(data.orthogonal),
        mean_loss=data.loss_minimum + kappa * data.trace / (1 - 5e-4 * data.trace / 4),
    )  # fmt: skip
    rows = claims.verdicts(as_said)
    assert exit_status(rows) == 0
    assert_allclose([v.deviation for v in rows], 0, atol=1e-3)
    wrong = as_said.assign({name: as_said[name] ** (1.3 if name != "mean_loss" else 0.9)})
    assert exit_status(claims.verdicts(wrong)) == 1


def test_it_is_drawn_and_told(results):
    assert all(isinstance(drawn, Figure) for _, drawn in drawing.figures(results).values())
    (table,) = claims.tables(results)
    assert [len(row) for row in table.rows] == [6] * 4
