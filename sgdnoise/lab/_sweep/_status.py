"""The progress of a sweep, in words."""

from datetime import timedelta

from sgdnoise.lab._sweep._storage import failures, sweep_status


def progress_text(folder) -> str:
    """How many points are finished, running, failed and left, the time left, and the failures.

    Raises ValueError if the folder holds no sweep.
    """
    progress = sweep_status(folder)
    running = progress.seconds == progress.seconds  # not nan
    remaining = f", {timedelta(seconds=round(progress.seconds))} to go" if running else ""
    counts = f"{progress.running} running, {progress.failed} failed, {progress.left} left"
    lines = [f"{progress.done} of {progress.total} points done, {counts}{remaining}"]
    return "\n".join([*lines, *(f"  {f.point}: {f.error}" for f in failures(folder))])
