"""Noise and dimension of the layers of a network during training."""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from numbers import Integral
from typing import Any

import torch.distributed as dist
from torch import nn

from sgdnoise.core._arguments import checked_by_annotation
from sgdnoise.nets._network import unwrapped
from sgdnoise.nets._watch._activations import DEFAULT_ESTIMATORS, preserved
from sgdnoise.nets._watch._budget import Budget
from sgdnoise.nets._watch._probe import Probe, on_all_ranks


@checked_by_annotation
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
    pooled: bool | None = None,
    budget: float | None = None,
    training: bool = False,
    n_probes: int = 10,
    batch_size: int | None = None,
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
    covariance, the gradient-noise scale, the critical batch and the trace of the Hessian are
    measured too; the last two from `n_probes` random signs with the seed `rng`.  Where the network
    is linear in each parameter, as with relus, Tr H is that of the Gauss-Newton matrix, from two
    backward passes.
    batch_size: that of the training; batch sharpness, E[g_B^T H_B g_B] / E[|g_B|^2], is then
    measured too, over `n_probes` batches drawn from the examples.  SGD at the edge of stability
    keeps it near 2 / rate (Andreyev & Beneventano, 2024).
    layers: names of net.named_modules(); by default all with a weight of two axes or more.
    every: a number of steps, a collection of steps, or step -> bool; by default steps 1, 2, 4, 8,
    ...  The last state is measured too, by `results()` or at the end of a `with` block.
    budget: the share of the time after this call that measurements may take, such as 0.03.  A step
    is measured if it is due, by default each, and if a measurement as long as the last one keeps
    within that share; half of its time at most goes to probes, of which there may be fewer.  The
    record then has `time_share` and `n_probes`.  The first and the last state are always measured.
    log: called at each measurement with (numbers by "layer/name" or by name, step).
    pooled: means over the positions of images and sequences, which otherwise form one row.  By
    default the outputs of convolutions alone are pooled; `results().attrs["pooled"]` names them.
    training: measure in the present modes of the network (dropout, batch statistics), else in eval.
    start: the number of steps made before.
    gather: if torch.distributed is initialised, all ranks call it, each with its part of the
    examples, and rank 0 measures; with False each rank is separate.  The training continues as
    without it, bit for bit.
    Raises ValueError for layers that do not exist, are not reached, or return no tensor; for
    `every` below 1; for a budget that is not between 0 and 1; for fewer than 11 examples with the
    default estimators, examples that are not finite or on another device than the network; for a
    loss that does not take the targets; and as `per_example_gradients`.

    Example:
        >>> import torch
        >>> from sgdnoise.nets import models
        >>> net = models.mlp([4, 8, 1], seed=0)
        >>> inputs, targets = torch.randn(50, 4), torch.randn(50, 1)
        >>> watcher = watch(net, inputs, targets, lambda out, y: (out - y).square().sum(1), every=2)
        >>> for _ in range(4):  # the steps of a training
        ...     watcher.step()
        >>> results = watcher.results()
        >>> results.step.values.tolist(), results.layer.values.tolist()
        ([0, 2, 4], ['1', '3'])
    """
    clock = None if budget is None else Budget(budget)
    is_due, net = _schedule(_always if clock and every is None else every), unwrapped(net)
    estimators = DEFAULT_ESTIMATORS if estimators is None else estimators
    initialised = dist.is_available() and dist.is_initialized()
    ranks = dist.get_world_size() if gather and initialised else 1
    given = _as_tuple(inputs), targets, loss
    settings: tuple = n_probes, rng, ranks, batch_size
    probe = Probe(net, *given, {}, estimators, pooled, *settings)
    on_all_ranks(probe.check, ranks)
    with preserved(net, training):
        probe = on_all_ranks(partial(probe.at_layers, layers), ranks).with_all_examples()
        with nullcontext() if clock is None else clock.measuring():
            first_record = on_all_ranks(partial(probe, start, clock=clock), ranks)
        return Watch(probe, training, is_due, log, start, first_record, clock)


def doubling(step: int) -> bool:
    """Whether a step is one of 1, 2, 4, 8, 16, ...: log2 n + 1 measurements in n steps."""
    return step > 0 and step & (step - 1) == 0


class Watch:
    """The measurements of a network, at the start and at chosen steps of its training.

    log: the function that is called at each measurement, or None; it can be replaced.

    Example:
        >>> import torch
        >>> from sgdnoise.nets import models, watch
        >>> net = models.mlp([4, 8, 1], seed=0)
        >>> watcher = watch(net, torch.randn(50, 4))
        >>> for _ in range(4):  # the steps of a training
        ...     watcher.step()
        >>> watcher.results().step.values.tolist()
        [0, 1, 2, 4]
    """

    def __init__(self, probe, training, is_due, log, start, first_record, clock=None):
        self.count = self._last = start
        self._clock = clock
        self._probe, self._training, self._is_due, self.log = probe, training, is_due, log
        self._records: dict[int, dict] = {}
        self._ended, self._at_end = False, None
        if clock is not None:
            self._probe = probe.with_fewer_probes(clock)
            clock.start()
        self._store(first_record)

    def step(self, at: int | None = None) -> None:
        """Count one more step, or set the count to `at`; measure if the step is due."""
        self.count = self.count + 1 if at is None else at
        due = self.count != self._last and self._is_due(self.count)
        if due and (self._clock is None or self._clock.allows_another()):
            self.measure()

    def measure(self) -> None:
        """Measure now, whether or not it is due.

        What cannot be measured, because a layer has died or the loss is not finite, is nan, with an
        UnmeasuredWarning; the training continues.
        """
        self._last = self.count
        clock = self._clock
        with preserved(self._probe.net, self._training):
            with nullcontext() if clock is None else clock.measuring():
                record = self._probe(self.count, tolerant=True, clock=clock)
            self._store(record)

    def results(self):
        """All measurements, an xarray Dataset along step and layer, with errors as NAME_stderr.

        step: the number of steps made before a measurement.  The present state is measured first if
        it has not been, so that the end of a training is in the record; with several ranks at the
        end of a `with` block alone.  The Dataset is empty on ranks that do not measure.
        """
        from sgdnoise.core._dataset import as_dataset

        if self._probe.ranks == 1:
            self.measure_last()
        pooled = [name for name, layer in self._probe.layers.items() if self._probe.pools(layer)]
        return as_dataset(self._records).assign_attrs(pooled=", ".join(pooled))

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
        if self._clock is not None:
            record = record | {"time_share": self._clock.used}
            self._probe = self._probe.with_fewer_probes(self._clock)
        self._records[self.count] = record
        if self.log is not None:
            from sgdnoise.core._dataset import as_numbers

            numbers = as_numbers(record)
            named = {n if layer is None else f"{layer}/{n}": x for (n, layer), x in numbers.items()}
            self.log(named, self.count)


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


def _always(_):
    return True


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
