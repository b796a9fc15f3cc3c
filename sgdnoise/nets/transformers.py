"""Watching a training by Hugging Face: `Watch(inputs, targets, loss).attach(trainer)`."""

import json
from pathlib import Path
from typing import Any

from sgdnoise._extras import require
from sgdnoise.nets._watch._moved import moved
from sgdnoise.nets._watch._watch import watch

__all__ = ["Watch"]

_transformers: Any = require("transformers", "monitoring")
FILE = "sgdnoise_watch.json"  # beside each checkpoint


class Watch(_transformers.TrainerCallback):
    """Noise and dimension of the layers of a model, at steps of a Trainer of Hugging Face.

    inputs, targets, loss and options are those of `nets.watch`; inputs may be a dict of tensors, as
    tokenizers return them.  The loss takes what the model returns, for example
    lambda out, y: cross_entropy(out.logits, y, reduction="none").  The examples are moved to the
    device of the model.  Numbers are in the log_history of the Trainer under "watch/", and go to
    `log` if it is given; with `Watch(...).attach(trainer)` they go to all its loggers.  The record
    is written beside each checkpoint, so that a resumed training has the record of an unbroken one.
    Rank 0 measures.

    Example:
        >>> import torch
        >>> callback = Watch(torch.randint(10, (20, 4)), every=100)
        >>> callback.watcher is None
        True
    """

    def __init__(self, inputs, targets=None, loss=None, *, log=None, **options):
        self._examples, self._loss, self._log, self._options = (inputs, targets), loss, log, options
        self.watcher: Any = None
        self._pending: list[tuple[dict, int]] = []
        self._trainer: Any = None

    def on_train_begin(self, args, state, _control, model=None, **_) -> None:
        """Measure the first state, or continue the record of the checkpoint that is resumed."""
        if not state.is_world_process_zero:
            return
        inputs, targets = moved(self._examples, next(model.parameters()).device)
        options = {"start": state.global_step, "gather": False} | self._options
        stored = self._stored(args, state)
        log = None if stored else self._collect
        self.watcher = watch(model, inputs, targets, self._loss, log=log, **options)
        if stored:
            self.watcher.load_state_dict(stored)
            self.watcher.log = self._collect
        self._say(state)

    def on_step_end(self, _args, state, _control, **_) -> None:
        """Measure after a step that is due."""
        if self.watcher is not None:
            self.watcher.step(state.global_step)
            self._say(state)

    def on_save(self, args, state, _control, **_) -> None:
        """Write the record beside the checkpoint."""
        folder = _checkpoint(args, state)
        if self.watcher is not None and folder.is_dir():
            (folder / FILE).write_text(json.dumps(self.watcher.state_dict()), encoding="utf-8")

    def on_train_end(self, _args, state, _control, **_) -> None:
        """Measure the last state."""
        if self.watcher is not None:
            self.watcher.measure_last()
            self._say(state)

    def results(self):
        """The record as an xarray Dataset: see `nets.watch`.

        Raises ValueError before the training has started, and on ranks that do not measure.
        """
        if self.watcher is None:
            raise ValueError("nothing was measured: the training has not started on this rank")
        return self.watcher.results()

    def attach(self, trainer) -> "Watch":
        """Add the callback to a Trainer, so that all its loggers get the numbers."""
        self._trainer = trainer
        trainer.add_callback(self)
        return self

    def _collect(self, numbers, step):
        self._pending.append((numbers, step))
        if self._log is not None:
            self._log(numbers, step)

    def _say(self, state):
        for numbers, step in self._pending:
            named = {f"watch/{name}": value for name, value in numbers.items()}
            if self._trainer is None:
                state.log_history.append(named | {"step": step})
            else:
                self._trainer.log(named)
        self._pending = []

    def _stored(self, args, state) -> dict:
        file = _checkpoint(args, state) / FILE
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _checkpoint(args, state) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"
