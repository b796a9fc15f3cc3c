"""What theory predicts of gradient descent on L + c m, measured without a fit."""

import torch
import xarray as xr

from simulations.learned_dimension._nets import (
    MEASURES,
    Task,
    descend,
    gradient,
    hidden,
    initial_weights,
    losses,
    measured,
    solved,
    task,
    traces,
)

STEP = 1e-5  # of central differences, of weights of order 0.2
SMALL = {"participation_ratio": 1e-5, "effective_rank": 1e-5, "twonn": 1e-6}  # c of the response
HALVED = 1e-5  # c of the power
EARLY = 200  # steps, after which L still decreases and its gradient has a part along that of m
LINEAR_RATE, LINEAR_FORCE = 0.01, 0.01


def flow(seed: int, *, size: dict, device: str) -> xr.Dataset:
    """All measurements for one seed: early in training, at a minimum, and of a linear network."""
    data = task(seed, size["examples"], size["width"], device)
    rate, steps = size["rate"], size["respond"]
    start = initial_weights(data, size["units"], seed)
    early = descend(start, lambda w: losses(w, data), rate, EARLY)
    late = solved(descend(early, lambda w: losses(w, data), rate, size["learning"]), data)
    columns: dict[str, list] = {"cross": [], "response": [], "power": [], "slow": []}
    for name in MEASURES:
        columns["cross"].append(identity(early, data, MEASURES[name]))
        columns["response"].append(response(early, data, name, rate, steps))
        columns["power"].append(power(late, data, name, rate, (steps, steps)))
        columns["slow"].append(power(late, data, name, rate, (steps, 2 * steps)))
    variables: dict = {key: (("measure", "side"), rows) for key, rows in columns.items()}
    change = imbalance_change(data, size["units"], seed, steps)
    variables |= {"solved": float(losses(late, data)), "imbalance": ("objective", change)}
    objectives = ["participation_ratio", "trace"]
    return xr.Dataset(variables, {"measure": list(MEASURES), "objective": objectives})


def dot(a, b) -> float:
    """Scalar product over all weights."""
    return float(sum((x * y).sum() for x, y in zip(a, b, strict=True)))


def moved(weights, direction, by: float):
    """The weights after a step in a direction."""
    return [layer + by * along for layer, along in zip(weights, direction, strict=True)]


def identity(weights, data: Task, measure, c: float = 0.01):
    """-c |grad m|^2, and dm/dt on L + c m less that on L, by central differences of m alone."""

    def m(w):
        return measured(measure, hidden(w, data.inputs))

    by_loss, by_measure = gradient(weights, lambda w: losses(w, data)), gradient(weights, m)
    descent = [-a for a in by_loss]
    speeds = [
        (float(m(moved(weights, v, STEP))) - float(m(moved(weights, v, -STEP)))) / (2 * STEP)
        for v in (moved(descent, by_measure, -c), descent)
    ]
    return [-c * dot(by_measure, by_measure), speeds[0] - speeds[1]]


def response(weights, data: Task, name: str, rate: float, steps: int):
    """dm/dc after some steps: from the linearised descent on L alone, and from two small c.

    delta <- delta - rate (H delta + grad m) along the path of c = 0, and dm/dc = grad m . delta.
    """

    def m(w):
        return measured(MEASURES[name], hidden(w, data.inputs))

    c = SMALL[name] * torch.tensor([1.0, -1.0], dtype=data.inputs.dtype, device=data.inputs.device)
    pair = [layer.expand(2, -1, -1) for layer in weights]
    ends = m(descend(pair, lambda w: losses(w, data) + c * m(w), rate, steps))
    delta = [torch.zeros_like(layer) for layer in weights]
    for _ in range(steps):
        force, curved = gradient(weights, m), hessian_product(weights, delta, data)
        delta = [a - rate * (h + g) for a, h, g in zip(delta, curved, force, strict=True)]
        weights = moved(weights, gradient(weights, lambda w: losses(w, data)), -rate)
    return [dot(gradient(weights, m), delta), float(ends[0] - ends[1]) / (2 * SMALL[name])]


def hessian_product(weights, direction, data: Task):
    """The Hessian of L times a direction."""
    weights = [layer.clone().requires_grad_() for layer in weights]
    first = torch.autograd.grad(losses(weights, data).sum(), weights, create_graph=True)
    inner = sum((a * b).sum() for a, b in zip(first, direction, strict=True))
    return torch.autograd.grad(inner, weights)


def power(weights, data: Task, name: str, rate: float, steps: tuple[int, int]):
    """2, and the power of c with which the loss rises from zero, from c and c / 2.

    steps: for c and for c / 2.  With twice as many for c / 2, c times the time is the same: flat
    directions of L, which have not relaxed, have moved as far, and the power is smaller.
    """

    def total(w, c):
        return losses(w, data) + c * measured(MEASURES[name], hidden(w, data.inputs))

    ends = [
        losses(descend(weights, lambda w, c=c: total(w, c), rate, count), data)
        for c, count in zip((HALVED, HALVED / 2), steps, strict=True)
    ]
    return [2.0, float(torch.log2(ends[0] / ends[1]))]


def imbalance_change(data: Task, units: int, seed: int, steps: int) -> list[float]:
    """Change of |W|^2 - |V|^2 over |W|^2 + |V|^2 of a linear network, on two objectives.

    A measure without scale changes nothing: W . dL/dW = V . dL/dV, and W . dm/dW = 0.  Tr H, which
    has a scale, does.  The initial gradient of both has LINEAR_FORCE times the norm of the
    weights.
    """
    start, changes = initial_weights(data, units, seed), []
    for extra in (
        lambda w: measured(MEASURES["participation_ratio"], hidden(w, data.inputs, linear=True)),
        lambda w: traces(w, data.inputs, linear=True),
    ):
        force = gradient(start, extra)
        c = LINEAR_FORCE * (dot(start, start) / dot(force, force)) ** 0.5

        def total(w, extra=extra, c=c):
            return losses(w, data, linear=True) + c * extra(w)

        w, v = descend(start, total, LINEAR_RATE, steps)
        before, after = (dot([a], [a]) - dot([b], [b]) for a, b in (start, (w, v)))
        changes.append((after - before) / dot(start, start))
    return changes
