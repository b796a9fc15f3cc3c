"""Networks drawn at random from a grammar of layers, against a loop over the examples."""

import warnings

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import entropy
from torch import nn

from sgdnoise.nets import gradient_covariance

WIDTH, LENGTH = 4, 5


class Layer(nn.Module):
    """A layer (n, l, WIDTH) -> (n, l, WIDTH); mask (n, l) tells which words are there."""

    def __init__(self, run, shared):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.scale = nn.Parameter(torch.ones(WIDTH) + 0.1 * torch.randn(WIDTH))
        self.other = shared
        self.run = run

    def forward(self, h, mask):
        return self.run(self, h, mask)


def plain(layer, h, _):
    return torch.tanh(layer.linear(h))


def residual(layer, h, _):
    return h + layer.scale * torch.tanh(layer.linear(F.layer_norm(h, (WIDTH,))))


def tied(layer, h, _):
    """One weight for several layers, forward and transposed."""
    return torch.tanh(layer.other(h)) @ layer.other.weight


def normalised(layer, h, _):
    return F.linear(h, F.normalize(layer.linear.weight), layer.linear.bias * layer.scale)


def attention(layer, h, mask):
    match = layer.linear(h) @ h.mT
    return match.masked_fill(~mask[:, None], -30.0).softmax(-1) @ h


def sorted_(layer, h, mask):
    """The examples in the order of their lengths, and back."""
    order = mask.sum(1).argsort(stable=True)
    return torch.tanh(layer.linear(h[order]))[order.argsort()]


def packed(layer, h, mask):
    """The words that are there, end to end."""
    out = torch.zeros_like(h)
    out[mask] = torch.tanh(layer.linear(h[mask]))
    return out


def routed(layer, h, _):
    """Each word through one of two layers."""
    rows = h.flatten(0, 1)
    chosen, out = rows @ layer.scale > 0, torch.zeros_like(rows)
    for which, part in ((chosen, layer.linear), (~chosen, layer.other)):
        at = which.nonzero().squeeze(-1)
        out = out.index_add(0, at, part(rows[at]))
    return out.view_as(h)


def later(layer, h, mask):
    """A second use of a weight, for the examples of which the last word is there."""
    again = torch.einsum("nli,oi->nlo", h, layer.linear.weight)
    return torch.tanh(layer.linear(h) + mask[:, -1:, None] * again)


def frozen(layer, h, _):
    return F.linear(h, layer.linear.weight.detach(), layer.linear.bias) + layer.scale


LAYERS = [plain, residual, tied, normalised, attention, sorted_, packed, routed, later, frozen]


class Net(nn.Module):
    """A classifier of sentences."""

    def __init__(self, kinds):
        super().__init__()
        self.words, self.out = nn.Embedding(9, WIDTH), nn.Linear(WIDTH, 3)
        self.places = nn.Parameter(torch.randn(LENGTH, WIDTH))
        shared = nn.Linear(WIDTH, WIDTH)
        self.layers = nn.ModuleList(Layer(kind, shared) for kind in kinds)

    def forward(self, tokens):
        mask = tokens > 0
        h = self.words(tokens) + self.places
        for layer in self.layers:
            h = layer(h, mask)
        return self.out((h * mask[..., None]).sum(1))


def loss_of(net, penalty):
    if not penalty:
        return entropy
    return lambda f, y: entropy(f, y) + 0.1 * sum(p.square().sum() for p in net.parameters())


def gradients(net, loss, x, y):
    """(n, p), one example at a time."""
    parameters = list(net.parameters())
    rows = []
    for i in range(len(x)):
        result = torch.autograd.grad(
            loss(net(x[i : i + 1]), y[i : i + 1]).sum(), parameters, allow_unused=True
        )
        pairs = zip(result, parameters, strict=True)
        rows.append(
            torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])
        )
    return torch.stack(rows)


@given(
    kinds=st.lists(st.sampled_from(LAYERS), min_size=1, max_size=4),
    lengths=st.lists(st.integers(1, LENGTH), min_size=2, max_size=24),
    penalty=st.booleans(),
    block=st.sampled_from([None, 3]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60)
def test_gradients_are_those_of_the_examples_one_by_one(kinds, lengths, penalty, block, seed):
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        net, n = Net(kinds).double(), len(lengths)
        x, y = torch.randint(1, 9, (n, LENGTH)), torch.randint(3, (n,))
        x[torch.arange(LENGTH)[None] >= torch.tensor(lengths)[:, None]] = 0
        loss = loss_of(net, penalty)
        g = gradients(net, loss, x, y)
        rows = gradient_covariance(net, loss, x, y, block=block).rows
        v, w = torch.randn(g.shape[1]).double(), torch.randn(n).double()
    close = {"rtol": 1e-9, "atol": 1e-9 * float(g.abs().max())}
    torch.testing.assert_close(rows.project(v), g @ v, **close)
    torch.testing.assert_close(rows.combine(w), g.T @ w, **close)
    torch.testing.assert_close(rows.gram(), g @ g.T, **close)
    torch.testing.assert_close(rows.squares(), g.square().sum(1), **close)
    torch.testing.assert_close(rows.column_squares(), g.square().sum(0), **close)
