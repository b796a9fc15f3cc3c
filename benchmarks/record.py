"""The file of all rounds: what was measured, where, from which commit, and under which load."""

import hashlib
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.tables import PEERS

__all__ = ["Record", "installed", "machine", "source", "versions"]

ROOT = Path(__file__).parents[1]
PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "jax")


class Record:
    """The rounds in a JSON file, which is written anew after each."""

    def __init__(self, file: Path):
        self.file = file
        stored = json.loads(file.read_text("utf-8")) if file.exists() else {}
        self.machine = stored.get("machine") or machine()
        self.missing: list[str] = stored.get("missing", [])
        self.rounds: list[dict] = stored.get("rounds", [])

    def refuse_another_machine(self) -> None:
        """Raises ValueError if the rounds in the file were measured on another machine."""
        if self.machine != machine():
            raise ValueError(f"{self.file} was measured on another machine; give another --out")

    def add(self, one: dict) -> None:
        """Store a round; a crash while it is written leaves the file as it was."""
        self.rounds.append(one)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        contents = {"machine": self.machine, "missing": self.missing, "rounds": self.rounds}
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(contents, indent=None, separators=(",", ":")) + "\n", "utf-8")
        part.replace(self.file)

    def of(self, table: str, commit: str | None = None) -> list[dict]:
        """The rounds of a table from a commit, by default from that of its last round."""
        mine = [one for one in self.rounds if one["table"] == table]
        commit = commit or (mine[-1]["commit"] if mine else None)
        return [one for one in mine if one["commit"] == commit]


def machine() -> dict:
    """Model and number of the CPU cores, system, and the libraries of linear algebra."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "blas": _blas(),
    }


def _cpu():
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _blas():
    import numpy as np

    of_numpy = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"numpy: {of_numpy.get('name')} {of_numpy.get('version')}"


def source() -> str:
    """The commit, and a hash of what was changed since in package and benchmarks, if anything."""
    commit = _git("rev-parse", "--short=10", "HEAD").strip()
    changes = _git("diff", "HEAD", "--", "sgdnoise", "benchmarks/*.py")
    return f"{commit}+{hashlib.sha256(changes.encode()).hexdigest()[:6]}" if changes else commit


def _git(*arguments):
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout or ("" if done.returncode == 0 else "unknown")


def installed(distribution: str) -> str | None:
    """The version of a distribution that this interpreter has, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Versions of python and of all packages that are measured and installed."""
    names = (*PACKAGES, *PEERS.values())
    here = {name: number for name in names if (number := installed(name))}
    return {"python": platform.python_version(), **here}


def conditions() -> dict:
    """When, from which source, with which versions, and under which load a round is measured."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": round(os.getloadavg()[0], 2),
        "versions": versions(),
    }
