"""The callback of Lightning, in real trainings."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

lightning = pytest.importorskip("lightning")
pytestmark = pytest.mark.filterwarnings("ignore")

from lightning.pytorch.loggers import CSVLogger  # noqa: E402

from sgdnoise.nets.lightning import Watch  # noqa: E402

LOSS = nn.CrossEntropyLoss(reduction="none")


class Module(lightning.LightningModule):
    """A classifier of random points; `optimizers_used` of them train it."""

    def __init__(self, optimizers_used=1):
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
        self.used, self.automatic_optimization = optimizers_used, optimizers_used == 1

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch, _):
        loss = LOSS(self(batch[0]), batch[1]).mean()
        if self.automatic_optimization:
            return loss
        optimizers = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()
        return loss

    def configure_optimizers(self):
        layers = [self.model[0], self.model[2]]
        if self.used == 1:
            return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)
        return [torch.optim.SGD(layer.parameters(), 0.1) for layer in layers]


def points(n=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 6, generator=generator), torch.randint(3, (n,), generator=generator)


def trained(tmp_path, steps, *, module=None, ckpt=None, watch=True, logger=False, **options):
    """A training of some steps on the same batches in the same order, and its callback."""
    data = torch.utils.data.TensorDataset(*points())
    loader = torch.utils.data.DataLoader(data, batch_size=8)
    callback = Watch(*points(32, 1), LOSS, n_probes=4) if watch else None
    options = options if "max_epochs" in options else options | {"max_steps": steps}
    trainer = lightning.Trainer(
        logger=logger,
        callbacks=[callback] if watch else [],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        default_root_dir=tmp_path,
        **options,
    )
    module = Module() if module is None else module
    trainer.fit(module, loader, ckpt_path=ckpt, weights_only=False)
    return callback, trainer, module


def test_it_measures_without_a_logger_and_to_the_last_step(tmp_path):
    callback, _, _ = trained(tmp_path, 11)
    results = callback.results()
    assert results.step.values.tolist() == [0, 1, 2, 4, 8, 11]
    assert {"participation_ratio", "noise_scale", "hessian_trace"} <= set(results)


def test_every_logger_gets_the_numbers(tmp_path):
    loggers = [CSVLogger(tmp_path / name) for name in "ab"]
    trained(tmp_path, 4, logger=loggers)
    for logger in loggers:
        text = (tmp_path / logger.log_dir / "metrics.csv").read_text()
        assert "model.0/participation_ratio" in text


def test_the_training_is_the_same_bit_for_bit(tmp_path):
    _, _, watched = trained(tmp_path, 9)
    _, _, alone = trained(tmp_path, 9, watch=False)
    for a, b in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_resumed_training_has_the_record_of_an_unbroken_one(tmp_path):
    """At the end of the third epoch of 8 steps, which is no due step."""
    whole, _, _ = trained(tmp_path, None, max_epochs=5)
    _, trainer, _ = trained(tmp_path, None, max_epochs=3)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    rest, _, _ = trained(tmp_path, None, max_epochs=5, ckpt=tmp_path / "half.ckpt")
    assert rest.results().step.values.tolist() == [0, 1, 2, 4, 8, 16, 32, 40]
    assert rest.results().identical(whole.results())


def test_accumulated_batches_and_several_optimizers_count_steps_once(tmp_path):
    callback, _, _ = trained(tmp_path, 4, accumulate_grad_batches=2)
    assert callback.results().step.values.tolist() == [0, 1, 2, 4]
    callback, _, _ = trained(tmp_path, 8, module=Module(2))
    assert callback.results().step.values.tolist() == [0, 1, 2, 4]


def test_it_measures_a_training_in_mixed_precision(tmp_path):
    callback, _, _ = trained(tmp_path, 2, precision="bf16-mixed")
    assert callback.results().step.values.tolist() == [0, 1, 2]


def test_weights_of_half_precision_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="bfloat16, too coarse for covariances; use float32"):
        trained(tmp_path, 2, precision="bf16-true")


def test_examples_are_moved_and_sanity_checks_do_not_count(tmp_path):
    callback, _, _ = trained(tmp_path, 2, num_sanity_val_steps=2)
    assert callback.results().step.values.tolist() == [0, 1, 2]


def test_before_the_training_there_is_a_sentence():
    with pytest.raises(ValueError, match="the training has not started"):
        Watch(*points()).results()


RANKS = """
import json, sys
sys.path[:0] = ["tests", "."]
import torch
torch.set_num_threads(1)
import lightning
from lightning.pytorch.callbacks import Callback
from monitoring.test_lightning import LOSS, Module, points
from sgdnoise.nets.lightning import Watch


class Tell(Callback):
    def on_train_end(self, trainer, module):
        steps = [] if watch.watcher is None else watch.results().step.values.tolist()
        weights = [p.sum().item() for p in module.parameters()]
        with open(f"{sys.argv[1]}/rank{trainer.global_rank}.json", "w") as file:
            json.dump([steps, told, weights], file)


told = []
watch = Watch(*points(32, 1), LOSS, n_probes=4, log=lambda numbers, step: told.append(step))
if __name__ == "__main__":
    data = torch.utils.data.TensorDataset(*points())
    trainer = lightning.Trainer(
        max_steps=4, devices=2, strategy="ddp", accelerator="cpu", logger=False,
        callbacks=[watch, Tell()], enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=sys.argv[1],
    )
    trainer.fit(Module(), torch.utils.data.DataLoader(data, batch_size=8))
"""


def test_with_two_processes_rank_0_measures_and_tells(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(RANKS, encoding="utf-8")
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (json.loads((tmp_path / f"rank{k}.json").read_text()) for k in (0, 1))
    assert first[:2] == [[0, 1, 2, 4], [0, 1, 2, 4]]
    assert second[:2] == [[], []]
    assert first[2] == second[2]
