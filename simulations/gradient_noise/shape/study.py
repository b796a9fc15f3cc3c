"""The shape of gradient noise against curvature, through the training of two small networks.

Labels drawn from the network's own softmax give gradients whose second moment is, on average,
exactly the Fisher information, that is the Gauss-Newton matrix; the mean square of the difference
is known too.  The labels of the data, and random ones, are measured for contrast.
"""

import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr

from sgdnoise.core import Gram
from sgdnoise.data import digits, rendered
from sgdnoise.lab import Study, option
from sgdnoise.nets import as_problem, per_example_gradients
from sgdnoise.nets.models import convnet, mlp
from sgdnoise.noise import alignment, fisher_inner_product, fisher_scatter, fisher_trace
from simulations.gradient_noise.shape import claims, figure

CLASSES = 10
TRAINED = 1000  # examples to train on; measures use the first of them
RATE, BATCH = 0.1, 32
EIGENVALUES = 60  # that are stored
KINDS = ("data", "drawn", "random")


def network(name: str, seed: int):
    """A network, with the inputs and labels that it is trained on."""
    rng = np.random.default_rng([seed, 2])
    if name == "mlp":
        data = digits()
        chosen = rng.permutation(len(data.inputs))[:TRAINED]
        net, inputs, targets = mlp((64, 32, CLASSES), seed=seed), data.inputs, data.targets
        return net, *_torch(inputs[chosen], targets[chosen].argmax(1))
    data = rendered(TRAINED, size=16, rng=rng)
    return convnet((8, 8, 16, 16), CLASSES, 16, seed=seed), *_torch(data.inputs, data.targets)


def _torch(inputs, labels):
    return torch.asarray(inputs, dtype=torch.float32), torch.asarray(labels)


def run(
    net: str, seed: int, *, moments: list[int], examples: int, draws: int, n_probes: int
) -> xr.Dataset:
    """One training: at some steps, the gradients under each kind of labels, and C against H."""
    module, inputs, labels = network(net, seed)
    rng = np.random.default_rng([seed, 3])
    optimizer = torch.optim.SGD(module.parameters(), RATE)
    datasets, step = [], 0
    for moment in moments:
        for _ in range(moment - step):
            batch = torch.asarray(rng.integers(0, TRAINED, BATCH))
            optimizer.zero_grad()
            F.cross_entropy(module(inputs[batch]), labels[batch]).backward()
            optimizer.step()
        step = moment
        datasets.append(measure(module, inputs, labels, examples, draws, n_probes, rng))
    return xr.concat(datasets, xr.IndexVariable("moment", moments))


def measure(module, inputs, labels, n, draws, n_probes, rng) -> xr.Dataset:
    """All measures at one point of training, from the first n of the examples."""
    with torch.no_grad():
        outputs = module(inputs)
        accuracy = float((outputs.argmax(1) == labels).double().mean())
        laws = outputs[:n].double().softmax(1).numpy()
    gram = by_label(module, inputs[:n])
    values = under_labels(gram, laws, labels[:n].numpy(), draws, rng)
    values["accuracy"] = accuracy
    return xr.Dataset(values | against_hessian(module, inputs[:n], labels[:n], n_probes, rng))


def by_label(module, inputs) -> np.ndarray:
    """Inner products of the gradients of each example under each label, (n y, n y)."""
    n = len(inputs)
    repeated = inputs.repeat_interleave(CLASSES, 0)
    labels = torch.arange(CLASSES).repeat(n)
    losses = partial(F.cross_entropy, reduction="none")
    return per_example_gradients(module, losses, repeated, labels).gram().double().numpy()


