"""Stacks of two-layer networks on a few digits, and what is seen of each of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from sgdnoise.data import Data, digits, principal, split
from sgdnoise.dimension import effective_rank, participation_ratio, twonn
from sgdnoise.dimension._spectral import trace_moments

__all__ = [
    "ADVERSARIAL",
    "MEASURES",
    "NOISY",
    "Task",
    "as_one",
    "begun",
    "descended",
    "hidden",
    "in_batches",
    "losses",
    "measured",
    "noisy_descent",
    "seen",
    "solved",
    "task",
    "traces",
]

MEASURES: dict[str, Callable[..., Any]] = {
    "participation_ratio": participation_ratio,
    "effective_rank": effective_rank,
    "twonn": twonn,
}
CLASSES = 3
NOISY, ADVERSARIAL = (0.1, 0.2, 0.4), (0.05, 0.1, 0.2)  # of pixels between 0 and 1
SHARES = 12  # of the variance, by the first principal components, that are kept
DTYPE = torch.float64


class Task(NamedTuple):
    """Examples (n, d) to train on; pixels (m, 64) of others, and how the network takes pixels."""

    inputs: torch.Tensor
    targets: torch.Tensor
    pixels: torch.Tensor
    others: torch.Tensor
    turn: torch.Tensor  # (64, d)
    shift: torch.Tensor  # (d,)


def task(seed: int, examples: int, width: int, device: str) -> Task:
    """Digits 0 to 2, whitened, with a mean |x|^2 of 4, drawn by a seed."""
    train, test = split(digits(CLASSES), examples, rng=seed)
    units = Data(np.eye(train.inputs.shape[1] + 1)[:, 1:], None)  # zero first
    inner, ends = principal(train, units, width, whiten=True)
    shift, turn = ends.inputs[0], ends.inputs[1:] - ends.inputs[0]
    parts = inner.inputs, train.targets, test.inputs, test.targets, turn, shift
    return Task(*(torch.asarray(part, dtype=DTYPE, device=device) for part in parts))


def begun(task: Task, units: int, seed: int):
    """W (1, d, h) and V (1, h, o), normal with variance 1 / fan-in."""
    draw = torch.Generator().manual_seed(seed)
    d, o = task.inputs.shape[1], task.targets.shape[1]
    w = torch.randn(1, d, units, generator=draw, dtype=DTYPE) / d**0.5
    v = torch.randn(1, units, o, generator=draw, dtype=DTYPE) / units**0.5
    return [w.to(task.inputs.device), v.to(task.inputs.device)]


def hidden(weights, inputs, *, linear: bool = False):
    """tanh(x W) of each network, (g, n, h), or x W."""
    before = inputs @ weights[0]
    return before if linear else torch.tanh(before)


def losses(weights, task: Task, *, linear: bool = False):
    """L = mean |f(x) - y|^2 / 2 of each network, (g,)."""
    off = hidden(weights, task.inputs, linear=linear) @ weights[1] - task.targets
    return 0.5 * (off**2).sum(2).mean(1)


def traces(weights, inputs, *, linear: bool = False):
    """Tr H in the Gauss-Newton form, mean o |phi|^2 + |x|^2 sum_a phi'_a^2 |V_a|^2, (g,)."""
    rows = hidden(weights, inputs, linear=linear)
    slopes = torch.ones_like(rows) if linear else 1 - rows**2
    gates = (slopes**2 @ (weights[1] ** 2).sum(2)[:, :, None])[:, :, 0]
    outputs = weights[1].shape[2]
    return (outputs * (rows**2).sum(2) + (inputs**2).sum(-1) * gates).mean(1)


def measured(measure, rows):
    """A measure of each cloud of a stack, (g, n, h) -> (g,)."""
    return torch.stack([measure(each) for each in rows])


def in_batches(rows, size: int, seed: int, times: int = 100) -> dict[str, float]:
    """PR of batches of rows (n, h), naive and of unbiased moments, and what it should be.

    The moments of all batches average to those of all rows; the naive one is predicted for normal
    rows of these moments.
    """
    draw = torch.Generator().manual_seed(seed)
    some = [torch.randperm(len(rows), generator=draw)[:size].to(rows.device) for _ in range(times)]
    square, spread = trace_moments(rows)
    squares, spreads = zip(*(trace_moments(rows[at]) for at in some), strict=True)
    m = size - 1
    return {
        "batch_size": float(size),
        "batch_whole": float(square / spread),
        "batch_unbiased": float(sum(squares) / sum(spreads)),
        "batch_naive": float(sum(participation_ratio(rows[at]) for at in some) / times),
        "batch_predicted": float((square + 2 * spread / m) / (square / m + (1 + 1 / m) * spread)),
    }


def as_one(weights):
    """The networks as rows of numbers, (g, p)."""
    return torch.cat([part.flatten(1) for part in weights], 1)


