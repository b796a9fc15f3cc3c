"""The study of layers: its clouds and maps against slow twins, its smallest run, its refusals."""

import json

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from witnesses import SURE, torus

from sgdnoise.core import mean
from sgdnoise.data import FACTORS
from sgdnoise.dimension import geodesic, gride, levina_bickel, participation_ratio, twonn
from sgdnoise.lab import Session, exit_status
from simulations import _vision as vision
from simulations.depth_profile import _clouds as clouds
from simulations.depth_profile import _maps as maps
from simulations.depth_profile import claims, study
from simulations.depth_profile import figure as drawing


@pytest.fixture(scope="module")
def small():
    """A run of one network, in this process: narrow, and with one partition for each error."""
    changes = {"task": ["mlp3 rendered"], "moments": (0, 4), "tangents": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clouds, "SPLITS", 1)
        patch.setattr(study, "MLP3_WIDTH", 24)
        patch.setattr(study, "learned", levina_bickel)  # which needs no table to be loaded
        return study.study.simulate("small", **changes)


def cloud(n, d, seed=0):
    return torch.asarray(torus(d, n, np.random.default_rng(seed)))


def test_estimates_from_inner_products_are_those_of_the_points():
    points = cloud(400, 3) + 7.0
    result = clouds.estimates(clouds.gram(points))
    rows = points.numpy()
    expected = {
        "participation_ratio": participation_ratio(rows),
        "twonn": twonn(rows),
        "levina_bickel": levina_bickel(rows),
        "gride 8-16": gride(rows, 8, 16),
        "gride 32-64": gride(rows, 32, 64),
        "geodesic": geodesic(rows),
    }
    assert list(result) == list(clouds.NAMES) == list(expected)
    for name, value in expected.items():
        assert_allclose(result[name].value, value, rtol=1e-9)  # squares of distances lose a half


def test_a_surrogate_is_that_of_normal_points_of_equal_covariance(rng):
    points = cloud(30, 2)
    z = rng.standard_normal((30, 30))
    beside = points - points.mean(0)
    rows = torch.asarray(z) @ beside / 29**0.5

    class Drawn:
        def standard_normal(self, shape):
            assert shape == z.shape
            return z

    result = clouds.surrogate(clouds.gram(points), Drawn())
    assert_allclose(result, rows @ rows.T, rtol=1e-10, atol=1e-12)


def test_the_surrogates_participation_ratio_is_that_of_the_cloud_on_average(rng):
    """But for terms of order 1 / n: of the 2% that the study allows, here for n = 200."""
    scales = torch.linspace(0.1, 1, 12)
    products = clouds.gram(torch.asarray(rng.uniform(size=(200, 12))) * scales)
    result = mean(
        np.asarray(
            [
                clouds.ratio_to_surrogate(products, clouds.surrogate(products, rng))
                for _ in range(150)
            ]
        )
    )
    assert abs(result.value - 1) < SURE * result.stderr + 1 / 200
    assert SURE * result.stderr < claims.SURROGATE


def test_points_that_coincide_have_no_estimates_but_twins_are_left_out():
    same = clouds.estimates(clouds.gram(torch.ones(330, 4)))
    assert all(np.isnan(result.value) for result in same.values())
    points = cloud(400, 2)
    twice = clouds.estimates(clouds.gram(torch.cat([points, points[:5]])))
    assert abs(twice["twonn"].z(2)) < SURE


def test_a_scaled_copy_has_factors_of_one_and_noise_has_more():
    points = cloud(340, 2)
    result = clouds.factor(clouds.gram(points), clouds.gram(3 * points))
    assert_allclose(result.value, 1, rtol=1e-9)
    blurred = torch.cat([points, 0.5 * cloud(340, 4, 1)], dim=1)
    more = clouds.factor(clouds.gram(points), clouds.gram(blurred))
    assert all(more.value - SURE * more.stderr > 1)


def test_the_factor_of_a_relu_is_what_comes_after_over_what_came_before(rng):
    net, points = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.ReLU()), cloud(340, 3) + 0.7
    result = study.initial_measures(net, points, rng)["relu"][1]
    rows = points.numpy()
    for i, method in enumerate((twonn, levina_bickel)):
        assert_allclose(result[0, i], method(rows.clip(min=0)) / method(rows), rtol=1e-9)
    assert np.isnan(result[1:]).all()


def test_slopes_are_those_of_autograd():
    net = study.network("mlp3", (1, 3, 3), 8, (8, 8), seed=0).double()
    image = torch.linspace(-1, 1, 9, dtype=torch.float64).reshape(1, 3, 3)
    places = vision.layer_indices(net)
    result = maps.jacobians(net, image, places)
    for at, slopes in zip(places, result, strict=True):
        exact = torch.autograd.functional.jacobian(
            lambda x, at=at: vision.layers(net, x[None])[at][0], image
        )
        expected = exact.reshape(-1, 9).T
        assert_allclose(slopes, expected, atol=1e-8)  # third derivatives times 1e-12, rounding