def under_labels(gram, laws, labels, draws, rng) -> dict:
    """A under each kind of labels against F: traces, inner products, and distances."""
    n = len(labels)
    fisher = laws.ravel() / n
    norm = float(fisher_inner_product(gram, fisher, fisher))
    total = float(fisher_trace(gram, fisher))
    random = rng.integers(0, CLASSES, n)
    kinds = {"data": labels, "random": random}
    shape = {
        kind: _ratios(gram, _ones(chosen), fisher, norm, total) for kind, chosen in kinds.items()
    }
    uniform = rng.random((draws, n, 1))
    chosen = (uniform > laws.cumsum(1)[None]).sum(2).clip(max=CLASSES - 1)
    drawn = np.stack([_ratios(gram, _ones(labels), fisher, norm, total) for labels in chosen])
    shape["drawn"] = drawn.mean(0)
    predicted = float(fisher_scatter(gram, laws)) / norm
    error = drawn.std(0, ddof=1) / draws**0.5
    traces, products, cosines, distances = np.stack([shape[kind] for kind in KINDS], 1)
    root = (fisher**0.5)[:, None]
    eigenvalues = np.linalg.eigvalsh(root * gram * root.T)[::-1][:EIGENVALUES]
    return {
        "kind": list(KINDS),
        "trace_ratio": ("kind", traces),
        "product_ratio": ("kind", products),
        "cosine": ("kind", cosines),
        "distance": ("kind", distances),
        "trace_ratio_drawn_stderr": error[0],
        "product_ratio_drawn_stderr": error[1],
        "distance_drawn_stderr": error[3],
        "distance_predicted": predicted,
        "fisher_eigenvalues": ("mode", np.pad(eigenvalues, (0, EIGENVALUES - len(eigenvalues)))),
        "fisher_participation": total**2 / norm,
    }


def _ones(chosen):
    """Weight 1 / n on the label of each example, flat."""
    return (np.eye(CLASSES)[chosen] / len(chosen)).ravel()


def _ratios(gram, weights, fisher, norm, total):
    """Tr A / Tr F, <A, F> / |F|^2, the cosine, and |A - F|^2 / |F|^2."""
    product = float(fisher_inner_product(gram, weights, fisher))
    square = float(fisher_inner_product(gram, weights, weights))
    return np.asarray(
        [
            float(fisher_trace(gram, weights)) / total,
            product / norm,
            product / math.sqrt(norm * square),
            (square + norm - 2 * product) / norm,
        ]
    )


def against_hessian(module, inputs, labels, n_probes, rng) -> dict:
    """The centred covariance under the data's labels, its spectrum, and its alignment with H."""
    losses = partial(F.cross_entropy, reduction="none")
    problem, theta = as_problem(module, losses, inputs, labels)
    covariance = Gram(per_example_gradients(module, losses, inputs, labels), 1 / len(labels))
    aligned = alignment(covariance, lambda v: problem.hvp(theta, v), 10, n_probes=n_probes, rng=rng)
    eigenvalues = covariance.eigenvalues().double().numpy()[:EIGENVALUES]
    return {
        "noise_eigenvalues": ("mode", np.pad(eigenvalues, (0, EIGENVALUES - len(eigenvalues)))),
        "noise_participation": float(covariance.participation_ratio()),
        "hessian_cosine": aligned.cosine.value,
        "hessian_cosine_stderr": aligned.cosine.stderr,
        "overlap": aligned.overlap,
        "exponent": aligned.exponent.value,
        "exponent_stderr": aligned.exponent.stderr,
    }


study = Study(
    run,
    grid={"net": ["mlp", "convnet"], "seed": lambda parameters: range(parameters["seeds"])},
    sizes={
        "full": {
            "seeds": 4,
            "moments": [0, 30, 100, 300, 1000, 3000],
            "examples": 100,
            "draws": 400,
            "n_probes": 100,
        },
        "small": {
            "net": ["mlp"],
            "seeds": 2,
            "moments": [0, 30],
            "examples": 20,
            "draws": 40,
            "n_probes": 20,
        },
    },
    options={"seeds": option(int, "trainings of each network", least=2)},
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