def descended(weights, total, rate: float, steps: int, look=None, every: int = 0):
    """Gradient descent of `total(weights)` (g,), each network by itself; looks on the way."""
    weights, found = [part.clone().requires_grad_() for part in weights], []
    for step in range(1, steps + 1):
        slopes = torch.autograd.grad(total(weights).sum(), weights)
        with torch.no_grad():
            for part, slope in zip(weights, slopes, strict=True):
                part -= rate * slope
            if look is not None and step % every == 0:
                found.append(look(weights))
    weights = [part.detach() for part in weights]
    return (weights, torch.stack(found)) if found else weights


def noisy_descent(weights, task: Task, rate, steps, batch, label_noise, seed, looks=1):
    """SGD with fresh noise in the targets of every batch, drawn with replacement; PR on the way."""
    (w,), (v,) = ([part[0] for part in half] for half in (weights[:1], weights[1:]))
    w, v, (n, o) = w.clone(), v.clone(), task.targets.shape
    draw, found = torch.Generator().manual_seed(seed), []
    for _ in range(looks):
        count = steps // looks
        some = torch.randint(n, (count, batch), generator=draw).to(w.device)
        white = torch.randn(count, batch, o, generator=draw, dtype=w.dtype).to(w.device)
        for at, noise in zip(some, white, strict=True):
            x = task.inputs[at]
            rows = torch.tanh(x @ w)
            off = rows @ v - task.targets[at] - label_noise * noise
            back = (off @ v.T) * (1 - rows**2)
            v -= (rate / batch) * (rows.T @ off)
            w -= (rate / batch) * (x.T @ back)
        found.append(participation_ratio(torch.tanh(task.inputs @ w)))
    return [w[None], v[None]], torch.stack(found)


def solved(weights, task: Task, times: int = 8):
    """Newton's steps of least length onto f(x_i) = y_i, from one network nearby."""
    shapes = [part.shape for part in weights]

    def outputs(theta):
        sizes = [part.numel() for part in weights]
        parts = [p.view(s) for p, s in zip(theta.split(sizes), shapes, strict=True)]
        return (hidden(parts, task.inputs) @ parts[1] - task.targets).flatten()

    theta = as_one(weights)[0]
    for _ in range(times):
        slopes = torch.autograd.functional.jacobian(outputs, theta)
        theta = theta - torch.linalg.pinv(slopes, rtol=1e-9) @ outputs(theta)
    sizes = [part.numel() for part in weights]
    return [p.view(s).clone() for p, s in zip(theta.split(sizes), shapes, strict=True)]


def seen(weights, task: Task, seed: int) -> dict:
    """What is told of each network of a stack: name -> numpy (g,) or (g, some)."""
    with torch.no_grad():
        rows = hidden(weights, task.inputs)
        found = {name: measured(measure, rows) for name, measure in MEASURES.items()}
        centred = rows - rows.mean(1, keepdim=True)
        powers = torch.linalg.svdvals(centred) ** 2
        found["share"] = (powers / powers.sum(1, keepdim=True))[:, :SHARES]
        found["loss"], found["trace"] = losses(weights, task), traces(weights, task.inputs)
        found["norm"] = (as_one(weights) ** 2).sum(1)
        found |= stretched(weights, rows)
        found["accuracy"] = right(weights, task, task.pixels)
        draw = torch.Generator().manual_seed(seed)
        white = torch.randn(task.pixels.shape, generator=draw, dtype=DTYPE).to(task.pixels.device)
        noisy = [right(weights, task, task.pixels + size * white) for size in NOISY]
    slopes = pushes(weights, task).sign()
    pushed = [
        right(weights, task, (task.pixels + size * slopes).clamp(0, 1)) for size in ADVERSARIAL
    ]
    found |= {"noisy": torch.stack(noisy, 1), "adversarial": torch.stack(pushed, 1)}
    return {name: value.detach().cpu().numpy() for name, value in found.items()}


def stretched(weights, rows):
    """Mean |df/dx|_F^2, and its largest share of |W|_2^2 |df/dW|^2 / |x|^2, never above 1.

    That bound is of Ma & Ying (2021), example by example.
    """
    w, v = weights
    slopes = (1 - rows**2)[..., None] * v[:, None]  # (g, n, h, o)
    squares = ((w[:, None] @ slopes) ** 2).sum((2, 3))
    bounds = torch.linalg.matrix_norm(w, 2)[:, None] ** 2 * (slopes**2).sum((2, 3))
    return {"jacobian": squares.mean(1), "bound": (squares / bounds).amax(1)}


def right(weights, task, pixels):
    """Accuracy of each network on the other digits, as these pixels (m, 64) or (g, m, 64)."""
    scores = hidden(weights, pixels @ task.turn + task.shift) @ weights[1]
    return (scores.argmax(2) == task.others.argmax(1)).to(DTYPE).mean(1)


def pushes(weights, task):
    """The slope of each network's loss by the pixels of the other digits, (g, m, 64)."""
    pixels = task.pixels.expand(len(weights[0]), -1, -1).clone().requires_grad_()
    off = hidden(weights, pixels @ task.turn + task.shift) @ weights[1] - task.others
    return torch.autograd.grad((off**2).sum(), pixels)[0]
