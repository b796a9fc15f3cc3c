"""A ratio of two means that move in time, with exponential averages and an error."""

import math
from functools import partial

import numpy as np
from scipy.special import stdtrit

from sgdnoise.core._ratio import LEVEL, Ratio

FEWEST = 3  # pairs from which a ratio has an error


class MovingRatio:
    """The ratio of the exponential averages of pairs (x, y), with its error.

    horizon: the number of pairs over which the weight of a pair falls by a factor e.
    Numerator and denominator are averaged apart, since a mean of ratios would be biased.  Interval
    and error are those of Fieller (1954), with the variances and the covariance of the two weighted
    means, as if the pairs were independent.
    """

    def __init__(self, horizon: float | int):
        self.decay = math.exp(-1 / horizon)
        self.pairs = 0
        self.weights = np.zeros(3)  # sums of w (1, x, y)
        self.squares = np.zeros(6)  # sums of w^2 (1, x, y, x^2, xy, y^2)

    def add(self, x: float, y: float) -> None:
        """Add a pair; the weights of all pairs before it fall."""
        self.pairs += 1
        self.weights = self.decay * self.weights + [1, x, y]
        self.squares = self.decay**2 * self.squares + [1, x, y, x * x, x * y, y * y]

    def ratio(self) -> Ratio:
        """The ratio of the averages, which is not resolved for fewer than 3 pairs."""
        if self.pairs < FEWEST:
            return Ratio(math.inf, math.inf, limits=_unknown)
        total = self.weights[0]
        x, y = self.weights[1:] / total
        share, sum_x, sum_y, *seconds = self.squares / total**2
        scatter = np.asarray(seconds) - [
            2 * x * sum_x - share * x * x,
            x * sum_y + y * sum_x - share * x * y,
            2 * y * sum_y - share * y * y,
        ]
        of_x, of_both, of_y = scatter / (1 - share)
        dof = 1 / share - 1
        limits = partial(_fieller, x=x, y=y, of_x=of_x, of_both=of_both, of_y=of_y, dof=dof)
        if y <= 0 or limits(LEVEL)[1] == math.inf:
            return Ratio(math.inf, math.inf, dof, limits)
        ratio = max(x, 0.0) / y
        error = max(of_x - 2 * ratio * of_both + ratio**2 * of_y, 0.0) ** 0.5 / y
        bias = (ratio * of_y - of_both) / y**2
        return Ratio(max(float(ratio - bias), 0.0), float(error), float(dof), limits)

    def state_dict(self) -> dict:
        """The sums in numbers, to be stored with a checkpoint."""
        sums = {"weights": self.weights.tolist(), "squares": self.squares.tolist()}
        return {"pairs": self.pairs} | sums

    def load_state_dict(self, state: dict) -> None:
        """Continue with the sums of `state_dict`."""
        self.pairs = state["pairs"]
        self.weights, self.squares = np.asarray(state["weights"]), np.asarray(state["squares"])


def _unknown(level):  # noqa: ARG001 - the same at each level
    return 0.0, math.inf


def _fieller(level, *, x, y, of_x, of_both, of_y, dof):
    """Both ends of the r of 0 or more at which |x - r y| is within its error."""
    square = stdtrit(dof, (1 + level) / 2) ** 2
    a, b, c = y * y - square * of_y, x * y - square * of_both, x * x - square * of_x
    root = max(b * b - a * c, 0.0) ** 0.5
    if a > 0:
        return max((b - root) / a, 0.0), max((b + root) / a, 0.0)
    ends = sorted(((b - root) / a, (b + root) / a)) if a else (-math.inf, 0.0)
    return (ends[1], math.inf) if ends[0] < 0 < ends[1] and c > 0 else (0.0, math.inf)
