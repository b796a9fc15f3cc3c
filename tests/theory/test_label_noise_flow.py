"""The slow flow against dense jitters and numerical gradients, its laws, and simulated descent."""

from itertools import combinations, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from witnesses import SURE

from sgdnoise import noise
from sgdnoise.core import Problem, mean
from sgdnoise.core._sampling import finite_population_factor
from sgdnoise.dynamics import sgd, simulate
from sgdnoise.theory import (
    MLP,
    LinearTask,
    amplification,
    hessian_trace,
    imbalances,
    irrelevant_rate,
    jitter_force,
    label_noise_flow,
    label_noise_task,
    residual_task,
    stationary_hidden_modes,
    stationary_participation_ratio,
)
from sgdnoise.theory._label_noise_flow import _drift

RATE, BATCH, SIGMA = 0.05, 3, 0.6
SIZES = [(3, 4, 2), (4, 2, 2), (2, 3, 3)]
LOOSE = {"discrete_steps": False, "with_feedback": False}


def minimum(d, h, o, rng, n=12):
    """Inputs (n, d), and weights W (d, h), V (h, o); their product is what is to be learned."""
    x = rng.normal(size=(n, d)) * np.linspace(0.5, 1.2, d)
    return x, rng.normal(size=(d, h)) / 2, rng.normal(size=(h, o)) / 2


def slopes(w, v):
    """Derivative of the product to theta, (d o, p), column by column."""
    columns = []
    for index in range(w.size + v.size):
        unit = np.zeros(w.size + v.size)
        unit[index] = 1
        dw, dv = unit[: w.size].reshape(w.shape), unit[w.size :].reshape(v.shape)
        columns.append((dw @ v + w @ dv).ravel())
    return np.stack(columns, axis=1)


def drift(task, w, v, discrete_steps=False):
    """The initial velocities of W and V, without feedback."""

    def force(kernel):
        return jitter_force(task, kernel, RATE, BATCH, discrete_steps, False)

    return _drift([w, v], force)


def dense_drift(task, w, v, rate, batch, discrete):
    """-P_T (1/2) grad Tr(H(theta') S): S from a dense Lyapunov equation, slope by differences."""
    around = np.kron(task.moment, np.eye(v.shape[1]))
    d = slopes(w, v)
    curved, basis = np.linalg.eigh(d.T @ around @ d)
    c = basis.T @ d.T @ task.noise @ d @ basis / batch
    fixed = curved[:, None] + curved - discrete * rate * curved[:, None] * curved
    bent = (curved[:, None] > 1e-9) & (curved > 1e-9)
    s = basis @ np.where(bent, rate * c / np.where(bent, fixed, 1), 0) @ basis.T
    theta = np.concatenate([w.ravel(), v.ravel()])

    def half_trace(t):
        there = slopes(t[: w.size].reshape(w.shape), t[w.size :].reshape(v.shape))
        return np.trace(there.T @ around @ there @ s) / 2  # quadratic: differences are exact

    units = np.eye(len(theta))
    force = np.asarray([(half_trace(theta + e) - half_trace(theta - e)) / 2 for e in units])
    return -(force - np.linalg.pinv(d) @ (d @ force))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("discrete", [False, True])
def test_label_noise_drifts_as_the_slope_of_the_dense_jitter(size, discrete, rng):
    x, w, v = minimum(*size, rng)
    task = label_noise_task(x, size[2], SIGMA)
    result = drift(task, w, v, discrete)
    expected = dense_drift(task, w, v, RATE, BATCH, discrete)
    np.testing.assert_allclose(np.concatenate([f.ravel() for f in result]), expected, atol=1e-12)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_residual_drifts_as_the_slope_of_the_dense_jitter(size, rng):
    x, w, v = minimum(*size, rng)
    y = x @ w @ v + rng.normal(size=(len(x), size[2])) * np.linspace(0.2, 1, size[2])
    task, best = residual_task(x, y)
    np.testing.assert_allclose(x.T @ (x @ best - y), 0, atol=1e-12)
    result = drift(task, w, v, True)
    expected = dense_drift(task, w, v, RATE, BATCH, True)
    np.testing.assert_allclose(np.concatenate([f.ravel() for f in result]), expected, atol=1e-12)


