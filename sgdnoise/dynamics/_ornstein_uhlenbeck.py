"""The Ornstein-Uhlenbeck process, sampled exactly for steps of any length."""

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, as_numpy, device, namespace
from sgdnoise.core._checks import check_positive
from sgdnoise.dynamics._process import Process
from sgdnoise.noise._draws import Normal
from sgdnoise.theory._transition import transition


@checked
def ornstein_uhlenbeck(drift: Array, diffusion: Array, dt: float) -> Process:
    """The Ornstein-Uhlenbeck process d theta = -A theta dt + D^{1/2} dW, sampled exactly.

    A is the drift and D the diffusion, both (p, p).  A step has the law of the equation for any dt
    (Gillespie, 1996).  SGD near a minimum has A = H and D = learning_rate C.  The matrices are
    computed once, in numpy.
    Raises ValueError unless dt > 0, all eigenvalues of A have positive real parts, and D is
    symmetric and positive semi-definite; both must be square and of one size.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import simulate
        >>> process = ornstein_uhlenbeck(jnp.eye(1), jnp.eye(1), 0.1)
        >>> simulate(process, 0, jnp.zeros((4, 1)), steps=20, every=20).theta.shape
        (4, 1, 1)
    """
    a, d = (np.asarray(as_numpy(x), float) for x in (drift, diffusion))
    check_positive(dt=dt)
    _check(a, d)
    decay, factor = transition(a, d, dt)
    values, vectors = np.linalg.eigh(factor)
    colour = vectors * np.sqrt(np.clip(values, 0, None))

    def step(theta, white):
        xp = namespace(theta)
        here = {"dtype": theta.dtype, "device": device(theta)}
        return xp.asarray(decay, **here) @ theta + xp.asarray(colour, **here) @ white

    return Process(step, Normal(len(a)), dt)


def _check(a, d):
    for name, matrix in (("drift", a), ("diffusion", d)):
        if matrix.ndim != 2 or len(set(matrix.shape)) != 1:
            raise ValueError(f"the {name} must be a square matrix, not of shape {matrix.shape}")
    if a.shape != d.shape:
        raise ValueError(f"a drift of shape {a.shape} has no diffusion of shape {d.shape}")
    slowest = float(np.min(np.linalg.eigvals(a).real))
    if not slowest > 0:
        raise ValueError(f"the drift has an eigenvalue of real part {slowest:.3g}, not positive")
    size = float(np.max(np.abs(d)))
    skew = float(np.max(np.abs(d - d.T)))
    if not skew <= 1e-8 * size:
        raise ValueError(f"the diffusion must be symmetric, its halves differ by {skew:.3g}")
    smallest = float(np.min(np.linalg.eigvalsh(d)))
    if not smallest >= -1e-8 * size:
        raise ValueError(f"a diffusion cannot have the negative eigenvalue {smallest:.3g}")
