"""The study of Adam: its parts against direct computations, a small run, and results made up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from sgdnoise.lab import exit_status
from simulations.adaptive import claims, study
from simulations.adaptive import figure as drawing
from simulations.adaptive._network import Network, Task
from simulations.adaptive._paths import Optimiser, orthogonal, predicted, setting_of, simulated

TASK = Task(3, (5, 8, 3), 12, True)
STEP = {"step": ("watch", 100 * np.arange(3))}


@pytest.fixture(scope="module")
def net():
    with jax.enable_x64(True):
        return Network(TASK, 1, 3000)


@pytest.fixture(scope="module")
def results():
    """A smaller run than the smallest."""
    return study.study.simulate("small", steps=40, chains=2, optimiser=["sgd", "adam"])


def test_the_start_is_a_minimum_without_residuals(net):
    with jax.enable_x64(True):
        assert float(jnp.abs(net.gradient(net.start)).max()) < 1e-15
        assert float(net.problem.value(net.start)) < 1e-30


def test_quantities_are_those_of_layers_and_jacobian(net):
    with jax.enable_x64(True):
        ratio, trace, roots = net.quantities(net.start)
        jacobian = np.asarray(net.jacobian(net.start))
        (hidden,) = net.hidden(net.start)
        spectrum = np.linalg.eigvalsh(np.cov(np.asarray(hidden).T))
    diagonal = np.einsum("iap,iap->p", jacobian, jacobian) / TASK.examples
    assert_allclose(ratio, spectrum.sum() ** 2 / np.sum(spectrum**2))
    assert_allclose([trace, roots], [diagonal.sum(), np.sqrt(diagonal).sum()])


def test_a_displaced_network_returns_to_a_minimum_in_its_metric(net, rng):
    with jax.enable_x64(True):
        p = jnp.asarray(rng.uniform(0.5, 2, net.net.size))
        away = net.start + 0.01 * rng.normal(size=net.net.size)
        end = net.minimum(away, p)
        assert float(net.problem.value(end)) < 1e-20 * float(net.problem.value(away))
        moved, rows = (end - away) / p, np.asarray(net.jacobian(end)).reshape(-1, net.net.size)
    outside = moved - rows.T @ np.linalg.lstsq(rows.T, moved, rcond=None)[0]
    assert np.linalg.norm(outside) < 0.05 * np.linalg.norm(moved)


def test_rates_have_the_sharpness_and_adam_its_scale(net):
    with jax.enable_x64(True):
        setting = setting_of(net, Optimiser((0.9, 0.999)), 0.3, 0.2)
        half = setting_of(net, Optimiser((0.9, 0.999), 0.5), 0.3, 0.2)
        jacobian = np.asarray(net.jacobian(net.start)).reshape(-1, net.net.size)
    root = setting.preconditioner**0.5
    curvature = np.linalg.eigvalsh((root[:, None] * jacobian.T @ jacobian) * root)[-1] / 12
    assert_allclose(setting.rate * curvature, 0.2)
    squares = 0.3**2 * np.sum(jacobian**2, 0) / 12 / 8
    assert_allclose(setting.preconditioner, squares**-0.5)
    assert half.rate == setting.rate
    assert_allclose(half.preconditioner, 2 * setting.preconditioner)
    assert_allclose(half.label_noise, 0.15)


def test_orthogonal_numbers_have_unit_variance(rng):
    rows = orthogonal(6, 4, rng)
    assert_allclose(rows @ rows.T, 6 * np.eye(4), atol=1e-12)
    assert orthogonal(3, 16, rng).shape == (3, 3)


@pytest.mark.parametrize("betas", [None, (0.0, 0.99), (0.9, 0.99)])
def test_theory_has_the_speed_of_the_simulation(net, betas):
    """Tr H after 4000 steps, to the errors of a few chains and draws and the order left out."""
    optimiser = Optimiser(betas)
    with jax.enable_x64(True):
        setting = setting_of(net, optimiser, 0.05, 0.1)
        size = {"steps": 4000, "every": 2000}
        theory, mean, quadratic = predicted(
            net, optimiser, setting, rng=0, jumps=5, draws=30, **size
        )
        seen, losses = simulated(net, optimiser, setting, chains=8, key=0, **size)
    trace = seen[:, 1, -1]
    assert theory[1, -1] < -5e-4
    error = trace.std(ddof=1) / 8**0.5
    assert abs(trace.mean() - theory[1, -1]) < 4 * error + 0.12 * abs(theory[1, -1])
    assert_allclose(losses.mean(), mean.mean(), rtol=0.2)
    assert_allclose(mean, quadratic, rtol=0.2)


def test_a_small_run_has_what_its_cases_have(results):
    assert {row.kind for row in study.study.judge(results)} <= {
        *("prediction", "outside", "contrast", "observation")
    }
    case = results.isel(case=0)
    assert [name for name, _ in claims.described(case)] == ["sgd", "adam"]
    assert claims.layers_of(case) == ["PR of layer 1"]
    assert all(isinstance(f, Figure) for _, f in drawing.figures(results).values())
    (table,) = claims.tables(results)
    assert all(len(row) == len(table.headings) for row in table.rows)


def made_up(*, factor=1.0, half=1.0, sign=0.5, loss=1.0):
    """Results of one case as theory has them, but for what is changed."""
    optimisers = ["sgd", "adam", "sign descent", claims.HALF]
    quantities = ["PR of layer 1", *claims.PENALTIES]
    end = {"sgd": [2.0, -20.0, -10.0], "adam": [-8.0, -25.0, -22.0]}
    end |= {"sign descent": end["adam"], claims.HALF: end["adam"]}
    path = np.asarray([0.0, 0.5, 1.0])
    theory = np.stack([np.outer(end[name], path) for name in optimisers]) / 100
    seen = theory * np.asarray([factor, factor, sign, half])[:, None, None]
    noise = 1e-4 * np.random.default_rng(0).normal(size=(4, 2, 6, 3, 3))
    noise[..., 0] = 0
    theory[2] = np.nan
    shape = (1, 4, 2)
    drawn = 1 + 1e-3 * np.random.default_rng(1).normal(size=(*shape, 6, 2))
    data = xr.Dataset(
        {
            "theory": (
                ("case", "optimiser", "network", "path", "quantity", "watch"),
                np.broadcast_to(theory[None, :, None, None], (*shape, 2, 3, 3)).copy(),
            ),
            "simulated": (
                ("case", "optimiser", "network", "chain", "quantity", "watch"),
                seen[None, :, None, None] + noise[None],
            ),
            "loss": (("case", "optimiser", "network", "chain", "interval"), loss * drawn),
            "predicted_loss": (
                ("case", "optimiser", "network", "path", "interval"),
                np.ones((*shape, 2, 2)),
            ),
            "quadratic_loss": (
                ("case", "optimiser", "network", "path", "interval"),
                np.full((*shape, 2, 2), 1.01),
            ),
            "rate": (("case", "optimiser", "network"), np.full(shape, 0.1)),
            "amplification": (("case", "optimiser", "network"), np.full(shape, 0.1)),
        }
        | STEP,
        {"case": ["made up"], "optimiser": optimisers, "quantity": quantities},
    )
    return data


def outcomes(**changes):
    return {row.name: row.outcome for row in claims.verdicts(made_up(**changes))}


def test_right_results_hold():
    told = outcomes()
    assert {told[k] for k in told if "sign" not in k} == {"holds"}
    assert told["made up, sign descent: change of Tr H in %, beside the prediction for Adam"] == (
        "differs"
    )
    assert exit_status(claims.verdicts(made_up())) == 0


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        ({"factor": 0.8}, "made up, adam: change of PR of layer 1 in %"),
        ({"factor": 1.2}, "made up, sgd: change of Tr H in %"),
        ({"half": 0.25}, "made up, adam: change of Tr H at half the noise / at the whole noise"),
        ({"loss": 1.3}, "made up, sgd: mean loss of the second half / predicted"),
    ],
)
def test_wrong_results_fail(change, failing):
    assert outcomes(**change)[failing] == "fails"


def test_adam_on_the_path_of_sgd_would_fail():
    """The rival: at the Tr H of Adam, SGD has another PR."""
    data = made_up()
    case = data.isel(case=0)
    adam, sgd = (case.sel(optimiser=name) for name in ("adam", "sgd"))
    assert_allclose(claims.at_same_trace(case, adam, "PR of layer 1"), 2.0)  # the end of SGD
    assert_allclose(claims.at_same_trace(case, sgd, "PR of layer 1"), 2.0)
    shorter = case.copy(deep=True)
    shorter.theory.loc[{"optimiser": "adam"}] *= 0.5
    adam = shorter.sel(optimiser="adam")
    assert_allclose(claims.at_same_trace(shorter, adam, "PR of layer 1"), 1.25)
    rivals = {
        name: value
        for row in claims.verdicts(shorter.expand_dims("case"))
        if row.name == "made up, adam: change of PR of layer 1 in %"
        for name, value in row.rivals
    }
    assert_allclose(rivals[claims.AT_SAME_TRACE], 1.25)


def test_steps_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="multiple of 20"):
        study.check({"steps": 50, "records": 2})
