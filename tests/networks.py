"""Small networks, one for each way in which a parameter is used, and their dense gradients."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from sgdnoise.nets.models import vgg, vision_transformer

N = 7  # examples
ZOO = {}


class Case(NamedTuple):
    """A network, how it is judged, its examples, and the routes of what is not "linear"."""

    net: Any
    inputs: Any
    routes: dict
    losses: Any
    targets: Any


def case(net, inputs, losses=None, targets=None, **routes):
    """All in double precision; three classes unless told.  A route: `a__b="sum"` for a.b."""
    targets = torch.arange(N) % 3 if targets is None else targets
    routes = {name.replace("__", "."): kind for name, kind in routes.items()}
    return Case(net.double(), inputs, routes, losses or entropy, targets)


def network(make):
    """Enter in ZOO what makes a case, by a seed of its own."""

    def seeded():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return make()

    ZOO[make.__name__.replace("_", " ")] = seeded
    return seeded


class Written(nn.Module):
    """A network whose forward pass is a function of itself and its inputs."""

    def __init__(self, forward, **parts):
        super().__init__()
        for name, piece in parts.items():
            setattr(self, name, piece)
        self.run = forward

    def forward(self, *inputs, **named):
        return self.run(self, *inputs, **named)


def dense(net, losses, inputs, targets):
    """Gradients (n, p), example by example, by autograd in .grad of a copy."""
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    named = {n: p.detach().clone().requires_grad_(p.requires_grad) for n, p in _all(net).items()}
    rows = []
    for i in range(len(targets)):
        outputs = torch.func.functional_call(
            net, named, tuple(x[i : i + 1].clone() for x in inputs)
        )
        wanted = [p for p in named.values() if p.requires_grad]
        loss = losses(outputs, targets[i : i + 1]).sum()
        result = torch.autograd.grad(loss, wanted, allow_unused=True)
        pairs = zip(result, wanted, strict=True)
        rows.append(torch.cat([(p * 0 if g is None else g).flatten() for g, p in pairs]).detach())
    return torch.stack(rows)


def _all(net):
    return dict(net.named_parameters())


def numbers(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def words(*shape, of=6):
    return torch.randint(of, shape)


def raw(*shape):
    return nn.Parameter(numbers(shape))


def shaken(part):
    """With weights and biases that are not 0 or 1, and running means that have run."""
    with torch.no_grad():
        for tensor in part.parameters():
            tensor.add_(0.3 * torch.randn_like(tensor))
        for tensor in part.buffers():
            if tensor.is_floating_point():
                tensor.add_(0.5 * torch.rand_like(tensor))
    return part.eval()


def entropy(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")


def squared(outputs, targets):
    return ((outputs - targets) ** 2).flatten(1).sum(1)


def entropies(outputs, targets):
    """Of each word."""
    return F.cross_entropy(outputs.mT, targets, reduction="none").mean(1)


def lin(*sizes, **how):
    return nn.Linear(*sizes, **how)


def attention(**how):
    return nn.MultiheadAttention(4, 2, **{"batch_first": True, **how})


def image(layer, *more, size=(6, 5), **routes):
    """A layer, perhaps more, on images of 4 channels, and a head."""
    body = nn.Sequential(layer, *more, nn.Tanh(), nn.Flatten())
    left = body(torch.zeros(1, 4, *size)).shape[1]
    net = Written(lambda s, x: s.out(s.body(x)), body=body, out=lin(left, 3))
    return case(net, numbers(N, 4, *size), **routes)


CONV = {"body__0__weight": "convolution", "body__0__bias": "convolution"}


@network
def linear_layers():
    net = nn.Sequential(lin(4, 6), nn.Tanh(), lin(6, 5, bias=False), nn.Tanh(), lin(5, 3))
    return case(net, numbers(N, 4))


@network
def numbers_alone():
    """Inputs (n,), targets (n,)."""
    net = Written(lambda s, x: s.b(torch.tanh(s.a(x[:, None])))[:, 0], a=lin(1, 4), b=lin(4, 1))
    return case(net, numbers(N), lambda f, y: (f - y) ** 2, numbers(N))


@network
def two_examples():
    return case(nn.Sequential(lin(4, 3)), numbers(2, 4), targets=torch.tensor([2, 0]))


@network
def examples_of_which_two_are_the_same():
    return case(nn.Sequential(lin(4, 3)), numbers(4, 4)[[0, 0, 1, 2, 3, 3, 1]])


def positions(*shape):
    net = Written(lambda s, x: s.b(torch.tanh(s.a(x)).cumsum(1)[:, 1]), a=lin(4, 3), b=lin(3, 3))
    return case(net, numbers(N, *shape, 4))


@network
def many_positions():
    return positions(9)


@network
def as_many_positions_as_examples():
    return positions(N)


@network
def three_positions():
    return positions(3)


@network
def more_positions_than_weights():
    net = Written(lambda s, x: s.b(torch.tanh(s.a(x)).mean((1, 2))), a=lin(4, 3), b=lin(3, 3))
    return case(net, numbers(N, 5, 8, 4))


@network
def time_first():
    def run(s, x):
        return s.b(torch.tanh(s.a(x.transpose(0, 1))).cumsum(0)[1])

    return case(Written(run, a=lin(4, 3), b=lin(3, 3)), numbers(N, 3, 4))


@network
def examples_in_the_middle():
    def run(s, x):
        return s.b(torch.tanh(s.a(x.permute(1, 2, 0, 3))).sum((0, 1)))

    return case(Written(run, a=lin(4, 3), b=lin(3, 3)), numbers(N, 2, 3, 4))


@network
def time_and_examples_in_one():
    def run(s, x):
        n, length, _ = x.shape
        h = torch.tanh(s.a(x.transpose(0, 1).reshape(length * n, -1)))
        return s.b(h.view(length, n, -1).cumsum(0)[1])

    return case(Written(run, a=lin(4, 3), b=lin(3, 3)), numbers(N, 3, 4))


@network
def examples_and_time_in_one():
    def run(s, x):
        return s.b(torch.tanh(s.a(x.flatten(0, 1))).unflatten(0, x.shape[:2]).cumsum(1)[:, 1])

    return case(Written(run, a=lin(4, 3), b=lin(3, 3)), numbers(N, 3, 4))


@network
def frames_of_a_film():
    """Each goes through a convolution as if it were an example."""

    def run(s, x):
        h = torch.tanh(s.norm(s.look(x.flatten(0, 1)))).flatten(1)
        return s.out(h).unflatten(0, x.shape[:2]).cumsum(1)[:, 1]

    pieces = {"look": nn.Conv2d(2, 4, 2), "norm": shaken(nn.GroupNorm(2, 4)), "out": lin(8, 3)}
    kinds = dict.fromkeys(("look__weight", "look__bias"), "convolution")
    kinds |= dict.fromkeys(("norm__weight", "norm__bias"), "group norm")
    return case(Written(run, **pieces), numbers(N, 4, 2, 3, 2), **kinds)


@network
def attention_to_itself():
    net = Written(lambda s, x: s.out(s.own(x, x, x)[0].mean(1)), own=attention(), out=lin(4, 3))
    return case(net, numbers(N, 5, 4))


def crossed(time, *sizes, **how):
    def run(s, x, y):
        return s.out(s.cross(x, y, y, need_weights=False)[0].mean(time))

    return case(Written(run, cross=attention(**how), out=lin(4, 3)), sizes)


@network
def attention_to_others():
    def run(s, x, y):
        return s.out(s.cross(x, y, torch.tanh(y))[0].mean(1))

    net = Written(run, cross=attention(), out=lin(4, 3))
    return case(net, (numbers(N, 5, 4), numbers(N, 2, 4)))


@network
def attention_to_keys_that_are_values():
    return crossed(1, numbers(N, 5, 4), numbers(N, 2, 4))


@network
def attention_with_time_first():
    def run(s, x, y):
        x, y = x.transpose(0, 1), y.transpose(0, 1)
        return s.out(s.cross(x, y, y)[0].mean(0))

    net = Written(run, cross=attention(batch_first=False, bias=False), out=lin(4, 3))
    return case(net, (numbers(N, 5, 4), numbers(N, 2, 4)))


@network
def attention_with_projections_of_other_widths():
    return crossed(1, numbers(N, 5, 4), numbers(N, 2, 3), kdim=3, vdim=3)


@network
def attention_to_itself_and_to_others_by_the_same_module():
    def run(s, x):
        first, two = torch.tanh(x), 2 * x.flip(1)
        return s.out((s.both(x, x, x)[0] + s.both(x, first, two)[0]).mean(1))

    slow = dict.fromkeys(("both__in_proj_weight", "both__in_proj_bias"), "torch.func")
    return case(Written(run, both=attention(), out=lin(4, 3)), numbers(N, 5, 4), **slow)


@network
def overlapping_rows_of_a_weight():
    def run(s, x):
        return torch.cat([F.linear(x, s.w[:3]), F.linear(torch.tanh(x), s.w[2:])], 1)

    return case(Written(run, w=raw(5, 4)), numbers(N, 4), w="torch.func")


@network
def rows_of_a_weight_that_share_nothing():
    def run(s, x):
        return torch.cat([F.linear(x, s.w[:3]), F.linear(torch.tanh(x), s.w[3:])], 1)

    return case(Written(run, w=raw(5, 4)), numbers(N, 4))


@network
def a_transformer_layer():
    layer = shaken(nn.TransformerEncoderLayer(4, 2, 5, 0.0, batch_first=True))
    net = Written(lambda s, x: s.out(s.layer(x)[:, 0]), layer=layer, out=lin(4, 3))
    norms = dict.fromkeys([f"layer__norm{i}__{w}" for i in "12" for w in ("weight", "bias")])
    return case(net, numbers(N, 5, 4), **dict.fromkeys(norms, "layer norm"))


@network
def a_convolution_of_a_sequence():
    return image(nn.Conv1d(4, 3, 3, stride=2, padding=1), size=(9,), **CONV)


@network
def a_convolution_with_few_weights():
    return image(nn.Conv2d(4, 2, 2), **CONV)


@network
def a_convolution_with_many_weights():
    return image(nn.Conv2d(4, 20, 3, stride=2, dilation=(2, 1), padding=(2, 1)), **CONV)


@network
def a_convolution_in_groups():
    return image(nn.Conv2d(4, 6, 3, groups=2), **CONV)


@network
def a_convolution_of_a_sequence_in_groups_with_many_weights():
    return image(nn.Conv1d(4, 40, 5, groups=2, stride=3), size=(8,), **CONV)


@network
def a_depthwise_convolution():
    return image(nn.Conv2d(4, 4, 3, groups=4, bias=False), body__0__weight="convolution")


@network
def a_convolution_that_keeps_the_size():
    return image(nn.Conv2d(4, 3, 3, padding="same", dilation=2), **CONV)


@network
def a_convolution_around_the_edge():
    return image(nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"), **CONV)


@network
def a_convolution_in_space():
    layer = nn.Conv3d(2, 3, 2)
    net = nn.Sequential(layer, nn.Tanh(), nn.Flatten(), lin(6, 3))
    kinds = {"0__weight": "convolution", "0__bias": "convolution"}
    return case(net, numbers(N, 2, 2, 3, 2), **kinds)


@network
def a_convolution_used_twice():
    layer = nn.Conv2d(4, 4, 3, padding=1)
    return image(layer, nn.Tanh(), layer, **CONV)


@network
def a_convolution_in_groups_used_twice():
    layer = nn.Conv2d(4, 4, 3, padding=1, groups=2)
    return image(layer, nn.Tanh(), layer, **CONV)


@network
def an_embedding_with_a_word_that_means_nothing():
    net = Written(
        lambda s, x: s.out(torch.tanh(s.words(x)).mean(1)),
        words=nn.Embedding(6, 4, padding_idx=0),
        out=lin(4, 3),
    )
    return case(net, words(N, 5), words__weight="embedding")


@network
def an_embedding_of_one_word():
    net = Written(
        lambda s, x: s.out(torch.tanh(s.words(x))), words=nn.Embedding(6, 4), out=lin(4, 3)
    )
    return case(net, words(N), words__weight="embedding")


def placed(run, kind, **pieces):
    pieces |= {"words": nn.Embedding(6, 4), "out": lin(4, 3)}
    return case(Written(run, **pieces), words(N, 5), words__weight="embedding", **kind)


@network
def places_looked_up():
    def run(s, x):
        return s.out(torch.tanh(s.words(x) + s.places(torch.arange(x.shape[1]))).sum(1))

    return placed(run, {"places__weight": "embedding"}, places=nn.Embedding(5, 4))


@network
def places_looked_up_with_an_axis_for_examples():
    def run(s, x):
        return s.out(torch.tanh(s.words(x) + s.places(torch.arange(x.shape[1])[None])).sum(1))

    return placed(run, {"places__weight": "embedding"}, places=nn.Embedding(5, 4))


@network
def places_looked_up_by_each_example():
    def run(s, x):
        return s.out(torch.tanh(s.words(x) + s.places(torch.arange(5).expand_as(x))).sum(1))

    return placed(run, {"places__weight": "embedding"}, places=nn.Embedding(5, 4))


@network
def places_looked_up_after_a_head_that_nobody_asks_for():
    def run(s, x):
        s.head(s.words(x))
        return s.out(torch.tanh(s.words(x) + s.places(torch.arange(x.shape[1]))).sum(1))

    unused = {"head__weight": "unused", "head__bias": "unused"}
    pieces = {"places": nn.Embedding(5, 4), "head": lin(4, 2)}
    return placed(run, {"places__weight": "embedding", **unused}, **pieces)


@network
def places_that_go_through_a_layer():
    def run(s, x):
        return s.out(torch.tanh(s.words(x) + s.mix(s.places(torch.arange(5)))).sum(1))

    pieces = {"places": nn.Embedding(5, 4), "mix": lin(4, 4)}
    return placed(run, {"places__weight": "embedding"}, **pieces)


@network
def places_added():
    def run(s, x):
        return s.out(torch.tanh(s.words(x) + s.places).sum(1))

    return placed(run, {"places": "sum"}, places=raw(5, 4))


@network
def places_added_with_an_axis_for_examples():
    def run(s, x):
        return s.out(torch.tanh(s.places + s.words(x)).sum(1))

    return placed(run, {"places": "sum"}, places=raw(1, 5, 4))


@network
def a_token_of_its_own():
    def run(s, x):
        h = torch.cat([s.token.expand(len(x), -1, -1), s.words(x)], 1)
        return s.out(torch.tanh(h.cumsum(1)).sum(1))

    return placed(run, {"token": "copies"}, token=raw(1, 1, 4))


@network
def a_category_that_two_examples_share():
    """The first examples that differ at all are of the same one of two kinds."""

    def run(s, x, kind):
        return s.out(torch.tanh(s.into(x) + s.kind(kind)))

    net = Written(run, into=lin(4, 4), kind=nn.Embedding(2, 4), out=lin(4, 3))
    kinds = torch.tensor([0, 0, 0, 1, 0, 1, 1])
    return case(net, (numbers(N, 4), kinds), kind__weight="embedding")


def normal(layer, kind, *shape):
    net = Written(lambda s, x: s.out(torch.tanh(s.norm(x)).flatten(1)), norm=shaken(layer))
    net.out = lin(numbers(*shape).numel(), 3)
    return case(net, 2 * numbers(N, *shape) + 1, norm__weight=kind, norm__bias=kind)


@network
def layer_norm():
    return normal(nn.LayerNorm(4), "layer norm", 4)


@network
def layer_norm_of_two_axes():
    return normal(nn.LayerNorm((3, 4), eps=0.1), "layer norm", 2, 3, 4)


@network
def group_norm():
    return normal(nn.GroupNorm(2, 4, eps=0.1), "group norm", 4, 3)


@network
def batch_norm_of_numbers():
    return normal(nn.BatchNorm1d(4, eps=0.1), "batch norm", 4)


@network
def batch_norm_of_images():
    return normal(nn.BatchNorm2d(4), "batch norm", 4, 2, 3)


@network
def root_mean_square_norm():
    result = normal(nn.Sequential(nn.RMSNorm(4, eps=0.1), nn.Tanh()), "", 5, 4)
    return result._replace(routes={"norm.0.weight": "rms norm"})


@network
def root_mean_square_norm_by_hand():
    def run(s, x):
        return s.out((s.scale * x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()).sum(1))

    return case(Written(run, scale=raw(4), out=lin(4, 3)), numbers(N, 5, 4), scale="product")


@network
def raw_parameters():
    """A gain for all, a scale and a shift of channels, and a weight from the right."""

    def run(s, x):
        h = torch.tanh(x * s.gain * s.scale + s.shift)
        return (h @ s.many).sum(1) + h[:, 0] @ s.once

    pieces = {"gain": raw(), "scale": raw(5, 1), "shift": raw(1, 4)}
    kinds = {"gain": "product", "scale": "product", "shift": "sum"}
    pieces |= {"many": raw(4, 3), "once": raw(4, 3)}
    net = Written(run, **pieces)
    return case(net, numbers(N, 5, 4), **kinds, many="matrix", once="matrix")


@network
def a_gain_without_its_axis():
    def run(s, x):
        return s.out(x * s.gain.squeeze())

    return case(Written(run, gain=raw(), out=lin(4, 3)), numbers(N, 4), gain="product")


@network
def a_weight_used_by_a_layer_and_in_a_way_of_its_own():
    def run(s, x):
        return s.b(torch.tanh(s.a(x)) + s.a.weight.square().sum(1))

    net = Written(run, a=lin(4, 5), b=lin(5, 3))
    return case(net, numbers(N, 4))


@network
def a_weight_used_twice():
    def run(s, x):
        return s.b(torch.tanh(s.a(torch.tanh(s.a(x)))))

    return case(Written(run, a=lin(4, 4), b=lin(4, 3)), numbers(N, 4))


@network
def a_weight_used_twice_at_many_positions():
    def run(s, x):
        return s.b(torch.tanh(s.a(torch.tanh(s.a(x)))).sum(1) + s.a(x[:, 0]))

    return case(Written(run, a=lin(4, 4), b=lin(4, 3)), numbers(N, 2, 4))


@network
def a_weight_used_as_it_is_and_transposed():
    def run(s, x):
        return s.b(torch.tanh(torch.tanh(s.a(x)) @ s.a.weight))

    return case(Written(run, a=lin(4, 5, bias=False), b=lin(4, 3)), numbers(N, 4))


@network
def a_weight_transposed():
    def run(s, x):
        return s.b(torch.tanh(F.linear(torch.tanh(x @ s.a.T), s.many.T)).sum(1))

    net = Written(run, a=raw(5, 4), many=raw(5, 4), b=lin(4, 3))
    return case(net, numbers(N, 2, 4), many="matrix")


@network
def a_weight_by_which_all_is_multiplied_and_which_is_added():
    def run(s, x):
        h = torch.tanh(x @ s.w)
        return s.b((h[:, None] * s.w + s.w).flatten(1))

    return case(Written(run, w=raw(4, 4), b=lin(16, 3)), numbers(N, 4), w="matrix")


@network
def a_grouped_convolution_of_frames():
    def run(s, x):
        h = torch.tanh(s.look(x.transpose(0, 1).flatten(0, 1))).flatten(1)
        return s.out(h).unflatten(0, (x.shape[1], -1)).cumsum(0)[1]

    kinds = dict.fromkeys(("look__weight", "look__bias"), "convolution")
    net = Written(run, look=nn.Conv2d(2, 4, 2, groups=2), out=lin(8, 3))
    return case(net, numbers(N, 4, 2, 3, 2), **kinds)


@network
def words_looked_up_twice():
    def run(s, x):
        return s.out(torch.tanh(s.words(x) * s.words(x.flip(1) // 2)).sum(1))

    net = Written(run, words=nn.Embedding(6, 4), out=lin(4, 3))
    return case(net, words(N, 5), words__weight="embedding")


@network
def a_bias_of_two_layers():
    def run(s, x):
        return s.b(torch.tanh(s.a(x)))

    net = Written(run, a=lin(4, 3), b=lin(3, 3))
    net.b.bias = net.a.bias
    return case(net, numbers(N, 4))


@network
def a_tied_language_model():
    def run(s, x):
        h = s.words(x) + s.places(torch.arange(x.shape[1]))
        return s.out(torch.tanh(s.mix(h)))

    net = Written(run, words=nn.Embedding(6, 4), places=nn.Embedding(5, 4), mix=lin(4, 4))
    net.out = lin(4, 6, bias=False)
    net.out.weight = net.words.weight
    kinds = {"words__weight": "embedding", "places__weight": "embedding"}
    return case(net, words(N, 5), entropies, words(N, 5), **kinds)


@network
def a_residual_network():
    def run(s, x):
        h = F.relu(s.first(x), inplace=True)
        h = h + s.gain * s.norm(s.second(h))
        return s.out(F.relu_(h + s.second(h)).mean((2, 3)))

    pieces = {"first": nn.Conv2d(3, 4, 3, padding=1), "norm": shaken(nn.BatchNorm2d(4))}
    pieces |= {"second": nn.Conv2d(4, 4, 3, padding=1, bias=False), "gain": raw(1)}
    kinds = {"first__weight": "convolution", "first__bias": "convolution", "gain": "product"}
    kinds |= {"second__weight": "convolution"}
    kinds |= {"norm__weight": "batch norm", "norm__bias": "batch norm"}
    return case(Written(run, **pieces, out=lin(4, 3)), numbers(N, 3, 5, 5), **kinds)


@network
def in_place_activations():
    net = nn.Sequential(
        lin(4, 6), nn.ReLU(inplace=True), lin(6, 5), nn.ELU(inplace=True), lin(5, 3)
    )
    return case(net, numbers(N, 4))


@network
def a_layer_whose_units_are_dead_for_some():
    """The second example and the one it is changed for are both seen as zero."""
    net = Written(lambda s, x: s.b(F.relu(s.a(x))), a=lin(1, 4), b=lin(4, 3))
    with torch.no_grad():
        net.a.weight.fill_(1.0)
        net.a.bias.zero_()
    x = torch.tensor([-2.0, -1.0, 2.0, -3.0, -0.5, 1.5, 0.3], dtype=torch.float64)[:, None]
    return case(net, x)


@network
def weight_norm():
    net = Written(lambda s, x: s.b(torch.tanh(s.a(x))), a=lin(4, 5), b=lin(5, 3))
    nn.utils.parametrizations.weight_norm(net.a)
    return case(net, numbers(N, 4))


@network
def a_recurrent_layer():
    net = Written(lambda s, x: s.out(s.gru(x)[0][:, -1]), gru=nn.GRU(4, 3, batch_first=True))
    net.out = lin(3, 3)
    slow = {f"gru.{name}": "torch.func" for name, _ in net.gru.named_parameters()}
    return case(net, numbers(N, 4, 4), **slow)


@network
def frozen_layers():
    net = nn.Sequential(lin(4, 5), nn.Tanh(), lin(5, 5), nn.Tanh(), lin(5, 3))
    net[0].requires_grad_(False)
    net[2].bias.requires_grad_(False)
    return case(net, numbers(N, 4))


@network
def two_inputs():
    net = Written(lambda s, x, y: s.b(torch.tanh(s.a(x)) + s.c(y)), a=lin(4, 5), b=lin(5, 3))
    net.c = lin(2, 5, bias=False)
    return case(net, (numbers(N, 4), numbers(N, 2)))


@network
def targets_that_are_numbers():
    return case(
        nn.Sequential(lin(4, 3), nn.Tanh(), lin(3, 2)), numbers(N, 4), squared, numbers(N, 2)
    )


@network
def a_checkpoint():
    def run(s, x):
        h = torch.utils.checkpoint.checkpoint(lambda h: torch.tanh(s.a(h)), x, use_reentrant=False)
        return s.b(h)

    return case(Written(run, a=lin(4, 5), b=lin(5, 3)), numbers(N, 4))


@network
def a_path_of_its_own_for_each_example():
    """What cannot be vectorised is done one by one."""

    def run(s, x):
        return torch.stack([s.b(row @ s.w if float(row[0].detach()) > 0 else row) for row in x])

    slow = dict.fromkeys(("w", "b__weight", "b__bias"), "torch.func")
    return case(Written(run, w=raw(4, 4), b=lin(4, 3)), numbers(N, 4), **slow)


def routed(net, inputs):
    """All of a network of `models` has a fast route, by what kind of part a parameter is of."""
    kinds = {nn.Conv2d: "convolution", nn.GroupNorm: "group norm", nn.LayerNorm: "layer norm"}
    routes = {
        f"{at}.{name}": kind
        for at, piece in net.named_modules()
        for of, kind in kinds.items()
        for name, _ in piece.named_parameters()
        if isinstance(piece, of)
    }
    places = {name: "sum" for name, _ in net.named_parameters() if name.endswith("places")}
    return case(shaken(net), inputs, **routes, **places)


@network
def a_vgg():
    return routed(vgg(8, size=4, classes=3, seed=0), numbers(N, 3, 4, 4))


@network
def a_vision_transformer():
    return routed(vision_transformer(4, 2, 8, 2, 1, 3, seed=0), numbers(N, 3, 4, 4))
