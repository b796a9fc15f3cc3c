"""Noise and dimension of the layers of a network during training."""

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parameter import is_lazy

from sgdnoise.nets._checks import check_finite_inputs, listed
from sgdnoise.nets._examples import Examples, check_examples
from sgdnoise.nets._network import unwrapped
from sgdnoise.nets._per_example._plan import FallbackWarning, UnusedWarning
from sgdnoise.nets._watch._activations import (
    DEFAULT_ESTIMATORS,
    FAILURES,
    UnmeasuredWarning,
    activations,
    dimensions,
    mapped_inputs,
    points_of,
    preserved,
    with_weights,
)
from sgdnoise.nets._watch._loss_traces import loss_and_noise, losses_of

N_TRIED = 3  # examples in a first pass that reads the outputs of layers


def watch(
    net: nn.Module,
    inputs,
    targets=None,
    loss: Callable | None = None,
    *,
    layers: Collection[str] | None = None,
    every=None,
    estimators: dict[str, Callable] | None = None,
    log: Callable[[dict, int], Any] | None = None,
    pooled: bool = False,
    training: bool = False,
    n_probes: int = 10,
    rng: int = 0,
    start: int = 0,
    gather: bool = True,
) -> "Watch":
    """Measure a network now, and at chosen steps of its training, without changing the training.

    Call `step()` on the result after each step of the training loop.
    inputs: held-out examples, a tensor, a tuple of tensors, or a dictionary by arguments, not
    copied.  The activations (n, d) of each layer give the participation ratio, `twonn` and
    `levina_bickel`, or the `estimators` given instead, name -> function of a numpy array (n, d).
    With targets and a loss, (outputs, targets) -> (n,), the loss, the trace of the noise
    covariance, the gradient-noise scale and the trace of the Hessian are measured too; the last
    from `n_probes` random signs with the seed `rng`.
    layers: names of net.named_modules(); by default all with a weight of two axes or more.
    every: a number of steps, a collection of steps, or step -> bool; by default steps 1, 2, 4, 8,
    ...  The last state is measured too, by `results()` or at the end of a `with` block.
    log: called at each measurement with (numbers by "layer/name" or by name, step).
    pooled: means over the positions of images and sequences, which otherwise form one row.
    training: measure in the present modes of the network (dropout, batch statistics), else in eval.
    start: the number of steps made before.
    gather: if torch.distributed is initialised, all ranks call it, each with its part of the
    examples, and rank 0 measures; with False each rank is separate.  The training continues as
    without it, bit for bit.
    Raises ValueError for layers that do not exist, are not reached, or return no tensor; for
    `every` below 1; for fewer than 11 examples with the default estimators, examples that are not
    finite or on another device than the network; for a loss that does not take the targets; and as
    `per_example_gradients`.
    """
    is_due, net = _schedule(every), unwrapped(net)
    estimators = DEFAULT_ESTIMATORS if estimators is None else estimators
    initialised = dist.is_available() and dist.is_initialized()
    ranks = dist.get_world_size() if gather and initialised else 1
    probe = Probe(
        net, _as_tuple(inputs), targets, loss, {}, estimators, pooled, n_probes, rng, ranks
    )
    _on_all_ranks(probe.check, ranks)
    with preserved(net, training):
        probe = _on_all_ranks(partial(probe.at_layers, layers), ranks).with_all_examples()
        first_record = _on_all_ranks(partial(probe, start), ranks)
        return Watch(probe, training, is_due, log, start, first_record)


def doubling(step: int) -> bool:
    """Whether a step is one of 1, 2, 4, 8, 16, ...: log2 n + 1 measurements in n steps."""
    return step > 0 and step & (step - 1) == 0


