"""Label noise on residual networks that others trained on GPUs, against theory.

A public ResNet with frozen batch norm sees a few photographs and has its own outputs as targets, so
that it starts at a minimum without residuals.  SGD with fresh label noise moves it along its
minima.  Theory predicts the participation ratio (PR) of every block, Tr H and the loss, by the mean
gradient under the jitter of label noise; nothing is fitted.
"""

from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr

from sgdnoise.data import cifar10, normalized, patches
from sgdnoise.lab import Study, option
from sgdnoise.nets import freeze_batch_norm, smooth_relus
from sgdnoise.nets.models import pretrained_resnet, resnet
from simulations._vision import check_data
from simulations.public_network import claims, figure
from simulations.public_network._frozen import Frozen
from simulations.public_network._paths import (
    Noise,
    amplification,
    autograd_slopes,
    balanced,
    jittered,
    largest_rate,
    predicted,
    sgd,
)

BATCH, SHARPNESS = 4, 0.3  # sharpness: rate times the largest curvature at the start
QUENCH = 10  # steps of descent before a record
PAIRS = 1  # of jitter, from which theory takes the quench before a record
PATHS = (
    *(f"theory {number}" for number in range(2)),
    *(f"sgd {number}" for number in range(10)),
    *(f"{what} {number}" for what in ("isotropic", "diagonal") for number in range(2)),
)


class Case(NamedTuple):
    """Depth of the network, width of smoothed relus (0: relu), label noise, and its paths.

    steps: of SGD, examples: photographs, and draws: of jitter, as multiples of those of the size.
    seeds: of SGD.  controls: whether isotropic and diagonal noise run too.
    """

    depth: int
    smooth: float
    label_noise: float
    steps: float = 1.0
    seeds: int = 2
    examples: int = 1
    draws: float = 0.5
    controls: bool = False

    def runs(self, path: str) -> bool:
        """Whether this case has a path."""
        what, number = path.split()
        if what in ("isotropic", "diagonal"):
            return self.controls
        return what == "theory" or int(number) < self.seeds


CASES = {
    "smooth": Case(20, 0.3, 3.0, seeds=10, draws=1.0),
    "relu": Case(20, 0.0, 1.5, steps=2 / 3, seeds=8, draws=1.0),
    "relu, twice the noise": Case(20, 0.0, 3.0, steps=1 / 3, seeds=4),
    "relu, half the noise": Case(20, 0.0, 0.75, steps=1 / 3, seeds=4),
    "smooth, 56 layers": Case(56, 0.3, 3.0, steps=1 / 4, seeds=3),
    "smooth, more photographs": Case(20, 0.3, 6.0, steps=1 / 2, seeds=3, examples=4),
    "smooth, 32 layers": Case(32, 0.3, 3.0, steps=1 / 4, seeds=3),
    "smooth, 44 layers": Case(44, 0.3, 3.0, steps=1 / 4, seeds=3),
    "smooth, other noise": Case(20, 0.3, 3.0, steps=1 / 6, seeds=0, controls=True),
}


def frozen(case: Case, data, *, trained: bool, depth: int, examples: int, pixels: int, device):
    """The network of a case on its examples."""
    if trained:
        folder = None if data is None else Path(data)
        images, net = cifar10(folder).inputs, pretrained_resnet(case.depth, folder)
        chosen = np.random.default_rng(0).permutation(len(images))[:examples]
        inputs = torch.as_tensor(normalized(images[chosen]))
    else:
        net = resnet(depth, seed=0).eval()
        inputs = torch.as_tensor(normalized(patches(examples, pixels, rng=0).inputs))
    net, inputs = freeze_batch_norm(net).to(device), inputs.to(device)
    if case.smooth:
        net = smooth_relus(net, inputs, case.smooth)
    blocks = [
        f"layer{stage}.{number}"
        for stage in (1, 2, 3)
        for number, _ in enumerate(net.get_submodule(f"layer{stage}").children())
    ]
    return Frozen(net, inputs, blocks)