def test_without_corrections_it_is_descent_on_the_trace_within_the_minima(rng):
    x, w, v = minimum(3, 4, 2, rng)
    task = label_noise_task(x, 2, SIGMA)
    kappa = RATE * SIGMA**2 / (4 * BATCH)

    def at(theta):
        first, second = theta[: w.size].reshape(w.shape), theta[w.size :].reshape(v.shape)
        return hessian_trace(task.moment, [first, second])

    theta = np.concatenate([w.ravel(), v.ravel()])
    gradient = [(at(theta + e) - at(theta - e)) / 2 for e in np.eye(len(theta))]
    d, gradient = slopes(w, v), np.asarray(gradient)
    expected = -kappa * (gradient - np.linalg.pinv(d) @ (d @ gradient))
    result = drift(task, w, v)
    np.testing.assert_allclose(np.concatenate([f.ravel() for f in result]), expected, atol=1e-13)


def test_the_trace_is_that_of_the_hessian(rng):
    x, w, v = minimum(3, 4, 2, rng)
    d, around = slopes(w, v), np.kron(x.T @ x / len(x), np.eye(2))
    assert hessian_trace(x.T @ x / len(x), [w, v]) == pytest.approx(
        np.trace(d.T @ around @ d), 1e-12
    )


def test_fed_by_its_own_residuals_the_jitter_solves_the_exact_moment_equation(rng):
    """Omega = E (1 - rate K X_b) Omega (1 - rate K X_b)^T + rate^2 K C K / B, one dense solve."""
    d, o, (x, w, v) = 2, 2, minimum(2, 3, 2, rng, n=6)
    task = label_noise_task(x, o, SIGMA)
    k = np.kron(np.eye(d), v.T @ v) + np.kron(w @ w.T, np.eye(o))
    values = [np.kron(np.outer(row, row), np.eye(o)) for row in x]
    a, first = np.mean(values, axis=0), np.eye(d * o)
    center = (1 - 1 / BATCH) * np.kron(a, a) + np.mean([np.kron(e, e) for e in values], 0) / BATCH
    both = np.kron(k, k) @ center
    step = (
        np.kron(first, first)
        - RATE * (np.kron(k @ a, first) + np.kron(first, k @ a))
        + RATE**2 * both
    )
    kick = RATE**2 / BATCH * (k @ task.noise @ k).ravel()
    omega = np.linalg.solve(np.eye(len(step)) - step, kick).reshape(d * o, d * o)
    expected = np.linalg.solve(k, omega) @ a  # Q = K^-1 (K Y K) A
    result = jitter_force(task, k, RATE, BATCH, True, True)
    np.testing.assert_allclose(result, expected, rtol=1e-7, atol=1e-12)


def test_feedback_is_to_first_order_the_amplification(rng):
    """Between u and 2 u, which one dimension has (theory.modified_loss)."""
    d, o = 6, 2
    x, w, v = minimum(d, 5, o, rng, n=4000)
    task, rate = label_noise_task(x, o, SIGMA), 0.01
    k = np.kron(np.eye(d), v.T @ v) + np.kron(w @ w.T, np.eye(o))
    plain, with_feedback = (
        jitter_force(task, k, rate, 1, True, fraction) for fraction in (False, True)
    )
    u = amplification(task.moment, [w, v], rate, 1)
    assert u < np.trace(with_feedback) / np.trace(plain) - 1 < 1.5 * u, (
        u,
        np.trace(with_feedback) / np.trace(plain),
    )


@pytest.mark.parametrize("how", [{}, LOOSE], ids=["refined", "base"])
def test_along_the_flow_the_product_stays_and_the_imbalance_obeys_its_law(how, rng):
    x, w, v = minimum(3, 4, 2, rng)
    task = label_noise_task(x, 2, SIGMA)
    flow = label_noise_flow(
        task, [w, v], np.linspace(0, 40, 5), learning_rate=RATE, batch_size=BATCH, **how
    )
    for first, second in zip(*flow.layers, strict=True):
        np.testing.assert_allclose(first @ second, w @ v, atol=1e-6)  # of the integrator
    if how:
        first, second = drift(task, w, v)
        speed = first.T @ w + w.T @ first - second @ v.T - v @ second.T
        law = np.trace(task.moment) * v @ v.T - 2 * w.T @ task.moment @ w
        np.testing.assert_allclose(speed, RATE * SIGMA**2 / BATCH * law, atol=1e-13)


