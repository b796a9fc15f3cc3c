"""`python -m simulations` lists, runs, judges and draws the studies, and begins new ones."""

import sys
from pathlib import Path

if __name__ == "__main__":
    try:
        from sgdnoise.lab import study_commands
    except ImportError as error:  # it names the extra that is missing
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    study_commands(Path(__file__).parent)(prog_name="python -m simulations")
