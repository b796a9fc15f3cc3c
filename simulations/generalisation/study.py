"""Dimension of the last hidden layer against test error, over settings drawn at random.

Places are drawn in the space of rate, batch size, width, fraction of shuffled labels and pixel
noise; from each place each of these is varied alone.  Networks are compared where all have the same
loss in training, and after equally many steps.
"""

import warnings
from functools import partial
from itertools import product

import numpy as np
import xarray as xr

from sgdnoise.dimension import Duplicates, find_neighbours, learned, participation_ratio, twonn
from sgdnoise.lab import Study, option, size_table
from simulations.generalisation import _nets as nets
from simulations.generalisation import claims, figure
from simulations.generalisation._settings import ESTIMATORS

N_NEIGHBORS = 40  # that `learned` uses
LEVELS = {"shuffled": (0.0, 0.25, 0.5, 1.0), "noise": (0.0, 0.5, 1.0)}  # a fraction; a deviation
MOMENTS, IMAGES = ("start", "equal loss", "equal steps"), ("held", "trained")
TASKS = ("mlp digits", "convnet digits", "mlp rendered", "convnet rendered")
_NETWORK = ("setting", "seed")
AXES = {
    "error": (*_NETWORK, "moment"),
    "loss": (*_NETWORK, "moment"),
    "accuracy": (*_NETWORK, "moment"),
    "dimension": (*_NETWORK, "moment", "where", "estimator"),
    "surrogate": (*_NETWORK, "estimator"),
    "input": (*_NETWORK, "estimator"),
    "step": _NETWORK,
    "tested": _NETWORK,
}


def settings(place: int, size: dict) -> tuple[list[dict], list[str]]:
    """A place drawn at random and each factor at its other levels; which factor varied."""
    rng = np.random.default_rng([size["seed"], place, 1])
    levels = {f: size[f"{f}s" if f != "batch" else "batches"] for f in ("rate", "batch", "width")}
    levels |= LEVELS
    base = {name: values[rng.integers(len(values))] for name, values in levels.items()}
    rows, varied = [base], ["none"]
    for name, values in levels.items():
        rows += [base | {name: value} for value in values if value != base[name]]
        varied += [name] * (len(values) - 1)
    return rows, varied


def run(task: str, place: int, *, size: dict, device: str) -> xr.Dataset:
    """All networks of one place; those of one width and batch size are trained together."""
    rows, varied = settings(place, size)
    seeds, seed = size["seeds"], size["seed"]
    first = (seed * 1000 + place) * 100  # no two places have a network's seed in common
    columns: dict[str, np.ndarray] = {}
    for index, (width, batch) in enumerate(product(size["widths"], size["batches"])):
        same = [i for i, row in enumerate(rows) if (row["width"], row["batch"]) == (width, batch)]
        members = [(i, k) for i in same for k in range(seeds)]
        if not members:
            continue
        rng = np.random.default_rng([seed, place, 2, index])
        group = [(rows[i], first + k) for i, k in members]
        for name, values in train_group(task, group, rng, size, device).items():
            blank = np.full((len(rows), seeds, *values.shape[1:]), np.nan)
            column = columns.setdefault(name, blank)
            for member, value in zip(members, values, strict=True):
                column[member] = value
    factors = {n: ("setting", np.asarray([row[n] for row in rows], float)) for n in rows[0]}
    variables = {n: (AXES[n], values) for n, values in columns.items()} | factors
    coords = {"moment": list(MOMENTS), "where": list(IMAGES), "estimator": list(ESTIMATORS)}
    return xr.Dataset(variables, coords | {"varied": ("setting", varied)})


