"""Residual networks that were trained by others on GPUs, from their public checkpoints."""

import hashlib
import os
from pathlib import Path

from torch import nn

from sgdnoise.data._download import Source, fetch
from sgdnoise.nets._checkpoint import load
from sgdnoise.nets._resnet import resnet

# Trained by Y. Idelbayev (2018).  The names of the files hold the first 8 digits of the checksums.
CHECKPOINTS = Source(
    "resnet",
    "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/",
    {
        "resnet20-12fca82f.th": (
            "sha256:12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8"
        ),
        "resnet32-d509ac18.th": (
            "sha256:d509ac1820d7f25398913559d7e81a13229b1e7adc5648e3bfa5e22dc137f850"
        ),
        "resnet44-014dd654.th": (
            "sha256:014dd6541728a1c700b1642ab640e211dc6eb8ed507d70697458dc8f8a0ae2e4"
        ),
        "resnet56-4bfd9763.th": (
            "sha256:4bfd97631478d6b638d2764fd2baff3edb1d7d82252d54439343b6596b9b5367"
        ),
    },
)
DEPTHS = (20, 32, 44, 56)


def pretrained_resnet(depth: int = 20, folder: str | os.PathLike | None = None) -> nn.Module:
    """A `resnet` that was trained on CIFAR-10 by Idelbayev (2018), in eval.

    depth: 20, 32, 44 or 56, with published test errors of 8.27, 7.37, 6.90 and 6.61%.  The networks
    were trained for 200 epochs by SGD with momentum 0.9, weight decay 1e-4, batches of 128 and a
    learning rate of 0.1, divided by 10 after 100 and 150 epochs, on random crops and flips.
    Inputs are (n, 3, 32, 32), as `data.normalized` returns them.
    folder: contains the published checkpoint, such as resnet20-12fca82f.th.  Without it the
    checkpoint is fetched (1 to 4 MB) and stored in a cache.  The licence is BSD-2.
    Raises ValueError for another depth, for a checkpoint that is missing or cannot be fetched, and
    for one with another checksum than the published.

    Example:
        >>> import torch
        >>> net = pretrained_resnet(20)  # doctest: +SKIP
        >>> net(torch.zeros(2, 3, 32, 32)).shape  # doctest: +SKIP
        torch.Size([2, 10])
    """
    if depth not in DEPTHS:
        raise ValueError(f"the published depths are {', '.join(map(str, DEPTHS))}, not {depth}")
    name = next(name for name in CHECKPOINTS.sums if name.startswith(f"resnet{depth}-"))
    place = fetch(CHECKPOINTS, [name]) if folder is None else Path(folder)
    net = load(place / name, resnet(depth, seed=0))
    digits = hashlib.sha256((place / name).read_bytes()).hexdigest()
    if f"sha256:{digits}" != CHECKPOINTS.sums[name]:
        raise ValueError(f"{name} is not the file that was published; use load for other weights")
    return net.eval()
