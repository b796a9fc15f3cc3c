"""The study of minibatch noise: its network, its batches, a small run, and wrong results."""

import itertools

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from sgdnoise.lab import exit_status
from simulations.minibatch_noise import claims, study
from simulations.minibatch_noise import figure as drawing
from simulations.minibatch_noise._network import Net, batches_of, sgd, with_trace

WIDTHS = (3, 4, 4, 2)
SIZE = 3 * 4 + 4 + 4 * 4 + 4 + 4 * 2 + 2


def net_of(entropy):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(6, k, generator=generator, dtype=torch.float64) for k in (3, 2))
    return Net(WIDTHS, entropy, x, torch.softmax(y, -1) if entropy else y)


@pytest.fixture
def theta():
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(scope="module")
def results():
    """A few steps of two cases, in this process."""
    return study.study.simulate("small", runs=16)


@pytest.mark.parametrize("entropy", [False, True])
def test_the_trace_is_that_of_gauss_and_newton(theta, entropy):
    net = net_of(entropy)
    jacobian = torch.func.jacrev(lambda t: net.activations(t, net.x)[-1])(theta)
    curvature = torch.eye(2).double().expand(6, 2, 2)
    if entropy:
        q = torch.softmax(net.activations(theta, net.x)[-1], -1)
        curvature = torch.diag_embed(q) - q[:, :, None] * q[:, None, :]
    exact = torch.einsum("nap,nab,nbp->", jacobian, curvature, jacobian) / 6
    assert_allclose(net.trace(theta), exact, rtol=1e-12)
    rows = torch.stack([theta, theta / 2])
    assert_allclose(net.observed(rows)[0], net.observed(theta), rtol=1e-12)


def test_the_drift_of_tr_c_is_that_of_all_examples(theta):
    net = net_of(False)
    problem = study.Problem(net.losses, (net.x, net.y))
    rows = torch.stack([problem.subset([i]).gradient(theta) for i in range(6)])
    exact = net.loss(theta) + 0.3 / 8 * rows.var(0, unbiased=False).sum()
    assert_allclose(with_trace(net, problem.gradients, 0.3, 2)(theta), exact, rtol=1e-12)


@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement", "reshuffled"])
def test_batches_are_drawn_as_they_say(sampling):
    batches = batches_of(sampling, 500, 6, 2, torch.Generator().manual_seed(0))
    drawn = torch.stack(list(itertools.islice(batches, 6)), 1)  # (rows, steps, batch)
    counts = torch.bincount(drawn.flatten(), minlength=6)
    assert_allclose(counts, 1000, rtol=0.12)
    twice = float((drawn[..., 0] == drawn[..., 1]).double().mean())
    assert abs(twice - (1 / 6 if sampling == "with_replacement" else 0)) < 0.03
    epochs = drawn.reshape(500, 2, 6).sort(-1).values
    whole = bool((epochs == torch.arange(6)).all())
    assert whole == (sampling == "reshuffled")


def test_a_step_of_sgd_on_all_examples_is_descent(theta):
    net = net_of(True)
    index = torch.arange(6)[None]
    moved = sgd(net, theta[None], 0.1, batches=[index])
    assert_allclose(moved[0], theta - 0.1 * torch.func.grad(net.loss)(theta), rtol=1e-10)


def test_a_small_run_is_judged_and_drawn(results):
    rows = claims.verdicts(results)
    assert {row.kind for row in rows} <= {"prediction", "outside", "observation"}
    assert all(isinstance(f, Figure) for _, f in drawing.figures(results).values())
    assert not any(len(row) != len(t.headings) for t in claims.tables(results) for row in t.rows)


def made_up(results, factor, *, feedback=0.1, noise=0.001):
    """Runs whose gap is a factor times that of the flow."""
    data, rng = results.copy(deep=True), np.random.default_rng(0)
    watch = np.arange(5.0)
    for name in ("ratio", "trace"):
        for k, how in enumerate(data.how.values):
            gap = {"flow": 0.2, "Tr C in the loss": 0.1}.get(str(how), 0.0)
            values = data[name].transpose("how", "watch", ...).values
            values[k] = np.where(np.isfinite(values[k]), 5.0, np.nan)
            values[k] += (gap * watch).reshape(5, *[1] * (values.ndim - 2))
        runs = data[name + "_runs"].transpose("run", "watch", ...)
        runs[:] = 5.0 + factor * 0.2 * watch.reshape(5, *[1] * (runs.ndim - 2))
        runs += noise * rng.normal(size=runs.shape)
        data[name + "_runs"] = runs
    data["feedback"] = data.feedback * 0 + feedback
    return data


@pytest.mark.parametrize(("factor", "status"), [(1.0, 0), (1.2, 1), (0.8, 1), (0.0, 1)])
def test_another_gap_than_predicted_fails(results, factor, status):
    assert exit_status(claims.verdicts(made_up(results, factor))) == status


def test_nothing_is_claimed_where_the_feedback_is_large(results):
    rows = claims.verdicts(made_up(results, 1.0, feedback=0.4))
    assert not any(row.kind == "prediction" for row in rows)


def test_a_gap_that_changes_its_sign_is_observed_alone(results):
    data = made_up(results, 1.0)
    assert not claims.crosses(data.ratio.isel(case=0, layer=0))
    sign = np.where(np.arange(data.sizes["watch"]) < 2, 1.0, -1.0)
    flipped = data.copy(deep=True)
    shape = [1] * flipped.ratio.ndim
    shape[flipped.ratio.dims.index("watch")] = -1
    descent = flipped.ratio.sel(how="descent")
    flipped["ratio"] = descent + (flipped.ratio - descent) * sign.reshape(shape)
    assert claims.crosses(flipped.ratio.isel(case=0, layer=0))
    kinds = {row.kind for row in claims.verdicts(flipped) if "PR" in row.name}
    assert kinds == {"observation"}


def test_unknown_cases_are_refused():
    with pytest.raises(ValueError, match="there is no case 'nothing'"):
        study.study.simulate("small", case=["nothing"])
