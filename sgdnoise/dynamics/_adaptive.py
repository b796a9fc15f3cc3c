"""RMSprop and Adam, and their stochastic differential equations."""

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, namespace
from sgdnoise.core._checks import check_below_one, check_non_negative, check_positive
from sgdnoise.dynamics._process import Process, scheduled
from sgdnoise.dynamics._sgd import Rate, decayed
from sgdnoise.noise._models import Noise


@checked
def rmsprop(
    noise: Noise,
    learning_rate: Rate,
    beta: float = 0.99,
    *,
    eps: float = 1e-8,
    weight_decay: float | Array = 0.0,
    decoupled: bool = False,
) -> Process:
    """RMSprop: v <- beta v + (1 - beta) g^2, theta <- theta - learning_rate g / (v^1/2 + eps).

    All operations are entry by entry.  It equals torch.optim.RMSprop with alpha = beta (Tieleman &
    Hinton, 2012).  Since v starts at zero, the first steps are long: learning_rate / (1 - beta)^1/2
    in each entry.
    Raises ValueError unless learning_rate, eps > 0, 0 <= beta < 1 and weight_decay >= 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import simulate
        >>> process = rmsprop(noise.minibatch(problem, 1), 0.01)
        >>> simulate(process, 0, jnp.zeros((4, 1)), steps=20, every=20).theta.shape
        (4, 1, 1)
    """
    _check(learning_rate, eps, weight_decay, beta)

    def move(state, drawn, learning_rate, _):
        theta, square = state
        gradient = noise.gradient(theta, drawn)
        theta, gradient = decayed(theta, gradient, learning_rate, weight_decay, decoupled)
        square = beta * square + (1 - beta) * gradient**2
        return theta - learning_rate * gradient / (_root(square) + eps), square

    return scheduled(move, noise.draw, learning_rate, memory=1)


@checked
def adam(
    noise: Noise,
    learning_rate: Rate,
    betas: tuple[float, float] = (0.9, 0.999),
    *,
    eps: float = 1e-8,
    weight_decay: float | Array = 0.0,
    decoupled: bool = False,
) -> Process:
    """Adam: theta <- theta - learning_rate M / (V^1/2 + eps), entry by entry.

    M = m / (1 - beta_1^t) and V = v / (1 - beta_2^t), with m <- beta_1 m + (1 - beta_1) g and
    v <- beta_2 v + (1 - beta_2) g^2 from zero, t = 1, 2, ...  It equals torch.optim.Adam (Kingma &
    Ba, 2015).  weight_decay adds weight_decay theta to g, or shrinks theta if `decoupled`.
    Raises ValueError unless learning_rate, eps > 0, 0 <= betas < 1 and weight_decay >= 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import simulate
        >>> process = adam(noise.minibatch(problem, 1), 0.01)
        >>> simulate(process, 0, jnp.zeros((4, 1)), steps=20, every=20).theta.shape
        (4, 1, 1)
    """
    _check(learning_rate, eps, weight_decay, *betas)
    mean_factor, square_factor = betas

    def move(state, drawn, learning_rate, k):
        theta, mean, square = state
        gradient = noise.gradient(theta, drawn)
        theta, gradient = decayed(theta, gradient, learning_rate, weight_decay, decoupled)
        mean = mean_factor * mean + (1 - mean_factor) * gradient
        square = square_factor * square + (1 - square_factor) * gradient**2
        scale = _root(square) / (1 - square_factor ** (k + 1)) ** 0.5 + eps
        return theta - learning_rate / (1 - mean_factor ** (k + 1)) * mean / scale, mean, square

    return scheduled(move, noise.draw, learning_rate, memory=2, counted=True)


@checked
def adamw(
    noise: Noise,
    learning_rate: Rate,
    betas: tuple[float, float] = (0.9, 0.999),
    *,
    eps: float = 1e-8,
    weight_decay: float | Array = 1e-2,
) -> Process:
    """Adam with decoupled weight decay, as torch.optim.AdamW (Loshchilov & Hutter, 2019).

    Raises ValueError as `adam`.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import simulate
        >>> process = adamw(noise.minibatch(problem, 1), 0.01, weight_decay=0.1)
        >>> simulate(process, 0, jnp.zeros((4, 1)), steps=20, every=20).theta.shape
        (4, 1, 1)
    """
    return adam(noise, learning_rate, betas, eps=eps, weight_decay=weight_decay, decoupled=True)


