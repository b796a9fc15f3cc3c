"""The progress of a sweep, in words."""

from datetime import timedelta
from pathlib import Path

from sgdnoise.lab._sweep._storage import failures, sweep_status


def progress_text(folder) -> str:
    """The progress of the newest sweep of the folder and of each folder below it.

    It says how many points are finished, running, failed and left, the time left, and the failures.
    Raises ValueError if there is no sweep in the folder or below it.
    """
    folder = Path(folder)
    folders = sorted({plan.parent for plan in folder.rglob("sweep-*.json")})
    if folders in ([], [folder]):
        return _text(folder)
    return "\n".join(f"{path.relative_to(folder)}: {_text(path)}" for path in folders)


def _text(folder):
    progress = sweep_status(folder)
    running = progress.seconds == progress.seconds  # not nan
    remaining = f", {timedelta(seconds=round(progress.seconds))} to go" if running else ""
    counts = f"{progress.running} running, {progress.failed} failed, {progress.left} left"
    lines = [f"{progress.done} of {progress.total} points done, {counts}{remaining}"]
    return "\n".join([*lines, *(f"  {f.point}: {f.error}" for f in failures(folder))])
