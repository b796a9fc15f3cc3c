"""The loss that a noisy descent follows on average."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
from jaxtyping import Float

from sgdnoise.core._arrays import Array, as_numpy, namespace
from sgdnoise.core._problem import Problem

MOST = 14  # examples whose 2^n sets are still few
FLAT = 1e-12  # of the largest curvature: below it rounding makes the minimum


def label_noise_strength(learning_rate, label_noise, batch_size):
    r"""kappa in L + kappa Tr H, the loss that label noise makes descent follow near zero residual.

    kappa = rate label_noise^2 / (4 batch), for losses with the factor 1/2: theta jitters with
    covariance (rate label_noise^2 / 2 batch) I, whose mean force is -(1/2) grad Tr(H S).
    In regime for rate * lambda_max << 1 and small `residual_amplification`.
    Blanc et al. (2020), Damian, Ma & Lee (2021), Li, Wang & Arora (2022).
    """
    return learning_rate * label_noise**2 / (4 * batch_size)


def residual_amplification(learning_rate, trace, batch_size, outputs):
    r"""u, the share of the noise that comes from sampling the residual it makes itself.

    u = rate Tr H / (2 batch outputs), to first order in rate and for residuals alike in all
    outputs: label_noise^2 acts as label_noise^2 / (1 - u).  Where one curvature dominates Tr H the
    correction grows, up to twice in one dimension.  The theory of `label_noise_strength` wants
    u << 1: its linear networks agree to 5% for u <= 0.12.
    """
    return learning_rate * trace / (2 * batch_size * outputs)


def sgd_loss(problem: Problem, learning_rate: float) -> Callable[[Array], Array]:
    r"""L + rate / 4 |grad L|^2, whose gradient flow descent follows to second order a step.

    Barrett & Dherin (2021).  Minibatches drawn WITH replacement follow it too: the mean of m steps
    is theta - m rate grad L + rate^2 m (m - 1) / 2 H grad L + O(rate^3), as without noise, because
    the gradients of two steps are independent, and no Tr C appears.  Over times of order 1 / rate
    the spread S that noise builds up adds -(1/2) grad Tr(H S), of first order in rate, to the mean
    force: that belongs to the stochastic equation, not to this loss.
    Raises ValueError for a negative rate.
    """
    _positive(learning_rate)

    def loss(theta):
        slope = problem.gradient(theta)
        return problem.value(theta) + learning_rate / 4 * (slope @ slope)

    return loss


def reshuffled_loss(
    problem: Problem, learning_rate: float, batch_size: int
) -> Callable[[Array], Array]:
    r"""L + rate / 4 (|grad L|^2 + (m - 1) / (n - 1) Tr C), the loss of reshuffled epochs.

    C is the covariance of the gradients of the n examples (over n), and an epoch has m = n // batch
    steps.  Where batch divides n it is L + rate / (4 m) sum_k |grad L_k|^2, averaged over the ways
    to make batches (Smith, Dherin, Barrett & De, 2021): the mean over all orders of an epoch is
    its gradient flow over a time m rate, to second order in m rate.  The trace comes from batches
    that cannot meet themselves: it is not there with replacement, see `descent_loss`.
    Holds all n gradients.  Raises ValueError for a negative rate, or batch not in 1 to n.
    """
    n = len(problem)
    share = _share(n, batch_size)
    _positive(learning_rate)

    def loss(theta):
        each = problem.gradients(theta)
        xp = namespace(each)
        slope = xp.mean(each, axis=0)
        trace = xp.sum((each - slope) ** 2) / n
        return problem.value(theta) + learning_rate / 4 * (slope @ slope + share * trace)

    return loss


def gradient_flow(
    gradient, theta: Float[Array, " p"], time: float, steps: int = 16
) -> Float[Array, " p"]:
    r"""Where d theta / dt = -gradient(theta) leads in a time: Runge and Kutta's fourth order.

    The flow of a modified loss: `flow(problem.ft.grad(descent_loss(problem, rate)), theta, rate)`
    is a step of descent, up to rate^3.  The error of the rule itself is of order
    time^5 / steps^4.  Raises ValueError for fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"a flow needs at least one step, not {steps}")
    h = time / steps
    for _ in range(steps):
        one = gradient(theta)
        two = gradient(theta - h / 2 * one)
        three = gradient(theta - h / 2 * two)
        four = gradient(theta - h * three)
        theta = theta - h / 6 * (one + 2 * two + 2 * three + four)
    return theta