def test_a_step_moves_the_imbalance_by_the_exact_identity(rng):
    _, w, v = minimum(3, 4, 2, rng)
    g = rng.normal(size=(3, 2))
    after = imbalances((w - RATE * g @ v.T, v - RATE * w.T @ g))[0]
    step = RATE**2 * (v @ g.T @ g @ v.T - w.T @ g @ g.T @ w)
    np.testing.assert_allclose(after - imbalances((w, v))[0], step, atol=1e-14)


@pytest.mark.parametrize("size", [(4, 5, 2), (4, 2, 2), (3, 4, 3)], ids=str)
def test_in_the_end_it_rests_where_theory_says(size, rng):
    x, w, v = minimum(*size, rng)
    task = label_noise_task(x, size[2], SIGMA)
    flow = label_noise_flow(task, [w, v], [0, 1e5], learning_rate=RATE, batch_size=BATCH, **LOOSE)
    ends = np.linalg.eigvalsh(flow.hidden_moments(task.moment)[0][-1])[::-1]
    stationary = stationary_hidden_modes(task.moment, w @ v)[0]
    np.testing.assert_allclose(ends[: len(stationary)], stationary, atol=1e-5)
    np.testing.assert_allclose(ends[len(stationary) :], 0, atol=1e-5)
    ratio = ends.sum() ** 2 / (ends**2).sum()
    assert stationary_participation_ratio(task.moment, w @ v) == pytest.approx(ratio, rel=1e-4)


def test_a_product_of_lower_rank_than_outputs_still_flows(rng):
    """The Hessian loses rank as the second mode dies."""
    x, w, _ = minimum(4, 3, 2, rng)
    v = np.linalg.lstsq(w, np.outer([1, 0.5, 0, 0.2], [1, 1]) / 2, rcond=None)[0]
    v = np.outer(v @ [1, 1] / 2, [1, 1])
    task = label_noise_task(x, 2, SIGMA)
    flow = label_noise_flow(task, [w, v], [0, 3e5], learning_rate=RATE, batch_size=BATCH, **LOOSE)
    ends = np.linalg.eigvalsh(flow.hidden_moments(task.moment)[0][-1])
    assert ends.sum() ** 2 / (ends**2).sum() == pytest.approx(1, abs=1e-3)


def test_useless_weights_decay_at_their_rate():
    """An input that the task does not use, onto a unit that the readout does not use."""
    w, v = np.zeros((3, 2)), np.asarray([[1.0], [0.0]])
    w[0, 0], w[2, 1] = 1, 1e-3
    moment = np.diag([1.0, 0.5, 0.8])
    task = LinearTask(moment, SIGMA**2 * moment)
    flow = label_noise_flow(task, [w, v], [0, 50.0], learning_rate=RATE, batch_size=BATCH, **LOOSE)
    steps = 50 / RATE
    expected = irrelevant_rate(0.8, 1, SIGMA, RATE, BATCH)
    assert np.log(1e-3 / flow.layers[0][-1, 2, 1]) / steps == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("quick_to_compile")
