"""The programs of the first page and of the how-to pages run as they stand."""

import re
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from sgdnoise.lab import study_commands


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


@pytest.fixture(scope="module")
def added():
    with jax.enable_x64(False):
        return run("adding")


def test_the_noise_model_of_the_page_has_the_covariance_of_its_blocks(added):
    gradients = np.asarray(added["problem"].gradients(added["theta"]))
    means = np.stack([gradients[added["block_of"] == k].mean(0) for k in range(4)])
    expected = np.cov(means.T, bias=True)
    found = added["blocks"].covariance(added["theta"]) @ np.eye(2, dtype=np.float32)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert np.isfinite(added["path"].theta).all()


def test_the_estimator_of_the_page_is_off_by_the_factor_that_it_says(added):
    assert abs(added["estimate"].value / added["expected"] - 1) < 0.05
    assert added["expected"] < 2.9
    assert len(added["profile"].scale) > 3


def test_the_formula_of_the_page_solves_the_equation_of_lyapunov(added):
    step, kick = np.asarray([[1 - 0.2, 0.2 * 0.5], [-1.0, 0.5]]), np.asarray([0.2, 1.0])
    exact = solve_discrete_lyapunov(step, 0.3 * np.outer(kick, kick))[0, 0]
    np.testing.assert_allclose(added["coded"], exact)
    simulated = np.asarray(added["ends"], float) ** 2
    assert abs(simulated.mean() - exact) < 5 * simulated.std() / len(simulated) ** 0.5


def test_the_commands_of_the_page_make_a_study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "asked_studies"
    folder.mkdir()
    text = Path(__file__).parents[1].joinpath("docs/adding.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```sh\n(.*?)```", text, flags=re.S)
    new, simulate, judge = (shlex.split(line)[3:] for line in block.splitlines())
    result = tmp_path / "out" / "my_question" / "result.nc"
    for words in (new, simulate, [*judge, str(result)]):
        with pytest.raises(SystemExit) as ended:
            study_commands(folder)(words)
        assert not ended.value.code
    assert result.exists()


def test_the_page_of_formulas_tells_sgd_from_its_equation(capsys):
    space = run("formulas")
    assert capsys.readouterr().out.splitlines()[:2] == ["True False", "True"]
    np.testing.assert_allclose(space["matrix"][0, 1], float(space["entry"]))


def test_the_page_of_the_gpu_runs_without_one():
    space = run("gpu")
    gradients = space["covariance"].rows
    assert space["covariance"].trace().device.type == space["device"]
    assert gradients.n == 256
    assert np.isfinite(space["path"].theta).all()
