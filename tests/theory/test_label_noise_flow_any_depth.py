"""The label-noise flow of any depth against closed forms, dense jitters and its bounds."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers
from scipy.integrate import solve_ivp
from scipy.linalg import solve_sylvester
from scipy.optimize import minimize

from sgdnoise.theory import (
    amplification,
    fisher_flow,
    hessian_trace,
    imbalances,
    jitter_force,
    label_noise_flow,
    label_noise_task,
    products_around,
    residual_task,
    sharpness,
    stationary_hessian_trace,
    stationary_hidden_modes,
    stationary_participation_ratio,
)
from sgdnoise.theory._label_noise_flow import _drift

RATE, BATCH, SIGMA = 0.05, 3, 0.6
SIZES = [(3, 4, 2), (3, 4, 3, 2), (2, 3, 2, 3, 2)]
LOOSE = {"discrete_steps": 0.0, "with_feedback": False}


def minimum(sizes, rng, n=12):
    """Inputs (n, d), and weights whose product is what is to be learned."""
    x = rng.normal(size=(n, sizes[0])) * np.linspace(0.5, 1.2, sizes[0])
    return x, [rng.normal(size=pair) / pair[0] ** 0.5 for pair in pairwise(sizes)]


def split(theta, layers):
    cuts = np.cumsum([w.size for w in layers])[:-1]
    return [block.reshape(w.shape) for block, w in zip(np.split(theta, cuts), layers, strict=True)]


def flat(layers):
    return np.concatenate([w.ravel() for w in layers])


def slopes(layers):
    """Derivative of the product to theta, (d o, p): linear in each weight, so differences are."""
    theta, columns = flat(layers), []
    for unit in np.eye(len(theta)):
        ends = [np.linalg.multi_dot(split(theta + s * unit, layers)) for s in (1, -1)]
        columns.append((ends[0] - ends[1]).ravel() / 2)
    return np.stack(columns, axis=1)


def tangent(d, force):
    return force - np.linalg.pinv(d) @ (d @ force)


def dense_drift(task, layers, discrete):
    """-P_T (1/2) grad Tr(H(theta') S): S from a dense Lyapunov equation, slope by differences."""
    around, d = np.kron(task.moment, np.eye(task.outputs)), slopes(layers)
    curved, basis = np.linalg.eigh(d.T @ around @ d)
    c = basis.T @ d.T @ task.noise @ d @ basis / BATCH
    fixed = curved[:, None] + curved - discrete * RATE * curved[:, None] * curved
    bent = (curved[:, None] > 1e-9) & (curved > 1e-9)
    s = basis @ np.where(bent, RATE * c / np.where(bent, fixed, 1), 0) @ basis.T
    theta = flat(layers)

    def half_trace(t):
        there = slopes(split(t, layers))
        return np.trace(there.T @ around @ there @ s) / 2  # quadratic in each weight

    units = np.eye(len(theta))
    force = np.asarray([(half_trace(theta + e) - half_trace(theta - e)) / 2 for e in units])
    return -tangent(d, force)


def drift(task, layers, discrete_steps=0.0, with_feedback=False):
    """The initial velocities of the layers."""

    def force(kernel):
        return jitter_force(task, kernel, RATE, BATCH, discrete_steps, with_feedback)

    return _drift(layers, force)


def two_layer_drift(task, w, v, discrete, fed):
    """The closed form of two layers, whose projection is a Sylvester equation."""
    size, outputs = len(task.moment), task.outputs
    kernel = np.kron(np.eye(size), v.T @ v) + np.kron(w @ w.T, np.eye(outputs))
    force = jitter_force(task, kernel, RATE, 5 * BATCH, discrete, fed)
    force = force.reshape(size, outputs, size, outputs)
    along_w, along_v = -np.einsum("jaia->ij", force) @ w, -v @ np.einsum("ibia->ba", force)
    across = solve_sylvester(w @ w.T, v.T @ v, along_w @ v + w @ along_v)
    return along_w - across @ v.T, along_v - w.T @ across


@pytest.mark.parametrize("fed", [False, True])
@pytest.mark.parametrize("discrete", [False, True])
def test_of_two_layers_it_is_the_slow_flow_of_two_layers(discrete, fed, rng):
    x, layers = minimum((3, 4, 2), rng)
    y = x @ layers[0] @ layers[1] + rng.normal(size=(len(x), 2)) * [0.2, 1]
    task, _ = residual_task(x, y, SIGMA)
    options = {"discrete_steps": discrete, "with_feedback": fed}
    strength = {"learning_rate": RATE, "batch_size": 5 * BATCH}
    flow = label_noise_flow(task, layers, [0, 5, 40], **strength, **options)

    def velocity(_, theta):
        return flat(two_layer_drift(task, *split(theta, layers), discrete, fed))

    known = solve_ivp(velocity, (0, 40), flat(layers), "LSODA", [0, 5, 40], rtol=1e-7, atol=1e-9)
    blocks = np.split(known.y.T, [layers[0].size], axis=1)
    first, second = (b.reshape(p.shape) for b, p in zip(blocks, flow.layers, strict=True))
    np.testing.assert_allclose(flow.layers[0], first, atol=1e-10)
    np.testing.assert_allclose(flow.layers[1], second, atol=1e-10)
    assert abs(first[-1] - layers[0]).max() > 1e-3  # or nothing was seen
    hidden = np.einsum("tih,ij,tjk->thk", first, task.moment, first)
    np.testing.assert_allclose(flow.hidden_moments(task.moment)[0], hidden, atol=1e-10)


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_any_noise_drifts_as_the_slope_of_the_dense_jitter(sizes, discrete, rng):
    x, layers = minimum(sizes, rng)
    y = x @ np.linalg.multi_dot(layers) + rng.normal(size=(len(x), 2)) * [0.2, 1]
    task, _ = residual_task(x, y)
    result = drift(task, layers, discrete)
    np.testing.assert_allclose(flat(result), dense_drift(task, layers, discrete), atol=1e-12)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_label_noise_descends_on_the_trace_within_the_minima(sizes, rng):
    x, layers = minimum(sizes, rng)
    task = label_noise_task(x, 2, SIGMA)
    kappa, theta = RATE * SIGMA**2 / (4 * BATCH), flat(layers)

    def at(t):
        return hessian_trace(task.moment, split(t, layers))  # quadratic in each weight

    gradient = np.asarray([(at(theta + e) - at(theta - e)) / 2 for e in np.eye(len(theta))])
    expected = -kappa * tangent(slopes(layers), gradient)
    np.testing.assert_allclose(flat(drift(task, layers)), expected, atol=1e-13)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_trace_and_sharpness_are_those_of_the_dense_hessian(sizes, rng):
    x, layers = minimum(sizes, rng)
    moment = x.T @ x / len(x)
    curvature, d = np.kron(moment, np.eye(2)), slopes(layers)
    values = np.linalg.eigvalsh(d.T @ curvature @ d)
    assert hessian_trace(moment, layers) == pytest.approx(values.sum(), rel=1e-12)
    assert sharpness(curvature, layers) == pytest.approx(values[-1], rel=1e-12)
    u = RATE * values.sum() / (2 * BATCH * 2)
    assert amplification(moment, layers, RATE, BATCH) == pytest.approx(u, rel=1e-12)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_step_moves_every_imbalance_by_the_exact_identity(sizes, rng):
    _, layers = minimum(sizes, rng)
    g, around = rng.normal(size=(sizes[0], 2)), products_around(layers)
    after = [w - RATE * a.T @ g @ c.T for w, (a, c) in zip(layers, around, strict=True)]
    changes = zip(imbalances(after), imbalances(layers), strict=True)
    for (now, before), ((a, c), (a2, c2)) in zip(changes, pairwise(around), strict=True):
        step = c @ g.T @ a @ a.T @ g @ c.T - a2.T @ g @ c2.T @ c2 @ g.T @ a2
        np.testing.assert_allclose(now - before, RATE**2 * step, atol=1e-13)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_along_the_flow_the_product_stays_and_each_imbalance_obeys_its_law(sizes, rng):
    x, layers = minimum(sizes, rng)
    task, product = label_noise_task(x, 2, SIGMA), np.linalg.multi_dot(layers)
    flow = label_noise_flow(task, layers, [0, 20, 40], learning_rate=RATE, batch_size=5 * BATCH)
    for now in zip(*flow.layers, strict=True):
        np.testing.assert_allclose(np.linalg.multi_dot(now), product, atol=1e-6)  # integrator's
    pairs = zip(pairwise(layers), pairwise(drift(task, layers)), strict=True)
    around = pairwise(products_around(layers))
    for ((w, v), (dw, dv)), ((a, c), (a2, c2)) in zip(pairs, around, strict=True):
        speed = dw.T @ w + w.T @ dw - dv @ v.T - v @ dv.T
        law = np.trace(a.T @ task.moment @ a) * c @ c.T
        law -= np.sum(c2**2) * a2.T @ task.moment @ a2
        np.testing.assert_allclose(speed, RATE * SIGMA**2 / BATCH * law, atol=1e-13)


@pytest.mark.parametrize("sizes", [(3, 4, 3, 2), (2, 3, 2, 3, 2)], ids=str)
def test_in_the_end_all_layers_are_compressed_alike(sizes, rng):
    x, layers = minimum(sizes, rng)
    task, product = label_noise_task(x, 2, SIGMA), np.linalg.multi_dot(layers)
    flow = label_noise_flow(task, layers, [0, 3e4], learning_rate=RATE, batch_size=BATCH, **LOOSE)
    stationary = stationary_hidden_modes(task.moment, product, len(layers))
    for power, modes in zip(flow.hidden_moments(task.moment), stationary, strict=True):
        ends = np.linalg.eigvalsh(power[-1])[::-1]
        np.testing.assert_allclose(ends[: len(modes)], modes, atol=1e-5)
        np.testing.assert_allclose(ends[len(modes) :], 0, atol=1e-5)
        ratio = ends.sum() ** 2 / (ends**2).sum()
        assert stationary_participation_ratio(task.moment, product) == pytest.approx(
            ratio, rel=1e-4
        )
    smallest = stationary_hessian_trace(task.moment, product, len(layers))
    now = hessian_trace(task.moment, [w[-1] for w in flow.layers])
    assert now == pytest.approx(smallest, rel=1e-5)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_the_rest_is_the_least_trace_of_aligned_layers(depth, rng):
    """Convex in the logarithms of the layers' singular values, so that any search finds it."""
    singular, moment, outputs = np.asarray([1.4, 0.6, 0.3]), np.diag([0.5, 0.8, 1.1]), 3
    product = np.linalg.inv(moment) ** 0.5 @ np.diag(singular)

    def aligned(logs):
        powers = np.exp(logs.reshape(depth - 1, 3))
        before = np.asarray([np.trace(moment), *powers.sum(1)])
        return before @ [*(singular**2 / powers).sum(1), outputs]

    result = minimize(aligned, rng.normal(size=3 * (depth - 1)), tol=1e-12)
    smallest = stationary_hessian_trace(moment, product, depth)
    assert result.fun == pytest.approx(smallest, rel=1e-8)
    modes = stationary_hidden_modes(moment, product, depth)
    # flat at its minimum: places are found to the root of what the search stops at
    np.testing.assert_allclose(np.exp(result.x).reshape(modes.shape), modes, rtol=1e-4)
    np.testing.assert_allclose(modes[0] / modes[0, 0], singular / singular[0])
    assert aligned(np.log(modes).ravel()) == pytest.approx(smallest, rel=1e-12)


@given(seed=integers(0, 2**32 - 1), depth=integers(2, 5), scale=floats(1e-2, 1e2))
def test_no_factors_have_less_than_the_least_trace(seed, depth, scale):
    """|Sx^1/2 A'| |C| >= the sum of singular values of their product, and means of L terms."""
    rng = np.random.default_rng(seed)
    x, layers = minimum((3, *rng.integers(1, 5, depth - 1), 2), rng)
    layers[0] = scale * layers[0]
    moment, product = x.T @ x / len(x), np.linalg.multi_dot(layers)
    smallest = stationary_hessian_trace(moment, product, depth)
    assert hessian_trace(moment, layers) >= smallest * (1 - 1e-9)  # of rounding


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_fisher_noise_of_squared_loss_is_label_noise_of_unit_variance(sizes, rng):
    x, layers = minimum(sizes, rng)
    task = label_noise_task(x, 2, 1.0)
    options = {"times": [0, 10], "learning_rate": RATE, "batch_size": 4 * BATCH}
    known = label_noise_flow(task, layers, with_feedback=False, **options)
    result = fisher_flow(np.kron(task.moment, np.eye(2)), layers, **options)
    for mine, theirs in zip(result.layers, known.layers, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-10)


def bend_of_softmax(logits, x):
    """Curvature of mean cross-entropy in the product, (d o, d o), where p = softmax(logits)."""
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    values = [
        np.kron(np.outer(row, row), np.diag(q) - np.outer(q, q))
        for row, q in zip(x, p, strict=True)
    ]
    return np.mean(values, axis=0)


def test_fisher_noise_of_cross_entropy_descends_on_the_trace_of_its_hessian(rng):
    """The probabilities move with theta, but only across the minima; equal shifts are along them.

    No weight meets itself in a product, so that residuals add nothing to the trace.
    """
    x, layers = minimum((2, 2, 2, 3), rng, n=5)
    theta, kappa, short = flat(layers), RATE / (4 * BATCH), 1e-3

    def hessian(t):
        d = slopes(split(t, layers))
        return d.T @ bend_of_softmax(x @ np.linalg.multi_dot(split(t, layers)), x) @ d

    units = 1e-4 * np.eye(len(theta))
    slope = [np.trace(hessian(theta + e) - hessian(theta - e)) / 2e-4 for e in units]
    values, basis = np.linalg.eigh(hessian(theta))
    free = basis[:, values < 1e-9 * values[-1]]
    curvature = bend_of_softmax(x @ np.linalg.multi_dot(layers), x)
    flow = fisher_flow(
        curvature, layers, [0, short], learning_rate=RATE, batch_size=BATCH, discrete_steps=0.0
    )
    moved = flat([w[-1] for w in flow.layers]) - theta
    expected = -kappa * free @ (free.T @ slope)
    # the second order in time, and rounding over it
    np.testing.assert_allclose(moved / short, expected, rtol=1e-3, atol=1e-8)
    assert abs(expected).max() > 1e-3
    assert free.shape[1] > len(theta) - 6  # of 6 numbers in the product 2 do not show


@pytest.mark.parametrize(
    ("layers", "rate", "words"),
    [
        ([np.ones((3, 4)), np.ones((5, 2))], 0.1, "do not chain from 3 inputs to 2 outputs"),
        ([np.ones((3, 2))], 0.1, "do not chain from 3 inputs to 2 outputs by two or more"),
        (None, 20.0, "not stable at a curvature of .* must stay below"),
    ],
)
def test_bad_input_is_answered_by_one_sentence(layers, rate, words, rng):
    x, fine = minimum((3, 4, 3, 2), rng)
    task = label_noise_task(x, 2, SIGMA)
    layers = fine if layers is None else layers
    with pytest.raises(ValueError, match=words):
        label_noise_flow(task, layers, [0, 1], learning_rate=rate, batch_size=2)
    with pytest.raises(ValueError, match=words):
        fisher_flow(
            np.kron(task.moment, np.eye(2)), layers, [0, 1], learning_rate=rate, batch_size=2
        )


def test_one_layer_hides_nothing():
    with pytest.raises(ValueError, match="a hidden layer needs 2 layers of weights, not 1"):
        stationary_hidden_modes(np.eye(2), np.eye(2), 1)
