"""The study of tails at rest: its theory, its smallest run, and what it says of made-up ones."""

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from witnesses import SURE

from sgdnoise.lab import Session, exit_status
from simulations.tails import claims, study
from simulations.tails import figure as drawing
from simulations.tails._theory import driven_scale, flow_scale


@pytest.fixture(scope="module")
def small():
    """The smallest run, in this process."""
    jax.config.update("jax_disable_most_optimizations", True)
    results = study.study.simulate("small")
    jax.config.update("jax_disable_most_optimizations", False)
    return results


def test_the_smallest_run_holds_and_is_drawn(small):
    verdicts = claims.verdicts(small)
    assert exit_status(verdicts) == 0
    assert sum(v.holds for v in verdicts) >= 3
    figures = drawing.figures(small)
    assert all(isinstance(figure, Figure) for _, figure in figures.values())
    (table,) = claims.tables(small)
    assert [len(row) for row in table.rows] == [len(table.headings)] * 2


def test_pooled_layers_look_heavier_than_they_are(small):
    data = small.sel(alpha=1.3)
    assert float(data.stable_pooled) < 0.7
    assert abs(float(data.stable_apart) - 1.3) < SURE * float(data.stable_apart_stderr)
    assert float(data.stable_apart_stderr) < 0.012  # of all 40 coordinates; of one it is 0.03


def test_a_seed_is_all_that_the_results_depend_on(small):
    size = {name: study.SMALL[name] for name in ("members", "chains", "steps")}
    again, another = (study.line(1.2, 1, 1.0, seed=seed, **size) for seed in (0, 1))
    expected = float(small.line.sel(share=1.2, batch=1, curvature=1.0))
    assert_allclose(float(again.line), expected, rtol=1e-10)  # compiled otherwise: but for rounding
    gap = abs(float(another.line - again.line))
    assert 0 < gap < SURE * np.hypot(float(another.line_stderr), float(again.line_stderr))


@pytest.mark.parametrize(
    ("name", "factor", "start"),
    [
        ("line", 1.6, "rate"),
        ("plane", 1.6, "2 inputs alike"),
        ("wave", 0.9, "jumps"),
        ("driven", 1.15, "jumps"),
        ("beyond", 2.0, "jumps"),
        ("stable_apart", 0.8, "layers"),
    ],
)
def test_what_rests_otherwise_than_predicted_fails(small, name, factor, start):
    wrong = small.assign({name: factor * small[name]})
    failed = [v.name for v in claims.verdicts(wrong) if v.outcome == "fails"]
    assert failed
    assert all(text.startswith(start) for text in failed)


# --- theory ---


@pytest.mark.parametrize("alpha", [0.8, 1.5, 2.0])
@pytest.mark.parametrize("rate", [0.1, 0.9, 1.6])
def test_one_more_step_leaves_the_law_of_driven_descent_as_it_is(alpha, rate):
    """Stable scales add in their power alpha; curvature 0.7, jumps of 0.3."""
    scale = driven_scale(rate, alpha, 0.3, 0.7)
    after = (abs(1 - rate * 0.7) * scale) ** alpha + (rate * 0.3) ** alpha
    assert_allclose(after, scale**alpha, rtol=1e-12)


def test_the_equation_is_the_limit_of_small_rates():
    for alpha in (1.3, 2.0):
        ratios = [
            driven_scale(r, alpha, 0.3, 0.7) / flow_scale(r, alpha, 0.3, 0.7) for r in (1e-3, 5e-4)
        ]
        assert_allclose((ratios[0] - 1) / (ratios[1] - 1), 2, rtol=1e-2)


def test_a_measured_scale_has_the_error_of_repeats(small):
    """Through a logarithm and a power, from the error of the mean cosine."""
    data = small.sel(alpha=1.3, pull=1.6)
    result = claims.measured_scale(data, 1.3)
    waves = small.wave.sel(alpha=1.3, pull=1.6, wave_at=1.0)
    error = float(small.wave_stderr.sel(alpha=1.3, pull=1.6, wave_at=1.0))
    either = []
    for sign in (1, -1):
        shifted = data.assign(wave=data.wave + sign * 1e-3 * error)
        either.append(claims.measured_scale(shifted, 1.3).value)
    assert_allclose(abs(either[0] - either[1]) / 2e-3, result.stderr, rtol=1e-6)
    assert_allclose(np.exp(-((result.value / float(data.scale)) ** 1.3)), float(waves), rtol=1e-12)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"members": 1}, "members must be at least 2, not 1"),
        ({"chains": 99}, "chains must be at least 100, not 99"),
    ],
)
def test_bad_input_is_answered_by_one_sentence(changes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        study.study.parameters("small", Session(tmp_path), changes)


def test_a_seed_below_zero_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a seed is an integer from 0"):
        study.study.parameters("small", Session(tmp_path, seed=-2), {})
