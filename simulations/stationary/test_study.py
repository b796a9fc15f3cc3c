"""The study of rest: its cases, a small run of some, and what it says of wrong ones."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from sgdnoise.lab import exit_status
from sgdnoise.theory import stationary_covariance
from simulations.stationary import figure as picture
from simulations.stationary import study

HOME = Path(__file__).parents[1]
TINY = study.Size(("descent, fast", "reshuffled, fast", "given examples"), 1000)


@pytest.fixture(scope="module")
def results():
    parts = [study.run(name, size=TINY) for name in TINY.cases]
    return xr.concat(parts, "case").assign_coords(case=list(TINY.cases))


def test_the_bowl_has_the_noise_it_says(rng):
    problem, hessian, covariance = study.bowl()
    theta = np.asarray(rng.normal(size=study.P), np.float32)
    rows = np.asarray(problem.gradients(theta))
    np.testing.assert_allclose(rows.mean(0), hessian @ theta, rtol=1e-4, atol=1e-5)  # float32
    np.testing.assert_allclose(np.cov(rows.T, bias=True), covariance, rtol=1e-4, atol=1e-5)


def test_the_equation_is_predicted_as_descent_with_more_noise_in_shorter_steps():
    """The step's own rest tends to the equation's, whose noise a unit of time is the same."""
    _, hessian, covariance = study.bowl()
    _, _, rest, _, _ = study.made(study.CASES["equation"])
    fine = stationary_covariance(hessian, covariance / study.BATCH * 1e6, 0.3e-6)
    off = np.linalg.norm(rest - fine) / np.linalg.norm(fine)
    assert off < 0.3 * 2 / study.FINER  # rate h over the cuts


def test_the_smallest_run_holds_and_is_drawn(results):
    verdicts = study.verdicts(results)
    assert exit_status(verdicts) == 0
    assert len(verdicts) == 2 * len(TINY.cases)
    assert all(isinstance(figure, Figure) for _, figure in picture.figures(results).values())
    assert len(study.tables(results)[0].rows) == len(TINY.cases)


def test_a_spread_that_is_wrong_fails_and_one_often_used_is(results):
    wrong = results.assign(square=1.3 * results.square)
    assert exit_status(study.verdicts(wrong)) == 1
    often = [v for v in study.verdicts(results) if not v.claimed]
    assert sum(v.outcome == "fails" for v in often) >= 2


def test_bad_input_is_answered_by_one_sentence(tmp_path):
    command = [sys.executable, "simulations/stationary.py", "--chains", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True)
    assert done.returncode == 2
    assert "an error needs at least 2 chains, not 1" in done.stderr
    assert "Traceback" not in done.stderr
