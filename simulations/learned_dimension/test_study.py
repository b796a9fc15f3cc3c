"""The study of learned dimensions: its networks, its smallest run, and what it says of others."""

import json
from functools import partial

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from torch.func import hessian, jacrev

from sgdnoise.data import digits, principal, split
from sgdnoise.dimension import participation_ratio, twonn
from sgdnoise.lab import Session, exit_status
from simulations.learned_dimension import _flow as flow
from simulations.learned_dimension import _nets as nets
from simulations.learned_dimension import _noise as theory
from simulations.learned_dimension import claims, study
from simulations.learned_dimension import figure as drawing


@pytest.fixture(scope="module")
def small():
    """The smallest run, in this process."""
    return study.study.simulate("small")


@pytest.fixture(scope="module")
def begun():
    """Six examples for four units, and weights from another seed."""
    data = nets.task(3, 12, 5, "cpu")
    return data, nets.initial_weights(data, 4, 5)


def test_the_smallest_run_holds_and_is_drawn(small):
    verdicts = claims.verdicts(small)
    assert exit_status(verdicts) == 0
    assert sum(v.holds for v in verdicts) >= 8
    figures = drawing.figures(small)
    assert all(isinstance(figure, Figure) for _, figure in figures.values())
    for table in claims.tables(small):
        assert {len(row) for row in table.rows} == {len(table.headings)}
    lead = claims.LEAD({"device": "cpu", "arguments": json.dumps(study.SMALL)})
    assert "on cpu: 2 two-layer networks of 16 units" in lead[0]


@pytest.mark.parametrize(
    ("name", "by", "named"),
    [
        ("response", 1.1, "response"),
        ("power", 1.2, "power"),
        ("batch_naive", 1.3, "in batches of 32, over"),
        ("mean_loss", 3.0, "excess loss"),
    ],
)
def test_what_is_otherwise_than_predicted_fails(small, name, by, named):
    sides = xr.DataArray([1.0, by], dims="side") if "side" in small[name].dims else by
    wrong = small.assign({name: small[name] * sides})
    failed = [v.name for v in claims.verdicts(wrong) if v.outcome == "fails"]
    assert failed
    assert all(named in text for text in failed)


def test_identities_hold_in_the_committed_result(small):
    """dm/dt with c m less without is -c |grad m|^2, to second order in a step of 1e-5.

    Ma and Ying's bound holds at each example of each network, and descent on L + c PR decreases
    PR between all records.
    """
    for results in (small, study.study.read()[""]):
        assert abs(results.cross.isel(side=1) / results.cross.isel(side=0) - 1).max() < 1e-3
        assert results.bound.max() < 1 + 1e-9
        start = results.participation_ratio.sel(arm="start")
        for arm in claims.arms(results, "participation_ratio"):
            assert (results.path.sel(arm=arm) / start).diff("look").max() < 1e-3


def test_a_power_is_claimed_only_of_networks_that_were_solved(small):
    off = small.assign(solved=small.solved + 1e-3)
    claimed = [v for v in claims.verdicts(off) if v.kind == "prediction" and "power" in v.name]
    assert not claimed


# --- networks ---


def test_pixels_reach_the_network_as_its_training_examples_do(begun):
    data, _ = begun
    joined = np.concatenate([data.inputs, data.pixels @ data.rotation + data.shift])
    arrays = principal(*split(digits(3), 12, rng=3), 5, whiten=True)
    assert_allclose(joined, np.concatenate([layer.inputs for layer in arrays]), atol=1e-12)


def test_the_trace_is_that_of_the_hessian_where_all_is_learned(begun):
    """Solved, so that the Gauss-Newton form is the whole Hessian."""
    data, weights = begun
    data = data._replace(inputs=data.inputs[:4], targets=data.targets[:4])
    solved = nets.solved(weights, data, 30)
    assert float(nets.losses(solved, data)) < 1e-20
    theta = nets.flattened(solved)[0]

    def loss(theta):
        w, v = theta[:20].view(1, 5, 4), theta[20:].view(1, 4, 3)
        return nets.losses([w, v], data).sum()

    exact = torch.trace(hessian(loss)(theta))
    assert_allclose(float(nets.traces(solved, data.inputs)), float(exact), rtol=1e-8)


