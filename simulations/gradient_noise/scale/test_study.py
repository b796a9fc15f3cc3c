"""The study of the critical batch: its line search, a small run, and wrong results."""

import numpy as np
import pytest
import torch
import xarray as xr
from witnesses import SURE

from sgdnoise.core import nanmean
from simulations.gradient_noise.scale import claims, study


@pytest.fixture
def place(rng):
    return study.quadratic(50, rng)


def test_the_place_of_a_quadratic_is_one(place, rng):
    steps, g = rng.normal(size=(4, 30)), place.gradients.mean(0)
    expected = [g @ s + s @ place.curvature(s) / 2 for s in steps]
    np.testing.assert_allclose(place.change(steps), expected, rtol=1e-12)


def test_the_place_of_a_network_has_the_derivatives_of_its_loss(rng):
    place = study.network(20, 3, 0)
    step = 1e-3 * rng.normal(size=place.gradients.shape[1])
    changes = place.change(np.stack([step, -step]))
    g = place.gradients.mean(0)
    np.testing.assert_allclose(changes[0] - changes[1], 2 * g @ step, rtol=1e-4)  # to third order
    np.testing.assert_allclose(changes.sum(), step @ place.curvature(step), rtol=1e-3)
    assert torch.get_default_dtype() == torch.float32


def test_the_search_ends_at_the_vertex_of_a_parabola(place, rng):
    directions, g = rng.normal(size=(9, 30)) - place.gradients.mean(0), place.gradients.mean(0)
    slope = -np.mean(directions @ g)
    curvature = np.mean([d @ place.curvature(d) for d in directions])
    for guess in (0.4 * slope / curvature, 2 * slope / curvature):
        step = study.best_step(place, directions, guess)
        np.testing.assert_allclose(step["rate"], slope / curvature, rtol=1e-9)
        np.testing.assert_allclose(step["gain"], slope**2 / (2 * curvature), rtol=1e-9)


@pytest.mark.parametrize("factor", [1e-3, -1.0])
def test_no_best_step_is_nan(place, factor):
    g = place.gradients.mean(0)
    guess = factor * (g @ g) / (g @ place.curvature(g))
    assert np.isnan(list(study.best_step(place, -g[None], guess).values())).all()


def test_the_errors_of_a_search_are_the_deviations_of_repeats(place, rng):
    steps = []
    for _ in range(200):
        gradients = study.batch_gradients(place.gradients, 8, 60, rng)
        steps.append([*study.best_step(place, -gradients, 0.3).values()])
    rate, gain, *errors = np.asarray(steps).T
    for value, error in zip((rate, gain), errors, strict=True):
        ratio = np.sqrt(np.mean(error**2)) / value.std(ddof=1)
        assert abs(ratio - 1) < SURE * (2 / 200) ** 0.5


def made_up(scale=40.0):
    """Results whose gains and rates fall exactly as predicted, but for the scale."""
    fraction = np.asarray([1 / 16, 1 / 2, 1.0, 2.0])
    batch = np.outer([1, 2], 40.0 * fraction)
    reduced = {name: (("seed", "share"), 3 / (1 + scale / batch)) for name in ("gain", "rate")}
    exact = {
        f"{name}_{kind}": ("seed", [3.0, 3.0])
        for name in reduced
        for kind in ("exact", "predicted")
    }
    dataset = xr.Dataset(
        reduced
        | exact
        | {
            "batch": (("seed", "share"), batch),
            "critical": ("seed", [40.0, 80.0]),
            "simple": ("seed", [20.0, 30.0]),
            "by_norms": ("seed", [22.0, 30.0]),
            "step_exact": ("seed", [2.9, 2.7]),
        },
        {"share": fraction},
    )
    return study.with_measured(dataset.expand_dims(moment=["start"]))


@pytest.mark.parametrize("name", ["gain", "rate"])
def test_the_critical_batch_is_read_from_the_loss_of_efficiency(name):
    critical = made_up(37.0)[f"critical_by_{name}"]
    np.testing.assert_allclose(critical, [[37.0, 37.0]], rtol=1e-12)


def test_sizes_far_from_the_prediction_tell_nothing():
    results = made_up()
    results.gain[:, :, 0] = 1e-9
    critical = study.with_measured(results).critical_by_gain
    np.testing.assert_allclose(critical, [[40.0, 40.0]], rtol=1e-12)


def test_the_regime_is_that_of_the_exact_step():
    results = made_up()
    assert claims.in_regime(results.sel(moment="start"))
    results.step_exact[:] = 2.6
    assert not claims.in_regime(results.sel(moment="start"))
    claimed = {v.name: v.kind == "prediction" for v in claims.verdicts(results)}
    assert sum(claimed.values()) == 1
    assert claimed["start: scale by norms, over simple scale"]


def test_a_verdict_is_the_mean_ratio_over_seeds():
    measured = {v.name: v.measured for v in claims.verdicts(made_up())}
    for text, ratios in (
        ("start: critical batch by gain, over predicted", [1.0, 0.5]),
        ("start: scale by norms, over simple scale", [1.1, 1.0]),
    ):
        expected = nanmean(np.asarray(ratios))
        assert float(measured[text].value) == pytest.approx(float(expected.value))
        assert float(measured[text].stderr) == pytest.approx(float(expected.stderr))


@pytest.fixture(scope="module")
def small():
    """The smallest run, in this process."""
    torch.set_num_threads(1)
    return study.study.simulate("small", seeds=2, examples=60, draws=20)


def test_the_smallest_run_is_judged(small):
    verdicts = study.study.judge(small)
    # The best exact rate of a quadratic is an identity, which the next test checks.
    assert len(verdicts) == 5 * small.sizes["moment"] - 1
    assert np.isfinite([float(v.measured.value) for v in verdicts]).all()


def test_a_quadratic_gains_as_predicted(small):
    """Its exact step to rounding; with batches as far as these draws can tell."""
    at = small.sel(moment="quadratic")
    np.testing.assert_allclose(at.rate_exact, at.rate_predicted, rtol=1e-9)
    np.testing.assert_allclose(at.gain_exact, at.gain_predicted, rtol=1e-9)
    expected = at.rate_predicted / (1 + at.critical / at.batch)
    assert (abs(at.rate - expected) < SURE * at.rate_stderr).all()
