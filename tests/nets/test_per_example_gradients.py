"""Per-example gradients of networks, whatever their layers, against autograd one by one."""

import warnings
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import ZOO, N, Written, dense, entropy, lin, numbers, raw
from torch import nn

from sgdnoise.core import PerExampleGradients
from sgdnoise.nets import FallbackWarning, UnusedWarning, gradient_covariance, per_example_gradients
from sgdnoise.nets._per_example import _operator as HERE
from sgdnoise.noise import bernoulli

RANDOM = np.random.default_rng(0)
CLOSE = 1e-10  # of the largest entry: float64, and sums in another order
TOLD = {"torch.func": FallbackWarning, "unused": UnusedWarning}


def close(found, expected):
    return float((found - expected).abs().max()) <= CLOSE * float(expected.abs().max())


@contextmanager
def told(kinds):
    """Exactly those warnings that belong to these routes."""
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        yield
    ours = {
        w.category for w in recorded if issubclass(w.category, (FallbackWarning, UnusedWarning))
    }
    assert ours == {TOLD[kind] for kind in kinds if kind in TOLD}


@pytest.fixture(params=ZOO.items(), ids=lambda item: item[0])
def case(request):
    """A network, and its gradients one by one."""
    built = request.param[1]()
    return built, dense(built.net, built.losses, built.inputs, built.targets)


def test_all_is_as_of_the_gradients_one_by_one_and_by_the_route_expected(case):
    built, expected = case
    with told(built.routes.values()):
        rows = per_example_gradients(built.net, built.losses, built.inputs, built.targets, block=4)
    assert rows.routes == {name: built.routes.get(name, "linear") for name in rows.shapes}
    assert built.routes.keys() <= rows.shapes.keys()
    assert (rows.n, rows.p) == expected.shape
    v, w = numbers(rows.p, 2), numbers(rows.n, 2)
    for result, truth in zip(asked(rows, v, w), answered(expected, v, w), strict=True):
        assert result.shape == truth.shape
        assert close(result, truth)


def test_each_part_has_its_own_columns(case):
    built, expected = case
    with told(built.routes.values()):
        rows = per_example_gradients(built.net, built.losses, built.inputs, built.targets)
    sizes = [shape.numel() for shape in rows.shapes.values()]
    pieces = rows.by_parameter()
    assert list(pieces) == list(rows.shapes) == [n for n, p in named(built.net) if p.requires_grad]
    for piece, columns in zip(pieces.values(), expected.split(sizes, dim=1), strict=True):
        v, w = numbers(piece.p), numbers(piece.n)
        result = piece.project(v), piece.combine(w), piece.squares(), piece.column_squares()
        truth = columns @ v, columns.T @ w, (columns**2).sum(1), (columns**2).sum(0)
        for first, second in zip(result, truth, strict=True):
            assert close(first, second)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_a_convolution_that_torch_pads_on_one_side_goes_the_slow_way():
    net = nn.Sequential(nn.Conv1d(4, 2, 4, padding="same"), nn.Flatten(), lin(12, 3)).double()
    x, y = numbers(N, 4, 6), torch.arange(N) % 3
    with told(["torch.func"]):
        rows = per_example_gradients(net, entropy, x, y)
    assert rows.routes["0.weight"] == rows.routes["0.bias"] == "torch.func"
    g = dense(net, entropy, x, y)
    assert close(rows.gram(), g @ g.T)


def named(net):
    return list(net.named_parameters())


def asked(rows, v, w):
    """All that rows can be asked for."""
    result = [rows.project(v), rows.project(v[:, 0]), rows.combine(w), rows.combine(w[:, 1])]
    result += [rows.normal(v, w[0]), rows.normal(v[:, 1], w[1, 1])]
    return [*result, rows.squares(), rows.column_squares(), rows.gram(), rows.ones()]


def answered(g, v, w):
    """The same of a matrix (n, p)."""
    result = [g @ v, g @ v[:, 0], g.T @ w, g.T @ w[:, 1]]
    result += [g.T @ (g @ v - w[0]), g.T @ (g @ v[:, 1] - w[1, 1])]
    return [*result, (g**2).sum(1), (g**2).sum(0), g @ g.T, torch.ones(len(g)).double()]


