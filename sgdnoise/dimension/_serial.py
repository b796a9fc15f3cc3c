"""Rows that are moments in time: their dependence, and the lag beyond which it is small."""

import numpy as np

from sgdnoise.core._arrays import as_numpy

MIN_ROWS = 100  # below which an order is not judged
LAGS = (1, 5)  # numbers of rows within which nearest neighbours are counted
MIN_FRACTION = 0.1  # of nearest neighbours within a lag, below which dependence does no harm
MIN_EXCESS = 5.0  # as a multiple of the fraction expected for rows in random order
MIN_Z = 6.0  # standard deviations of that number; neighbours are often mutual
DECAY = np.exp(-1.0)  # the autocorrelation at the correlation time
MAX_PASSAGES = 0.2  # of rows with two neighbours on one passage, above which ratios mislead
MULTIPLE = 2  # of the correlation time, within which rows are excluded


def check_window(exclude, points) -> int:
    """The number of rows of a Theiler window: that given, or for "auto" the lag of these points.

    Raises ValueError for anything but "auto" or a whole number of 0 or more, and as `lag` does.
    """
    if isinstance(exclude, str) and exclude == "auto":
        return lag(points)
    if isinstance(exclude, bool) or not isinstance(exclude, int | np.integer) or exclude < 0:
        raise ValueError(f"exclude is a number of rows, 0 or more, or 'auto', not {exclude!r}")
    return int(exclude)


def lag(points) -> int:
    """Twice the number of rows after which the autocorrelation has fallen to 1/e.  (n, D) -> int

    The autocorrelation at lag l is the mean of (x_i - m) . (x_(i+l) - m) over that at lag 0, with m
    the mean row.  It is 0 for rows that do not depend on their predecessors.
    Raises ValueError if it does not fall to 1/e within a tenth of the rows: such a recording, as a
    random walk, returns too seldom to have a dimension.
    """
    points = as_numpy(points).astype(np.float64)
    correlation = _autocorrelation(points, max(1, points.shape[0] // 10))
    below = np.flatnonzero(correlation < DECAY)
    if not below.size:
        raise ValueError(
            f"the autocorrelation of {points.shape[0]} rows is above 1/e for a tenth of them, so "
            "that exclude='auto' finds no lag: take a longer recording, or a number of rows"
        )
    return 0 if below[0] <= 1 else MULTIPLE * int(below[0])


def dependent_fraction(index, rows, window: int = 0):
    """The fraction of nearest neighbours within a few rows, and that expected; None if small.

    index (n, k): neighbours.  rows (n,): the row of each point in the data.  window: the rows that
    were excluded, beyond which it counts.  Rows sorted by class are not dependent: their neighbours
    are as often within a lag as, per row, within three times that lag.
    """
    index, n = as_numpy(index), len(rows)
    distance = np.abs(rows[index[:, 0]] - rows) - window
    for count in LAGS if n >= MIN_ROWS else ():
        expected = 2 * count / max(n - 1 - 2 * window, 1)
        fraction = float(np.mean(distance <= count))
        beyond = float(np.mean((distance > count) & (distance <= 3 * count)))
        z = (fraction - expected) / (2 * expected / n) ** 0.5
        if fraction > max(MIN_FRACTION, MIN_EXCESS * expected, beyond) and z > MIN_Z:
            return count, fraction, expected
    return None


def passages(index, rows, window: int):
    """The fraction of rows with two nearest neighbours within half a window, and that expected.

    None if it is small.  A path that passes by a row stays near for a while, so that its rows are
    several neighbours at nearly one distance: the window excludes rows near in time to the row
    itself, not to each other.
    """
    index, n, half = as_numpy(index), len(rows), max(1, window // 2)
    if not window or n < MIN_ROWS or index.shape[1] < 2:
        return None
    fraction = float(np.mean(np.abs(rows[index[:, 0]] - rows[index[:, 1]]) <= half))
    expected = 2 * half / n
    return (fraction, expected) if fraction > max(MAX_PASSAGES, MIN_EXCESS * expected) else None


def _autocorrelation(points, lags):
    """The autocorrelation at lags 0 to `lags`, in blocks of coordinates."""
    n, size = points.shape[0], 1 << int(2 * points.shape[0] - 1).bit_length()
    total = np.zeros(lags + 1)
    for start in range(0, points.shape[1], 64):
        block = points[:, start : start + 64]
        power = np.abs(np.fft.rfft(block - block.mean(axis=0), size, axis=0)) ** 2
        total += np.fft.irfft(power.sum(axis=1), size)[: lags + 1]
    total /= n - np.arange(lags + 1)
    return total / total[0] if total[0] > 0 else np.zeros(lags + 1)
