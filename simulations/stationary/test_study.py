"""The study of stationary covariances: its cases, a small run, and wrong results."""

import numpy as np
import pytest

from sgdnoise.lab import exit_status
from sgdnoise.theory import stationary_covariance
from simulations.stationary import _cases as cases
from simulations.stationary.study import study

TINY = {"case": ["descent, fast", "reshuffled, fast", "given examples"], "chains": 1000}


@pytest.fixture(scope="module")
def results():
    return study.simulate("small", **TINY)


def test_the_bowl_has_the_noise_it_says(rng):
    problem, hessian, covariance = cases.quadratic()
    theta = np.asarray(rng.normal(size=cases.P), np.float32)
    gradients = np.asarray(problem.gradients(theta))
    np.testing.assert_allclose(gradients.mean(0), hessian @ theta, rtol=1e-4, atol=1e-5)  # float32
    np.testing.assert_allclose(np.cov(gradients.T, bias=True), covariance, rtol=1e-4, atol=1e-5)


def test_the_equation_is_predicted_as_descent_with_more_noise_in_shorter_steps():
    """The covariance at its step tends to the equation's, with the same noise per unit of time."""
    _, hessian, covariance = cases.quadratic()
    predicted = cases.setup(cases.CASES["equation"]).covariance
    fine = stationary_covariance(hessian, covariance / cases.BATCH * 1e6, 0.3e-6)
    off = np.linalg.norm(predicted - fine) / np.linalg.norm(fine)
    assert off < 0.3 * 2 / cases.SUBSTEPS  # rate h over the substeps


def test_the_smallest_run_holds(results):
    verdicts = study.judge(results)
    assert exit_status(verdicts) == 0
    assert len(verdicts) == 2 * len(TINY["case"])


def test_a_spread_that_is_wrong_fails_and_one_often_used_is(results):
    wrong = results.assign(square=1.3 * results.square)
    assert exit_status(study.judge(wrong)) == 1
    common = [v for v in study.judge(results) if v.kind == "contrast"]
    assert sum(v.outcome == "differs" for v in common) >= 2
