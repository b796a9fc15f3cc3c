"""Descent along noisy gradients."""

from sgdnoise.arrays import Array
from sgdnoise.dynamics.process import Process
from sgdnoise.noise.models import Noise

__all__ = ["descent"]


def descent(noise: Noise, rate: float | Array) -> Process:
    """theta <- theta - rate g(theta), g the noisy gradient: SGD for minibatch noise.

    Time advances by `rate` a step.  Raises ValueError unless rate > 0.
    """
    if isinstance(rate, (int, float)) and not rate > 0:
        raise ValueError(f"the learning rate must be positive, not {rate}")

    def step(theta, drawn):
        return theta - rate * noise.gradient(theta, drawn)

    return Process(step, noise.draw, rate)
