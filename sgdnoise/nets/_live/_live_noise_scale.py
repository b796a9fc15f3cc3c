"""The gradient-noise scale from the backward passes that a training makes anyway."""

import math
import warnings
from collections import Counter
from collections.abc import Collection

import torch.distributed as dist
from torch import nn

from sgdnoise.core._arguments import checked_by_annotation
from sgdnoise.core._ratio import Ratio
from sgdnoise.nets._checks import check_layers
from sgdnoise.nets._live._batch_squares import BatchSquares, squared
from sgdnoise.nets._live._example_squares import LAYERS, ExampleSquares, trained
from sgdnoise.nets._network import trainable, unwrapped
from sgdnoise.nets._watch._activations import UnmeasuredWarning
from sgdnoise.nets._watch._budget import Budget
from sgdnoise.noise._measure._moving_ratio import MovingRatio


@checked_by_annotation
def live_noise_scale(
    net: nn.Module,
    *,
    layers: Collection[str] | None = None,
    micro_batch: int | None = None,
    every: int | None = None,
    budget: float = 0.02,
    horizon: float | int = 50,
) -> "LiveNoiseScale":
    r"""The gradient-noise scale Tr C / |g|^2 of a training, from its own backward passes.

    Call `step()` on the result once per step of the optimizer, after `backward()`, before gradients
    are clipped.  Gradients are empty before the first backward pass of a step, and are those of a
    mean over examples, without penalties.
    E |G_B|^2 = |g|^2 + Tr C / B of the gradient of a batch, and the same with B = 1 of single
    examples, give both terms without bias (McCandlish et al., 2018).
    Without `micro_batch`, single examples are seen in the layers where this is cheap: the norms of
    layers, groups and root mean squares, and linear layers with inputs (n, d).  The scale is that
    of the gradient of these layers, `parameters` of the result; Gray et al. (2024) find that the
    norms alone follow that of a whole transformer.  The first axis of every input is that of the
    examples; layers that share a weight, are called twice, or see another first axis are left out.
    micro_batch: the number of examples of one backward pass, where gradients are accumulated over
    several, or over the ranks of torch.distributed.  The two sizes of batch are then one pass and
    one step, and all layers are used.  More steps are needed for the same error.
    layers: names of net.named_modules(), with all that they hold, to which it is restricted.
    every: the steps from one measurement to the next.  By default the time decides: measurements
    take a share of `budget` of it.  The steps between are not changed at all.
    horizon: the number of measurements over which the weight of one falls by a factor e.  Tr C and
    |g|^2 are averaged separately.
    With several ranks all call `step()`.  The loss is a mean over the examples of a batch; factors,
    such as that of mixed precision, are given to `step`.
    Raises ValueError for a budget that is not between 0 and 1, for names that do not exist, and,
    unless micro_batch is given, for a network without layers that can be seen, with compiled ones,
    or with `batch_first=False`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        >>> live = live_noise_scale(net, every=1)
        >>> for _ in range(40):
        ...     x = torch.randn(16, 4)
        ...     net.zero_grad()
        ...     (net(x) - x.sum(1, keepdim=True)).square().mean().backward()
        ...     live.step()
        >>> live.estimate().resolved
        True
    """
    if every is not None and every < 1:
        raise ValueError(f"a measurement comes every 1 or more steps, not every {every}")
    if not horizon > 0:
        raise ValueError(f"horizon must be positive, not {horizon}")
    if micro_batch is not None and micro_batch < 1:
        raise ValueError(f"micro_batch must be 1 or more, not {micro_batch}")
    inner = unwrapped(net)
    chosen = _chosen(inner, layers)
    parts = _examples(net, inner, chosen) if micro_batch is None else _batches(inner, chosen)
    return LiveNoiseScale(parts, micro_batch or 1, every, Budget(budget), horizon)


