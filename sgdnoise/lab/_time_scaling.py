"""How much faster than predicted a measured path is followed."""

import numpy as np
from scipy.interpolate import PchipInterpolator

from sgdnoise.core._arguments import checked
from sgdnoise.lab._power import rivals_of_effect
from sgdnoise.lab._summary import mean_of
from sgdnoise.lab._verdict import OBSERVATION, Verdict, prediction_if

SLOWEST, FASTEST = 0.25, 4.0  # factors that are tried
TRIED, REFINEMENTS = 121, 8
SETTLED = 1e-3  # last relative change of a factor above which none is found
MARGIN = 1.05  # by which a factor may grow before the prediction ends
MISSING = 0.25  # share of seeds without a factor from which on a path has no speed


@checked
def time_scaling(times, measured, predicted) -> np.ndarray:
    """The factor f by which each path is faster than predicted: measured(t) ~ predicted(f t).

    times: (t,), ascending from the common start.  measured: (n, t), a path of each seed.
    predicted: (t,) or (n, t).  -> (n,)
    f minimises the mean square of measured(t) - predicted(f t) over the times that are followed,
    1.05 f t <= the last, by a search from 1/4 to 4 and steps of Gauss and Newton.  Where the speed
    of a flow is kappa, f is kappa-hat / kappa, and its mean over seeds has the error over seeds.
    Between its times the prediction is a monotone cubic, so that they must resolve it.
    It is nan for paths that are not finite, for predictions that do not move, and where no factor
    in this range fits best.  Raises ValueError if shapes do not match, or for fewer than 4 times.

    Example:
        >>> import numpy as np
        >>> times = np.linspace(0, 2, 21)
        >>> time_scaling(times, np.exp(-1.3 * times)[None], np.exp(-times)).round(2).tolist()
        [1.3]
    """
    times, measured = np.asarray(times, float), np.asarray(measured, float)
    predicted = np.asarray(predicted, float)
    if measured.ndim != 2 or measured.shape[1] != len(times):
        raise ValueError(f"paths {measured.shape} are not of {len(times)} times")
    if predicted.shape not in (times.shape, measured.shape):
        raise ValueError(f"predictions {predicted.shape} are not those of paths {measured.shape}")
    if len(times) < 4 or np.any(np.diff(times) <= 0):
        raise ValueError("a path needs 4 or more times, in ascending order")
    pairs = zip(measured, np.broadcast_to(predicted, measured.shape), strict=True)
    return np.asarray([_factor(times - times[0], *pair) for pair in pairs])


@checked
def speed_rows(
    text: str, times, measured, predicted, *, tolerance=None, in_regime: bool = True
) -> list[Verdict]:
    """The row of kappa-hat / kappa: the mean `time_scaling` of the seeds, 1 by theory.

    tolerance: theory's own relative error, for a prediction; None for an observation.  There is no
    row where a quarter of the seeds have no factor, because their path hardly moves.

    Example:
        >>> import numpy as np
        >>> times = np.linspace(0, 2, 21)
        >>> paths = np.exp(-np.asarray([[1.1], [1.3]]) * times)
        >>> [row] = speed_rows("network", times, paths, np.exp(-times), tolerance=0.05)
        >>> row.name, row.outcome, row.excluded["kappa x 0.5"]
        ('network: kappa-hat / kappa', 'undecided', True)
    """
    factors = time_scaling(times, measured, predicted)
    if np.mean(~np.isfinite(factors)) >= MISSING:
        return []
    kind = OBSERVATION if tolerance is None else prediction_if(in_regime)
    estimate, rivals = mean_of(factors, skip_missing=True), rivals_of_effect(lambda f: f, "kappa")
    name = f"{text}: kappa-hat / kappa"
    return [Verdict(name, 1.0, estimate, kind, tolerance or 0.0, rivals)]


def _factor(times, path, prediction):
    """The factor of one path."""
    if not (np.all(np.isfinite(path)) and np.all(np.isfinite(prediction))):
        return np.nan
    if np.ptp(prediction) == 0:
        return np.nan
    curve = PchipInterpolator(times, prediction)
    slope = curve.derivative()
    factors = np.geomspace(SLOWEST, FASTEST, TRIED)
    scaled = factors[:, None] * times[1:]
    followed = scaled <= times[-1]
    squares = np.where(followed, (path[1:] - curve(scaled.clip(max=times[-1]))) ** 2, 0)
    factor, change = factors[np.argmin(squares.sum(1) / followed.sum(1))], 1.0
    kept = times * factor * MARGIN <= times[-1]  # the same times at each step, so that they settle
    kept[0] = False
    for _ in range(REFINEMENTS):
        at = (factor * times[kept]).clip(max=times[-1])
        along = at * slope(at)  # change of the prediction with log factor
        size = along @ along
        if len(at) < 2 or size == 0:
            return np.nan
        change = float(np.clip((path[kept] - curve(at)) @ along / size, -0.1, 0.1))
        factor *= np.exp(change)
    found = abs(change) <= SETTLED and SLOWEST < factor < FASTEST
    return factor if found else np.nan
