"""`python -m simulations` lists, runs, judges and draws the studies, and begins new ones."""

from pathlib import Path

from sgdnoise.lab import study_commands

if __name__ == "__main__":
    study_commands(Path(__file__).parent)(prog_name="python -m simulations")
