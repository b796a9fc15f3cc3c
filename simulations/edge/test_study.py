"""The study of the edge: its networks and paths, a small run, and results made up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from sgdnoise.lab import exit_status
from simulations.edge import claims, study
from simulations.edge import figure as drawing
from simulations.edge._networks import convnet, images, perceptron
from simulations.edge._training import Course

LATE = {"step": 28 + 56 * np.arange(8)}


@pytest.fixture(scope="module")
def results():
    """A few steps of descent and of SGD, in this process."""
    return study.study.simulate("small", every=4, networks=2)


@pytest.fixture
def course():
    inputs, targets = images(None, "MNIST", 12, 8)
    return Course(perceptron(inputs, targets, (5, 4)), 0.2)


def test_images_are_centred_and_of_one_size():
    for kind, channels in (("MNIST", 1), ("CIFAR", 3)):
        inputs, targets = images(None, kind, 30, 8)
        assert inputs.shape == (30, 8, 8, channels)
        assert_allclose(inputs.mean(0), 0, atol=1e-5)
        assert_allclose((inputs**2).sum((1, 2, 3)).mean(), 10, rtol=1e-4)
        assert_allclose(targets.sum(1), 1)


def test_a_convnet_is_that_of_torch():
    import torch

    inputs, targets = images(None, "CIFAR", 6, 8)
    net = convnet(inputs, targets, (2, 3), 4)
    theta = net.start(0)
    hidden = net.layers(theta, inputs)
    assert [h.shape[1] for h in hidden] == [2 * 16, 3 * 4, 4, 10]
    x = torch.asarray(np.array(inputs)).permute(0, 3, 1, 2)
    taken = 0
    for (i, o), layer in zip(net.sizes[:2], hidden, strict=False):
        weights = np.asarray(theta[taken : taken + i * o]).reshape(3, 3, i // 9, o)
        bias = np.asarray(theta[taken + i * o : taken + (i + 1) * o])
        taken += (i + 1) * o
        kernel = torch.asarray(weights.transpose(3, 2, 0, 1).copy())
        x = torch.tanh(torch.conv2d(x, kernel, torch.asarray(bias.copy()), stride=2, padding=1))
        assert_allclose(x.permute(0, 2, 3, 1).flatten(1), layer, rtol=1e-4, atol=1e-5)
    assert theta.shape == (net.size,)


def test_the_sharpness_and_the_trace_are_those_of_dense_matrices(course):
    theta = course.net.start(1)
    hessian = jax.hessian(course.problem.value)(theta)
    expected = np.linalg.eigvalsh(hessian)[::-1][:3]
    assert_allclose(course.sharpness(theta)[0], expected, rtol=1e-2)
    jacobian = jax.jacrev(lambda t: course.net.layers(t, course.net.inputs)[-1])(theta)
    assert_allclose(course.trace(theta), (jacobian**2).sum() / 12, rtol=1e-4)


def test_a_ratio_is_that_of_the_covariance(course):
    theta = course.net.start(2)
    rows = np.asarray(course.net.layers(theta, course.net.inputs)[0])
    spectrum = np.linalg.eigvalsh(np.cov(rows.T))
    assert_allclose(course.ratios(theta)[0], spectrum.sum() ** 2 / (spectrum**2).sum(), rtol=1e-4)


def test_windows_of_descent_are_means_of_its_steps(course):
    theta = start = course.net.start(3)
    record = course.descent(start, 3, 2)
    path = []
    for _ in range(6):
        path.append(theta)
        theta = theta - 0.2 * course.problem.gradient(theta)
    assert_allclose(record.theta[1], jnp.stack(path[3:]).mean(0), rtol=1e-3, atol=1e-5)
    assert_allclose(record.loss[0], np.mean([course.value(t) for t in path[:3]]), rtol=1e-4)


def test_sgd_of_equal_examples_is_descent():
    inputs, targets = images(None, "MNIST", 12, 8)
    same = Course(perceptron(inputs[:1].repeat(4, 0), targets[:1].repeat(4, 0), (5, 4)), 0.2)
    start = same.net.start(0)
    records, batches = same.sgd(start, 4, 2, batch=2, chains=2, seed=0)
    expected = same.descent(start, 4, 2)
    assert_allclose(records[1].theta, expected.theta, rtol=1e-3, atol=1e-5)
    assert_allclose(records[0].loss, expected.loss, rtol=1e-3)
    assert np.isnan(batches[:, 0]).all()
    assert np.isfinite(batches[:, 1]).all()


def test_a_rate_that_has_no_edge_is_refused(course):
    with pytest.raises(ValueError, match="does not reach the edge"):
        Course(course.net, 1e-3).begin(0)


def test_a_small_run_is_judged_and_drawn(results):
    rows = claims.verdicts(results)
    assert {row.kind for row in rows} <= {"prediction", "observation", "outside", "contrast"}
    assert all(isinstance(f, Figure) for _, f in drawing.figures(results).values())
    assert not any(len(row) != len(t.headings) for t in claims.tables(results) for row in t.rows)


def made_up(*, descent=1.0, gap=1.0, speed=0.02, share=0.2, batches=10.0):
    """A case as theory has it, but for what is changed; its edge is at 10."""
    rng = np.random.default_rng(0)
    hows = ("descent", "gradient flow", "central flow")
    late = np.linspace(0, 1, 8)
    alone = 9.9 + speed * 0.2 * (LATE["step"] - 28)  # sharpness of the gradient flow
    central = np.minimum(alone, 10.0)

    def between(flow, edge, noise):
        """Values (network, how, window), of descent a part of the way."""
        own = flow + descent * (edge - flow)
        values = np.stack([own, flow, edge]) + np.zeros((2, 1, 1))
        values[:, 0] += noise * rng.normal(size=(2, 8))
        return values

    variables = {
        "sharpness": (("network", "how", "window"), between(alone, central, 1e-3)),
        "loss": (("network", "how", "window"), 0.1 + between(0 * late, 0.02 + 0 * late, 1e-5)),
        "still_loss": (("network", "window"), np.full((2, 8), 0.1)),
        "unstable": (("network", "window"), np.tile((alone > 9.99).astype(int), (2, 1))),
    }
    ratio = between(5 + late, 5 + 0 * late, 1e-3)[..., None]
    variables["ratio"] = (("network", "how", "window", "layer"), ratio)
    moments = np.broadcast_to([0.1, 0.4, 0.0], (2, 8, 3))
    variables["single"] = (("network", "window", "moment"), moments)
    for name in ("central", "gradient"):
        variables[f"distance_{name}"] = (("network", "window"), 0.1 + rng.random((2, 8)))
    chains = (4, 8)
    noise = 1e-3 * rng.normal(size=(1, *chains))
    variables |= {
        "sgd_sharpness": (("batch", "chain", "window"), 10 - 3 * gap + noise),
        "sgd_loss": (("batch", "chain", "window"), 0.1 * (1 + share * gap) + 0.01 * noise),
        "sgd_ratio": (("batch", "chain", "window", "layer"), (5 + 0.5 * gap + noise)[..., None]),
        "batch_sharpness": (("batch", "chain", "window"), batches + noise),
        "trace": ("batch", [100.0]),
        "flow_sharpness": (("batch", "window"), np.full((1, 8), 7.0)),
        "flow_loss": (("batch", "window"), np.full((1, 8), 0.1 * (1 + share))),
        "flow_still_loss": (("batch", "window"), np.full((1, 8), 0.1)),
        "flow_batch_sharpness": (("batch", "window"), np.full((1, 8), 10.0)),
        "flow_ratio": (("batch", "window", "layer"), np.full((1, 8, 1), 5.5)),
    }
    coordinates = {"how": list(hows), "batch": [16], "step": ("window", LATE["step"])}
    data = xr.Dataset(variables, coordinates).assign(rate=0.2, parameters=100)
    return data.expand_dims(case=["made up"])


def test_networks_as_theory_has_them_pass():
    rows = claims.verdicts(made_up())
    claimed = [row for row in rows if row.kind == "prediction"]
    assert len(claimed) == 6
    assert {row.outcome for row in claimed} == {"holds"}
    assert exit_status(rows) == 0
    for row in claimed:
        assert all(row.excluded[name] for name in row.excluded if name.endswith(("x 0.5", "x 2")))
    [gap] = [row for row in claimed if "sharpness" in row.name and "B = 16" in row.name]
    assert gap.excluded[claims.TRACE]
    assert gap.excluded[claims.SINGLE]


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"descent": 0.6}, "made up:"), ({"descent": 1.4}, "made up:"), ({"gap": 0.7}, "B = 16")],
)
def test_what_theory_does_not_say_fails(changes, words):
    rows = claims.verdicts(made_up(**changes))
    failed = [row.name for row in rows if row.outcome == "fails"]
    assert len(failed) == 3
    assert all(words in name for name in failed)


def test_batch_sharpness_elsewhere_differs_and_fails_nothing():
    rows = claims.verdicts(made_up(batches=5.0))
    [row] = [row for row in rows if "batch sharpness" in row.name]
    assert row.outcome == "differs"
    assert exit_status(rows) == 0


def test_nothing_is_claimed_outside_of_the_regime():
    for changes in ({"speed": 1e-4}, {"share": 0.6}):
        rows = claims.verdicts(made_up(descent=0.5, gap=0.5, **changes))
        outside = [row for row in rows if row.kind == "outside"]
        assert len(outside) >= 3


def test_an_odd_window_is_refused():
    with pytest.raises(ValueError, match="every must be even"):
        study.check({"data": None, "real": True, "every": 5})
