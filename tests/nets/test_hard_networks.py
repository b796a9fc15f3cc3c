"""Gradient noise of networks that other people write, against a loop over the examples."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from networks import Written, entropy, lin
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from sgdnoise import noise
from sgdnoise.dynamics import sgd
from sgdnoise.nets import (
    FallbackWarning,
    as_problem,
    gradient_covariance,
    per_example_gradients,
    walk,
)
from sgdnoise.nets._per_example import _assembly

N = 12
pytestmark = pytest.mark.filterwarnings("ignore::sgdnoise.nets._per_example._plan.FallbackWarning")
IGNORED = nn.CrossEntropyLoss(reduction="none", ignore_index=-100)


def of_example(given, i):
    if isinstance(given, dict):
        return {name: of_example(value, i) for name, value in given.items()}
    if isinstance(given, tuple):
        return tuple(of_example(value, i) for value in given)
    return given[i : i + 1]


def one_by_one(net, loss, inputs, targets, n=N):
    """The gradients (n, p) of the examples, each in a batch of its own."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    rows = []
    for i in range(n):
        x = of_example(inputs, i)
        outputs = net(**x) if isinstance(x, dict) else net(*x) if isinstance(x, tuple) else net(x)
        loss(outputs, of_example(targets, i)).sum().backward()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        rows.append(torch.cat([g.to_dense().flatten() for g in gradients]))
        net.zero_grad(set_to_none=True)
    return torch.stack(rows).double()


def check(net, loss, inputs, targets, *, n=N, rtol=1e-9, expected=None, **how):
    """All that a covariance says is as of the gradients one by one."""
    g = one_by_one(net, loss, inputs, targets, n) if expected is None else expected
    centred, gram = g - g.mean(0), g @ g.T
    values = torch.linalg.eigvalsh(centred @ centred.T / n).flip(0)
    c = gradient_covariance(net, loss, inputs, targets, **how)
    scale, largest = float(values.sum()), float(gram.abs().max())
    torch.testing.assert_close(c.rows.gram().double(), gram, rtol=0, atol=rtol * largest)
    assert abs(float(c.trace()) - scale) <= rtol * scale
    assert abs(float(c.top(1).values[0]) - float(values[0])) <= rtol * scale
    torch.testing.assert_close(c.mean.double(), g.mean(0), rtol=0, atol=rtol * float(g.abs().max()))
    torch.testing.assert_close(
        c.diagonal().double(), centred.square().mean(0), rtol=0, atol=rtol * scale
    )
    return c


def slow(covariance):
    return {name for name, route in covariance.rows.routes.items() if route == "torch.func"}


def written(forward, **parts):
    return Written(forward, **parts).double()


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(lin(8, 6), nn.Tanh(), lin(6, 3)).double()


@pytest.fixture
def data():
    torch.manual_seed(0)
    return torch.randn(N, 8, dtype=torch.float64), torch.randint(3, (N,))


@pytest.fixture
def words():
    """Sentences of other lengths, of which 0 fills the rest, and classes."""
    torch.manual_seed(0)
    tokens = torch.randint(1, 20, (N, 6))
    lengths = torch.tensor([6, 5, 4, 3, 6, 2, 5, 1, 4, 6, 2, 3])
    tokens[torch.arange(6)[None] >= lengths[:, None]] = 0
    return tokens, torch.randint(3, (N,))


# examples that change their place, or of which some do what others do not


def sorted_within(s, t):
    order = (t != 0).sum(1).argsort(descending=True, stable=True)
    h = torch.tanh(s.into(s.words(t[order]))).sum(1)
    return s.out(h[order.argsort()])


def packed(s, t):
    mask = t != 0
    h = torch.tanh(s.into(s.words(t)[mask]))
    rows = h.new_zeros(*t.shape, h.shape[1])
    rows[mask] = h
    return s.out(rows.sum(1))


def looped(s, t):
    """Rows of the examples end to end, made and split by loops."""
    lengths = (t != 0).sum(1).tolist()
    rows = torch.cat([row[:length] for row, length in zip(s.words(t), lengths, strict=True)])
    h = torch.tanh(s.into(rows))
    return s.out(torch.stack([part.sum(0) for part in h.split(lengths)]))


def routed(s, t):
    h = s.words(t).flatten(0, 1)
    weight, chosen = s.gate(h).softmax(-1).max(-1)
    out = torch.zeros_like(h)
    for number, expert in enumerate((s.into, s.other)):
        rows = (chosen == number).nonzero().squeeze(-1)
        out = out.index_add(0, rows, expert(h[rows]) * weight[rows, None])
    return s.out(out.view(*t.shape, -1).mean(1))


