"""Stacks of two-layer networks on a few digits, their training, and what is measured of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from sgdnoise.data import Data, digits, principal, split
from sgdnoise.dimension import effective_rank, participation_ratio
from sgdnoise.dimension._spectral import trace_moments


def two_nearest(rows):
    """The likelihood TwoNN of a cloud (n, h), as `twonn`, which refuses clouds with near ties.

    Descent that increases TwoNN makes near ties, so that an objective must go on through them.
    """
    with torch.no_grad():
        apart = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
        index = apart.fill_diagonal_(torch.inf).topk(2, largest=False).indices
    first, second = torch.linalg.vector_norm(rows[:, None] - rows[index], dim=2).T
    return (len(rows) - 1) / torch.log(second / first).sum()


MEASURES: dict[str, Callable[..., Any]] = {
    "participation_ratio": participation_ratio,
    "effective_rank": effective_rank,
    "twonn": two_nearest,
}
CLASSES = 3
NOISE, ADVERSARIAL = (0.1, 0.2, 0.4), (0.05, 0.1, 0.2)  # sizes, of pixels between 0 and 1
COMPONENTS = 12  # principal components whose fraction of the variance is recorded
APART = 20  # steps between the observations of the loss under label noise
DTYPE = torch.float64


class Task(NamedTuple):
    """Examples (n, d) to train on; pixels (m, 64) of test images, and their map to inputs."""

    inputs: torch.Tensor
    targets: torch.Tensor
    pixels: torch.Tensor
    others: torch.Tensor
    rotation: torch.Tensor  # (64, d)
    shift: torch.Tensor  # (d,)


def task(seed: int, examples: int, width: int, device: str) -> Task:
    """Digits 0 to 2, whitened, with a mean |x|^2 of 4, drawn by a seed."""
    train, test = split(digits(CLASSES), examples, rng=seed)
    units = Data(np.eye(train.inputs.shape[1] + 1)[:, 1:], None)  # zero first
    inner, images = principal(train, units, width, whiten=True)
    shift, rotation = images.inputs[0], images.inputs[1:] - images.inputs[0]
    arrays = inner.inputs, train.targets, test.inputs, test.targets, rotation, shift
    return Task(*(torch.asarray(array, dtype=DTYPE, device=device) for array in arrays))


def initial_weights(task: Task, units: int, seed: int):
    """W (1, d, h) and V (1, h, o), normal with variance 1 / fan-in."""
    generator = torch.Generator().manual_seed(seed)
    d, o = task.inputs.shape[1], task.targets.shape[1]
    w = torch.randn(1, d, units, generator=generator, dtype=DTYPE) / d**0.5
    v = torch.randn(1, units, o, generator=generator, dtype=DTYPE) / units**0.5
    return [w.to(task.inputs.device), v.to(task.inputs.device)]


def hidden(weights, inputs, *, linear: bool = False):
    """tanh(x W) of each network, (g, n, h), or x W."""
    before = inputs @ weights[0]
    return before if linear else torch.tanh(before)


def losses(weights, task: Task, *, linear: bool = False):
    """L = mean |f(x) - y|^2 / 2 of each network, (g,)."""
    error = hidden(weights, task.inputs, linear=linear) @ weights[1] - task.targets
    return 0.5 * (error**2).sum(2).mean(1)


def traces(weights, inputs, *, linear: bool = False):
    """Tr H in the Gauss-Newton form, mean o |phi|^2 + |x|^2 sum_a phi'_a^2 |V_a|^2, (g,)."""
    rows = hidden(weights, inputs, linear=linear)
    derivative = torch.ones_like(rows) if linear else 1 - rows**2
    first = (derivative**2 @ (weights[1] ** 2).sum(2)[:, :, None])[:, :, 0]
    outputs = weights[1].shape[2]
    return (outputs * (rows**2).sum(2) + (inputs**2).sum(-1) * first).mean(1)


def measured(measure, rows):
    """A measure of each cloud of a stack, (g, n, h) -> (g,)."""
    return torch.stack([measure(cloud) for cloud in rows])


def batch_ratios(rows, size: int, seed: int, times: int = 100) -> dict[str, float]:
    """PR of batches of rows (n, h), naive and of averaged unbiased moments, and its prediction.

    The unbiased moments of all batches average to those of all rows; the naive PR is predicted for
    normal rows with these moments.
    """
    generator = torch.Generator().manual_seed(seed)
    indices = [torch.randperm(len(rows), generator=generator)[:size] for _ in range(times)]
    batches = [rows[index.to(rows.device)] for index in indices]
    square, sum_squares = trace_moments(rows)
    squares, sums = zip(*(trace_moments(batch) for batch in batches), strict=True)
    m = size - 1
    predicted = (square + 2 * sum_squares / m) / (square / m + (1 + 1 / m) * sum_squares)
    return {
        "batch_size": float(size),
        "batch_whole": float(square / sum_squares),
        "batch_unbiased": float(sum(squares) / sum(sums)),
        "batch_naive": float(sum(participation_ratio(batch) for batch in batches) / times),
        "batch_predicted": float(predicted),
    }


def flattened(weights):
    """The parameters of each network as a row, (g, p)."""
    return torch.cat([layer.flatten(1) for layer in weights], 1)


def unflattened(theta, weights):
    """Parameters (g, p) as layers of the sizes of `weights`."""
    blocks = theta.split([layer[0].numel() for layer in weights], 1)
    return [b.view(-1, *layer.shape[1:]) for b, layer in zip(blocks, weights, strict=True)]


def gradient(weights, total):
    """The gradient of the sum of total(weights) (g,)."""
    weights = [layer.clone().requires_grad_() for layer in weights]
    gradients = torch.autograd.grad(total(weights).sum(), weights, materialize_grads=True)
    return [by_layer.detach() for by_layer in gradients]


