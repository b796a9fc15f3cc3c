"""The random numbers that a step asks for; the loop that runs the steps draws them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

Size = int | Callable[[Any], int]  # a number, or a function of theta that gives it


def n_parameters(theta) -> int:
    """The size of draws that need one number for each parameter."""
    return theta.shape[0]


def with_sizes(draws, theta):
    """The same draws with every size a number, for parameters like theta.

    draws: a draw, or tuples and dicts of draws.  Dicts of draws go with dicts of theta.
    """
    if isinstance(draws, dict):
        thetas = theta if isinstance(theta, dict) else dict.fromkeys(draws, theta)
        return {name: with_sizes(draw, thetas[name]) for name, draw in draws.items()}
    if isinstance(draws, tuple):
        return tuple(with_sizes(draw, theta) for draw in draws)
    if callable(getattr(draws, "size", None)):
        return replace(draws, size=draws.size(theta))
    return draws


@dataclass(frozen=True)
class Normal:
    """Independent standard normal numbers.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.dynamics import Process, simulate
        >>> walk = Process(lambda theta, normal: theta + normal, Normal(1), 1.0)
        >>> ends = simulate(walk, 0, jnp.zeros((4000, 1)), steps=9, every=9).theta
        >>> round(float(ends.std()))  # 9^1/2
        3
    """

    size: Size


@dataclass(frozen=True)
class Rademacher:
    """Independent signs, -1 or 1: the first three moments of normal numbers.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.dynamics import Process, simulate
        >>> walk = Process(lambda theta, signs: theta + signs, Rademacher(1), 1.0)
        >>> ends = simulate(walk, 0, jnp.zeros((100, 1)), steps=2, every=2).theta
        >>> jnp.unique(ends).tolist()
        [-2.0, 0.0, 2.0]
    """

    size: Size


@dataclass(frozen=True)
class ThreePoint:
    """Independent -3^1/2, 0, 3^1/2 with weights 1/6, 2/3, 1/6: the first five moments.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.dynamics import Process, simulate
        >>> walk = Process(lambda theta, numbers: theta + numbers, ThreePoint(1), 1.0)
        >>> ends = simulate(walk, 0, jnp.zeros((100, 1)), steps=1, every=1).theta
        >>> [round(value, 3) for value in jnp.unique(ends).tolist()]
        [-1.732, 0.0, 1.732]
    """

    size: Size


@dataclass(frozen=True)
class StepNumber:
    """Nothing random: the number of the step, from zero.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.dynamics import Process, simulate
        >>> count = Process(lambda theta, step: theta + step, StepNumber(), 1.0)
        >>> simulate(count, 0, jnp.zeros((1, 1)), steps=4, every=4).theta.tolist()  # 0 + 1 + 2 + 3
        [[[6.0]]]
    """


@dataclass(frozen=True)
class Uniform:
    """Independent numbers uniform on [0, 1).

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.dynamics import Process, simulate
        >>> walk = Process(lambda theta, uniform: theta + uniform, Uniform(1), 1.0)
        >>> ends = simulate(walk, 0, jnp.zeros((4000, 1)), steps=1, every=1).theta
        >>> bool((ends >= 0).all() & (ends < 1).all()), round(float(ends.mean()), 1)
        (True, 0.5)
    """

    size: Size


@dataclass(frozen=True)
class Sampled:
    """Numbers from a function of yours: how a step gets noise of any law.

    sample: (key, shape, dtype) -> numbers of that shape in jax, as those of jax.random; for a walk
    in torch (generator, shape, dtype) -> numbers.  It is called with shape (size,), and must be
    the same object each time, or programs are compiled again.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from sgdnoise.dynamics import Process, simulate
        >>> walk = Process(lambda theta, x: theta + x, Sampled(1, jax.random.exponential), 1.0)
        >>> ends = simulate(walk, 0, jnp.zeros((4000, 1)), steps=2, every=2).theta
        >>> round(float(ends.mean()), 1)  # twice the mean of an exponential law
        2.0
    """

    size: Size
    sample: Callable[..., Any]


@dataclass(frozen=True)
class WithReplacement:
    """Independent uniform indices 0, ..., below - 1: drawing with replacement.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.dynamics import Process, simulate
        >>> draw = WithReplacement(6, 3)
        >>> count = Process(lambda theta, index: theta.at[index].add(1.0), draw, 1.0)
        >>> ends = simulate(count, 0, jnp.zeros((4000, 3)), steps=1, every=1).theta
        >>> ends.mean(axis=(0, 1)).round(1).tolist(), float(ends.max())  # six draws of three
        ([2.0, 2.0, 2.0], 6.0)
    """

    size: int
    below: int


@dataclass(frozen=True)
class WithoutReplacement:
    """Distinct indices 0, ..., below - 1, all subsets alike: drawing without replacement.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.dynamics import Process, simulate
        >>> draw = WithoutReplacement(2, 3)
        >>> count = Process(lambda theta, index: theta.at[index].add(1.0), draw, 1.0)
        >>> ends = simulate(count, 0, jnp.zeros((100, 3)), steps=1, every=1).theta
        >>> float(ends.max()), float(ends.sum(axis=-1).min())  # two, none of them twice
        (1.0, 2.0)
    """

    size: int
    below: int


@dataclass(frozen=True)
class Permutation:
    """The next `size` entries of a permutation, renewed when fewer are left: one epoch.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.dynamics import Process, simulate
        >>> draw = Permutation(2, 6)
        >>> count = Process(lambda theta, index: theta.at[index].add(1.0), draw, 1.0)
        >>> simulate(count, 0, jnp.zeros((1, 6)), steps=3, every=3).theta.tolist()  # one epoch
        [[[1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]]
    """

    size: int
    below: int
