"""How a network is measured: its examples, layers and estimators, on one or several ranks."""

import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parameter import is_lazy

from sgdnoise.core._checks import check_positive
from sgdnoise.nets._checks import check_finite_inputs, check_layers
from sgdnoise.nets._examples import Examples, check_examples
from sgdnoise.nets._per_example._plan import FallbackWarning, UnusedWarning
from sgdnoise.nets._watch._activations import (
    FAILURES,
    UnmeasuredWarning,
    activations,
    dimensions,
    mapped_inputs,
    points_of,
    with_weights,
)
from sgdnoise.nets._watch._loss_traces import (
    batch_sharpness,
    loss_and_noise,
    losses_of,
    traces,
)
from sgdnoise.nets._watch._plans import Plans

N_TRIED = 3  # examples in a first pass that reads the outputs of layers
CONVOLUTIONS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)


@dataclass(frozen=True, eq=False)
class Probe:
    """How to measure a network: examples, layers, estimators and ranks."""

    net: nn.Module
    inputs: Any  # a tuple of tensors, or a dictionary of them
    targets: Any
    loss: Callable | None
    layers: dict
    estimators: dict
    pooled: bool | None
    n_probes: int
    seed: int
    ranks: int
    batch_size: int | None = None  # of batch sharpness
    examples: tuple | None = None  # inputs and targets of all ranks, where gradients are measured
    plans: Plans = field(default_factory=Plans)  # of earlier measurements

    def __call__(self, step: int, *, tolerant: bool = False, clock=None) -> dict | None:
        """The measurements after a step; None on ranks that do not measure.

        clock: a Budget, which is told of the time of the probes, or None.
        """
        _, rows = activations(self.net, self.inputs, self.layers, self.rows_of)
        rows_of_ranks = _gathered(rows, self.ranks)
        if rows_of_ranks is None:
            return None
        rows_of_all = {
            name: np.concatenate([rows_of_rank[name] for rows_of_rank in rows_of_ranks])
            for name in self.layers
        }
        record = dimensions(rows_of_all, self.estimators)
        if self.examples is None:
            return record
        return record | self._noise(np.random.default_rng([self.seed, step]), tolerant, clock)

    def pools(self, layer) -> bool:
        """Whether the outputs of a layer are averaged over positions."""
        return isinstance(layer, CONVOLUTIONS) if self.pooled is None else self.pooled

    def with_fewer_probes(self, clock) -> "Probe":
        """The probe with as many random signs as take half of a measurement, and at most as now."""
        if self.examples is None or not self.n_probes or not clock.probing:
            return self
        others, one = clock.last - clock.probing, clock.probing / self.n_probes
        return replace(self, n_probes=min(self.n_probes, max(2, int(others / one))))

    def check(self) -> None:
        """Raises ValueError for examples or settings that cannot be used."""
        if not len(self.inputs):
            kind = type(self.inputs).__name__
            raise ValueError(f"the inputs are an empty {kind}; a network is measured on examples")
        first = next(self.net.parameters(), self._tensors()[0])
        if any(is_lazy(parameter) for parameter in self.net.parameters()):
            raise ValueError("some layers have no size before a first batch: run one through them")
        if (self.targets is None) != (self.loss is None):
            raise ValueError("targets and a loss are given both, or neither of them")
        if self.n_probes == 1 or self.n_probes < 0:
            raise ValueError(f"Tr H takes 2 probes or more, or 0 for none, not {self.n_probes}")
        if self.batch_size is not None:
            self._check_batches()
        targets = self._tensors()[0] if self.targets is None else self.targets
        check_examples(Examples.of(self.inputs, targets), first.device)
        for array in self._tensors():
            check_finite_inputs(array)

    def _check_batches(self):
        check_positive(batch_size=self.batch_size)
        if self.loss is None or not self.n_probes:
            raise ValueError("batch_size is that of batch sharpness, which takes a loss and probes")

    def at_layers(self, names) -> "Probe":
        """The probe of these layers, or of all with a weight; raises ValueError as `watch`."""
        modules = dict(self.net.named_modules())
        names = check_layers(modules, names)
        first_examples = mapped_inputs(lambda array: array[:N_TRIED], self.inputs)
        candidates = (
            with_weights(modules) if names is None else {name: modules[name] for name in names}
        )
        outputs, reached = activations(
            self.net, first_examples, candidates, partial(self._has_points, names is None)
        )
        if unreached := [name for name in names or () if name not in reached]:
            raise ValueError(f"the forward pass does not reach layer {unreached[0]!r}")
        if self.loss is not None:
            losses_of(self.loss, outputs, self.targets[:N_TRIED])
        return replace(
            self, layers={name: candidates[name] for name in candidates if reached.get(name)}
        )

    def with_all_examples(self) -> "Probe":
        """The probe with the examples of all ranks, if gradients of a loss are measured."""
        if self.loss is None:
            return self
        if self.ranks == 1:
            return replace(self, examples=(self.inputs, self.targets))
        own = [tensor.cpu() for tensor in (*self._tensors(), self.targets)]
        of_ranks = _gathered(own, self.ranks)
        if of_ranks is None:
            return self
        device = self.targets.device
        *tensors, targets = (torch.cat(tensor).to(device) for tensor in zip(*of_ranks, strict=True))
        remaining = iter(tensors)
        inputs = mapped_inputs(lambda _: next(remaining), self.inputs)
        return replace(self, examples=(inputs, targets))

    def _tensors(self):
        """The input tensors, in order."""
        return [*(self.inputs.values() if isinstance(self.inputs, Mapping) else self.inputs)]

    def _has_points(self, leave_out, name, module, output):
        try:
            return (
                points_of(name, module, output, min(N_TRIED, len(self._tensors()[0]))) is not None
            )
        except ValueError:
            if not leave_out:
                raise

    def rows_of(self, name, module, output):
        """The output of a layer as rows, one for each example of the inputs."""
        return points_of(name, module, output, len(self._tensors()[0]), self.pools(module))

    def _noise(self, rng, tolerant, clock):
        with warnings.catch_warnings():
            if tolerant:  # the first measurement has warned already
                warnings.simplefilter("ignore", FallbackWarning)
                warnings.simplefilter("ignore", UnusedWarning)
            arguments = self.net, self.loss, self.examples
            try:
                rows, record = loss_and_noise(*arguments, self.layers, self.plans)
                if self.n_probes:
                    with nullcontext() if clock is None else clock.probe_time():
                        record |= traces(*arguments, rows, self.n_probes, rng, self.plans)
                        record |= self._batch_sharpness(rng)
                return record if clock is None else record | {"n_probes": self.n_probes}
            except FAILURES as error:
                if not tolerant:
                    raise
                warnings.warn(f"no gradient noise: {error}", UnmeasuredWarning, stacklevel=4)
                return {}

    def _batch_sharpness(self, rng):
        if self.batch_size is None:
            return {}
        arguments = self.net, self.loss, self.examples, self.batch_size, self.n_probes
        return {"batch_sharpness": batch_sharpness(*arguments, rng)}


def on_all_ranks(task, ranks):
    """The result of a task on this rank; an error on one rank is raised on all."""
    result, problem = None, None
    try:
        result = task()
    except ValueError as error:
        if ranks == 1:
            raise
        problem = f"rank {dist.get_rank()}: {error}"
    if ranks > 1:
        problems_of_ranks: list[Any] = [None] * ranks
        dist.all_gather_object(problems_of_ranks, problem)
        if problems := [message for message in problems_of_ranks if message]:
            raise ValueError(problems[0])
    return result


def _gathered(value, ranks):
    """The values of all ranks, in their order, on rank 0; None on the others."""
    if ranks == 1:
        return [value]
    values = [None] * ranks if dist.get_rank() == 0 else None
    dist.gather_object(value, values)
    return values
