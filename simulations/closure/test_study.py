"""The study of the closure: its task, its smallest run, and what it says of made-up ones."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from witnesses import SURE

from sgdnoise.lab import Session, exit_status
from sgdnoise.theory import moment_closure
from simulations.closure import claims, study
from simulations.closure import figure as drawing
from simulations.closure._draws import closure_over_draws


@pytest.fixture(scope="module")
def results():
    """A case and its control for an eighth of their time, in this process, quick to compile."""
    jax.config.update("jax_disable_most_optimizations", True)
    results = study.study.simulate("small")
    jax.config.update("jax_disable_most_optimizations", False)
    return results


def test_the_cases_have_the_sizes_that_are_claimed():
    sizes = {name: len(study.task(study.CASES[name])[2]) for name in ("label, 0.1", "label, wide")}
    assert sizes == {"label, 0.1": 56, "label, wide": 506}


def test_the_smallest_run_holds_and_is_drawn(results):
    verdicts = claims.verdicts(results)
    assert exit_status(verdicts) == 0
    assert any(v.holds for v in verdicts)
    assert all(isinstance(figure, Figure) for _, figure in drawing.figures(results).values())
    assert [len(table.rows) for table in claims.tables(results)] == [2, 1]
    assert not any(len(row) != len(t.headings) for t in claims.tables(results) for row in t.rows)


def test_draws_give_the_averages_over_all_eigenvectors():
    """A small network: the second order of `moment_closure`, with errors of draws and of order."""
    case = study.Case("label", 0.05, 1.5, (3, 4, 1), 20)
    net, problem, start = study.task(case)
    model, observe = study.noise_of(case, problem), study.observable(net, problem)
    steps = {"steps": 30, "every": 30, "learning_rate": 0.05}
    plain, exact = (moment_closure(model, start, averaged=k, **steps) for k in (0, len(start)))
    drawn = closure_over_draws(model, start, pairs=(64, 64), **steps)
    np.testing.assert_allclose(drawn.time, exact.time)
    plain, exact, drawn = (study._expected(problem, observe, c)[0] for c in (plain, exact, drawn))
    assert np.all(abs(drawn - exact) < 0.2 * abs(plain - exact))


def test_averages_over_all_modes_are_claimed_where_they_were_computed(results):
    data = results.sel(case=["minibatch, 0.1"])
    assert not any(claims.ALL_MODES in v.name for v in claims.verdicts(data))
    values = {}
    for name in ("ratio_by", "loss_by"):
        values[name] = data[name].copy(deep=True)
        values[name].loc[{"how": claims.ALL_MODES}] = 1.05 * data[name].sel(how="closure")
    rows = {v.name: v for v in claims.verdicts(data.assign(values))}
    row = rows["minibatch, 0.1: loss at the end, all modes"]
    beside = rows["minibatch, 0.1: loss at the end"]
    assert row.predicted == pytest.approx(1.05 * beside.predicted)
    assert (row.kind, row.tolerance) == (beside.kind, beside.tolerance)
    assert dict(row.rivals)["averages over 30 modes"] == beside.predicted


def test_without_noise_the_mean_is_descent_and_nothing_spreads(results):
    data = results.sel(case="no noise")
    assert not np.any(data.spread)
    claimed = data.ratio_by.sel(how="closure").values
    expected = np.broadcast_to(claimed, data.ratio.shape)
    np.testing.assert_allclose(data.ratio.values, expected, rtol=1e-4)  # float32


def test_the_committed_runs_without_noise_are_descent():
    end = study.study.read()[""].sel(case="no noise").isel(watch=-1)
    assert float(end.spread) == 0
    for name in ("ratio", "loss"):
        predicted = float(end[f"{name}_by"].sel(how="closure"))
        np.testing.assert_allclose(end[name], predicted, rtol=1e-4)  # single precision


def test_the_loss_of_the_mean_alone_would_fail(results):
    data = results.sel(case=["minibatch, 0.1"])
    mean_alone = data.loss_by.where(data.how != "closure", data.loss_by.sel(how="middle"))
    assert exit_status(claims.verdicts(data.assign(loss_by=mean_alone)))


def test_the_averages_explain_what_the_plain_closure_misses():
    """At the end of the committed runs; in the wide network the averages are of 30 of 506 modes."""
    end = study.study.read()[""].isel(watch=-1)
    measured = end.loss.mean("run")
    gaps = {how: abs(end.loss_by.sel(how=how) / measured - 1) for how in ("plain", "closure")}
    for kind in ("label", "minibatch"):
        for rate, most in (("0.05", 0.004), ("0.1", 0.014)):
            assert float(gaps["closure"].sel(case=f"{kind}, {rate}")) < most
        wide = {how: float(gap.sel(case=f"{kind}, wide")) for how, gap in gaps.items()}
        assert wide["closure"] < wide["plain"] - 0.004
    assert float(gaps["plain"].sel(case="label, 0.05")) > 0.2


@pytest.mark.parametrize(("name", "factor"), [("ratio", 1.05), ("loss", 1.05)])
def test_what_is_otherwise_than_predicted_fails(results, name, factor):
    data = results.sel(case=["minibatch, 0.1"])
    assert exit_status(claims.verdicts(data.assign({name: factor * data[name]}))) == 1


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("strain", 0.19, True),
        ("strain", 0.21, False),
        ("strain", -0.21, False),
        ("feedback", 0.11, True),
        ("feedback", 0.13, False),
    ],
)
def test_the_regime_has_its_borders_and_is_not_entered_again(results, name, value, expected):
    data = 0 * results.sel(case="minibatch, 0.1", drop=True)[["strain", "feedback"]]
    assert claims.in_regime(data.assign({name: ("watch", [0, value, 0, 0, 0, 0])})) is expected


def test_a_run_that_left_the_regime_is_not_claimed(results):
    data = results.sel(case=["minibatch, 0.1"])
    assert not any(
        v.kind == "prediction" for v in claims.verdicts(data.assign(strain=0 * data.strain + 0.3))
    )


def made_up(how_far=0.1):
    """Three moments at which the noise changes 10 by 1, -2 and how_far, and one run measures it."""
    effect = np.asarray([1.0, -2.0, how_far])
    values = np.stack([0 * effect, effect, effect, effect]) + 10
    columns = {
        "ratio_by": (("how", "watch"), values),
        "ratio_remainder": ("watch", [0.0, -0.003, 0.003]),
        "strain": ("watch", [0.004, -0.002, 0.001]),
        "feedback": ("watch", [0.001, 0.003, 0.002]),
    }
    return xr.Dataset(columns, {"how": ["descent", "closure", "middle", "plain"]})


def test_the_own_error_is_a_fraction_of_the_largest_effect_so_far_and_the_remainder():
    data = made_up()
    np.testing.assert_allclose(claims.own_error(data, "ratio", 0), 0.005 * 1, rtol=1e-12)
    np.testing.assert_allclose(claims.own_error(data, "ratio", 1), 0.007 * 2 + 0.003, rtol=1e-12)
    np.testing.assert_allclose(claims.own_error(data, "ratio", 2), 0.007 * 2 + 0.003, rtol=1e-12)
    rough = data.assign(strain=0 * data.strain + 0.1)
    np.testing.assert_allclose(claims.own_error(rough, "ratio", 2), 0.005 * 10.1, rtol=1e-12)


@pytest.mark.parametrize(("how_far", "kind"), [(0.03, "observation"), (0.04, "prediction")])
def test_a_number_is_claimed_where_half_of_the_noise_is_told_from_it(how_far, kind, monkeypatch):
    monkeypatch.setattr(claims, "MOMENTS", {"the end": 2})
    data = made_up(how_far)
    loss = {f"loss{name}": data[f"ratio{name}"] for name in ("_by", "_remainder")}
    runs = (("run", "watch"), np.full((2, 3), 10 + how_far))
    rows = claims._claims(data.assign(loss | {"ratio": runs, "loss": runs}), "made up")
    assert {row.kind for row in rows} == {kind}


def test_the_remainder_is_that_of_a_quartic_under_a_normal_law():
    """E z^4 = 3 s^4 about a mean of 0, where f'' is 0; and a quadratic has none."""
    closure = SimpleNamespace(mean=jnp.zeros((1, 2)), covariance=jnp.diag(jnp.asarray([4.0, 1.0])))
    closure.covariance = closure.covariance[None]
    left = study.remainder(lambda t: jnp.stack([t[0] ** 4, (t**2).sum()]), closure)
    error = 96**0.5 * 16 / study.DRAWS**0.5
    assert abs(left[0, 0] - 48) < SURE * error
    np.testing.assert_allclose(left[0, 1], 0, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"runs": 1}, "runs must be at least 2, not 1"),
        ({"case": ["nothing"]}, "there is no case 'nothing'; there are minibatch"),
    ],
)
def test_bad_input_is_answered_by_one_sentence(changes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        study.study.parameters("small", Session(tmp_path), changes)
