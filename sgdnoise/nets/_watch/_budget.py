"""A share of the time of a training that measurements may take."""

from contextlib import contextmanager
from time import perf_counter

LATER = 0.25  # of the time of a first measurement, which loads and compiles


class Budget:
    """Counts the time since it was made, and that spent in measurements.

    share: the part of all time that measurements may take.
    Raises ValueError unless 0 < share < 1.
    """

    def __init__(self, share: float):
        if not 0 < share < 1:
            raise ValueError(f"a budget is a share of the time between 0 and 1, not {share}")
        self.share, self._began = share, perf_counter()
        self.spent = self.last = self.probing = 0.0

    @property
    def used(self) -> float:
        """The share of the time until now that measurements took."""
        return self.spent / max(perf_counter() - self._began, 1e-9)

    def now(self) -> float:
        """The clock of the budget, in seconds."""
        return perf_counter()

    def add(self, seconds: float) -> None:
        """Count time that a measurement took outside of `measuring`."""
        self.last += seconds
        self.spent += seconds

    @contextmanager
    def measuring(self):
        """A context whose time is that of a measurement, or of a part of one."""
        began = perf_counter()
        try:
            yield
        finally:
            self.last += perf_counter() - began
            self.spent += perf_counter() - began

    @contextmanager
    def probe_time(self):
        """A context within `measuring` whose time is that of the probes of this measurement."""
        began = perf_counter()
        yield
        self.probing = perf_counter() - began

    def start(self) -> None:
        """Begin to count after a first measurement, which is not counted.

        It loads and compiles, so that the next one is expected to take a quarter of its time.
        """
        self._began, self.spent, self.probing = perf_counter(), 0.0, 0.0
        self.last *= LATER

    def allows_another(self) -> bool:
        """Whether a measurement as long as the last one keeps within the share; then it begins."""
        allowed = self.share * (perf_counter() - self._began)
        if self.spent + self.last > allowed:
            return False
        self.last = self.probing = 0.0
        return True
