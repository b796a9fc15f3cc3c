"""The study of residuals: its data and their noise, a small run, and wrong results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from witnesses import moments, noisy_gradients

from sgdnoise import noise
from sgdnoise.core import Problem
from sgdnoise.lab import exit_status
from sgdnoise.theory import MLP, flow_regime, label_noise_flow, residual_task
from simulations import _linear_networks as shared
from simulations.linear_networks.residual import claims, study

TINY = {"setting": ["designed", "full batch"], "runs": 6, "fraction": 0.08}


@pytest.fixture(scope="module")
def results():
    """Two settings for a fraction of their time, in this process."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield study.study.simulate("small", **TINY)
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize("name", ["60, batch 4", "uneven", "designed", "exact fit"])
def test_a_task_starts_at_the_minimum_of_least_squares(name):
    x, y, w, v = study.task_and_start(study.SETTINGS[name])
    assert len(x) == study.SETTINGS[name].examples
    assert_allclose(x.T @ (x @ w @ v - y), 0, atol=1e-8)
    moment = x.T @ x / len(x)
    assert_allclose(moment, np.diag(np.linspace(0.5, 1.5, 8)), atol=1e-12)
    assert np.all(np.linalg.svd(w)[1] > 0.05)  # no unit or input is cut off


def test_designed_data_have_the_noise_of_labels():
    """Gam = sigma^2 A to rounding, so that both flows are one; elsewhere they differ."""
    x, y, w, v = study.task_and_start(study.SETTINGS["designed"])
    tasks = study.tasks_of(x, y)
    assert_allclose(tasks["general"].noise, tasks["form"].noise, atol=1e-12)
    assert study.residual_size(x, y) == pytest.approx(
        study.SETTINGS["designed"].residual, rel=1e-12
    )
    flows = [
        label_noise_flow(tasks[k], [w, v], [0, 200.0], learning_rate=0.04, batch_size=4)
        for k in tasks
    ]
    assert_allclose(flows[0].layers[0], flows[1].layers[0], atol=1e-10)
    assert_allclose(w[:4, 6:], 0, atol=1e-12)
    assert_allclose(w[4:, :6], 0, atol=1e-12)
    uneven = study.task_and_start(study.SETTINGS["uneven"])
    assert study.unlikeness(study.tasks_of(*uneven[:2])) > 1
    assert study.unlikeness(study.tasks_of(x, x @ w @ v)) == 0


@pytest.mark.usefixtures("quick_to_compile")
@pytest.mark.parametrize("replacement", [True, False])
def test_over_all_minibatches_the_noise_is_that_of_the_residuals(replacement, rng):
    """f / B D^T Gam D, D the Jacobian of the product, over all draws of 2 of 5 examples."""
    net = MLP((2, 2, 2), "linear")
    x, y = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    task, product = residual_task(x, y)
    w = rng.normal(size=(2, 2))
    v = np.linalg.solve(w, product)
    problem = Problem(net.losses, (jnp.asarray(x), jnp.asarray(y)))
    theta = jnp.concatenate([w.ravel(), v.ravel()])
    model = noise.minibatch(problem, 2, replacement=replacement)
    mean, covariance = moments(noisy_gradients(model, theta))
    jacobian = jax.jacobian(lambda t: (net.weights(t)[0] @ net.weights(t)[1]).ravel())(theta)
    thinned = 1.0 if replacement else study.Setting(5, 2, distinct=True).thinned
    assert_allclose(mean, 0, atol=1e-10)
    assert_allclose(covariance, thinned / 2 * jacobian.T @ task.noise @ jacobian, atol=1e-10)


