"""The study of the slow flow: its tasks, its smallest run, and what it says of made-up ones."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from sgdnoise.lab import exit_status
from simulations.linear_networks.two_layer import claims, study
from simulations.linear_networks.two_layer import figure as picture

HOME = Path(__file__).parents[1]
TINY = study.Size(("plain", "no label noise"), 4, 0.05)


@pytest.fixture(scope="module")
def results():
    """Two settings for a twentieth of their time, in this process."""
    import xarray as xr

    parts = [study.run(name, size=TINY) for name in TINY.settings]
    return xr.concat(parts, "setting").assign_coords(setting=list(TINY.settings))


@pytest.mark.parametrize("name", ["plain", "narrow", "rank one"])
def test_a_task_starts_at_its_minimum_and_does_not_use_the_last_input(name):
    setting = study.SETTINGS[name]
    x, y, w, v = study.task_and_start(setting)
    np.testing.assert_allclose(x @ w @ v, y, atol=1e-9)
    moment = x.T @ x / len(x)
    np.testing.assert_allclose(moment, np.diag(np.diag(moment)), atol=1e-12)
    np.testing.assert_allclose(w[-1] @ v, 0, atol=1e-10)
    rank = np.linalg.matrix_rank(w @ v, tol=1e-6)
    assert rank == np.count_nonzero(setting.modes)
    unit = study.useless(w, v)
    np.testing.assert_allclose([unit @ unit, *(unit @ v)], [1, *np.zeros(v.shape[1])], atol=1e-12)


def test_the_largest_curvature_is_that_of_the_dense_hessian(rng):
    w, v = rng.normal(size=(3, 4)), rng.normal(size=(4, 2))
    moment = np.diag([0.5, 1.0, 1.5])
    columns = []
    for unit in np.eye(20):
        dw, dv = unit[:12].reshape(3, 4), unit[12:].reshape(4, 2)
        columns.append((dw @ v + w @ dv).ravel())
    slopes = np.stack(columns, axis=1)
    hessian = slopes.T @ np.kron(moment, np.eye(2)) @ slopes
    assert study._sharpest(moment, w, v) == pytest.approx(np.linalg.eigvalsh(hessian)[-1])


def test_the_smallest_run_holds_and_is_drawn(results):
    verdicts = claims.verdicts(results)
    assert exit_status(verdicts) == 0
    assert any(v.claimed and v.holds for v in verdicts)
    figures = picture.figures(results)
    assert all(isinstance(figure, Figure) for _, figure in figures.values())
    assert [len(row) for row in claims.tables(results)[0].rows] == [10, 10]


def test_without_label_noise_nothing_moves(results):
    part = results.sel(setting="no label noise")
    np.testing.assert_allclose(part.ratio, float(part.ratio_start), rtol=1e-4)  # float32


@pytest.mark.parametrize(
    ("name", "factor"),
    [("ratio", 1.05), ("modes", 1.2), ("imbalance", 1.5), ("useless", 0.5)],
)
def test_what_moves_otherwise_than_predicted_fails(results, name, factor):
    start = results[f"{name}_start"] if name == "imbalance" else 0
    wrong = results.assign({name: start + factor * (results[name] - start)})
    assert exit_status(claims.verdicts(wrong.sel(setting=["plain"]))) == 1


@pytest.mark.parametrize(
    ("u", "sharp", "expected"),
    [
        (0.119, 0.29, (True, claims.GENTLY)),
        (0.121, 0.29, (True, claims.ROUGHLY)),
        (0.119, 0.31, (True, claims.ROUGHLY)),
        (0.3, 1.19, (True, claims.ROUGHLY)),
        (0.3, 1.21, (False, claims.ROUGHLY)),
    ],
)
def test_the_regime_has_its_borders(results, u, sharp, expected):
    part = results.sel(setting="plain").assign(amplification=u, sharpness=sharp)
    assert claims.regime(part) == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--runs", "1"], "an error needs at least 2 runs, not 1"),
        (["--setting", "nothing"], "no setting 'nothing': there are plain"),
    ],
)
def test_bad_input_is_answered_by_one_sentence(arguments, words, tmp_path):
    command = [sys.executable, "simulations/slow_flow.py", *arguments, "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
