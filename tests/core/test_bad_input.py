"""Bad input gets one sentence that names what is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from witnesses import curved

from sgdnoise import noise
from sgdnoise.core import Problem, mean, with_group_error
from sgdnoise.dimension import levina_bickel, participation_ratio, twonn, unique_points
from sgdnoise.dimension._neighbours import nearest_distances
from sgdnoise.dynamics import langevin, sgd, simulate
from sgdnoise.nets import as_problem
from sgdnoise.noise import (
    bernoulli,
    reshuffled,
    svag_weights,
    with_replacement,
    without_replacement,
)
from sgdnoise.theory import stationary_covariance

PROBLEM, THETA = curved()
QUIET = noise.full_batch(PROBLEM)
LAW = with_replacement(4, 2)
CLASSES = Problem(PROBLEM.losses, (PROBLEM.examples[0], jnp.arange(4)))


def walk_of(steps, every):
    return simulate(sgd(QUIET, 0.1), jax.random.key(0), THETA[None], steps=steps, every=every)


def fit(net, loss):
    problem, theta = as_problem(net, loss, torch.ones(5, 2), torch.zeros(5, 2))
    return problem.value(theta)


WRONG = {
    "no neighbour": (lambda: nearest_distances(np.ones((5, 2)), 0), "0"),
    "more neighbours than points": (lambda: nearest_distances(np.ones((5, 2)), 5), "5"),
    "two points for two neighbours": (lambda: twonn(np.ones((2, 3))), "2"),
    "ten points for ten neighbours": (lambda: levina_bickel(np.ones((10, 3))), "10"),
    "one neighbour for a ratio": (lambda: levina_bickel(np.ones((10, 3)), 1), "1"),
    "a point that is nan": (lambda: twonn(np.diag([1.0, np.nan, 2.0, 3.0])), "row 1"),
    "an infinite point": (lambda: twonn(np.diag([1.0, 2.0, np.inf, 3.0])), "row 2"),
    "points that coincide": (lambda: twonn(np.ones((30, 3))), "30"),
    "points that span nothing": (lambda: participation_ratio(np.full((30, 3), 0.1)), "30"),
    "points that repeat": (lambda: unique_points(np.eye(5)[[0, 1, 2, 1]], refuse=True), "1 of 4"),
    "lists of unequal length": (lambda: levina_bickel([[1.0, 2.0], [1.0]]), "list"),
    "points in a row": (lambda: levina_bickel(np.ones(10)), "(10,)"),
    "complex points": (lambda: participation_ratio(1j * np.eye(3)), "complex"),
    "one sample": (lambda: mean(np.ones(1)), "1"),
    "no sample": (lambda: mean(np.ones(0)), "0"),
    "one group": (lambda: with_group_error(np.mean, np.ones(9), groups=1), "1"),
    "more groups than samples": (lambda: with_group_error(np.mean, np.ones(9), groups=11), "11"),
    "empty batch": (lambda: with_replacement(4, 0), "0"),
    "negative batch": (lambda: bernoulli(4, -3), "-3"),
    "batch above n": (lambda: without_replacement(4, 5), "5"),
    "reshuffled batch above n": (lambda: reshuffled(4, 6), "6"),
    "bernoulli batch above n": (lambda: bernoulli(4, 7), "7"),
    "svag that shrinks": (lambda: svag_weights(LAW, 0), "0"),
    "svag of a dense law": (lambda: svag_weights(bernoulli(4, 2), 2), "None"),
    "svag of svag": (lambda: svag_weights(svag_weights(LAW, 2), 2), "None"),
    "minibatch above n": (lambda: noise.minibatch(PROBLEM, 9, replacement=False), "9"),
    "law of another size": (lambda: noise.from_weights(PROBLEM, bernoulli(6, 2)), "6"),
    "negative label noise": (lambda: noise.label_noise(PROBLEM, 2, -0.5), "-0.5"),
    "label noise on classes": (lambda: noise.label_noise(CLASSES, 2, 0.5), "int64"),
    "label noise on a dense law": (
        lambda: noise.label_noise(PROBLEM, 2, 0.5, bernoulli(4, 2)),
        "None",
    ),
    "label noise on another batch": (lambda: noise.label_noise(PROBLEM, 3, 0.5, LAW), "3"),
    "negative variance": (lambda: noise.isotropic(PROBLEM, -2.0), "-2.0"),
    "no rate": (lambda: sgd(QUIET, 0.0), "0.0"),
    "negative rate": (lambda: sgd(QUIET, -0.1), "-0.1"),
    "rate of nan": (lambda: sgd(QUIET, np.nan), "nan"),
    "negative langevin rate": (lambda: langevin(QUIET, -0.1), "-0.1"),
    "negative dt": (lambda: langevin(QUIET, 0.1, -0.2), "-0.2"),
    "every that does not divide steps": (lambda: walk_of(10, 3), "10"),
    "no steps": (lambda: walk_of(0, 1), "0"),
    "unstable rate": (lambda: stationary_covariance(np.eye(2), np.eye(2), 2.5), "2.5"),
    "saddle": (lambda: stationary_covariance(np.diag([-1.0, 1.0]), np.eye(2), 0.1), "-1"),
    "flat direction": (lambda: stationary_covariance(np.diag([0.0, 1.0]), np.eye(2), 0.1), "0"),
    "buffers": (lambda: fit(torch.nn.BatchNorm1d(2), lambda f, y: (f - y).sum(1)), "BatchNorm1d"),
    "mean loss": (lambda: fit(torch.nn.Linear(2, 2), torch.nn.functional.mse_loss), "()"),
    "no parameters": (lambda: fit(torch.nn.Tanh(), lambda f, y: (f - y).sum(1)), "Tanh"),
}


@pytest.mark.parametrize(("call", "named"), WRONG.values(), ids=WRONG.keys())
def test_it_is_refused_in_one_sentence_that_names_it(call, named):
    with pytest.raises(ValueError, match=r"^[^\n]{20,200}$") as caught:
        call()
    message = str(caught.value)
    assert named in message
    assert not message.endswith(".")
    assert ". " not in message


@pytest.mark.parametrize("rate", [1, 0.1, np.float64(0.1)])
def test_a_positive_rate_is_fine_in_any_type(rate):
    assert sgd(QUIET, rate).dt == rate
