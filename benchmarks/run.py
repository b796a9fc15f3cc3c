"""Rounds of a table, measured in a new process of each interpreter and stored one by one."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.record import ROOT, Record, conditions, installed, source
from benchmarks.rows import measure_rounds
from benchmarks.tables import PEERS, TABLES

__all__ = ["add_rounds", "missing_peers", "peers_of", "rounds_in_a_process"]

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def peers_of(pythons: list[str]) -> dict[str, list[str]]:
    """The packages of peers that each interpreter measures: the first that has one does."""
    result: dict[str, list[str]] = {}
    left = set(PEERS)
    for python in pythons:
        mine = sorted(left & set(_ask(python)))
        left -= set(mine)
        result[python] = mine
    return result


def missing_peers(peers: dict[str, list[str]]) -> list[str]:
    """The peers that no interpreter has."""
    return [name for name in PEERS if not any(name in there for there in peers.values())]


def _ask(python):
    """The peers that an interpreter has."""
    if python == sys.executable:
        return [name for name, distribution in PEERS.items() if installed(distribution)]
    done = _process(python, "--worker", json.dumps("peers"))
    answer, _ = done.communicate()
    if done.returncode:
        raise ValueError(f"{python} cannot run the benchmarks")
    return json.loads(answer)


def add_rounds(record: Record, name: str, rounds: int, peers: dict[str, list[str]]) -> None:
    """Measure rounds of a table and store each as soon as it is done."""
    for python, there in peers.items():
        if python == sys.executable or there:
            for one in rounds_in_a_process(name, rounds, there, python):
                record.add(one)


def rounds_in_a_process(
    name: str, rounds: int, peers: list[str], python: str = sys.executable, only=None
) -> Iterator[dict]:
    """Yield the rounds of a table: ours and by hand in this interpreter, and the peers named."""
    order = {"table": name, "rounds": rounds, "peers": peers, "only": only}
    order["ours"] = python == sys.executable
    origin = {"table": name, "python": int(not order["ours"]), "commit": source()}
    finished = 0
    with _process(python, "--worker", json.dumps(order)) as process:
        try:
            for line in process.stdout:
                finished += 1
                yield origin | json.loads(line)
        except BaseException:
            process.kill()
            raise
    if process.returncode or (order["ours"] and finished < rounds):
        print(
            f"{name}: {python} ended with status {process.returncode} after {finished} of {rounds} "
            "rounds",
            file=sys.stderr,
        )


def _process(python, *arguments):
    return subprocess.Popen(
        [python, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env=os.environ | ONE_THREAD,
        stdout=subprocess.PIPE,
        text=True,
    )


def work(order) -> None:
    """Measure in this process and print a line of JSON for each round."""
    if order == "peers":
        print(json.dumps(_ask(sys.executable)))
        return
    try:
        task = TABLES[order["table"]].make()
    except ImportError:
        if order["ours"]:
            raise
        return  # this table has nothing for an environment of peers
    mine = [package for package in task.packages if order["ours"] and package not in PEERS]
    packages = [*mine, *(package for package in order["peers"] if package in task.packages)]
    if packages:
        for one in measure_rounds(task, packages, order["rounds"], order["only"]):
            print(json.dumps(conditions() | one), flush=True)
