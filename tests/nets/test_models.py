"""Networks: their shapes and sizes, their seeds, and that examples do not see each other."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from witnesses import SURE

from sgdnoise.core import mean
from sgdnoise.nets import as_problem
from sgdnoise.nets._initialisation import ACTIVATIONS
from sgdnoise.nets.models import (
    convnet,
    mlp,
    preactivation_resnet,
    transformer,
    vgg,
    vision_transformer,
)


def pixels(*shape):
    return torch.randn(6, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def words(length=7):
    return torch.randint(11, (6, length), generator=torch.Generator().manual_seed(1))


# how to make each, six inputs, the shape of an output, and its parameters counted by hand
NETS = {
    "mlp": (lambda s: mlp([12, 5, 3], seed=s), pixels(3, 2, 2), (3,), 12 * 5 + 5 + 5 * 3 + 3),
    "linear": (lambda s: mlp([4, 2], "linear", seed=s), pixels(4), (2,), 4 * 2 + 2),
    "tanh": (lambda s: mlp([4, 6, 6, 2], "tanh", seed=s), pixels(4), (2,), 30 + 42 + 14),
    "convnet": (
        lambda s: convnet((4, 5), 3, 8, 1, "gelu", seed=s),
        pixels(1, 8, 8),
        (3,),
        (9 * 4 + 4) + (4 * 9 * 5 + 5) + (5 * 16 * 5 + 5) + (5 * 3 + 3),
    ),
    "resnet": (
        lambda s: preactivation_resnet((1, 1), 8, 3, 2, seed=s),
        pixels(2, 7, 8),
        (3,),
        2 * 9 * 8  # stem
        + (16 + 576) * 2  # two norms and two convolutions
        + (16 + 8 * 9 * 16) + (32 + 16 * 9 * 16) + 8 * 16  # halved, with a 1 x 1 beside
        + 32 + 16 * 3 + 3,
    ),
    "layer": (
        lambda s: preactivation_resnet((1,), 5, 3, 2, "layer", seed=s),
        pixels(2, 6, 6),
        (3,),
        2 * 9 * 5 + (10 + 225) * 2 + 10 + 15 + 3,
    ),
    "vgg": (
        lambda s: vgg(8, 11, 3, 6, 2, seed=s),
        pixels(2, 6, 6),
        (3,),
        9 * 8 * (2 + 1 * 16 + 2 * 32 + 4 * 32 + 4 * 64 + 3 * 8 * 64)  # inputs by outputs
        + 2 * (8 + 16 + 2 * 32 + 4 * 64) + 64 * 3 + 3,
    ),
    "vision": (
        lambda s: vision_transformer(6, 3, 8, 2, 2, 3, 2, seed=s),
        pixels(2, 6, 6),
        (3,),
        (2 * 9 + 1) * 8 + 4 * 8 + 2 * (32 + 12 * 64 + (24 + 8 + 32 + 8)) + 16 + 27,
    ),
    "classifier": (
        lambda s: transformer(11, 7, 8, 2, 2, 3, seed=s),
        words(),
        (3,),
        11 * 8 + 7 * 8 + 2 * (32 + 12 * 64 + (24 + 8 + 32 + 8)) + 16 + 27,
    ),
    "language": (
        lambda s: transformer(11, 9, 8, 2, 1, seed=s),
        words(),
        (7, 11),
        11 * 8 + 9 * 8 + (32 + 12 * 64 + 72) + 16 + 88,
    ),
    "tied": (
        lambda s: transformer(11, 9, 8, 4, 1, tied=True, seed=s),
        words(),
        (7, 11),
        11 * 8 + 9 * 8 + (32 + 12 * 64 + 72) + 16,
    ),
}  # fmt: skip


@pytest.fixture(params=NETS)
def case(request):
    make, inputs, out, count = NETS[request.param]
    return make(3).double(), inputs, out, count


def losses(outputs, targets):
    """Cross entropy of each example, over its places if there are several."""
    return (
        cross_entropy(outputs.movedim(-1, 1), targets, reduction="none")
        .reshape(len(outputs), -1)
        .mean(1)
    )


def each(outputs, _):
    """A smooth function of all outputs, one number for each example, also of a single example."""
    return (outputs.reshape(len(outputs), -1) ** 2).mean(1)


def test_a_network_has_the_outputs_and_the_parameters_it_says(case):
    net, inputs, out, count = case
    assert net(inputs).shape == (6, *out)
    assert sum(piece.numel() for piece in net.parameters()) == count
    assert not list(net.buffers())


def test_the_networks_as_they_stand_have_the_sizes_of_their_docstrings():
    nets = {
        convnet(seed=0): 0.55,
        preactivation_resnet(seed=0): 0.18,
        vision_transformer(seed=0): 0.21,
    }
    for net, millions in (nets | {vgg(seed=0): 9.23}).items():
        assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == millions
        assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_an_output_depends_on_its_own_example_alone(case):
    """Double precision, another order of summing: hence 1e-10."""
    net, inputs, *_ = case
    outputs = net(inputs).detach()
    order = [3, 0, 5, 1, 4, 2]
    np.testing.assert_allclose(net(inputs[order]).detach(), outputs[order], rtol=1e-10, atol=1e-13)
    altered = inputs.clone()
    altered[1:] = 0
    np.testing.assert_allclose(net(altered)[0].detach(), outputs[0], rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(net(inputs[2:3])[0].detach(), outputs[2], rtol=1e-10, atol=1e-13)
    assert not torch.allclose(outputs[0], outputs[1], rtol=1e-3)


def test_gradients_are_finite_reach_every_parameter_and_are_one_for_each_example(case):
    net, inputs, out, _ = case
    targets = torch.zeros((6, *out[:-1]), dtype=torch.int64)
    problem, theta = as_problem(net, losses, inputs, targets)
    gradient = problem.gradient(theta)
    assert torch.isfinite(gradient).all()
    losses(net(inputs), targets).mean().backward()
    for name, piece in net.named_parameters():
        assert piece.grad.abs().max() > 0, name
    squared, theta = as_problem(net, each, inputs, targets)
    mixed = squared.gradients(theta).mean(0)
    np.testing.assert_allclose(mixed, squared.gradient(theta), rtol=1e-9, atol=1e-12)


def test_a_hessian_product_is_the_slope_of_the_gradient(case):
    """Central differences at step 1e-4 err by 1e-8 of the third derivative, taken as 1e-5.

    A kink of relu within the step would make them err more: none is for these seeds.
    """
    net, inputs, *_ = case
    problem, theta = as_problem(net, each, inputs, torch.zeros(6))
    v = torch.randn(theta.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v, step = v / v.norm(), 1e-4
    slope = problem.gradient(theta + step * v) - problem.gradient(theta - step * v)
    result = problem.hvp(theta, v)
    assert (result - slope / (2 * step)).norm() < 1e-5 * result.norm()


@pytest.mark.parametrize("name", NETS)
def test_a_seed_decides_all_and_leaves_the_global_generator_alone(name):
    make = NETS[name][0]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = make(7)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(6)
    again, second = make(7), make(8)
    pairs = list(zip(first.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(left, two) for left, two in pairs)
    assert not torch.equal(next(first.parameters()), next(second.parameters()))


def test_a_generator_serves_as_a_seed_and_moves_on():
    generator = torch.Generator().manual_seed(2)
    first, two = (mlp([3, 2], seed=generator)[1].weight for _ in range(2))
    again = mlp([3, 2], seed=torch.Generator().manual_seed(2))[1].weight
    assert torch.equal(first, again)
    assert not torch.equal(first, two)


def test_seeds_are_used_within_an_exception_too():
    before = torch.get_rng_state()
    with pytest.raises((TypeError, RuntimeError)):
        mlp([3, 2], seed="seven")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_mean_square_of_one_stays_from_layer_to_layer(activation):
    """Averaged over networks; a finite width of 400 shifts the mean by order 1 / 400 a layer."""
    x = torch.randn(40, 400, generator=torch.Generator().manual_seed(0))
    squares = []
    for seed in range(30):
        net, values = mlp([400] * 5, activation, seed=seed), x
        row = []
        for layer in net:
            values = layer(values).detach()
            if isinstance(layer, torch.nn.Linear):
                row.append(float((values**2).mean()))
        squares.append(row)
    result = mean(np.asarray(squares))
    assert np.all(abs(result.value - 1) < SURE * result.stderr + 4 / 400)


def test_weights_have_the_variances_of_their_layers():
    """Of N normal numbers the mean square errs by (2 / N)^(1/2)."""
    words = transformer(200, 50, 64, 2, 2, seed=0)
    body = words[2].change[1]
    first, second = convnet((32, 64), seed=0)[:3:2]
    expected = {
        words[0].words.weight: 1 / 64,
        words[0].places: 1 / 64,
        words[1].change[1].into.weight: 1 / 64,
        words[1].change[1].out.weight: 1 / 64 / 4,  # two sums in each of two blocks
        body.weight: 1 / 64,
        first.weight: 1 / 27,
        second.weight: 2 / (9 * 32),
    }
    for weight, variance in expected.items():
        result = float((weight.detach() ** 2).mean()) / variance
        assert abs(result - 1) < SURE * (2 / weight.numel()) ** 0.5


def test_a_language_model_sees_no_word_that_comes_later():
    net, x = transformer(11, 9, 8, 2, 2, seed=0).double(), words()
    later = x.clone()
    later[:, 4:] = (later[:, 4:] + 1) % 11
    before, after = net(x), net(later)
    np.testing.assert_allclose(after[:, :4].detach(), before[:, :4].detach(), rtol=1e-10)
    assert not torch.isclose(after[:, 4:], before[:, 4:]).all(2).any()


def test_a_classifier_sees_every_place_and_its_order():
    net, x = transformer(11, 7, 8, 2, 1, 3, seed=0).double(), words()
    outputs = net(x)
    for place in range(7):
        second = x.clone()
        second[:, place] = (second[:, place] + 1) % 11
        assert not torch.isclose(net(second), outputs).all(1).any()
    assert not torch.isclose(net(x.flip(1)), outputs).all(1).any()


@pytest.mark.parametrize("causal", [True, False])
def test_attention_is_that_of_torch(causal):
    classes = None if causal else 3
    net = transformer(11, 7, 8, 2, 1, classes, seed=0).double()
    attention = net[1].change[1]
    x = pixels(7, 8)
    twin = torch.nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        twin.in_proj_weight.copy_(attention.into.weight)
        twin.in_proj_bias.copy_(attention.into.bias)
        twin.out_proj.weight.copy_(attention.out.weight)
        twin.out_proj.bias.copy_(attention.out.bias)
    mask = torch.ones(7, 7, dtype=torch.bool).triu(1) if causal else None
    expected = twin(x, x, x, attn_mask=mask)[0]
    np.testing.assert_allclose(attention(x).detach(), expected.detach(), rtol=1e-9, atol=1e-12)


def test_tied_ends_are_one_part_of_theta_with_one_gradient():
    net = transformer(11, 9, 8, 2, 1, tied=True, seed=0).double()
    problem, theta = as_problem(net, losses, words(), words().roll(-1, 1))
    assert theta.numel() == NETS["tied"][3]
    losses(net(words()), words().roll(-1, 1)).mean().backward()
    expected = torch.cat([piece.grad.reshape(-1) for piece in net.parameters()])
    np.testing.assert_allclose(problem.gradient(theta), expected, rtol=1e-9, atol=1e-13)


def test_a_pixel_is_seen_as_far_as_the_pooled_windows_say():
    """Two 3 x 3 convolutions see 2 pixels to each side, and the pool the pair of its block."""
    body = convnet((4, 4), 3, 16, 1, seed=0).double()[:5]
    x = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    dot = x.clone()
    dot[0, 0, 7, 7] = 1
    recorded = (body(dot) != body(x)).any(1)[0].any(0).nonzero()[:, 0]
    assert recorded.min() >= math.floor((7 - 2) / 2)
    assert recorded.max() <= math.floor((7 + 2) / 2)
    assert len(recorded) > 1


@pytest.mark.parametrize(("depth", "count"), [(11, 8), (16, 13)])
def test_a_vgg_has_the_convolutions_of_its_name_and_ends_at_one_pixel(depth, count):
    """With its dense readouts, of which one is left here, they make 11 and 16."""
    net = vgg(8, depth, 3, 32, 1, seed=0)
    assert sum(isinstance(piece, torch.nn.Conv2d) for piece in net) + 3 == depth == count + 3
    before = torch.nn.Sequential(*list(net)[:-3])
    assert before(torch.zeros(1, 1, 32, 32)).shape == (1, 64, 1, 1)


def test_a_vgg_has_the_published_shapes():
    """Simonyan & Zisserman (2015), configuration A, an eighth as wide, on images of 32 pixels."""
    x, result = torch.ones(1, 3, 32, 32), []
    for piece in vgg(8, seed=0):
        x = piece(x)
        if isinstance(piece, torch.nn.Conv2d):
            result.append((x.shape[1] // 8, x.shape[2]))
    assert result == [(1, 32), (2, 16), (4, 8), (4, 8), (8, 4), (8, 4), (8, 2), (8, 2)]


def test_a_vision_transformer_sees_patches_whole_and_in_their_order():
    """Within a patch any linear map of the pixels; turned round, patches make another image."""
    net = vision_transformer(6, 3, 8, 2, 1, 3, 1, seed=0).double()
    x = pixels(1, 6, 6)
    words = net[0](x)
    kernel = net[0].patch
    for at, (row, column) in enumerate([(0, 0), (0, 3), (3, 0), (3, 3)]):
        direct = x[:, :, row : row + 3, column : column + 3].reshape(6, 9)
        expected = direct @ kernel.weight.reshape(8, 9).T + kernel.bias + net[0].places[at]
        torch.testing.assert_close(words[:, at], expected)
    turned = torch.cat([x[:, :, 3:], x[:, :, :3]], 2)
    assert not torch.isclose(net(turned), net(x)).all(1).any()


WRONG = {
    "an unknown activation": (lambda: mlp([3, 2], "sine", seed=0), "'sine'"),
    "one width": (lambda: mlp([3], seed=0), r"\[3\]"),
    "no width": (lambda: mlp([], seed=0), r"\[\]"),
    "a width of none": (lambda: mlp([3, 0, 2], seed=0), r"\[3, 0, 2\]"),
    "a size that pools do not divide": (lambda: convnet(size=28, seed=0), "28 is not divisible"),
    "pools of nothing": (lambda: convnet(size=2, seed=0), "2 is not divisible by 2 3 times"),
    "no channels": (lambda: convnet(channels=(), seed=0), "channels"),
    "no classes": (lambda: convnet(classes=0, seed=0), "classes"),
    "batch norm": (lambda: preactivation_resnet(norm="batch", seed=0), "'batch'"),
    "groups that do not fit": (lambda: preactivation_resnet(width=12, seed=0), "12"),
    "an empty stage": (lambda: preactivation_resnet(blocks=(1, 0), seed=0), r"blocks .*\[1, 0\]"),
    "another depth": (lambda: vgg(depth=13, seed=0), "11, 16, not 13"),
    "too narrow": (lambda: vgg(width=4, seed=0), "width of 4"),
    "patches that do not fit": (lambda: vision_transformer(32, 5, seed=0), "5 pixels .* 32"),
    "heads of images": (lambda: vision_transformer(width=10, seed=0), "4 heads .* 10"),
    "heads that do not divide": (lambda: transformer(5, 4, 6, 4, 1, seed=0), "4 heads .* 6"),
    "no word": (lambda: transformer(0, 4, 8, 2, 1, seed=0), "vocabulary"),
    "no classes to tell": (lambda: transformer(5, 4, 8, 2, 1, 0, seed=0), "classes"),
    "a tied classifier": (lambda: transformer(5, 4, 8, 2, 1, 3, tied=True, seed=0), "3 classes"),
    "too many words": (lambda: transformer(11, 4, 8, 2, 1, seed=0)(words()), "7 words .* 4 places"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_is_one_sentence(name):
    attempt, words_of_it = WRONG[name]
    with pytest.raises(ValueError, match=words_of_it) as caught:
        attempt()
    assert 20 <= len(str(caught.value)) <= 200
    assert ". " not in str(caught.value)
    assert not str(caught.value).endswith(".")
