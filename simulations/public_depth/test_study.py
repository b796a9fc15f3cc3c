"""The study of depth: its measures against direct computations, and results that are wrong."""

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose

from sgdnoise.dimension import participation_ratio, twonn
from sgdnoise.lab import Incomplete, exit_status
from sgdnoise.nets.models import resnet
from simulations.public_depth import _layers as layers
from simulations.public_depth import claims, study


@pytest.fixture
def net():
    return resnet(8, seed=0).eval()


@pytest.fixture(scope="module")
def results():
    """A small run of one untrained network, in this process."""
    return study.study.simulate("small", depth=[8], photographs=40, pixels=8, draws=3)


def images(n):
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_outputs_are_those_of_the_forward_pass(net, monkeypatch):
    monkeypatch.setattr(layers, "CHUNK", 4)
    x = images(10)
    rows = layers.outputs(net, x)
    assert [tuple(row.shape[1:]) for row in rows] == [
        *((3, 8, 8), (16, 8, 8), (16, 8, 8), (32, 4, 4), (64, 2, 2), (10,))
    ]
    with torch.no_grad():
        torch.testing.assert_close(rows[-1], net(x))
        stem = net.relu(net.bn1(net.conv1(x)))
        torch.testing.assert_close(rows[2], net.layer1(stem))
    assert not net.relu._forward_hooks


def test_layers_have_their_depth_in_weights(net):
    assert layers.names_of(net) == ["relu", "layer1.0", "layer2.0", "layer3.0", "linear"]
    assert_allclose(layers.relative_depths(3), np.asarray([0, 1, 3, 5, 7, 8]) / 8)
    at = layers.places(12)
    assert at == dict(zip(layers.PLACES, (0, 1, 3, 5, 8, 10, 11), strict=True))


@pytest.mark.parametrize("shape", [(30, 5), (30, 3, 4, 4)])
def test_twonn_and_ratio_are_those_of_the_points(shape):
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    flat = rows.flatten(1).double()
    assert_allclose(layers.twonn_of(layers.gram(rows)), twonn(flat), rtol=1e-4)
    expected = participation_ratio(flat, method="unbiased")
    assert_allclose(layers.unbiased_ratio(rows), expected, rtol=1e-4)
    variances = layers.variances_of(layers.gram(rows))
    assert_allclose(variances.sum(), flat.var(0).sum(), rtol=1e-4)


def test_pooled_rows_are_means_over_positions():
    rows = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert layers.pooled(rows).tolist() == [[5.5, 17.5]]
    assert layers.pooled(rows[:, :, 0, 0]).tolist() == [[0.0, 12.0]]


def test_classes_of_equal_distance_have_one_dimension_less_than_classes():
    features = np.repeat(np.eye(4), 5, axis=0)
    labels = np.repeat([7, 1, 3, 2], 5)
    assert_allclose(layers.classes(features, labels), (0.0, 3.0), atol=1e-12)
    inside = np.tile([1.0, -1.0, 2.0, -2.0, 0.0], 4)[:, None] * np.eye(5)[4]
    wider = np.hstack([features, np.zeros((20, 1))]) + inside
    assert_allclose(layers.classes(wider, labels), (2 / 2.75, 3.0), rtol=1e-12)


def test_a_small_run_has_every_measure(results):
    at = results.sel(depth=8, sample="test 0")
    count = claims.layers_of(results.sel(depth=8))
    assert count == 6
    for name in ("pr", "pr_pooled", "twonn", "twonn_pooled"):
        assert np.isfinite(at[name].values[:count]).all()
        assert np.isnan(at[name].values[count:]).all()
    drawn = sorted(set(layers.places(count).values()))
    assert np.isfinite(at.theory.values[drawn]).all()
    rows = claims.verdicts(results)
    assert {row.kind for row in rows} <= {"prediction", "outside", "contrast", "observation"}


def made_up(*, surrogate=1.0, peak=4, within=0.05, pooled=9.0):
    """A network of ten layers as theory has it, but for what is changed."""
    count, names = 11, ["test 0", "test 1", "training 0", "training 1"]
    shape = (1, len(names), count)
    depths = np.broadcast_to(layers.relative_depths(count - 3), shape).copy()
    noise = 1 + 0.001 * np.random.default_rng(0).normal(size=shape)
    values = np.full(shape, 20.0)
    values[..., peak] = 60
    whole = {"pr": values * noise, "twonn": values * noise, "relative_depth": depths}
    whole |= {"pr_pooled": np.full(shape, pooled) * noise, "twonn_pooled": values}
    whole |= {"theory": np.full(shape, 30.0), "theory_stderr": np.full(shape, 0.05)}
    whole |= {"surrogate": np.full(shape, 30 * surrogate)}
    whole |= {"surrogate_stderr": np.full(shape, 0.05)}
    single = {"accuracy": 0.8, "within": within, "pr_means": 9.0}
    single = {name: value * noise[..., 0] for name, value in single.items()}
    variables = {name: (("depth", "sample", "layer"), value) for name, value in whole.items()}
    variables |= {name: (("depth", "sample"), value) for name, value in single.items()}
    variables["trained"] = (("depth", "sample"), np.full(shape[:2], True))
    return xr.Dataset(variables, {"depth": [20], "sample": names})


def outcomes(**changes):
    rows = study.study.judge(made_up(**changes))
    return {row.name: row.outcome for row in rows if row.kind == "prediction"}


def test_a_network_as_theory_has_it_passes():
    assert set(outcomes().values()) == {"holds"}
    assert exit_status(study.study.judge(made_up())) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"surrogate": 1.1}, "TwoNN of Gaussian points"),
        ({"surrogate": 0.9}, "TwoNN of Gaussian points"),
        ({"peak": 9}, "relative depth of the largest TwoNN"),
        ({"peak": 1}, "relative depth of the largest TwoNN"),
        ({"pooled": 12.0}, "pooled PR of the last block"),
        ({"pooled": 5.0}, "pooled PR of the last block"),
    ],
)
def test_what_theory_does_not_say_fails(changes, words):
    failed = {name for name, outcome in outcomes(**changes).items() if outcome == "fails"}
    assert failed
    assert all(words in name for name in failed)


def test_collapse_is_not_claimed_where_classes_are_wide():
    rows = study.study.judge(made_up(within=0.45, pooled=5.0))
    assert exit_status(rows) == 0
    assert sum(row.kind == "outside" for row in rows) == 2


def test_more_photographs_than_there_are_is_one_sentence():
    with pytest.raises(ValueError, match="2500 each at most, not 3000"):
        study.study.simulate("full", photographs=3000)


def test_a_folder_without_the_photographs_is_one_sentence(tmp_path):
    with pytest.raises(Incomplete, match=r"no test_batch\.bin in the folder .* binary version"):
        study.study.simulate("full", depth=[20], sample=["test 0"], data=str(tmp_path))
