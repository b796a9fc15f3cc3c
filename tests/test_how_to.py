"""The programs of the first page and of the how-to page run as they stand."""

import re
from pathlib import Path

import numpy as np
import pytest


def run(page):
    """What is left by the programs of a page, one after the other."""
    space: dict = {}
    text = Path(f"docs/{page}.md").read_text(encoding="utf-8")
    for code in re.findall(r"```python\n(.*?)```", text, flags=re.S):
        exec(code, space)
    return space


@pytest.fixture(scope="module")
def space():
    return run("extending")


def test_the_first_page_predicts_what_it_says(capsys):
    space = run("start")
    lines = capsys.readouterr().out.splitlines()
    pairs = [re.findall(r"[\d.]+", line)[:2] for line in lines if line.startswith("predicted")]
    predicted, measured = np.asarray(pairs, float).T
    np.testing.assert_allclose(measured, predicted, rtol=0.01)
    assert predicted[-1] < 0.82 * predicted[0]
    estimate = float(lines[0].split(" ")[0])
    assert abs(estimate - 3) < 0.3
    assert space["layers"] is not None


def test_the_programs_give_what_the_page_says(space):
    assert space["trees"]["first"].shape[-2:] == (5, 8)
    theta = space["theta"]
    traces = [float(space[name].covariance(theta).trace()) for name in ("weighted", "plain")]
    assert traces[0] < traces[1]
    assert np.isfinite(space["path"].theta).all()


def test_class_balanced_losses_have_the_balanced_gradient(space):
    theta, p = space["theta"], space["p"]
    gradients = space["problem"].gradients(theta)
    np.testing.assert_allclose(float(p.sum()), 1, rtol=1e-5)
    expected = p @ gradients
    np.testing.assert_allclose(space["balanced"].gradient(theta), expected, rtol=1e-4, atol=1e-6)


def test_the_page_of_the_edge_shows_the_gap():
    space = run("edge")
    assert abs(space["descent"].curvatures[-1, 0] - 2) < 0.01
    assert space["sgd"].curvatures[-1, 0] < 1.95
