"""What is measured of a layer: its dimension, its covariance alone, and its classes."""

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np

from sgdnoise.core import Estimate, mean
from sgdnoise.dimension import (
    ClosePairs,
    Duplicates,
    covariance_spectrum,
    gaussian_twonn,
    participation_ratio,
    twonn,
)


def estimators(labels, centres: int) -> dict[str, Callable]:
    """Name -> function of the rows (n, d) of a layer, for images of these classes (n,).

    pr and twonn; theory: TwoNN of Gaussian points of the same covariance, from the spectrum;
    within: the fraction of the variance within classes; pr_means: PR of the class means.
    centres: points from which theory averages.
    """
    return {
        "pr": unbiased_ratio,
        "twonn": nearest,
        "theory": partial(theory, centres=centres),
        "within": partial(within_classes, labels=np.asarray(labels)),
        "pr_means": partial(ratio_of_means, labels=np.asarray(labels)),
    }


def unbiased_ratio(rows) -> float:
    """The participation ratio, unbiased for independent images."""
    return float(participation_ratio(np.asarray(rows, float), method="unbiased"))


def nearest(rows) -> float:
    """TwoNN, also of layers in which some images coincide since their units are dead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Duplicates)
        warnings.simplefilter("ignore", ClosePairs)
        return float(twonn(rows))


def theory(rows, *, centres: int) -> Estimate:
    """The TwoNN of as many Gaussian points, from the spectrum of the rows."""
    spectrum = covariance_spectrum(np.asarray(rows, float))
    return gaussian_twonn(spectrum, len(rows), n_points=centres)


def surrogate(rows, *, draws: int, seed: int) -> Estimate:
    """TwoNN of Gaussian points that are drawn in principal axes, its mean over several draws."""
    variances, rng = covariance_spectrum(np.asarray(rows, float)), np.random.default_rng(seed)
    shape, scale = (len(rows), len(variances)), variances**0.5
    return mean(np.asarray([twonn(rng.standard_normal(shape) * scale) for _ in range(draws)]))


def class_means(rows, labels) -> np.ndarray:
    """The mean of the rows of each class, (classes, d)."""
    return np.stack([rows[labels == k].mean(0) for k in np.unique(labels)])


def within_classes(rows, *, labels) -> float:
    """The fraction of the variance that lies within classes."""
    rows = np.asarray(rows, float)
    index = np.unique(labels, return_inverse=True)[1]
    within = ((rows - class_means(rows, labels)[index]) ** 2).sum()
    return float(within / ((rows - rows.mean(0)) ** 2).sum())


def ratio_of_means(rows, *, labels) -> float:
    """The participation ratio of the class means."""
    return float(participation_ratio(class_means(np.asarray(rows, float), labels)))
