"""The dimension of rows that are moments in time, from rows that are far enough apart."""

import math
import warnings

from sgdnoise.core._arrays import namespace
from sgdnoise.core._estimate import Estimate, with_group_error
from sgdnoise.dimension._trained._features import N_NEIGHBOURS
from sgdnoise.dimension._warnings import DimensionWarning

MAX_PHASES = 8  # of the first row, over which values are averaged
SPARE = 1.2  # times as many rows as groups need, which are enough in blocks of any length
BLOCK = 5  # windows in a block of rows that stay together
BLOCKS = 10  # of which the number of blocks is a multiple, for halves and fifths


def stride(n: int, window: int, groups: int) -> int:
    """The distance of rows that are kept: half a window, as long as groups have enough rows.

    A path that passes by stays near for a while: without thinning its rows would be several
    neighbours at nearly one distance.  Raises ValueError if no distance leaves enough rows.
    """
    for m in range(max(1, window // 2), 0, -1):
        block = block_length(n, window, m)
        rows = n // block // groups * block // m
        if rows > N_NEIGHBOURS + 2 * -(-window // m):
            return m
    least = math.ceil(SPARE * groups * (N_NEIGHBOURS + 1 + 2 * window))
    raise ValueError(
        f"an estimate with an error needs {least} rows if {window} are excluded, not {n}: record "
        "longer, or exclude fewer"
    )


def block_length(n: int, window: int, m: int) -> int:
    """The rows that stay together: a multiple of m, of which each group has the same number."""
    blocks = max(1, n // (BLOCK * window * BLOCKS)) * BLOCKS
    return max(1, n // blocks // m) * m


def of_recording(value_of, points, window: int, groups: int) -> Estimate:
    """The mean over phases of the value of every m-th row, with an error from blocks of rows.

    value_of: a function of points and a window.  The order of the rows is their order in time.
    """
    n = points.shape[0]
    m = stride(n, window, groups)
    block = block_length(n, window, m)

    def statistic(part):
        xp = namespace(part)
        phases = range(0, m, -(-m // MAX_PHASES))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DimensionWarning)
            values = [value_of(part[phase::m, :], -(-window // m)) for phase in phases]
        return xp.exp(xp.mean(xp.log(xp.stack(values))))

    return with_group_error(statistic, points, groups, splits=6, block=block)
