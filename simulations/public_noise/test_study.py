"""The study of gradient noise: its functions against direct computations, and wrong results."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from sgdnoise.core import GradientMatrix
from sgdnoise.lab import Incomplete, exit_status
from sgdnoise.noise import gradient_noise_scale
from simulations._vision import stand_in
from simulations.public_noise import _kurtosis as kurtosis
from simulations.public_noise import claims, study
from simulations.public_noise import figure as drawing
from simulations.public_noise._fisher import Fisher, calibrated_temperature
from simulations.public_noise._network import Place, layers_of, stages_of
from simulations.public_noise._steps import Curvature, gains, simple_scale

TINY = {"photographs": 32, "deeper": 32, "labelled": 6, "leading": 8, "steps": 4, "draws": 400}


@pytest.fixture(scope="module")
def place():
    return Place(*stand_in(12, 8))


@pytest.fixture(scope="module")
def results():
    """A small run of a stand-in network, in this process."""
    return study.study.simulate("small", projections=128, **TINY)


def direction(place, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(place.theta), generator=generator)


def test_gradients_are_those_of_the_problem(place):
    rows = place.gradients()
    assert_allclose(rows.mean(0), place.problem.gradient(place.theta), rtol=1e-4, atol=1e-6)
    by_label = place.gradients_by_label(3)
    chosen = by_label[torch.arange(3), place.labels[:3]]
    assert_allclose(chosen, rows[:3], rtol=1e-4, atol=1e-5)
    laws = place.logits()[:3].softmax(1)
    mean = torch.einsum("iy,iyp->p", laws, by_label)
    assert float(abs(mean).max()) < 1e-4 * float(abs(by_label).max())


def test_curvature_products_are_those_of_the_problem(place):
    vectors = torch.stack([direction(place, seed) for seed in (0, 1)], 1)
    expected = place.problem.hvp(place.theta, vectors[:, 0])
    assert_allclose(place.hessian_products(vectors)[:, 0], expected, rtol=1e-2, atol=1e-3)


def test_gauss_newton_is_the_fisher_information(place):
    laws = place.logits()[:4].double().softmax(1).numpy()
    fisher = Fisher(place.gradients_by_label(4), laws)
    directions, values = fisher.leading()
    assert_allclose(np.diag(place.gauss_newton(directions, 4)), values, rtol=1e-3)


def test_layers_and_stages_hold_every_weight_once(place):
    for places in (layers_of(place.net), stages_of(place.net)):
        ends = [(at.start, at.stop) for at in places.values()]
        assert ends[0][0] == 0
        assert ends[-1][1] == len(place.theta)
        assert all(a[1] == b[0] for a, b in pairwise(ends))
    assert tuple(stages_of(place.net)) == study.STAGES
    readout = place.weights["linear.weight"].numel() + place.weights["linear.bias"].numel()
    assert layers_of(place.net)["readout"].stop - layers_of(place.net)["readout"].start == readout


def small_fisher():
    rng = np.random.default_rng(0)
    laws = rng.dirichlet(np.ones(3), size=2)
    return Fisher(torch.as_tensor(rng.normal(size=(2, 3, 5))), laws), laws


def test_moments_of_drawn_labels_are_those_over_all_labels():
    fisher, laws = small_fisher()
    rows = fisher.rows.reshape(2, 3, 5).numpy()
    matrices = [
        (laws[0, a] * laws[1, b], (np.outer(g, g) + np.outer(h, h)) / 2)
        for a, b in product(range(3), repeat=2)
        for g, h in [(rows[0, a], rows[1, b])]
    ]
    mean = sum(weight * matrix for weight, matrix in matrices)
    assert_allclose(fisher.trace, np.trace(mean))
    assert_allclose(fisher.square, np.sum(mean**2))
    directions, values = fisher.leading()
    assert_allclose(directions.T.numpy() @ mean @ directions.numpy(), np.diag(values), atol=1e-9)
    drawn = fisher.drawn(directions, {"whole": slice(0, 5)}, 40_000, np.random.default_rng(1))
    for name in ("trace", "product", "distance", "whole"):
        value, error = drawn[name]
        assert abs(value - 1) < 5 * error < 0.1
    assert abs(drawn["along"][0] - values.sum()) < 5 * drawn["along"][1]


def test_moments_of_given_labels():
    fisher, _ = small_fisher()
    rows = fisher.rows.reshape(2, 3, 5).numpy()
    chosen = np.stack([rows[0, 2], rows[1, 1]])
    matrix = chosen.T @ chosen / 2
    given = fisher.given(np.asarray([2, 1]))
    assert_allclose(given["trace"][0], np.trace(matrix) / fisher.trace)
    weighted = fisher.rows.numpy() * fisher.weights[:, None] ** 0.5
    inner = np.sum(matrix * (weighted.T @ weighted))
    assert_allclose(given["product"][0], inner / fisher.square)
    cosine = inner / (np.linalg.norm(matrix) * fisher.square**0.5)
    assert_allclose(given["cosine"][0], cosine)
    assert_allclose(fisher.under(np.eye(3)[[2, 1]]), given["trace"][0])


def test_the_temperature_of_calibrated_logits_is_one():
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(20_000, 4))
    laws = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (rng.random((20_000, 1)) > laws.cumsum(1)).sum(1).clip(max=3)
    fitted = calibrated_temperature(torch.as_tensor(3 * logits), torch.as_tensor(labels))
    assert_allclose(fitted, 3, rtol=0.05)


def test_kurtosis_by_norms_is_that_over_many_directions():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(20, 60)) * rng.exponential(size=(20, 1))
    z = torch.as_tensor(z - z.mean(0)).float()
    values = kurtosis.projected(z, 20_000, 3)
    pooled, error = kurtosis.pooled(values)
    assert abs(pooled - kurtosis.by_norms((z @ z.T).numpy())) < 4 * error < 0.4


def test_kurtosis_of_batches_is_that_of_the_mean_of_gradients(place):
    """A batch of the network, by one backward pass, is the mean that is drawn."""
    rows, v = place.gradients(), direction(place)
    index = [0, 3, 7, 8]
    batch = place.problem.subset(index).gradient(place.theta)
    assert_allclose(rows[index].mean(0) @ v, batch @ v, rtol=1e-4)
    weights = kurtosis.batch_weights(12, 4, 50, np.random.default_rng(0))
    assert_allclose(np.sort(weights, 1)[:, -4:], 0.25)
    assert_allclose(weights.sum(1), 1)


def test_scales_are_those_of_the_package(place):
    rows = place.gradients()
    curvature = Curvature(place, rows, 11, 2, np.random.default_rng(0))

    def product(vector):
        return place.hessian_products(vector[:, None])[:, 0]

    expected = gradient_noise_scale(GradientMatrix(rows), curvature=product, population=True)
    assert_allclose(curvature.scale(curvature.hessian)[0], expected.value, rtol=1e-3)
    few = Curvature(place, rows, 5, 40, np.random.default_rng(0))
    value, error = few.scale(few.hessian)
    assert abs(value - expected.value) < 4 * error + 1e-3 * expected.value
    assert_allclose(simple_scale(rows), curvature.eigenvalues.sum() / curvature.square, 1e-4)


class Quadratic:
    """A place whose loss is a quadratic, for which theory of one step is exact."""

    def __init__(self, n=40, p=30):
        rng = np.random.default_rng(0)
        self.rows = torch.as_tensor(rng.normal(size=(n, p)) + 0.3)
        self.values, self.theta = torch.linspace(0.1, 2, p).double(), torch.zeros(p).double()

    def hessian_products(self, vectors):
        return self.values[:, None] * vectors

    def gauss_newton(self, vectors):
        return vectors.T @ self.hessian_products(vectors)

    def loss(self, theta):
        return float(self.rows.mean(0) @ theta + (self.values * theta**2).sum() / 2)


def test_steps_on_a_quadratic_have_the_predicted_critical_batch():
    place, rng = Quadratic(), np.random.default_rng(1)
    curvature = Curvature(place, place.rows, 20, 400, rng)
    step = gains(place, place.rows, curvature, [4, 16], [0.5, 1.0], 300, rng)
    dims = ("batch", "share")
    data = xr.Dataset(
        {"gain": (dims, step["gain"]), "gain_stderr": (dims, step["gain_stderr"])}
        | {"exact": ("share", step["exact"]), "examples": 40, "square": curvature.square}
        | {"curvature_along": curvature.along_gradient(curvature.hessian)},
        {"batch": [4, 16], "share": [0.5, 1.0]},
    )
    expected, error = curvature.scale(curvature.hessian)
    for share in (0.5, 1.0):
        assert_allclose(step["exact"][int(share)], claims.quadratic_gain(data, share), rtol=1e-6)
        measured = claims.combined(data, share)
        assert abs(measured.value - expected) < 4 * np.hypot(measured.stderr, error)
        assert measured.stderr < 0.1 * expected


def test_a_small_run_is_judged_and_drawn(results):
    rows = claims.verdicts(results)
    assert {row.kind for row in rows} <= {"prediction", "outside", "contrast", "observation"}
    assert exit_status(rows) == 0
    assert all(isinstance(f, Figure) for _, f in drawing.figures(results).values())
    assert not any(len(row) != len(t.headings) for t in claims.tables(results) for row in t.rows)


def made_up(results, *, labels=1.0, critical=1.0, moment=1.0):
    """Results as theory has them, but for factors of what is measured."""
    data = results.copy(deep=True)
    fraction = (data.examples - data.batch) / (data.examples - 1) / data.batch
    for share in data.share.values:
        data.exact.loc[{"share": share}] = claims.quadratic_gain(data.isel(depth=0), share)
    data["gain"] = data.exact / (1 + critical * data.hessian_scale * fraction)
    data["gain"] = data.gain.where(np.isfinite(results.gain))
    data["gain_stderr"] = 1e-3 * data.gain
    data["hessian_scale_stderr"] = 1e-3 * data.hessian_scale
    for name in ("trace", "product", "distance", "along", "stage"):
        data[f"drawn_{name}"] = 0 * data[f"drawn_{name}"] + labels
        data[f"drawn_{name}_stderr"] = 0 * data[f"drawn_{name}"] + 1e-3
    for name in ("kurtosis", "stage_kurtosis"):
        data[f"{name}_measured"] = moment * data[f"{name}_predicted"]
        data[f"{name}_measured_stderr"] = 1e-3 * abs(data[f"{name}_predicted"])
    data["kurtosis_pooled"] = moment * data.kurtosis_norms
    data["kurtosis_pooled_stderr"] = 1e-3 * data.kurtosis_norms
    return data


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"labels": 1.1}, "drawn labels"),
        ({"critical": 1.3}, "critical batch"),
        ({"critical": 0.7}, "critical batch"),
        ({"moment": 1.2}, "kurtosis"),
        ({"moment": 0.8}, "kurtosis"),
    ],
)
def test_what_theory_does_not_say_fails(results, changes, words):
    rows = study.study.judge(made_up(results, **changes))
    failed = [row.name for row in rows if row.outcome == "fails"]
    assert bool(failed) == bool(changes)
    assert all(words in name for name in failed)


def test_a_folder_without_data_is_refused():
    with pytest.raises(ValueError, match="there is no folder nowhere"):
        study.study.simulate("small", data="nowhere")


def test_a_folder_without_the_photographs_is_one_sentence(tmp_path):
    with pytest.raises(Incomplete, match=r"no .* in the folder"):
        study.study.simulate("full", depth=[20], data=str(tmp_path))


def test_more_labels_than_photographs_are_refused():
    with pytest.raises(ValueError, match="labelled 64, deeper 40"):
        study.study.simulate("full", deeper=40)
