"""Where regression rests: against every minibatch, against its own steps, and against chains."""

import inspect
from itertools import combinations, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.strategies import booleans, floats, integers
from numpy.testing import assert_allclose
from witnesses import SURE, number

from derivations import regression as derived
from sgdnoise import noise
from sgdnoise.core import Problem, mean
from sgdnoise.dynamics import sgd, simulate
from sgdnoise.theory import (
    excess_loss,
    finite_covariance,
    finite_moments,
    kesten_index,
    noise_feedback,
    online_covariance,
    online_moments,
)

INPUTS = np.asarray([[1.0, 0.3, 0.0], [0.3, 0.6, 0.1], [0.0, 0.1, 1.5]])


def data(rng, n=7, d=2):
    """Inputs (n, d), targets (n,) that no theta fits, and the best theta."""
    x, y = rng.normal(size=(n, d)), rng.normal(size=n)
    return x, y, np.linalg.lstsq(x, y, rcond=None)[0]


def batches(n, size, replacement):
    return list(product(range(n), repeat=size) if replacement else combinations(range(n), size))


def after_all_batches(x, y, best, mean_, second, rate, size, replacement):
    """Mean and second moment about the best theta after one step, over all minibatches."""
    center, covariance, all_of_them = 0, 0, batches(len(x), size, replacement)
    for batch in map(list, all_of_them):
        step = np.eye(len(best)) - rate * x[batch].T @ x[batch] / size
        shift = rate * x[batch].T @ (y[batch] - x[batch] @ best) / size
        across = np.outer(step @ mean_, shift)
        center = center + step @ mean_ + shift
        covariance = (
            covariance + step @ second @ step.T + across + across.T + np.outer(shift, shift)
        )
    return center / len(all_of_them), covariance / len(all_of_them)


# --- finite data: every minibatch ---


@pytest.mark.parametrize("rate", [0.02, 0.12])
@pytest.mark.parametrize(("size", "replacement"), [(1, True), (3, True), (3, False), (7, False)])
def test_a_step_on_every_minibatch_leaves_the_finite_covariance(rate, size, replacement, rng):
    x, y, best = data(rng)
    s = finite_covariance(x, y, rate, size, replacement)
    center, after = after_all_batches(x, y, best, np.zeros(2), s, rate, size, replacement)
    assert_allclose(after, s, rtol=1e-10, atol=1e-15)
    assert_allclose(center, 0, atol=1e-14)


@pytest.mark.parametrize("replacement", [True, False])
def test_moments_at_any_time_are_those_of_every_minibatch(replacement, rng):
    """From far away, where mean and residuals together make noise too; and with growing ones."""
    x, y, best = data(rng)
    center = start = rng.normal(size=2)
    for rate in (0.3, 2.0):
        center, second = start, np.outer(start, start)
        for steps in range(4):
            result = finite_moments(x, y, rate, 2, start, steps, replacement)
            assert_allclose(result[0], center, rtol=1e-12)
            assert_allclose(result[1], second - np.outer(center, center), rtol=1e-9, atol=1e-13)
            center, second = after_all_batches(x, y, best, center, second, rate, 2, replacement)


@pytest.mark.parametrize("replacement", [True, False])
def test_moments_end_at_rest(replacement, rng):
    x, y, _ = data(rng)
    more = {"replacement": replacement, "label_noise": 0.7}
    center, covariance = finite_moments(x, y, 0.3, 2, rng.normal(size=2), 2000, **more)
    assert_allclose(covariance, finite_covariance(x, y, 0.3, 2, **more), rtol=1e-9)
    assert_allclose(center, 0, atol=1e-12)


def test_label_noise_is_that_of_all_signs(rng):
    """Targets shifted by + and - label_noise, each use of each example by its own coin."""
    x, y, best = data(rng, n=4)
    s = finite_covariance(x, y, 0.3, 2, replacement=False, label_noise=0.7)
    after = 0
    for signs in product((-1, 1), repeat=4):
        shifted = y + 0.7 * np.asarray(signs)
        after = after + after_all_batches(x, shifted, best, np.zeros(2), s, 0.3, 2, False)[1]
    assert_allclose(after / 16, s, rtol=1e-10)