def descend(weights, total, rate: float, steps: int, observe=None, every: int = 0):
    """Gradient descent on `total(weights)` (g,), each network by itself; observations on the way.

    Returns the weights, and with `every` the observations too.
    """
    weights, records = [layer.clone().requires_grad_() for layer in weights], []
    for step in range(1, steps + 1):
        gradients = torch.autograd.grad(total(weights).sum(), weights)
        with torch.no_grad():
            for layer, by_layer in zip(weights, gradients, strict=True):
                layer -= rate * by_layer
            if observe is not None and step % every == 0:
                records.append(observe(weights))
    weights = [layer.detach() for layer in weights]
    return (weights, torch.stack(records)) if records else weights


def noisy_sgd(
    weights, task: Task, steps, seed, observe, records=1, *, learning_rate, batch_size, label_noise
):
    """SGD of one network with label noise, batches drawn with replacement.

    Returns the weights, the observations (records, 1, ...) on the way, and the mean loss without
    label noise (records,) since the previous record, of every APART steps.
    """
    (w, v), (n, o) = ([layer[0].clone() for layer in weights]), task.targets.shape
    generator, observed, means = torch.Generator().manual_seed(seed), [], []
    for _ in range(records):
        count = steps // records
        indices = torch.randint(n, (count, batch_size), generator=generator).to(w.device)
        normal = torch.randn(count, batch_size, o, generator=generator, dtype=w.dtype).to(w.device)
        on_the_way = []
        for k, (index, noise) in enumerate(zip(indices, normal, strict=True)):
            x = task.inputs[index]
            rows = torch.tanh(x @ w)
            error = rows @ v - task.targets[index] - label_noise * noise
            by_hidden = (error @ v.T) * (1 - rows**2)
            v -= (learning_rate / batch_size) * (rows.T @ error)
            w -= (learning_rate / batch_size) * (x.T @ by_hidden)
            if (k + 1) % APART == 0:
                on_the_way.append(losses([w[None], v[None]], task)[0])
        observed.append(observe([w[None], v[None]]))
        means.append(torch.stack(on_the_way).mean())
    return [w[None], v[None]], torch.stack(observed), torch.stack(means)


def solved(weights, task: Task, times: int = 8):
    """Newton steps of least norm onto f(x_i) = y_i, from one network nearby."""

    def errors(theta):
        w, v = unflattened(theta[None], weights)
        return (hidden([w, v], task.inputs) @ v - task.targets).flatten()

    theta = flattened(weights)[0]
    for _ in range(times):
        jacobian = torch.autograd.functional.jacobian(errors, theta)
        theta = theta - torch.linalg.pinv(jacobian, rtol=1e-9) @ errors(theta)
    return [layer.clone() for layer in unflattened(theta[None], weights)]


def final_measures(weights, task: Task, seed: int) -> dict:
    """The measures of each network of a stack: name -> numpy (g,) or (g, k)."""
    with torch.no_grad():
        rows = hidden(weights, task.inputs)
        values = {name: measured(measure, rows) for name, measure in MEASURES.items()}
        powers = torch.linalg.svdvals(rows - rows.mean(1, keepdim=True)) ** 2
        values["share"] = (powers / powers.sum(1, keepdim=True))[:, :COMPONENTS]
        values["loss"], values["trace"] = losses(weights, task), traces(weights, task.inputs)
        values["norm"] = (flattened(weights) ** 2).sum(1)
        values |= input_sensitivity(weights, rows)
        values["accuracy"] = accuracy(weights, task, task.pixels)
        generator = torch.Generator().manual_seed(seed)
        normal = torch.randn(task.pixels.shape, generator=generator, dtype=DTYPE)
        normal = normal.to(task.pixels.device)
        noisy = [accuracy(weights, task, task.pixels + size * normal) for size in NOISE]
    signs = pixel_gradients(weights, task).sign()
    attacked = [
        accuracy(weights, task, (task.pixels + size * signs).clamp(0, 1)) for size in ADVERSARIAL
    ]
    values |= {"noisy": torch.stack(noisy, 1), "adversarial": torch.stack(attacked, 1)}
    return {name: value.detach().cpu().numpy() for name, value in values.items()}


def input_sensitivity(weights, rows):
    """Mean |df/dx|_F^2, and its largest ratio to |W|_2^2 |df/dW|^2 / |x|^2, never above 1.

    The bound is that of Ma & Ying (2021), example by example.
    """
    w, v = weights
    by_hidden = (1 - rows**2)[..., None] * v[:, None]  # (g, n, h, o)
    squares = ((w[:, None] @ by_hidden) ** 2).sum((2, 3))
    bounds = torch.linalg.matrix_norm(w, 2)[:, None] ** 2 * (by_hidden**2).sum((2, 3))
    return {"jacobian": squares.mean(1), "bound": (squares / bounds).amax(1)}


def accuracy(weights, task, pixels):
    """Accuracy of each network on the test images with these pixels, (m, 64) or (g, m, 64)."""
    scores = hidden(weights, pixels @ task.rotation + task.shift) @ weights[1]
    return (scores.argmax(2) == task.others.argmax(1)).to(DTYPE).mean(1)


def pixel_gradients(weights, task):
    """The gradient of each network's loss by the pixels of the test images, (g, m, 64)."""
    pixels = task.pixels.expand(len(weights[0]), -1, -1).clone().requires_grad_()
    error = hidden(weights, pixels @ task.rotation + task.shift) @ weights[1] - task.others
    return torch.autograd.grad((error**2).sum(), pixels)[0]
