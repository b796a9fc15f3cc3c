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
from sgdnoise.theory import label_noise_strength, network_regime
from simulations.next_order import claims, figure
from simulations.next_order._network import Flow, Net, descend, sgd

HIDDEN, INPUTS, EXAMPLES, BATCH = 40, 20, 128, 8
RECORDS, SPEEDUP = 8, 4  # recorded moments; rate of descent over that of SGD
LEARNING = 0.1, 20_000  # rate and steps of gradient descent before noise is switched on
QUENCH = 100  # steps of descent without noise before a record
SMALL = ("sharpness", "haste", "jitter")  # parameters of `network_regime` that are stored
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

    mean_loss: E L of SGD since the previous record, before any quench.  flow_loss and excess: L and
    Tr(H S) / 2 on each flow at the records, before any quench.
    replicas: runs of SGD with different noise.  learning: steps of descent before it.
    """
    setting = CASES[case]
    net, start = network_of(setting, network)
    generator = torch.Generator().manual_seed(network)
    theta = descend(net.loss, start, LEARNING[0], learning)
    noise = {"batch": BATCH, "label_noise": setting.label_noise, "generator": generator}
    every = max(1, round(steps / RECORDS / SPEEDUP)) * SPEEDUP
    fast = SPEEDUP * setting.rate

    paths, mean_loss = recorded(
        net,
        lambda rows: sgd(net, rows, setting.rate, every, **noise),
        *(theta.repeat(replicas, 1), fast),
    )
    flows = [flow_path(net, order, theta, setting.rate, every, noise) for order in (1, 2)]
    followed, losses, excess = zip(*flows, strict=True)
    paths = [paths, *(np.repeat(path, replicas, axis=1) for path in followed)]
    values = np.stack(paths, 1)  # (observable, how, replica, watch)
    steps_at = every * np.arange(RECORDS + 1)
    regime = regime_of(net, theta, setting, setting.rate * steps_at, values[:2, 2, 0])
    dims = ("how", "replica", "watch")
    return xr.Dataset(
        {name: (dims, values[k]) for k, name in enumerate(("ratio", "trace", "loss"))}
        | {
            "mean_loss": (("replica", "watch"), mean_loss),
            "flow_loss": (("flow", "watch"), np.stack(losses)),
            "excess": (("flow", "watch"), np.asarray(excess)),
            "kappa": label_noise_strength(setting.rate, setting.label_noise, BATCH),
            "step": ("watch", steps_at),
            "rate": setting.rate,
            "amplification": setting.rate * values[1, 0, 0, 0] / (2 * BATCH * net.widths[2]),
        }
        | regime,
        {"how": list(HOW), "flow": list(HOW[1:])},
    )


def recorded(net: Net, advance, rows, fast: float):
    """Observables (observable, replica, watch) and losses (replica, watch) at all records.

    advance: the rows of parameters at one record -> those at the next, and a loss of each.
    """
    records, losses = [observe(net, rows, fast)], [net.loss(rows).numpy()]
    for _ in range(RECORDS):
        rows, loss = advance(rows)
        records.append(observe(net, rows, fast))
        losses.append(np.asarray(loss))
    return np.stack(records, -1), np.stack(losses, -1)


def flow_path(net: Net, order: int, theta, rate: float, every: int, noise: dict):
    """Observables of a flow as in `recorded`; its L and Tr(H S) / 2 at the records, (watch,)."""
    flow, energies, fast = Flow(net, order, rate=rate, **noise), [0.0], SPEEDUP * rate

    def advance(rows):
        end = flow.advance(rows[0], fast, every // SPEEDUP)
        energies.append(float(flow.excess(end, fast * flow.steps)))
        return end[None], net.loss(end)[None]

    path, losses = recorded(net, advance, theta[None], fast)
    return path, losses[0], energies


def regime_of(net: Net, theta, setting: Case, times, paths) -> dict[str, float]:
    """The small parameters at the start, by their names, for predicted paths (observable, t)."""
    regime = network_regime(
        net.jacobian(theta),
        [(net.hidden(theta, net.x), torch.func.jacrev(net.hidden)(theta, net.x))],
        times,
        paths,
        label_noise=setting.label_noise,
        learning_rate=setting.rate,
        batch_size=BATCH,
        residuals=net.outputs(theta, net.x) - net.y,
    )
    return {name: value for name, value in regime._asdict().items() if name in SMALL}


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