def test_torch_and_jax_say_the_same(rng):
    x, y, best = data(rng)
    arguments = [torch.asarray(block) for block in (x, y)]
    stationary = finite_covariance(x, y, 0.3, 2, label_noise=0.5)
    assert_allclose(finite_covariance(*arguments, 0.3, 2, label_noise=0.5), stationary, rtol=1e-10)
    moved = finite_moments(*arguments, 0.3, 2, torch.asarray(best), 2)[1]
    assert_allclose(moved, finite_moments(x, y, 0.3, 2, best, 2)[1], rtol=1e-10)
    online = online_covariance(INPUTS, 0.5, 0.2, 2)
    for asarray in (torch.asarray, jnp.asarray):
        result = online_covariance(asarray(INPUTS), 0.5, 0.2, 2)
        assert_allclose(np.asarray(result), online, rtol=1e-12)


# --- online: moments of normal inputs ---


def normal_step(a, second, label_noise, rate, batch, rng, examples):
    """Mean over drawn batches of the second moment after one step, given that before it."""
    x = rng.normal(size=(examples, batch, len(a))) @ np.linalg.cholesky(a).T
    theta = rng.normal(size=(examples, len(a))) @ np.linalg.cholesky(second).T
    gap = np.einsum("sbi,si->sb", x, theta) - label_noise * rng.normal(size=(examples, batch))
    moved = theta - rate * np.einsum("sb,sbi->si", gap, x) / batch
    return mean(moved[:, :, None] * moved[:, None, :])


@pytest.mark.parametrize(("rate", "batch"), [(0.2, 1), (0.6, 4)])
def test_a_drawn_step_leaves_the_online_covariance(rate, batch, rng):
    s = online_covariance(INPUTS, 0.5, rate, batch)
    observed = normal_step(INPUTS, s, 0.5, rate, batch, rng, 200_000)
    assert np.all(abs(observed.z(s)) < SURE)


@pytest.mark.parametrize(("rate", "batch"), [(0.05, 1), (0.2, 1), (0.6, 4)])
def test_online_steps_end_at_rest(rate, batch, rng):
    center, covariance = online_moments(INPUTS, 0.5, rate, batch, rng.normal(size=3), 3000)
    assert_allclose(covariance, online_covariance(INPUTS, 0.5, rate, batch), rtol=1e-9, atol=1e-13)
    assert_allclose(center, 0, atol=1e-12)


def test_online_steps_are_the_derived_ones():
    """From a start along one axis, after one step and a second."""
    a, start = np.diag([0.7, 1.3]), np.asarray([0.9, 0.0])
    letters = {"a_i": 0.7, "a_j": 1.3, "eta": 0.3, "B": 2, "sigma": 0.5}
    moments = np.asarray([0.81, 0.0])
    for steps in (1, 2):
        separate, second = moments
        swapped = letters | {"a_i": 1.3, "a_j": 0.7}
        moments = np.asarray(
            [
                number(derived.online_step(), S_i=separate, S_j=second, **letters),
                number(derived.online_step(), S_i=second, S_j=separate, **swapped),
            ]
        )
        center, covariance = online_moments(a, 0.5, 0.3, 2, start, steps)
        assert_allclose(np.diag(covariance) + center**2, moments, rtol=1e-12)


def test_online_rest_and_feedback_are_the_derived_ones():
    letters = {"a_i": 0.7, "a_j": 1.3, "eta": 0.3, "B": 2, "sigma": 0.5}
    u = number(derived.feedback(), **letters)
    assert_allclose(noise_feedback(np.diag([0.7, 1.3]), 0.3, 2), u, rtol=1e-12)
    q = number(derived.online_residual(), u=u, sigma=0.5)
    s = online_covariance(np.diag([0.7, 1.3]), 0.5, 0.3, 2)
    assert_allclose(s[0, 0], number(derived.online_rest(), q=q, **letters), rtol=1e-12)
    assert_allclose(excess_loss(np.diag([0.7, 1.3]), s), q / 2, rtol=1e-12)


def test_finite_rest_is_the_derived_one(rng):
    x, y, best = data(rng, n=5, d=1)
    residual, retained = (
        x[:, 0] * best[0] - y,
        number(derived.share_without_replacement(), n=5, B=2),
    )
    means = {
        "A": (x**2).mean(),
        "M": (x**4).mean(),
        "R": (residual**2 * x[:, 0] ** 2).mean(),
    }
    for replacement, fraction in ((True, 1.0), (False, retained)):
        coded = finite_covariance(x, y, 0.3, 2, replacement)
        expected = number(derived.finite_rest(), eta=0.3, B=2, f=fraction, **means)
        assert_allclose(coded, [[expected]], rtol=1e-12)


# --- laws ---


