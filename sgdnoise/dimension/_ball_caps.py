"""The fraction of a ball within a distance of one of its points."""

import numpy as np
from scipy.special import betainc


def shared_fraction(d, radius, distance):
    """The fraction of the unit d-ball within these distances, 1 - radius or more, of a point."""
    plane = (1 + radius**2 - distance**2) / (2 * radius)
    opposite = (radius**2 + distance**2 - 1) / (2 * radius * distance)
    return _cap(d, plane) + np.exp(np.minimum(d * np.log(distance), 700.0)) * _cap(d, opposite)


def _cap(d, height):
    """The fraction of the unit d-ball above a height."""
    half = betainc((d + 1) / 2, 0.5, np.clip(1 - height**2, 0, 1)) / 2
    return np.where(height > 0, half, 1 - half)
