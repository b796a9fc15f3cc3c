"""What theory says of descent on L + c m, measured where it can be told without a fit."""

import torch
import xarray as xr

from simulations.learned_dimension._nets import (
    MEASURES,
    Task,
    begun,
    descended,
    hidden,
    losses,
    measured,
    solved,
    task,
    traces,
)

__all__ = ["conserved", "flow", "identity", "powers", "response"]

NEAR = 1e-5  # step of central differences, of weights of order 0.2
SMALL = {"participation_ratio": 1e-5, "effective_rank": 1e-5, "twonn": 1e-6}  # c of the response
HALVED = 1e-5  # c of the power
EARLY = 200  # steps, after which L still falls and its slope has a part along that of m
LINEAR_RATE, LINEAR_FORCE = 0.01, 0.01


def flow(seed: int, *, size, device: str) -> xr.Dataset:
    """All of it for one seed, from weights whose descent has begun, is over, or was never meant."""
    data = task(seed, size.examples, size.width, device)
    early = descended(begun(data, size.units, seed), lambda w: losses(w, data), size.rate, EARLY)
    late = descended(early, lambda w: losses(w, data), size.rate, size.learning)
    late = solved(late, data)
    found: dict[str, list] = {}
    for name in MEASURES:
        for key, value in {
            "cross": identity(early, data, MEASURES[name]),
            "response": response(early, data, name, size.rate, size.respond),
            "power": powers(late, data, name, size.rate, size.respond),
            "slow": powers(late, data, name, size.rate, size.respond, slow=True),
        }.items():
            found.setdefault(key, []).append(value)
    pairs = {key: (("measure", "side"), rows) for key, rows in found.items()}
    kept: dict = {"solved": float(losses(late, data))}
    kept |= {"imbalance": ("objective", conserved(data, size.units, seed, size.respond))}
    return xr.Dataset(pairs | kept).assign_coords(
        measure=list(MEASURES), objective=["participation_ratio", "trace"]
    )


def slope(weights, total):
    """The slope of a number by the weights."""
    weights = [part.clone().requires_grad_() for part in weights]
    found = torch.autograd.grad(total(weights).sum(), weights, materialize_grads=True)
    return [part.detach() for part in found]


def dot(one, other) -> float:
    """Scalar product over all weights."""
    return float(sum((a * b).sum() for a, b in zip(one, other, strict=True)))


def moved(weights, along, by: float):
    """The weights after a step."""
    return [part + by * way for part, way in zip(weights, along, strict=True)]


def identity(weights, data: Task, measure, c: float = 0.01):
    """-c |grad m|^2, and dm/dt on L + c m less that on L, by central differences of m alone."""

    def m(w):
        return measured(measure, hidden(w, data.inputs))

    by_loss, by_measure = slope(weights, lambda w: losses(w, data)), slope(weights, m)
    plain = [-a for a in by_loss]
    both = moved(plain, by_measure, -c)
    speeds = [
        (float(m(moved(weights, way, NEAR))) - float(m(moved(weights, way, -NEAR)))) / (2 * NEAR)
        for way in (both, plain)
    ]
    return [-c * dot(by_measure, by_measure), speeds[0] - speeds[1]]


def response(weights, data: Task, name: str, rate: float, steps: int):
    """dm/dc after some steps, from the linearised descent on L alone, and from two small c.

    delta <- delta - rate (H delta + grad m) along the way of c = 0, and dm/dc = grad m . delta.
    """
    measure = MEASURES[name]

    def m(w):
        return measured(measure, hidden(w, data.inputs))

    c = SMALL[name] * torch.tensor([1.0, -1.0], dtype=data.inputs.dtype, device=data.inputs.device)
    two = [part.expand(2, -1, -1) for part in weights]
    ends = m(descended(two, lambda w: losses(w, data) + c * m(w), rate, steps))
    away = [torch.zeros_like(part) for part in weights]
    for _ in range(steps):
        push, bend = slope(weights, m), curved(weights, away, data)
        away = [a - rate * (h + g) for a, h, g in zip(away, bend, push, strict=True)]
        weights = moved(weights, slope(weights, lambda w: losses(w, data)), -rate)
    return [dot(slope(weights, m), away), float(ends[0] - ends[1]) / (2 * SMALL[name])]


def curved(weights, along, data: Task):
    """The Hessian of L times a direction."""
    weights = [part.clone().requires_grad_() for part in weights]
    first = torch.autograd.grad(losses(weights, data).sum(), weights, create_graph=True)
    inner = sum((a * b).sum() for a, b in zip(first, along, strict=True))
    return torch.autograd.grad(inner, weights)


def powers(weights, data: Task, name: str, rate: float, steps: int, *, slow: bool = False):
    """2, and by what power of c the loss has risen from zero, of c halved.

    In as many steps, or where `slow` in twice as many, c times the time being the same: then what
    has not relaxed, where L hardly bends, has gone as far, and the power is less.
    """

    def total(w, c):
        return losses(w, data) + c * measured(MEASURES[name], hidden(w, data.inputs))

    c = HALVED
    ends = [
        losses(descended(weights, lambda w, c=c: total(w, c), rate, steps), data)
        for c, steps in ((c, steps), (c / 2, 2 * steps if slow else steps))
    ]
    return [2.0, float(torch.log2(ends[0] / ends[1]))]


def conserved(data: Task, units: int, seed: int, steps: int) -> list[float]:
    """Change of |W|^2 - |V|^2 of a linear network, a share of |W|^2 + |V|^2, on two objectives.

    None with a measure that scale does not change: W . dL/dW = V . dL/dV, and W . dm/dW = 0.
    Tr H, which scale changes, moves it.  Both push with a slope of LINEAR_FORCE at first.
    """
    start, found = begun(data, units, seed), []
    for extra in (
        lambda w: measured(MEASURES["participation_ratio"], hidden(w, data.inputs, linear=True)),
        lambda w: traces(w, data.inputs, linear=True),
    ):
        pull = slope(start, extra)
        c = LINEAR_FORCE * (dot(start, start) / dot(pull, pull)) ** 0.5

        def total(w, extra=extra, c=c):
            return losses(w, data, linear=True) + c * extra(w)

        w, v = descended(start, total, LINEAR_RATE, steps)
        gap = [dot([a], [a]) - dot([b], [b]) for a, b in (start, (w, v))]
        found.append((gap[1] - gap[0]) / dot(start, start))
    return found
