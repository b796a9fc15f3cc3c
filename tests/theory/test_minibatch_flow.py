"""The mean path under minibatch noise against all sequences of minibatches."""

from itertools import combinations, permutations, product

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sgdnoise.core import Problem
from sgdnoise.theory import minibatch_flow

RATE, EXAMPLES, SIZE = 0.3, 4, 3
WITH = list(product(range(EXAMPLES), repeat=2))
WITHOUT = list(combinations(range(EXAMPLES), 2))


@pytest.fixture
def regression(rng):
    """Inputs (n, p) and targets (n,) of a linear model that does not fit them."""
    return rng.normal(size=(EXAMPLES, SIZE)) / 2, rng.normal(size=EXAMPLES)


def moments(regression, start, draws, steps):
    """Mean and covariance after some steps, over all equally likely batches of each."""
    x, y = regression
    mean, second = start, np.outer(start, start)
    maps = []
    for drawn in draws:
        rows, targets = x[list(drawn)], y[list(drawn)]
        maps.append((np.eye(SIZE) - RATE * rows.T @ rows / 2, RATE * rows.T @ targets / 2))
    for _ in range(steps):
        ends = [a @ second @ a.T + np.outer(a @ mean, b) + np.outer(b, a @ mean) for a, b in maps]
        second = np.mean([e + np.outer(b, b) for e, (_, b) in zip(ends, maps, strict=True)], axis=0)
        mean = np.mean([a @ mean + b for a, b in maps], axis=0)
    return mean, second - np.outer(mean, mean)


@pytest.mark.parametrize(
    ("draws", "sampling"), [(WITH, "with_replacement"), (WITHOUT, "without_replacement")]
)
def test_it_is_exact_where_outputs_are_linear_in_theta(regression, rng, draws, sampling):
    """With the noise of sampling the residuals that the jitter makes."""
    start = rng.normal(size=SIZE)
    problem = Problem(
        lambda theta, x, y: (x @ theta - y) ** 2 / 2, tuple(jnp.asarray(a) for a in regression)
    )
    path = minibatch_flow(
        problem,
        jnp.asarray(start),
        learning_rate=RATE,
        batch_size=2,
        steps=15,
        every=5,
        sampling=sampling,
        pairs=SIZE,
    )
    for k, steps in enumerate((5, 10, 15)):
        mean, covariance = moments(regression, start, draws, steps)
        assert_allclose(path.mean[k], mean, rtol=1e-4, atol=1e-5)
        assert_allclose(path.covariance[k], covariance, rtol=1e-3, atol=1e-5)
    assert_allclose(path.time, RATE * np.asarray([5, 10, 15]), rtol=1e-6)


def nonlinear(rng, noise):
    """A loss with all derivatives, and examples that differ by `noise` in slope and curvature."""
    slopes, bends = rng.normal(size=(EXAMPLES, SIZE)), rng.normal(size=(EXAMPLES, SIZE, SIZE))
    weights = torch.asarray(rng.normal(size=(SIZE, SIZE)))
    bends = bends + np.swapaxes(bends, 1, 2)
    slopes, bends = (torch.asarray(noise * (a - a.mean(0))) for a in (slopes, bends))

    def losses(theta, slope, bend):
        shared = torch.tanh(weights @ theta).square().sum() + theta.square().sum() / 4
        return shared + slope @ theta + torch.einsum("iab,a,b->i", bend, theta, theta) / 2

    return Problem(losses, (slopes, bends))


def walk(problem, theta, batches):
    for drawn in batches:
        weights = torch.zeros(EXAMPLES, dtype=theta.dtype)
        for i in drawn:
            weights[i] += 1 / len(drawn)
        theta = theta - RATE * problem.weighted_gradient(theta, weights)
    return theta


SEQUENCES = {
    "with_replacement": [[(a,), (b,), (c,)] for a, b, c in product(range(EXAMPLES), repeat=3)],
    "without_replacement": list(product(WITHOUT, repeat=3)),
    "reshuffled": [
        [first, [i for i in range(EXAMPLES) if i not in first], second]
        for first, second in product(WITHOUT, repeat=2)
    ],
}


