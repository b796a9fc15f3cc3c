"""The mean force of jitter: smooth networks, corners of relus, the work of one unit."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import norm

from derivations import corners
from sgdnoise.core import Factor, Isotropic
from sgdnoise.theory import (
    averaged_gradient,
    corner_work,
    label_noise_covariance,
    label_noise_strength,
    smoothed_relu,
)


def test_the_derived_formulas_are_those_of_the_code():
    work = corners.corner_work().rhs.subs(
        {corners.v: 0.7, corners.s: 0.3, corners.h_a: 2.0, corners.h_r: 0.5}
    )
    coded = corner_work(0.3, 0.7, jitter_rate=2.0, residual_rate=0.5)
    assert_allclose(coded, float(work), rtol=1e-12)
    formula = corners.smoothed_relu().rhs
    for a in (-0.8, 0.1, 1.3):
        numbers = dict(zip(sorted(formula.free_symbols, key=str), (a, 0.4), strict=True))
        claimed = float(formula.subs(numbers).evalf())
        assert_allclose(smoothed_relu(np.asarray(a), 0.4), claimed, rtol=1e-12)


def test_the_linear_part_of_the_gradient_cancels_exactly(rng):
    hessian = rng.normal(size=(3, 3))
    mean, white = rng.normal(size=3), rng.normal(size=(1, 3))
    force = averaged_gradient(lambda t: hessian @ t, mean, Isotropic(2.0, 3), white)
    assert_allclose(force, hessian @ mean, rtol=1e-12)


def test_small_jitter_of_a_smooth_network_has_the_force_of_kappa_tr_h():
    """Along the minima, and with the covariance of label noise to first order."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    theta = torch.randn(3 * 5 + 5, generator=generator, dtype=torch.float64)

    def outputs(t):
        return torch.tanh(x @ t[:15].view(3, 5)) @ t[15:]

    y = outputs(theta)
    loss = lambda t: (outputs(t) - y).square().mean() / 2  # noqa: E731
    jacobian = torch.func.jacrev(outputs)(theta)[:, None]
    size = {"label_noise": 0.05, "learning_rate": 1e-3, "batch_size": 2}
    covariance = label_noise_covariance(
        jacobian.numpy(), with_feedback=False, discrete_steps=0.0, **size
    )
    white = np.random.default_rng(0).normal(size=(4000, covariance.width))
    batched = torch.func.vmap(torch.func.grad(loss))
    jitter = torch.as_tensor(np.stack([covariance.colour(w) for w in white]))
    pairs = (batched(theta + jitter) + batched(theta - jitter)).mean(0) / 2
    assert_allclose(
        averaged_gradient(torch.func.grad(loss), theta, covariance, white[:50]),
        (batched(theta + jitter[:50]) + batched(theta - jitter[:50])).mean(0) / 2,
        atol=1e-15,
    )
    kappa = label_noise_strength(*(size[k] for k in ("learning_rate", "label_noise", "batch_size")))
    trace = lambda t: torch.func.jacrev(outputs)(t).square().sum() / 4  # noqa: E731
    expected = kappa * torch.func.grad(trace)(theta)
    rows = jacobian[:, 0]
    along = torch.eye(20, dtype=torch.float64) - torch.linalg.pinv(rows) @ rows
    error = torch.linalg.norm(along @ (pairs - expected)) / torch.linalg.norm(along @ expected)
    assert error < 0.05


def test_the_force_at_a_corner_is_that_of_the_smoothed_unit():
    """A strong linear unit p and a weak relu of p + a on one output: v s phi(a / s) to order v."""
    strength, jitter = 1e-3, 0.4

    def gradient(theta):
        p, a = theta
        residual = p + strength * np.maximum(p + a, 0)
        on = float(p + a > 0)
        return residual * np.asarray([1 + strength * on, strength * on])

    covariance = Factor(np.asarray([[jitter, 0.0]]))  # p alone jitters
    white = np.random.default_rng(0).normal(size=(8_000, 1))
    for a in (-0.5, 0.0, 0.3):
        force = averaged_gradient(gradient, np.asarray([0.0, a]), covariance, white)[1]
        assert_allclose(force, strength * jitter * norm.pdf(a / jitter), rtol=0.06)


@pytest.mark.parametrize(("h_unit", "h_residual"), [(1.0, 1.0), (1.0, 3.0), (2.0, 0.5)])
def test_the_work_of_one_relu_is_that_of_simulated_jitter(h_unit, h_residual):
    """Chains of the jitter, and of the response of a residual to the relu, for many means a."""
    rng = np.random.default_rng(0)
    chains, dt, steps, jitter = 3000, 0.02, 1000, 1.0
    means = np.arange(-4.5, 4.51, 0.5)[:, None]
    p, response = rng.normal(size=chains), -smoothed_relu(means, jitter) + np.zeros(chains)
    keep, kick = np.exp(-h_unit * dt), (1 - np.exp(-2 * h_unit * dt)) ** 0.5
    total, kept = np.zeros(len(means)), 0
    for step in range(steps):
        relu = np.maximum(p + means, 0)
        if step * dt > 6 and step % 10 == 0:
            total += ((relu + response) * (p + means > 0)).mean(1)
            kept += 1
        p = keep * p + kick * rng.normal(size=chains)
        middle = (relu + np.maximum(p + means, 0)) / 2
        response += (1 - np.exp(-h_residual * dt)) * (-middle - response)
    work = total.sum() * 0.5 / kept
    expected = corner_work(jitter, jitter_rate=h_unit, residual_rate=h_residual)
    assert_allclose(work, expected, rtol=0.05)
    assert not np.isclose(work, corner_work(jitter, residual_rate=0.0), rtol=0.15)


@pytest.mark.parametrize("white", [np.zeros(3), np.zeros((4, 2)), np.zeros((0, 3))])
def test_numbers_of_another_shape_are_refused(white):
    with pytest.raises(ValueError, match=r"are not \(draws, 3\)"):
        averaged_gradient(lambda t: t, np.zeros(3), Isotropic(1.0, 3), white)


@pytest.mark.parametrize("options", [{"jitter": 0.0}, {"jitter": 1.0, "jitter_rate": -1.0}])
def test_work_of_no_jitter_is_refused(options):
    with pytest.raises(ValueError, match="jitter"):
        corner_work(**options)
