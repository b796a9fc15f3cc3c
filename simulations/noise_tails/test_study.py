"""The study of tails: its smallest run, its claims by hand, and what it makes of bad input."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from sgdnoise.lab import Session
from sgdnoise.noise import METHODS
from simulations.noise_tails import claims, study
from simulations.noise_tails import figure as drawing


@pytest.fixture(scope="module")
def small():
    """The smallest run, in this process."""
    return study.study.simulate("small", repeats=3, tests=8, power=3, draws=120)


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
    assert float(trained.batch_p.sel(batch=1)) == 0.01


def test_every_estimator_is_claimed_for_laws_that_are_drawn():
    assert claims.CLAIMED.keys() == METHODS.keys()
    assert study.LAWS.keys() == claims.ALPHA.keys()
    assert all(law in claims.ALPHA for laws in claims.CLAIMED.values() for law in laws)
    assert claims.truth("Student 3", "stable") == 2
    assert claims.truth("Student 3", "hill") == 3
    assert claims.truth("Gaussian", "moments") == 0


def test_one_repeat_has_no_error(tmp_path):
    with pytest.raises(ValueError, match="repeats must be at least 2, not 1"):
        study.study.parameters("small", Session(tmp_path), {"repeats": 1})
