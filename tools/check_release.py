"""Installs the built wheel into bare environments and uses it there as a reader would."""

import os
import re
import subprocess
import sys
import venv
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

ROOT = Path(__file__).parents[1]
FLAGS = [*os.environ.get("PIPFLAGS", "").split(), "-q", "-c", str(ROOT / "constraints.txt")]
MAX_BASE_MB = 400
BASE = """
import numpy as np, sgdnoise
points = np.random.default_rng(0).normal(size=(300, 3))
print(sgdnoise.estimate_dimension(points), sgdnoise.theory.stationary_covariance)
try:
    sgdnoise.nets
except ImportError as error:
    print(error)
"""

POINTS = """
import numpy as np
np.save("p", np.random.default_rng(0).normal(size=(400, 3)))
"""


def environment(folder: Path, requirement: str) -> Path:
    """A new environment with the wheel; the folder of its programs."""
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    pip = [str(programs / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
    subprocess.run([*pip, *FLAGS, requirement], check=True)
    return programs


def run(words: list, folder: Path, expected: int = 0) -> str:
    """What a command prints outside the checkout; it must end with the expected status."""
    done = subprocess.run(list(map(str, words)), cwd=folder, capture_output=True, text=True)
    text = done.stdout + done.stderr
    if done.returncode != expected:
        raise SystemExit(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{text}")
    return text


def readme_programs() -> list[str]:
    """The Python programs that the README shows."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)


def check_description(wheel: Path) -> None:
    """Refuse a page of the package with pictures or links that only the repository has."""
    with ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        text = files.read(name).decode()
    if links := re.findall(r"\]\((?!https?:)[^)]*\)", text):
        raise SystemExit(f"the description of the wheel links files of the repository: {links}")
    if "## Two commands" not in text:
        raise SystemExit("the description of the wheel is not the README")


def size_in_mb(folder: Path) -> float:
    """The size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main() -> None:
    """Check the wheel in dist/: base alone, base with lab, and all extras."""
    (wheel,) = (ROOT / "dist").glob("*.whl")
    check_description(wheel)
    with TemporaryDirectory() as text:
        folder = Path(text)
        base = environment(folder / "base", str(wheel))
        size = size_in_mb(folder / "base")
        print(f"base: {size:.0f} MB")
        if size > MAX_BASE_MB:
            raise SystemExit(f"the base must stay below {MAX_BASE_MB} MB")
        print(run([base / "python", "-c", BASE], folder))
        lab = environment(folder / "lab", f"{wheel}[lab]")
        run([lab / "python", "-c", POINTS], folder)
        print(run([lab / "sgdnoise", "dimension", "p.npy"], folder))
        print(run([lab / "sgdnoise", "--version"], folder))
        print(run([lab / "sgdnoise", "verdicts"], folder, expected=2))
        everything = environment(folder / "all", f"{wheel}[all]")
        for program in readme_programs():
            (folder / "program.py").write_text(program)
            print(run([everything / "python", "program.py"], folder))


if __name__ == "__main__":
    sys.exit(main())
