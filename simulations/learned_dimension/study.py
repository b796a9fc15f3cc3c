"""A measured dimension in the loss, beside the noise that changes the dimension by itself.

Networks are trained on L + c m, with m a participation ratio, an effective rank or TwoNN of their
hidden layer; others continue under label noise, which acts as kappa Tr H in theory.  Where c brings
both to one dimension, what else do they have in common?
"""

from functools import partial

import numpy as np
import torch
import xarray as xr

from sgdnoise.dimension import participation_ratio
from sgdnoise.lab import Study, merge_sweeps, option, size_table
from sgdnoise.theory import label_noise_strength
from simulations.learned_dimension import _nets as networks
from simulations.learned_dimension import _noise as theory
from simulations.learned_dimension import claims, figure
from simulations.learned_dimension._flow import flow
from simulations.learned_dimension._images import images

AXES = {"share": ("component",), "noisy": ("noise",), "adversarial": ("push",)}
BATCH = 32  # examples, from which PR is estimated for its bias
COEFFICIENTS = {  # up to where a measure falls below that of label noise
    "participation_ratio": (-0.003, 0.001, 0.003, 0.006, 0.01, 0.016),
    "effective_rank": (-0.003, 0.003, 0.01, 0.02, 0.03, 0.05),
    "twonn": (-0.003, 0.0002, 0.001, 0.003, 0.01),
}


def run(seed: int, *, size: dict, device: str) -> xr.Dataset:
    """One seed: a trained network, and where each objective and label noise take it."""
    data = networks.task(seed, size["examples"], size["width"], device)
    loss, records = partial(networks.losses, task=data), size["looks"]

    def observe(w):
        return networks.measured(participation_ratio, networks.hidden(w, data.inputs))

    def descend_recorded(weights, total, steps, observe=observe):
        every = max(1, steps // records)
        return networks.descend(weights, total, size["rate"], every * records, observe, every)

    start = networks.initial_weights(data, size["units"], seed)
    start = networks.descend(start, loss, size["rate"], size["learning"])
    noise = {
        "learning_rate": size["noise_rate"],
        "label_noise": size["label_noise"],
        "batch_size": size["batch"],
    }
    noisy, seen, mean_loss = networks.noisy_sgd(
        start, data, size["noisy"], seed, partial(theory.observed, task=data), records, **noise
    )
    ends, paths = {"start": start, "label noise": noisy}, {"label noise": seen[:, 0, 0]}
    kappa = label_noise_strength(**noise)
    longer = max(1, round(size["noisy"] * size["noise_rate"] / size["rate"]))
    ends["trace"], descended = descend_recorded(
        start,
        lambda w: loss(w) + kappa * networks.traces(w, data.inputs),
        longer,
        networks.flattened,
    )
    descended = networks.unflattened(descended[:, 0], start)
    paths["trace"] = theory.observed(descended, data)[:, 0]
    ends["descent"], along = descend_recorded(start, loss, size["steps"])
    paths["descent"] = along[:, 0]
    for name, coefficients in COEFFICIENTS.items():
        c = torch.tensor(coefficients, dtype=data.inputs.dtype, device=data.inputs.device)

        def total(w, name=name, c=c):
            return loss(w) + c * networks.measured(
                networks.MEASURES[name], networks.hidden(w, data.inputs)
            )

        stack = [layer.expand(len(c), -1, -1) for layer in start]
        stack, along = descend_recorded(stack, total, size["steps"])
        for i, value in enumerate(coefficients):
            ends[f"{name} {value:.3g}"] = [layer[i : i + 1] for layer in stack]
            paths[f"{name} {value:.3g}"] = along[:, i]
    stack = [torch.cat(layers) for layers in zip(*ends.values(), strict=True)]
    values = networks.final_measures(
        networks.descend(stack, loss, size["rate"], size["quench"]), data, seed
    )
    blank = torch.full((records,), torch.nan)
    path = np.stack([paths.get(arm, blank).cpu().numpy() for arm in ends])
    variables: dict = {name: (("arm", *AXES.get(name, ())), v) for name, v in values.items()}
    variables |= {"path": (("arm", "look"), path), "kappa": kappa}
    columns = {"mean_loss": mean_loss, "noisy_trace": seen[:, 0, 2]}
    variables |= {name: ("look", v.numpy(force=True)) for name, v in columns.items()}
    variables |= theory.predictions(descended, data, size["noisy"], **noise)
    variables |= networks.batch_ratios(networks.hidden(start, data.inputs)[0], BATCH, seed)
    coords = {"arm": list(ends), "noise": list(networks.NOISE), "push": list(networks.ADVERSARIAL)}
    return xr.Dataset(variables, coords)


def execute(parameters: dict, session) -> xr.Dataset:
    """All seeds, the predictions of calculus, and the convolutional networks."""
    first = parameters["seed"]
    seeds, nets = (list(range(first, first + parameters[name])) for name in ("seeds", "nets"))
    ignored = ("seed", "seeds", "nets")
    size = {name: value for name, value in parameters.items() if name not in ignored}
    setting = {"size": size, "device": parameters["device"]}
    sweeps = {
        "seeds": (partial(run, **setting), {"seed": seeds}),
        "flow": (partial(flow, **setting), {"seed": seeds}),
        "images": (partial(images, **setting), {"net": nets}),
    }
    return merge_sweeps(session.sweep_all(sweeps))


FULL, SMALL = size_table(  # parameter: full, small
    {
        "seeds": (8, 2),
        "learning": (15_000, 300),  # steps before anything is added to the loss
        "steps": (1500, 4),  # on L + c m
        "noisy": (80_000, 2000),  # steps with label noise
        "looks": (20, 2),  # records on the way
        "respond": (200, 4),  # steps of the response to small c
        "nets": (8, 2),  # convolutional, of each kind
        "epochs": (20, 1),
        "quench": (1000, 10),
        "examples": (128, 32),
        "width": (20, 10),  # inputs
        "units": (40, 16),
        "rate": (0.1, 0.1),
        "noise_rate": (0.05, 0.05),
        "batch": (8, 8),
        "label_noise": (1.0, 1.0),
        "channels": ((8, 16), (4, 4)),
        "pictures": (1000, 64),  # that the convolutional networks learn from
    }
)

study = Study(
    execute=execute,
    sizes={"full": FULL, "small": SMALL},
    options={
        "seeds": option(int, "two-layer networks", least=2),
        "steps": option(int, "steps on L + c m", least=1),
    },
    seed=True,
    device="torch",
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
