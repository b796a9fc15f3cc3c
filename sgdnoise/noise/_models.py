"""Models of gradient noise: what a step draws, the noisy gradient, and its covariance."""

from collections.abc import Callable
from typing import Any, NamedTuple

from sgdnoise.core._arrays import Array, namespace
from sgdnoise.core._covariance import Covariance, Diagonal, Factor, Gram, Isotropic
from sgdnoise.core._problem import Problem
from sgdnoise.noise._draws import Normal
from sgdnoise.noise._weights import Weights, gaussian_weights, with_replacement, without_replacement


class Noise(NamedTuple):
    """An unbiased, noisy gradient of a problem.

    gradient: (theta, drawn) -> (p,), with `drawn` as `draw` asks.
    twin: (theta, white) -> (p,), the Gaussian gradient of the same mean and covariance, linear in
    the `white` standard normal numbers; it costs one backward pass.
    covariance: theta -> Covariance of either; made when asked for, steps do not need it.
    """

    problem: Problem
    draw: Any
    gradient: Callable[[Any, Any], Any]
    white: Normal
    twin: Callable[[Any, Any], Any]
    covariance: Callable[[Any], Covariance]


def full_batch(problem: Problem) -> Noise:
    """No noise: the gradient of the mean loss."""

    def gradient(theta, drawn):  # noqa: ARG001 - nothing is drawn
        return problem.gradient(theta)

    return Noise(problem, (), gradient, Normal(0), gradient, lambda theta: Factor(theta[None][:0]))


def from_weights(problem: Problem, law: Weights) -> Noise:
    """The noise of weighing the examples by a law: Cov = G^T Cov(w) G.

    Raises ValueError for a law of another number of examples.
    """
    if law.n != len(problem):
        raise ValueError(f"a law for {law.n} examples cannot weigh the {len(problem)} of a problem")
    normal = gaussian_weights(law)

    def gradient(theta, drawn):
        return _weighted(problem, theta, *law.pick(drawn, theta.dtype))

    def twin(theta, white):
        return _weighted(problem, theta, *normal.pick(white, theta.dtype))

    def covariance(theta):
        if problem.rows is not None:
            return Gram(problem.rows(theta, *problem.examples), law.own, law.shared)
        return Factor(_spread(problem.gradients(theta), law))

    return Noise(problem, law.draw, gradient, Normal(law.n), twin, covariance)


def minibatch(problem: Problem, batch_size: int, replacement: bool = True) -> Noise:
    """Minibatches: Cov = f C / batch, f = 1 or (n - batch) / (n - 1) without replacement.

    C is the covariance of one example's gradient over the data.  Raises ValueError for a batch
    below 1, or above n without replacement.
    """
    law = with_replacement if replacement else without_replacement
    return from_weights(problem, law(len(problem), batch_size))


def label_noise(problem: Problem, batch_size: int, label_noise: float | Array, law=None) -> Noise:
    """Minibatches whose targets get fresh Gaussian noise of deviation `label_noise` at each use.

    Cov = Cov(minibatch) + label_noise^2 / (n batch) sum_i J_i^T J_i, with J_i^T the derivative of
    grad l_i to target i (o, p), which is the Jacobian of the outputs for squared loss.  The
    twin and the covariance are exact where grad l_i is linear in the target, as there.
    law: a law of minibatches; with replacement unless told.
    Raises ValueError for negative label_noise, targets that are not real numbers, or a law that
    does not fix this batch.
    """
    law = with_replacement(len(problem), batch_size) if law is None else law
    targets = problem.examples[-1]
    _check_label(label_noise, targets, law, batch_size)
    width = targets[0].reshape(-1).shape[0]
    strength = label_noise / (law.n * law.batch_size) ** 0.5

    def gradient(theta, drawn):
        chosen, white = drawn
        picked, weights = law.pick(chosen, theta.dtype)
        shift = label_noise * white.reshape(law.batch_size, *targets.shape[1:])
        return _weighted(problem.only(picked).relabelled(shift), theta, None, weights)

    def twin(theta, white):
        _, weights = gaussian_weights(law).pick(white[: law.n], theta.dtype)
        shift = strength * white[law.n :].reshape(targets.shape)
        return problem.tilted(theta, weights, shift)

    def covariance(theta):
        examples = _spread(problem.gradients(theta), law)
        labels = strength * _label_slopes(problem, theta)
        return Factor(namespace(theta).concat([examples, labels]))

    draw = (law.draw, Normal(law.batch_size * width))
    return Noise(problem, draw, gradient, Normal(law.n * (1 + width)), twin, covariance)


def gaussian(noise: Noise) -> Noise:
    """The same noise made Gaussian: same mean, same covariance at each theta."""
    return noise._replace(draw=noise.white, gradient=noise.twin)


def additive(problem: Problem, at: Callable[[Any], Covariance], size: int) -> Noise:
    """The full gradient plus Gaussian noise of covariance `at(theta)`, from `size` numbers."""

    def gradient(theta, white):
        return problem.gradient(theta) + at(theta).colour(white)

    return Noise(problem, Normal(size), gradient, Normal(size), gradient, at)


def isotropic(problem: Problem, variance: float | Array, size: int) -> Noise:
    """Additive noise of the same variance in each of `size` directions.

    Langevin at temperature T has variance 2 T / rate.  Raises ValueError for negative variance.
    """
    if isinstance(variance, (int, float)) and variance < 0:
        raise ValueError(f"a variance cannot be negative, like {variance}")

    def at(theta):
        return Isotropic(namespace(theta).full_like(theta[0], variance), size)

    return additive(problem, at, size)


def same_trace(noise: Noise, size: int) -> Noise:
    """Isotropic noise which at each theta has the trace of another; `size` is p."""
    return additive(
        noise.problem, lambda theta: Isotropic(noise.covariance(theta).trace() / size, size), size
    )


def same_diagonal(noise: Noise, size: int) -> Noise:
    """Independent noise in each parameter with the variances of another; `size` is p."""
    return additive(noise.problem, lambda theta: Diagonal(noise.covariance(theta).diagonal()), size)


def _weighted(problem, theta, picked, weights):
    part = problem if picked is None else problem.only(picked)
    return part.weighted(theta, weights)


def _spread(gradients, law):
    """Rows whose Gram matrix is Cov(w) dressed with the gradients.  (n, p) -> (n, p)"""
    middle = namespace(gradients).mean(gradients, axis=0)
    return law.own**0.5 * (gradients - middle) + law.shared**0.5 * middle


def _label_slopes(problem, theta):
    """Derivatives of each example's gradient to each number of its target.  (n o, p)"""
    *inputs, targets = problem.examples
    ft = problem.ft

    def slopes(target, *given):
        def gradient(y):
            return ft.grad(lambda t: problem.losses(t, *(x[None] for x in given), y[None])[0])(
                theta
            )

        return ft.jacfwd(gradient)(target).reshape(theta.shape[0], -1).T

    each = ft.vmap(slopes)(targets, *inputs)
    return each.reshape(-1, theta.shape[0])


def _check_label(label_noise, targets, law, batch_size):
    if isinstance(label_noise, (int, float)) and label_noise < 0:
        raise ValueError(f"label_noise is a standard deviation, it cannot be {label_noise}")
    if law.batch_size != batch_size:
        raise ValueError(
            f"label noise at a batch of {batch_size} needs a law of it, not of {law.batch}"
        )
    if not namespace(targets).isdtype(targets.dtype, "real floating"):
        raise ValueError(f"label noise needs real targets, not {targets.dtype}; use one-hot ones")
