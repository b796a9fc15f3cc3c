"""The gradient covariance of any problem as an operator, against its dense gradients."""

import jax
import numpy as np
import pytest
import torch
from networks import ZOO, dense
from witnesses import LIBRARIES, SIZE, colours, curved, matrix

from sgdnoise import nets
from sgdnoise.core import PerExampleGradients
from sgdnoise.noise import bernoulli, gradient_covariance, svag_weights, with_replacement

N = 6


@pytest.fixture(params=LIBRARIES)
def setting(request):
    """A problem in jax or torch, a theta, its gradients one by one, and how arrays are made."""
    problem, theta = curved(request.param, n=N)
    return problem, theta, np.asarray(problem.gradients(theta)), LIBRARIES[request.param]


def weighed(g, law):
    g, along = np.asarray(g), np.ones((len(g), len(g))) / len(g)
    return g.T @ (law.var_within * (np.eye(len(g)) - along) + law.var_mean * along) @ g


def test_it_is_what_its_gradients_say(setting, rng):
    """4 does not divide 6; 1e-11 as derivatives forward and backward round on their own."""
    problem, theta, g, asarray = setting
    law = bernoulli(N, 2)
    c, expected = gradient_covariance(problem, theta, law=law, block=4), weighed(g, law)
    nearby = {"rtol": 1e-10, "atol": 1e-11 * np.abs(expected).max()}
    np.testing.assert_allclose(matrix(c, SIZE, asarray), expected, **nearby)
    v = asarray(rng.normal(size=(SIZE, 2)))
    np.testing.assert_allclose(np.asarray(c @ v), expected @ np.asarray(v), **nearby)
    result = c.rows.normal(v, asarray(np.asarray([0.3, -2.0])))
    np.testing.assert_allclose(result, g.T @ (g @ np.asarray(v) - [0.3, -2.0]), rtol=1e-10)
    np.testing.assert_allclose(float(c.trace()), expected.trace(), **nearby)
    np.testing.assert_allclose(np.asarray(c.diagonal()), expected.diagonal(), **nearby)
    np.testing.assert_allclose(np.asarray(c.rows.gram()), g @ g.T, rtol=1e-10, atol=1e-12)


def test_its_colours_and_eigenvalues_are_those_of_its_matrix():
    problem, theta = curved("torch", n=N)
    law = svag_weights(with_replacement(N, 2), 3)
    c, expected = (
        gradient_covariance(problem, theta, law=law),
        weighed(problem.gradients(theta), law),
    )
    b = colours(c, torch.asarray)
    np.testing.assert_allclose(b @ b.T, expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(c.eigenvalues(), np.linalg.eigvalsh(expected)[::-1][:N], atol=1e-11)


@pytest.mark.parametrize(("batch", "replacement"), [(1, True), (2, True), (2, False), (N, False)])
def test_batches_have_the_covariance_of_one_example_over_their_size(batch, replacement):
    problem, theta = curved("torch", n=N)
    g = problem.gradients(theta).numpy()
    result = gradient_covariance(problem, theta, batch_size=batch, replacement=replacement)
    fraction = 1 if replacement else (N - batch) / (N - 1)
    expected = fraction / batch * np.cov(g.T, bias=True)
    np.testing.assert_allclose(matrix(result, SIZE, torch.asarray), expected, atol=1e-12)


def test_a_flat_network_and_the_network_itself_have_the_same():
    built = ZOO["numbers alone"]()
    g = dense(built.net, built.losses, built.inputs, built.targets)
    problem, theta = nets.as_problem(built.net, built.losses, built.inputs, built.targets)
    first = gradient_covariance(problem, theta, batch_size=3, block=4)
    second = nets.gradient_covariance(
        built.net, built.losses, built.inputs, built.targets, batch_size=3
    )
    eye = torch.eye(len(theta)).double()
    expected = torch.cov(g.T, correction=0) / 3
    np.testing.assert_allclose(first @ eye, expected, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(second @ eye, expected, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(first.top(2).values, second.top(2).values, rtol=1e-10)
    np.testing.assert_allclose(first.draw(rng=0), second.draw(rng=0), rtol=1e-9, atol=1e-12)


def test_a_product_holds_no_gradients_and_a_trace_no_more_than_a_block(monkeypatch):
    problem, theta = curved("torch", n=N)
    held = []
    mine = type(problem).gradients

    def gradients(self, theta):
        held.append(len(self))
        return mine(self, theta)

    monkeypatch.setattr(type(problem), "gradients", gradients)
    c = gradient_covariance(problem, theta, block=4)
    c.quadratic(c @ theta)
    assert held == []
    c.trace()
    assert held == [4, 2]


def test_it_works_under_jit():
    problem, theta = curved(n=N)
    trace = jax.jit(lambda t: gradient_covariance(problem, t, batch_size=2).trace())
    expected = np.cov(np.asarray(problem.gradients(theta)).T, bias=True).trace() / 2
    np.testing.assert_allclose(trace(theta), expected, rtol=1e-10)


PROBLEM, THETA = curved("torch", n=N)
MEAN = PROBLEM.__class__(lambda *args: PROBLEM.losses(*args).mean(), PROBLEM.examples)
WRONG = {
    "one example": (
        lambda: gradient_covariance(PROBLEM.subset(slice(1)), THETA),
        "2 examples, not 1",
    ),
    "a block of none": (lambda: gradient_covariance(PROBLEM, THETA, block=0), "not 0"),
    "a mean loss": (lambda: gradient_covariance(MEAN, THETA), r"\(6,\), not \(\)"),
    "a batch above n": (
        lambda: gradient_covariance(PROBLEM, THETA, batch_size=7, replacement=False),
        "7 .* 6",
    ),
    "no batch": (lambda: gradient_covariance(PROBLEM, THETA, batch_size=0), "not 0"),
    "a law of others": (
        lambda: gradient_covariance(PROBLEM, THETA, law=bernoulli(5, 2)),
        "5 ex.* 6",
    ),
    "a layer": (lambda: gradient_covariance(PROBLEM, THETA).layer("first"), "no 'first'"),
}


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_it_is_refused_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert 20 <= len(str(caught.value)) <= 200
    assert ". " not in str(caught.value)
    assert not str(caught.value).endswith(".")


def test_its_rows_are_rows():
    rows = gradient_covariance(PROBLEM, THETA).rows
    assert isinstance(rows, PerExampleGradients)
    assert rows.by_parameter() == {"theta": rows}