def classifier(n=12):
    """A small network of named modules, its losses, inputs and classes."""
    torch.manual_seed(0)
    pieces = {"body": nn.Sequential(lin(4, 5), nn.LayerNorm(5)), "head": lin(5, 3)}
    net = Written(lambda s, x: s.head(torch.tanh(s.body(x))), **pieces).double()
    return net, entropy, numbers(n, 4), torch.arange(n) % 3


def test_gradients_are_rows():
    assert isinstance(per_example_gradients(*classifier()), PerExampleGradients)


MANY = 1 << 30
HELD = [(1, MANY, None), (3, MANY, None), (512, 1, None), (512, MANY, 1), (512, 1, 3), (1, 1, 9)]
BLOCKED = ["linear layers", "attention to itself", "a convolution with many weights"]
BLOCKED += ["words looked up twice", "weight norm", "places added", "a residual network"]


@pytest.mark.parametrize("name", BLOCKED)
@pytest.mark.filterwarnings("ignore::sgdnoise.nets._per_example._plan.FallbackWarning")
def test_the_answers_do_not_depend_on_how_the_examples_are_blocked_or_held(name, monkeypatch):
    """By 1 or 3 examples, of which 7 are no multiple, or all at once; kept or made anew."""
    built = ZOO[name]()
    four = built.net, built.losses, built.inputs, built.targets
    full = per_example_gradients(*four)
    v, w = numbers(full.p, 3), numbers(full.n, 3)
    expected = asked(full, v, w)
    for at_once, recorded, block in HELD:
        monkeypatch.setattr(HERE, "MAX_EXAMPLES", at_once)
        monkeypatch.setattr(HERE, "MAX_LAYER_NUMBERS", recorded)
        rows = per_example_gradients(*four, block=block)
        assert max(piece.n for piece in rows.blocks()) == min(block or min(at_once, recorded), N)
        for first, second in zip(asked(rows, v, w), expected, strict=True):
            assert close(first, second)


def test_fewer_examples_go_into_a_pass_where_layers_see_more_of_each(monkeypatch):
    """4 + 6, 6 + 5 and 5 + 3 numbers go into its layers and out of them: 29, of 100 thrice."""
    built = ZOO["linear layers"]()
    monkeypatch.setattr(HERE, "MAX_LAYER_NUMBERS", 100)
    rows = per_example_gradients(built.net, built.losses, built.inputs, built.targets)
    assert [piece.n for piece in rows.blocks()] == [3, 3, 1]


def test_several_vectors_cost_no_more_passes_than_one():
    net, losses, x, y = classifier()
    rows = per_example_gradients(net, losses, x, y, block=5)
    passes, blocks = [], rows.blocks
    rows = replace(rows, blocks=lambda: passes.append(1) or blocks())
    v, w = numbers(rows.p, 4), numbers(rows.n, 4)
    rows.project(v), rows.combine(w), rows.normal(v, w[0])
    assert len(passes) == 3


def test_more_examples_than_go_into_one_pass_or_one_tile(monkeypatch):
    """256 both, so that 300 take two of each and the second is not full."""
    monkeypatch.setattr(HERE, "MAX_EXAMPLES", 256)
    net, losses, x, y = classifier(300)
    rows, expected = per_example_gradients(net, losses, x, y), dense(net, losses, x, y)
    v, w = numbers(rows.p, 2), numbers(300, 2)
    for result, truth in zip(asked(rows, v, w), answered(expected, v, w), strict=True):
        assert close(result, truth)


def test_single_precision_is_as_good_as_it_can_be():
    """1e-5 is some rounding errors of 6e-8 each, added up over layers and examples."""
    net, losses, x, y = classifier()
    expected = dense(net, losses, x, y)
    rows = per_example_gradients(net.float(), losses, x.float(), y)
    v, w = numbers(rows.p, 2), numbers(rows.n, 2)
    pairs = zip(asked(rows, v.float(), w.float()), answered(expected, v, w), strict=True)
    assert all((first - second).abs().max() <= 1e-5 * second.abs().max() for first, second in pairs)
    assert rows.squares().dtype == torch.float64
    assert rows.gram().dtype == torch.float32


