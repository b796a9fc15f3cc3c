"""Rendered images: what they show, how they change, and how many dimensions they have."""

from functools import partial

import jax
import numpy as np
import pytest
import torch
from data.test_manifolds import jacobian
from hypothesis import given
from hypothesis.strategies import integers, sampled_from
from scipy import stats
from witnesses import SURE

from sgdnoise.core import mean
from sgdnoise.core._arrays import as_numpy, namespace
from sgdnoise.data import FACTORS, KINDS, Data, mislabelled, render, rendered, scenes, stripes

NAMES = list(FACTORS)
ODDS = 6e-7  # of failing by chance, as for SURE standard errors


def scene(**latents):
    """One scene, (1, 8): the named latents, and 0 for the others."""
    return np.asarray([[latents.get(name, 0.0) for name in NAMES]], dtype=float)


def values(latents):
    """What the latents of one scene, (1, 8), mean."""
    center = {name: (low + high) / 2 for name, (low, high) in FACTORS.items()}
    ends = zip(NAMES, latents[0], strict=True)
    return {name: center[name] + (FACTORS[name][1] - center[name]) * z for name, z in ends}


def colour(level, chroma, hue):
    return level + chroma * np.cos(hue - 2 * np.pi * np.arange(3) / 3)


def coverage(latents, kind, **options):
    """How much of each pixel the shape covers, read off the image, (size, size)."""
    image = render(latents, kind, **options)[0]
    value = values(latents)
    ground = colour(value["light"], 0.12, value["ground"])
    shape = colour(0.7, 0.3, value["hue"])
    covered = (image - ground[:, None, None]) / (shape - ground)[:, None, None]
    np.testing.assert_allclose(covered, covered[:1] + 0 * covered, atol=1e-12)
    return covered[0]


def within(kind, latents, x, y):
    """Whether points lie in a shape: turned back and unstretched, in a disc or in triangles.

    A polygon of area pi is the points on the inner side of each line through two of its corners.
    """
    value = values(latents)
    size, ratio = np.exp(value["log_size"]), np.exp(value["log_aspect"] / 2)
    place = (x - value["x"] + 1j * (y - value["y"])) * np.exp(-1j * value["angle"])
    place = (place.real / ratio + 1j * place.imag * ratio) / size
    triangle = -np.exp(2j * np.pi * np.arange(3) / 3) * (np.pi / (0.75 * 3**0.5)) ** 0.5
    square = np.exp(2j * np.pi * (np.arange(4) + 0.5) / 4) * (np.pi / 2) ** 0.5
    if kind == "disc":
        return abs(place) < 1
    if kind == "star":
        return inner(0.75**0.5 * triangle, place) | inner(-(0.75**0.5) * triangle, place)
    return inner({"square": square, "triangle": triangle}[kind], place)


def inner(polygon, place):
    """Whether points lie to the left of all edges, which run to the left about the middle."""
    ends = zip(polygon, np.roll(polygon, -1), strict=True)
    return np.all([((place - a) * np.conj(b - a)).imag > 0 for a, b in ends], axis=0)


