"""Descent as a stochastic differential equation."""

from sgdnoise.arrays import Array
from sgdnoise.dynamics.process import Process
from sgdnoise.noise.models import Noise

__all__ = ["langevin"]


def langevin(noise: Noise, rate: float | Array, dt: float | Array | None = None) -> Process:
    r"""Euler-Maruyama for d theta = -grad L dt + sqrt(rate C(theta)) dW, Ito (Li, Tai & E, 2017).

    C is the covariance of the noise; drift and kick come from one backward pass.  With dt = rate,
    the default, a step has the mean and covariance of a step of descent.
    Raises ValueError unless rate > 0 and dt > 0.
    """
    dt = rate if dt is None else dt
    if any(isinstance(x, (int, float)) and not x > 0 for x in (rate, dt)):
        raise ValueError(f"rate and dt must be positive, not {rate} and {dt}")

    def step(theta, white):
        return theta - dt * noise.twin(theta, (rate / dt) ** 0.5 * white)

    return Process(step, noise.white, dt)