@checked
def rmsprop_langevin(
    noise: Noise,
    learning_rate: float | Array,
    beta: float = 0.99,
    *,
    eps: float = 1e-8,
    dt: float | Array | None = None,
) -> Process:
    """The stochastic differential equation of RMSprop, by Euler's steps (Malladi et al., 2022).

    d theta = -(v^{1/2} + eps)^{-1} (grad L dt + sqrt(learning_rate C) dW), dv = a (diag C - v) dt,
    with a = (1 - beta) / learning_rate, the covariance C(theta) of the noise, and v = diag C at
    first.  In their notation v = s^2 u and time is learning_rate t; as the learning rate tends to
    zero, learning_rate s, learning_rate eps and (1 - beta) / learning_rate^2 are fixed, so that the
    noise outweighs the gradient, whose square is left out of v.  With dt = learning_rate, the
    default, a step is one of RMSprop.
    Raises ValueError unless learning_rate, dt, eps > 0 and 0 <= beta < 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import simulate
        >>> process = rmsprop_langevin(noise.minibatch(problem, 1), 0.01)
        >>> simulate(process, 0, jnp.zeros((4, 1)), steps=20, every=20).theta.shape
        (4, 1, 1)
    """
    dt = learning_rate if dt is None else dt
    _check(learning_rate, eps, 0.0, beta)
    check_positive(dt=dt)

    def variances(theta):
        return noise.covariance(theta).diagonal()

    def step(state, white):
        theta, square = state
        square = square + dt / learning_rate * (1 - beta) * (variances(theta) - square)
        force = noise.gaussian_gradient(theta, (learning_rate / dt) ** 0.5 * white)
        return theta - dt * force / (_root(square) + eps), square

    return Process(step, noise.normal, dt, lambda t: (t, variances(t)), lambda state: state[0])


@checked
def adam_langevin(
    noise: Noise,
    learning_rate: float | Array,
    betas: tuple[float, float] = (0.9, 0.999),
    *,
    eps: float = 1e-8,
    dt: float | Array | None = None,
) -> Process:
    """The stochastic differential equation of Adam, by Euler's steps (Malladi et al., 2022).

    d theta = -(g_2^{1/2} / g_1) (v^{1/2} + eps g_2^{1/2})^{-1} m dt,
    dm = a_1 (grad L - m) dt + a_1 sqrt(learning_rate C) dW, dv = a_2 (diag C - v) dt, with
    a_i = (1 - beta_i) / learning_rate and g_i(t) = 1 - exp(-a_i t); m = v = 0 at first.  The limit
    is that of `rmsprop_langevin`, for both betas.  A step moves m and v first and uses g at its
    end, since the drift of theta at t = 0 is 0 / 0.  With dt = learning_rate, the default, a step
    is one of Adam.
    Raises ValueError unless learning_rate, dt, eps > 0 and 0 <= betas < 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import simulate
        >>> process = adam_langevin(noise.minibatch(problem, 1), 0.01)
        >>> simulate(process, 0, jnp.zeros((4, 1)), steps=20, every=20).theta.shape
        (4, 1, 1)
    """
    dt = learning_rate if dt is None else dt
    _check(learning_rate, eps, 0.0, *betas)
    check_positive(dt=dt)
    mean_factor, square_factor = (dt / learning_rate * (1 - beta) for beta in betas)

    def move(state, white, dt, k):
        theta, mean, square = state
        mean = mean + mean_factor * (
            noise.gaussian_gradient(theta, (learning_rate / dt) ** 0.5 * white) - mean
        )
        square = square + square_factor * (noise.covariance(theta).diagonal() - square)
        xp = namespace(theta)
        age = xp.ones_like(theta[:1]) * (k + 1)
        first, second = -xp.expm1(-mean_factor * age), -xp.expm1(-square_factor * age)
        scale = _root(square / second) + eps
        return theta - dt * mean / first / scale, mean, square

    return scheduled(move, noise.normal, dt, memory=2, counted=True)


def _root(values):
    return namespace(values).sqrt(values)


def _check(learning_rate, eps, weight_decay, *betas):
    check_positive(learning_rate=learning_rate)
    check_positive(eps=eps)
    check_non_negative(weight_decay=weight_decay)
    for beta in betas:
        check_below_one(beta=beta)
