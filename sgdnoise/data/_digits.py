"""Handwritten digits, 8 x 8 pixels, as scikit-learn ships them (Alpaydin & Kaynak, 1998)."""

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.data._sets import Data, one_hot


@checked
def digits(classes: int = 10) -> Data:
    """The digits 0, ..., classes - 1: pixels in [0, 1], (n, 64), and one-hot targets (n, classes).

    There are 1797 scans of ten classes.  Raises ValueError unless 2 <= classes <= 10.

    Example:
        >>> data = digits(3)
        >>> data.inputs.shape, data.targets.shape
        ((537, 64), (537, 3))
    """
    from sklearn.datasets import load_digits

    if not 2 <= classes <= 10:
        raise ValueError(f"the number of classes of digits is 2 to 10, not {classes}")
    pixels, labels = load_digits(return_X_y=True)
    selected = labels < classes
    return Data(np.asarray(pixels[selected]) / 16, one_hot(labels[selected], classes))
