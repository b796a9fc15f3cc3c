"""Class labels from latents, and label noise."""

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.data._sets import Data


@checked
def stripes(latents, classes: int = 10):
    """Classes 0, ..., classes - 1 in curved stripes across latents in [-1, 1], (n, l) -> (n,).

    The class is floor(classes u) with u the fractional part of z_1 / 2 + sum_(j > 1) sin(pi z_j)
    / 4, which is smooth in the latents and of period 2 in each.  For z_1 uniform all classes are
    equally likely, for any law of the others.  The class depends on every latent.
    Raises ValueError for fewer than 2 classes.

    Example:
        >>> stripes(np.random.default_rng(0).uniform(size=(5, 2)), classes=3).shape
        (5,)
    """
    if classes < 2:
        raise ValueError(f"stripes make 2 classes or more, not {classes}")
    phase = latents[:, 0] / 2 + np.sin(np.pi * latents[:, 1:]).sum(axis=1) / 4
    return np.minimum((classes * (phase % 1)).astype(np.int64), classes - 1)


@checked
def mislabelled(data: Data, fraction: float, classes: int, *, rng) -> Data:
    """The same examples, with the class of each replaced by a wrong one with some probability.

    targets: integer classes (n,).  Each is replaced with probability `fraction` by one of the other
    classes, all equally likely; drawing from all classes would leave more of them correct.
    rng: a numpy Generator or a seed.  Raises ValueError for a fraction outside [0, 1], fewer than 2
    classes, or targets that are not integers from 0 to classes - 1.

    Example:
        >>> data = Data(np.zeros((100, 2)), np.zeros(100, int))
        >>> int((mislabelled(data, 0.3, 5, rng=0).targets != 0).sum())
        25
    """
    labels = np.asarray(data.targets)
    if not 0 <= fraction <= 1:
        raise ValueError(f"a fraction of wrong labels is between 0 and 1, not {fraction}")
    if classes < 2:
        raise ValueError(f"a wrong label needs 2 classes or more, not {classes}")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels are integers (n,), not {labels.dtype} {labels.shape}")
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"labels of {classes} classes run from 0 to {classes - 1}, "
            f"not from {labels.min()} to {labels.max()}"
        )
    generator = np.random.default_rng(rng)
    wrong = generator.uniform(size=labels.shape) < fraction
    replacement = (labels + generator.integers(1, classes, labels.shape)) % classes
    return data._replace(targets=np.where(wrong, replacement, labels))
