"""Modified losses against all orders and all sequences of an epoch, and against exact minima."""

from functools import reduce
from itertools import pairwise, permutations, product

import jax
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.integrate import solve_ivp
from witnesses import SURE, curved

from derivations import modified_loss as derived
from sgdnoise.core import Problem
from sgdnoise.theory import (
    gradient_flow,
    reshuffled_loss,
    reshuffled_minimum,
    reshuffled_shift,
    sgd_loss,
)

RATES = (4e-3, 2e-3, 1e-3)
N = 4


class Small:
    """A network of one hidden unit on some examples: in torch, and its gradients by hand."""

    def __init__(self, n):
        rng = np.random.default_rng(7)
        self.x, self.y, self.theta = rng.normal(size=(n, 3)), rng.normal(size=n), rng.normal(size=4)
        examples = torch.asarray(self.x), torch.asarray(2 * self.y)
        self.problem = Problem(
            lambda t, x, y: 0.5 * (torch.tanh(x @ t[:3]) * t[3] - y) ** 2, examples
        )

    def gradients(self, thetas, drawn):
        """Of the batches drawn (order, batch) at thetas (order, 4)."""
        x, y, w, v = self.x[drawn], 2 * self.y[drawn], thetas[:, :3], thetas[:, 3]
        hidden = np.tanh(np.einsum("kbi,ki->kb", x, w))
        residual = hidden * v[:, None] - y
        inner = np.einsum("kb,kbi->kbi", residual * v[:, None] * (1 - hidden**2), x)
        return np.concatenate([inner, (residual * hidden)[:, :, None]], axis=2).mean(axis=1)

    def mean_epoch(self, rate, orders):
        """The mean over orders, each a sequence of batches, of where an epoch ends."""
        thetas = np.tile(self.theta, (len(orders), 1))
        for drawn in np.moveaxis(np.asarray(orders), 1, 0):
            thetas = thetas - rate * self.gradients(thetas, drawn)
        return thetas.mean(axis=0)


def closes(gap):
    """Orders at which a gap closes as the rate is halved, and halved again."""
    sizes = [np.linalg.norm(gap(rate)) for rate in RATES]
    return [np.log2(a / b) for a, b in pairwise(sizes)]


def are(found, order):
    """The next order of the rate spoils a slope by an amount that halves with it."""
    far, near = (slope - order for slope in found)
    return abs(near) < 0.1 and abs(far / 2 - near) < 0.3 * abs(near) + 0.01


def follows(net, orders, loss, order):
    """Whether the mean of an epoch leaves the flow of a loss at this order of the rate."""
    theta = torch.asarray(net.theta)

    def gap(rate):
        gradient = torch.func.grad(loss(rate))
        end = gradient_flow(
            gradient, theta, len(orders[0]) * rate, 1
        )  # its own error is of order 5
        return net.mean_epoch(rate, orders) - end.numpy()

    return are(closes(gap), order)


@pytest.fixture(scope="module")
def four():
    return Small(N)


ORDERS = [[[i] for i in order] for order in permutations(range(N))]
SEQUENCES = [[[i] for i in order] for order in product(range(N), repeat=N)]


def test_the_gradients_by_hand_are_those_of_torch(four):
    result = four.gradients(four.theta[None], np.asarray([[0, 1, 2, 3]]))[0]
    expected = four.problem.gradient(torch.asarray(four.theta))
    assert_allclose(result, expected.numpy(), rtol=1e-12)


def test_a_step_of_descent_follows_its_modified_loss_to_third_order(four):
    step = [[list(range(N))]]
    assert follows(four, step, lambda rate: four.problem.value, 2)
    assert follows(four, step, lambda rate: sgd_loss(four.problem, rate), 3)


def test_a_reshuffled_epoch_follows_its_own_loss_and_no_other(four):
    """The mean over all 24 orders."""
    assert follows(four, ORDERS, lambda rate: reshuffled_loss(four.problem, rate, 1), 3)
    assert follows(four, ORDERS, lambda rate: sgd_loss(four.problem, rate), 2)


def test_with_replacement_there_is_no_trace_of_the_covariance(four):
    """The mean over all 256 sequences obeys the loss of plain descent, not that of reshuffling."""
    assert follows(four, SEQUENCES, lambda rate: sgd_loss(four.problem, rate), 3)
    assert follows(four, SEQUENCES, lambda rate: reshuffled_loss(four.problem, rate, 1), 2)