def sampled_coverage(kind, latents, size, fine=16):
    """The share of fine^2 points of each pixel that lie in the shape."""
    place = (2 * np.arange(size * fine) + 1) / (size * fine) - 1
    inside = within(kind, latents, *np.meshgrid(place, place))
    return inside.reshape(size, fine, size, fine).mean(axis=(1, 3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_shape_covers_what_its_polygon_covers(kind, seed):
    """Across a straight border sigmoid(-4 t) differs from a pixel's area 1/2 - t by 0.12 at most.

    Only at corners, which are rounded, is it more: 0.12 holds for nine tenths of border pixels, and
    a corner of the star at full coverage lacks half a pixel.  Two pixels away there is nothing.
    """
    latents = scenes(1, rng=seed)
    result, truth = coverage(latents, kind, size=64), sampled_coverage(kind, latents, 64)
    border = (result > 0.02) & (result < 0.98)
    assert np.array_equal(result[~border] > 0.5, truth[~border] > 0.5)
    off = np.abs(result - truth)
    assert np.quantile(off[border], 0.9) < 0.13
    assert off.max() < 0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("edge", [1.0, 2.0, 4.0])
def test_an_edge_is_as_wide_as_it_says(kind, edge):
    """The logit of coverage, times edge / 4, is a distance: it changes by 1 a pixel.

    Seen at central differences over pixels on the border, all but those near corners; a curved
    border and the disc's first-order distance err by some per cent.
    """
    covered = np.clip(coverage(scenes(1, rng=3), kind, size=128, edge=edge), 1e-9, 1 - 1e-9)
    down, right = np.gradient(edge / 4 * np.log(covered / (1 - covered)))
    border = (covered > 0.1) & (covered < 0.9)
    assert abs(np.median(np.hypot(down, right)[border]) - 1) < 0.04


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_one_size_have_the_area_of_its_disc(kind):
    """Rounded corners, and edges that bend within a pixel, take under 2% at this resolution."""
    for log_size in (-1, 0, 1):
        area = coverage(scene(log_size=log_size), kind, size=128).mean() * 4
        low, high = FACTORS["log_size"]
        radius = np.exp((low + high) / 2 + (high - low) / 2 * log_size)
        assert abs(area / (np.pi * radius**2) - 1) < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_cut_off_and_colours_stand_out(kind):
    """At the ends of all factors: no shape reaches the rim, no colour leaves [0, 1].

    Colours differ by 0.4 and more, of which the soft tip of the longest triangle leaves 0.1.
    """
    ends = 2.0 * np.asarray(list(np.ndindex(*[2] * 6))) - 1
    latents = np.concatenate([ends[:, :4], np.zeros((64, 4))], axis=1)
    for angle in np.linspace(-1, 1, 9):
        latents[:, 4], latents[:, 7] = angle, ends[:, 4]
        images = render(latents, kind)
        rim = np.concatenate([images[:, :, [0, -1]].reshape(64, 3, -1),
                              images[:, :, :, [0, -1]].reshape(64, 3, -1)], axis=2)  # fmt: skip
        ground = images[:, :, :1, :1].reshape(64, 3, 1)
        assert np.abs(rim - ground).max() < (0.1 if kind == "triangle" else 0.02)
        assert images.min() > 0
        assert images.max() <= 1
        center = np.abs(images - ground[..., None]).max(axis=(2, 3))
        assert np.linalg.norm(center, axis=1).min() > 0.4


def test_factors_do_what_their_names_say():
    """Centre and second moments of the covered area; the area of soft pixels errs by 1e-2."""
    place = (2 * np.arange(64) + 1) / 64 - 1
    x, y = np.meshgrid(place, place)
    latents = scene(x=0.6, y=-0.8, log_aspect=1, angle=0.5)
    weight = coverage(latents, "square", size=64)
    weight /= weight.sum()
    at = np.asarray([(weight * x).sum(), (weight * y).sum()])
    np.testing.assert_allclose(at, [0.6 * 0.22, -0.8 * 0.22], atol=1e-3)
    covariance = np.cov(np.stack([x.ravel(), y.ravel()]), aweights=weight.ravel(), bias=True)
    widths, axes = np.linalg.eigh(covariance)
    assert abs(np.sqrt(widths[1] / widths[0]) / 1.8 - 1) < 0.02
    assert abs(np.arctan2(axes[1, 1], axes[0, 1]) % np.pi - np.pi / 4) < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_turn_and_a_round_of_hues_lead_back_and_no_less_does(kind):
    here = render(scene(angle=-1, hue=-1, ground=-1), kind)
    np.testing.assert_allclose(render(scene(angle=-1, hue=1, ground=1), kind), here, atol=1e-13)
    turned = render(scene(angle=1, hue=-1, ground=-1), kind)
    assert np.allclose(turned, here, atol=1e-12) == (kind != "triangle")
    for angle in (-0.5, 0, 0.5):
        assert np.abs(render(scene(angle=angle, hue=-1, ground=-1), kind) - here).max() > 0.1


def slopes(latents, kind):
    """The exact Jacobian at each scene, (n, pixels, 8), by forward differentiation."""

    def one(z):
        return render(z[None], kind)[0].reshape(-1)

    return torch.func.vmap(torch.func.jacfwd(one))(torch.asarray(latents)).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_the_exact_slopes_are_those_of_small_steps(kind):
    """Steps of 1e-5 of a half range: differences err by 1e-10 of a third derivative below 1e4."""
    latents = scenes(2, rng=0)
    result = slopes(latents, kind)
    expected = jacobian(lambda z: render(z, kind).reshape(len(z), -1), latents, 1e-5)
    np.testing.assert_allclose(result, expected, atol=1e-6)


@given(seed=integers(0, 2**32 - 1), kind=sampled_from(list(KINDS)))
def test_an_image_has_as_many_dimensions_as_factors_vary(seed, kind):
    """The smallest singular value, over half ranges: at 1000 random scenes of each kind above
    0.41, and once each column has norm 1 above 0.42; a rank that is missing would give 1e-14.
    """
    matrix = slopes(scenes(1, rng=seed), kind)[0]
    assert np.linalg.svd(matrix, compute_uv=False)[-1] > 0.3
    sizes = np.linalg.norm(matrix, axis=0)
    assert np.linalg.svd(matrix / sizes, compute_uv=False)[-1] > 0.25


def test_a_disc_that_is_round_would_lose_its_angle(monkeypatch):
    """Why the aspect stays above 1: the witness of the dimension sees the rank that is missing."""
    monkeypatch.setitem(FACTORS, "log_aspect", (0.0, 0.0))
    sizes = np.linalg.svd(slopes(scenes(1, rng=0), "disc")[0], compute_uv=False)
    assert (sizes > 1e-9).sum() == 6  # without the angle, and without the aspect itself


@pytest.mark.parametrize("kind", KINDS)
def test_images_do_not_depend_on_the_library_nor_on_each_other(kind, xp):
    latents = scenes(3, rng=3)
    expected = np.concatenate([render(row[None], kind, size=12) for row in latents])
    draw = partial(render, kind=kind, size=12)
    draw = jax.jit(draw) if "jax" in xp.__name__ else draw  # else it compiles step by step
    images = draw(xp.asarray(latents))
    assert namespace(images) is namespace(xp.asarray(latents))
    np.testing.assert_allclose(as_numpy(images), expected, rtol=1e-12, atol=1e-13)


def test_single_precision_stays_and_is_differentiable_in_jax():
    latents = scenes(2, rng=1).astype(np.float32)
    for kind in KINDS:
        images = render(latents, kind)
        assert images.dtype == np.float32
        np.testing.assert_allclose(images, render(latents.astype(float), kind), atol=1e-4)
    slope = jax.jit(jax.jacfwd(lambda z: render(z[None], "star", size=12)[0]))
    result = slope(jax.numpy.asarray(latents[0]))
    assert result.shape == (3, 12, 12, 8)
    assert bool(jax.numpy.isfinite(result).all())


def test_odd_sizes_have_finite_slopes_in_the_middle_of_a_shape():
    """A pixel then lies on the centre itself, where a distance has no direction."""
    for kind in KINDS:

        def one(z, kind=kind):
            return render(z[None], kind, size=9)[0]

        result = torch.func.jacfwd(one)(torch.zeros(8, dtype=torch.float64))
        assert torch.isfinite(result).all()


def test_scenes_vary_in_their_factors_alone(rng):
    latents = scenes(2000, factors=["hue", "x"], rng=rng)
    varied = [NAMES.index("hue"), NAMES.index("x")]
    assert np.all(np.delete(latents, varied, axis=1) == 0)
    for column in latents[:, varied].T:
        assert stats.kstest((column + 1) / 2, "uniform").pvalue > ODDS


def test_a_set_is_what_render_makes_of_its_latents():
    factors = ("x", "hue", "angle")
    data = rendered(300, factors=factors, kinds=["star"], label="latents", size=16, rng=4)
    assert data.dimension == 3
    assert data.inputs.dtype == np.float32
    expected = render(data.targets, "star", size=16)
    np.testing.assert_allclose(data.inputs, expected, atol=1e-4)  # single precision at an edge
    again = rendered(300, factors=factors, kinds=["star"], size=16, wrong=0.5, rng=4)
    np.testing.assert_array_equal(again.inputs, data.inputs)


def test_kinds_are_equally_likely_and_a_label_if_asked_for():
    data = rendered(400, label="kind", size=16, rng=0)
    assert stats.chisquare(np.bincount(data.targets, minlength=4)).pvalue > ODDS
    latents = rendered(400, label="latents", size=16, rng=0).targets
    for row in range(12):
        kind = list(KINDS)[data.targets[row]]
        expected = render(latents[row : row + 1], kind, size=16)[0]
        np.testing.assert_allclose(data.inputs[row], expected, atol=1e-4)


def test_stripes_are_of_the_first_three_factors_and_a_function_may_label():
    data = rendered(50, factors=["hue", "x", "angle", "y"], size=8, rng=0)
    latents = rendered(50, factors=["hue", "x", "angle", "y"], label="latents", size=8, rng=0)
    separate = [NAMES.index(name) for name in ("hue", "x", "angle")]
    np.testing.assert_array_equal(data.targets, stripes(latents.targets[:, separate]))
    right = rendered(50, label=lambda z: (z[:, 0] > 0).astype(int), size=8, rng=0)
    place = rendered(50, label="latents", size=8, rng=0).targets[:, 0]
    np.testing.assert_array_equal(right.targets, place > 0)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_stripes_are_equally_likely_whatever_the_other_latents(classes, rng):
    z = rng.uniform(-1, 1, (5000, 3))
    z[:, 1:] = rng.beta(0.3, 2, (5000, 2))
    counts = np.bincount(stripes(z, classes), minlength=classes)
    assert len(counts) == classes
    assert stats.chisquare(counts).pvalue > ODDS


def test_stripes_are_periodic_and_every_latent_counts(rng):
    z = rng.uniform(-1, 1, (500, 3))
    for j in range(3):
        moved = z.copy()
        moved[:, j] += 2
        assert (stripes(moved) != stripes(z)).mean() < 0.01  # but for rounding at a border
        moved[:, j] += 0.3
        assert (stripes(moved) != stripes(z)).mean() > 0.2
    step = np.linspace(-1, 1, 21)[:-1] + 0.05
    np.testing.assert_array_equal(stripes(step[:, None], 2), step % 2 >= 1)
    np.testing.assert_array_equal(stripes(step[:, None], 4), (step % 2 * 2).astype(int))


def test_wrong_labels_are_as_many_as_asked_and_never_the_true_one(rng):
    truth = rng.integers(0, 5, 20_000)
    spoilt = mislabelled(Data(np.arange(20_000), truth), 0.3, 5, rng=rng)
    wrong = spoilt.targets != truth
    assert abs(mean(wrong.astype(float)).z(0.3)) < SURE
    shift = (spoilt.targets - truth)[wrong] % 5
    assert stats.chisquare(np.bincount(shift, minlength=5)[1:]).pvalue > ODDS
    np.testing.assert_array_equal(spoilt.inputs, np.arange(20_000))
    all_wrong = mislabelled(Data(truth, truth), 1.0, 5, rng=rng).targets
    assert np.all((all_wrong != truth) & (all_wrong >= 0) & (all_wrong < 5))
    np.testing.assert_array_equal(mislabelled(Data(truth, truth), 0.0, 5, rng=rng).targets, truth)


def test_images_can_have_wrong_labels():
    clean, spoilt = (rendered(3000, size=1, wrong=fraction, rng=0) for fraction in (0.0, 0.25))
    wrong = (clean.targets != spoilt.targets).astype(float)
    assert abs(mean(wrong).z(0.25)) < SURE


BLANK = Data(np.zeros(3), np.arange(3))
WRONG = {
    "an unknown kind": (lambda: render(scene(), "heart"), "'heart'; there are disc"),
    "no pixel": (lambda: render(scene(), size=0), "not 0 and 1"),
    "a sharp edge": (lambda: render(scene(), edge=0.0), "not 32 and 0"),
    "no scene": (lambda: scenes(0, rng=0), "1 or more, not 0"),
    "an unknown factor": (lambda: scenes(3, factors=["mood"], rng=0), "'mood'; there are x"),
    "a factor twice": (lambda: rendered(3, factors=["x", "x"], rng=0), "factor is named once"),
    "no kind": (lambda: rendered(3, kinds=[], rng=0), "kind is named once"),
    "an unknown label": (lambda: rendered(3, label="mood", rng=0), "not 'mood'"),
    "wrong latents": (lambda: rendered(3, label="latents", wrong=0.5, rng=0), "2 classes .* 0"),
    "one stripe": (lambda: stripes(np.zeros((3, 1)), 1), "2 classes or more, not 1"),
    "a share above 1": (lambda: mislabelled(BLANK, 1.5, 3, rng=0), "not 1.5"),
    "a share that is nan": (lambda: mislabelled(BLANK, np.nan, 3, rng=0), "not nan"),
    "one class": (lambda: mislabelled(BLANK, 0.5, 1, rng=0), "2 classes or more, not 1"),
    "a label of no class": (lambda: mislabelled(BLANK, 0.5, 2, rng=0), "from 0 to 2"),
    "one-hot labels": (lambda: mislabelled(Data(0, np.eye(3)), 0.5, 3, rng=0), r"\(3, 3\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_is_one_sentence(name):
    attempt, words = WRONG[name]
    with pytest.raises(ValueError, match=words) as caught:
        attempt()
    text = str(caught.value)
    assert 20 <= len(text) <= 200
    assert ". " not in text
    assert not text.endswith(".")