def last_word(s, t):
    h = torch.tanh(s.into(s.words(t)))
    return s.out(h[torch.arange(len(t)), (t != 0).sum(1) - 1])


def reversed_batch(s, t):
    return s.out(torch.tanh(s.into(s.words(t.flip(0))).sum(1)).flip(0))


@pytest.mark.parametrize("block", [None, 5])
@pytest.mark.parametrize(
    "forward", [sorted_within, packed, looped, routed, last_word, reversed_batch]
)
def test_examples_that_change_their_place_in_the_batch(words, forward, block):
    for seed in range(3):
        torch.manual_seed(seed)
        parts = {"words": nn.Embedding(20, 4), "into": lin(4, 4), "out": lin(4, 3)}
        net = written(forward, gate=lin(4, 2), other=lin(4, 4), **parts)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of parts that this forward pass does not use
            check(net, entropy, *words, block=block)


LENGTHS = [6, 6, 6, 6, 6, 5, 5, 4, 4, 4, 4, 4], [6, 6, 6, 6, 6, 5, 5, 4, 4, 4, 4, 3], [6] * 11 + [5]


@pytest.mark.parametrize("lengths", LENGTHS)
def test_packed_rows_of_which_the_first_examples_have_equally_many(lengths):
    torch.manual_seed(0)
    tokens = torch.randint(1, 60, (N, 6))
    tokens[torch.arange(6)[None] >= torch.tensor(lengths)[:, None]] = 0
    net = written(packed, words=nn.Embedding(60, 4), into=lin(4, 5), out=lin(5, 3))
    check(net, entropy, tokens, torch.randint(3, (N,)))


def test_two_examples_of_many_that_change_places():
    """Examples 300 and 301 of 320, which no trial on some of the examples sees."""
    torch.manual_seed(1)
    x, y = torch.randn(320, 8, dtype=torch.float64), torch.randint(3, (320,))
    x[:, 0] = torch.arange(320.0)
    x[[300, 301]] = x[[301, 300]]
    x[:, 0] /= 100

    def run(s, t):
        order = t[:, 0].argsort()
        return s.out(torch.tanh(s.into(t[order])))[order.argsort()]

    check(written(run, into=lin(8, 5), out=lin(5, 3)), entropy, x, y, n=320)


def test_two_examples_of_many_whose_lengths_make_up_for_each_other():
    """As many rows in all as if each had 4, so that no shape tells."""
    torch.manual_seed(1)
    tokens, classes = torch.randint(1, 20, (320, 5)), torch.randint(3, (320,))
    tokens[:, 4], tokens[300, 4], tokens[302, 3] = 0, 1, 0
    net = written(looped, words=nn.Embedding(20, 4), into=lin(4, 4), out=lin(4, 3))
    check(net, entropy, tokens, classes, n=320)


def test_formulas_that_no_checked_example_tests_are_checked_on_each_block(monkeypatch):
    """A wrong formula, and targets that are ignored in the first pass."""
    torch.manual_seed(1)
    x, y = torch.randn(320, 8, dtype=torch.float64), torch.full((320,), -100)
    y[torch.randperm(320)[:40]] = 1
    y[torch.linspace(0, 319, 8).round().long()] = -100
    net, right = written(lambda s, t: s.out(t + s.shift), out=lin(8, 3)), _assembly._MAKE["sum"]
    net.shift = nn.Parameter(torch.zeros(8, dtype=torch.float64))
    monkeypatch.setitem(
        _assembly._MAKE,
        "sum",
        lambda call, layout, n: right(
            call._replace(output_gradient=2 * call.output_gradient), layout, n
        ),
    )
    assert slow(check(net, IGNORED, x, y, n=320)) == {"shift"}


def test_a_second_use_of_a_weight_for_one_example_of_many():
    torch.manual_seed(1)
    x, y = torch.randn(320, 8, dtype=torch.float64), torch.randint(3, (320,))
    x[:, 0] = -x[:, 0].abs()
    x[301, 0] = 2.0

    def run(s, t):
        again = torch.einsum("bi,oi->bo", torch.tanh(t), s.into.weight)
        return s.out(torch.where(t[:, :1] > 1, s.into(t) + again, s.into(t)))

    check(written(run, into=lin(8, 5), out=lin(5, 3)), entropy, x, y, n=320)


def test_targets_of_which_the_first_are_ignored(data):
    x, y = data
    y[:3] = -100

    def run(s, t):
        return F.linear(t, s.w) + torch.einsum("bi,oi->bo", t.tanh(), s.w)

    check(written(run, w=nn.Parameter(torch.randn(3, 8))), IGNORED, x, y)
    tokens = torch.randint(11, (N, 5))

    def tied(s, t):
        return F.linear(torch.tanh(s.words(t)).mean(1), F.normalize(s.words.weight))

    check(written(tied, words=nn.Embedding(11, 6)), IGNORED, tokens, y)


