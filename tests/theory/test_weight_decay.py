"""Decay and noise against dense jitters, all possible steps, least losses, and their borders."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers
from numpy.testing import assert_allclose
from scipy.linalg import solve_discrete_lyapunov
from scipy.optimize import minimize
from witnesses import outcomes

from sgdnoise import noise
from sgdnoise.core import Problem
from sgdnoise.dynamics import sgd
from sgdnoise.theory import (
    MLP,
    amplification,
    equal_decay,
    hessian_trace,
    imbalance_after,
    imbalances,
    irrelevant_rate,
    label_noise_covariance,
    mode_with_decay,
    shrink_rates,
    shrinkage,
    stationary_hidden_modes,
    variance_slope,
)

USED, USELESS = np.asarray([1.0, 0.8]), np.asarray([0.3, 1.7])
POWERS, DECAY, RATE, BATCH, SIGMA = np.asarray([0.4, 0.2]), 0.05, 0.1, 3, 0.6
READOUT = np.asarray([0.64, 1.44])
NOISE = {"label_noise": SIGMA, "learning_rate": RATE, "batch_size": BATCH}


def point():
    """Two used inputs on two units with readout, two useless inputs on one unit each without."""
    w = np.diag([1.1, 0.9, *POWERS**0.5])
    v = np.concatenate([np.diag([0.8, 1.2]), np.zeros((2, 2))])
    return w, v


def loss(theta, teacher, decay):
    """Mean of |x W V - x M|^2 / 2 over inputs of these variances, and decay."""
    w, v = theta[:16].reshape(4, 4), theta[16:].reshape(4, 2)
    left = w @ v - teacher
    moment = np.concatenate([USED, USELESS])
    return 0.5 * np.sum(moment[:, None] * left**2) + 0.5 * decay * np.sum(theta**2)


def jax_loss(theta, teacher, decay):
    """The same, to be differentiated."""
    w, v = theta[:16].reshape(4, 4), theta[16:].reshape(4, 2)
    moment = jnp.asarray(np.concatenate([USED, USELESS]))
    return 0.5 * jnp.sum(moment[:, None] * (w @ v - teacher) ** 2) + 0.5 * decay * theta @ theta


HESSIAN = jax.jit(jax.hessian(jax_loss))


def dense_rates(teacher):
    """Decay and half the slope of Tr(H S), S the jitter of a dense Lyapunov equation."""
    w, v = point()
    theta = np.concatenate([w.ravel(), v.ravel()])
    step = np.eye(24) - RATE * HESSIAN(theta, teacher, DECAY)
    kick = SIGMA**2 / BATCH * HESSIAN(theta, w @ v, 0.0)  # of label noise
    jitter = solve_discrete_lyapunov(step, RATE**2 * kick)
    result = []
    for j in (2, 3):
        unit = np.eye(24)[4 * j + j]
        ends = [np.sum(HESSIAN(theta + e, teacher, DECAY) * jitter) for e in (unit, -unit)]
        force = (ends[0] - ends[1]) / 4 + DECAY * theta[5 * j]  # quadratic: exact
        result.append(RATE * force / theta[5 * j])
    return result


def test_useless_weights_shrink_by_the_slope_of_the_dense_jitter():
    w, v = point()
    result = shrink_rates(USELESS, POWERS, READOUT, **NOISE, decay=DECAY)
    assert_allclose(result, dense_rates(w @ v), rtol=1e-10)


def rates_with_sampled_residuals():
    """Half the slope of Tr(H S), S the jitter with feedback, of inputs that are random signs."""
    w, v = point()
    signs = np.asarray(list(product((-1, 1), repeat=4)))
    x = signs * np.concatenate([USED, USELESS]) ** 0.5
    by_first = np.einsum("ni,ja->naij", x, v).reshape(16, 2, 16)
    by_second = np.einsum("nj,ab->najb", x @ w, np.eye(2)).reshape(16, 2, 8)
    rows = label_noise_covariance(np.concatenate([by_first, by_second], axis=2), **NOISE).rows
    theta, jitter = np.concatenate([w.ravel(), v.ravel()]), rows.T @ rows
    result = []
    for j in (2, 3):
        unit = np.eye(24)[4 * j + j]
        ends = [np.sum(HESSIAN(theta + e, w @ v, 0.0) * jitter) for e in (unit, -unit)]
        result.append(RATE * (ends[0] - ends[1]) / 4 / theta[5 * j])
    return np.asarray(result)


def test_sampled_residuals_speed_up_by_the_amplification():
    """The exact jitter of all examples is faster by u, to within a third of it for each input."""
    w, v = point()
    u = amplification(np.diag(np.concatenate([USED, USELESS])), [w, v], RATE, BATCH)
    exact = rates_with_sampled_residuals()
    without = shrink_rates(USELESS, POWERS, READOUT, **NOISE)
    result = shrink_rates(USELESS, POWERS, READOUT, **NOISE, amplification=u)
    assert u > 0.05
    assert np.all(exact / without - 1 > 2 / 3 * u)
    assert_allclose(result, exact, rtol=u / 3)


def test_that_the_used_part_does_not_fit_changes_rates_by_its_square():
    """As decay has it: it bends what links the used inputs to useless units."""
    w, v = point()
    exact = shrink_rates(USELESS, POWERS, READOUT, **NOISE, decay=DECAY)
    large, small = (dense_rates(w @ v + r * np.eye(4, 2)) / exact - 1 for r in (0.004, 0.002))
    assert_allclose(large / small, 4, rtol=0.01)  # the next order is a share r
    assert np.all(abs(large) < 0.004**2)


def test_decay_alone_is_alike_for_all_and_noise_alone_as_the_slow_flow_has_it():
    quiet = shrink_rates(
        USELESS, POWERS, READOUT, label_noise=0.0, learning_rate=RATE, batch_size=BATCH, decay=DECAY
    )
    assert_allclose(quiet, RATE * DECAY, rtol=1e-12)
    small = NOISE | {"learning_rate": 1e-7}
    noisy = shrink_rates(USELESS, POWERS, READOUT, **small)
    expected = [irrelevant_rate(s, 2, SIGMA, 1e-7, BATCH) for s in USELESS]
    assert_allclose(noisy, expected, rtol=1e-6)  # what is left is rate h / 2


@given(decay=floats(1e-6, 1.0), seed=integers(0, 2**32 - 1))
def test_both_add_but_for_the_share_of_decay_in_the_curvature(decay, seed):
    rng = np.random.default_rng(seed)
    variances, powers, readout = rng.uniform(0.1, 2, (3, 4))
    small = NOISE | {"learning_rate": 1e-6}  # where steps are as the flow
    both, noise_alone = (
        shrink_rates(variances, powers, readout, **small, decay=d) for d in (decay, 0.0)
    )
    largest = decay / (variances * (readout.min() + powers) + decay)
    missing = (noise_alone + 1e-6 * decay - both) / noise_alone
    assert np.all(missing >= -1e-4)
    assert np.all(missing <= largest + 1e-4)  # rounding of the difference, and rate h


def test_all_array_libraries_agree(xp):
    given_ = [np.asarray(a) for a in (USELESS, POWERS, READOUT)]
    expected = shrink_rates(*given_, **NOISE, decay=DECAY)
    result = shrink_rates(*map(xp.asarray, given_), **NOISE, decay=DECAY)
    assert_allclose(np.asarray(result), expected, rtol=1e-12)
    slope = variance_slope(xp.asarray(USELESS), result)
    assert_allclose(float(slope), variance_slope(USELESS, expected), rtol=1e-12)


def test_equal_decay_takes_as_much_hidden_power_as_noise():
    small = {"label_noise": SIGMA, "learning_rate": 1e-8, "batch_size": BATCH}
    decay = equal_decay(USELESS, POWERS, 2, *small.values())
    alone = shrink_rates(USELESS, POWERS, READOUT, **small)
    assert USELESS * POWERS @ alone == pytest.approx(
        np.sum(USELESS * POWERS) * 1e-8 * decay, rel=1e-6, abs=0
    )


def test_the_slope_tells_decay_from_noise(rng):
    variances = rng.uniform(0.1, 3, 7)
    assert variance_slope(variances, np.full(7, 0.3)) == pytest.approx(0, abs=1e-12)
    assert variance_slope(variances, 0.2 * variances) == pytest.approx(1, rel=1e-12)
    many = np.stack([variances**0.5, variances**2])
    assert_allclose(variance_slope(variances, many), [0.5, 2], rtol=1e-12)
    near = np.asarray([1.0, 1 + 1e-5])  # there it is the share of noise
    assert variance_slope(near, 3 + near) == pytest.approx(0.25, rel=1e-4)


def test_a_step_with_decay_moves_the_imbalance_by_the_exact_identity(rng):
    w, v, g = rng.normal(size=(4, 3)), rng.normal(size=(3, 2)), rng.normal(size=(4, 2))
    retained = 1 - RATE * DECAY
    after = imbalances((retained * w - RATE * g @ v.T, retained * v - RATE * w.T @ g))[0]
    result = imbalance_after(w, v, g, learning_rate=RATE, decay=DECAY)
    assert_allclose(result, after, atol=1e-13)
    assert not np.allclose(result, imbalance_after(w, v, g, learning_rate=RATE), atol=1e-4)


@pytest.mark.usefixtures("quick_to_compile")
def test_over_all_steps_with_label_noise_the_imbalance_has_its_mean(rng):
    """One example of three, and the signs of its labels' noise: 12 steps, each as likely."""
    x, w, v = rng.normal(size=(3, 2)), rng.normal(size=(2, 2)), rng.normal(size=(2, 2))
    net = MLP((2, 2, 2), "linear")
    problem = Problem(net.losses, (jnp.asarray(x), jnp.asarray(x @ w @ v)))
    process = sgd(noise.label_noise(problem, 1, SIGMA), RATE, DECAY)
    theta = jnp.concatenate([w.ravel(), v.ravel()])
    drawn = jax.tree.map(lambda *rows: jnp.asarray(np.stack(rows)), *outcomes(process.draw))
    ends = jax.jit(jax.vmap(process.step, (None, 0)))(theta, drawn)
    result = np.mean([imbalances(net.weights(np.asarray(end)))[0] for end in ends], axis=0)
    moment = x.T @ x / 3
    mean = np.trace(moment) * v @ v.T - 2 * w.T @ moment @ w
    expected = (1 - RATE * DECAY) ** 2 * imbalances((w, v))[0] + (RATE * SIGMA) ** 2 * mean
    assert len(ends) == 12
    assert_allclose(result, expected, atol=1e-12)


