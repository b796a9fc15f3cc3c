"""Steps in time: pure functions of a state and of numbers that somebody else draws."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sgdnoise.core._arrays import namespace
from sgdnoise.noise._draws import Normal, Rademacher, StepNumber, ThreePoint


def _same(state):
    return state


def _first(state):
    return state[0]


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


def side_by_side(processes: dict[str, Process]) -> Process:
    """Several processes side by side: state, theta and what is drawn become dicts of theirs."""

    def step(state, drawn):
        return {name: p.step(state[name], drawn[name]) for name, p in processes.items()}

    def begin(theta):
        return {name: p.begin(theta[name]) for name, p in processes.items()}

    def theta(state):
        return {name: p.theta(state[name]) for name, p in processes.items()}

    draw = {name: p.draw for name, p in processes.items()}
    return Process(step, draw, {name: p.dt for name, p in processes.items()}, begin, theta)


def with_weak_increments(process: Process, kind: type = Rademacher) -> Process:
    """The same steps with cheaper numbers in place of normal ones, where only averages matter.

    `Sign` has their first three moments and keeps weak order 1, `Three` their first five and
    keeps weak order 2; mean and covariance of a step stay as they are, paths and tails do not
    (Kloeden & Platen, 1992).  Raises ValueError for any other kind.
    """
    if kind not in (Rademacher, ThreePoint):
        raise ValueError(f"numbers for weak accuracy are of kind Sign or Three, not {kind}")
    return replace(process, draw=_swapped(process.draw, kind))


def scheduled(
    move, draw, learning_rate, dt=None, *, memory: int = 0, counted: bool = False
) -> Process:
    """A Process from move(state, drawn, rate, k), where rate is a number or a function of k.

    k counts steps from zero; it is drawn only where such a rate or `counted` wants it.  dt is the
    rate unless told.  With `memory` the state is theta and so many arrays like it, zeros at first.
    """

    def begin(theta):
        return (theta, *(namespace(theta).zeros_like(theta) for _ in range(memory)))

    def step(state, drawn):
        return move(state, drawn, learning_rate, 0)

    def step_of(state, drawn):
        drawn, k = drawn
        return move(state, drawn, learning_rate(k) if callable(learning_rate) else learning_rate, k)

    more = {"begin": begin, "theta": _first} if memory else {}
    dt = learning_rate if dt is None else dt
    if counted or callable(learning_rate):
        return Process(step_of, (draw, StepNumber()), dt, **more)
    return Process(step, draw, dt, **more)


def _swapped(kinds, kind):
    match kinds:
        case dict():
            return {name: _swapped(draw, kind) for name, draw in kinds.items()}
        case tuple():
            return tuple(_swapped(draw, kind) for draw in kinds)
        case Normal(size):
            return kind(size)
    return kinds
