"""Steps in time: pure functions of a state and of random numbers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import namespace
from sgdnoise.noise._draws import Normal, Rademacher, StepNumber, ThreePoint


def _same(state):
    return state


def _first(state):
    return state[0]


@dataclass(frozen=True, eq=False)
class Process:
    """A discrete process: state <- step(state, drawn), where each step has the length dt.

    step: (state, drawn) -> state.  draw: the random numbers of one step, see `noise.Normal`.
    dt: a number, or a function of the integer step.
    begin: theta -> state; theta: state -> theta.  The state is theta itself unless the process
    remembers more, such as a velocity, which starts at zero.
    `simulate` runs a process as many chains in jax, `nets.walk` as one walk in torch.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.dynamics import simulate
        >>> from sgdnoise.noise import Normal
        >>> walk = Process(lambda theta, normal: theta + normal, Normal(1), dt=0.5)
        >>> path = simulate(walk, 0, jnp.zeros((4000, 1)), steps=9, every=3)
        >>> path.time.tolist(), path.theta.var(axis=0)[:, 0].round().tolist()
        ([1.5, 3.0, 4.5], [3.0, 6.0, 9.0])
    """

    step: Callable[[Any, Any], Any]
    draw: Any
    dt: Any
    begin: Callable[[Any], Any] = _same
    theta: Callable[[Any], Any] = _same


@checked
def side_by_side(processes: dict[str, Process]) -> Process:
    """Several processes that advance together, for example to compare them on equal terms.

    State, theta and draws are dicts with the names of the processes.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> from sgdnoise.dynamics import langevin, sgd, simulate
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> batches = noise.minibatch(problem, 1)
        >>> both = side_by_side({"sgd": sgd(batches, 0.1), "langevin": langevin(batches, 0.1)})
        >>> start = {"sgd": jnp.zeros((4, 1)), "langevin": jnp.zeros((4, 1))}
        >>> simulate(both, 0, start, steps=20, every=20).theta["langevin"].shape
        (4, 1, 1)
    """

    def step(state, drawn):
        return {name: p.step(state[name], drawn[name]) for name, p in processes.items()}

    def begin(theta):
        return {name: p.begin(theta[name]) for name, p in processes.items()}

    def theta(state):
        return {name: p.theta(state[name]) for name, p in processes.items()}

    draw = {name: p.draw for name, p in processes.items()}
    return Process(step, draw, {name: p.dt for name, p in processes.items()}, begin, theta)


@checked
def with_weak_increments(process: Process, kind: type = Rademacher) -> Process:
    """The same process with cheaper random numbers in place of normal ones.

    kind: `Rademacher` numbers have the first three moments of normal ones and keep weak order 1;
    `ThreePoint` numbers have the first five and keep weak order 2 (Kloeden & Platen, 1992).  The
    mean and covariance of a step do not change; paths and tails do.
    Raises ValueError for another kind.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import langevin, simulate
        >>> process = with_weak_increments(langevin(noise.minibatch(problem, 1), 0.1))
        >>> simulate(process, 0, jnp.zeros((4, 1)), steps=20, every=20).theta.shape
        (4, 1, 1)
    """
    if kind not in (Rademacher, ThreePoint):
        raise ValueError(f"the kind must be Rademacher or ThreePoint, not {kind}")
    return replace(process, draw=_swapped(process.draw, kind))


def scheduled(
    move, draw, learning_rate, dt=None, *, memory: int = 0, counted: bool = False
) -> Process:
    """A Process from move(state, drawn, learning_rate, k), with a constant or scheduled rate.

    learning_rate: a number, or a function of the step k, which counts from zero.  k is drawn only
    if such a schedule or `counted` needs it.  dt: the learning rate by default.
    memory: the number of arrays like theta, zero at first, that the state holds besides theta.
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
