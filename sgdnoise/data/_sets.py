"""The type of all data sets, and operations on them."""

from typing import Any, NamedTuple

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import device, namespace

# Means and standard deviations of red, green and blue in ImageNet, as public networks expect them
RGB_MEAN, RGB_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Data(NamedTuple):
    """Inputs (n, ...) and targets (n, ...) of n examples, and their dimension if it is known.

    Example:
        >>> import numpy as np
        >>> data = Data(np.zeros((5, 2)), np.ones((5, 1)))
        >>> data.inputs.shape, data.targets.shape, data.dimension
        ((5, 2), (5, 1), None)
    """

    inputs: Any
    targets: Any
    dimension: Any = None


@checked
def one_hot(labels, classes: int):
    """The one-hot encoding of labels.  (n,) -> (n, classes)

    Example:
        >>> one_hot([0, 2], 3).tolist()
        [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    return np.eye(classes)[labels]


@checked
def split(data: Data, size: int, *, rng) -> tuple[Data, Data]:
    """A random subset of `size` examples, and the other examples.

    rng: a numpy Generator or a seed.  Raises ValueError unless 1 <= size < n.

    Example:
        >>> import numpy as np
        >>> train, test = split(Data(np.eye(5), np.arange(5)), 3, rng=0)
        >>> len(train.inputs), len(test.inputs)
        (3, 2)
    """
    n = len(data.inputs)
    if not 1 <= size < n:
        raise ValueError(f"a subset of {n} examples has 1 to {n - 1} of them, not {size}")
    order = np.random.default_rng(rng).permutation(n)
    rows = order[:size], order[size:]
    first, second = (Data(data.inputs[i], data.targets[i], data.dimension) for i in rows)
    return first, second


@checked
def normalized(images, mean=RGB_MEAN, std=RGB_STD):
    """Images less a mean and over a standard deviation, by channel.  (n, c, h, w) -> (n, c, h, w)

    images: pixels in [0, 1], of any library.  mean and std have one number for each channel; by
    default those of ImageNet, with which the networks of `nets.models.pretrained_resnet` were
    trained.
    Raises ValueError for images of another shape or of whole numbers, and for a standard deviation
    that is not above 0.

    Example:
        >>> white = np.ones((1, 3, 2, 2), np.float32)
        >>> [round(value, 2) for value in normalized(white)[0, :, 0, 0].tolist()]
        [2.25, 2.43, 2.64]
    """
    xp = namespace(images)
    channels = len(mean)
    if images.ndim != 4 or images.shape[1] != channels or len(std) != channels:
        raise ValueError(
            f"images of {channels} means and {len(std)} standard deviations are "
            f"(n, {channels}, h, w), not {tuple(images.shape)}"
        )
    if not xp.isdtype(images.dtype, "real floating"):
        raise ValueError(f"pixels are numbers in [0, 1], not {images.dtype}; divide bytes by 255")
    if min(std) <= 0:
        raise ValueError(f"std has a standard deviation above 0 for each channel, not {min(std)}")
    shape = {"dtype": images.dtype, "device": device(images)}
    centre, scale = (xp.asarray(values, **shape)[:, None, None] for values in (mean, std))
    return (images - centre) / scale
