"""The study of deeper networks: its tasks, its smallest run, and what it says of made-up ones."""

import jax
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from sgdnoise.lab import exit_status
from simulations.linear_networks.deep import claims, study
from simulations.linear_networks.deep import figure as picture

TINY = study.Size(("three layers", "no label noise"), 6, 0.03)


@pytest.fixture(scope="module")
def results():
    """Two settings for a small share of their time, in this process."""
    parts = [study.run(name, size=TINY) for name in TINY.settings]
    return xr.concat(parts, "setting").assign_coords(setting=list(TINY.settings))


@pytest.mark.parametrize("name", ["four layers", "cross-entropy"])
def test_a_task_starts_at_its_minimum(name):
    setting = study.SETTINGS[name]
    x, y, layers = study.task_and_start(setting)
    np.testing.assert_allclose(x @ np.linalg.multi_dot(layers), y, atol=1e-9)
    moment = x.T @ x / len(x)
    np.testing.assert_allclose(moment, np.diag(np.diag(moment)), atol=1e-12)
    singular = np.linalg.svd(np.linalg.multi_dot(layers), compute_uv=False)
    np.testing.assert_allclose(singular, setting.modes, atol=1e-9)


def test_attainable_probabilities_leave_cross_entropy_no_slope():
    setting = study.SETTINGS["cross-entropy"]
    _, problem, theta = study._problem(setting, *study.task_and_start(setting))
    assert abs(jax.jit(problem.gradient)(theta)).max() < 1e-5  # in single precision


def test_the_curvature_of_cross_entropy_is_its_fisher_information(rng):
    """Mean over examples and labels of squared gradients, which a label at a time gives."""
    x, y = rng.normal(size=(7, 2)), rng.normal(size=(7, 3))
    p, expected = np.exp(y) / np.exp(y).sum(1, keepdims=True), 0
    for row, law in zip(x, p, strict=True):
        for label, share in enumerate(law):
            slope = np.outer(row, law - np.eye(3)[label]).ravel()
            expected = expected + share * np.outer(slope, slope) / len(x)
    found = study.curvature(study.SETTINGS["cross-entropy"], x, y)
    np.testing.assert_allclose(found, expected, atol=1e-14)


def test_labels_on_the_lattice_have_the_variance_of_normal_ones():
    labels = study.LATTICE * np.arange(-8, 9)
    for middle in np.linspace(-study.LATTICE, study.LATTICE, 41):
        share = np.exp(-((labels - middle) ** 2) / 2)
        share /= share.sum()
        assert abs(share @ labels - middle) < 2e-4
        assert abs(share @ (labels - middle) ** 2 - 1) < 2e-4


def test_the_smallest_run_holds_and_is_drawn(results):
    verdicts = claims.verdicts(results)
    assert exit_status(verdicts) == 0
    assert any(v.claimed and v.holds for v in verdicts)
    figures = picture.figures(results)
    assert all(isinstance(figure, Figure) for _, figure in figures.values())
    assert [len(row) for row in claims.tables(results)[0].rows] == [9, 9]


def test_without_label_noise_nothing_moves(results):
    part = results.sel(setting="no label noise").isel(layer=[0, 1])
    np.testing.assert_allclose(part.ratio, part.ratio_start.broadcast_like(part.ratio), rtol=1e-4)


def test_layers_that_a_network_does_not_have_are_told_of_nowhere(results):
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
    ("u", "sharp", "expected"),
    [
        (0.119, 0.29, (True, True)),
        (0.121, 0.29, (True, False)),
        (0.119, 0.31, (True, False)),
        (0.29, 1.19, (True, False)),
        (0.31, 1.19, (False, False)),
        (0.29, 1.21, (False, False)),
    ],
)
def test_the_regime_has_its_borders(results, u, sharp, expected):
    part = results.sel(setting="three layers").assign(amplification=u, sharpness=sharp)
    assert (claims.regime(part), claims.regime(part, claims.GENTLE)) == expected


@pytest.mark.parametrize("name", ["momentum", "reshuffled", "Fisher", "separable, quiet"])
def test_every_other_noise_is_made_for_all_weights(name):
    setting = study.SETTINGS[name]
    x, y, layers = study.task_and_start(setting)
    made, theta, read = study.process(setting, x, y, layers)
    for mine, given in zip(read(theta), layers, strict=True):
        np.testing.assert_allclose(mine, given, atol=1e-6)  # in single precision
    state = made.begin(theta)
    assert len(state) == 2 if name == "momentum" else state is theta


def test_alone_the_first_layer_is_all_that_moves():
    setting = study.SETTINGS["first layer alone"]
    x, y, layers = study.task_and_start(setting)
    made, theta, read = study.process(setting, x, y, layers)
    assert theta.shape == (layers[0].size,)
    for mine, given in zip(read(theta), layers, strict=True):
        np.testing.assert_allclose(mine, given, atol=1e-6)  # in single precision
    assert made.begin(theta) is theta


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"runs": 1}, "an error needs at least 2 runs, not 1"),
        ({"setting": ["nothing"]}, "no setting 'nothing': there are two layers"),
    ],
)
def test_bad_input_is_answered_by_one_sentence(arguments, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        study.main(out=tmp_path, **arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
