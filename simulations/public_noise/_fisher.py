"""Second moments of gradients under labels that a network draws itself, against its Fisher."""

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from sgdnoise.noise import fisher_inner_product, fisher_scatter, fisher_trace

DIRECTIONS = 5  # leading ones of the Fisher information
ROWS = 500  # draws whose distances are computed at once


class Fisher:
    """F = mean_i sum_y p_iy g_iy g_iy^T of n examples, and A of labels that are drawn or given.

    gradients (n, classes, p); laws p_iy (n, classes).
    """

    def __init__(self, gradients, laws):
        self.laws = laws
        self.n, self.classes = laws.shape
        self.rows = gradients.flatten(0, 1)
        self.gram = (self.rows @ self.rows.T).double().cpu().numpy()
        self.weights = laws.ravel() / self.n
        self.trace = float(fisher_trace(self.gram, self.weights))
        self.square = float(fisher_inner_product(self.gram, self.weights, self.weights))

    def leading(self):
        """The leading eigenvectors (p, DIRECTIONS) and eigenvalues of F."""
        root = np.sqrt(self.weights)
        values, vectors = np.linalg.eigh(root[:, None] * self.gram * root)
        vectors = (root[:, None] * vectors)[:, ::-1][:, :DIRECTIONS]
        directions = self.rows.T @ self.rows.new_tensor(vectors.copy())
        return directions / directions.norm(dim=0), values[::-1][:DIRECTIONS]

    def drawn(self, directions, layers: dict, draws: int, rng) -> dict:
        """Means over draws of labels, and errors: trace, product with F, distance, directions.

        Each is over that of F, the distance over its mean by theory.  trace by layer too.
        """
        labels = self._labels(draws, rng)
        squares = self._table(np.diag(self.gram))
        products = self._table(self.gram**2 @ self.weights)
        along = (self.rows @ directions).double().cpu().numpy()
        along = self._table((along**2).sum(1))
        traces, inner = self._mean(squares, labels), self._mean(products, labels)
        distance = self._norms(labels) + self.square - 2 * inner
        scatter = float(fisher_scatter(self.gram, self.laws))
        estimates = {
            "trace": traces / self.trace,
            "product": inner / self.square,
            "distance": distance / scatter,
            "along": self._mean(along, labels),
        }
        for name, at in layers.items():
            table = self._table(self.rows[:, at].square().sum(1).double().cpu().numpy())
            estimates[name] = self._mean(table, labels) / (self.laws * table).sum() * self.n
        return {
            k: (float(v.mean()), float(v.std(ddof=1) / draws**0.5)) for k, v in estimates.items()
        }

    def given(self, labels) -> dict:
        """Tr A / Tr F, <A, F> / |F|^2 and the cosine for some labels, with jackknifed errors."""
        products = self._table(self.gram**2 @ self.weights)
        chosen, rows = self._table(np.diag(self.gram)), np.arange(self.n)
        ratios = chosen[rows, labels] / self.trace, products[rows, labels] / self.square
        own = (self.laws * chosen).sum(1) / self.trace, (self.laws * products).sum(1) / self.square
        trace, product = (_ratio(a, b) for a, b in zip(ratios, own, strict=True))
        index = rows * self.classes + labels
        norm = np.sum(self.gram[np.ix_(index, index)] ** 2) / self.n**2
        cosine = product[0] * (self.square / norm) ** 0.5
        return {"trace": trace, "product": product, "cosine": (float(cosine), np.nan)}

    def under(self, laws) -> float:
        """Tr A / Tr F on average over labels of other laws (n, classes)."""
        return float((laws * self._table(np.diag(self.gram))).sum() / self.n / self.trace)

    def _labels(self, draws, rng):
        ends = self.laws.cumsum(1)[None]
        labels = np.empty((draws, self.n), dtype=int)
        for start in range(0, draws, ROWS):
            at = slice(start, min(draws, start + ROWS))
            uniform = rng.random((at.stop - start, self.n, 1))
            labels[at] = (uniform > ends).sum(2).clip(max=self.classes - 1)
        return labels

    def _table(self, values):
        return np.asarray(values).reshape(self.n, self.classes)

    def _mean(self, table, labels):
        """The mean over examples of the entries of the drawn labels.  (draws,)"""
        return table[np.arange(self.n), labels].mean(1)

    def _norms(self, labels):
        """|A|^2 of each draw."""
        squares, offsets = self.gram**2, np.arange(self.n) * self.classes
        norms = np.empty(len(labels))
        for start in range(0, len(labels), ROWS):
            index = offsets + labels[start : start + ROWS]
            norms[start : start + ROWS] = squares[index[:, :, None], index[:, None, :]].sum((1, 2))
        return norms / self.n**2


def _ratio(numbers, others):
    """sum a / sum b with a jackknifed error over examples."""
    n, total = len(numbers), numbers.sum() / others.sum()
    left = (numbers.sum() - numbers) / (others.sum() - others)
    return float(total), float(((n - 1) * np.var(left)) ** 0.5)


def calibrated_temperature(logits, labels) -> float:
    """The temperature T of softmax(z / T) that makes labels most likely (Guo et al., 2017)."""

    def loss(log_temperature):
        scaled = logits.double() / np.exp(log_temperature)
        return float(torch.nn.functional.cross_entropy(scaled, labels))

    return float(np.exp(minimize_scalar(loss, bounds=(-2, 3), method="bounded").x))
