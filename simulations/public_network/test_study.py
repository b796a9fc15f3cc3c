"""The study of public networks: its functions, a small run, and wrong results."""

from itertools import islice

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from sgdnoise.lab import exit_status
from sgdnoise.nets import freeze_batch_norm, smooth_relus
from sgdnoise.nets.models import resnet
from sgdnoise.theory import label_noise_covariance
from simulations.public_network import claims, study
from simulations.public_network import figure as drawing
from simulations.public_network._frozen import Frozen, participation, spectrum
from simulations.public_network._paths import (
    Jitter,
    Noise,
    autograd_slopes,
    balanced,
    jittered,
    largest_rate,
    predicted,
    reshaped,
    sgd,
)

BLOCKS = ["layer1.0", "layer2.0", "layer3.0"]


@pytest.fixture
def net():
    inputs = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return Frozen(freeze_batch_norm(resnet(8, seed=0).eval()), inputs, BLOCKS)


@pytest.fixture(scope="module")
def results():
    """Both networks of the small size."""
    return study.study.simulate("small", steps=48)


def test_the_start_is_a_minimum_without_residuals(net):
    gradient, loss = net.gradient(net.start)
    assert float(loss) == 0.0
    assert float(abs(gradient).max()) == 0.0


def test_noise_of_labels_has_the_covariance_of_the_curvature(net):
    """J^T eps / b of one draw, by the jacobian."""
    white = torch.randn(3, 10)
    gradient, _ = net.gradient(net.start, torch.arange(3), white)
    rows = net.jacobian(net.start).flatten(0, 1)
    assert_allclose(gradient, -rows.T @ white.reshape(-1) / 3, rtol=1e-4, atol=1e-5)


def test_the_trace_of_random_signs_is_that_of_the_jacobian(net):
    generator = torch.Generator().manual_seed(0)
    trace, gradient = net.trace_gradient(net.start, 200, generator)
    exact = float(net.jacobian(net.start).square().sum()) / 3
    assert_allclose(trace, exact, rtol=0.1)
    assert gradient.shape == net.start.shape


def test_a_displaced_network_returns_to_a_minimum_nearby(net):
    rate, _ = largest_rate(net, 0.2)
    away = net.start + 1e-3 * torch.randn(net.start.shape)
    back = net.minimum(away, rate, 20)
    assert float(net.gradient(back)[1]) < 0.01 * float(net.gradient(away)[1])


def test_pooled_ratios_are_those_of_the_outputs_of_blocks(net):
    ratios = net.ratios(net.start).detach()
    assert ratios.shape == (4,)
    assert_allclose(ratios[-1], participation(net.targets), rtol=1e-6)


@pytest.mark.parametrize("shape", ["isotropic", "diagonal"])
def test_other_shapes_keep_the_squared_length(shape):
    kick = torch.randn(1000)
    other = reshaped(kick, shape, {"generator": torch.Generator().manual_seed(0)})
    assert_allclose(other.norm(), kick.norm(), rtol=1e-6)
    assert abs(torch.nn.functional.cosine_similarity(kick, other, 0)) < 0.2


def test_a_smooth_network_moves_with_the_slope_of_autograd(net):
    """With little noise and a long jump: theory is descent on kappa Tr H along the minima."""
    inputs = net.inputs
    smooth = smooth_relus(freeze_batch_norm(resnet(8, seed=0).eval()), inputs, 1.0)
    net = Frozen(smooth, inputs, BLOCKS)
    rate, trace = largest_rate(net, 0.02)
    noise, steps = Noise(0.3, 64, rate), 4000
    generator = torch.Generator().manual_seed(0)
    white = np.asarray([*islice(balanced(30, np.random.default_rng(0)), 60)])
    kappa = rate * noise.label_noise**2 / (4 * noise.batch)
    along, slope = autograd_slopes(net, 200, generator)
    late = 10**7  # the jitter is stationary
    theta, _, losses = predicted(net, net.start, 0 * net.start, noise, late, steps, white)
    after = float(net.jacobian(net.minimum(theta, rate, 0)).square().sum()) / 3
    assert_allclose(after - trace, kappa * rate * steps * slope, rtol=0.2)
    assert_allclose(losses, kappa * trace, rtol=0.1)
    assert along.shape == (4,)


def test_jitter_has_the_covariance_of_label_noise(net):
    """The covariance in the space of outputs is that of all weights, whatever the basis."""
    rate, _ = largest_rate(net, 0.2)
    jitter = Jitter(net, net.start, Noise(0.5, 4, rate), 10)
    colours = torch.stack([jitter.colour(row) for row in np.eye(30)])
    full = label_noise_covariance(
        net.jacobian(net.start).double(),
        label_noise=0.5,
        learning_rate=rate,
        batch_size=4,
        time=10 * rate,
    )
    rows = torch.as_tensor(full.rows).float()
    along = net.jacobian(net.start).flatten(0, 1)
    assert_allclose(colours.square().sum(), rows.square().sum(), rtol=1e-3)
    seen = (along @ colours.T) @ (along @ colours.T).T
    assert_allclose(seen, (along @ rows.T) @ (along @ rows.T).T, rtol=0.02, atol=2e-3 * seen.max())
    assert_allclose(along @ colours.T, jitter.seen, rtol=0.02, atol=1e-3 * jitter.seen.max())
    assert_allclose(jitter.loss, float(seen.trace()) / 6, rtol=1e-3)