EMBEDDINGS = {
    "divided by the count": {"scale_grad_by_freq": True},
    "sparse": {"sparse": True},
    "with a pad": {"padding_idx": -1},
}


@pytest.mark.parametrize("how", EMBEDDINGS.values(), ids=EMBEDDINGS)
def test_embeddings_with_options(how):
    torch.manual_seed(0)
    tokens = torch.cat([torch.arange(18).view(3, 6), torch.randint(9, (9, 6))])
    tokens[3:, 4:] = 19
    net = written(lambda s, t: s.out(s.words(t).mean(1)), words=nn.Embedding(20, 4, **how))
    net.out = lin(4, 3).double()
    check(net, entropy, tokens, torch.randint(3, (N,)))


def test_an_embedding_that_is_renormalised_in_the_forward_pass_is_refused(words):
    net = written(lambda s, t: s.out(s.words(t).mean(1)), words=nn.Embedding(20, 4, max_norm=0.5))
    net.out = lin(4, 3).double()
    with pytest.raises(ValueError, match="changes its parameters in place, as max_norm does"):
        gradient_covariance(net, entropy, *words)


# losses that use the network


def with_decay(net):
    return lambda f, y: entropy(f, y) + 0.1 * sum(p.square().sum() for p in net.parameters())


def with_lasso(net):
    return lambda f, y: entropy(f, y) * (1 + net[0].weight.abs().sum()) + net[2].bias.abs().sum()


def with_consistency(net):
    ones = torch.ones(3, 8, dtype=torch.float64)
    return lambda f, y: entropy(f, y) + (net(f.detach() @ ones * 0.1) ** 2).mean(1)


@pytest.mark.parametrize("block", [None, 5])
@pytest.mark.parametrize("make", [with_decay, with_lasso, with_consistency])
def test_losses_that_read_the_parameters_or_call_the_network(data, make, block):
    net = mlp()
    check(net, make(net), *data, block=block)


def test_a_penalty_is_kept_as_one_direction():
    """Stored, the gradients of 400 weights would take 30 x 400 numbers."""
    torch.manual_seed(0)
    net = nn.Sequential(lin(8, 40), nn.Tanh(), lin(40, 3)).double()
    x, y = torch.randn(30, 8, dtype=torch.float64), torch.randint(3, (30,))
    c = check(net, with_decay(net), x, y, n=30)
    forms = [form for block in c.rows.blocks() for form in block.forms]
    assert not slow(c)
    assert (
        max(t.numel() for form in forms for t in vars(form).values() if torch.is_tensor(t)) < 1500
    )
    g = one_by_one(net, with_decay(net), x, y, 30)
    torch.testing.assert_close(c.rows.gram(), g @ g.T)
    torch.testing.assert_close(c.rows.squares(), g.square().sum(1))
    torch.testing.assert_close(c.rows.column_squares(), g.square().sum(0))


def test_a_problem_and_its_walk_have_the_penalty(data):
    net = mlp()
    problem, theta = as_problem(net, with_decay(net), *data)
    g = one_by_one(net, with_decay(net), *data)
    torch.testing.assert_close(problem.gradient(theta), g.mean(0))
    assert float(problem.value(theta)) > float(0.1 * theta.square().sum())
    vector = torch.randn_like(theta)
    step = 1e-5 * vector
    difference = (problem.gradient(theta + step) - problem.gradient(theta - step)) / 2e-5
    torch.testing.assert_close(problem.hvp(theta, vector), difference, rtol=1e-6, atol=1e-8)
    first = next(walk(sgd(noise.full_batch(problem), 0.1), theta, 0))
    torch.testing.assert_close(first, theta - 0.1 * g.mean(0))


def test_losses_that_hold_parameters_of_their_own_are_refused(data):
    net = mlp()
    kept = list(net.parameters())

    def loss(f, y):
        return entropy(f, y) + sum(p.square().sum() for p in kept)

    for call in (gradient_covariance, as_problem):
        with pytest.raises(ValueError, match="by a reference of their own"):
            call(net, loss, *data)


# what torch.func cannot transform, and what takes a path of its own


