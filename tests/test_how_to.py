"""The programs of the how-to page run one after the other, as they stand."""

import re
from pathlib import Path

import numpy as np
import pytest

TEXT = Path("docs/extending.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def space():
    space: dict = {}
    for code in re.findall(r"```python\n(.*?)```", TEXT, flags=re.S):
        exec(code, space)
    return space


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
