"""Models of gradient noise: what a step draws, the noisy gradient, and its covariance."""

from collections.abc import Callable
from typing import Any, NamedTuple

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, namespace
from sgdnoise.core._covariance import Gram
from sgdnoise.core._operators import Covariance, Diagonal, Factor, Isotropic
from sgdnoise.core._problem import Problem
from sgdnoise.core._scalars import described
from sgdnoise.noise._draws import Normal, Sampled, n_parameters
from sgdnoise.noise._weights import (
    Weights,
    gaussian_weights,
    spread_rows,
    with_replacement,
    without_replacement,
)


class Noise(NamedTuple):
    """An unbiased noisy gradient of a problem.

    draw: the random numbers of one step, as in `noise.Normal` and its like.
    gradient: (theta, drawn) -> (p,), the noisy gradient from what was drawn.
    normal: the standard normal numbers of `gaussian_gradient`.
    gaussian_gradient: (theta, white) -> (p,), a Gaussian gradient of the same mean and covariance.
    It is linear in the normal numbers `white` and costs one backward pass.
    covariance: theta -> Covariance of either gradient.  It is computed when it is called; the
    steps of a simulation do not need it.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.core import Problem
        >>> from sgdnoise.noise import minibatch
        >>> x = jnp.asarray([[1.0], [3.0]])
        >>> noise = minibatch(Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,)), 2)
        >>> noise.gradient(jnp.zeros(1), jnp.asarray([0, 1])).tolist()  # of both examples
        [-2.0]
        >>> isinstance(noise, Noise), float(noise.covariance(jnp.zeros(1)).trace())
        (True, 0.5)
    """

    problem: Problem
    draw: Any
    gradient: Callable[[Any, Any], Any]
    normal: Normal
    gaussian_gradient: Callable[[Any, Any], Any]
    covariance: Callable[[Any], Covariance]


@checked
def full_batch(problem: Problem) -> Noise:
    """The gradient of the mean loss, without noise: C = 0, and nothing is drawn.

    Example:
        >>> import numpy as np
        >>> import jax.numpy as jnp
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0], [3.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> float(full_batch(problem).covariance(jnp.zeros(1)).trace())
        0.0
    """

    def gradient(theta, drawn):  # noqa: ARG001 - nothing is drawn
        return problem.gradient(theta)

    return Noise(problem, (), gradient, Normal(0), gradient, lambda theta: Factor(theta[None][:0]))


@checked
def from_weights(problem: Problem, law: Weights) -> Noise:
    """The noise of weighting the examples by a law: C = G^T Cov(w) G.

    G (n, p) holds the gradients of the examples.
    Raises ValueError for a law of another number of examples.

    Example:
        >>> import numpy as np
        >>> import jax.numpy as jnp
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0], [3.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.noise import bernoulli
        >>> noise = from_weights(problem, bernoulli(3, 2))
        >>> float(noise.covariance(jnp.zeros(1)).trace()) > 0
        True
    """
    if law.n != len(problem):
        raise ValueError(f"a law for {law.n} examples cannot weigh the {len(problem)} of a problem")
    normal = gaussian_weights(law)

    def gradient(theta, drawn):
        return weighted_gradient(problem, theta, *law.weights_of(drawn, theta.dtype))

    def gaussian_gradient(theta, white):
        return weighted_gradient(problem, theta, *normal.weights_of(white, theta.dtype))

    def covariance(theta):
        if problem.rows is not None and law.factor is None:
            rows = problem.rows(theta, *problem.examples)
            return Gram(rows, law.var_within, law.var_mean)
        return Factor(spread_rows(problem.gradients(theta), law))

    return Noise(problem, law.draw, gradient, normal.draw, gaussian_gradient, covariance)


@checked
def minibatch(problem: Problem, batch_size: int, replacement: bool = True) -> Noise:
    """The noise of minibatches: covariance f C / batch_size.

    C is the covariance of the gradient of one example over the data.  f is 1 with replacement and
    (n - batch_size) / (n - 1) without.
    Raises ValueError for a batch_size below 1, or above n without replacement.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.asarray([[1.0], [3.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> float(minibatch(problem, 2).covariance(jnp.zeros(1)).trace())
        0.5
    """
    law = with_replacement if replacement else without_replacement
    return from_weights(problem, law(len(problem), batch_size))


@checked
def gaussian(noise: Noise) -> Noise:
    """The same noise made Gaussian, with the same mean and covariance at each theta.

    Example:
        >>> import numpy as np
        >>> import jax.numpy as jnp
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0], [3.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.noise import minibatch
        >>> exact, normal = minibatch(problem, 2), gaussian(minibatch(problem, 2))
        >>> float(exact.covariance(jnp.zeros(1)).trace() / normal.covariance(jnp.zeros(1)).trace())
        1.0
    """
    return noise._replace(draw=noise.normal, gradient=noise.gaussian_gradient)


