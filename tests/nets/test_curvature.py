"""Products with the Hessian and the Gauss-Newton matrix against dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn
from torch.func import functional_call, hessian, jacrev

from sgdnoise import nets, noise
from sgdnoise.core import Problem

LOSSES = nn.CrossEntropyLoss(reduction="none")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()


@pytest.fixture
def given():
    net = network()
    return net, torch.randn(40, 5).double(), torch.randint(3, (40,))


def named(net, theta):
    sizes = [p.numel() for p in net.parameters()]
    pieces = zip(net.named_parameters(), theta.split(sizes), strict=True)
    return {name: piece.view(p.shape) for (name, p), piece in pieces}


def flat(net):
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])


def dense(net, x, y, kind):
    """The matrix (p, p), from torch.func."""
    theta = flat(net)

    def outputs(theta):
        return functional_call(net, named(net, theta), (x,))

    if kind == "hessian":
        return hessian(lambda t: LOSSES(outputs(t), y).mean())(theta)
    jacobian, share = jacrev(outputs)(theta), outputs(theta).softmax(1).detach()
    of_outputs = torch.diag_embed(share) - share[:, :, None] * share[:, None]
    return torch.einsum("nkp,nkl,nlq->pq", jacobian, of_outputs, jacobian) / len(x)


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
@pytest.mark.parametrize("block", [None, 7])
def test_a_product_is_that_of_the_dense_matrix(given, kind, block):
    net, x, y = given
    matrix = dense(net, x, y, kind)
    rows = nets.per_example_gradients(net, LOSSES, x, y, block=block)
    vector = torch.randn(rows.p).double()
    assert_allclose(rows.curvature(kind)(vector), matrix @ vector, rtol=1e-10)
    layer = rows.layer("2")
    part = slice(rows.p - layer.p, None)
    assert_allclose(layer.curvature(kind)(vector[part]), matrix[part, part] @ vector[part])


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_the_noise_scale_of_a_name_is_that_of_the_matrix(given, kind):
    net, x, y = given
    c = nets.gradient_covariance(net, LOSSES, x, y)
    scale = noise.gradient_noise_scale(c, curvature=kind)
    expected = noise.gradient_noise_scale(c, curvature=dense(net, x, y, kind))
    assert_allclose([scale.value, scale.stderr], [expected.value, expected.stderr])
    probed = noise.gradient_noise_scale(c, curvature=kind, n_probes=200, rng=0)
    assert_allclose(probed.value, expected.value, rtol=0.2)
    cosine = noise.alignment(c, kind, 4).cosine.value
    assert_allclose(cosine, noise.alignment(c, dense(net, x, y, kind), 4).cosine.value)


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_examples_in_batches_have_the_curvature_of_all(given, kind):
    net, x, y = given
    batches = [(x[:15], y[:15]), (x[15:], y[15:])]
    rows = nets.per_example_gradients(net, LOSSES, batches, block=8)
    vector = torch.randn(rows.p).double()
    assert_allclose(rows.curvature(kind)(vector), dense(net, x, y, kind) @ vector)


def test_outputs_may_be_several_tensors(given):
    net, x, y = given

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            outputs = self.net(x)
            return {"logits": outputs, "halves": 0.5 * outputs, "name": "two"}

    def losses(outputs, y):
        return LOSSES(0.5 * outputs["logits"] + outputs["halves"], y)

    rows = nets.per_example_gradients(Two(), losses, x, y)
    vector = torch.randn(rows.p).double()
    expected = dense(net, x, y, "gauss_newton") @ vector
    assert_allclose(rows.curvature("gauss_newton")(vector), expected)


def test_at_zero_residual_both_are_equal():
    net, x = network(), torch.randn(20, 5).double()
    rows = nets.per_example_gradients(
        net, lambda out, y: ((out - y) ** 2).sum(1) / 2, x, net(x).detach()
    )
    vector = torch.randn(rows.p).double()
    images = [rows.curvature(kind)(vector) for kind in ("hessian", "gauss_newton")]
    assert_allclose(*images, atol=1e-12)


def test_later_training_does_not_change_it(given):
    net, x, y = given
    rows = nets.per_example_gradients(net, LOSSES, x, y)
    vector = torch.randn(rows.p).double()
    before = rows.curvature("hessian")(vector)
    with torch.no_grad():
        net[0].weight += 1
    assert torch.equal(rows.curvature("hessian")(vector), before)


def test_a_problem_of_jax_has_a_hessian():
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.normal(size=(30, 3))), jnp.asarray(rng.normal(size=30))
    problem = Problem(lambda t, x, y: jnp.tanh(x @ t - y) ** 2, (x, y))
    theta = jnp.asarray(rng.normal(size=3))
    c = noise.gradient_covariance(problem, theta)
    matrix = jax.hessian(problem.value)(theta)
    named = noise.gradient_noise_scale(c, curvature="hessian")
    assert_allclose(named.value, noise.gradient_noise_scale(c, curvature=matrix).value, rtol=1e-5)
    with pytest.raises(ValueError, match="no outputs"):
        noise.gradient_noise_scale(c, curvature="gauss_newton")


def test_what_has_no_curvature_is_refused(given):
    net, x, y = given
    with pytest.raises(ValueError, match="do not know their hessian"):
        noise.gradient_noise_scale(np.ones((5, 2)), curvature="hessian")
    rows = nets.per_example_gradients(net, LOSSES, x, y)
    with pytest.raises(ValueError, match="'hessian', 'gauss_newton'"):
        noise.gradient_noise_scale(rows, curvature="fisher")
    with pytest.raises(ValueError, match="or a function, not 'fisher'"):
        rows.curvature("fisher")


def squared(outputs, targets):
    return ((outputs - targets) ** 2).sum(1) / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_on_its_own_outputs_has_gradients_of_zero(dtype):
    net, x = network().to(dtype), torch.randn(50, 5).to(dtype)
    rows = nets.per_example_gradients(net, squared, x, net(x).detach())
    assert set(rows.routes.values()) == {"linear"}
    assert float(rows.squares().max()) < 1e-10
    problem, theta = nets.as_problem(net, squared, x, net(x).detach())
    assert float(problem.gradient(theta).abs().max()) < 1e-5


def test_a_network_that_mixes_examples_is_refused_on_its_own_outputs():
    net, x = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), torch.randn(50, 5)
    targets = net(x).detach()
    with pytest.raises(ValueError, match="depends on the others"):
        nets.per_example_gradients(net, squared, x, targets)


def test_a_loss_that_is_always_zero_has_gradients_of_zero():
    rows = nets.per_example_gradients(
        network(), lambda out, y: 0 * squared(out, y), torch.randn(9, 5).double(), torch.ones(9, 3)
    )
    assert not rows.squares().any()