class Square(torch.autograd.Function):
    """In the old style, without a rule for vmap."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx, slope):
        x, w = ctx.saved_tensors
        return slope @ w.T, x.T @ slope


def physics(s, t):
    t = t.detach().requires_grad_()
    u = s.out(torch.tanh(s.into(t)))
    (du,) = torch.autograd.grad(u.sum(), t, create_graph=True)
    return u + du[:, :3]


def checkpointed(reentrant):
    def run(s, t):
        h = checkpoint(lambda h: torch.tanh(s.into(h)), s.first(t), use_reentrant=reentrant)
        return torch.einsum("bi,oi->bo", h, s.out.weight)

    return run


def through_numpy(s, t):
    factor = torch.as_tensor(1 + t.detach().numpy() ** 2)
    return torch.einsum("bi,oi->bo", torch.tanh(s.into(t * factor)), s.out.weight)


def old_function(s, t):
    return Square.apply(torch.tanh(s.into(t)), s.out.weight.T)


def cast_within(s, t):
    s.into = s.into.to(torch.float64)  # replaces the data of its parameters
    return torch.einsum("bi,oi->bo", torch.tanh(s.into(t)), s.out.weight)


FORWARDS = {
    "derivatives by the inputs": physics,
    "a reentrant checkpoint": checkpointed(True),
    "a checkpoint": checkpointed(False),
    "numbers of numpy": through_numpy,
    "a function of the old style": old_function,
    "a cast within the forward pass": cast_within,
}


@pytest.mark.parametrize("forward", FORWARDS.values(), ids=FORWARDS)
def test_what_torch_func_cannot_transform_goes_through_plain_autograd(data, forward):
    torch.manual_seed(2)
    net = written(forward, first=lin(8, 8), into=lin(8, 5), out=lin(5, 3, bias=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        c = check(net, entropy, *data)
    assert slow(c)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrent_layers_over_packed_sequences(kind):
    torch.manual_seed(0)
    x, y = torch.randn(N, 5, 4, dtype=torch.float64), torch.randint(3, (N,))

    def run(s, t):
        lengths = torch.as_tensor([1 + int(4 * float(row[0, 0].sigmoid())) for row in t])
        sequence = pack_padded_sequence(t, lengths, batch_first=True, enforce_sorted=False)
        last = s.layer(sequence)[1]
        return s.out((last[0] if isinstance(last, tuple) else last)[-1])

    check(written(run, layer=kind(4, 5, batch_first=True), out=lin(5, 3)), entropy, x, y)


def test_a_checkpoint_recomputes_with_the_parameters_of_the_covariance(data):
    """Also after training, and where nothing is kept."""
    net = written(checkpointed(False), first=lin(8, 8), into=lin(8, 5), out=lin(5, 3, bias=False))
    rows = per_example_gradients(net, entropy, *data, block=5)
    before = rows.squares()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(3)
    torch.testing.assert_close(rows.squares(), before)


# contexts


def test_inference_mode_and_tensors_that_were_made_in_it(data):
    x, y = data
    expected = one_by_one(mlp(), entropy, x, y)
    with torch.inference_mode():
        cached, net = x + 0, mlp()
    for context in (torch.inference_mode, nullcontext, torch.no_grad):
        with context():
            check(mlp(), entropy, cached, y, expected=expected)
            check(net, entropy, x, y, expected=expected)


def test_autocast_of_the_caller_changes_nothing(data):
    net, (x, y) = mlp().float(), data
    expected = one_by_one(net, entropy, x.float(), y)
    with torch.autocast("cpu", torch.bfloat16):
        check(net, entropy, x.float(), y, rtol=1e-5, expected=expected)
        check(net, entropy, x.float(), y, rtol=1e-5, expected=expected, block=5)


def test_a_network_that_casts_itself_is_measured_as_it_is(data):
    def run(s, t):
        with torch.autocast("cpu", torch.bfloat16):
            return s.net(t).float()

    net = Written(run, net=mlp().float())
    check(net, entropy, data[0].float(), data[1], rtol=1e-5)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_wrapped_networks_are_unwrapped_and_scripted_ones_refused(data):
    check(nn.DataParallel(mlp()), entropy, *data)
    with pytest.raises(ValueError, match="a scripted network hides its layers"):
        gradient_covariance(torch.jit.trace(mlp(), data[0]), entropy, *data)


class FrozenBatchNorm2d(nn.Module):
    """Constant, whatever its name and mode say."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.rand(6).double())

    def forward(self, x):
        return x * self.scale


def test_what_mixes_examples_is_found_by_what_it_does_and_not_by_its_name(data):
    net = nn.Sequential(lin(8, 6), FrozenBatchNorm2d(), nn.Tanh(), lin(6, 3)).double().train()
    check(net, entropy, *data)
    problem, theta = as_problem(net, entropy, *data)
    torch.testing.assert_close(problem.gradient(theta), one_by_one(net, entropy, *data).mean(0))


