"""The loss that noisy SGD minimises on average.

Known: the added kappa Tr H (Blanc et al., 2020) and its form -(2 / rate) Tr log(1 - rate H / 2) at
finite rates (Damian, Ma & Lee, 2021), and the losses of Barrett & Dherin (2021) and Smith, Dherin,
Barrett & De (2021).  Where sampling destabilises SGD at a curvature of batches, rather than of the
mean loss, is studied by Andreyev & Beneventano (2024); here u < 1 is that border for label noise.
New here, as far as we know: the amplification u, the excess loss, and exact reshuffled minima.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np
from jaxtyping import Float

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, as_numpy, namespace
from sgdnoise.core._checks import check_non_negative
from sgdnoise.core._problem import Problem

MAX_EXAMPLES = 14  # their 2^n subsets are still few
FLAT = 1e-12  # curvature, relative to the largest, below which rounding determines the minimum


@checked
def label_noise_strength(learning_rate, label_noise, batch_size):
    r"""The kappa in L + kappa Tr H, the loss that SGD with label noise minimises.

    kappa = rate label_noise^2 / (4 B), near zero residual, for losses with the factor 1/2: theta
    has the covariance (rate label_noise^2 / 2 B) I, whose mean force is -(1/2) grad Tr(H S).
    It holds for rate lambda_max << 1 and small `residual_amplification`.
    Blanc et al. (2020), Damian, Ma & Lee (2021), Li, Wang & Arora (2022).

    Example:
        >>> label_noise_strength(0.1, 2.0, batch_size=4)
        0.025
    """
    return learning_rate * label_noise**2 / (4 * batch_size)


@checked
def residual_amplification(learning_rate, trace, batch_size, outputs):
    r"""The fraction u of the noise that comes from sampling the residuals it makes itself.

    u = rate Tr H / (2 B outputs), to first order in rate and for equal residuals in all
    outputs: label_noise^2 acts as label_noise^2 / (1 - u).  If one curvature dominates Tr H the
    correction grows, up to twice in one dimension.  `label_noise_strength` requires u << 1:
    in linear networks it is right to 5% for u <= 0.12.

    Example:
        >>> round(residual_amplification(0.1, 8.0, 4, 2), 3)
        0.05
    """
    return learning_rate * trace / (2 * batch_size * outputs)


@checked
def label_noise_potential(curvatures, learning_rate, label_noise, batch_size):
    r"""The loss that label noise adds at finite rates: -(2 kappa / rate) Tr log(1 - rate H / 2).

    curvatures: (..., m), the eigenvalues of H.  It is kappa Tr H for small rate lambda.  Its
    gradient is the mean force (1/2) grad Tr(H S) with the covariance S of discrete steps (Damian,
    Ma & Lee, 2021).  It leaves out the amplification u.  Raises ValueError unless rate lambda < 2.

    Example:
        >>> import numpy as np
        >>> round(float(label_noise_potential(np.asarray([1.0, 2.0]), 0.1, 2.0, 4)), 4)
        0.0783
    """
    _check_stable(curvatures, learning_rate)
    xp, kappa = namespace(curvatures), label_noise_strength(learning_rate, label_noise, batch_size)
    return -2 * kappa / learning_rate * xp.sum(xp.log(1 - learning_rate / 2 * curvatures), axis=-1)


@checked
def label_noise_excess(curvatures, learning_rate, label_noise, batch_size):
    r"""The excess E L - L at rest under label noise: kappa Tr[H (1 - rate H / 2)^-1].

    curvatures: (..., m), the eigenvalues of H, of a quadratic loss.  For small rates it is the
    number kappa Tr H that is also added to the loss; at finite rates it is larger than the
    `label_noise_potential`.  It leaves out the amplification u.  Raises ValueError unless
    rate lambda < 2.

    Example:
        >>> import numpy as np
        >>> round(float(label_noise_excess(np.asarray([1.0, 2.0]), 0.1, 2.0, 4)), 4)
        0.0819
    """
    _check_stable(curvatures, learning_rate)
    xp, kappa = namespace(curvatures), label_noise_strength(learning_rate, label_noise, batch_size)
    return kappa * xp.sum(curvatures / (1 - learning_rate / 2 * curvatures), axis=-1)


@checked
def excess_over_trace(amplification: float, sharpness: float) -> tuple[float, float]:
    r"""E L - L over kappa Tr H, where only u and rate lambda_max are known, and its own error.

    It is 1 / (1 - u), for curvatures far below the largest and many of them.  The error reaches to
    1 / ((1 - 2 u) (1 - rate lambda_max / 2)), where one curvature is all there is: see
    `residual_amplification` and `label_noise_excess`.  Raises ValueError unless 0 <= u < 1/2 and
    0 <= rate lambda_max < 2.

    Example:
        >>> [round(number, 3) for number in excess_over_trace(0.02, 0.1)]
        [1.02, 0.076]
    """
    if not (0 <= amplification < 0.5 and 0 <= sharpness < 2):
        raise ValueError(
            f"the excess loss is known for 0 <= u < 1/2 and 0 <= rate lambda < 2, not for "
            f"{amplification:.3g} and {sharpness:.3g}"
        )
    predicted = 1 / (1 - amplification)
    return predicted, 1 / ((1 - 2 * amplification) * (1 - sharpness / 2)) - predicted


@checked
def sgd_loss(problem: Problem, learning_rate: float) -> Callable[[Array], Array]:
    r"""The modified loss L + rate / 4 |grad L|^2 of gradient descent and SGD.

    Its gradient flow is gradient descent to second order per step (Barrett & Dherin, 2021), and the
    mean of minibatches drawn WITH replacement: the mean of m steps is theta - m rate grad L +
    rate^2 m (m - 1) / 2 H grad L + O(rate^3), as without noise, because the gradients of two steps
    are independent, and no Tr C appears.  Over times of order 1 / rate the covariance S that noise
    builds up adds -(1/2) grad Tr(H S), of first order in rate, to the mean force: that belongs to
    the stochastic equation, not to this loss.  Raises ValueError for a negative rate.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[1.0], [3.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> round(float(sgd_loss(problem, 0.4)(jnp.zeros(1))), 3)  # L + rate / 4 |g|^2 = 2.5 + 0.4
        2.9
    """
    check_non_negative(learning_rate=learning_rate)

    def loss(theta):
        gradient = problem.gradient(theta)
        return problem.value(theta) + learning_rate / 4 * (gradient @ gradient)

    return loss


@checked
def reshuffled_loss(
    problem: Problem, learning_rate: float, batch_size: int
) -> Callable[[Array], Array]:
    r"""The modified loss L + rate / 4 (|grad L|^2 + (m - 1) / (n - 1) Tr C) of reshuffled epochs.

    C is the covariance of the gradients of the n examples (over n), and an epoch has m = n // B
    steps.  If B divides n it is L + rate / (4 m) sum_k |grad L_k|^2, averaged over the ways
    to make batches (Smith, Dherin, Barrett & De, 2021): the mean over all orders of an epoch is
    its gradient flow over a time m rate, to second order in m rate.  The trace comes from batches
    that are not drawn twice in an epoch; it is absent with replacement, see `sgd_loss`.
    It holds all n gradients in memory.  Raises ValueError for a negative rate, or batch_size not
    in 1 to n.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[1.0], [3.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> loss = reshuffled_loss(problem, 0.4, 1)
        >>> round(float(loss(jnp.asarray([2.0]))), 3)  # L + rate / 4 Tr C = 0.5 + 0.1
        0.6
    """
    n = len(problem)
    weight = _trace_weight(n, batch_size)
    check_non_negative(learning_rate=learning_rate)

    def loss(theta):
        gradients = problem.gradients(theta)
        xp = namespace(gradients)
        mean = xp.mean(gradients, axis=0)
        trace = xp.sum((gradients - mean) ** 2) / n
        return problem.value(theta) + learning_rate / 4 * (mean @ mean + weight * trace)

    return loss


@checked
def gradient_flow(
    gradient, theta: Float[Array, " p"], time: float, steps: int = 16
) -> Float[Array, " p"]:
    r"""The solution of d theta / dt = -gradient(theta) after a time, by Runge-Kutta of order 4.

    It can be differentiated, in any array library.  With gradient = that of `sgd_loss` and
    time = rate it is a step of gradient descent up to rate^3.  The error of the integrator is of
    order time^5 / steps^4.  Raises ValueError for fewer than one step.

    Example:
        >>> import numpy as np
        >>> gradient_flow(lambda theta: theta, np.ones(1), 1.0).round(5).tolist()
        [0.36788]
    """
    if steps < 1:
        raise ValueError(f"a flow needs at least one step, not {steps}")
    h = time / steps
    for _ in range(steps):
        k1 = gradient(theta)
        k2 = gradient(theta - h / 2 * k1)
        k3 = gradient(theta - h / 2 * k2)
        k4 = gradient(theta - h * k3)
        theta = theta - h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return theta


@checked
def reshuffled_shift(
    inputs: Float[Array, "n p"],
    targets: Float[Array, " n"],
    learning_rate: float,
    batch_size: int = 1,
) -> Float[Array, " p"]:
    r"""The shift of the mean of linear regression from least squares under reshuffling.

    To first order in rate it is -(rate / 2) (m - 1) / (n - 1) A^-1 mean_i r_i |x_i|^2 x_i, with
    r = X theta - y at least squares, A = X^T X / n and m = n // B steps per epoch: the minimum of
    `reshuffled_loss` for losses r^2 / 2, at the ends of epochs.  Steps drawn with replacement have
    no shift.  `reshuffled_minimum` is exact.
    Raises ValueError for a negative rate, batch_size not in 1 to n, or singular A.

    Example:
        >>> import numpy as np
        >>> inputs = np.random.default_rng(0).normal(size=(6, 2))
        >>> targets = inputs @ np.asarray([1.0, -1.0]) + 0.1
        >>> reshuffled_shift(inputs, targets, 0.05, 2).shape
        (2,)
    """
    xp, n = namespace(inputs, targets), inputs.shape[0]
    weight = _trace_weight(n, batch_size)
    check_non_negative(learning_rate=learning_rate)
    hessian, minimum = _least_squares(xp, inputs, targets)
    residual = inputs @ minimum - targets
    force = inputs.T @ (residual * xp.sum(inputs**2, axis=1)) / n
    return -(learning_rate / 2) * weight * xp.linalg.solve(hessian, force[:, None])[:, 0]


@checked
def reshuffled_minimum(
    inputs: Float[Array, "n p"],
    targets: Float[Array, " n"],
    learning_rate: float,
    batch_size: int = 1,
) -> np.ndarray:
    r"""The exact stationary mean of linear regression under reshuffling, at the ends of epochs.

    A step of a batch is affine, and the mean over all orders of an epoch is a mean over the last
    batch of the mean over all orders of the batches before it: 2^n sets instead of n! orders.  Any
    rate, in numpy.  Raises ValueError as `reshuffled_shift`, for more than 14 examples, or a rate
    at which the mean diverges.

    Example:
        >>> import numpy as np
        >>> inputs = np.random.default_rng(0).normal(size=(6, 2))
        >>> targets = inputs @ np.asarray([1.0, -1.0]) + 0.1
        >>> reshuffled_minimum(inputs, targets, 0.05, 2).shape
        (2,)
    """
    x, y = as_numpy(inputs).astype(float), as_numpy(targets).astype(float)
    n, p = x.shape
    _trace_weight(n, batch_size)
    check_non_negative(learning_rate=learning_rate)
    if n > MAX_EXAMPLES:
        raise ValueError(f"all orders of {n} examples are too many: at most {MAX_EXAMPLES}")
    _least_squares(np, x, y)
    rows = np.concatenate([x, -y[:, None]], axis=1)
    epoch = _mean_of_orders(x[:, :, None] * rows[:, None, :], learning_rate, batch_size)
    contraction, shift = epoch[:p, :p], epoch[:p, p]
    if max(abs(np.linalg.eigvals(contraction))) >= 1:
        raise ValueError(f"at rate {learning_rate:.3g} the mean of reshuffled regression diverges")
    return np.linalg.solve(np.eye(p) - contraction, shift)


def _mean_of_orders(gradients, learning_rate, batch_size):
    """Mean map of (theta, 1) over an epoch, from the affine gradients (n, p, q) of the examples."""
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
    used = n - n % batch_size  # examples of an epoch
    return np.mean([means[drawn] for drawn in combinations(range(n), used)], axis=0)


def _least_squares(xp, inputs, targets):
    """Hessian and minimum of linear regression."""
    n = inputs.shape[0]
    hessian = inputs.T @ inputs / n
    h = xp.linalg.eigvalsh(hessian)
    if float(xp.min(h)) <= FLAT * float(xp.max(h)):
        raise ValueError(
            "the inputs do not span all parameters: least squares has no unique minimum"
        )
    return hessian, xp.linalg.solve(hessian, (inputs.T @ targets / n)[:, None])[:, 0]


def _check_stable(curvatures, learning_rate):
    largest = float(namespace(curvatures).max(curvatures))
    if learning_rate * largest >= 2:
        raise ValueError(
            f"the learning rate {learning_rate:.3g} is not stable at a curvature of {largest:.3g}"
        )


def _trace_weight(n, batch_size):
    """(m - 1) / (n - 1), the weight of the covariance of an example in the loss of an epoch."""
    if not 1 <= batch_size <= n:
        raise ValueError(f"batches of {batch_size} cannot be made of {n} examples")
    return (n // batch_size - 1) / max(n - 1, 1)