class LiveNoiseScale:
    """The moving noise scale of a training: see `live_noise_scale`.

    Example:
        >>> import torch
        >>> from sgdnoise.nets import live_noise_scale, models
        >>> net = models.mlp([4, 8, 1], seed=0)
        >>> live = live_noise_scale(net, every=1)
        >>> for _ in range(40):
        ...     x = torch.randn(16, 4)
        ...     net.zero_grad()
        ...     (net(x) - x.sum(1, keepdim=True)).square().mean().backward()
        ...     live.step()
        >>> bool(live.estimate().value > 0)
        True
        >>> live.close()  # removes its hooks
    """

    def __init__(self, parts, size: int, every: int | None, budget: Budget, horizon):
        self._parts, self._size, self._every, self._budget = parts, size, every, budget
        self._ratio, self.count = MovingRatio(horizon), 0
        self._measured: list[nn.Parameter] = []
        self._closed, self._open = False, False
        self._plain: float | None = None  # seconds of a step without a measurement
        self._ended = budget.now()
        self._begin()

    def step(self, grad_scale: float | int = 1.0) -> None:
        """Count a step, and measure its gradient if it is due.

        grad_scale: the factor of the loss, such as `get_scale()` of a GradScaler.  A constant one
        cancels and may be left out.
        Raises ValueError if the gradients have been removed already.
        """
        measured = self._open
        if self._open:
            self._open = False
            with self._budget.measuring():
                n, parameters, total = self._parts.close()
                self._store(n, parameters, total, grad_scale)
        self._time(measured)
        self.count += 1
        if not self._closed and self._is_due():
            self._begin()

    def _time(self, measured):
        """Count what a measured step took more than others, beyond what the hooks counted."""
        now, before = self._budget.now(), self._ended
        self._ended, taken = now, now - before
        if not measured:
            self._plain = taken if self._plain is None else 0.9 * self._plain + 0.1 * taken
        elif self._plain is not None:
            self._budget.add(max(0.0, taken - self._plain - self._budget.last))

    def _is_due(self):
        """Whether the next step is measured."""
        if self._every is not None:
            return self.count % self._every == 0
        return self._budget.allows_another()

    def _begin(self):
        self._open = True
        with self._budget.measuring():
            self._parts.open(self._budget)

    def estimate(self) -> Ratio:
        """The noise scale in examples, which is never negative, with error and interval.

        It is not resolved for fewer than 3 measurements, or where |g| = 0 cannot be excluded.
        """
        return self._ratio.ratio()

    def close(self) -> None:
        """Remove the hooks; what was measured stays."""
        if self._open:
            self._open = False
            self._parts.close()
        self._closed = True

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters whose gradient was measured last; none before the first measurement."""
        return self._measured

    def __enter__(self) -> "LiveNoiseScale":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def state_dict(self) -> dict:
        """The averages in numbers, to be stored with a checkpoint."""
        return {"count": self.count} | self._ratio.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Continue the averages of `state_dict`."""
        self.count = state["count"]
        self._ratio.load_state_dict(state)

    def _store(self, n, parameters, total, grad_scale):
        """Add Tr C and |g|^2 of n parts, whose squared norms have this sum, and their gradient."""
        ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        if total is None or n * ranks < 2:
            warnings.warn(
                "no noise scale: a step has fewer than two parts; are the layers called with "
                "gradients, and step() once a step?",
                UnmeasuredWarning,
                stacklevel=3,
            )
            return
        if any(parameter.grad is None for parameter in parameters):
            raise ValueError("gradients are gone: call step() before zero_grad()")
        self._measured = parameters
        if ranks > 1:
            dist.all_reduce(total)
        # Each part is 1 / n of the mean of a rank, and the gradient is the mean of the ranks.
        mean = sum(squared(parameter.grad) for parameter in parameters)
        small, big = float(total) / (n * ranks), float(mean) / n**2
        m, unit = n * ranks, grad_scale**2 / n**2
        trace = self._size * (small - big) / (1 - 1 / m) / unit
        square = (m * big - small) / (m - 1) / unit
        if math.isfinite(trace) and math.isfinite(square):
            self._ratio.add(trace, square)


def _chosen(net, names):
    """name -> module, of those named and all that they hold, or of all."""
    modules = dict(net.named_modules())
    names = check_layers(modules, names)
    if names is None:
        return modules
    return {
        name: module
        for name, module in modules.items()
        if any(name == root or name.startswith(f"{root}.") for root in names)
    }


def _examples(net, inner, modules):
    uses = Counter(id(p) for m in inner.modules() for p in m._parameters.values() if p is not None)
    layers: dict[str, nn.Module] = {
        name: module
        for name, module in modules.items()
        if isinstance(module, LAYERS)
        and trained(module)
        and all(uses[id(parameter)] == 1 for parameter in trained(module))
    }
    if not layers:
        raise ValueError(
            "no layer shows the gradients of single examples cheaply: linear layers and norms do; "
            "micro_batch= uses accumulated batches instead"
        )
    if any(_is_compiled(module) for module in net.modules()):
        raise ValueError(
            "a compiled network does not run the hooks of its layers; "
            "micro_batch= uses accumulated batches instead"
        )
    for name, module in inner.named_modules():
        if getattr(module, "batch_first", True) is False:
            raise ValueError(
                f"{name or 'the network'} has batch_first=False, and the examples must come first; "
                "micro_batch= uses accumulated batches instead"
            )
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            warnings.warn(
                f"{name!r} mixes the examples of a batch, so that their gradients are not "
                "independent and the noise scale depends on the batch",
                UnmeasuredWarning,
                stacklevel=4,
            )
            break
    return ExampleSquares(inner, layers)


def _is_compiled(module):
    compiled = getattr(module, "_compiled_call_impl", None) is not None
    return compiled or hasattr(module, "_orig_mod")


def _batches(net, modules):
    names = {f"{n}.{k}".lstrip(".") for n, m in modules.items() for k, _ in m.named_parameters()}
    parameters = [tensor for name, tensor in trainable(net).items() if name in names]
    if not parameters:
        raise ValueError("the network has no trained parameters")
    return BatchSquares(parameters)
