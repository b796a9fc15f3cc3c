"""The study of tails: its smallest run, its claims by hand, and what it makes of bad input."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from witnesses import SURE

from sgdnoise.lab import Session
from sgdnoise.noise import METHODS
from simulations.noise_tails import claims, study
from simulations.noise_tails import figure as drawing


@pytest.fixture(scope="module")
def small():
    """The smallest run, in this process."""
    return study.study.simulate("small", repeats=3, tests=8, power=3, draws=120, sampled=20_000)


def test_the_smallest_run_is_judged_and_drawn(small):
    verdicts = claims.verdicts(small)
    names = [v.name for v in verdicts]
    assert len(set(names)) == len(names)
    assert np.isfinite([v.measured.value for v in verdicts]).all()
    assert {v.kind for v in verdicts} >= {"prediction", "outside"}
    for caption, figure in drawing.figures(small).values():
        assert caption.endswith(".")
        assert isinstance(figure, Figure)
        assert all(ax.get_ylabel() for ax in figure.axes)
    for table in claims.tables(small):
        assert all(len(row) == len(table.headings) for row in table.rows)


def test_mixed_scales_read_as_heavy_tails_and_layers_do_not(small):
    index = small.mixed.sel(by="stable", spread=2)
    assert float(index.sel(pooling="naive").max()) < 1
    assert float(index.sel(pooling="layers").min()) > 1.98


def test_a_network_s_noise_is_more_gaussian_in_larger_batches(small):
    trained = small.sel(stage="trained")
    assert float(trained.mardia.sel(batch=1)) > 3 * float(trained.mardia.sel(batch=16))
    gap = trained.mardia - trained.one_example / trained.batch  # exact
    assert np.all(abs(gap) < SURE * trained.mardia_stderr)
    assert float(trained.batch_p.sel(batch=1)) == 0.01


def test_every_estimator_is_claimed_for_laws_that_are_drawn():
    assert claims.CLAIMED.keys() == METHODS.keys()
    assert study.LAWS.keys() == claims.ALPHA.keys()
    assert all(law in claims.ALPHA for laws in claims.CLAIMED.values() for law in laws)
    assert claims.truth("Student 3", "stable") == 2
    assert claims.truth("Student 3", "hill") == 3
    assert claims.truth("Gaussian", "moments") == 0


def test_the_excess_of_all_points_is_that_of_a_law_with_these_atoms():
    """The corners of a cube have |y|^2 = k, so that the excess is k / (k + 2) - 1."""
    corners = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), -1).reshape(-1, 3) * [1, 5, 0.1] + 7
    np.testing.assert_allclose(study._excess(corners), 3 / 5 - 1, rtol=1e-12)


def test_batches_drawn_with_replacement_have_the_moments_of_their_means(rng):
    points = rng.normal(size=(30, 2))
    means = study._batch_noise(points, 5, 12_001, rng)
    assert means.shape == (12_001, 2)
    variance = points.var(0) / 5
    assert np.all(abs(means.mean(0) - points.mean(0)) < SURE * (variance / 12_001) ** 0.5)
    assert np.all(abs(means.var(0) / variance - 1) < SURE * (2.5 / 12_001) ** 0.5)


def row_of(dataset, experiment):
    [row] = experiment(dataset)
    return row


@pytest.mark.parametrize(
    ("level", "outcome", "half"),
    [(0.05, "holds", True), (0.025, "fails", False), (0.1, "fails", True)],
)
def test_the_level_of_a_test_is_told_from_half_and_twice_of_it(level, outcome, half, rng):
    """20,000 p-values of a test that rejects too rarely or too often."""
    p = rng.uniform(size=(40, 500)) * 0.05 / level
    data = xr.Dataset({"p_value": (("shape", "table", "test"), p[None])}, {"shape": ["made up"]})
    row = row_of(data, claims._tests)
    assert row.outcome == outcome
    assert row.excluded["rate x 0.5"] is half
    assert row.measured.stderr == pytest.approx(
        100 * (level * (1 - level) / 20_000) ** 0.5, rel=0.5
    )


def test_two_tables_that_agree_have_the_error_of_their_tests():
    """None of 20 tests rejects; the error of the two means would be 0, and 5% excluded."""
    estimate = claims.rejected(np.full((2, 10), 0.5))
    assert (estimate.value, estimate.stderr) == (0.0, pytest.approx(5.0))


def test_tables_that_differ_have_the_error_of_their_means():
    estimate = claims.rejected(np.repeat([[0.01], [0.5], [0.5], [0.5]], 100, axis=1))
    assert (estimate.value, estimate.stderr) == (25.0, pytest.approx(25.0))


@pytest.mark.parametrize(("factor", "outcome"), [(1, "holds"), (0.5, "fails"), (2, "fails")])
def test_a_moment_that_falls_otherwise_than_one_over_the_batch_fails(factor, outcome):
    columns = {"one_example": (("stage",), [8.0]), "mardia": (("stage", "batch"), [[factor]])}
    columns["mardia_stderr"] = (("stage", "batch"), [[0.01]])
    data = xr.Dataset(columns, {"stage": ["made up"], "batch": [8]})
    row = row_of(data, claims._network)
    assert row.outcome == outcome
    assert row.excluded["moment x 0.5"] is (factor != 0.5)


def test_one_repeat_has_no_error(tmp_path):
    with pytest.raises(ValueError, match="repeats must be at least 2, not 1"):
        study.study.parameters("small", Session(tmp_path), {"repeats": 1})
