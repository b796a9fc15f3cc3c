"""`python -m sgdnoise.sweep FOLDER` says how far the sweep in a folder is."""

import sys
from datetime import timedelta

from sgdnoise.lab._sweep._storage import failures, status


def main(folder: str) -> str:
    """How many points are done, running, failed and left, how long it takes, and what failed."""
    found = status(folder)
    going = found.seconds == found.seconds  # not nan
    rest = f", {timedelta(seconds=round(found.seconds))} to go" if going else ""
    counts = f"{found.running} running, {found.failed} failed, {found.left} left{rest}"
    lines = [f"{found.done} of {found.total} points done, {counts}"]
    return "\n".join([*lines, *(f"  {f.point}: {f.error}" for f in failures(folder))])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m sgdnoise.sweep FOLDER")
    try:
        print(main(sys.argv[1]))
    except ValueError as wrong:
        sys.exit(f"error: {wrong}")