def test_noise_descends_the_slope_of_its_own_targets(begun, monkeypatch):
    """One step of the noisy descent, from the same draws."""
    data, weights = begun
    monkeypatch.setattr(nets, "APART", 1)
    noise = {"learning_rate": 0.3, "batch_size": 4, "label_noise": 0.7}
    seen = partial(theory.observed, task=data)
    (w, v), ((last,),), (mean_loss,) = nets.noisy_sgd(weights, data, 1, 9, seen, **noise)
    draw = torch.Generator().manual_seed(9)
    index = torch.randint(12, (1, 4), generator=draw)[0]
    white = torch.randn(1, 4, 3, generator=draw, dtype=w.dtype)[0]
    batch = data._replace(inputs=data.inputs[index], targets=data.targets[index] + 0.7 * white)
    expected = nets.descend(weights, lambda x: nets.losses(x, batch), 0.3, 1)
    assert_allclose(w, expected[0], rtol=1e-12)
    assert_allclose(v, expected[1], rtol=1e-12)
    ratio = participation_ratio(nets.hidden(expected, data.inputs)[0])
    rest = nets.losses(expected, data)[0], nets.traces(expected, data.inputs)[0]
    assert_allclose(last, [ratio, *rest], rtol=1e-12)
    assert_allclose(mean_loss, rest[0], rtol=1e-12)


def test_derivatives_are_those_of_autograd(begun):
    data, weights = begun
    rest = theory.residuals(weights, data)
    assert_allclose(nets.losses(weights, data)[0], 0.5 * (rest**2).sum(1).mean(), rtol=1e-12)

    def layers(theta):
        w = nets.unflattened(theta[None], weights)
        rows = nets.hidden(w, data.inputs)
        return (rows @ w[1])[0], rows[0]

    exact = jacrev(layers)(nets.flattened(weights)[0])
    for ours, other in zip(theory.jacobians(weights, data.inputs), exact, strict=True):
        assert_allclose(ours, other, atol=1e-12)
    trace = (theory.jacobians(weights, data.inputs)[0] ** 2).sum() / 12
    assert_allclose(nets.traces(weights, data.inputs)[0], trace)


def test_the_excess_of_a_small_rate_is_kappa_times_the_trace(begun):
    """To first order in the rate, once all directions have relaxed."""
    data, weights = begun
    weights = nets.solved(
        weights, data._replace(inputs=data.inputs[:4], targets=data.targets[:4]), 30
    )
    data = data._replace(inputs=data.inputs[:4], targets=data.targets[:4])
    noise = {"learning_rate": 1e-5, "batch_size": 4, "label_noise": 0.7}
    kappa = 1e-5 * 0.7**2 / 16
    added = theory.excess(weights, data, 1e9, **noise)
    assert_allclose(added, kappa * float(nets.traces(weights, data.inputs)), rtol=1e-3)


def test_the_excess_is_claimed_where_small_parameters_are_small(small):
    changes = {name: small[name] * 0 + limit for name, limit in claims.LIMITS._asdict().items()}
    kinds = []
    for name in (None, *changes):
        more = {name: changes[name] * 1.01} if name else {}
        (row,) = (v for v in claims.verdicts(small.assign(changes | more)) if "excess" in v.name)
        kinds.append(row.kind)
    assert kinds == ["prediction", *["outside"] * 4]