def test_the_speed_of_a_readout_is_that_of_one_without_inputs(rng):
    """dV/dt = -V q: q = rate / (2 B) E |x|^2 r r^T, where noise is sigma^2 H, is sigma^2 Tr Sx."""
    x, y, w, v = study.task_and_start(study.SETTINGS["designed"])
    strength = {"learning_rate": 0.04, "batch_size": 4, "discrete_steps": 0.0}
    expected = 0.04 * 0.7**2 * np.sum(x**2) / len(x) / 8
    expected /= shared.curvatures_across(x.T @ x / len(x), [w, v])[0]
    task = study.tasks_of(x, y)["general"]
    found = flow_regime(task, [w, v], with_feedback=False, **strength).haste
    assert found == pytest.approx(expected, rel=1e-8)
    rotation = np.linalg.qr(rng.normal(size=(2, 2)))[0]
    turned = study.tasks_of(x, y @ rotation)["general"]
    found = flow_regime(turned, [w, v @ rotation], with_feedback=False, **strength).haste
    assert found == pytest.approx(expected, rel=1e-8)


def test_the_worst_deviation_has_its_sign_and_error():
    ratio = np.asarray([[4.0, 2.0, 1.0], [6.0, 2.0, 1.0]])
    off, error = study.largest_deviation(ratio, np.asarray([[5.0, 2.2, 1.05], [4.0, 2.0, 1.0]]))
    assert_allclose(off, [10, -20], rtol=1e-12)
    assert_allclose(error, [0, 20], atol=1e-12)  # s = 2^1/2, over 2^1/2 and 5


def test_the_smallest_run_does_not_fail(results):
    verdicts = claims.verdicts(results)
    assert exit_status(verdicts) == 0
    assert {v.kind for v in verdicts if "full batch" in v.name} == {"observation"}
    assert claims.regime(results.sel(setting="designed")) == (True, False)
    control = results.sel(setting="full batch")
    assert_allclose(control.ratio, float(control.ratio_start), rtol=1e-4)  # float32
    moved = results.ratio.sel(setting="designed").isel(watch=-1).mean()
    assert float(moved) < 0.97 * float(results.ratio_start.sel(setting="designed"))


@pytest.mark.parametrize(
    ("name", "setting", "factor", "words"),
    [
        ("ratio", "designed", 1.05, ("designed: PR", "designed: speed of PR")),
        ("useless", "designed", 0.5, "designed: decay"),
    ],
)
def test_what_moves_otherwise_than_predicted_fails(results, name, setting, factor, words):
    wrong = results.assign({name: results[name] * factor}).sel(setting=[setting])
    failed = [v.name for v in claims.verdicts(wrong) if v.outcome == "fails"]
    assert failed
    assert all(text.startswith(words) for text in failed)


def test_distinct_examples_are_held_to_their_own_time(results):
    """The same run twice holds; a tenth more dimension in one of them does not."""
    twice = results.sel(setting=["designed", "designed"])
    twice = twice.assign_coords(setting=list(claims.RESCALED))
    pairs = claims._rescaled(twice)
    assert [v.deviation for v in pairs] == [0, 0]
    scale = xr.DataArray([1.0, 1.1], dims="setting")
    wrong = claims._rescaled(twice.assign(ratio=twice.ratio * scale))
    assert [v.outcome for v in wrong] == ["fails", "fails"]


@pytest.mark.parametrize(
    ("u", "sharp", "haste", "jitter", "expected"),
    [
        (0.119, 0.29, 0.09, 0.04, (True, False)),
        (0.121, 0.29, 0.09, 0.04, (False, False)),
        (0.119, 0.31, 0.09, 0.04, (False, False)),
        (0.119, 0.29, 0.11, 0.04, (False, False)),
        (0.119, 0.29, 0.09, 0.06, (False, False)),
        (0.029, 0.14, 0.09, 0.04, (True, True)),
        (0.031, 0.14, 0.09, 0.04, (True, False)),
        (0.029, 0.16, 0.09, 0.04, (True, False)),
        (0.029, 0.14, 0.11, 0.04, (False, False)),
    ],
)
def test_the_regime_has_its_borders(results, u, sharp, haste, jitter, expected):
    numbers = {"amplification": u, "sharpness": sharp, "haste": haste, "jitter": jitter}
    assert claims.regime(results.sel(setting="designed").assign(numbers)) == expected
