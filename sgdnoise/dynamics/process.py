"""Steps in time: pure functions of theta and of numbers that somebody else draws."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Process", "together"]


@dataclass(frozen=True, eq=False)
class Process:
    """theta <- step(theta, drawn), with `drawn` fresh as `draw` asks, at each step of length dt.

    `dynamics.chains` draws by jax keys, `nets.walks` by a torch generator, a test by hand.
    """

    step: Callable[[Any, Any], Any]
    draw: Any
    dt: Any


def together(processes: dict[str, Process]) -> Process:
    """Several processes side by side: theta and what is drawn become dicts of theirs."""

    def step(theta, drawn):
        return {name: p.step(theta[name], drawn[name]) for name, p in processes.items()}

    draw = {name: p.draw for name, p in processes.items()}
    return Process(step, draw, {name: p.dt for name, p in processes.items()})