def test_a_part_has_all_below_the_name_of_a_module_and_nothing_that_only_begins_so():
    net, losses, x, y = classifier()
    net.head2, forward = lin(3, 3).double(), net.run
    net.run = lambda s, x: s.head2(forward(s, x))
    rows = per_example_gradients(net, losses, x, y)
    assert list(rows.layer("body").shapes) == [n for n, _ in named(net) if n.startswith("body.")]
    assert list(rows.layer("body.1").shapes) == ["body.1.weight", "body.1.bias"]
    assert list(rows.layer("head").shapes) == ["head.weight", "head.bias"]
    assert rows.layer("head.bias").routes == {"head.bias": "linear"}
    direct = dense(net, losses, x, y)[:, rows.p - 12 - 18 : rows.p - 12]
    assert close(
        gradient_covariance(net, losses, x, y).layer("head").diagonal(), direct.var(0, False)
    )


def test_backpack_finds_the_same():
    backpack = pytest.importorskip("backpack")
    extensions = pytest.importorskip("backpack.extensions")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), lin(12, 3)).double()
    x, y = numbers(N, 2, 3, 3), torch.arange(N) % 3
    rows = per_example_gradients(net, entropy, x, y)
    backpack.extend(net)
    x.requires_grad_()  # or its hooks warn that nothing comes before them
    loss = backpack.extend(nn.CrossEntropyLoss(reduction="sum"))
    with backpack.backpack(extensions.BatchGrad()):
        loss(net(x), y).backward()
    theirs = torch.cat([p.grad_batch.flatten(1) for p in net.parameters()], 1)
    assert close(rows.combine(torch.eye(N).double()).T, theirs)


def test_curvlinops_finds_the_same():
    """Its empirical Fisher matrix is the mean of g g^T, before the mean is taken out."""
    curvlinops = pytest.importorskip("curvlinops")
    net, losses, x, y = classifier()
    c = gradient_covariance(net, losses, x, y)
    data = [(x[:5], y[:5]), (x[5:], y[5:])]
    theirs = curvlinops.EFLinearOperator(net, nn.CrossEntropyLoss(), [*net.parameters()], data)
    eye = torch.eye(c.rows.p).double()
    assert close(c @ eye, theirs @ eye - torch.outer(c.mean, c.mean))


# what a call leaves alone


def observed(net, x):
    """All of a network that a user may look at."""
    values = [t.clone() for t in (*net.parameters(), *net.buffers(), x)]
    return values, [m.training for m in net.modules()], torch.get_rng_state()


def test_a_call_leaves_the_network_its_gradients_its_examples_and_the_generator_alone():
    built = ZOO["a residual network"]()
    net, losses, x, y = built.net, built.losses, built.inputs, built.targets
    net.gain.grad = torch.ones(1).double()
    net.first.train()
    before, modes, state = observed(net, x)
    c = gradient_covariance(net, losses, x, y, block=2)
    c.trace(), c.top(2), c @ c.mean, c.draw(rng=0)
    after, modes_after, state_after = observed(net, x)
    assert all(map(torch.equal, before, after))
    assert modes == modes_after
    assert torch.equal(state, state_after)
    assert net.gain.grad == 1
    assert net.first.weight.grad is None
    assert all(p.requires_grad and p.is_leaf for p in net.parameters())


@pytest.mark.parametrize("block", [None, 3])
def test_later_training_changes_no_covariance_made_before(block):
    """Neither its steps, nor the mode it needs, nor the running means it leaves behind."""
    torch.manual_seed(0)
    net = nn.Sequential(lin(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), lin(5, 3)).double()
    x, y = numbers(N, 4), torch.arange(N) % 3
    net(x)
    rows = per_example_gradients(net.eval(), entropy, x, y, block=block)
    before = rows.squares(), rows.combine(rows.ones())
    optimizer = torch.optim.SGD(net.parameters(), 0.5, momentum=0.9)
    net.train()
    for _ in range(3):
        optimizer.zero_grad()
        entropy(net(x), y).mean().backward()
        optimizer.step()
    assert all(map(torch.equal, before, (rows.squares(), rows.combine(rows.ones()))))
    assert net.training
    assert net[1].training


def test_the_order_of_examples_changes_the_order_and_nothing_else():
    net, losses, x, y = classifier()
    order = torch.randperm(len(x))
    rows, turned = (
        per_example_gradients(net, losses, x, y),
        per_example_gradients(net, losses, x[order], y[order]),
    )
    assert close(turned.gram(), rows.gram()[order][:, order])


