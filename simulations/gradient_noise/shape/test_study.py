"""Gradient noise under labels of every kind, against enumeration, and the study of it."""

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sgdnoise.lab import exit_status, read_result
from sgdnoise.noise import fisher_inner_product, fisher_scatter, fisher_trace
from simulations.gradient_noise.shape import claims, study

LABELS, EXAMPLES = 3, 3
GRADIENTS = np.random.default_rng(0).normal(size=(EXAMPLES, LABELS, 5))
LAWS = np.random.default_rng(1).dirichlet([0.7] * LABELS, EXAMPLES)


@pytest.fixture
def gram(xp):
    flat = GRADIENTS.reshape(-1, 5)
    return xp.asarray(flat @ flat.T)


def second_moment(weights):
    return np.einsum("iy,iya,iyb->ab", weights, GRADIENTS, GRADIENTS)


def test_inner_products_and_traces_are_those_of_the_matrices(gram, xp):
    pair = LAWS / EXAMPLES, np.random.default_rng(2).random(LAWS.shape)
    flat = [xp.asarray(weights.ravel()) for weights in pair]
    a, b = map(second_moment, pair)
    assert_allclose(float(fisher_inner_product(gram, *flat)), np.trace(a @ b), rtol=1e-12)
    assert_allclose(float(fisher_trace(gram, flat[1])), np.trace(b), rtol=1e-12)


def test_scatter_is_the_mean_over_all_ways_to_label(gram, xp):
    fisher = second_moment(LAWS / EXAMPLES)
    expected = 0.0
    for labels in product(range(LABELS), repeat=EXAMPLES):
        weights = np.eye(LABELS)[list(labels)] / EXAMPLES
        odds = np.prod(LAWS[np.arange(EXAMPLES), list(labels)])
        expected += odds * np.sum((second_moment(weights) - fisher) ** 2)
    assert_allclose(float(fisher_scatter(gram, xp.asarray(LAWS))), expected, rtol=1e-12)


@pytest.fixture(scope="module")
def results():
    return study.study.simulate("small", moments=[0, 5], examples=12, n_probes=4)


def test_labels_that_the_network_draws_give_its_fisher_information(results):
    verdicts = study.study.judge(results)
    assert exit_status(verdicts) == 0
    assert sum(v.kind == "prediction" for v in verdicts) == 3


def test_the_small_size_has_all_measures_and_can_be_stored(results, tmp_path):
    assert bool(np.isfinite(results.noise_eigenvalues).all())
    assert len(claims.tables(results)[0].rows) == 2
    results.to_netcdf(tmp_path / "again.nc", engine="h5netcdf")
    assert read_result(tmp_path / "again.nc").sizes["moment"] == 2


def test_gradients_by_label_are_those_of_each_label_alone():
    """The diagonal blocks of the Gram matrix against gradients taken one at a time."""
    module, inputs, _ = study.network("mlp", 0)
    gram = study.by_label(module, inputs[:2])
    rows = []
    for x, y in product(inputs[:2], range(study.CLASSES)):
        module.zero_grad()
        study.F.cross_entropy(module(x[None]), study.torch.asarray([y])).backward()
        rows.append(np.concatenate([p.grad.numpy().ravel() for p in module.parameters()]))
    expected = np.stack(rows).astype(float) @ np.stack(rows).T
    assert_allclose(gram, expected, atol=1e-5 * np.abs(expected).max())  # float32
