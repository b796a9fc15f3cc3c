"""Steps in time: pure functions of a state and of numbers that somebody else draws."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Process", "together"]


def _same(state):
    return state


@dataclass(frozen=True, eq=False)
class Process:
    """state <- step(state, drawn), with `drawn` fresh as `draw` asks, at each step of length dt.

    The state is theta unless there is more to remember, as a velocity: then `begin` makes it of
    theta, at rest, and `theta` reads theta from it.  dt is a number, or (step) -> number.
    `dynamics.chains` draws by keys of its own, `nets.walks` by a torch generator, a test by hand.
    """

    step: Callable[[Any, Any], Any]
    draw: Any
    dt: Any
    begin: Callable[[Any], Any] = _same
    theta: Callable[[Any], Any] = _same


def together(processes: dict[str, Process]) -> Process:
    """Several processes side by side: state, theta and what is drawn become dicts of theirs."""

    def step(state, drawn):
        return {name: p.step(state[name], drawn[name]) for name, p in processes.items()}

    def begin(theta):
        return {name: p.begin(theta[name]) for name, p in processes.items()}

    def theta(state):
        return {name: p.theta(state[name]) for name, p in processes.items()}

    draw = {name: p.draw for name, p in processes.items()}
    return Process(step, draw, {name: p.dt for name, p in processes.items()}, begin, theta)