@checked
def non_gaussian(noise: Noise, sample: Callable) -> Noise:
    """The same noise from numbers of another law than the normal one.

    The gradient is linear in independent numbers, `noise.gaussian_gradient`, so that mean and
    covariance stay those of `noise` if the numbers have mean 0 and variance 1.
    sample: (key, shape, dtype) -> numbers of jax, or (generator, shape, dtype) -> numbers of torch.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from sgdnoise.core import Problem
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (jnp.eye(3),))
        >>> def student(key, shape, dtype):  # of 5 degrees of freedom, with variance 1
        ...     return (3 / 5) ** 0.5 * jax.random.t(key, 5.0, shape, dtype)
        >>> heavy = non_gaussian(minibatch(problem, 2), student)
        >>> type(heavy.draw).__name__
        'Sampled'
    """
    draw = Sampled(noise.normal.size, sample)
    return noise._replace(draw=draw, gradient=noise.gaussian_gradient)


@checked
def clipped(noise: Noise, norm) -> Noise:
    """The same noise with gradients shortened to a norm at most: g min(1, norm / |g|).

    Such a gradient is biased: its mean is not the gradient of the loss.  It has no Gaussian twin
    and no covariance here, and equations that need these raise ValueError; `sgd` runs.
    Raises ValueError unless norm > 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.core import Problem
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (jnp.eye(3),))
        >>> short = clipped(full_batch(problem), 0.1)
        >>> round(float(jnp.linalg.norm(short.gradient(jnp.ones(3), ()))), 3)
        0.1
    """
    if isinstance(norm, bool) or not isinstance(norm, (int, float)) or not norm > 0:
        raise ValueError(f"norm must be a positive number, not {described(norm)}")

    def gradient(theta, drawn):
        value = noise.gradient(theta, drawn)
        xp = namespace(value)
        length = xp.linalg.vector_norm(value)
        return value * xp.where(length > norm, norm / xp.where(length > 0, length, 1.0), 1.0)

    def refused(*_):
        raise ValueError("clipped gradients are biased: they have no Gaussian twin, no covariance")

    return noise._replace(gradient=gradient, gaussian_gradient=refused, covariance=refused)


@checked
def additive(problem: Problem, covariance: Callable[[Any], Covariance]) -> Noise:
    """The full gradient plus Gaussian noise whose covariance is a function of theta.

    covariance: theta (p,) -> Covariance, of the units of a squared gradient.  The product of each
    step with the learning rate is made by the process, not here.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.core import Diagonal, Problem
        >>> x = jnp.asarray([[1.0], [3.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> noise = additive(problem, lambda theta: Diagonal(1 + theta**2))
        >>> float(noise.covariance(jnp.asarray([2.0])).trace())
        5.0
    """
    return _additive(problem, covariance, lambda theta: covariance(theta).width)


@checked
def isotropic(problem: Problem, variance: float | Array) -> Noise:
    """The full gradient plus Gaussian noise of the same variance in every direction.

    A Langevin equation of temperature T has the variance 2 T / learning_rate.
    Raises ValueError for a negative variance.

    Example:
        >>> import numpy as np
        >>> import jax.numpy as jnp
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0], [3.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> float(isotropic(problem, 0.5).covariance(jnp.zeros(1)).trace())
        0.5
    """
    if isinstance(variance, (int, float)) and variance < 0:
        raise ValueError(f"a variance cannot be negative, like {variance}")

    def covariance(theta):
        return Isotropic(namespace(theta).full_like(theta[0], variance), theta.shape[0])

    return _additive(problem, covariance, problem.size or n_parameters)


@checked
def same_trace(noise: Noise) -> Noise:
    """Isotropic Gaussian noise whose covariance has the trace of that of `noise` at each theta.

    C' = Tr(C) / p * identity: noise of the same total variance without preferred directions.

    Example:
        >>> import numpy as np
        >>> import jax.numpy as jnp
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0], [3.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.noise import minibatch
        >>> round(float(same_trace(minibatch(problem, 2)).covariance(jnp.zeros(1)).trace()), 3)
        1.333
    """

    def covariance(theta):
        p = theta.shape[0]
        return Isotropic(noise.covariance(theta).trace() / p, p)

    return _additive(noise.problem, covariance, noise.problem.size or n_parameters)


@checked
def same_diagonal(noise: Noise) -> Noise:
    """Independent Gaussian noise in each parameter, with the variances of `noise` at each theta.

    C' = diag(C): the same variance of every parameter, without their correlations.

    Example:
        >>> import numpy as np
        >>> import jax.numpy as jnp
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0], [3.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.noise import minibatch
        >>> round(float(same_diagonal(minibatch(problem, 2)).covariance(jnp.zeros(1)).trace()), 3)
        1.333
    """

    def covariance(theta):
        return Diagonal(noise.covariance(theta).diagonal())

    return _additive(noise.problem, covariance, noise.problem.size or n_parameters)


def weighted_gradient(problem: Problem, theta, index, weights):
    """The gradient of sum_i w_i l_i over the examples at `index`, or over all if it is None."""
    subset = problem if index is None else problem.subset(index)
    return subset.weighted_gradient(theta, weights)


def _additive(problem, covariance, size):
    def gradient(theta, white):
        return problem.gradient(theta) + covariance(theta).colour(white)

    return Noise(problem, Normal(size), gradient, Normal(size), gradient, covariance)
