"""The study of linear scaling: its parts, its smallest run, and what it says of made-up results."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from sgdnoise.lab import exit_status
from simulations.sde_and_scaling.scaling import figure as picture
from simulations.sde_and_scaling.scaling import study

HOME = Path(__file__).parents[1]
TINY = study.Size((4, 16), 4, 0.03, (1, 8), 400)


@pytest.fixture(scope="module")
def results():
    """Two networks and two regressions, in this process."""
    batches = [1, 4, 8, 16]
    parts = [study.run(batch, size=TINY) for batch in batches]
    return xr.concat(parts, "batch", join="outer").assign_coords(batch=batches)


def test_the_smallest_run_holds_and_is_drawn(results):
    verdicts = study.verdicts(results)
    assert exit_status(verdicts) == 0
    assert {v.name.split(":")[0] for v in verdicts} == {
        "rate 0.04",
        "rate 0.16",
        "regression, rate 0.1",
        "regression, rate 0.8",
    }
    assert all(isinstance(figure, Figure) for _, figure in picture.figures(results).values())
    assert len(study.tables(results)[0].rows) == 2


@pytest.mark.parametrize(("name", "factor"), [("ratio", 1.1), ("excess", 2.0)])
def test_what_scales_otherwise_than_predicted_fails(results, name, factor):
    wrong = results.assign({name: factor * results[name]})
    assert exit_status(study.verdicts(wrong)) == 1


def test_a_ratio_of_means_has_the_error_of_both(rng):
    one, other = rng.normal(5, 1, (300, 50)), rng.normal(3, 1, (300, 50))
    found = [study._over(study._mean(a), study._mean(b)) for a, b in zip(one, other, strict=True)]
    spread = np.std([e.value for e in found], ddof=1)
    told = np.mean([e.stderr for e in found])
    assert abs(told / spread - 1) < 5 / (2 * 300) ** 0.5


def test_bad_input_is_answered_by_one_sentence(tmp_path):
    command = [sys.executable, "simulations/scaling.py", "--runs", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True)
    assert done.returncode == 2
    assert "an error needs at least 2 runs, not 1" in done.stderr
    assert "Traceback" not in done.stderr
