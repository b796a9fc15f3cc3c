"""The closure against exact moments in bowls, all minibatches of a step, and simulated descent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from witnesses import HESSIAN, SIZE, SURE, bowl, curved, matrix, moments

from sgdnoise import noise
from sgdnoise.core import Factor, Problem, mean
from sgdnoise.dynamics import sgd, simulate
from sgdnoise.theory import (
    MLP,
    closure_error,
    langevin_relaxation,
    moment_closure,
    second_order_mean,
    sgd_recursion,
)

RATE, SIGMA = 0.1, 0.5


def torched(values):
    return torch.asarray(np.array(values))


def some_covariance(rng, p=SIZE, scale=0.1):
    rows = scale * rng.normal(size=(p, p))
    return rows.T @ rows


@pytest.mark.parametrize("steps", [1, 17])
def test_in_a_bowl_the_moments_are_exact_at_any_time(steps, rng):
    rows, start, covariance = rng.normal(size=(2, 3)), rng.normal(size=3), some_covariance(rng, 3)
    model = noise.additive(bowl("torch"), lambda _: Factor(torched(rows)))
    result = moment_closure(
        model, torched(start), torched(covariance), learning_rate=RATE, steps=steps, every=steps
    )
    exact = sgd_recursion(HESSIAN, rows.T @ rows, RATE).propagate(start, covariance, steps)
    assert_allclose(result.mean[-1], exact[0], rtol=1e-10, atol=1e-12)
    assert_allclose(result.covariance[-1], exact[1], rtol=1e-10, atol=1e-12)
    assert_allclose(result.time, [RATE * steps])


def test_in_a_bowl_it_comes_to_rest_where_descent_does(rng):
    rows = rng.normal(size=(2, 3))
    model = noise.additive(bowl("torch"), lambda _: Factor(torched(rows)))
    result = moment_closure(model, torched(np.ones(3)), learning_rate=0.8, steps=40, every=40)
    stationary = sgd_recursion(HESSIAN, rows.T @ rows, 0.8).stationary_covariance()
    assert_allclose(result.covariance[-1], stationary, rtol=1e-10, atol=1e-12)


def test_stretched_it_goes_to_the_langevin_flow_in_first_order(rng):
    rows, covariance = rng.normal(size=(2, 3)), some_covariance(rng, 3)
    model = noise.additive(bowl("torch"), lambda _: Factor(torched(rows)))
    exact = langevin_relaxation(HESSIAN, rows.T @ rows, RATE).propagate(
        np.ones(3), covariance, 3 * RATE
    )[1]
    gaps = []
    for stretch in (8, 16):
        options = {"learning_rate": RATE, "steps": 3, "every": 3, "stretch": stretch}
        result = moment_closure(model, torched(np.ones(3)), torched(covariance), **options)
        gaps.append(np.linalg.norm(np.asarray(result.covariance[-1]) - exact))
    assert abs(np.log2(gaps[0] / gaps[1]) - 1) < 0.1


def test_without_noise_the_mean_is_descent_and_nothing_spreads():
    problem, theta = curved("torch")
    result = moment_closure(noise.full_batch(problem), theta, learning_rate=RATE, steps=20, every=5)
    for step in range(1, 21):
        theta = theta - RATE * problem.gradient(theta)
        if step % 5 == 0:
            assert_allclose(result.mean[step // 5 - 1], theta, rtol=1e-13)
    assert not np.any(np.asarray(result.covariance[-1]))


def test_nothing_of_the_kind_is_made_by_no_noise_from_a_factor():
    problem, theta = curved("torch")
    start = Factor(torch.zeros(3, SIZE, dtype=theta.dtype))
    result = moment_closure(noise.full_batch(problem), theta, start, learning_rate=RATE, steps=3)
    assert_allclose(result.covariance[-1].rows, 0)


def all_gradients(kind, problem, theta):
    """The gradient of each of all pairs of examples, or of each example with either label."""
    if kind == "label":
        both = [problem.with_target_shift(sign * SIGMA).gradients(theta) for sign in (-1, 1)]
        return np.concatenate(both)
    values = np.asarray(problem.gradients(theta))
    return ((values[:, None] + values) / 2).reshape(-1, SIZE)


def one_step(kind, problem, theta, spread, rate):
    """Exact moments of a step, from 2 p equally likely points with the moments theta and spread."""
    root = np.linalg.cholesky(spread) * SIZE**0.5
    points = [np.asarray(theta) + sign * column for column in root.T for sign in (-1, 1)]
    ends = [at - rate * all_gradients(kind, problem, torched(at)) for at in points]
    return moments(np.concatenate(ends))


@pytest.mark.parametrize("kind", ["minibatch", "label"])
def test_one_step_is_right_to_the_order_claimed(kind, rng):
    """What is dropped is of S^2 rate and S rate^2: with both halved it falls by 8.

    Without the force of the spread the mean's error would be of S rate, and fall by 4.
    """
    (problem, theta), covariance = curved("torch", n=3), some_covariance(rng, scale=0.05)
    pairs, signs = noise.minibatch(problem, 2), noise.label_noise(problem, 1, SIGMA)
    model, gaps = pairs if kind == "minibatch" else signs, []
    for block in (1 / 4, 1 / 8):
        exact = one_step(kind, problem, theta, block * covariance, block * RATE)
        result = moment_closure(
            model, theta, torched(block * covariance), learning_rate=block * RATE, steps=1
        )
        pair = zip(exact, (result.mean[0], result.covariance[0]), strict=True)
        gaps.append([np.linalg.norm(first - np.asarray(two)) for first, two in pair])
    orders = np.log2(np.divide(*gaps))
    assert np.all(orders > 2.8), orders
    assert np.all(orders < 3.2), orders


def test_the_mean_feels_the_slope_of_the_trace(rng):
    """grad Tr(H S) / 2 by central differences of the Hessian, exact to their h^2."""
    (problem, theta), covariance = curved("torch"), some_covariance(rng)
    model, h = noise.full_batch(problem), 1e-4

    def trace(t):
        dense = torch.func.hessian(problem.value)(torched(t))
        return float((dense * torched(covariance)).sum())

    around = np.asarray(theta)
    slope = [(trace(around + h * e) - trace(around - h * e)) / (2 * h) for e in np.eye(SIZE)]
    result = moment_closure(model, theta, torched(covariance), learning_rate=RATE, steps=1)
    expected_mean = around - RATE * (np.asarray(problem.gradient(theta)) + np.asarray(slope) / 2)
    assert_allclose(result.mean[0], expected_mean, rtol=1e-6)


def gaussian_step(problem, theta, covariance, rate):
    """Moments of a step of one example drawn at random, from a Gaussian, by Hermite's quadrature.

    Three points along each axis are exact for polynomials of degree 5 along it.
    """
    root = np.linalg.cholesky(covariance)
    values, weights = np.asarray([-(3**0.5), 0, 3**0.5]), np.asarray([1, 4, 1]) / 6
    nodes = np.stack(np.meshgrid(*[values] * SIZE, indexing="ij"), -1).reshape(-1, SIZE)
    shares = np.prod(np.stack(np.meshgrid(*[weights] * SIZE, indexing="ij"), -1), -1).ravel()
    points = torched(np.asarray(theta) + nodes @ root.T)
    gradients = torch.func.vmap(problem.gradients)(points)
    ends = np.asarray(points[:, None] - rate * gradients)
    middle = np.einsum("a,aip->p", shares, ends) / ends.shape[1]
    ends = ends - middle
    return middle, np.einsum("a,aip,aiq->pq", shares, ends, ends) / ends.shape[1]


def test_averaged_it_is_right_to_the_next_order_from_a_gaussian(rng):
    """Dropped from the covariance are terms of S^3 rate and S^2 rate^2: halving all divides by 16.

    Without the averages terms of S^2 rate and S rate^2 are dropped, and it divides by 8.
    """
    (problem, theta), covariance = curved("torch", n=3), some_covariance(rng, scale=0.05)
    model, orders = noise.minibatch(problem, 1), []
    for averaged in (0, SIZE):
        gaps = []
        for block in (1 / 4, 1 / 8):
            exact = gaussian_step(problem, theta, block * covariance, block * RATE)[1]
            result = moment_closure(
                model,
                theta,
                torched(block * covariance),
                learning_rate=block * RATE,
                steps=1,
                averaged=averaged,
            )
            gaps.append(np.linalg.norm(exact - np.asarray(result.covariance[0])))
        orders.append(np.log2(gaps[0] / gaps[1]))
    assert orders == pytest.approx([3, 4], abs=0.2), orders


def test_averages_over_a_factor_are_those_over_its_matrix(rng):
    (problem, theta), covariance = curved("torch"), some_covariance(rng)
    rows = np.linalg.cholesky(covariance).T
    model = noise.label_noise(problem, 2, 0.3)
    options = {"learning_rate": RATE, "steps": 4, "every": 2, "averaged": SIZE}
    dense = moment_closure(model, theta, torched(covariance), **options)
    thin = moment_closure(model, theta, Factor(torched(rows)), **options)
    assert_allclose(thin.mean, dense.mean, rtol=1e-10)
    for first, two in zip(thin.covariance, dense.covariance, strict=True):
        assert_allclose(matrix(first, SIZE, torched), two, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("stretch", [1, 3])
def test_a_factor_of_full_rank_is_the_matrix(stretch, rng):
    (problem, theta), covariance = curved("torch"), some_covariance(rng)
    rows = np.linalg.cholesky(covariance).T
    model = noise.label_noise(problem, 2, 0.3)
    options = {"learning_rate": RATE, "steps": 6, "every": 3, "stretch": stretch}
    dense = moment_closure(model, theta, torched(covariance), **options)
    thin = moment_closure(model, theta, Factor(torched(rows)), **options)
    assert_allclose(thin.mean, dense.mean, rtol=1e-10)
    for first, two in zip(thin.covariance, dense.covariance, strict=True):
        assert_allclose(matrix(first, SIZE, torched), two, rtol=1e-8, atol=1e-12)


def test_a_step_of_low_rank_keeps_the_largest_modes(rng):
    (problem, theta), rows = curved("torch"), 0.1 * rng.normal(size=(3, SIZE))
    model, options = noise.minibatch(problem, 2), {"learning_rate": RATE, "steps": 1}
    dense = moment_closure(model, theta, torched(rows.T @ rows), **options)
    thin = moment_closure(model, theta, Factor(torched(rows)), **options)
    values, vectors = np.linalg.eigh(np.asarray(dense.covariance[0]))
    retained = vectors[:, -3:] * values[-3:] @ vectors[:, -3:].T
    assert_allclose(matrix(thin.covariance[0], SIZE, torched), retained, rtol=1e-8, atol=1e-12)


@pytest.mark.usefixtures("quick_to_compile")
def test_jax_and_torch_agree(rng):
    covariance = some_covariance(rng)
    result = []
    for library, asarray in (("torch", torched), ("jax", jnp.asarray)):
        problem, theta = curved(library)
        model = noise.minibatch(problem, 2)
        done = moment_closure(
            model, theta, asarray(covariance), learning_rate=RATE, steps=3, every=3
        )
        result.append(done)
    assert_allclose(result[0].mean, result[1].mean, rtol=1e-12)
    assert_allclose(result[0].covariance[0], result[1].covariance[0], rtol=1e-10)


def test_the_mean_of_a_quadratic_observable_is_exact(rng):
    """E (x^T A x, b^T x) = Tr(A S) + m^T A m, b^T m; by a matrix and by its factor."""
    problem = bowl("torch")
    a, b, m, rows = (rng.normal(size=s) for s in ((3, 3), 3, 3, (3, 3)))

    def seen(t):
        return torch.stack([t @ torched(a) @ t, torched(b) @ t])

    exact = [np.trace(a @ rows.T @ rows) + m @ a @ m, b @ m]
    for covariance in (torched(rows.T @ rows), Factor(torched(rows))):
        assert_allclose(second_order_mean(problem, seen, torched(m), covariance), exact, rtol=1e-12)


def test_an_observable_is_right_to_second_order(rng):
    """The error of E cos(b.x) = cos(b.m) exp(-b^T S b / 2) falls by 4 with S halved."""
    problem, b, m, covariance = (
        bowl("torch"),
        np.asarray([0.4, 0.2, 0.1]),
        np.ones(3),
        some_covariance(rng, 3),
    )
    gaps = []
    for block in (1, 0.5):
        result = second_order_mean(
            problem, lambda t: torch.cos(torched(b) @ t), torched(m), torched(block * covariance)
        )
        exact = np.cos(b @ m) * np.exp(-block * (b @ covariance @ b) / 2)
        gaps.append(abs(float(result) - exact))
    assert abs(np.log2(gaps[0] / gaps[1]) - 2) < 0.15


def test_strain_is_that_of_a_known_quartic():
    """L = h x^2 / 2 + k x^4 / 24: the mean curvature is h + k s / 2."""
    h, k, s = 2.0, 3.0, 0.1
    first = torch.ones(1, 1, dtype=torch.float64)

    def losses(t, target):
        return (h * t**2 / 2 + k * t**4 / 24).sum() + 0 * target[:, 0]

    problem, at = Problem(losses, (first,)), torch.zeros(1, dtype=torch.float64)
    assert float(closure_error(problem, at, s * first)) == pytest.approx(k * s / (2 * h), rel=1e-12)
    assert float(closure_error(problem, at, Factor(s**0.5 * first))) == pytest.approx(
        k * s / (2 * h)
    )
    quadratic = closure_error(bowl("torch"), torch.ones(3, dtype=torch.float64), torched(np.eye(3)))
    assert float(quadratic) == pytest.approx(0, abs=1e-12)


def tanh_net(rng):
    """A small network with a noisy teacher, in jax and in torch, and where it starts."""
    net, x = MLP((3, 4, 1)), rng.normal(size=(20, 3))
    y = np.tanh(x @ rng.normal(size=(3, 1))) + 0.4 * rng.normal(size=(20, 1))
    fast = Problem(net.losses, (jnp.asarray(x), jnp.asarray(y)))
    return fast, Problem(net.losses, (torched(x), torched(y))), rng.normal(size=16) / 2


@pytest.mark.usefixtures("quick_to_compile")
def test_simulated_descent_far_from_a_minimum_has_these_moments(rng):
    """The loss of 2000 runs under label noise; that of the mean alone is off by far more."""
    fast, problem, theta = tanh_net(rng)
    options, start = {"steps": 40, "every": 40}, jnp.tile(jnp.asarray(theta), (2000, 1))
    process = sgd(noise.label_noise(fast, 4, SIGMA), RATE)
    observed = simulate(process, jax.random.key(0), start, observe=fast.value, **options)
    result = mean(np.asarray(observed[:, 0]))
    generated = moment_closure(
        noise.label_noise(problem, 4, SIGMA), torched(theta), learning_rate=RATE, **options
    )
    at = generated.mean[0], generated.covariance[0]
    claimed, plain = (
        float(second_order_mean(problem, problem.value, *at)),
        float(problem.value(at[0])),
    )
    bent = abs(float(closure_error(problem, *at)))
    assert bent < 0.2  # in regime
    allowed = SURE * float(result.stderr) + bent * abs(claimed - plain)  # the next order
    assert abs(float(result.value) - claimed) < allowed
    assert abs(float(result.value) - plain) > 2 * allowed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 3, "every": 2}, "steps must be a multiple of every, not 3 of 2"),
        ({"learning_rate": 0.0}, "the learning rate must be above 0, and 0.0 is not"),
        ({"stretch": 0}, "a step is stretched by at least 1, not by 0"),
        ({"covariance": torch.ones(3, 3)}, r"a covariance of \(3, 3\) does not fit 8 parameters"),
        ({"covariance": torch.ones(3, 8)}, r"a covariance of \(3, 8\) does not fit 8 parameters"),
        (
            {"covariance": Factor(torch.ones(2, 3))},
            r"a covariance of \(2, 3\) does not fit 8 parameters",
        ),
        (
            {"learning_rate": 1e6, "steps": 6},
            "at rate 1e\\+06 the mean or the covariance of theta diverges",
        ),
    ],
)
def test_bad_input_is_answered_by_one_sentence(change, words):
    problem, theta = curved("torch")
    arguments = {"covariance": None, "learning_rate": RATE, "steps": 1} | change
    with pytest.raises(ValueError, match=words):
        moment_closure(noise.minibatch(problem, 2), theta, **arguments)