def test_balanced_numbers_have_exact_second_moments():
    rows = np.asarray([*islice(balanced(7, np.random.default_rng(0)), 14)])
    assert_allclose(rows.T @ rows / 14, np.eye(7), atol=1e-12)


def test_a_pair_of_jitter_is_about_its_mean(net):
    rate, _ = largest_rate(net, 0.2)
    white = np.random.default_rng(0).standard_normal((1, 30))
    first, second = jittered(net, net.start, Noise(0.5, 4, rate), 300, white)
    assert_allclose((first + second) / 2, net.start, atol=1e-6)
    assert not torch.equal(first, second)


def test_descent_from_jitter_still_lowers_the_trace(net):
    rate, trace = largest_rate(net, 0.3)
    noise = Noise(1.0, 4, rate)
    white = [*islice(balanced(30, np.random.default_rng(0)), 30)]
    after = [
        study._after_quench(net, at, noise)[1]
        for at in jittered(net, net.start, noise, 10**6, white)
    ]
    assert np.mean(after) < trace - 3 * np.std(after) / len(after) ** 0.5
    assert_allclose(study._after_quench(net, net.start, noise)[1], trace, rtol=1e-4)


def test_theory_is_recorded_after_the_quench_from_jitter(net, monkeypatch):
    monkeypatch.setattr(study, "jittered", lambda net, *_: [net.start, net.start])
    rate, trace = largest_rate(net, 0.3)
    ((ratios, recorded, *_),) = study._theory(net, Noise(1.0, 4, rate), 0, 40, 1, 2, 4)
    assert_allclose(recorded, trace, rtol=1e-4)
    assert_allclose(ratios, net.ratios(net.start).detach(), rtol=1e-4)


def test_sgd_has_the_mean_loss_of_its_jitter(net):
    """On outputs that are linear in theta to a good approximation: little noise."""
    rate, _ = largest_rate(net, 0.2)
    noise = Noise(0.01, 16, rate)
    generator = torch.Generator().manual_seed(0)
    theta, _ = sgd(net, net.start, noise, 200, "label", generator)
    _, loss = sgd(net, theta, noise, 300, "label", generator)
    white = np.random.default_rng(0).standard_normal((50, 30))
    *_, (linear, curved) = predicted(net, net.start, 0 * net.start, noise, 200, 300, white)
    assert_allclose(loss, linear, rtol=0.25)
    assert_allclose(curved, linear, rtol=0.02)
    values, _ = spectrum(net.jacobian(net.start).flatten(0, 1))
    kappa = rate * noise.label_noise**2 / (4 * noise.batch)
    assert linear < 1.2 * kappa * float(values.sum()) / 3


def test_a_small_run_is_judged_and_drawn(results):
    rows = claims.verdicts(results)
    assert {"prediction"} <= {row.kind for row in rows}
    assert all(isinstance(f, Figure) for _, f in drawing.figures(results).values())
    assert not any(len(row) != len(t.headings) for t in claims.tables(results) for row in t.rows)


def made_up(results, factor, *, noise=0.002, curved=1.0):
    """SGD that changes `factor` times as much as theory, which changes by a third."""
    data = results.copy(deep=True)
    rng = np.random.default_rng(0)
    watch = np.arange(data.sizes["watch"]) / (data.sizes["watch"] - 1)
    for key in ("ratio", "trace"):
        values = data[key].transpose(..., "watch").values
        dims = data[key].transpose(..., "watch").dims
        axis = dims.index("path")
        scale = [1.0 if p.startswith("theory") else factor for p in data.path.values]
        scale = np.asarray(scale).reshape([-1 if k == axis else 1 for k in range(values.ndim)])
        start = values[..., :1]
        noisy = noise * rng.normal(size=values.shape) * watch
        data[key] = dims, start * (1 - 0.3 * scale * watch + noisy * (scale != 1.0))
    data["loss"] = 0 * data.loss + 1.0
    data["linear_loss"] = 0 * data.linear_loss + curved
    return data


@pytest.mark.parametrize(("factor", "status"), [(1.001, 0), (1.3, 1), (0.7, 1)])
def test_another_change_than_predicted_fails(results, factor, status):
    assert exit_status(claims.verdicts(made_up(results, factor))) == status


def test_nothing_is_claimed_where_the_loss_is_far_from_quadratic(results):
    rows = claims.verdicts(made_up(results, 1.001, curved=0.6))
    assert not any(row.kind == "prediction" for row in rows)


def test_unknown_cases_are_refused():
    with pytest.raises(ValueError, match="there is no case 'nothing'"):
        study.study.simulate("small", case=["nothing"])


def test_a_folder_without_data_is_refused():
    with pytest.raises(ValueError, match="there is no folder nowhere"):
        study.study.simulate("small", data="nowhere")
