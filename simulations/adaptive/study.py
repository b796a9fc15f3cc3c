"""Label noise under Adam and RMSprop against SGD, on the same networks from the same minima.

Perceptrons that have learned digits continue with label noise on their own outputs.  Theory says
that SGD descends on Tr H along the minima, and Adam on the sum of the roots of the diagonal of H in
a metric of its own.  The participation ratio (PR) of every layer under each optimiser is predicted
with nothing fitted.
"""

from typing import NamedTuple

import jax
import numpy as np
import xarray as xr

from sgdnoise.lab import Study, option
from simulations.adaptive import claims, figure
from simulations.adaptive._network import Network, Task
from simulations.adaptive._paths import Optimiser, predicted, setting_of, simulated

PATHS = 2  # of theory, with their own draws of jitter


class Case(NamedTuple):
    """A task, its label noise, rate x largest curvature at the start, and its optimisers."""

    task: Task
    label_noise: float
    sharpness: float
    optimisers: tuple[str, ...]


OPTIMISERS = {
    "sgd": Optimiser(None),
    "adam": Optimiser((0.9, 0.999)),
    "rmsprop": Optimiser((0.0, 0.999)),
    "sign descent": Optimiser((0.0, 0.0)),
    "adam, half the noise": Optimiser((0.9, 0.999), 0.5),
}
CASES = {
    "three classes": Case(Task(3, (20, 40, 3), 64, True), 0.3, 0.15, tuple(OPTIMISERS)),
    "four layers": Case(
        Task(3, (20, 40, 40, 40, 3), 64, True), 0.2, 0.2, ("sgd", "adam", "sign descent")
    ),
    "ten classes": Case(Task(10, (20, 40, 10), 48, False), 0.4, 0.2, ("sgd", "adam")),
}
LAYERS = max(len(case.task.widths) - 2 for case in CASES.values())


def run(
    case: str,
    optimiser: str,
    network: int,
    *,
    examples: int | None,
    learning: int,
    steps: int,
    records: int,
    jumps: int,
    draws: int,
    chains: int,
) -> xr.Dataset:
    """One optimiser on one network: theory and simulation, recorded at equal numbers of steps.

    Missing numbers where a case does not have an optimiser or a layer, and where theory does not
    describe the optimiser.  examples: of the task; None: all.  draws: pairs of jitter a jump.
    jumps: of theory between two records; they grow as the inverse square of the noise, since the
    smaller jitter lets P change faster where a unit has nearly died.
    """
    setting, way = CASES[case], OPTIMISERS[optimiser]
    theory = np.full((PATHS, LAYERS + 2, records + 1), np.nan)
    measured = np.full((chains, LAYERS + 2, records + 1), np.nan)
    losses, expected = np.full((chains, records), np.nan), np.full((2, PATHS, records), np.nan)
    numbers = dict.fromkeys(("rate", "amplification"), np.nan)
    if optimiser in setting.optimisers:
        with jax.enable_x64(True):
            task = setting.task._replace(examples=examples or setting.task.examples)
            net = Network(task, network, learning)
            at = setting_of(net, way, setting.label_noise, setting.sharpness)
            numbers = {"rate": at.rate, "amplification": at.amplification}
            depth = len(task.widths) - 2
            places = [*range(depth), LAYERS, LAYERS + 1]
            theory[:, places, 0] = measured[:, places, 0] = 0
            size = {"steps": steps, "every": steps // records}
            values, losses = simulated(net, way, at, chains=chains, key=network, **size)
            measured[:, places, 1:] = values
            if optimiser != "sign descent":
                size |= {"jumps": round(jumps / way.noise**2), "draws": draws}
                for path in range(PATHS):
                    theory[path, places, 1:], *expected[:, path] = predicted(
                        net, way, at, rng=path, **size
                    )
    return xr.Dataset(
        {
            "theory": (("path", "quantity", "watch"), theory),
            "simulated": (("chain", "quantity", "watch"), measured),
            "loss": (("chain", "interval"), losses),
            "predicted_loss": (("path", "interval"), expected[0]),
            "quadratic_loss": (("path", "interval"), expected[1]),
            "step": ("watch", steps // records * np.arange(records + 1)),
        }
        | numbers,
        {"quantity": [*(f"PR of layer {k + 1}" for k in range(LAYERS)), *claims.PENALTIES]},
    )


def check(parameters: dict) -> None:
    """Raise ValueError unless the looks at the loss divide the steps."""
    if parameters["steps"] % (10 * parameters["records"]):
        raise ValueError(f"steps must be a multiple of {10 * parameters['records']}")


study = Study(
    run,
    grid={"case": [*CASES], "optimiser": [*OPTIMISERS], "network": [1, 2]},
    sizes={
        "full": {
            "examples": None,
            "learning": 20_000,
            "steps": 12_000,
            "records": 4,
            "jumps": 20,
            "draws": 48,
            "chains": 16,
        },
        "small": {
            "case": ["three classes"],
            "optimiser": ["sgd", "adam", "sign descent"],
            "examples": 24,
            "learning": 5000,
            "steps": 400,
            "records": 2,
            "jumps": 2,
            "draws": 8,
            "chains": 4,
        },
    },
    options={
        "case": option(list, "only this case; may be repeated", choices=list(CASES)),
        "optimiser": option(list, "only this optimiser; may be repeated", choices=list(OPTIMISERS)),
        "steps": option(int, "steps of each optimiser", least=40),
        "chains": option(int, "chains of each network", least=2),
    },
    check=check,
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