def effective(theta, decay, kappa, strengths):
    """L + decay |theta|^2 / 2 + kappa Tr H of four inputs, the first two of which are used."""
    w, v = theta[:16].reshape(4, 4), theta[16:].reshape(4, 2)
    moment = np.diag(np.concatenate([USED, USELESS]))
    teacher = np.concatenate([np.diag(strengths), np.zeros((2, 2))])
    return loss(theta, teacher, decay) + kappa * hessian_trace(moment, [w, v])


@pytest.mark.parametrize(("decay", "kappa"), [(0.1, 0.0), (0.0, 0.02), (0.07, 0.01)])
def test_modes_rest_where_the_effective_loss_is_least(decay, kappa):
    strengths = np.asarray([1.5, 0.9])
    start = np.concatenate([block.ravel() for block in point()])
    start = start + 0.02 * np.cos(np.arange(24))  # nothing is zero by symmetry
    end = minimize(effective, start, (decay, kappa, strengths), options={"gtol": 1e-7}).x
    w, v = end[:16].reshape(4, 4), end[16:].reshape(4, 2)
    covariance = float(np.sum(USED) + np.sum(USELESS))
    for k, s in enumerate(USED):
        mode = mode_with_decay(strengths[k], s, covariance, 2, decay=decay, kappa=kappa)
        result = (w[k] @ v[:, k], w[k] @ w[k], v[:, k] @ v[:, k])
        assert_allclose(result, mode, rtol=1e-4)  # of the minimiser, which has no slopes
    assert_allclose(w[2:], 0, atol=1e-3)


