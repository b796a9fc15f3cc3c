"""Handwritten digits, 8 x 8 pixels, as scikit-learn ships them (Alpaydin & Kaynak, 1998)."""

import numpy as np

from sgdnoise.data._sets import Data, one_hot


def digits(classes: int = 10) -> Data:
    """The digits 0, ..., classes - 1: pixels in [0, 1], (n, 64), and one-hot targets (n, classes).

    1797 examples of ten classes, real scans.  Raises ValueError unless 2 <= classes <= 10.
    """
    from sklearn.datasets import load_digits

    if not 2 <= classes <= 10:
        raise ValueError(f"there are 2 to 10 classes of digits to choose from, not {classes}")
    pixels, labels = load_digits(return_X_y=True)
    kept = labels < classes
    return Data(np.asarray(pixels[kept]) / 16, one_hot(labels[kept], classes))