class Watch:
    """The measurements of a network, at the start and at chosen steps of its training.

    log: the function that is called at each measurement, or None; it can be replaced.
    """

    def __init__(self, probe, training, is_due, log, start, first_record):
        self.count = self._last = start
        self._probe, self._training, self._is_due, self.log = probe, training, is_due, log
        self._records: dict[int, dict] = {}
        self._ended, self._at_end = False, None
        self._store(first_record)

    def step(self, at: int | None = None) -> None:
        """Count one more step, or set the count to `at`; measure if the step is due."""
        self.count = self.count + 1 if at is None else at
        if self.count != self._last and self._is_due(self.count):
            self.measure()

    def measure(self) -> None:
        """Measure now, whether or not it is due.

        What cannot be measured, because a layer has died or the loss is not finite, is nan, with an
        UnmeasuredWarning; the training continues.
        """
        self._last = self.count
        with preserved(self._probe.net, self._training):
            self._store(self._probe(self.count, tolerant=True))

    def results(self):
        """All measurements, an xarray Dataset along step and layer, with errors as NAME_stderr.

        step: the number of steps made before a measurement.  The present state is measured first if
        it has not been, so that the end of a training is in the record; with several ranks at the
        end of a `with` block alone.  The Dataset is empty on ranks that do not measure.
        """
        from sgdnoise.core._dataset import as_dataset

        if self._probe.ranks == 1:
            self.measure_last()
        return as_dataset(self._records)

    def state_dict(self) -> dict:
        """The record in numbers and text, to be stored with a checkpoint of the training.

        A measurement that was made only because the training ended is left out, so that a training
        that goes on has the record of one that was not broken.
        """
        from sgdnoise.core._dataset import as_numbers

        kept = {step: r for step, r in self._records.items() if step != self._at_end}
        records = [
            [step, [[name, layer, number] for (name, layer), number in as_numbers(record).items()]]
            for step, record in kept.items()
        ]
        return {"count": self.count, "records": records}

    def load_state_dict(self, state: dict) -> None:
        """Continue the record of `state_dict`, in place of what was measured since."""
        self.count, self._records, self._at_end = state["count"], {}, None
        for step, numbers in state["records"]:
            record: dict = {}
            for name, layer, number in numbers:
                if layer is None:
                    record[name] = number
                else:
                    record.setdefault(name, {})[layer] = number
            self._records[step] = record
        self._last = max(self._records, default=self.count)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self.measure_last()
        self._is_due, self._ended = _never, True

    def measure_last(self) -> None:
        """Measure the present state if it has not been measured, as at the end of a training."""
        if self.count != self._last and not self._ended:
            self.measure()
            self._at_end = self.count

    def _store(self, record):
        if record is None:
            return
        self._records[self.count] = record
        if self.log is not None:
            from sgdnoise.core._dataset import as_numbers

            numbers = as_numbers(record)
            named = {n if layer is None else f"{layer}/{n}": x for (n, layer), x in numbers.items()}
            self.log(named, self.count)


@dataclass(frozen=True, eq=False)
class Probe:
    """How to measure a network: examples, layers, estimators and ranks."""

    net: nn.Module
    inputs: Any  # a tuple of tensors, or a dictionary of them
    targets: Any
    loss: Callable | None
    layers: dict
    estimators: dict
    pooled: bool
    n_probes: int
    seed: int
    ranks: int
    examples: tuple | None = None  # inputs and targets of all ranks, where gradients are measured

    def __call__(self, step: int, *, tolerant: bool = False) -> dict | None:
        """The measurements after a step; None on ranks that do not measure."""
        _, rows = activations(self.net, self.inputs, self.layers, self._rows)
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
        return record | self._noise(np.random.default_rng([self.seed, step]), tolerant)

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
        targets = self._tensors()[0] if self.targets is None else self.targets
        check_examples(Examples.of(self.inputs, targets), first.device)
        for array in self._tensors():
            check_finite_inputs(array)

    def at_layers(self, names) -> "Probe":
        """The probe of these layers, or of all with a weight; raises ValueError as `watch`."""
        modules = dict(self.net.named_modules())
        names = [names] if isinstance(names, str) else names
        if unknown := [name for name in names or () if name not in modules]:
            names_there = listed(name for name in modules if name)
            raise ValueError(f"no layer is called {unknown[0]!r}; there are {names_there}")
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

    def _rows(self, name, module, output):
        return points_of(name, module, output, len(self._tensors()[0]), self.pooled)

    def _noise(self, rng, tolerant):
        with warnings.catch_warnings():
            if tolerant:  # the first measurement has warned already
                warnings.simplefilter("ignore", FallbackWarning)
                warnings.simplefilter("ignore", UnusedWarning)
            arguments = self.net, self.loss, self.examples, self.layers, self.n_probes
            try:
                return loss_and_noise(*arguments, rng)
            except FAILURES as error:
                if not tolerant:
                    raise
                warnings.warn(f"no gradient noise: {error}", UnmeasuredWarning, stacklevel=4)
                return {}


def _schedule(every) -> Callable[[int], bool]:
    if every is None or callable(every):
        return every or doubling
    if isinstance(every, Integral):
        if every < 1:
            raise ValueError(f"a measurement comes every 1 or more steps, not every {every}")
        return lambda step: step % every == 0
    if not isinstance(every, Iterable):
        raise ValueError(f"every is an int, a collection of steps, or step -> bool, not {every!r}")
    steps = frozenset(every)
    if any(step != int(step) or step < 0 for step in steps):
        raise ValueError(f"steps are counted by integers, not {min(steps)}, ...")
    return steps.__contains__


def _never(_):
    return False


def _as_tuple(inputs):
    return (
        inputs
        if isinstance(inputs, tuple)
        else dict(inputs)
        if isinstance(inputs, Mapping)
        else (inputs,)
    )


def _on_all_ranks(task, ranks):
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
