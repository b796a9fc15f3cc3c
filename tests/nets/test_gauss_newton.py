"""Tr H where it is the trace of the Gauss-Newton matrix, and plans that are kept."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from sgdnoise.nets import per_example_gradients, watch
from sgdnoise.nets._examples import Examples
from sgdnoise.nets._network import Network
from sgdnoise.nets._per_example._linear_in_each import is_linear_in_each
from sgdnoise.nets._watch import _plans
from sgdnoise.nets._watch._gauss_newton import RandomOutputs
from sgdnoise.nets._watch._plans import Plans

N = 12
ENTROPY = nn.CrossEntropyLoss(reduction="none")
SURE = 5.0


def exact_trace(network, plans, rng):
    """Tr H, or None where it is not known."""
    found = RandomOutputs.of(network, plans, rng)
    return found.trace() if found is not None and found.linear else None


def squared(outputs, targets):
    return (outputs - F.one_hot(targets, outputs.shape[1])).square().sum(1) / 2


def with_decay(net):
    def loss(outputs, targets):
        return ENTROPY(outputs, targets) + sum(p.square().sum() for p in net.parameters())

    return loss


def saturating(outputs, targets):
    return torch.tanh(squared(outputs, targets))  # not convex


class Tied(nn.Module):
    """A linear layer that is used twice."""

    def __init__(self):
        super().__init__()
        self.linear, self.out = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.out(F.relu(self.linear(F.relu(self.linear(x)))))


class Applied(nn.Module):
    """A linear layer, a function of its outputs, and a linear layer."""

    def __init__(self, function):
        super().__init__()
        self.first, self.out, self.function = nn.Linear(5, 6), nn.Linear(6, 3), function

    def forward(self, x):
        return self.out(self.function(self.first(x)))


def mlp(activation=nn.ReLU):
    return nn.Sequential(
        nn.Linear(5, 7), activation(), nn.Linear(7, 6), activation(), nn.Linear(6, 3)
    )


def convnet(norm):
    layers = nn.Conv2d(1, 3, 3), norm, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3)
    return nn.Sequential(*layers).eval()


IMAGES = (1, 6, 6)
LINEAR_IN_EACH = {
    "relus": (mlp(), (5,)),
    "leaky relus": (mlp(nn.LeakyReLU), (5,)),
    "trained slopes": (mlp(nn.PReLU), (5,)),
    "frozen batch norm": (convnet(nn.BatchNorm2d(3)), IMAGES),
    "a residual sum": (Applied(lambda h: h + F.relu(h) / 3), (5,)),
    "a mean and a cut": (Applied(lambda h: h - h.mean(1, keepdim=True).clamp(min=0)), (5,)),
}
NOT_LINEAR = {
    "tanh": (mlp(nn.Tanh), (5,)),
    "gelu": (mlp(nn.GELU), (5,)),
    "tied weights": (Tied(), (5,)),
    "a square": (Applied(torch.square), (5,)),
    "a product with itself": (Applied(lambda h: h * h), (5,)),
    "a gate": (Applied(lambda h: h * torch.sigmoid(h)), (5,)),
    "division by itself": (Applied(lambda h: h / (1 + h.abs().sum(1, keepdim=True))), (5,)),
    "layer norm": (Applied(nn.LayerNorm(6)), (5,)),
    "group norm": (convnet(nn.GroupNorm(1, 3)), IMAGES),
    "a checkpoint": (Applied(lambda h: checkpoint(torch.relu, h, use_reentrant=True)), (5,)),
}


def examples(shape, n=N):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, *shape, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (n,), generator=generator)


def network(net, shape, loss):
    return Network.of(net.double(), loss, Examples.of(*examples(shape)))


def diagonal(net, loss, x, y):
    """The exact second derivatives of the mean loss, of all parameters, by autograd."""
    leaves = list(net.parameters())
    gradients = torch.autograd.grad(loss(net(x), y).mean(), leaves, create_graph=True)
    flat = torch.cat([g.reshape(-1) for g in gradients])
    rows = (torch.autograd.grad(g, leaves, retain_graph=True, materialize_grads=True) for g in flat)
    return torch.stack([torch.cat([r.reshape(-1) for r in row])[k] for k, row in enumerate(rows)])


@pytest.mark.parametrize("loss", [ENTROPY, squared], ids=["cross-entropy", "squared"])
@pytest.mark.parametrize("name", LINEAR_IN_EACH)
def test_the_trace_is_that_of_the_dense_hessian(name, loss):
    net, shape = LINEAR_IN_EACH[name]
    found = exact_trace(network(net, shape, loss), Plans(), np.random.default_rng(0))
    exact = float(diagonal(net, loss, *examples(shape)).sum())
    assert found is not None
    assert 0 < found.stderr < 0.2 * exact
    assert abs(found.z(exact)) < SURE


def test_the_error_is_that_of_the_signs():
    """Over 300 seeds, 95% intervals hold the trace 95 times of 100."""
    net, shape = LINEAR_IN_EACH["relus"]
    x, y = examples(shape, 60)
    here, plans = Network.of(net.double(), ENTROPY, Examples.of(x, y)), Plans()
    found = [exact_trace(here, plans, np.random.default_rng(seed)) for seed in range(300)]
    exact = float(diagonal(net, ENTROPY, x, y).sum())
    held = np.mean([f.interval()[0] <= exact <= f.interval()[1] for f in found])
    assert abs(held - 0.95) < 3 * (0.95 * 0.05 / 300) ** 0.5
    z = np.asarray([f.z(exact) for f in found])
    assert abs(z.mean()) < SURE / 300**0.5


@pytest.mark.parametrize("net", [mlp(), mlp(nn.Tanh)], ids=["relus", "tanh"])
def test_products_average_to_those_with_the_gauss_newton_matrix(net):
    here, plans = network(net, (5,), ENTROPY), Plans()
    x, y = examples((5,))
    rows = per_example_gradients(net, ENTROPY, x, y)
    vector = torch.linspace(-1, 1, rows.p, dtype=torch.float64)
    found = torch.stack(
        [
            RandomOutputs.of(here, plans, np.random.default_rng(seed)).product(vector)
            for seed in range(200)
        ]
    )
    exact = rows.curvature("gauss_newton")(vector)
    z = (found.mean(0) - exact) / (found.std(0) / 200**0.5)
    assert z.abs()[exact != 0].max() < SURE
    direction = exact / exact.norm()
    assert abs(float((found @ direction).mean() / exact.norm()) - 1) < 0.1


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_other_networks_are_left_to_probes(name):
    net, shape = NOT_LINEAR[name]
    assert exact_trace(network(net, shape, ENTROPY), Plans(), np.random.default_rng(0)) is None


def test_batch_statistics_are_not_linear():
    net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    leaves = dict(net.named_parameters())
    assert not is_linear_in_each(net(examples((5,))[0]), leaves)
    assert is_linear_in_each(net.eval()(examples((5,))[0]), leaves)


def test_losses_that_read_parameters_or_are_not_convex_are_left_to_probes():
    net = mlp()
    for loss in (with_decay(net), saturating):
        assert exact_trace(network(net, (5,), loss), Plans(), np.random.default_rng(0)) is None


def test_watch_takes_it_where_it_holds_and_probes_elsewhere():
    x, y = examples((5,))
    for activation, largest in ((nn.ReLU, 0.2), (nn.Tanh, np.inf)):
        net = mlp(activation).double()
        record = watch(net, x, y, ENTROPY, estimators={}, n_probes=200).results().isel(step=0)
        exact = float(diagonal(net, ENTROPY, x, y).sum())
        deviation = float(record.hessian_trace) - exact
        assert abs(deviation) < SURE * float(record.hessian_trace_stderr) < largest * exact * SURE


def test_a_plan_is_made_once_and_gives_the_gradients_of_each_time(monkeypatch):
    made = []
    of = _plans.Plan.of
    monkeypatch.setattr(_plans.Plan, "of", lambda network: made.append(1) or of(network))
    net, plans = mlp().double(), Plans()
    x, y = examples((5,))
    for _ in range(3):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter) / 10)
        rows = plans.gradients("losses", Network.of(net, ENTROPY, Examples.of(x, y)))
        again = per_example_gradients(net, ENTROPY, x, y)
        weights = torch.randn(N, dtype=torch.float64)
        torch.testing.assert_close(rows.combine(weights), again.combine(weights))
    assert len(made) == 1 + 3  # one is kept, and one for each call without plans
    net[0].weight.requires_grad_(False)
    rows = plans.gradients("losses", Network.of(net, ENTROPY, Examples.of(x, y)))
    assert "0.weight" not in rows.shapes


def test_a_kept_plan_still_refuses_a_network_that_mixes_its_examples():
    """The modes of modules are compared, and losses alone with losses in a batch."""
    x, y = examples((5,))
    net, plans = (
        nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).double(),
        Plans(),
    )
    plans.gradients("losses", Network.of(net.eval(), ENTROPY, Examples.of(x, y)))
    with pytest.raises(ValueError, match="batch"):
        plans.gradients("losses", Network.of(net.train(), ENTROPY, Examples.of(x, y)))
    plans.gradients("losses", Network.of(net.eval(), ENTROPY, Examples.of(x, y)))
    net[1].track_running_stats = False
    net[1].running_mean = net[1].running_var = None
    with pytest.raises(ValueError, match="batch"):
        plans.gradients("losses", Network.of(net, ENTROPY, Examples.of(x, y)))