def test_an_orthogonal_map_stretches_nothing():
    square = torch.linalg.qr(torch.randn(6, 6, generator=torch.manual_seed(0)))[0].double()
    dimension, sensitivity, volume = maps.singular_values(2 * square)
    assert_allclose((dimension, sensitivity, volume), (6, np.log(2), 3 * np.log(2)), rtol=1e-6)


@pytest.mark.parametrize(
    ("net", "layers", "relus"), [("mlp7", 8, 6), ("mlp3", 5, 0), ("vgg11", 11, 8)]
)
def test_networks_have_their_layers(net, layers, relus):
    built = study.network(net, (1, 8, 8), 12, (8, 8), seed=0)
    assert len(vision.layer_indices(built)) == layers <= maps.MAX_LAYERS
    assert sum(isinstance(module, torch.nn.ReLU) for module in built) == relus <= study.MAX_RELUS
    rows = vision.layers(built, torch.ones(2, 1, 8, 8))
    assert rows[vision.layer_indices(built)[0]].shape == (2, 64)
    assert rows[-1].shape == (2, vision.CLASSES)
    weights = [module for module in built.modules() if isinstance(module, torch.nn.Linear)]
    weights += [module for module in built.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(weights) == {"mlp7": 7, "mlp3": 4, "vgg11": 9}[net]  # pools are no layer


def test_a_residual_network_of_twenty_layers_has_nine_blocks():
    built = study.network("resnet20", (1, 8, 8), 12, (8, 8), seed=0)
    assert len(vision.layer_indices(built)) == 13 == maps.MAX_LAYERS
    assert sum(bool(list(module.children())) for module in built) == 9


def test_classes_depend_on_two_latents_alone():
    latents = FACTORS
    rows = np.random.default_rng(0).uniform(-1, 1, (50, len(latents)))
    changed = rows.copy()
    free = [list(latents).index(name) for name in ("y", "log_size", "light")]
    changed[:, free] = 0
    assert np.array_equal(vision._classes(rows), vision._classes(changed))
    assert len(np.unique(vision._classes(rows))) == vision.CLASSES


def test_images_next_to_one_another_have_the_rank_of_their_latents():
    class Net(torch.nn.Sequential):
        pass

    flat = Net(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 3))
    result = maps.nearby_rank(flat, 5, 8, seed=0)
    assert_allclose(result["rank"][1][:2], [5, 3])
    assert_allclose(result["rank_least"][1][:2], [5, 3])
    assert np.isnan(maps.nearby_rank(flat, None, 8, seed=0)["rank"][1]).all()


def test_ranks_and_rotations_of_the_committed_result_are_exact():
    """To 1e-6 under rotation: the rounding of distances of points with norms 10 times as large."""
    results = study.study.read()[""]
    assert float(results.turned.max()) < 1e-6
    known = results.isel(task=np.isfinite(results.true).all("seed").values)
    assert known.sizes["task"] == 4
    d = known.true.isel(seed=0, drop=True)
    assert (known["rank"].max([n for n in known["rank"].dims if n != "task"]) <= d).all()
    least = known.rank_least.isel(layer=0)
    assert (least.min([n for n in least.dims if n != "task"]) == d).all()


def test_the_smallest_run_holds_and_is_drawn(small):
    result = claims.verdicts(small)
    assert exit_status(result) == 0
    assert float(small["rank"].max()) <= float(small.true[0, 0])
    assert float(small.turned.max()) < 1e-6
    figures = drawing.figures(small)
    assert list(figures) == ["rendered"]
    assert all(isinstance(figure, Figure) for _, figure in figures.values())
    sharp, excess, factors = claims.tables(small)
    off = small.estimate.sel(estimator="twonn").isel(task=0, moment=-1, layer=0).mean() - 5
    assert excess.rows[0][1].startswith(f"{float(off):+.2f} ± ")
    assert [len(row) for row in excess.rows] == [len(excess.headings)]
    assert [len(row) for row in sharp.rows] == [len(sharp.headings)] * 2
    assert factors.rows == []  # tanh has none


@pytest.mark.parametrize(
    ("name", "wrong", "claim"),
    [
        ("matched", 1.1, "surrogate / layer"),
        ("learned", 2.3, "learned"),
    ],
)
def test_what_is_otherwise_than_claimed_fails(small, name, wrong, claim):
    spoilt = small.assign({name: small[name] * 0 + wrong})
    failed = [v for v in claims.verdicts(spoilt) if v.outcome == "fails"]
    assert [claim in v.name for v in failed] == [True]


def test_the_lead_names_the_device_and_that_the_small_is_not_the_full():
    here, there = (
        claims.LEAD({"device": device, "arguments": json.dumps(study.FULL | size)})[0]
        for device, size in (("cpu", {}), ("a GPU", study.CUDA))
    )
    assert "on cpu" in here
    assert "not the full one" in here
    assert "on a GPU" in there
    assert "not the full one" not in there
    assert "50000 rendered" in there


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": 400}, "the estimators need 325 images or more in training, not 320 of 400"),
        ({"task": ["mlp3 words"]}, "there is no task 'mlp3 words'; there are mlp7 digits"),
        ({"seeds": 1}, "seeds must be at least 2, not 1"),
    ],
)
def test_bad_input_is_answered_by_one_sentence(changes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        study.study.parameters("small", Session(tmp_path), changes)
