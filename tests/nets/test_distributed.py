"""Descent on examples shared among ranks is that of one process, to rounding."""

import json
import subprocess
import sys
from itertools import islice

import pytest
import torch
from torch import nn

from sgdnoise import noise
from sgdnoise.dynamics import sgd
from sgdnoise.nets import as_problem, shared, walk
from sgdnoise.noise import gaussian_weights, with_replacement

SPLIT = 0, 5, 12  # of the examples, unequal
ROUNDING = 1e-13  # the order of sums of some ten doubles of size one


def whole(start=0, stop=12):
    """A network and some of twelve examples."""
    torch.manual_seed(0)
    inputs, labels = torch.randn(12, 3).double(), torch.arange(12) % 4
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    loss = nn.CrossEntropyLoss(reduction="none")
    return as_problem(net, loss, inputs[start:stop], labels[start:stop])


def measured(problem, theta):
    """What one may ask of a problem; the second minibatch has none of the second rank's."""
    n, generator = len(problem), torch.Generator().manual_seed(1)
    weights = torch.randn(n, generator=generator).double()
    subset = problem.subset(torch.tensor([4, 0, 0]))
    laws = with_replacement(n, 3), gaussian_weights(with_replacement(n, 3))
    walks = (walk(sgd(noise.from_weights(problem, law), 0.1), theta, 7) for law in laws)
    steps = [next(islice(value, 3, None)) for value in walks]
    return [
        problem.value(theta),
        problem.losses(theta, *problem.examples),
        problem.gradient(theta),
        problem.weighted_gradient(theta, weights),
        subset.weighted_gradient(theta, weights[:3]),
        problem.hvp(theta, theta.cos()),
        *steps,
    ]


SCRIPT = """
import json, sys
sys.path[:0] = ["tests", "."]
import torch
torch.set_num_threads(1)
import torch.distributed as dist
from nets.test_distributed import SPLIT, measured, whole
from sgdnoise.nets import shared

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
part, theta = whole(*SPLIT[rank:rank + 2])
print(json.dumps([each.tolist() for each in measured(shared(part), theta)]))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_ranks_give_what_one_process_gives(tmp_path):
    command = [sys.executable, "-c", SCRIPT]
    both = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meet")], stdout=subprocess.PIPE)
        for rank in range(2)
    ]
    expected = measured(*whole())
    for child in both:
        result = json.loads(child.communicate(timeout=120)[0])
        for first, second in zip(result, expected, strict=True):
            torch.testing.assert_close(
                torch.tensor(first, dtype=torch.float64), second, rtol=ROUNDING, atol=ROUNDING
            )


def test_without_other_processes_it_is_refused():
    with pytest.raises(ValueError, match=r"torch\.distributed is not initialised"):
        shared(whole()[0])