def test_simulated_descent_follows_the_refined_flow(rng):
    """Means over 32 runs, away from the start and in sight of the end."""
    net = MLP((4, 5, 2), "linear")
    x, w, v = minimum(4, 5, 2, rng, n=40)
    x, w = x / np.linspace(0.5, 1.2, 4), np.diag([1.2, 1.0, 0.7, 0.5]) @ np.eye(4, 5)
    task = label_noise_task(x, 2, 0.5)
    problem = Problem(net.losses, (jnp.asarray(x), jnp.asarray(x @ w @ v)))
    process = sgd(noise.label_noise(problem, 4, 0.5), RATE)
    start = jnp.tile(jnp.concatenate([w.ravel(), v.ravel()]), (32, 1))
    observed = simulate(
        process,
        jax.random.key(0),
        start,
        steps=12_000,
        every=6000,
        observe=lambda t: jnp.linalg.eigvalsh(
            net.weights(t)[0].T @ task.moment @ net.weights(t)[0]
        ),
    )
    ratio = np.asarray(observed.sum(-1) ** 2 / (observed**2).sum(-1))
    flow = label_noise_flow(
        task, [w, v], RATE * np.asarray([0, 6000, 12_000]), learning_rate=RATE, batch_size=4
    )
    ends = np.linalg.eigvalsh(flow.hidden_moments(task.moment)[0])
    expected = ends.sum(-1) ** 2 / (ends**2).sum(-1)
    assert amplification(task.moment, [w, v], RATE, 4) < 0.12
    for k in (1, 2):
        result = mean(ratio[:, k - 1])
        allowed = SURE * float(result.stderr) + 0.01 * expected[k]  # 1%: what is left out
        assert abs(float(result.value) - expected[k]) < allowed
        assert abs(expected[0] - expected[k]) > 3 * allowed  # or nothing was seen


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layers": [np.ones((3, 4)), np.ones((5, 2))]}, "do not chain from 3 inputs to 2 outputs"),
        ({"learning_rate": 20.0}, "not stable at a curvature of .* must stay below"),
        ({"population_factor": 200.0}, "feeds itself without bound"),
    ],
)
def test_bad_input_is_answered_by_one_sentence(change, words, rng):
    x, w, v = minimum(3, 5, 2, rng)
    task = label_noise_task(x, 2, SIGMA)
    arguments = {"layers": [w, v], "learning_rate": 0.1, "batch_size": 2} | change
    with pytest.raises(ValueError, match=words):
        label_noise_flow(task, times=[0, 1], **arguments)


def test_an_indefinite_noise_and_too_few_examples_are_refused(rng):
    x, w, v = minimum(3, 5, 2, rng)
    task = label_noise_task(x, 2, SIGMA)
    bad = task._replace(noise=-task.noise)
    with pytest.raises(ValueError, match="cannot have the eigenvalue -"):
        label_noise_flow(bad, [w, v], [0, 1], learning_rate=0.1, batch_size=2)
    with pytest.raises(ValueError, match="least squares of 3 inputs"):
        residual_task(x[:2], x[:2] @ w @ v)


def exact_jitter(x, y, rate, size, label_noise, replacement):
    """The stationary covariance of linear regression by SGD, from all batches there are."""
    n, d = x.shape
    if replacement:
        batches = [list(b) for b in product(range(n), repeat=size)]
    else:
        batches = [list(b) for b in combinations(range(n), size)]
    residuals = x @ np.linalg.lstsq(x, y, rcond=None)[0] - y
    maps, noise = np.zeros((d * d, d * d)), np.zeros((d, d))
    for batch in batches:
        step = np.eye(d) - rate * x[batch].T @ x[batch] / size
        gradient = rate * x[batch].T @ residuals[batch] / size
        labels = (rate * label_noise / size) ** 2 * x[batch].T @ x[batch]
        maps += np.kron(step, step) / len(batches)
        noise += (np.outer(gradient, gradient) + labels) / len(batches)
    return np.linalg.solve(np.eye(d * d) - maps, noise.ravel()).reshape(d, d)


@pytest.mark.parametrize("label_noise", [0.0, 0.7])
@pytest.mark.parametrize("replacement", [True, False])
def test_the_jitter_of_a_regression_is_that_of_all_its_batches(rng, label_noise, replacement):
    """Exactly, with residuals, label noise and feedback; a batch of B / f would be 20% off."""
    x, y = rng.normal(size=(6, 2)), rng.normal(size=6)
    y = x @ np.asarray([1.0, -0.5]) + 0.5 * (y - y.mean())
    rate, size = 0.1, 3
    factor = 1.0 if replacement else finite_population_factor(6, size)
    task, _ = residual_task(x, y[:, None], label_noise)
    force = jitter_force(task, np.eye(2), rate, size, population_factor=factor)
    covariance = exact_jitter(x, y, rate, size, label_noise, replacement)
    np.testing.assert_allclose(force, covariance @ task.moment, rtol=1e-7, atol=1e-12)
    scaled = jitter_force(task, np.eye(2), rate, size / factor)
    agrees = np.allclose(scaled, covariance @ task.moment, rtol=0.05)
    assert agrees == (replacement or not label_noise)


def test_sampling_without_replacement_lowers_the_amplification():
    moment, layers = np.eye(2), [np.eye(2), np.ones((2, 1))]
    whole = amplification(moment, layers, 0.1, 4)
    assert amplification(moment, layers, 0.1, 4, population_factor=0.5) == pytest.approx(whole / 2)
