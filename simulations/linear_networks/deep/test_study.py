"""The study of deeper networks: its tasks, a small run, and wrong results."""

import jax
import numpy as np
import pytest

from sgdnoise.lab import exit_status
from simulations.linear_networks.deep import claims, study

TINY = {"setting": ["three layers", "no label noise"], "runs": 6, "fraction": 0.03}


@pytest.fixture(scope="module")
def results():
    """Two settings for a small fraction of their time, in this process."""
    return study.study.simulate("small", **TINY)


@pytest.mark.parametrize("name", ["four layers", "cross-entropy"])
def test_a_task_starts_at_its_minimum(name):
    setting = study.SETTINGS[name]
    x, y, layers = study.task_and_start(setting)
    np.testing.assert_allclose(x @ np.linalg.multi_dot(layers), y, atol=1e-9)
    moment = x.T @ x / len(x)
    np.testing.assert_allclose(moment, np.diag(np.diag(moment)), atol=1e-12)
    singular = np.linalg.svd(np.linalg.multi_dot(layers), compute_uv=False)
    np.testing.assert_allclose(singular, setting.modes, atol=1e-9)


def test_attainable_probabilities_leave_cross_entropy_no_gradient():
    setting = study.SETTINGS["cross-entropy"]
    _, problem, theta = study.problem_of(setting, *study.task_and_start(setting))
    assert abs(jax.jit(problem.gradient)(theta)).max() < 1e-5  # in single precision


def test_the_curvature_of_cross_entropy_is_its_fisher_information(rng):
    """Mean over examples and labels of squared gradients, which a label at a time gives."""
    x, y = rng.normal(size=(7, 2)), rng.normal(size=(7, 3))
    p, expected = np.exp(y) / np.exp(y).sum(1, keepdims=True), 0
    for row, law in zip(x, p, strict=True):
        for label, probability in enumerate(law):
            gradient = np.outer(row, law - np.eye(3)[label]).ravel()
            expected = expected + probability * np.outer(gradient, gradient) / len(x)
    curvature = study.curvature(study.SETTINGS["cross-entropy"], x, y)
    np.testing.assert_allclose(curvature, expected, atol=1e-14)


def test_labels_on_the_lattice_have_the_variance_of_normal_ones():
    labels = study.LATTICE * np.arange(-8, 9)
    for mean in np.linspace(-study.LATTICE, study.LATTICE, 41):
        weights = np.exp(-((labels - mean) ** 2) / 2)
        weights /= weights.sum()
        assert abs(weights @ labels - mean) < 2e-4
        assert abs(weights @ (labels - mean) ** 2 - 1) < 2e-4


def test_the_smallest_run_holds(results):
    verdicts = claims.verdicts(results)
    assert exit_status(verdicts) == 0
    assert any(v.holds for v in verdicts)


def test_without_label_noise_nothing_moves(results):
    setting = results.sel(setting="no label noise").isel(layer=[0, 1])
    np.testing.assert_allclose(
        setting.ratio, setting.ratio_start.broadcast_like(setting.ratio), rtol=1e-4
    )


def test_layers_that_a_network_does_not_have_make_no_claim(results):
    assert np.isnan(results.ratio.sel(layer=3)).all()
    assert not any(" 3 " in v.name for v in claims.verdicts(results))


@pytest.mark.parametrize(("name", "factor"), [("ratio", 1.1), ("imbalance", 1.3)])
def test_what_moves_otherwise_than_predicted_fails(results, name, factor):
    start = results[f"{name}_start"] if name == "imbalance" else 0
    wrong = results.assign({name: start + factor * (results[name] - start)})
    assert exit_status(claims.verdicts(wrong.sel(setting=["three layers"]))) == 1


def test_a_control_that_moves_fails(results):
    wrong = results.assign(ratio=1.05 * results.ratio)
    assert exit_status(claims.verdicts(wrong.sel(setting=["no label noise"]))) == 1


@pytest.mark.parametrize(
    ("factor", "outcome"), [(1.0, "holds"), (0.0, "fails"), (0.8, "fails"), (1.25, "fails")]
)
def test_another_excess_loss_than_predicted_fails(results, factor, outcome):
    """Losses of all runs whose excess is the predicted one times a factor."""
    setting = results.sel(setting="three layers")
    loss = setting.loss_minimum + factor * setting.excess + 0 * setting.loss
    [row] = [v for v in claims._claims(setting.assign(loss=loss), "") if "excess" in v.name]
    assert (row.kind, row.outcome) == ("prediction", outcome)
    assert row.excluded["kappa x 0.5"]
    assert row.excluded["kappa x 2"]
    assert row.excluded["kappa Tr H alone"]


@pytest.mark.parametrize(
    ("u", "sharp", "haste", "jitter", "expected"),
    [
        (0.119, 0.29, 0.099, 0.049, (True, True)),
        (0.121, 0.29, 0.099, 0.049, (True, False)),
        (0.119, 0.31, 0.099, 0.049, (True, False)),
        (0.29, 1.19, 0.099, 0.049, (True, False)),
        (0.31, 1.19, 0.099, 0.049, (False, False)),
        (0.29, 1.21, 0.099, 0.049, (False, False)),
        (0.119, 0.29, 0.101, 0.049, (False, False)),
        (0.119, 0.29, 0.099, 0.051, (False, False)),
    ],
)
def test_the_regime_has_its_borders(results, u, sharp, haste, jitter, expected):
    numbers = {"amplification": u, "sharpness": sharp, "haste": haste, "jitter": jitter}
    setting = results.sel(setting="three layers").assign(numbers)
    assert (claims.regime(setting), claims.regime(setting, claims.INNER_REGIME)) == expected


@pytest.mark.parametrize("name", ["momentum", "reshuffled", "Fisher", "separable, quiet"])
def test_every_other_noise_is_made_for_all_weights(name):
    setting = study.SETTINGS[name]
    x, y, layers = study.task_and_start(setting)
    process, theta, weights = study.process_of(setting, x, y, layers)
    for layer, expected in zip(weights(theta), layers, strict=True):
        np.testing.assert_allclose(layer, expected, atol=1e-6)  # in single precision
    state = process.begin(theta)
    assert len(state) == 2 if name == "momentum" else state is theta


def test_alone_the_first_layer_is_all_that_moves():
    setting = study.SETTINGS["first layer alone"]
    x, y, layers = study.task_and_start(setting)
    process, theta, weights = study.process_of(setting, x, y, layers)
    assert theta.shape == (layers[0].size,)
    for layer, expected in zip(weights(theta), layers, strict=True):
        np.testing.assert_allclose(layer, expected, atol=1e-6)  # in single precision
    assert process.begin(theta) is theta