@pytest.mark.parametrize("sampling", SEQUENCES)
def test_the_shift_of_the_mean_is_that_of_all_sequences_to_first_order(rng, sampling):
    """Three steps; a reshuffled epoch has two, so that the third starts another."""
    noise, sequences = 1e-3, SEQUENCES[sampling]
    problem = nonlinear(rng, noise)
    start = torch.asarray(rng.normal(size=SIZE))
    ends = torch.stack([walk(problem, start, batches) for batches in sequences]).numpy()
    quiet = walk(problem, start, [range(EXAMPLES)] * 3).numpy()
    path = minibatch_flow(
        problem,
        start,
        learning_rate=RATE,
        batch_size=len(sequences[0][0]),
        steps=3,
        sampling=sampling,
        pairs=0,
    )
    shift = path.mean[-1].numpy() - quiet
    exact = ends.mean(0) - quiet
    assert np.linalg.norm(exact) > 1e-8
    assert_allclose(shift, exact, atol=0.01 * np.linalg.norm(exact))
    covariance = np.cov(ends.T, bias=True)
    assert_allclose(path.covariance[-1], covariance, atol=0.01 * np.linalg.norm(covariance))


@pytest.mark.parametrize("steps", [1, 3, 4, 6])
def test_reshuffled_noise_of_equal_curvatures_is_exact(rng, steps):
    """At any step of two epochs of four batches, over all orders of both."""
    slopes, curvature = rng.normal(size=(EXAMPLES, SIZE)), np.asarray([0.2, 0.9, 1.6])
    slopes -= slopes.mean(0)
    ends = []
    for orders in product(permutations(range(EXAMPLES)), repeat=2):
        theta = np.zeros(SIZE)
        for i in [i for order in orders for i in order][:steps]:
            theta = theta - RATE * (curvature * theta + slopes[i])
        ends.append(theta)

    def losses(theta, slope):
        return (torch.asarray(curvature) * theta**2).sum() / 2 + slope @ theta

    path = minibatch_flow(
        Problem(losses, (torch.asarray(slopes),)),
        torch.zeros(SIZE, dtype=torch.float64),
        learning_rate=RATE,
        batch_size=1,
        steps=steps,
        every=steps,
        sampling="reshuffled",
        pairs=0,
    )
    assert_allclose(path.covariance[0], np.cov(np.transpose(ends), bias=True), atol=1e-12)


def test_longer_windows_give_the_same_path_where_little_changes(rng):
    problem, start = nonlinear(rng, 0.1), torch.asarray(rng.normal(size=SIZE))
    options = {"learning_rate": 0.02, "batch_size": 2, "steps": 150, "every": 150, "pairs": 0}
    fine, coarse = (minibatch_flow(problem, start, window=w, **options) for w in (1, 10))
    shift = np.linalg.norm(fine.mean[0])
    assert_allclose(coarse.mean[0], fine.mean[0], atol=2e-3 * shift)
    assert_allclose(coarse.covariance[0], fine.covariance[0], rtol=0.02, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampling": "sorted"}, "sampling must be one of"),
        ({"sampling": "reshuffled", "batch_size": 3}, "batch_size must divide the 4 examples"),
        ({"sampling": "without_replacement", "batch_size": 5}, "at most the 4 examples"),
        ({"steps": 3, "every": 2}, "steps must be a multiple of every"),
        ({"pairs": 4}, "pairs must be from 0 to the 3 parameters"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"learning_rate": 1e3, "steps": 200}, "diverges"),
    ],
)
def test_wrong_arguments_are_refused(regression, change, message):
    x, y = (torch.asarray(a) for a in regression)
    problem = Problem(lambda theta, x, y: (x @ theta - y) ** 2 / 2, (x, y))
    options = {"learning_rate": RATE, "batch_size": 2, "steps": 2, "pairs": 1} | change
    with pytest.raises(ValueError, match=message):
        minibatch_flow(problem, torch.zeros(SIZE, dtype=torch.float64), **options)