# what is refused


def asking(net, x=None, y=None, losses=entropy, **how):
    x = numbers(N, 4) if x is None else x
    y = torch.arange(N) % 3 if y is None else y
    return per_example_gradients(net, losses, x, y, **how)


def plain():
    torch.manual_seed(0)
    return nn.Sequential(lin(4, 5), nn.Tanh(), lin(5, 3)).double()


def rooted(row):
    """A layer whose gradient is infinite in one example, at the root of zero."""
    net = Written(lambda s, x: s.out((x * s.scale).abs().sqrt()), scale=raw(4), out=lin(4, 3))
    x = numbers(N, 4)
    x[row] = 0
    net.scale.data.fill_(1.0)
    return net.double(), x


def written(forward, **parts):
    return Written(forward, net=plain(), **parts).double()


def without_gradient(outputs, targets):
    with torch.no_grad():
        return entropy(outputs, targets)


def poisoned(row):
    x = numbers(N, 4)
    x[row, 1] = torch.nan
    return x


def doubled_in_place(s, x):
    return s.net(x.mul_(2))


def picky(s, x):
    """Goes through a layer twice where numbers are large."""
    h = s.net[0](x)
    return s.net[2](h if x.abs().max() < 9 else s.net[0](h[:, :4]))


WRONG = {
    "a mean loss": (lambda: asking(plain(), losses=F.cross_entropy), r"\(3,\), not \(\); .*none"),
    "a loss of each output": (lambda: asking(plain(), losses=lambda f, y: f), r"not \(3, 3\)"),
    "a loss of each class": (
        lambda: asking(plain(), losses=lambda f, y: f.sum(0)),
        "others in its",
    ),
    "a share of a mean loss": (
        lambda: asking(plain(), losses=lambda f, y: entropy(f, y) / len(y)),
        "others in its batch",
    ),
    "an early loss that is not finite": (lambda: asking(plain(), poisoned(1)), "example 1 is not"),
    "a loss that is not finite": (lambda: asking(plain(), poisoned(5)), "loss of example 5 is not"),
    "an early gradient that is not finite": (
        lambda: asking(*rooted(2)),
        "gradient of example 2 in scale is not finite",
    ),
    "a gradient that is not finite": (
        lambda: asking(*rooted(6)),
        "gradient of example 6 in scale is not finite",
    ),
    "one example": (lambda: asking(plain(), numbers(1, 4), torch.zeros(1)), "2 examples, not 1"),
    "no example": (lambda: asking(plain(), numbers(0, 4), torch.zeros(0)), "2 examples, not 0"),
    "a batch above n": (
        lambda: gradient_covariance(*classifier(5), batch_size=6, replacement=False),
        "6 .* 5",
    ),
    "no batch": (lambda: gradient_covariance(*classifier(5), batch_size=0), "not 0"),
    "a law of others": (
        lambda: gradient_covariance(*classifier(5), law=bernoulli(6, 2)),
        "6 examples .* 5",
    ),
    "dropout": (
        lambda: asking(nn.Sequential(plain(), nn.Dropout(0.1)).train()),
        r"random numbers: 1 \(Dropout\) is in training",
    ),
    "dropout by a function": (
        lambda: asking(written(lambda s, x: s.net(F.dropout(x, 0.01)))),
        "draws random numbers",
    ),
    "dropout inside attention": (
        lambda: asking(
            Written(
                lambda s, x: s.a(x, x, x)[0][:, 0], a=nn.MultiheadAttention(4, 2, 0.1)
            ).double(),
            numbers(N, 5, 4),
        ),
        "draws random numbers",
    ),
    "noise of its own": (
        lambda: asking(written(lambda s, x: s.net(x * RANDOM.normal()))),
        "one call to the next",
    ),
    "batch norm in training": (
        lambda: asking(nn.Sequential(lin(4, 3), nn.BatchNorm1d(3)).double()),
        r"1 \(BatchNorm1d\)",
    ),
    "batch norm without a memory": (
        lambda: asking(
            nn.Sequential(lin(4, 3), nn.BatchNorm1d(3, track_running_stats=False)).double().eval()
        ),
        r"others in its batch: 1 \(BatchNorm1d\) has no running statistics",
    ),
    "a mean of the batch taken off": (
        lambda: asking(written(lambda s, x: s.net(x - x.mean(0)))),
        "others in its batch",
    ),
    "attention among examples": (
        lambda: asking(written(lambda s, x: s.net((x @ x.T).softmax(1) @ x))),
        "others in its batch",
    ),
    "nothing to train": (lambda: asking(plain().requires_grad_(False)), "Sequential has no param"),
    "no parameters": (lambda: asking(nn.Tanh()), "Tanh has no parameters"),
    "lengths that differ": (lambda: asking(plain(), y=torch.zeros(5)), r"\[5, 7\]"),
    "inputs of lengths that differ": (
        lambda: asking(plain(), (numbers(N, 4), numbers(6, 4))),
        r"\[6, 7\]",
    ),
    "a block of none": (lambda: asking(plain(), block=0), "not 0"),
    "a negative block": (lambda: asking(plain(), block=-3), "not -3"),
    "arrays of numpy": (lambda: asking(plain(), np.ones((N, 4))), "ndarray"),
    "a list of inputs": (lambda: asking(plain(), [numbers(N, 4)]), "list"),
    "no targets": (
        lambda: per_example_gradients(plain(), entropy, numbers(N, 4), None),
        "NoneType",
    ),
    "a lone number": (lambda: asking(plain(), torch.ones(())), "a number"),
    "half precision": (lambda: asking(plain().half(), numbers(N, 4).half()), "0.weight .*float16"),
    "brain floats": (lambda: asking(plain().bfloat16()), "0.weight .*bfloat16"),
    "parameters of two types": (
        lambda: asking(nn.Sequential(lin(4, 3), lin(3, 3).double())),
        "0.weight .*32 .*1.weight .*64",
    ),
    "examples elsewhere": (lambda: asking(plain(), numbers(N, 4).to("meta")), "cpu, .* on meta"),
    "targets elsewhere": (lambda: asking(plain(), y=torch.zeros(N, device="meta")), "on meta"),
    "a loss without gradient": (lambda: asking(plain(), losses=without_gradient), "no_grad"),
    "a network without gradient": (
        lambda: asking(written(lambda s, x: s.net(x).detach())),
        "no gradient",
    ),
    "inputs changed in place": (lambda: asking(written(doubled_in_place)), "in place"),
    "a path that depends on the batch": (
        lambda: asking(written(picky), torch.arange(28.0).double().view(N, 4) / 2),
        "others in its batch",
    ),
    "an unknown layer": (
        lambda: gradient_covariance(*classifier()).layer("tail"),
        "'tail'.* body.0.weight, .*3 more",
    ),
}


