"""No call of a public function ends in an error that is not its own, whatever it is given.

`make test` runs a tenth of the calls, `make slow` all of them.  They run in processes of their own,
without the checks of types that tests add.
"""

import subprocess
import sys
from pathlib import Path

import hostile_calls
import pytest

SCRIPT = Path(hostile_calls.__file__)


def tried(home, share, folder):
    """The calls of a subpackage that end in another error, and how many were tried."""
    command = [sys.executable, str(SCRIPT), home, str(share)]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    *lines, count = run.stdout.splitlines()
    return lines, int(count)


@pytest.mark.parametrize("home", hostile_calls.HOMES)
def test_a_tenth_of_the_calls(home, tmp_path):
    lines, count = tried(home, 10, tmp_path)
    assert count > 10
    assert not lines


@pytest.mark.slow
@pytest.mark.parametrize("home", hostile_calls.HOMES)
def test_all_calls(home, tmp_path):
    lines, count = tried(home, 1, tmp_path)
    assert count > 100
    assert len(lines) < 0.001 * count, lines


def test_an_error_of_a_library_is_told_and_one_of_the_user_is_not(tmp_path):
    program = """
import numpy as np
from sgdnoise.core import with_group_error
from sgdnoise.theory import excess_loss

try:
    excess_loss(np.eye(2), np.eye(3))
except ValueError as error:
    print(error)
    assert error.__cause__ is not None

def own(_):
    raise KeyError("mine")

try:
    with_group_error(own, np.ones((20, 2)))
except KeyError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    first, second = run.stdout.splitlines()
    assert first.startswith("excess_loss does not take inputs = a ndarray of shape (2, 2), ")
    assert "covariance = a ndarray of shape (3, 3): " in first
    assert second == "'mine'"