@given(batch=integers(1, 50), share=floats(0.01, 1.5), seed=integers(0, 2**32 - 1))
def test_online_variance_is_finite_exactly_below_one(batch, share, seed):
    """The rate at which one step multiplies second moments by one: by power iteration."""
    a = np.random.default_rng(seed).uniform(0.2, 2, 3)
    rate = share * 2 / (1 + 1 / batch) / a.max()
    step = np.diag((1 - rate * a) ** 2 + rate**2 * a**2 / batch)
    growth = max(abs(np.linalg.eigvals(step + rate**2 / batch * np.outer(a, a))))
    if abs(growth - 1) > 1e-9:
        assert (noise_feedback(np.diag(a), rate, batch) < 1) == (growth < 1)


@given(seed=integers(0, 2**32 - 1), rate=floats(0.02, 2))
def test_finite_variance_is_refused_exactly_where_a_step_makes_it_grow(seed, rate):
    """The growth is the largest eigenvalue of the mean of M x M over single examples."""
    x, y, _ = data(np.random.default_rng(seed))
    steps = [np.eye(2) - rate * np.outer(row, row) for row in x]
    growth = max(abs(np.linalg.eigvals(np.mean([np.kron(m, m) for m in steps], axis=0))))
    if growth < 1 - 1e-9:
        assert np.linalg.eigvalsh(finite_covariance(x, y, rate, 1))[0] > 0
    elif growth > 1 + 1e-9:
        with pytest.raises(ValueError, match="no finite variance"):
            finite_covariance(x, y, rate, 1)


@pytest.mark.parametrize("batch", [1, 3])
def test_one_input_diverges_where_its_tail_index_is_two(batch):
    """Kesten's condition for a finite variance, computed apart."""
    rate = 2 * batch / (batch + 2)
    assert_allclose(noise_feedback(np.eye(1), rate, batch), 1, rtol=1e-12)
    assert_allclose(kesten_index(rate, batch), 2, rtol=1e-8)


@given(seed=integers(0, 2**32 - 1), replacement=booleans(), scale=floats(0.1, 10))
def test_units_of_inputs_and_targets_are_free(seed, replacement, scale):
    """Inputs times s at rate / s^2, and targets times t: theta in units of t / s."""
    x, y, _ = data(np.random.default_rng(seed))
    s = finite_covariance(x, y, 0.1, 3, replacement, 0.3)
    scaled = finite_covariance(scale * x, 2 * y, 0.1 / scale**2, 3, replacement, 0.6)
    assert_allclose(scaled, 4 * s / scale**2, rtol=1e-8, atol=1e-12 * abs(s).max())


def test_a_perfect_fit_rests_still(rng):
    x, _, best = data(rng)
    assert_allclose(finite_covariance(x, x @ best, 0.3, 2), 0, atol=1e-30)
    assert_allclose(online_covariance(INPUTS, 0.0, 0.3, 2), 0, atol=0)


def test_all_examples_without_replacement_leave_label_noise_alone(rng):
    """S = rate label_noise^2 / (n (2 - rate a)) along each mode."""
    x, y, _ = data(rng)
    a, basis = np.linalg.eigh(x.T @ x / 7)
    s = finite_covariance(x, y, 0.3, 7, replacement=False, label_noise=0.5)
    expected = 0.3 * 0.25 / 7 / (2 - 0.3 * a)
    assert_allclose(basis.T @ s @ basis, np.diag(expected), rtol=1e-10, atol=1e-16)


def test_many_examples_rest_as_fresh_ones(rng):
    """20000 normal examples and their own residuals: moments err by a few per cent at most.

    Fourth moments have relative errors of (96 / n)^1/2 = 7% at worst, and they are half of u.
    """
    n, label_noise = 20_000, 0.5
    x = rng.normal(size=(n, 3)) @ np.linalg.cholesky(INPUTS).T
    y = label_noise * rng.normal(size=n)
    s = finite_covariance(x, y, 0.2, 1)
    expected = online_covariance(INPUTS, label_noise, 0.2, 1)
    assert abs(s - expected).max() < 0.1 * abs(expected).max()


# --- simulated ---


def squares(theta, x, y):
    return 0.5 * (x @ theta - y) ** 2