@pytest.mark.filterwarnings("ignore::sgdnoise.nets._per_example._plan.FallbackWarning")
@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_it_is_refused_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert 20 <= len(str(caught.value)) <= 200
    assert "\n" not in str(caught.value)
    assert ". " not in str(caught.value)
    assert not str(caught.value).endswith(".")


def test_integers_for_a_layer_of_numbers_are_refused_with_the_reason_of_torch():
    with pytest.raises(ValueError, match=r"take inputs \(3, 4\) of int64 up to 1: .*same dtype"):
        asking(plain(), torch.ones(N, 4, dtype=int))


def test_a_network_in_training_that_is_the_same_every_time_is_fine():
    net, x = nn.Sequential(plain(), nn.Dropout(0.0)).train(), numbers(N, 4)
    assert close(asking(net, x).squares(), asking(net.eval(), x).squares())


def test_it_works_where_gradients_are_off():
    net, losses, x, y = classifier()
    expected = per_example_gradients(net, losses, x, y).squares()
    with torch.no_grad():
        assert torch.equal(per_example_gradients(net, losses, x, y).squares(), expected)


def test_a_warning_names_a_few_parameters_and_counts_the_rest():
    net = Written(lambda s, x: s.net(x), net=plain(), more=nn.ModuleList(lin(2, 2) for _ in "abc"))
    with pytest.warns(
        UnusedWarning, match=r"more\.1\.weight and 3 more have no part in the losses"
    ):
        rows = asking(net.double())
    assert not rows.layer("more").squares().any()
    assert not rows.layer("more").column_squares().any()
    assert rows.layer("more").gram().shape == (N, N)