def test_under_one_alone_modes_rest_where_they_are_known_to():
    """Singular values less decay, layers alike; and the hidden power of the slow flow."""
    decayed = mode_with_decay(1.3, 1.0, 4.0, 2, decay=0.2)
    assert_allclose(decayed, 1.1, rtol=1e-12)
    moment, product = np.diag([0.7, 1.5]), np.asarray([[0.9, 0], [0, 1.2]])
    noisy = [
        mode_with_decay(m, s, 2.2, 2, kappa=1e-9)
        for m, s in zip(np.diag(product), np.diag(moment), strict=True)
    ]
    powers = sorted([m.first * s for m, s in zip(noisy, np.diag(moment), strict=True)])
    assert_allclose(powers[::-1], stationary_hidden_modes(moment, product)[0], rtol=1e-7)


@pytest.mark.parametrize(("strength", "alive"), [(0.201, True), (0.199, False)])
def test_a_mode_below_the_threshold_is_gone(strength, alive):
    low = shrinkage(0.5, 3.0, 2, decay=0.1)
    assert low == pytest.approx(0.2, rel=1e-12)
    mode = mode_with_decay(strength, 0.5, 3.0, 2, decay=0.1)
    assert mode == pytest.approx((strength - low) * np.ones(3) if alive else np.zeros(3))


@pytest.mark.parametrize(("rate", "fine"), [(0.99, True), (1.01, False)])
def test_a_rate_is_stable_up_to_two_over_the_curvature(rate, fine):
    given_ = (np.ones(1), np.ones(1), np.ones(1))  # h = 2
    if fine:
        assert shrink_rates(*given_, **NOISE | {"learning_rate": rate})[0] > 0
        return
    with pytest.raises(ValueError, match="not stable at a curvature of 2: it must stay below 1"):
        shrink_rates(*given_, **NOISE | {"learning_rate": rate})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: shrink_rates(-USELESS, POWERS, USED, **NOISE), "cannot be negative nor"),
        (
            lambda: shrink_rates(USELESS, POWERS, USED, **NOISE | {"learning_rate": 0.0}),
            "nor learning rate and batch size 0",
        ),
        (lambda: variance_slope(np.ones(3), np.ones(3)), "needs variances that differ"),
        (lambda: shrinkage(2.0, 1.0, 2, decay=0.1), "is no part of a total of 1.0"),
        (lambda: shrinkage(1.0, 2.0, 2, decay=-0.1), "cannot be negative, like -0.1"),
        (lambda: mode_with_decay(1.0, 1.0, 2.0, 2), "leave layers where they are"),
    ],
)
def test_bad_input_is_answered_by_one_sentence(call, words):
    with pytest.raises(ValueError, match=words) as refusal:
        call()
    assert 20 < len(str(refusal.value)) < 200
    assert ". " not in str(refusal.value)
