"""One long walk of a process, in torch."""

from itertools import count
from numbers import Integral

import torch

from sgdnoise.core._arguments import checked_by_annotation
from sgdnoise.dynamics._process import Process
from sgdnoise.noise._draws import (
    Normal,
    Permutation,
    Rademacher,
    Sampled,
    StepNumber,
    ThreePoint,
    Uniform,
    WithoutReplacement,
    WithReplacement,
    with_sizes,
)


@checked_by_annotation
def walk(process: Process, theta, generator):
    """Yield theta after each step of a process, without end.

    theta: the start, (p,).  generator: a torch.Generator on the device of theta, or an int as seed.
    Raises ValueError, at the first step, for another generator.

    Example:
        >>> from itertools import islice
        >>> import torch
        >>> from sgdnoise.core import Problem
        >>> from sgdnoise.dynamics import sgd
        >>> from sgdnoise.noise import full_batch
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (torch.zeros(2, 1),))
        >>> steps = walk(sgd(full_batch(problem), 0.5), torch.ones(1), 0)
        >>> [theta.item() for theta in islice(steps, 3)]  # halved at each step
        [0.5, 0.25, 0.125]
    """
    first = next(iter(theta.values())) if isinstance(theta, dict) else theta
    if type(generator) is not bool and isinstance(generator, Integral):
        generator = torch.Generator(first.device).manual_seed(int(generator))
    if not isinstance(generator, torch.Generator):
        raise ValueError(f"generator is a torch.Generator or an int as seed, not {generator!r}")
    state = process.begin(theta)
    for drawn in draws(with_sizes(process.draw, theta), generator, first.dtype):
        state = process.step(state, drawn)
        yield process.theta(state)


def draws(kinds, generator, dtype):
    """An endless stream of the random numbers that `kinds` ask for, in the same structure."""
    if isinstance(kinds, dict):
        rows = draws(tuple(kinds.values()), generator, dtype)
        return (dict(zip(kinds, row, strict=True)) for row in rows)
    if isinstance(kinds, tuple):
        streams = [draws(kind, generator, dtype) for kind in kinds]
        return (tuple(map(next, streams)) for _ in iter(int, 1))
    return _stream(kinds, generator, dtype)


def _stream(kind, generator, dtype):
    on = {"generator": generator, "device": generator.device}
    for step in count():
        match kind:
            case StepNumber():
                yield step
            case Rademacher(int(size)):
                yield 2 * torch.randint(2, (size,), **on).to(dtype) - 1
            case ThreePoint(int(size)):
                face = torch.randint(6, (size,), **on)
                yield 3**0.5 * ((face == 5).to(dtype) - (face == 0).to(dtype))
            case Normal(int(size)):
                yield torch.randn(size, dtype=dtype, **on)
            case Uniform(int(size)):
                yield torch.rand(size, dtype=dtype, **on)
            case Sampled(int(size), sample):
                yield _sampled(sample, generator, size, dtype)
            case WithReplacement(size, below):
                yield torch.randint(below, (size,), **on)
            case WithoutReplacement(size, below):
                yield torch.randperm(below, **on)[:size]
            case Permutation(size, below):
                yield from torch.randperm(below, **on)[: below // size * size].split(size)
            case _:
                raise TypeError(f"no way to draw {kind!r}")


def _sampled(sample, generator, size, dtype):
    """The numbers of a user's function; raises ValueError for another shape."""
    numbers = sample(generator, (size,), dtype)
    if not torch.is_tensor(numbers) or tuple(numbers.shape) != (size,):
        found = tuple(numbers.shape) if torch.is_tensor(numbers) else type(numbers).__name__
        raise ValueError(f"a sampler must return a tensor ({size},), not {found}")
    return numbers
