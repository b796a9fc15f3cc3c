"""The study of linear scaling: a small run, and wrong results."""

import numpy as np
import pytest

from sgdnoise.core import mean
from sgdnoise.lab import exit_status
from simulations.sde_and_scaling.scaling import claims
from simulations.sde_and_scaling.scaling.study import study


@pytest.fixture(scope="module")
def results():
    """Two networks and two regressions, in this process."""
    return study.simulate("small", runs=4, fraction=0.03, chains=400)


def test_the_smallest_run_holds(results):
    verdicts = study.judge(results)
    assert exit_status(verdicts) == 0
    assert {v.name.split(":")[0] for v in verdicts} == {
        "rate 0.04",
        "rate 0.16",
        "regression, rate 0.1",
        "regression, rate 0.8",
    }
    assert len(claims.tables(results)[0].rows) == 2


@pytest.mark.parametrize(("name", "factor"), [("ratio", 1.1), ("excess", 2.0)])
def test_what_scales_otherwise_than_predicted_fails(results, name, factor):
    wrong = results.assign({name: factor * results[name]})
    assert exit_status(study.judge(wrong)) == 1


def test_a_ratio_of_means_has_the_error_of_both(rng):
    pairs = zip(rng.normal(5, 1, (300, 50)), rng.normal(3, 1, (300, 50)), strict=True)
    ratios = [claims.ratio_of(mean(a), mean(b)) for a, b in pairs]
    deviation = np.std([e.value for e in ratios], ddof=1)
    error = np.mean([e.stderr for e in ratios])
    assert abs(error / deviation - 1) < 5 / (2 * 300) ** 0.5


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((0.119, 0.29, 0.099, 0.049), (True, claims.TOLERANCE)),
        ((0.121, 0.29, 0.099, 0.049), (True, claims.OUTER_TOLERANCE)),
        ((0.301, 0.29, 0.099, 0.049), (False, claims.OUTER_TOLERANCE)),
        ((0.119, 0.31, 0.099, 0.049), (True, claims.OUTER_TOLERANCE)),
        ((0.119, 1.21, 0.099, 0.049), (False, claims.OUTER_TOLERANCE)),
        ((0.119, 0.29, 0.101, 0.049), (False, claims.OUTER_TOLERANCE)),
        ((0.119, 0.29, 0.099, 0.051), (False, claims.OUTER_TOLERANCE)),
    ],
)
def test_the_regime_has_its_borders(results, numbers, expected):
    names = ("amplification", "sharpness", "haste", "jitter")
    numbers = dict(zip(names, numbers, strict=True)) | {"own_error": 0.001}
    at = results.sel(batch=4).assign(numbers)
    assert claims.regime(at) == expected
    larger = at.assign(own_error=0.05)
    assert claims.regime(larger) == (expected[0], 0.05)
