"""The study of decay against noise: its start, a small run, and wrong results."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose
from witnesses import by_hand

from sgdnoise.lab import exit_status
from sgdnoise.theory import (
    label_noise_covariance,
    label_noise_flow,
    label_noise_task,
    shrink_rates,
)
from simulations.linear_networks.decay import claims, study
from simulations.linear_networks.study import study as group

TINY = {"setting": ["decay", "noise"], "runs": 12, "fraction": 0.2}


@pytest.fixture(scope="module")
def results():
    """Two settings for a fraction of their time, in this process."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield study.study.simulate("small", **TINY)
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize("name", ["decay", "noise", "both", "neither"])
def test_a_task_starts_where_its_modes_rest(name):
    """Used and useless inputs are apart, and the former rest in all that acts on them."""
    setting = study.SETTINGS[name]
    x, y, w, v = study.task_and_start(setting)
    moment = x.T @ x / len(x)
    assert_allclose(moment, np.diag(study.VARIANCES), atol=1e-12)
    kappa = setting.rate * setting.label_noise**2 / (4 * setting.batch)
    gradient = moment @ (w @ v) - x.T @ y / len(x)
    first = gradient @ v.T + (setting.weight_decay * np.eye(8) + 4 * kappa * moment) @ w
    second = w.T @ gradient + (setting.weight_decay + 2 * kappa * np.trace(moment)) * v
    assert_allclose(first[:2], 0, atol=1e-8)  # neither: 1e-9 of decay told which of all
    assert_allclose(second, 0, atol=1e-8)
    assert_allclose((w @ v)[2:], 0)
    assert_allclose(study.VARIANCES[2:] * np.diag(w)[2:] ** 2, 0.3, rtol=1e-12)


def test_rivals_start_with_the_same_shrinkage():
    """In total, at small rates; both add to as much."""
    totals = {}
    for name in ("decay", "both", "noise"):
        setting = study.SETTINGS[name]
        factor = 1e-6 / setting.rate
        rates = shrink_rates(
            study.IRRELEVANT,
            study.POWERS,
            np.ones(2),
            label_noise=setting.label_noise / factor**0.5,  # the same rate times variance
            learning_rate=factor * setting.rate,
            batch_size=setting.batch,
            decay=setting.weight_decay,
        )
        totals[name] = float(rates.sum()) / 1e-6
    assert totals["noise"] == pytest.approx(totals["decay"], rel=1e-4)
    assert totals["both"] == pytest.approx(totals["decay"], rel=0.01)  # decay over curvature


def test_the_smallest_run_does_not_fail(results):
    verdicts = claims.verdicts(results)
    assert exit_status(verdicts) == 0
    (difference,) = [v for v in verdicts if v.name == "slope under noise less that under decay"]
    assert difference.holds
    assert all(claims.regime(results.sel(setting=name)) for name in TINY["setting"])


def test_the_dimension_of_the_useless_part_tells_which_it_was(results):
    """All alike stay all alike; under noise those of large variance go first."""
    ends = {
        name: claims._of_mean(setting, claims._ratio(setting))
        for name in ("decay", "noise")
        for setting in [results.sel(setting=name)]
    }
    assert ends["decay"].value == pytest.approx(6, abs=1e-3)
    assert ends["noise"].value + 5 * ends["noise"].stderr < 5.9


@pytest.mark.usefixtures("quick_to_compile")
def test_with_a_frozen_readout_only_decay_moves_useless_weights(rng):
    """A step of noise, by chance any, leaves them where they are; one of decay shrinks all."""
    for name in ("noise, frozen readout", "decay, frozen readout"):
        setting = study.SETTINGS[name]
        x, y, w, v = study.task_and_start(setting)
        process, theta, weights = study.process_of(setting, x, y, w, v)
        after, fixed = weights(jax.jit(process.step)(theta, by_hand(process.draw, rng)))
        factor = 1 - setting.rate * setting.weight_decay
        assert_allclose(np.diag(after)[2:], factor * np.diag(w)[2:], rtol=1e-6)  # float32
        assert not np.allclose(after[:2], w[:2], rtol=1e-4, atol=0)
        assert_allclose(fixed, v, rtol=1e-6)
        assert_allclose(study.rates(setting, 0.05, v), setting.rate * setting.weight_decay)


@pytest.mark.parametrize(
    ("name", "setting", "power", "words"),
    [
        ("useless", "decay", 1.5, "rates"),
        ("modes", "noise", 1.1, "hidden power"),
        ("product", "decay", 1.1, "modes too weak"),
    ],
)
def test_what_rests_or_shrinks_otherwise_fails(results, name, setting, power, words):
    swept = results.sel(setting=[setting])
    start = swept.start if name == "useless" else 1.0
    wrong = swept.assign({name: start * (swept[name] / start) ** power})
    failed = [v.name for v in claims.verdicts(wrong) if v.outcome == "fails"]
    assert failed
    assert any(words in text for text in failed)


