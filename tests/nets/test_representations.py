"""The dimension of every layer in one call against what is computed by hand."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sgdnoise.core import with_group_error
from sgdnoise.dimension import participation_ratio, twonn
from sgdnoise.nets import models, representation_dimensions


@pytest.fixture
def given():
    torch.manual_seed(0)
    return models.mlp([6, 20, 3], seed=0), torch.randn(300, 6)


def test_each_layer_has_the_estimates_of_its_outputs(given):
    net, x = given
    result = representation_dimensions(net, x)
    hidden = net[:2](x).detach().numpy()
    assert result.layer.values.tolist() == ["input", "1", "3"]
    for name, estimator in (("participation_ratio", participation_ratio), ("twonn", twonn)):
        expected = with_group_error(estimator, hidden)
        here = result.sel(layer="1")
        np.testing.assert_allclose(here[name], expected.value, rtol=1e-5)
        np.testing.assert_allclose(here[f"{name}_stderr"], expected.stderr, rtol=1e-3)
    assert result.units.values.tolist() == [6, 20, 3]
    assert result.attrs == {"examples": 300, "pooled": ""}
    of_normal_points = result.sel(layer="input")
    assert abs(of_normal_points.twonn / of_normal_points.surrogate_twonn - 1) < 0.2


def test_batches_are_gone_through_until_there_are_enough(given):
    net, x = given
    loader = DataLoader(TensorDataset(x, torch.zeros(300)), batch_size=64)
    options = {"points": 200, "estimators": {"pr": participation_ratio}, "surrogate": False}
    whole = representation_dimensions(net, x[:200], **options)
    for inputs in (loader, x, [{"input": batch} for batch in x.split(50)], list(x.split(70))):
        result = representation_dimensions(net, inputs, **options)
        assert result.examples == 200
        np.testing.assert_allclose(result.pr, whole.pr, rtol=1e-5)


def test_the_network_stays_as_it_was(given):
    _, x = given
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2))
    before, state = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    representation_dimensions(net, x, surrogate=False, estimators={"pr": participation_ratio})
    assert net.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_convolutions_are_pooled_and_it_is_told():
    net = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 2))
    x = torch.randn(40, 1, 6, 6)
    result = representation_dimensions(net, x)
    assert result.attrs["pooled"] == "0"
    assert result.units.values.tolist() == [36, 5, 2]
    whole = representation_dimensions(net, x, pooled=False, layers=["0"])
    assert whole.units.values.tolist() == [36, 80]


def test_positions_of_any_convolution_are_averaged():
    net = nn.Sequential(nn.ConvTranspose1d(3, 7, 3), nn.BatchNorm1d(7), nn.Conv1d(7, 4, 2))
    x = torch.randn(60, 3, 10)
    result = representation_dimensions(net, x, layers=["0", "1", "2"], pooled=True)
    assert result.units.values.tolist() == [30, 7, 7, 4]
    rows = net[0](x).mean(2).detach().numpy()
    expected = participation_ratio(rows)
    np.testing.assert_allclose(result.participation_ratio.sel(layer="0"), expected, rtol=1e-4)


def test_what_cannot_be_measured_is_a_sentence(given):
    net, x = given
    with pytest.raises(ValueError, match="no layer is called 'head'"):
        representation_dimensions(net, x, layers=["head"])
    with pytest.raises(ValueError, match="12 examples or more, not 5"):
        representation_dimensions(net, x[:5])
    with pytest.raises(ValueError, match="12 examples or more, not 0"):
        representation_dimensions(net, [])
    with pytest.raises(ValueError, match="iterable of batches, not int"):
        representation_dimensions(net, 3)
    with pytest.raises(ValueError, match="must be tensors, not ndarray"):
        representation_dimensions(net, [np.zeros((20, 6))])
