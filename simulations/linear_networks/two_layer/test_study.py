"""The study of two-layer networks: its tasks, a small run, and wrong results."""

import numpy as np
import pytest

from sgdnoise.lab import exit_status
from simulations.linear_networks.two_layer import claims, study

TINY = {"setting": ["plain", "no label noise"], "runs": 4, "fraction": 0.05}


@pytest.fixture(scope="module")
def results():
    """Two settings for a twentieth of their time, in this process."""
    return study.study.simulate("small", **TINY)


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
    unit = study.irrelevant_direction(w, v)
    np.testing.assert_allclose([unit @ unit, *(unit @ v)], [1, *np.zeros(v.shape[1])], atol=1e-12)


def test_the_smallest_run_holds(results):
    verdicts = claims.verdicts(results)
    assert exit_status(verdicts) == 0
    assert any(v.holds for v in verdicts)


def test_without_label_noise_nothing_moves(results):
    control = results.sel(setting="no label noise")
    np.testing.assert_allclose(control.ratio, float(control.ratio_start), rtol=1e-4)  # float32


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
        (0.119, 0.29, (True, claims.TOLERANCE)),
        (0.121, 0.29, (True, claims.OUTER_TOLERANCE)),
        (0.119, 0.31, (True, claims.OUTER_TOLERANCE)),
        (0.3, 1.19, (True, claims.OUTER_TOLERANCE)),
        (0.3, 1.21, (False, claims.OUTER_TOLERANCE)),
    ],
)
def test_the_regime_has_its_borders(results, u, sharp, expected):
    setting = results.sel(setting="plain").assign(amplification=u, sharpness=sharp)
    assert claims.regime(setting) == expected
