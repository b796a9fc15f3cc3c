"""How wide error bars are, from the fraction of intervals that hold: for studies of coverage.

The fraction has a ceiling: intervals twice as wide as they should be hold 99.9% instead of 95%, so
that a few hundred of them cannot tell the two.  The width that the fraction implies has none.
"""

import numpy as np
from scipy.stats import t

from sgdnoise.core import Estimate

LEVEL = 0.95


def relative_width(fraction: float, count: int, dof: float = np.inf) -> Estimate:
    """Width of intervals over that of intervals that hold 95%, from the fraction that holds.

    Deviations over their errors are taken to follow Student's law, of `dof`.  The error is that of
    the fraction of `count` independent intervals, over the slope of `fraction_held`.
    """
    fraction = min(max(fraction, 0.5 / count), 1 - 0.5 / count)
    error = (fraction * (1 - fraction) / count) ** 0.5
    width = t.ppf((1 + fraction) / 2, dof) / _quantile(dof)
    return Estimate(width, error / slope(width, dof), count - 1)


def fraction_held(width: float, dof: float = np.inf) -> float:
    """The fraction of intervals that hold if they are `width` times as wide as 95% intervals."""
    return 2 * float(t.cdf(width * _quantile(dof), dof)) - 1


def slope(width: float, dof: float = np.inf) -> float:
    """The derivative of `fraction_held` by the width."""
    return 2 * _quantile(dof) * float(t.pdf(width * _quantile(dof), dof))


def _quantile(dof):
    return float(t.ppf((1 + LEVEL) / 2, dof))
