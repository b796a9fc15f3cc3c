"""Excess kurtosis of projections of gradients: of single examples, by norms, and of batches."""

import numpy as np
import torch

from sgdnoise.noise import minibatch_kurtosis

BLOCKS = 20  # of batches, whose means give the error
ROWS = 2000  # batches held at once
COLUMNS = 128  # directions held at once


def by_norms(gram) -> float:
    """Pooled excess kurtosis over all directions, from the inner products of z_i.  (n, n)

    With v standard normal E (v z_i)^4 = 3 |z_i|^4 and E (v^T C v)^2 = (Tr C)^2 + 2 Tr C^2, so that
    it is 3 mean |z_i|^4 / ((Tr C)^2 + 2 Tr C^2) - 3.
    """
    squares, n = np.diag(gram), len(gram)
    return float(3 * np.mean(squares**2) / (np.mean(squares) ** 2 + 2 * np.sum(gram**2) / n**2) - 3)


def pooled(values) -> tuple[float, float]:
    """Sum of fourth moments / sum of squared second ones - 3, with its error over columns."""
    second, fourth = np.mean(values**2, 0), np.mean(values**4, 0)
    ratio = fourth.sum() / np.sum(second**2)
    k = len(second)
    error = np.std(fourth - ratio * second**2, ddof=1) / np.mean(second**2) / k**0.5
    return float(ratio - 3), float(error)


def single(values):
    """Excess kurtosis of each column about its mean.  (n, k) -> (k,)"""
    return np.mean(values**4, 0) / np.mean(values**2, 0) ** 2 - 3


def of_batches(values, batch: int, draws: int, rng):
    """Excess kurtosis of means over batches without replacement, each column in blocks of draws.

    values (n, k) with mean zero.  The variance of such a mean is known, so that the mean of the
    fourth Hermite polynomial, y^4 - 6 y^2 + 3, is unbiased.  (BLOCKS, k)
    """
    n = len(values)
    deviation = np.sqrt(np.mean(values**2, 0) * (n - batch) / (n - 1) / batch)
    unit = values / deviation
    blocks = np.zeros((BLOCKS, values.shape[1]))
    size = draws // BLOCKS
    for block in blocks:
        for start in range(0, size, ROWS):
            y = batch_weights(n, batch, min(ROWS, size - start), rng) @ unit
            block += np.sum(y**4 - 6 * y**2 + 3, 0)
    return blocks / size


def batch_weights(n: int, batch: int, draws: int, rng):
    """Weights 1 / batch of the examples of each batch, without replacement.  (draws, n)"""
    ranks = rng.random((draws, n)).argpartition(batch, axis=1)[:, :batch]
    weights = np.zeros((draws, n))
    np.put_along_axis(weights, ranks, 1 / batch, axis=1)
    return weights


def of_group(gradients, batches, projections: int, draws: int, rng) -> dict:
    """Predicted and measured kurtosis of one group of weights, from centred gradients (n, p).

    projections: random directions, of which the first COLUMNS are followed in batches.
    """
    gram = (gradients @ gradients.T).double().cpu().numpy()
    values = projected(gradients, projections, int(rng.integers(2**31)))
    one, error = pooled(values)
    result: dict = {"norms": by_norms(gram), "pooled": one, "pooled_stderr": error}
    values, n = values[:, :COLUMNS], len(values)
    alone = single(values)
    result["predicted"] = [minibatch_kurtosis(alone, b, n).mean() for b in batches]
    blocks = [of_batches(values, b, draws, rng).mean(1) for b in batches]
    result["measured"] = [block.mean() for block in blocks]
    result["measured_stderr"] = [block.std(ddof=1) / BLOCKS**0.5 for block in blocks]
    return result | {"single": alone.mean(), "trace": np.trace(gram) / n}


def projected(gradients, count: int, seed: int):
    """Gradients along standard normal directions, without their mean.  (n, p) -> (n, count)"""
    generator = torch.Generator(gradients.device).manual_seed(seed)
    columns = []
    for start in range(0, count, COLUMNS):
        shape = gradients.shape[1], min(COLUMNS, count - start)
        directions = torch.randn(shape, generator=generator, device=gradients.device)
        columns.append((gradients @ directions).double())
    values = torch.cat(columns, 1).cpu().numpy()
    return values - values.mean(0)
