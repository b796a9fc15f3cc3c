"""One network whose examples are shared among the processes of torch.distributed."""

import sys
from itertools import accumulate

import torch
import torch.distributed as dist
from torch.func import jvp as jvp
from torch.func import vmap as vmap

from sgdnoise.core._arguments import checked_by_annotation
from sgdnoise.core._problem import Problem


@checked_by_annotation
def shared(problem: Problem) -> Problem:
    """The Problem of the examples of all ranks of torch.distributed, in the order of ranks.

    problem: the Problem of the examples of this rank.  The examples of the result are the numbers
    0, ..., n - 1, so weights and minibatches refer to all n examples, as if one process had them.
    Each rank runs forward and backward over its own examples, and sums over examples are then
    summed over ranks (all-reduce): sum_r sum_{i in r} w_i grad l_i.  All ranks must call it at the
    same time, with the same theta and the same draws.  It has no noise on targets and no
    per-example gradients.
    Raises ValueError if torch.distributed is not initialised.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from torch import distributed
        >>> from sgdnoise.core import Problem
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (torch.ones(4, 2),))
        >>> with tempfile.TemporaryDirectory() as folder:  # a group of one process
        ...     file = f"file://{folder}/group"
        ...     distributed.init_process_group("gloo", file, rank=0, world_size=1)
        ...     print(shared(problem).gradient(torch.zeros(2)).tolist())
        ...     distributed.destroy_process_group()
        [-1.0, -1.0]
    """
    if not dist.is_initialized():
        raise ValueError("torch.distributed is not initialised: call init_process_group first")
    counts = [torch.zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
    device = problem.examples[0].device
    counts = [count.to(device) for count in counts]
    dist.all_gather(counts, torch.tensor([len(problem)], device=device))
    ends = list(accumulate(int(count) for count in counts))
    first = ends[dist.get_rank()] - len(problem)

    def losses(theta, numbers):
        on_this_rank = (numbers >= first) & (numbers < first + len(problem))
        losses_ = theta.new_zeros(numbers.shape)
        if on_this_rank.any():
            mine = problem.subset(numbers[on_this_rank] - first)
            losses_ = losses_.masked_scatter(on_this_rank, mine.losses(theta, *mine.examples))
        return _Summed.apply(losses_)

    numbers = torch.arange(ends[-1], device=device)
    return Problem(losses, (numbers,), problem.size, autodiff=sys.modules[__name__])


def grad(function):
    """The gradient of a function that is summed over ranks: the sum of those of all ranks."""

    def summed(theta):
        return _Summed.apply(torch.func.grad(function)(theta))

    return summed


class _Summed(torch.autograd.Function):
    """The sum over ranks, whose backward pass stays on this rank."""

    @staticmethod
    def forward(values):
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):  # noqa: ARG004 - the context stores nothing
        return gradient

    @staticmethod
    def jvp(ctx, tangent):  # noqa: ARG004 - the context stores nothing
        return _Summed.apply(tangent)
