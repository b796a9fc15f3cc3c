"""Loggers whose files are read back, and plain loops as people write them."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from sgdnoise.nets import live_noise_scale, watch

pytestmark = pytest.mark.filterwarnings("ignore")
LOSS = nn.CrossEntropyLoss(reduction="none")


def points(n=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 6, generator=generator), torch.randint(3, (n,), generator=generator)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def test_event_files_of_tensorboard_have_every_number(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(tmp_path)

    def log(numbers, step):
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)

    net, (x, y) = network(), points()
    watcher = watch(net, *points(32, 1), LOSS, n_probes=4, log=log)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(5):
        optimizer.zero_grad()
        cross_entropy(net(x), y).backward()
        optimizer.step()
        watcher.step()
    record = watcher.results()
    writer.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    for tag, values in (("loss", record.loss), ("0/twonn", record.twonn.sel(layer="0"))):
        read = events.Scalars(tag)
        assert [event.step for event in read] == record.step.values.tolist()
        np.testing.assert_allclose([event.value for event in read], values, rtol=1e-6)


def test_lightning_writes_event_files(tmp_path):
    pytest.importorskip("tensorboard")
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    from monitoring.test_lightning import trained
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = loggers.TensorBoardLogger(tmp_path, name="board")
    callback, _, _ = trained(tmp_path, 4, logger=[logger])
    logger.finalize("success")
    events = EventAccumulator(logger.log_dir).Reload()
    read = [event.value for event in events.Scalars("loss")]
    np.testing.assert_allclose(read, callback.results().loss, rtol=1e-6)


def train(*, watched, compiled=False):
    """A training with AdamW, a schedule and a DataLoader with a worker process."""
    net, (x, y) = network(), points()
    loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True, num_workers=1)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)
    model = torch.compile(net, backend="eager") if compiled else net
    watcher = watch(model, *points(32, 1), LOSS, n_probes=4) if watched else None
    live = None
    if watched:
        live = live_noise_scale(model, every=2, micro_batch=16 if compiled else None)
    torch.manual_seed(1)
    for _ in range(2):
        for batch, labels in loader:
            optimizer.zero_grad()
            cross_entropy(model(batch), labels).backward()
            if live is not None and not compiled:
                live.step()
            optimizer.step()
            schedule.step()
            if watcher is not None:
                watcher.step()
    return watcher, [p.detach().clone() for p in net.parameters()]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_loop_with_adamw_a_schedule_and_workers_stays_the_same(compiled):
    watcher, weights = train(watched=True, compiled=compiled)
    _, alone = train(watched=False, compiled=compiled)
    assert all(map(torch.equal, weights, alone))
    record = watcher.results()
    assert record.step.values.tolist() == [0, 1, 2, 4, 8]
    assert record.hessian_trace.notnull().all()
    assert not record.critical_batch.isnull().any()


def test_mlflow_keeps_every_number_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(f"file://{tmp_path}")

    def log(numbers, step):
        mlflow.log_metrics(numbers, step=step)

    net, (x, y) = network(), points()
    with mlflow.start_run(experiment_id=mlflow.create_experiment("watched")) as run:
        watcher = watch(net, *points(32, 1), LOSS, n_probes=4, every=1, log=log)
        for _ in range(3):
            net.zero_grad()
            cross_entropy(net(x), y).backward()
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter -= 0.1 * parameter.grad
            watcher.step()
    record, client = watcher.results(), mlflow.MlflowClient()
    for name, values in (("loss", record.loss), ("0/twonn", record.twonn.sel(layer="0"))):
        history = client.get_metric_history(run.info.run_id, name)
        assert [metric.step for metric in history] == record.step.values.tolist()
        np.testing.assert_allclose([metric.value for metric in history], values)