def test_a_problem_takes_buffers_that_no_pass_changes(data):
    net = nn.Sequential(lin(8, 6), nn.BatchNorm1d(6), nn.Tanh(), lin(6, 3)).double()
    net(data[0])
    problem, theta = as_problem(net.eval(), entropy, *data)
    expected = one_by_one(net, entropy, *data)
    torch.testing.assert_close(problem.gradient(theta), expected.mean(0))
    net.train()(data[0])  # moves its buffers, of which the problem has copies
    torch.testing.assert_close(problem.gradient(theta), expected.mean(0))
    trace = noise.minibatch(problem, 1).covariance(theta).trace()
    torch.testing.assert_close(trace, (expected - expected.mean(0)).square().sum(1).mean())


# found by trying to break it


def test_losses_that_depend_on_the_first_example_or_on_the_place_are_refused(data):
    first = written(lambda s, t: s.out(t - t[:1]), out=lin(8, 3))
    scale = torch.linspace(1, 2, N, dtype=torch.float64)
    placed = written(lambda s, t: s.out(t * scale[: len(t), None]), out=lin(8, 3))
    for net in (first, placed):
        for call in (gradient_covariance, as_problem):
            with pytest.raises(ValueError, match="depends on the others in its batch"):
                call(net, entropy, *data)


@pytest.mark.parametrize("number", [16, 17, 44])
def test_one_example_that_reads_the_mean_of_the_batch_is_refused(number):
    torch.manual_seed(0)
    x, y = torch.randn(60, 8, dtype=torch.float64), torch.randint(3, (60,))
    x[:, 0] = 0.0
    x[number, 0] = 1.0

    def run(s, t):
        h = torch.tanh(s.into(t))
        return s.out(torch.where(t[:, :1] > 0.5, h + h.mean(0), h))

    def at_the_input(s, t):
        return s.out(torch.tanh(s.into(t + (t[:, :1] > 0.5) * t.mean(0))))

    for forward in (run, at_the_input):
        with pytest.raises(ValueError, match="depends on the others in its batch"):
            gradient_covariance(written(forward, into=lin(8, 5), out=lin(5, 3)), entropy, x, y)


def test_a_loss_that_leaves_out_the_easiest_examples_is_refused():
    torch.manual_seed(0)
    x, y = torch.randn(60, 8, dtype=torch.float64), torch.randint(3, (60,))

    def hard(f, t):
        losses = entropy(f, t)
        kept = min(58, len(losses))
        return losses * (losses >= losses.detach().topk(kept).values[-1])

    with pytest.raises(ValueError, match="depends on the others in its batch"):
        gradient_covariance(mlp(), hard, x, y)


def subtracted(net):
    return lambda f, y: entropy(f, y) - 1e-3 * sum(p.square().sum() for p in net.parameters())


def in_place(net):
    def loss(f, y):
        losses = entropy(f, y)
        losses += 1e-7 * sum(p.square().sum() for p in net.parameters())
        return losses

    return loss


@pytest.mark.parametrize("make", [subtracted, in_place])
def test_uses_that_are_too_small_to_show_are_found_in_the_graph(data, make):
    net = mlp()
    check(net, make(net), *data, rtol=1e-12)


@pytest.mark.parametrize("block", [None, 8, 10])
def test_rows_that_python_turns_or_sorts(block):
    torch.manual_seed(0)
    x, y = torch.randn(30, 8, dtype=torch.float64), torch.randint(3, (30,))

    def turned(s, t):
        k = int(t[:, 0].argmax())
        h = torch.tanh(s.into(torch.cat([t[k:], t[:k]])))
        return s.out(torch.cat([h[len(t) - k :], h[: len(t) - k]]))

    def by_list(s, t):
        order = sorted(range(len(t)), key=lambda i: float(t[i, 0]))
        h = torch.tanh(s.into(torch.stack([t[i] for i in order])))
        places = [order.index(i) for i in range(len(t))]
        return s.out(torch.stack([h[i] for i in places]))

    for forward in (turned, by_list):
        net = written(forward, into=lin(8, 5), out=lin(5, 3))
        check(net, entropy, x, y, n=30, block=block)


def test_targets_and_losses_in_double_precision_with_a_network_in_single(data):
    net, x = mlp().float(), data[0].float()
    check(net, lambda f, y: entropy(f.double(), y), x, data[1], rtol=1e-5)
    numbers = torch.randn(N, 3, dtype=torch.float64)
    check(net, lambda f, t: (f - t).square().sum(1), x, numbers, rtol=1e-5)