def train_group(task_name, group, rng, size: dict, device: str) -> dict:
    """Trains networks of one width and batch size, (setting, seed) each, and measures them."""
    (name, data), (first, _) = task_name.split(), group[0]
    width, batch = first["width"], first["batch"]
    sets = {seed: image_sets(data, seed, size) for _, seed in group}
    tasks = []
    for row, seed in group:
        train, test = sets[seed]
        tasks.append(nets.corrupted(train, test, row["shuffled"], row["noise"], seed))
    task = nets.stacked_task(tasks, device)
    networks = [nets.network(name, tasks[0][0].shape[1:], width, seed) for _, seed in group]
    parameters, net = nets.stacked_networks(networks, device)
    start = {n: p.detach().clone() for n, p in parameters.items()}
    setting = {"batch": batch, "steps": size["steps"], "loss": size["loss"], "rng": rng}
    result = nets.train(parameters, net, task, rates=[row["rate"] for row, _ in group], **setting)
    moments = [
        measures(at, net, task, size, slow=i > 0)
        for i, at in enumerate((start, result.equal, result.end))
    ]
    columns = {n: np.stack([moment[n] for moment in moments], axis=1) for n in moments[0]}
    for values in columns.values():
        values[np.isnan(result.step), 1] = np.nan  # the loss was never reached
    held = task.others[:, : size["looked"]]
    hidden, inputs = _arrays(nets.hidden(result.end, net, held)), _arrays(held.flatten(2))
    return columns | {
        "surrogate": np.asarray([estimates(gaussian(rows, rng)) for rows in hidden]),
        "input": np.asarray([estimates(rows) for rows in inputs]),
        "step": result.step,
        "tested": np.full(len(group), task.truth.shape[1]),
    }


def image_sets(data, seed, size: dict):
    """Images to train on and to test on."""
    return nets.images(
        data, size["trained"] + size["others"], size["trained"], size["pixels"], seed
    )


def measures(parameters, net, task, size: dict, *, slow: bool) -> dict:
    """Test error, loss and accuracy in training, and the dimensions of test and training images."""
    correct = nets.predict(parameters, net, task.others).argmax(2) == task.truth
    fitted = nets.predict(parameters, net, task.inputs).argmax(2) == task.labels
    dimensions = [
        [estimates(rows, slow=slow) for rows in _arrays(nets.hidden(parameters, net, images))]
        for images in (task.others[:, : size["looked"]], task.inputs[:, : size["looked"]])
    ]
    return {
        "error": 1 - correct.double().mean(1).cpu().numpy(),
        "accuracy": fitted.double().mean(1).cpu().numpy(),
        "loss": nets.losses(parameters, net, task),
        "dimension": np.swapaxes(np.asarray(dimensions), 0, 1),
    }


def estimates(rows, *, slow: bool = True) -> list[float]:
    """Each of ESTIMATORS; missing where it fails, or without `slow` for `learned`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Duplicates)  # if all units are dead, points coincide
        try:
            neighbours = find_neighbours(rows, N_NEIGHBORS)
            local = twonn(neighbours.points, neighbours=neighbours)
            trees = learned(neighbours.points, neighbours=neighbours) if slow else np.nan
            return [float(participation_ratio(rows)), float(local), float(trees)]
        except ValueError:
            return [np.nan] * len(ESTIMATORS)


def gaussian(rows, rng):
    """As many normal points whose covariance is that of the rows, on average."""
    centred = rows - rows.mean(0)
    return rng.standard_normal((len(rows), len(rows))) @ centred / (len(rows) - 1) ** 0.5


def _arrays(rows):
    return rows.double().cpu().numpy()


def execute(parameters: dict, session) -> xr.Dataset:
    """All tasks and places."""
    grid = {"task": list(parameters["task"]), "place": list(range(parameters["places"]))}
    size = {name: value for name, value in parameters.items() if name not in ("task", "places")}
    return session.sweep(partial(run, size=size, device=parameters["device"]), grid)


FULL, SMALL = size_table(  # parameter: full, small
    {
        "task": (TASKS, TASKS[:2]),
        "places": (10, 2),
        "seeds": (3, 1),
        "trained": (300, 60),  # images
        "others": (1200, 200),  # images to test on, at most
        "looked": (300, 60),  # images that the estimators use, of either kind
        "pixels": (8, 8),  # of rendered images
        "widths": ((32, 64, 128), (8, 12, 16)),
        "rates": ((0.025, 0.05, 0.1), (0.025, 0.05, 0.1)),
        "batches": ((8, 16, 32), (4, 8, 16)),
        "steps": (1600, 40),
        "loss": (0.3, 1.8),  # in training, at which networks are compared
    }
)

study = Study(
    execute=execute,
    sizes={"full": FULL, "small": SMALL},
    options={
        "task": option(list, "only these networks and images", choices=list(TASKS)),
        "places": option(int, "places drawn at random", least=2),
        "seeds": option(int, "networks of each setting", least=1),
    },
    seed=True,
    device="torch",
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
