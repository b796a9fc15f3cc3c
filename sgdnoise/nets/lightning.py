"""Watching a training by Lightning: `Trainer(callbacks=[Watch(inputs, targets, loss)])`."""

from typing import Any

from torch import nn

from sgdnoise._extras import require
from sgdnoise.nets._watch._moved import moved
from sgdnoise.nets._watch._watch import watch

__all__ = ["Watch"]

_lightning: Any = require("lightning", "monitoring")


class Watch(_lightning.Callback):
    """Noise and dimension of the layers of a LightningModule, at steps of its optimizer.

    inputs, targets, loss and options are those of `nets.watch`.  The examples are moved to the
    device of the module when the training starts.  Numbers go to every logger of the Trainer, and
    to `log` if it is given.  The record is stored in checkpoints, so that a resumed training has
    the record of an unbroken one.  With several processes rank 0 measures; with several optimizers
    a step is one of each.  Accumulated batches are one step.
    layers: names in the LightningModule, such as "model.0".

    Example:
        >>> import torch
        >>> callback = Watch(torch.randn(20, 4), every=100)
        >>> callback.state_dict()
        {}
    """

    def __init__(self, inputs, targets=None, loss=None, *, log=None, **options):
        self._examples, self._loss, self._log, self._options = (inputs, targets), loss, log, options
        self._state: dict = {}
        self.watcher: Any = None

    def on_train_start(self, trainer, pl_module: nn.Module) -> None:
        """Measure the first state, or continue the record of a checkpoint."""
        if not trainer.is_global_zero:
            return
        inputs, targets = moved(self._examples, pl_module.device)
        inputs = trainer.precision_plugin.convert_input(inputs)
        arguments = pl_module, inputs, targets, self._loss
        options = {"start": _steps(trainer), "gather": False} | self._options

        def log(numbers, step):
            for logger in trainer.loggers:
                logger.log_metrics(numbers, step)
            if self._log is not None:
                self._log(numbers, step)

        self.watcher = watch(*arguments, log=None if self._state else log, **options)
        if self._state:
            self.watcher.load_state_dict(self._state)
            self.watcher.log = log

    def on_train_batch_end(self, trainer, *_) -> None:
        """Measure after a step that is due; batches that are accumulated make no step."""
        if self.watcher is not None:
            self.watcher.step(_steps(trainer))

    def on_train_end(self, *_) -> None:
        """Measure the last state."""
        if self.watcher is not None:
            self.watcher.measure_last()

    def results(self):
        """The record as an xarray Dataset: see `nets.watch`.

        Raises ValueError before the training has started, and on ranks that do not measure.
        """
        if self.watcher is None:
            raise ValueError("nothing was measured: the training has not started on this rank")
        return self.watcher.results()

    def state_dict(self) -> dict:
        """What Lightning stores of it in checkpoints."""
        return self._state if self.watcher is None else self.watcher.state_dict()

    def load_state_dict(self, state_dict: dict) -> None:
        """Continue the record of a checkpoint when the training starts."""
        self._state = state_dict


def _steps(trainer) -> int:
    """The steps of each optimizer; Lightning counts those of all."""
    return trainer.global_step // max(1, len(trainer.optimizers))