def test_networks_of_a_stack_do_not_know_of_each_other(begun):
    data, weights = begun
    c = torch.tensor([0.1, -0.2], dtype=data.inputs.dtype)

    def total(w, c):
        return nets.losses(w, data) + c * nets.measured(
            participation_ratio, nets.hidden(w, data.inputs)
        )

    both = [layer.expand(2, -1, -1) for layer in weights]
    together = nets.descend(both, lambda w: total(w, c), 0.1, 5)
    for at in (0, 1):
        alone = nets.descend(weights, lambda w, at=at: total(w, c[at]), 0.1, 5)
        assert_allclose(together[0][at], alone[0][0], rtol=1e-10, atol=1e-13)


def test_two_nearest_is_twonn_with_its_gradient_and_goes_on_through_ties(rng):
    rows = torch.tensor(rng.normal(size=(60, 4)), requires_grad=True)
    values = [measure(rows) for measure in (nets.two_nearest, twonn)]
    slopes = [torch.autograd.grad(value, rows)[0] for value in values]
    assert_allclose(values[0].item(), values[1].item(), rtol=1e-12)
    assert_allclose(*slopes, rtol=1e-9, atol=1e-12)
    tied = torch.cat([rows.detach()[:2], torch.tensor([[9.0, 0, 0, 0]]) + torch.eye(4)])
    assert torch.isfinite(nets.two_nearest(tied))


def test_slopes_of_the_output_by_the_input_are_those_of_autograd(begun):
    data, weights = begun
    rows = nets.hidden(weights, data.inputs)
    result = nets.input_sensitivity(weights, rows)
    rows_of_jacobian = [
        torch.autograd.functional.jacobian(
            lambda x: (nets.hidden(weights, x[None]) @ weights[1])[0, 0], x
        )
        for x in data.inputs
    ]
    exact = torch.stack([(j**2).sum() for j in rows_of_jacobian]).mean()
    assert_allclose(float(result["jacobian"]), float(exact), rtol=1e-10)
    assert float(result["bound"]) <= 1


def test_a_curvature_is_the_difference_of_slopes(begun):
    data, weights = begun
    along = [torch.ones_like(layer) for layer in weights]
    ends = [
        nets.gradient(flow.moved(weights, along, by), lambda w: nets.losses(w, data))
        for by in (1e-5, -1e-5)
    ]
    for curvature, up, down in zip(flow.hessian_product(weights, along, data), *ends, strict=True):
        assert_allclose(curvature, (up - down) / 2e-5, rtol=1e-6, atol=1e-8)


def test_one_dimension_is_met_between_two_coefficients_of_each_seed():
    """In the middle of two logarithms, so of the values; nowhere beyond the last; any order."""
    arms = ["descent", "twonn 0.01", "twonn 0.1", "label noise", "twonn -0.1"]
    ends = [[8.0, 4.0, 2.0, 8.0**0.5, 99.0], [8.0, 4.0, 2.0, 1.9, 99.0], [2.0, 8.0, 4.0, 8.0, 1.0]]
    values = [[0.0, 10.0, 30.0, 7.0, 99.0]] * 3
    axes = "seed", "arm"
    synthetic = xr.Dataset({"twonn": (axes, ends), "trace": (axes, values)}, {"arm": arms})
    assert_allclose(claims.at_noise(synthetic, "twonn", synthetic.trace), [20.0, np.nan, 10.0])
    assert_allclose(
        claims.at_noise(synthetic, "twonn", synthetic.twonn)[0], 3.0
    )  # not quite the same


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": 1}, "seeds must be at least 2, not 1"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
    ],
)
def test_bad_input_is_answered_by_one_sentence(changes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        study.study.parameters("small", Session(tmp_path), changes)
    with pytest.raises(ValueError, match="a seed is an integer from 0"):
        study.study.parameters("small", Session(tmp_path, seed=-1), {})


def test_a_measure_free_of_scale_moves_no_imbalance_of_a_linear_network(begun):
    """What is left is of the next order in the rate, one in a hundred of what Tr H does."""
    data, _ = begun
    free, by_trace = flow.imbalance_change(data, 4, 5, 60)
    assert abs(by_trace) > 1e-3
    assert abs(free) < 0.05 * abs(by_trace)
