"""The study of weak orders: its exact parts, a small run, and what it says of wrong ones."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from sgdnoise.lab import exit_status
from simulations.sde_and_scaling.weak_order import figure as picture
from simulations.sde_and_scaling.weak_order import study

HOME = Path(__file__).parents[1]
TINY = study.Size(study.RATES[:5], (1, 4), 2000)


@pytest.fixture(scope="module")
def results():
    orders = study.run("orders", size=TINY)
    squares = [study.run(str(s), size=TINY).square for s in TINY.stretches]
    together = xr.concat(squares, "stretch").assign_coords(stretch=list(TINY.stretches))
    return xr.Dataset({"distance": orders.distance, "square": together})


def test_the_smallest_run_holds_and_is_drawn(results):
    verdicts = study.verdicts(results)
    assert exit_status(verdicts) == 0
    assert sum(v.claimed for v in verdicts) == len(study.WAYS) + 1 + len(TINY.stretches)
    assert all(isinstance(figure, Figure) for _, figure in picture.figures(results).values())
    assert len(study.tables(results)[0].rows) == results.sizes["way"]


def test_slopes_tend_to_their_orders(results):
    for way, order in study.WAYS.items():
        off = abs(study.slopes(results, way) - order)
        assert np.all(np.diff(off) < 0)  # closer with each halving of the rate


@pytest.mark.parametrize("name", ["distance", "square"])
def test_what_is_wrong_fails(results, name):
    slower = results.distance * (1 + results.rate**0.5)
    wrong = {"distance": slower, "square": 1.2 * results.square}
    assert exit_status(study.verdicts(results.assign({name: wrong[name]}))) == 1


def test_bad_input_is_answered_by_one_sentence(tmp_path):
    command = [sys.executable, "simulations/weak_order.py", "--chains", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True)
    assert done.returncode == 2
    assert "an error needs at least 2 chains, not 1" in done.stderr
    assert "Traceback" not in done.stderr