def test_a_problem_takes_rows_of_a_parameter_that_is_not_the_first(data):
    def run(s, t):
        first, second = s.both.chunk(2)
        return s.out(F.linear(t, first) * F.linear(t.tanh(), second))

    net = written(run, into=lin(2, 2), out=lin(4, 3))
    net.both = nn.Parameter(torch.randn(8, 8, dtype=torch.float64))
    problem, theta = as_problem(net, entropy, *data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = problem.rows(theta, *problem.examples)
    g = one_by_one(net, entropy, *data)
    torch.testing.assert_close(rows.gram(), g @ g.T)


def test_frozen_parameters_and_generators_stay_as_they_were(data):
    def run(s, t):
        with torch.no_grad():
            s.average.weight.mul_(0.9).add_(0.1 * s.out.weight)
        return s.out(t) + s.average(t).detach()

    net = written(run, out=lin(8, 3), average=lin(8, 3).requires_grad_(False))
    before = net.average.weight.clone()
    with pytest.raises(ValueError, match="changes its parameters in place"):
        gradient_covariance(net, entropy, *data)
    assert torch.equal(net.average.weight, before)
    net = nn.Sequential(mlp(), nn.Dropout()).train()
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="draws random numbers"):
        gradient_covariance(net, entropy, *data)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_problem_keeps_its_frozen_parameters_and_refuses_other_modules(data):
    net = mlp()
    net[0].requires_grad_(False)
    problem, theta = as_problem(net, entropy, *data)
    before = problem.value(theta)
    net[0].weight.data.mul_(2)
    assert torch.equal(problem.value(theta), before)
    net[2] = lin(6, 3).double()
    with pytest.raises(ValueError, match="other modules than before"):
        problem.value(theta)


def test_threads_leave_the_network_its_parameters(data):
    net = mlp()
    problem, theta = as_problem(net, entropy, *data)
    expected = [problem.gradient(factor * theta) for factor in (1.0, 1.5)]

    def work(k):
        factor = (1.0, 1.5)[k % 2]
        return torch.equal(problem.gradient(factor * theta), expected[k % 2])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(200)))
    assert all(isinstance(p, nn.Parameter) for p in (net[0].weight, net[2].bias))


def test_weights_of_another_length_are_refused(data):
    problem, theta = as_problem(mlp(), entropy, *data)
    for weights in (torch.ones(1), torch.ones(2 * N)):
        with pytest.raises(ValueError, match=f"{N} examples take as many weights"):
            problem.weighted_gradient(theta, weights.double())
    chosen = [i % 2 == 0 for i in range(N)]
    assert len(problem.subset(chosen)) == N // 2


# fast routes


def addmm(s, t):
    return torch.addmm(s.shift, torch.tanh(s.into(t)), s.weight)


ROUTES = {
    "torch.addmm, as Conv1D of GPT-2": addmm,
    "torch.mm": lambda s, t: torch.mm(torch.tanh(s.into(t)), s.weight),
    "LayerScale": lambda s, t: torch.tanh(s.into(t)) * s.gain @ s.weight,
    "a scalar gain": lambda s, t: torch.tanh(s.into(t)) * s.scalar.exp() @ s.weight,
    "one plus a scale": lambda s, t: torch.tanh(s.into(t)) * (1 + s.gain) @ s.weight,
    "a normalised head": lambda s, t: F.linear(torch.tanh(s.into(t)), F.normalize(s.weight.T)),
    "a merged low rank": lambda s, t: F.linear(t, s.fixed + s.weight.T @ s.into.weight, s.shift),
    "a pruned weight": lambda s, t: torch.tanh(s.into(t)) @ (s.weight * s.mask),
}


@pytest.mark.parametrize("forward", ROUTES.values(), ids=ROUTES)
def test_parameters_that_are_used_through_formulas_have_fast_routes(data, forward):
    torch.manual_seed(0)
    parts = {"weight": (5, 3), "gain": (5,), "shift": (3,), "scalar": ()}
    net = written(forward, into=lin(8, 5))
    for name, shape in parts.items():
        setattr(net, name, nn.Parameter(torch.randn(shape, dtype=torch.float64)))
    net.register_buffer("fixed", torch.randn(3, 8).double())
    net.register_buffer("mask", (torch.rand(5, 3) > 0.5).double())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not slow(check(net, entropy, *data))


def relative(s, t):
    h = s.words(t)
    bias = s.table[s.places.flatten()].view(6, 6)
    return s.out(((h @ h.mT + bias).softmax(-1) @ h).mean(1))


def relative_in_attention(s, t):
    h = s.words(t)[:, None]
    bias = s.looked(s.places)[None, None, :, :, 0]
    return s.out(F.scaled_dot_product_attention(h, h, h, attn_mask=bias).mean((1, 2)))


@pytest.mark.parametrize("forward", [relative, relative_in_attention])
def test_tables_of_relative_positions_have_fast_routes(words, forward):
    torch.manual_seed(0)
    net = written(forward, words=nn.Embedding(20, 4), looked=nn.Embedding(11, 1), out=lin(4, 3))
    net.table = nn.Parameter(torch.randn(11, dtype=torch.float64))
    places = torch.arange(6)[:, None] - torch.arange(6) + 5
    net.register_buffer("places", places)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not slow(check(net, entropy, *words))


