"""A positive ratio whose denominator may not be resolved from zero."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sgdnoise.core._estimate import Estimate, check_level

LEVEL = 0.95  # at which a ratio is called resolved


@dataclass(frozen=True, eq=False, repr=False)
class Ratio(Estimate):
    """An Estimate of a ratio that is 0 or more, and infinite where its denominator vanishes.

    limits: level -> both ends of the confidence interval of the ratio.  The upper end is infinite
    if zero cannot be excluded for the denominator at that level.  If it is infinite at 0.95, the
    ratio is not resolved: `value` and `stderr` are inf, and `interval` still gives a lower end.
    Arithmetic gives an Estimate, which has the error but not the limits.

    Example:
        >>> import math
        >>> ratio = Ratio(math.inf, math.inf, limits=lambda level: (12.0, math.inf))
        >>> print(ratio)
        not resolved, above 12 (95%)
        >>> ratio.interval(0.95), ratio.resolved
        ((12.0, inf), False)
    """

    limits: Callable[[float], tuple[float, float]] | Any = None

    @property
    def resolved(self) -> bool:
        """Whether the denominator exceeds zero by its error, so that the value is finite."""
        return math.isfinite(self.value)

    def interval(self, level: float = LEVEL):
        """Both ends of the confidence interval of this level; the upper end may be inf.

        Raises ValueError unless 0 < level < 1.
        """
        check_level(level)
        return super().interval(level) if self.limits is None else self.limits(level)

    def __format__(self, spec: str) -> str:
        if self.resolved:
            return super().__format__(spec)
        return f"not resolved, above {self.interval()[0]:{spec or '.3g'}} ({LEVEL:.0%})"

    def __repr__(self):
        return f"Ratio({self})"
