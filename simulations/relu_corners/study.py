"""Label noise on small networks of relus, whose corners the gradient of Tr H by autograd misses.

A perceptron of relus starts at a minimum without residuals: its targets are its own outputs.  SGD
with fresh label noise moves it along its minima.  Theory predicts the participation ratio (PR) of
its hidden layers, Tr H and the loss by the mean gradient under the jitter of the noise, at three
levels of noise with nothing fitted; descent on kappa Tr H with the gradient of autograd is a rival.
"""

import numpy as np
import torch
import xarray as xr

from sgdnoise.lab import Study, option
from simulations.relu_corners import claims, figure
from simulations.relu_corners._network import trained
from simulations.relu_corners._paths import Noise, descended, largest_rate, predicted, sgd

NOISES = (0.15, 0.2, 0.3)  # standard deviation of the labels
REFERENCE = 0.2  # the noise at which the number of steps is that of the size
SHARPNESS, BATCH = 0.2, 16  # sharpness: rate times the largest curvature at the start
PATHS = ("theory 0", "theory 1", "theory 2", "theory 3", "sgd 0", "sgd 1", "autograd 0")


def run(
    label_noise: float,
    path: str,
    *,
    examples: int,
    width: int,
    trained_for: int,
    steps: int,
    records: int,
    jumps: int,
    draws: int,
    chains: int,
    device: str,
) -> xr.Dataset:
    """One path at one level of noise, recorded at equal numbers of steps; SGD of `chains` networks.

    steps: at the noise REFERENCE; they grow as its inverse square, so that kappa times steps is the
    same.  jumps: of theory between two records.  draws: pairs of jitter for each.
    """
    net, (what, number) = trained(examples, width, trained_for, device), path.split()
    rate, trace = largest_rate(net, SHARPNESS)
    noise = Noise(label_noise, BATCH, rate)
    every = round(steps * (REFERENCE / label_noise) ** 2 / records / jumps) * jumps
    networks = chains if what == "sgd" else 1
    theta = net.start.repeat(networks, 1)
    values = np.full((chains, len(net.observe(net.start)), records + 1), np.nan)
    losses = np.zeros((2, records + 1))  # the mean loss, and its quadratic form
    values[:networks, :, 0] = net.observe(net.start)
    generator = torch.Generator(device).manual_seed(int(number))
    rng = np.random.default_rng(int(number))
    for watch in range(1, records + 1):
        if what == "sgd":
            theta, losses[0, watch] = sgd(net, theta, noise, every, generator)
            minima = net.quenched(theta, rate)
        else:
            theta, losses[:, watch] = _jumped(
                net, theta, noise, what, (watch - 1) * every, every, jumps, draws, rng
            )
            minima = [net.projected(theta[0])]
        values[:networks, :, watch] = [net.observe(at) for at in minima]
    return xr.Dataset(
        {
            "value": (("network", "quantity", "watch"), values),
            "loss": ("watch", losses[0]),
            "linear_loss": ("watch", losses[1]),
            "step": ("watch", every * np.arange(records + 1)),
            "rate": rate,
            "amplification": rate * trace / (2 * BATCH * net.targets.shape[1]),
        },
        {"quantity": [*(f"hidden layer {k + 1}" for k in range(values.shape[1] - 1)), "Tr H"]},
    )


def _jumped(net, theta, noise, what, begin, every, jumps, draws, rng):
    """theta (1, p) after the jumps between two records, and the mean losses of theory."""
    at, losses, each = theta[0], [], every // jumps
    for jump in range(jumps):
        if what == "autograd":
            at, both = descended(net, at, noise, each), (0.0, 0.0)
        else:
            at, both = predicted(net, at, noise, begin + jump * each, each, draws, rng)
        losses.append(both)
    linear, loss = np.mean(losses, 0)
    return at[None], (loss, linear)


study = Study(
    run,
    grid={"label_noise": [*NOISES], "path": [*PATHS]},
    sizes={
        "full": {
            "examples": 32,
            "width": 64,
            "trained_for": 1500,
            "steps": 5400,
            "records": 4,
            "jumps": 12,
            "draws": 30,
            "chains": 16,
        },
        "small": {
            "label_noise": [0.2, 0.3],
            "path": ["theory 0", "theory 1", "sgd 0", "autograd 0"],
            "examples": 12,
            "width": 24,
            "trained_for": 300,
            "steps": 480,
            "records": 2,
            "jumps": 4,
            "draws": 20,
            "chains": 6,
        },
    },
    options={
        "label_noise": option(list, "only this noise; may be repeated", choices=NOISES),
        "examples": option(int, "digits that the network sees", least=4),
        "steps": option(int, "steps of SGD at a noise of 0.2", least=96),
        "chains": option(int, "networks in each path of SGD", least=2),
    },
    claims=claims,
    figure=figure,
    device="torch",
)

if __name__ == "__main__":
    study.main()