CONVOLUTIONS = {
    "transposed": nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
    "transposed in groups": nn.ConvTranspose2d(4, 6, 3, groups=2),
    "transposed and dilated": nn.ConvTranspose2d(4, 6, 2, dilation=2),
    "in groups": nn.Conv2d(4, 6, 3, groups=2),
}


@pytest.mark.parametrize("layer", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions_and_their_adjoints_have_fast_routes(layer):
    torch.manual_seed(0)
    net = written(lambda s, t: s.out(torch.tanh(s.layer(torch.tanh(s.first(t)))).mean((2, 3))))
    net.first, net.layer, net.out = nn.Conv2d(3, 4, 3), layer, lin(6, 3)
    images = torch.randn(N, 3, 9, 9, dtype=torch.float64)
    assert not slow(check(net.double(), entropy, images, torch.randint(3, (N,))))


@pytest.mark.parametrize("norm", [nn.GroupNorm(1, 4), nn.GroupNorm(2, 4)])
def test_parameters_whose_gradient_is_only_rounding_keep_the_fast_route(norm):
    """Biases before a norm and of keys, in single precision."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.Flatten(), lin(36, 3))
    images, classes = torch.randn(40, 3, 5, 5), torch.randint(3, (40,))
    assert not slow(check(net, entropy, images, classes, n=40, rtol=1e-4))

    def attend(s, t):
        weights = F.softmax(s.query(t) @ s.key(t).mT / 3, -1)
        return s.out((weights @ t).mean(1))

    net = Written(attend, query=lin(8, 8), key=lin(8, 8), out=lin(8, 3))
    x = torch.randn(40, 7, 8)
    assert not slow(check(net, entropy, x, classes, n=40, rtol=1e-4))


def test_a_plan_made_at_a_head_of_zeros_is_made_again_after_training(words):
    """At zero no gradient tells where the examples are, as for the places of words."""

    def run(s, t):
        places = s.places(torch.arange(t.shape[1]).expand_as(t))
        return s.out(torch.tanh(s.words(t) + places).sum(1))

    net = written(run, words=nn.Embedding(20, 4), places=nn.Embedding(6, 4), out=lin(4, 3))
    with torch.no_grad():
        net.out.weight.zero_()
    problem, theta = as_problem(net, entropy, *words)
    assert problem.rows(theta, *problem.examples).routes["places.weight"] == "torch.func"
    torch.manual_seed(3)
    trained = theta + torch.randn_like(theta)
    with torch.no_grad():
        nn.utils.vector_to_parameters(trained, net.parameters())
    rows = problem.rows(trained, *problem.examples)
    assert rows.routes["places.weight"] == "embedding"
    g = one_by_one(net, entropy, *words)
    torch.testing.assert_close(rows.gram(), g @ g.T)


# the forms of examples


def two_inputs():
    net = written(lambda s, a, b=None: s.out(torch.tanh(s.first(a) + s.second(b))))
    net.first, net.second, net.out = lin(8, 5), lin(4, 5), lin(5, 3)
    return net.double()


def test_inputs_by_name_and_targets_in_tuples_and_dictionaries(data):
    (x, y), net = data, two_inputs()
    other, numbers = torch.randn(N, 4, dtype=torch.float64), torch.randn(N, dtype=torch.float64)
    by_name = {"a": x, "b": other}
    check(net, entropy, by_name, y)
    check(net, lambda f, t: entropy(f, t[0]) + t[1] * f[:, 0], (x, other), (y, numbers))
    check(net, lambda f, t: entropy(f, t["y"]) + t["z"] * f[:, 0], by_name, {"y": y, "z": numbers})
    problem, theta = as_problem(net, entropy, by_name, y)
    expected = one_by_one(net, entropy, by_name, y)
    torch.testing.assert_close(problem.gradient(theta), expected.mean(0))
    torch.testing.assert_close(problem.subset([3]).gradient(theta), expected[3])


def batches(size=5):
    torch.manual_seed(0)
    x, b, y = torch.randn(N, 8).double(), torch.randn(N, 4).double(), torch.randint(3, (N,))
    rows = [
        {"a": x[i : i + size], "b": b[i : i + size], "labels": y[i : i + size]}
        for i in range(0, N, size)
    ]
    return rows, {"a": x, "b": b}, y


def test_batches_of_a_loader_are_gone_through_each_time(data):
    net, loader = mlp(), DataLoader(TensorDataset(*data), 5)
    expected = gradient_covariance(net, entropy, *data)
    c = gradient_covariance(net, entropy, loader, block=2)
    torch.testing.assert_close(c.eigenvalues(), expected.eigenvalues())
    torch.testing.assert_close(c.rows.squares(), expected.rows.squares())
    net, (rows, inputs, y) = two_inputs(), batches()
    c = gradient_covariance(net, entropy, rows, block=3)
    torch.testing.assert_close(c.trace(), gradient_covariance(net, entropy, inputs, y).trace())


def test_a_problem_of_batches_passes_over_them_in_blocks():
    net, (rows, inputs, y) = two_inputs(), batches()
    whole, theta = as_problem(net, entropy, inputs, y)
    problem, _ = as_problem(net, entropy, rows, block=5)
    vector = torch.randn_like(theta)
    for ask in ("value", "gradient", "example_losses"):
        torch.testing.assert_close(getattr(problem, ask)(theta), getattr(whole, ask)(theta))
    torch.testing.assert_close(problem.hvp(theta, vector), whole.hvp(theta, vector))
    with pytest.raises(ValueError, match="a block holds at least one example, not 0"):
        as_problem(net, entropy, rows, block=0)


def shuffled(data):
    return DataLoader(TensorDataset(*data), 5, shuffle=True)


BATCHES = {
    "shuffled": (shuffled, "another one than before"),
    "gone through once": (lambda data: iter([data]), "once only"),
    "no batch": (lambda data: [], "no batches"),
    "no labels": (lambda data: [{"a": data[0]}], "targets as 'labels'"),
    "no targets": (lambda data: [data[0]], "not Tensor"),
    "a number": (lambda data: 3, "not int"),
}


@pytest.mark.parametrize(("make", "message"), BATCHES.values(), ids=BATCHES)
def test_batches_that_cannot_be_used_are_refused(data, make, message):
    with pytest.raises(ValueError, match=message):
        gradient_covariance(mlp(), entropy, make(data), block=2).trace()


def test_batches_need_a_block(data):
    with pytest.raises(ValueError, match="needs block="):
        gradient_covariance(mlp(), entropy, [data])


WRONG = {
    "labels out of range": (
        lambda x, y: (mlp(), entropy, x, y + 2),
        "does not take outputs .* up to 4: Target",
    ),
    "complex parameters": (
        lambda x, y: (lin(8, 3, dtype=torch.complex64), entropy, x, y),
        "weight is torch.complex64, and gradient noise is of real parameters",
    ),
    "inputs by names that the network has not": (
        lambda x, y: (mlp(), entropy, {"z": x}, y),
        r"Sequential does not take inputs \(3, 8\) of float64: .* argument 'z'",
    ),
}


@pytest.mark.parametrize(("make", "message"), WRONG.values(), ids=WRONG)
def test_what_network_or_loss_refuse_is_one_sentence(data, make, message):
    net, loss, x, y = make(*data)
    with pytest.raises(ValueError, match=message) as caught:
        gradient_covariance(net, loss, x, y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("block", [None, 7])
def test_noise_beside_a_mean_gradient_that_is_ten_thousand_times_larger(block):
    """|g|^2 / Tr C is 1e8 and 1e10, in single precision."""
    torch.manual_seed(0)
    for apart in (1e-4, 1e-5):
        net = nn.Sequential(lin(6, 5), nn.Tanh(), lin(5, 1))
        x = 1 + apart * torch.randn(40, 6)
        y = torch.full((40,), 7.0)

        def loss(f, t):
            return 1000 * (f[:, 0] - t) ** 2

        wide = Written(lambda s, t: s.net(t), net=net).double()
        g = one_by_one(wide, loss, x.double(), y.double(), 40)
        centred = g - g.mean(0)
        values = torch.linalg.eigvalsh(centred @ centred.T / 40).flip(0)
        ratio = g.mean(0).square().sum() / values.sum()
        c = gradient_covariance(net.float(), loss, x, y, block=block)
        close = {"rtol": 0.02, "atol": 0.02 * float(values[0])}
        assert 1e7 < float(ratio) < 1e12
        torch.testing.assert_close(c.trace().double(), values.sum(), **close)
        torch.testing.assert_close(c.eigenvalues()[0].double(), values[0], **close)
        torch.testing.assert_close(c.top(1).values[0].double(), values[0], **close)
        diagonal = centred.square().mean(0)
        torch.testing.assert_close(
            c.diagonal().double(), diagonal, rtol=0, atol=0.02 * float(diagonal.max())
        )
        scale = noise.gradient_noise_scale(c.rows)
        expected = noise.gradient_noise_scale(g.numpy())
        assert float(scale.value) == pytest.approx(float(expected.value), rel=0.02)


def test_the_slow_route_is_warned_of(data):
    net = written(through_numpy, into=lin(8, 5), out=lin(5, 3, bias=False))
    with pytest.warns(FallbackWarning, match=r"out\.weight have no fast route"):
        gradient_covariance(net, entropy, *data)
