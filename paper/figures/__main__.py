"""`python -m paper.figures` draws each figure anew from the committed results; nothing is run."""

from importlib import import_module
from pathlib import Path

from sgdnoise.lab import read, save

RESULTS = Path("simulations/results")

if __name__ == "__main__":
    for path in sorted(RESULTS.glob("*.nc")):
        found = import_module(f"paper.figures.{path.stem}").figures(read(path))
        for stem, (_, figure) in found.items():
            for made in save(figure, RESULTS / stem):
                print(made)