def test_batches_that_do_not_divide_the_examples_leave_some_out():
    """5 examples in 2 batches of 2: all 120 orders, and (m - 1) / (n - 1) = 1 / 4 of Tr C."""
    five = Small(5)
    orders = [[o[:2], o[2:4]] for o in permutations(range(5))]
    assert follows(five, orders, lambda rate: reshuffled_loss(five.problem, rate, 2), 3)
    theta = torch.asarray(five.theta)
    extra = reshuffled_loss(five.problem, 1.0, 2)(theta) - sgd_loss(five.problem, 1.0)(theta)
    values = five.problem.gradients(theta).numpy()
    trace = ((values - values.mean(0)) ** 2).sum() / 5
    assert_allclose(float(extra), trace / 4 / 4, rtol=1e-12)


def test_the_loss_of_reshuffling_is_that_of_its_batches(four):
    """L + rate / (4 m) sum_k |grad L_k|^2, averaged over the 3 ways to make 2 batches of 4."""
    ways = [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    at = four.theta[None]
    squares = [
        np.mean([(four.gradients(at, np.asarray([b])) ** 2).sum() for b in way]) for way in ways
    ]
    theta = torch.asarray(four.theta)
    expected = float(four.problem.value(theta)) + 0.3 / 4 * np.mean(squares)
    assert_allclose(float(reshuffled_loss(four.problem, 0.3, 2)(theta)), expected, rtol=1e-12)


def test_one_batch_of_all_is_plain_descent(four):
    theta = torch.asarray(four.theta)
    first, second = (
        loss(theta) for loss in (reshuffled_loss(four.problem, 0.3, N), sgd_loss(four.problem, 0.3))
    )
    assert_allclose(float(first), float(second), rtol=1e-14)


@pytest.mark.usefixtures("quick_to_compile")
def test_torch_and_jax_agree_on_a_modified_loss():
    values = []
    for library in ("jax", "torch"):
        problem, theta = curved(library, n=2)
        loss = reshuffled_loss(problem, 0.2, 1)
        values.append(float((jax.jit(loss) if library == "jax" else loss)(theta)))
    assert_allclose(*values, rtol=1e-12)


def test_a_flow_is_that_of_scipy(xp):
    """Error of the rule: time^5 / steps^4 / 120 of the fifth derivatives, here below 1e-8."""
    matrix = np.asarray([[1.0, 0.4], [-0.4, 0.5]])

    def slope(theta):
        return xp.asarray(matrix) @ theta + 0.1 * theta**3

    result = gradient_flow(slope, xp.asarray(np.asarray([1.0, -2.0])), 0.7, 40)
    exact = solve_ivp(
        lambda _, t: -(matrix @ t + 0.1 * t**3), (0, 0.7), [1.0, -2.0], rtol=1e-12, atol=1e-13
    )
    assert_allclose(np.asarray(result), exact.y[:, -1], atol=1e-8)


# --- linear regression ---


def regression(rng, n=5, p=2):
    return rng.normal(size=(n, p)), rng.normal(size=n)


def rest_of_all_orders(x, y, rate, batch):
    """Where the mean over all orders of an epoch leaves the mean where it is."""
    n, p = x.shape
    epochs = []
    for order in permutations(range(n)):
        batches = [list(order[k : k + batch]) for k in range(0, n - n % batch, batch)]
        maps = [step_map(x[b], y[b], rate) for b in batches]
        epochs.append(reduce(lambda done, step: step @ done, maps))
    mean = np.mean(epochs, axis=0)
    return np.linalg.solve(np.eye(p) - mean[:p, :p], mean[:p, p])


def step_map(x, y, rate):
    """(theta, 1) after a step."""
    p = x.shape[1]
    step = np.eye(p + 1)
    step[:p, :p] -= rate * x.T @ x / len(x)
    step[:p, p] = rate * x.T @ y / len(x)
    return step


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_the_exact_minimum_is_the_rest_of_all_orders(batch, rng):
    x, y = regression(rng)
    assert_allclose(
        reshuffled_minimum(x, y, 0.1, batch), rest_of_all_orders(x, y, 0.1, batch), rtol=1e-10
    )


@pytest.mark.parametrize("batch", [1, 2])
def test_reshuffling_shifts_the_minimum_as_predicted(batch, rng):
    """What is left is of the second order in the rate."""
    x, y = regression(rng, 6)
    best = np.linalg.lstsq(x, y, rcond=None)[0]

    def gap(rate):
        return reshuffled_minimum(x, y, rate, batch) - best - reshuffled_shift(x, y, rate, batch)

    assert are(closes(gap), 2)


def test_the_shift_is_the_minimum_of_the_modified_loss(rng):
    """One Newton step from least squares, to first order in the rate; here in the limit."""
    x, y = regression(rng)
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    examples = torch.asarray(x), torch.asarray(y)
    problem = Problem(lambda t, a, b: 0.5 * (a @ t - b) ** 2, examples)
    force = torch.func.grad(reshuffled_loss(problem, 1e-7, 2))(torch.asarray(best)).numpy()
    newton = -np.linalg.solve(x.T @ x / 5, force)
    assert_allclose(reshuffled_shift(x, y, 1e-7, 2), newton, rtol=1e-6)


def test_sampled_epochs_rest_where_the_exact_minimum_is(rng):
    """And steps with replacement at least squares.  The means of 40 blocks give the errors."""
    x, y = regression(rng, 4)
    best, rate = np.linalg.lstsq(x, y, rcond=None)[0], 0.05
    maps = np.stack([step_map(x[[i]], y[[i]], rate) for i in range(4)])
    for expected, drawn in (
        (reshuffled_minimum(x, y, rate), lambda: rng.permuted(np.tile(range(4), (400, 1)), axis=1)),
        (best, lambda: rng.integers(0, 4, (400, 4))),
    ):
        theta, observed = np.tile(np.append(best, 1.0), (400, 1)), []
        for epoch in range(700):
            for column in drawn().T:
                theta = np.einsum("cij,cj->ci", maps[column], theta)
            if epoch >= 200:
                observed.append(theta[:, :2])
        chains = np.mean(observed, axis=0)
        error = chains.std(axis=0, ddof=1) / 20
        assert (abs(chains.mean(axis=0) - expected) < SURE * error).all()
    assert (abs(reshuffled_minimum(x, y, rate) - best) > 3 * error).any()


def test_libraries_agree_on_the_shift(xp):
    x, y = regression(np.random.default_rng(3))
    result = reshuffled_shift(xp.asarray(x), xp.asarray(y), 0.1, 2)
    assert_allclose(np.asarray(result), reshuffled_shift(x, y, 0.1, 2), rtol=1e-12)


def test_modified_losses_are_the_derived_ones(four):
    """Batches of one, and of two in the mean over the three ways to make them."""
    theta, rate, problem = torch.asarray(four.theta), 0.1, four.problem
    loss, terms = float(problem.value(theta)), problem.gradients(theta).numpy()
    letters = {"L": loss, "eta": rate, str(derived.square): np.sum(terms.mean(0) ** 2)}

    def number(equation, **more):
        values = letters | more
        return float(equation.rhs.subs({s: values[str(s)] for s in equation.rhs.free_symbols}))

    plain = float(sgd_loss(problem, rate)(theta))
    assert_allclose(number(derived.descent_loss()), plain, rtol=1e-12)
    assert_allclose(number(derived.replaced_loss(), m=N), plain, rtol=1e-12)
    pairs = [[(0, 1), (2, 3)], [(0, 2), (1, 3)], [(0, 3), (1, 2)]]
    for batch, ways in ((1, [[(i,) for i in range(N)]]), (2, pairs)):
        result = float(reshuffled_loss(problem, rate, batch)(theta))
        squares = [sum(np.sum(terms[list(k)].mean(0) ** 2) for k in way) for way in ways]
        more = {"m": N // batch, str(derived.squares): np.mean(squares)}
        assert_allclose(result, number(derived.reshuffled_loss(), **more), rtol=1e-12)


def test_the_shift_is_the_derived_one():
    """One parameter: the letters of the derivation, with numbers."""
    x, y, rate = np.asarray([[0.7], [-1.2]]), np.asarray([0.3, 1.0]), 0.1
    equation = derived.minimum_shift()
    letters = dict(zip(("x_1", "x_2"), x[:, 0], strict=True))
    letters |= dict(zip(("y_1", "y_2"), y, strict=True)) | {"eta": rate}
    value = float(equation.rhs.subs({s: letters[str(s)] for s in equation.rhs.free_symbols}))
    assert_allclose(reshuffled_shift(x, y, rate), [value], rtol=1e-10)


# --- bad input ---


def test_bad_input_is_refused_in_a_sentence(four, rng):
    problem = four.problem
    x, y = regression(rng)
    with pytest.raises(ValueError, match=r"learning_rate must be 0 or more and finite, not -0\.1"):
        sgd_loss(problem, -0.1)
    with pytest.raises(ValueError, match="learning_rate must be 0 or more and finite, not nan"):
        reshuffled_loss(problem, float("nan"), 1)
    for batch in (0, 6):
        with pytest.raises(ValueError, match=f"batches of {batch} cannot be made of 5 examples"):
            reshuffled_shift(x, y, 0.1, batch)
    with pytest.raises(ValueError, match="least squares has no unique minimum"):
        reshuffled_shift(x[:, :1] @ np.ones((1, 2)), y, 0.1)
    with pytest.raises(ValueError, match="all orders of 15 examples are too many"):
        reshuffled_minimum(np.ones((15, 1)), np.ones(15), 0.1)
    with pytest.raises(ValueError, match="the mean of reshuffled regression diverges"):
        reshuffled_minimum(x, y, 100.0)
    with pytest.raises(ValueError, match="at least one step, not 0"):
        gradient_flow(four.problem.gradient, torch.zeros(4), 1.0, 0)