def test_chains_come_to_rest_at_the_finite_covariance(rng):
    """Without replacement, and with label noise, which that does not lessen."""
    x, y, best = data(rng, n=12)
    rate, label_noise = 0.3, 0.5
    problem = Problem(squares, (jnp.asarray(x), jnp.asarray(y)))
    law = noise.without_replacement(12, 3)
    process = sgd(noise.label_noise(problem, 3, label_noise, law), rate)
    start = jnp.tile(jnp.asarray(best), (4000, 1))
    path = simulate(process, jax.random.key(0), start, steps=40, every=40)
    away = np.asarray(path.theta[:, -1]) - best
    observed = mean(away[:, :, None] * away[:, None, :])
    exact = finite_covariance(x, y, rate, 3, False, label_noise)
    left = finite_moments(x, y, rate, 3, np.zeros(2), 40, False, label_noise)[1]
    assert np.all(abs(mean(away).z(0)) < SURE)
    assert np.all(abs(observed.z(exact)) < SURE)
    assert np.all(abs(left - exact) < observed.stderr / 10)


def test_chains_on_fresh_examples_follow_their_moments_and_rest(rng):
    """A part u of the noise is the spread's own; 20000 chains, seen on the way and at rest."""
    rate, batch, label_noise, chains = 0.3, 3, 0.5, 20_000
    start, root = np.asarray([1.0, -1.0, 0.5]), np.linalg.cholesky(INPUTS).T
    theta = np.tile(start, (chains, 1))
    for step in range(1, 61):
        x = rng.normal(size=(chains, batch, 3)) @ root
        gap = np.einsum("sbi,si->sb", x, theta) - label_noise * rng.normal(size=(chains, batch))
        theta = theta - rate * np.einsum("sb,sbi->si", gap, x) / batch
        if step in (3, 60):
            center, covariance = online_moments(INPUTS, label_noise, rate, batch, start, step)
            away = theta - center
            assert np.all(abs(mean(theta).z(center)) < SURE)
            assert np.all(abs(mean(away[:, :, None] * away[:, None, :]).z(covariance)) < SURE)
    s = online_covariance(INPUTS, label_noise, rate, batch)
    loss = mean(np.einsum("si,ij,sj->s", theta, INPUTS, theta) / 2)
    assert abs(loss.z(excess_loss(INPUTS, s))) < SURE


# --- refused ---


def refused(call, *arguments, **more):
    with pytest.raises(ValueError, match=r"^[^\n]{20,200}$") as caught:
        inspect.unwrap(call)(*arguments, **more)
    message = str(caught.value)
    assert not message.endswith(".")
    assert ". " not in message
    return message


def test_divergence_is_refused_by_name_or_infinite_where_asked():
    u = noise_feedback(INPUTS, 0.6, 1)
    assert 1 < u < np.inf
    assert f"u = {u:.3g}" in refused(online_covariance, INPUTS, 0.5, 0.6, 1)
    assert np.all(np.isinf(online_covariance(INPUTS, 0.5, 0.6, 1, diverging=True)))
    assert noise_feedback(INPUTS, 2.0, 1) == np.inf
    assert "u = inf" in refused(online_covariance, INPUTS, 0.5, 2.0, 1)


def test_growing_moments_are_refused_with_their_growth(rng):
    """The largest eigenvalue of one step on second moments, by power iteration."""
    x, y, best = data(rng)
    second, growth = np.eye(2), 0.0
    for _ in range(200):
        second = after_all_batches(x, x @ best, best, np.zeros(2), second, 1.5, 1, True)[1]
        growth, second = np.linalg.norm(second), second / np.linalg.norm(second)
    assert growth > 1
    assert f"by {growth:.3g}" in refused(finite_covariance, x, y, 1.5, 1)


def test_bad_values_are_refused(rng):
    x, y, best = data(rng)
    assert "-0.5" in refused(online_covariance, INPUTS, -0.5, 0.1, 1)
    assert "-0.5" in refused(finite_covariance, x, y, 0.1, 1, label_noise=-0.5)
    assert "input covariance must be a square" in refused(noise_feedback, INPUTS[:2], 0.1, 1)
    assert "must be symmetric" in refused(noise_feedback, np.triu(INPUTS), 0.1, 1)
    assert "eigenvalue -1" in refused(noise_feedback, np.diag([-1.0, 1.0]), 0.1, 1)
    assert "rate > 0" in refused(noise_feedback, INPUTS, 0.0, 1)
    assert "not 0.1 and 0" in refused(online_covariance, INPUTS, 0.5, 0.1, 0)
    assert "batches of 8" in refused(finite_covariance, x, y, 0.1, 8, replacement=False)
    assert "positive definite" in refused(finite_covariance, x[:, [0, 0]], y, 0.1, 1)
    assert "-1" in refused(online_moments, INPUTS, 0.5, 0.1, 1, np.zeros(3), -1)
    assert "-1" in refused(finite_moments, x, y, 0.1, 1, best, -1)
    assert "1 examples" in refused(finite_covariance, x[:1], y[:1], 0.1, 1)
