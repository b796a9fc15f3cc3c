"""A network under label noise against the flow of first order and that of the next order.

Two-layer tanh networks learn digits and continue from the same weights: by SGD with fresh label
noise, by gradient descent on L + Tr(H S) / 2 with the covariance S of first order (the flow of
kappa Tr H), and with that of the next order, which has the finite step and the noise of sampling
the residuals that the jitter makes.  Nothing is fitted.
"""

from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import nn

from sgdnoise.data import digits, principal, split
from sgdnoise.dimension import participation_ratio
from sgdnoise.lab import Study, option
from sgdnoise.nets.models import mlp
from simulations.next_order import claims, figure
from simulations.next_order._network import Flow, Net, descend, sgd

HIDDEN, INPUTS, EXAMPLES, BATCH = 40, 20, 128, 8
RECORDS, SPEEDUP = 8, 4  # recorded moments; rate of descent over that of SGD
LEARNING = 0.1, 20_000  # rate and steps of gradient descent before noise is switched on
QUENCH = 100  # steps of descent without noise before a record
HOW = ("sgd", "first order", "next order")


class Case(NamedTuple):
    """Classes of digits, whether inputs are whitened, rate, and label noise."""

    classes: int
    whiten: bool
    rate: float
    label_noise: float


CASES = {
    "ten": Case(10, False, 0.03, 1.0),
    "ten, half the noise": Case(10, False, 0.03, 0.5),
    "three": Case(3, True, 0.04, 1.0),
}


def network_of(case: Case, seed: int) -> tuple[Net, torch.Tensor]:
    """A network with its data, and its initial parameters."""
    train, test = split(digits(case.classes), EXAMPLES, rng=seed)
    data = principal(train, test, INPUTS, whiten=case.whiten)[0]
    x, y = (torch.asarray(np.asarray(a), dtype=torch.float32) for a in (data.inputs, data.targets))
    widths = INPUTS, HIDDEN, case.classes
    model = mlp([*widths], "tanh", seed=seed)
    first, second = (module for module in model if isinstance(module, nn.Linear))
    tensors = first.weight.T, second.weight.T, first.bias, second.bias
    return Net(widths, x, y), torch.cat([t.detach().reshape(-1) for t in tensors])


def run(case: str, network: int, *, replicas: int, steps: int, learning: int) -> xr.Dataset:
    """SGD and both flows of one network from the same weights, recorded at the same moments.

    replicas: runs of SGD with different noise.  learning: steps of descent before it.
    """
    setting = CASES[case]
    net, start = network_of(setting, network)
    generator = torch.Generator().manual_seed(network)
    theta = descend(net.loss, start, LEARNING[0], learning)
    noise = {"batch": BATCH, "label_noise": setting.label_noise, "generator": generator}
    every = max(1, round(steps / RECORDS / SPEEDUP)) * SPEEDUP
    fast = SPEEDUP * setting.rate

    def recorded(advance, rows):
        records = [observe(net, rows, fast)]
        for _ in range(RECORDS):
            rows = advance(rows)
            records.append(observe(net, rows, fast))
        return np.stack(records, -1)  # (observable, replica, watch)

    def noisy(rows):
        return sgd(net, rows, setting.rate, every, **noise)

    paths = [recorded(noisy, theta.repeat(replicas, 1))]
    for order in (1, 2):
        flow = Flow(net, order, rate=setting.rate, **noise)

        def advance(rows, flow=flow):
            return flow.advance(rows[0], fast, every // SPEEDUP)[None]

        paths.append(np.repeat(recorded(advance, theta[None]), replicas, axis=1))
    values = np.stack(paths, 1)  # (observable, how, replica, watch)
    curvature = np.linalg.norm(net.jacobian(theta).flatten(0, 1), 2) ** 2 / EXAMPLES
    dims = ("how", "replica", "watch")
    return xr.Dataset(
        {name: (dims, values[k]) for k, name in enumerate(("ratio", "trace", "loss"))}
        | {
            "step": ("watch", every * np.arange(RECORDS + 1)),
            "rate": setting.rate,
            "sharpness": setting.rate * curvature,
            "amplification": setting.rate * values[1, 0, 0, 0] / (2 * BATCH * net.widths[2]),
        },
        {"how": list(HOW)},
    )


def observe(net: Net, rows, rate: float):
    """PR of the hidden layer, Tr H and loss of each row after a quench, (3, replica)."""
    rows = descend(net.loss, rows, rate, QUENCH)
    values = [
        (participation_ratio(net.hidden(t, net.x).double()), net.trace(t), net.loss(t))
        for t in rows
    ]
    return np.asarray([[float(v) for v in row] for row in values]).T


study = Study(
    run,
    grid={"case": [*CASES], "network": [0, 1, 2]},
    sizes={
        "full": {"case": [*CASES][:2], "replicas": 8, "steps": 8000, "learning": LEARNING[1]},
        "small": {
            "case": ["three"],
            "network": [0, 1],
            "replicas": 4,
            "steps": 320,
            "learning": 5000,
        },
    },
    options={
        "case": option(list, "only this case; may be repeated", choices=list(CASES)),
        "replicas": option(int, "runs of SGD of each network", least=2),
        "steps": option(int, "steps of SGD", least=32),
    },
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