def reshuffled_shift(
    inputs: Float[Array, "n p"],
    targets: Float[Array, " n"],
    learning_rate: float,
    batch_size: int = 1,
) -> Float[Array, " p"]:
    r"""How far reshuffling moves the mean of linear regression from least squares, to order rate.

    -(rate / 2) (m - 1) / (n - 1) A^-1 mean_i r_i |x_i|^2 x_i, with r = X theta - y at least
    squares, A = X^T X / n and m = n // batch steps an epoch: the minimum of `reshuffled_loss` for
    losses r^2 / 2, seen at the ends of epochs.  Steps drawn with replacement are not moved at all.
    The next order is `reshuffled_minimum`'s.
    Raises ValueError for a negative rate, batch not in 1 to n, or singular A.
    """
    xp, n = namespace(inputs, targets), inputs.shape[0]
    share = _share(n, batch_size)
    _positive(learning_rate)
    hessian, best = _least_squares(xp, inputs, targets)
    residual = inputs @ best - targets
    force = inputs.T @ (residual * xp.sum(inputs**2, axis=1)) / n
    return -(learning_rate / 2) * share * xp.linalg.solve(hessian, force[:, None])[:, 0]


def reshuffled_minimum(
    inputs: Float[Array, "n p"],
    targets: Float[Array, " n"],
    learning_rate: float,
    batch_size: int = 1,
) -> np.ndarray:
    r"""The exact mean of linear regression at rest under reshuffling, at the ends of epochs.

    A step of a batch is affine, and the mean over all orders of an epoch is a mean over the last
    batch of the mean over all orders of what came before: 2^n sets instead of n! orders.  Any
    rate, in numpy.  Raises ValueError as `reshuffled_shift`, for more than 14 examples, or a rate
    at which the mean runs away.
    """
    x, y = as_numpy(inputs).astype(float), as_numpy(targets).astype(float)
    n, p = x.shape
    _share(n, batch_size)
    _positive(learning_rate)
    if n > MOST:
        raise ValueError(f"all orders of {n} examples are too many: at most {MOST}")
    _least_squares(np, x, y)
    rows = np.concatenate([x, -y[:, None]], axis=1)
    epoch = _mean_of_orders(x[:, :, None] * rows[:, None, :], learning_rate, batch_size)
    pull, push = epoch[:p, :p], epoch[:p, p]
    if max(abs(np.linalg.eigvals(pull))) >= 1:
        raise ValueError(f"at rate {learning_rate:.3g} the mean of reshuffled regression runs away")
    return np.linalg.solve(np.eye(p) - pull, push)


def _mean_of_orders(gradients, learning_rate, batch_size):
    """Mean map of (theta, 1) over an epoch, from what each example's gradient makes of it."""
    n, p, q = gradients.shape
    means: dict[tuple[int, ...], np.ndarray] = {(): np.eye(q)}
    for size in range(batch_size, n + 1, batch_size):
        for drawn in combinations(range(n), size):
            maps = []
            for last in combinations(drawn, batch_size):
                step = np.eye(q)
                step[:p] -= learning_rate * gradients[list(last)].mean(axis=0)
                maps.append(step @ means[tuple(i for i in drawn if i not in last)])
            means[drawn] = np.mean(maps, axis=0)
    whole = n - n % batch_size
    return np.mean([means[drawn] for drawn in combinations(range(n), whole)], axis=0)


def _least_squares(xp, inputs, targets):
    """Hessian and minimum of linear regression."""
    n = inputs.shape[0]
    hessian = inputs.T @ inputs / n
    h = xp.linalg.eigvalsh(hessian)
    if float(xp.min(h)) <= FLAT * float(xp.max(h)):
        raise ValueError("the inputs do not span all parameters: least squares has no one minimum")
    return hessian, xp.linalg.solve(hessian, (inputs.T @ targets / n)[:, None])[:, 0]


def _share(n, batch_size):
    """(m - 1) / (n - 1): the part of the covariance of an example that an epoch punishes."""
    if not 1 <= batch_size <= n:
        raise ValueError(f"batches of {batch_size} cannot be made of {n} examples")
    return (n // batch_size - 1) / max(n - 1, 1)


def _positive(learning_rate):
    if not learning_rate >= 0:
        raise ValueError(f"a learning rate cannot be {learning_rate}")
