"""The study of the critical batch: its line search, its smallest run, and what it says of both."""

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from witnesses import SURE

from sgdnoise.core import nanmean
from simulations.gradient_noise.scale import figure as picture
from simulations.gradient_noise.scale import study


@pytest.fixture
def place(rng):
    return study.bowl(50, rng)


def test_the_place_of_a_bowl_is_a_quadratic(place, rng):
    steps, g = rng.normal(size=(4, 30)), place.gradients.mean(0)
    expected = [g @ s + s @ place.curvature(s) / 2 for s in steps]
    np.testing.assert_allclose(place.change(steps), expected, rtol=1e-12)


def test_the_place_of_a_network_has_the_slopes_of_its_loss(rng):
    place = study.network(20, 3, 0)
    step = 1e-3 * rng.normal(size=place.gradients.shape[1])
    both = place.change(np.stack([step, -step]))
    g = place.gradients.mean(0)
    np.testing.assert_allclose(both[0] - both[1], 2 * g @ step, rtol=1e-4)  # to third order
    np.testing.assert_allclose(both.sum(), step @ place.curvature(step), rtol=1e-3)
    assert torch.get_default_dtype() == torch.float32


def test_the_search_ends_at_the_vertex_of_a_parabola(place, rng):
    directions, g = rng.normal(size=(9, 30)) - place.gradients.mean(0), place.gradients.mean(0)
    slope = -np.mean(directions @ g)
    bend = np.mean([d @ place.curvature(d) for d in directions])
    for guess in (0.4 * slope / bend, 2 * slope / bend):
        found = study.searched(place, directions, guess)
        np.testing.assert_allclose(found["rate"], slope / bend, rtol=1e-9)
        np.testing.assert_allclose(found["gain"], slope**2 / (2 * bend), rtol=1e-9)


@pytest.mark.parametrize("factor", [1e-3, -1.0])
def test_no_best_step_is_nan(place, factor):
    g = place.gradients.mean(0)
    guess = factor * (g @ g) / (g @ place.curvature(g))
    assert np.isnan(list(study.searched(place, -g[None], guess).values())).all()


def test_the_errors_of_a_search_are_the_spread_of_repeats(place, rng):
    found = []
    for _ in range(200):
        drawn = study._gradients(place.gradients, 8, 60, rng)
        found.append([*study.searched(place, -drawn, 0.3).values()])
    rate, gain, *told = np.asarray(found).T
    for value, error in zip((rate, gain), told, strict=True):
        ratio = np.sqrt(np.mean(error**2)) / value.std(ddof=1)
        assert abs(ratio - 1) < SURE * (2 / 200) ** 0.5


def made_up(scale=40.0):
    """Results whose gains and rates fall exactly as predicted, but for the scale."""
    share = np.asarray([1 / 16, 1 / 2, 1.0, 2.0])
    batch = np.outer([1, 2], 40.0 * share)
    left = {name: (("seed", "share"), 3 / (1 + scale / batch)) for name in ("gain", "rate")}
    same = {
        f"{name}_{kind}": ("seed", [3.0, 3.0]) for name in left for kind in ("exact", "predicted")
    }
    made = xr.Dataset(
        left
        | same
        | {
            "batch": (("seed", "share"), batch),
            "critical": ("seed", [40.0, 80.0]),
            "simple": ("seed", [20.0, 30.0]),
            "by_norms": ("seed", [22.0, 30.0]),
            "step_exact": ("seed", [2.9, 2.7]),
        },
        {"share": share},
    )
    return study.with_measured(made.expand_dims(moment=["start"]))


@pytest.mark.parametrize("what", ["gain", "rate"])
def test_the_critical_batch_is_read_off_what_is_lost(what):
    found = made_up(37.0)[f"critical_by_{what}"]
    np.testing.assert_allclose(found, [[37.0, 37.0]], rtol=1e-12)


def test_sizes_far_from_the_prediction_tell_nothing():
    results = made_up()
    results.gain[:, :, 0] = 1e-9
    found = study.with_measured(results).critical_by_gain
    np.testing.assert_allclose(found, [[40.0, 40.0]], rtol=1e-12)


def test_the_regime_is_that_of_the_exact_step():
    results = made_up()
    assert study.in_regime(results.sel(moment="start"))
    results.step_exact[:] = 2.6
    assert not study.in_regime(results.sel(moment="start"))
    claimed = {v.name: v.claimed for v in study.verdicts(results)}
    assert sum(claimed.values()) == 1
    assert claimed["start: scale by norms, over simple scale"]


def test_a_verdict_is_the_mean_ratio_over_seeds():
    found = {v.name: v for v in study.verdicts(made_up())}
    by_gain = nanmean(np.asarray([1.0, 0.5]))
    assert found["start: critical batch by gain, over predicted"].measured == pytest.approx(
        (*by_gain[:2], np.inf)
    )
    norms = nanmean(np.asarray([1.1, 1.0]))
    seen = found["start: scale by norms, over simple scale"].measured
    assert seen == pytest.approx((*norms[:2], np.inf))


@pytest.fixture(scope="module")
def small():
    """The smallest run, in this process."""
    torch.set_num_threads(1)
    size = study.SMALL._replace(examples=60, draws=20)
    parts = [
        xr.concat([study.run(m, seed, size=size) for seed in range(2)], "seed")
        for m in size.moments
    ]
    joined = xr.concat(parts, "moment")
    return study.with_measured(joined.assign_coords(moment=list(size.moments), seed=[0, 1]))


def test_the_smallest_run_is_judged_and_drawn(small):
    verdicts = study.verdicts(small)
    assert len(verdicts) == 5 * small.sizes["moment"]
    assert np.isfinite([v.measured.value for v in verdicts]).all()
    ((caption, figure),) = picture.figures(small).values()
    assert caption.endswith(".")
    assert isinstance(figure, Figure)
    assert all(ax.get_ylabel() for ax in figure.axes)
    (table,) = study.tables(small)
    assert all(len(row) == len(table.headings) for row in table.rows)


def test_a_bowl_gains_as_predicted(small):
    """Its exact step to rounding; with batches as far as these draws can tell."""
    part = small.sel(moment="quadratic")
    np.testing.assert_allclose(part.rate_exact, part.rate_predicted, rtol=1e-9)
    np.testing.assert_allclose(part.gain_exact, part.gain_predicted, rtol=1e-9)
    due = part.rate_predicted / (1 + part.critical / part.batch)
    assert (abs(part.rate - due) < SURE * part.rate_stderr).all()


def test_one_seed_has_no_error():
    with pytest.raises(SystemExit) as ended:
        study.main(small=True, seeds=1)
    assert ended.value.code == 2
