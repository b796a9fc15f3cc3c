"""A loss that is random or depends on other examples is refused, wherever it is first used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sgdnoise import noise
from sgdnoise.core import Problem
from sgdnoise.dynamics import sgd, simulate

X = jnp.asarray(np.random.default_rng(0).normal(size=(20, 3)))
Y = jnp.arange(20) % 3
KEY = jax.random.key(0)


def cross_entropy(theta, x, y):
    logits = jax.nn.log_softmax(x @ theta.reshape(3, 3))
    return -jnp.take_along_axis(logits, y[:, None], 1)[:, 0]


def batch_norm(theta, x, y):
    return cross_entropy(theta, (x - x.mean(0)) / (x.std(0) + 0.1), y)


def dropout(theta, x, y):
    return cross_entropy(theta, x * jax.random.bernoulli(KEY, 0.5, x.shape), y)


def ranked(theta, x, y):
    return cross_entropy(theta, x, y) * (1 + jnp.argsort(jnp.argsort(x[:, 0])))


def by_place(theta, x, y):
    return cross_entropy(theta, x, y) * (1 + jnp.arange(len(x)))


def consistency(theta, x, y):
    return cross_entropy(theta, x, y) + 0.05 * (theta @ theta) * x.mean()


def of_batch_size(theta, x, y):
    return cross_entropy(theta, x, y) / len(x)


def random(theta, x, y):
    return cross_entropy(theta, x + np.random.default_rng().normal(size=x.shape), y)


DEPENDENT = [batch_norm, dropout, ranked, by_place, consistency, of_batch_size, random]
START = jnp.zeros(9)  # where all cross-entropies are log 3, with batch norm or without
USES = {
    "gradients": lambda problem: problem.gradients(START),
    "weighted gradient": lambda problem: problem.weighted_gradient(START, jnp.ones(20)),
    "covariance": lambda problem: noise.gradient_covariance(problem, START),
    "noise of minibatches": lambda problem: noise.minibatch(problem, 4).covariance(START),
    "chains": lambda problem: simulate(
        sgd(noise.minibatch(problem, 4), 0.1), 0, START[None], steps=2
    ),
    "compiled": lambda problem: jax.jit(problem.gradients)(START),
    "a subset": lambda problem: problem.subset([0, 1]).gradients(START),
}


@pytest.mark.parametrize("losses", DEPENDENT)
@pytest.mark.parametrize("use", USES)
def test_a_loss_of_a_batch_is_refused(losses, use):
    def fresh(*arguments):
        return losses(*arguments)

    with pytest.raises(ValueError, match=r"^the loss of example \d+ (is|changes)[^\n]*") as caught:
        USES[use](Problem(fresh, (X, Y)))
    sentence = str(caught.value).partition("\n--")[0]  # jax adds lines about its own frames
    assert len(sentence) < 200
    assert ". " not in sentence


@pytest.mark.parametrize("use", USES)
def test_a_loss_of_one_example_is_not(use):
    USES[use](Problem(cross_entropy, (X, Y)))


def test_a_random_loss_is_told_from_one_of_a_batch():
    with pytest.raises(ValueError, match="changes from call to call"):
        Problem(lambda *arguments: random(*arguments), (X, Y)).gradients(START)


def test_dropout_of_the_same_units_for_all_examples_is_a_function_of_each():
    def losses(theta, x, y):
        return cross_entropy(theta, x * jax.random.bernoulli(KEY, 0.5, x.shape[1:]), y)

    Problem(losses, (X, Y)).gradients(START)


def test_a_loss_is_tried_once():
    calls = []

    def losses(theta, x, y):
        calls.append(len(x))
        return cross_entropy(theta, x, y)

    problem = Problem(losses, (X, Y))
    problem.gradients(START)
    first = len(calls)
    problem.gradients(START)
    assert len(calls) == first + 1
    assert max(calls) <= 20


def test_rounding_is_no_dependence():
    """A regression that fits: its losses are nothing but rounding."""
    x = jnp.asarray(np.random.default_rng(1).normal(size=(50, 30)), jnp.float32)
    theta = jnp.linspace(-1, 1, 30, dtype=jnp.float32)
    problem = Problem(lambda theta, x, y: (x @ theta - y) ** 2 / 2, (x, x @ theta))
    problem.gradients(theta)


def test_losses_of_torch_are_tried_too():
    x, y = torch.asarray(np.array(X)), torch.asarray(np.array(Y))

    def losses(theta, x, y):
        x = (x - x.mean(0)) / (x.std(0, correction=0) + 0.1)
        return torch.nn.functional.cross_entropy(x @ theta.reshape(3, 3), y, reduction="none")

    with pytest.raises(ValueError, match="alone and"):
        Problem(losses, (x, y)).gradients(torch.zeros(9, dtype=torch.float64))


def test_losses_that_hold_a_traced_number_are_not_tried():
    def loss(scale):
        problem = Problem(lambda theta, x, y: scale * cross_entropy(theta, x, y), (X, Y))
        return problem.weighted_gradient(START, jnp.ones(20)).sum()

    expected = Problem(cross_entropy, (X, Y)).weighted_gradient(START, jnp.ones(20)).sum()
    assert_allclose(jax.jit(loss)(2.0), 2 * expected, rtol=1e-12)


def test_nothing_is_added_to_a_compiled_program():
    def fresh(theta, x, y):
        return cross_entropy(theta, x, y)

    problem, known = Problem(fresh, (X, Y)), Problem(cross_entropy, (X, Y))
    known.gradients(START)
    first, second = (str(jax.make_jaxpr(p.gradients)(START)) for p in (problem, known))
    assert first.count("\n") == second.count("\n")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda p: p.gradients(1j * START), "complex128"),
        (lambda p: p.gradients(jnp.zeros(9, int)), "floating point, not int64"),
        (lambda p: p.value(torch.zeros(9)), "not of torch and of another"),
        (lambda p: p.subset([0, 20]), "none has the index 20"),
        (lambda p: p.subset(jnp.asarray([-21])), "none has the index -21"),
    ],
)
def test_what_a_problem_cannot_take_is_named(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(Problem(cross_entropy, (X, Y)))


def test_a_label_out_of_range_is_named():
    x, y = torch.zeros(4, 3), torch.asarray([0, 1, 2, 7])

    def losses(theta, x, y):
        return torch.nn.functional.cross_entropy(x @ theta.reshape(3, 3), y, reduction="none")

    with pytest.raises(ValueError, match="label out of range"):
        Problem(losses, (x, y)).gradient(torch.zeros(9))


def test_an_example_whose_loss_is_not_finite_is_named():
    with pytest.raises(ValueError, match="loss of example 19 is not finite"):
        noise.gradient_covariance(Problem(cross_entropy, (X, Y.at[19].set(5))), START)
