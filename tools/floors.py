"""The lowest versions that the package allows, as pip takes them.

`python -m tools.floors` prints a line for each dependency of the package and of the extras that
tests use.  torch is left out: its lowest version is the one that `constraints.txt` names, because
older builds for CPUs are not in every package index.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = "jax", "lab", "derivations", "downloads"


def floors(project: dict) -> list[str]:
    """`name==version` of each dependency `name>=version`."""
    named = [*project["dependencies"]]
    for extra in EXTRAS:
        named += project["optional-dependencies"][extra]
    return [re.sub(r"\[.*?\]", "", name).replace(">=", "==") for name in named]


def main() -> None:
    """Print the lowest versions."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        print("\n".join(floors(tomllib.load(file)["project"])))


if __name__ == "__main__":
    main()
