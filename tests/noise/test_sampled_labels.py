"""Labels drawn by the model: mean, covariance and twin against every outcome, and torch nets."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn
from witnesses import LIBRARIES, SURE, matrix

from sgdnoise import noise
from sgdnoise.core import Problem
from sgdnoise.dynamics import sgd
from sgdnoise.nets import as_problem, walk
from sgdnoise.noise._sampled_labels import _pick

pytestmark = pytest.mark.usefixtures("quick_to_compile")
N, D, K, P = 4, 3, 3, 9
HOT = np.eye(K)


def softmax_regression(library="jax"):
    """Cross-entropy of x W over one-hot targets, W (3, 3), and a theta."""
    asarray = LIBRARIES[library]
    rng = np.random.default_rng(2)
    inputs, targets = rng.normal(size=(N, D)), HOT[rng.integers(0, K, N)]
    log_softmax = jax.nn.log_softmax if library == "jax" else torch.log_softmax

    def losses(theta, x, y):
        return -(y * log_softmax(x @ theta.reshape(D, K), -1)).sum(-1)

    theta = rng.normal(size=P)
    return Problem(losses, (asarray(inputs), asarray(targets))), asarray(theta)


def fisher(problem, theta):
    """mean_i x_i x_i^T (x) (diag p_i - p_i p_i^T), written out."""
    inputs = np.asarray(problem.examples[0])
    logits = inputs @ np.asarray(theta).reshape(D, K)
    laws = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    blocks = [
        np.kron(np.outer(x, x), np.diag(p) - np.outer(p, p))
        for x, p in zip(inputs, laws, strict=True)
    ]
    return sum(blocks) / N, laws


@pytest.mark.parametrize("batch", [1, 3])
def test_its_covariance_is_the_fisher_information_over_the_batch(batch):
    problem, theta = softmax_regression()
    model = noise.sampled_labels(problem, batch, jnp.asarray(HOT))
    result = matrix(model.covariance(theta), P, jnp.asarray)
    np.testing.assert_allclose(result, fisher(problem, theta)[0] / batch, atol=1e-14)


def test_over_all_examples_and_labels_mean_and_covariance_are_exact():
    """Batches of one: a place in the middle of each label's share, weighed by that share."""
    problem, theta = softmax_regression()
    model = noise.sampled_labels(problem, 1, jnp.asarray(HOT))
    expected, laws = fisher(problem, theta)
    ends = np.cumsum(laws, axis=1)
    step = jax.jit(model.gradient)
    rows, weights = [], []
    for i in range(N):
        for c in range(K):
            place = jnp.asarray([ends[i, c] - laws[i, c] / 2])
            rows.append(np.asarray(step(theta, (jnp.asarray([i]), place))))
            weights.append(laws[i, c] / N)
    rows, weights = np.stack(rows), np.asarray(weights)
    np.testing.assert_allclose(weights @ rows, problem.gradient(theta), atol=1e-14)
    away = rows - np.asarray(problem.gradient(theta))
    np.testing.assert_allclose((away.T * weights) @ away, expected, atol=1e-14)


def test_the_twin_is_linear_with_the_same_covariance():
    problem, theta = softmax_regression()
    model = noise.sampled_labels(problem, 2, jnp.asarray(HOT))
    zeros = jnp.zeros(model.normal.size)
    np.testing.assert_allclose(
        model.gaussian_gradient(theta, zeros), problem.gradient(theta), atol=1e-14
    )
    slopes = np.asarray(jax.jacobian(model.gaussian_gradient, 1)(theta, zeros))
    np.testing.assert_allclose(slopes @ slopes.T, fisher(problem, theta)[0] / 2, atol=1e-14)


def test_uniform_places_pick_labels_at_their_rates(rng):
    laws = np.asarray([0.2, 0.5, 0.3])
    places = rng.uniform(size=40_000)
    counts = np.bincount(_pick(np.tile(laws, (len(places), 1)), places), minlength=3)
    errors = np.sqrt(laws * (1 - laws) * len(places))
    assert np.all(abs(counts - laws * len(places)) < SURE * errors)
    assert _pick(laws[None], np.asarray([0.0]))[0] == 0
    assert _pick(laws[None], np.asarray([1 - 1e-16]))[0] == 2


def test_torch_and_jax_agree(rng):
    (ours, a), (theirs, b) = (softmax_regression(library) for library in LIBRARIES)
    place, white = rng.uniform(size=2), rng.normal(size=N * K)
    result = []
    for problem, theta, asarray in ((ours, a, jnp.asarray), (theirs, b, torch.asarray)):
        model = noise.sampled_labels(problem, 2, asarray(HOT))
        drawn = asarray(np.asarray([2, 0])), asarray(place)
        result.append(
            (model.gradient(theta, drawn), model.gaussian_gradient(theta, asarray(white)))
        )
    for first, second in zip(*result, strict=True):
        np.testing.assert_allclose(np.asarray(first), np.asarray(second), rtol=1e-12)


def test_a_torch_network_with_integer_labels_walks_under_it():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, K))
    inputs, labels = torch.randn(12, 4), torch.arange(12) % K
    problem, theta = as_problem(net, nn.CrossEntropyLoss(reduction="none"), inputs, labels)
    model = noise.sampled_labels(problem, 4, torch.arange(K))
    steps = walk(sgd(model, 0.1), theta, 0)
    after = [next(steps) for _ in range(3)]
    assert all(torch.isfinite(first).all() for first in after)
    laws = torch.softmax(net(inputs), 1).detach()
    sizes = []
    for c in range(K):
        relabelled = replace(problem, examples=(inputs, torch.full((12,), c)))
        sizes.append((relabelled.gradients(theta) ** 2).sum(1))
    slow = (laws * torch.stack(sizes, 1)).sum() / 12 / 4
    torch.testing.assert_close(model.covariance(theta).trace(), slow)


@pytest.mark.parametrize(
    ("batch", "choices", "words"),
    [
        (0, HOT, "at least one example, not 0"),
        (1, HOT[:1], "2 or more of shape"),
        (1, HOT[:, :2], r"shape \(3,\), not from an array of shape \(3, 2\)"),
    ],
)
def test_bad_input_is_answered_by_one_sentence(batch, choices, words):
    with pytest.raises(ValueError, match=words):
        noise.sampled_labels(softmax_regression()[0], batch, jnp.asarray(choices))
