"""Public checkpoints: which file is read for which depth, and what is refused."""

import hashlib
import re

import pytest
import torch

from sgdnoise.data import normalized
from sgdnoise.nets import _pretrained
from sgdnoise.nets.models import pretrained_resnet, resnet

NAME = "resnet20-12fca82f.th"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a checkpoint as the published one, whose checksum is taken as the published."""
    net = resnet(20, seed=5)
    state = {f"module.{name}": value for name, value in net.state_dict().items()}
    torch.save({"state_dict": state, "best_prec1": 91.7}, tmp_path / NAME)
    digits = hashlib.sha256((tmp_path / NAME).read_bytes()).hexdigest()
    sums = _pretrained.CHECKPOINTS.sums | {NAME: f"sha256:{digits}"}
    source = _pretrained.CHECKPOINTS._replace(sums=sums)
    monkeypatch.setattr(_pretrained, "CHECKPOINTS", source)
    return tmp_path


def test_a_published_checkpoint_is_read_in_eval(folder):
    net = pretrained_resnet(20, folder)
    assert not any(module.training for module in net.modules())
    for name, tensor in resnet(20, seed=5).state_dict().items():
        assert torch.equal(net.state_dict()[name], tensor)


def test_a_published_checkpoint_is_fetched_where_no_folder_is_given(folder, monkeypatch):
    asked = []

    def fetch(source, names):
        asked.extend((source.address, name) for name in names)
        return folder

    monkeypatch.setattr(_pretrained, "fetch", fetch)
    pretrained_resnet(20)
    assert asked == [(_pretrained.CHECKPOINTS.address, NAME)]


def test_every_depth_has_one_file_that_is_named_by_its_checksum():
    for depth, (name, checksum) in zip(
        _pretrained.DEPTHS, _pretrained.CHECKPOINTS.sums.items(), strict=True
    ):
        algorithm, digits = checksum.split(":")
        assert (algorithm, len(digits)) == ("sha256", 64)
        assert name == f"resnet{depth}-{digits[:8]}.th"


@pytest.mark.parametrize(
    ("depth", "words"),
    [(110, "the published depths are 20, 32, 44, 56, not 110"), (32, "no file resnet32-d509ac18")],
)
def test_another_depth_or_a_missing_file_is_one_sentence(folder, depth, words):
    with pytest.raises(ValueError, match=words):
        pretrained_resnet(depth, folder)


def test_a_checkpoint_with_another_checksum_is_refused(folder):
    torch.save(resnet(20, seed=6).state_dict(), folder / NAME)
    with pytest.raises(ValueError, match=re.escape(f"{NAME} is not the file that was published")):
        pretrained_resnet(20, folder)


def test_inputs_are_normalised_by_channel(xp):
    """Pixels at the mean give 0, and one standard deviation above it gives 1."""
    mean, std = xp.asarray([0.485, 0.456, 0.406]), xp.asarray([0.229, 0.224, 0.225])
    images = xp.stack([mean, mean + std])[:, :, None, None] * xp.ones((2, 3, 4, 5))
    result = normalized(xp.astype(images, xp.float32))
    assert result.dtype == xp.float32
    assert float(xp.max(xp.abs(result[0]))) < 1e-6
    assert float(xp.max(xp.abs(result[1] - 1))) < 1e-6
    assert float(normalized(images[:, :1], [0.5], [0.25])[0, 0, 0, 0]) == pytest.approx(-0.06)


@pytest.mark.parametrize(
    ("images", "options", "words"),
    [
        (torch.zeros(2, 1, 4, 4), {}, r"\(n, 3, h, w\), not \(2, 1, 4, 4\)"),
        (torch.zeros(3, 4, 4), {}, r"not \(3, 4, 4\)"),
        (torch.zeros(2, 3, 4, 4), {"std": (1.0, 1.0)}, "3 means and 2 standard deviations"),
        (torch.zeros(2, 3, 4, 4), {"std": (1.0, 0.0, 1.0)}, "above 0 for each channel, not 0.0"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), {}, "divide bytes by 255"),
    ],
)
def test_images_that_cannot_be_normalised_are_one_sentence(images, options, words):
    with pytest.raises(ValueError, match=words):
        normalized(images, **options)
