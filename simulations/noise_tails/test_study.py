"""The study of tails: its smallest run, its claims by hand, and what it makes of bad input."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from sgdnoise.noise import METHODS
from simulations.noise_tails import claims, study
from simulations.noise_tails import figure as picture


@pytest.fixture(scope="module")
def small(tmp_path_factory, in_this_process):  # noqa: ARG001 - runs there
    """The smallest run, in this process."""

    size = study.SMALL._replace(repeats=3, tests=8, power=3, draws=120)
    return study.study(size, jobs=1, folder=tmp_path_factory.mktemp("points"))


def test_the_smallest_run_is_judged_and_drawn(small):
    verdicts = claims.verdicts(small)
    names = [v.name for v in verdicts]
    assert len(set(names)) == len(names)
    assert np.isfinite([v.measured.value for v in verdicts]).all()
    assert {v.claimed for v in verdicts} == {True, False}
    for caption, figure in picture.figures(small).values():
        assert caption.endswith(".")
        assert isinstance(figure, Figure)
        assert all(ax.get_ylabel() for ax in figure.axes)
    for table in claims.tables(small):
        assert all(len(row) == len(table.headings) for row in table.rows)


def test_mixed_scales_read_as_heavy_tails_and_layers_do_not(small):
    part = small.mixed.sel(by="stable", spread=2)
    assert float(part.sel(pooling="naive").max()) < 1
    assert float(part.sel(pooling="layers").min()) > 1.98


def test_a_network_s_noise_is_more_gaussian_in_larger_batches(small):
    trained = small.sel(stage="trained")
    assert float(trained.mardia.sel(batch=1)) > 3 * float(trained.mardia.sel(batch=16))
    assert float(trained.batch_p.sel(batch=1)) == 0.01


def test_every_estimator_is_claimed_for_laws_that_are_drawn():
    assert claims.CLAIMED.keys() == METHODS.keys()
    assert study.DRAW.keys() == claims.ALPHA.keys()
    assert all(law in claims.ALPHA for laws in claims.CLAIMED.values() for law in laws)
    assert claims.truth("Student 3", "stable") == 2
    assert claims.truth("Student 3", "hill") == 3
    assert claims.truth("Gaussian", "moments") == 0


def test_one_repeat_has_no_error():
    with pytest.raises(SystemExit) as ended:
        study.main(small=True, repeats=1)
    assert ended.value.code == 2