def run(
    case: str,
    path: str,
    *,
    data,
    trained: bool,
    depth: int,
    examples: int,
    pixels: int,
    steps: int,
    records: int,
    jumps: int,
    draws: int,
    probes: int,
    device: str,
) -> xr.Dataset:
    """One path of a case, recorded at equal numbers of steps; nan for a path the case has not.

    jumps: of theory between two records.  draws: pairs of jitter for each.  probes: random signs
    for the gradient of Tr H by autograd.
    """
    setting, (what, number) = CASES[case], path.split()
    every = round(steps * setting.steps / records / jumps) * jumps
    blocks = 3 * (((setting.depth if trained else depth) - 2) // 6) + 1
    size = 1 + 3 * ((max(c.depth for c in CASES.values()) - 2) // 6) if trained else blocks
    values = np.full((size + 3, records + 1), np.nan)  # PR of blocks and outputs, Tr H, losses
    numbers = dict.fromkeys(("rate", "sharpness", "amplification", "slope_trace"), np.nan)
    slopes = np.full(size, np.nan)
    if setting.runs(path):
        net = frozen(
            setting,
            data,
            trained=trained,
            depth=depth,
            examples=examples * setting.examples,
            pixels=pixels,
            device=device,
        )
        rate, trace = largest_rate(net, SHARPNESS)
        noise = Noise(setting.label_noise, BATCH, rate)
        generator = torch.Generator(device).manual_seed(int(number))
        values[-3:, 0] = trace, 0, 0
        values[:blocks, 0] = net.ratios(net.start).detach().cpu().numpy()
        if what == "theory":
            each = max(1, round(draws * setting.draws))
            rows = _theory(net, noise, int(number), every, records, jumps, each)
        else:
            rows = _measured(net, noise, what, every, records, generator)
        for watch, (ratios, *others) in enumerate(rows, 1):
            values[:blocks, watch], values[-3:, watch] = ratios, others
        u = amplification(trace, noise, net.targets.shape[1])
        numbers |= {"rate": rate, "sharpness": SHARPNESS, "amplification": u}
        if path == "theory 0":
            kappa = rate * setting.label_noise**2 / (4 * BATCH)
            along, numbers["slope_trace"] = autograd_slopes(net, probes, generator)
            slopes[:blocks] = kappa * rate * along
            numbers["slope_trace"] *= kappa * rate
    return xr.Dataset(
        {
            "ratio": (("layer", "watch"), values[:-3]),
            "trace": ("watch", values[-3]),
            "loss": ("watch", values[-2]),
            "linear_loss": ("watch", values[-1]),
            "step": ("watch", every * np.arange(records + 1)),
            "slope_ratio": ("layer", slopes),
        }
        | numbers
    )


def _measured(net, noise, what, every, records, generator):
    """PR, Tr H and the mean loss of SGD at each record, without the loss of theory."""
    theta, shape = net.start, "label" if what == "sgd" else what
    for _ in range(records):
        theta, loss = sgd(net, theta, noise, every, shape, generator)
        yield *_after_quench(net, theta, noise), loss, np.nan


def _theory(net, noise, number, every, records, jumps, draws):
    """PR, Tr H, the mean loss and Tr(H S) / 2 at each record.

    PR and Tr H are means over the same quench from a pair of jitter about the mean: while jitter
    decays, it still moves the weights.
    """
    theta, along = net.start, torch.zeros_like(net.start)
    rngs = np.random.default_rng(number).spawn(2)
    white, pairs = (balanced(net.targets.numel(), rng) for rng in rngs)
    steps = every // jumps
    for watch in range(records):
        losses = []
        for jump in range(jumps):
            drawn, begin = np.asarray([*islice(white, draws)]), watch * every + jump * steps
            theta, along, both = predicted(net, theta, along, noise, begin, steps, drawn)
            losses.append(both)
        away = jittered(net, theta, noise, (watch + 1) * every, [*islice(pairs, PAIRS)])
        ratios, traces = zip(*[_after_quench(net, at, noise) for at in away], strict=True)
        linear, loss = np.mean(losses, 0)
        yield np.mean(ratios, 0), np.mean(traces), loss, linear


def _after_quench(net, theta, noise):
    """PR of blocks and outputs, and Tr H, at the minimum that descent reaches."""
    theta = net.minimum(theta, noise.rate, QUENCH)
    trace = float(net.jacobian(theta).square().sum()) / len(net.inputs)
    return net.ratios(theta).detach().cpu().numpy(), trace


def check(parameters: dict) -> None:
    """Raise ValueError for a folder of data that does not exist."""
    check_data(parameters["data"], parameters["trained"])


study = Study(
    run,
    grid={"case": [*CASES], "path": [*PATHS]},
    sizes={
        "full": {
            "data": None,
            "trained": True,
            "depth": 20,
            "examples": 32,
            "pixels": 32,
            "steps": 6000,
            "records": 2,
            "jumps": 4,
            "draws": 40,
            "probes": 20,
        },
        "small": {
            "case": ["smooth", "relu"],
            "path": ["theory 0", "theory 1", "sgd 0", "sgd 1"],
            "data": None,
            "trained": False,
            "depth": 8,
            "examples": 4,
            "pixels": 8,
            "steps": 200,
            "records": 2,
            "jumps": 2,
            "draws": 10,
            "probes": 4,
        },
        "cuda": {"examples": 64, "steps": 20_000, "jumps": 8, "draws": 80},
    },
    options={
        "case": option(list, "only this case; may be repeated", choices=list(CASES)),
        "path": option(list, "only this path; may be repeated", choices=PATHS),
        "data": option(str, "folder with CIFAR-10 and the checkpoints; else they are fetched"),
        "examples": option(int, "photographs that the network sees", least=4),
        "steps": option(int, "steps of SGD of the longest cases", least=48),
    },
    check=check,
    claims=claims,
    figure=figure,
    device="torch",
)

if __name__ == "__main__":
    study.main()
