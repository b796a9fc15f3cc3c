"""Smoothed relus: values, two derivatives, the network as it was, and networks without relus."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from sgdnoise.nets import as_problem, smooth_relus
from sgdnoise.nets._smooth import SmoothedReLU
from sgdnoise.nets.models import mlp, resnet
from sgdnoise.theory import smoothed_relu


def test_it_is_the_mean_over_gaussian_jitter():
    a = torch.linspace(-3, 3, 41, dtype=torch.float64)
    smooth = SmoothedReLU(torch.tensor(0.7, dtype=torch.float64))
    white = np.random.default_rng(0).normal(size=(200_000, 1))
    sampled = np.maximum(a.numpy() + 0.7 * white, 0).mean(0)
    assert_allclose(smooth(a), sampled, atol=0.01)
    assert_allclose(smooth(a), smoothed_relu(a.numpy(), 0.7), rtol=1e-9)


def test_two_derivatives_are_exact():
    a = torch.randn(20, dtype=torch.float64, requires_grad=True)
    smooth = SmoothedReLU(torch.tensor(0.5, dtype=torch.float64))
    assert torch.autograd.gradcheck(smooth, a)
    assert torch.autograd.gradgradcheck(smooth, a)


def test_widths_are_shares_of_each_layer_and_the_network_is_unchanged():
    net, x = mlp([5, 30, 20, 2], "relu", seed=0), torch.randn(50, 5)
    before = net(x)
    smooth = smooth_relus(net, x, share=0.2)
    assert torch.equal(net(x), before)
    assert not torch.allclose(smooth(x), before)
    assert_allclose(smooth[2].width, 0.2 * net[:2](x).detach().std(), rtol=1e-6)
    assert_allclose(smooth[4].width, 0.2 * net[:4](x).detach().std(), rtol=1e-6)
    assert {*smooth.state_dict()} > {*net.state_dict()}


def test_a_residual_network_is_smoothed_in_every_relu():
    net = resnet(8, seed=0).eval()
    smooth = smooth_relus(net, torch.randn(4, 3, 8, 8))
    kinds = [type(module) for module in smooth.modules()]
    assert kinds.count(SmoothedReLU) == 7
    assert nn.ReLU not in kinds


def test_a_smoothed_network_is_a_problem_with_second_derivatives():
    x, y = torch.randn(10, 3), torch.randn(10, 2)
    net = smooth_relus(mlp([3, 6, 2], "relu", seed=0), x)
    problem, theta = as_problem(net, lambda out, y: ((out - y) ** 2).sum(1), x, y)
    vector = torch.randn(len(theta))
    product = torch.func.jvp(problem.gradient, (theta,), (vector,))[1]
    step = 1e-3 * vector
    change = (problem.gradient(theta + step) - problem.gradient(theta - step)) / 2e-3
    assert_allclose(product, change, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (mlp([3, 4, 2], "tanh", seed=0), "no modules nn.ReLU"),
        (nn.Sequential(nn.Linear(3, 3), *[nn.ReLU()] * 2), "used 2 times"),
        (nn.Sequential(nn.Linear(3, 3), nn.Threshold(1e9, 0.0), nn.ReLU()), "do not vary"),
    ],
)
def test_networks_that_cannot_be_smoothed_are_refused(net, message):
    with pytest.raises(ValueError, match=message):
        smooth_relus(net, torch.randn(6, 3))


def test_a_share_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="share"):
        smooth_relus(mlp([3, 4, 2], "relu", seed=0), torch.randn(6, 3), share=0.0)
