"""Calls of the tables of gradient-noise covariances: from the network to the answer, each anew."""

import warnings
from copy import deepcopy
from functools import partial

import torch

from benchmarks.covariance_peers import PEERS
from benchmarks.covariance_tasks import NETWORKS, Examples
from benchmarks.rows import Row, Task
from sgdnoise.core import Gram
from sgdnoise.nets import gradient_covariance


def network(name: str, **size) -> Task:
    """One of the networks on random examples, all in this process on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    examples = NETWORKS[name](**size)
    packages = {"sgdnoise": anew, "sgdnoise, set up": again} | PEERS
    return Task(
        partial(passed, _with_its_own_net(examples)),
        {
            package: partial(_rows, make, _with_its_own_net(examples))
            for package, make in packages.items()
        },
    )


def _with_its_own_net(examples):
    """The same examples with a copy of the network, since some peers leave hooks in theirs."""
    return examples._replace(net=deepcopy(examples.net))


def _rows(make, examples):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [Row(what, run) for what, run in make(examples).items()]


def passed(examples: Examples, batch=256) -> None:
    """Pass forward and back over the examples."""
    for start in range(0, len(examples.targets), batch):
        subset = slice(start, start + batch)
        examples.net.zero_grad()
        outputs = examples.net(examples.inputs[subset])
        examples.losses(outputs, examples.targets[subset]).sum().backward()


def anew(examples: Examples) -> dict:
    """What -> ours, from the network to the answer."""
    return _ours(partial(gradient_covariance, *examples), examples) | {
        "set-up": lambda: gradient_covariance(*examples)
    }


def again(examples: Examples) -> dict:
    """What -> ours once the covariance has been set up; for products, its mean is known too."""
    known = gradient_covariance(*examples)
    known @ torch.zeros(examples.p)
    rows = _ours(lambda: Gram(known.rows, known.var_within, known.var_mean), examples)
    return rows | {"product": partial(known.__matmul__, torch.randn(examples.p))}


def _ours(made, examples):
    vector = torch.randn(examples.p)
    return {
        "product": lambda: made() @ vector,
        "trace": lambda: made().trace(),
        "diagonal": lambda: made().diagonal(),
        "noise scale": lambda: _scale(made()),
        "top 10": lambda: made().top(10).values,
        "top 10 pairs": lambda: made().top(10).vectors,
        "spectrum": lambda: made().eigenvalues(),
        "draw": lambda: made().draw(rng=0),
    }


def _scale(covariance):
    return covariance.trace() / (covariance.mean @ covariance.mean)
