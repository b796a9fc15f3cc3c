"""The callback of Hugging Face, in real trainings."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.filterwarnings("ignore")

from sgdnoise.nets.transformers import Watch  # noqa: E402


def model():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return transformers.BertForSequenceClassification(config)


def sentences(n, seed):
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(50, (n, 6), generator=generator)
    mask = torch.ones(n, 6, dtype=torch.long)
    return {"input_ids": words, "attention_mask": mask}, torch.randint(3, (n,), generator=generator)


class Sentences(torch.utils.data.Dataset):
    """Random words with random labels."""

    def __init__(self):
        self.inputs, self.labels = sentences(64, 0)

    def __len__(self):
        return 64

    def __getitem__(self, i):
        row = {name: tensor[i] for name, tensor in self.inputs.items()}
        return row | {"labels": self.labels[i]}


def losses(out, labels):
    return cross_entropy(out.logits, labels, reduction="none")


def trained(tmp_path, steps, *, resume=None, attach=True, net=None, **options):
    arguments = transformers.TrainingArguments(
        output_dir=tmp_path,
        max_steps=steps,
        per_device_train_batch_size=8,
        report_to=[],
        save_steps=5,
        use_cpu=True,
        disable_tqdm=True,
        logging_steps=100,
        lr_scheduler_type="constant",
        **options,
    )
    callback = Watch(*sentences(20, 1), losses, n_probes=0, layers=["classifier"])
    net = model() if net is None else net
    callbacks = [] if attach else [callback]
    trainer = transformers.Trainer(net, arguments, train_dataset=Sentences(), callbacks=callbacks)
    if attach:
        callback.attach(trainer)
    trainer.train(resume_from_checkpoint=resume)
    return callback, trainer


@pytest.mark.parametrize("attach", [True, False])
def test_it_measures_dict_batches_and_the_trainer_logs_the_numbers(tmp_path, attach):
    callback, trainer = trained(tmp_path, 6, attach=attach)
    results = callback.results()
    assert results.step.values.tolist() == [0, 1, 2, 4, 6]
    assert {"participation_ratio", "noise_scale"} <= set(results)
    logged = [row for row in trainer.state.log_history if "watch/loss" in row]
    assert [row["step"] for row in logged] == [0, 1, 2, 4, 6]


def test_a_training_in_bf16_by_accelerate_is_measured(tmp_path):
    callback, _ = trained(tmp_path, 2, bf16=True)
    results = callback.results()
    assert results.step.values.tolist() == [0, 1, 2]
    assert float(results.noise_trace[0]) > 0


def test_a_resumed_training_has_the_record_of_an_unbroken_one(tmp_path):
    whole, _ = trained(tmp_path / "whole", 12)
    trained(tmp_path / "half", 5)
    rest, _ = trained(tmp_path / "half", 12, resume=True)
    assert rest.results().step.values.tolist() == [0, 1, 2, 4, 8, 12]
    assert rest.results().identical(whole.results())


def test_the_training_is_the_same_bit_for_bit(tmp_path):
    _, watched = trained(tmp_path / "a", 4)
    arguments = watched.args
    alone = transformers.Trainer(model(), arguments, train_dataset=Sentences())
    alone.train()
    pairs = zip(watched.model.parameters(), alone.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_before_the_training_there_is_a_sentence():
    with pytest.raises(ValueError, match="the training has not started"):
        Watch(torch.zeros(12, 2)).results()
    assert isinstance(nn.Linear(2, 2), nn.Module)
