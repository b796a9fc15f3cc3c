"""One network whose examples are shared among the processes of torch.distributed."""

import sys
from itertools import accumulate

import torch
import torch.distributed as dist
from torch.func import jvp as jvp
from torch.func import vmap as vmap

from sgdnoise.core._problem import Problem


def shared(problem: Problem) -> Problem:
    """The Problem of the examples of all ranks, in the order of ranks; `problem` is this rank's.

    Its examples are their numbers 0, ..., n - 1: weights and minibatches are of all n, as if one
    process held them.  Each rank runs forward and back over those that are its own, and what
    is summed over examples is then summed over ranks (all-reduce): sum_r sum_{i in r} w_i grad l_i.
    Every rank must be asked the same at once, with the same theta and, from one seed, the same
    draws.  Noise on the targets and per-example gradients are not had this way.
    Raises ValueError where torch.distributed has not begun.
    """
    if not dist.is_initialized():
        raise ValueError("torch.distributed has not begun: call init_process_group first")
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
    """The gradient of what is summed over ranks: torch.func.grad of this rank's share, summed."""

    def summed(theta):
        return _Summed.apply(torch.func.grad(function)(theta))

    return summed


class _Summed(torch.autograd.Function):
    """The sum over ranks; back through it goes what concerns this rank alone."""

    @staticmethod
    def forward(values):
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, slope):  # noqa: ARG004 - nothing was kept for it
        return slope

    @staticmethod
    def jvp(ctx, tangent):  # noqa: ARG004 - nothing was kept for it
        return _Summed.apply(tangent)