def test_a_control_that_moves_fails(results):
    control = results.sel(setting="noise").assign(rate=0 * results.rate.sel(setting="noise"))
    verdict = claims._unchanged(control.assign(useless=0 * control.useless + control.start), "")
    assert verdict.holds
    verdict = claims._unchanged(
        control.assign(useless=0 * control.useless + 0.95 * control.start), ""
    )
    assert verdict.outcome == "fails"


def test_noise_that_took_all_inputs_alike_would_be_found_out(results):
    decay = results.useless.sel(setting="decay")
    wrong = results.copy(deep=True)
    wrong.useless.loc[{"setting": "noise"}] = decay
    failed = [v.name for v in claims.verdicts(wrong) if v.outcome == "fails"]
    assert "slope under noise less that under decay" in failed
    assert {"noise: slope", "noise: PR of the useless"} <= set(failed)


@pytest.mark.parametrize(
    ("factor", "outcome"), [(1.0, "holds"), (0.0, "fails"), (0.8, "fails"), (1.25, "fails")]
)
def test_another_excess_loss_than_predicted_fails(results, factor, outcome):
    """Losses of all groups whose excess is the predicted one times a factor."""
    setting = results.sel(setting="noise")
    loss = setting.loss_minimum + factor * setting.excess + 0 * setting.loss
    [row] = [v for v in claims._claims(setting.assign(loss=loss), "") if "excess" in v.name]
    assert (row.kind, row.outcome) == ("prediction", outcome)
    assert row.excluded["kappa x 0.5"]
    assert row.excluded["kappa x 2"]
    assert row.excluded["kappa Tr H alone"]


@pytest.mark.parametrize(
    ("u", "sharp", "haste", "jitter", "expected"),
    [
        (0.119, 0.29, 0.099, 0.049, True),
        (0.121, 0.29, 0.099, 0.049, False),
        (0.119, 0.31, 0.099, 0.049, False),
        (0.119, 0.29, 0.101, 0.049, False),
        (0.119, 0.29, 0.099, 0.051, False),
    ],
)
def test_the_regime_has_its_borders(results, u, sharp, haste, jitter, expected):
    numbers = {"amplification": u, "sharpness": sharp, "haste": haste, "jitter": jitter}
    changed = results.sel(setting="noise").assign(numbers)
    assert claims.regime(changed) == expected
    assert all((v.kind == "prediction") == expected for v in claims._claims(changed, "noise"))


def test_strong_noise_is_outside_the_regime():
    hastes = []
    for name in ("noise", "strong noise"):
        setting = study.SETTINGS[name]
        x, _, w, v = study.task_and_start(setting)
        shrunk = study.rates(setting, 0.0, v) * setting.steps
        hastes.append(study.regime_of(setting, x, w, v, shrunk)["haste"])
    assert hastes[0] < claims.REGIME.haste < hastes[1]


def powers_by_the_flow(setting):
    """Mean hidden powers of the modes over a run, by the flow with its finite step, and jitter."""
    x, _, w, v = study.task_and_start(setting)
    size = {"learning_rate": setting.rate, "batch_size": setting.batch}
    times = setting.rate * np.linspace(0, setting.steps, 51)
    task = label_noise_task(x, study.OUTPUTS, setting.label_noise)
    flow = label_noise_flow(task, [w, v], times, **size)
    w, v = (layer[25] for layer in flow.layers)
    by_first = np.einsum("ni,ja->naij", x, v)
    by_second = np.einsum("nj,ab->najb", x @ w, np.eye(study.OUTPUTS))
    parts = [part.reshape(len(x), study.OUTPUTS, -1) for part in (by_first, by_second)]
    jacobian = np.concatenate(parts, axis=2)
    rows = label_noise_covariance(jacobian, label_noise=setting.label_noise, **size).rows
    jitter = (rows[:, : w.size] ** 2).sum(0).reshape(w.shape).sum(1)
    return ((flow.layers[0] ** 2).sum(2)[1:].mean(0) + jitter)[: study.OUTPUTS]


@pytest.mark.parametrize(("name", "allowed"), [("noise", 0.002), ("noise, batch 16", 0.001)])
def test_hidden_powers_below_the_closed_form_are_those_of_the_finite_step(name, allowed):
    """The closed form is of small rates: at rate lambda_max = 0.15 it is 0.9 to 1.4% too high."""
    committed = group.read()["decay"].sel(setting=name)
    measured = committed.modes.mean("part").values
    assert np.all(measured / committed.modes_rest.values < 0.992)
    assert_allclose(measured, powers_by_the_flow(study.SETTINGS[name]), rtol=allowed)
