"""The study of escape times: its wells, its smallest run, and what it says of made-up results."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from sgdnoise.lab import Session, exit_status
from simulations.escape import claims, study
from simulations.escape import figure as drawing

NAMES = ("label noise, as high", "parabola, E = 2", "jumps, eps = 0.2")


@pytest.fixture(scope="module")
def results():
    """Three wells, in this process."""
    return study.study.simulate("small", setting=list(NAMES), chains=600)


@pytest.fixture(scope="module")
def perfect():
    """All wells, left exactly when predicted, within half a per cent."""
    datasets = []
    for make in study.SETTINGS.values():
        well = make()
        datasets.append(
            xr.Dataset(
                {n: float(getattr(well, n)) for n in ("exact", "formula", "height", "plain")}
                | {"seen": well.discrete, "time": well.discrete}
                | {"time_stderr": 0.005 * well.discrete, "stayed": 0.0}
                | {"steps": well.discrete / well.process.dt}
            )
        )
    return xr.concat(datasets, "setting").assign_coords(setting=list(study.SETTINGS))


def outcomes(results, *names):
    return {v.name: v.outcome for v in claims.verdicts(results) if any(n in v.name for n in names)}


def test_the_smallest_run_holds_and_is_drawn(results):
    verdicts = claims.verdicts(results)
    assert exit_status(verdicts) == 0
    assert len(verdicts) == 5
    assert float(results.stayed.max()) < 0.01  # exp(-8) of 600 are 0.2
    assert all(isinstance(figure, Figure) for _, figure in drawing.figures(results).values())
    assert [row[0] for row in claims.tables(results)[0].rows] == list(NAMES)


def test_chains_that_leave_at_other_times_fail(results):
    assert exit_status(claims.verdicts(results.assign(time=1.3 * results.time))) == 1


def test_what_theory_predicts_holds_in_every_well(perfect):
    verdicts = claims.verdicts(perfect)
    assert not any(v.outcome == "fails" for v in verdicts)
    assert set(outcomes(perfect, "exact").values()) == {"holds"}
    assert sum(v.holds for v in verdicts) > 20
    assert set(outcomes(perfect, "one temperature").values()) == {"differs"}
    assert sum(v.kind == "prediction" for v in verdicts) > 25


@pytest.mark.parametrize(
    ("setting", "factor", "claim"),
    [
        ("double well, E = 4", 2.0, "double well, E = 4: formula"),
        ("shaped noise, E = 3", 0.9, "shaped noise, E = 3: exact"),
        ("label noise, flat", 1.2, "time over that of the sharp well as wide"),
        ("jumps, eps = 0.025", 1.2, "d log time / d log eps"),
        ("jumps, 4 times as high, eps = 0.05", 1.2, "time at 4 times the height"),
    ],
)
def test_a_well_that_is_left_at_another_time_fails_its_claim(perfect, setting, factor, claim):
    wrong = perfect.assign(
        time=perfect.time.where(perfect.setting != setting, factor * perfect.time)
    )
    assert set(outcomes(wrong, claim).values()) == {"fails"}
    assert exit_status(claims.verdicts(wrong)) == 1


def test_sharp_wells_as_wide_and_as_high_are_what_they_are_called():
    """Of equal width E is the same, of equal height h w^2 is, and E ~ w^2."""
    flat, wide, high = (
        study.SETTINGS[f"label noise, {name}"]() for name in ("flat", "as wide", "as high")
    )
    assert_allclose([wide.height, high.height], [flat.height, flat.height / 2], rtol=1e-12)
    assert_allclose(flat.exact / wide.exact, 2, rtol=1e-8)  # of twice the curvature


def test_the_noise_of_the_shaped_well_is_that_of_its_integral(rng):
    """A step's variance is 2 D dt, and its mean the slope."""
    well, dt = study.shaped(3.0), 0.01
    white = rng.normal(size=20_000)
    for x in (-1.0, 0.3):
        ends = np.asarray(
            [well.process.step(np.asarray([x]), white[i : i + 1])[0] for i in range(2)]
        )
        kick = (ends[1] - ends[0]) / (white[1] - white[0])
        drift = ends[0] - kick * white[0] - x
        temperature = study.quasipotential(study._cubic, study._shape, -1.0, 0.0) / 3
        assert_allclose(kick**2, 2 * temperature * (0.5 + x**2) * dt, rtol=1e-4)  # float32
        assert_allclose(drift, -dt * (x**3 - x), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chains": 1}, "chains must be at least 2, not 1"),
        ({"setting": ["cliff"]}, "there is no setting 'cliff'; there are double well, E = 2; "),
    ],
)
def test_bad_input_is_answered_by_one_sentence(changes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        study.study.parameters("small", Session(tmp_path), changes)
