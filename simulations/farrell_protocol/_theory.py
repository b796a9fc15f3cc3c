"""What theory says of the group's protocol, from its clusters alone."""

import numpy as np

from simulations.farrell_protocol._task import (
    EPOCH,
    OUTPUTS,
    SAVES,
    SPREAD,
    UNITS,
    clusters,
    start,
    targets,
)

__all__ = ["Foretold"]

LEARNT = 5.0  # rate, times the least variance of clusters, times half of the steps


class Foretold:
    """What theory says of one network.

    Sx has the eigenvalues `values`.  `variance` is what the network leaves of an output: labels,
    what no network explains, and the spread of clusters as the first weights see it where no
    cluster lies, which is unlearnt a thousand times more slowly than the rest is learnt; all of it
    amplified by 1 / (1 - u) where the jitter's own residuals are sampled too.
    """

    def __init__(self, net, rate, batch, label_noise):
        points, y, first = clusters(net), targets(), start(net)
        moment = points.T @ points / len(points) + SPREAD**2 * np.eye(points.shape[1])
        self.values, self.basis = np.linalg.eigh(moment)
        self.middle = self.basis.T @ points.mean(0)
        self.u = rate * self.values.sum() / (2 * batch)
        left = (_missed(points, y, moment) + _kept(points, first)) / OUTPUTS
        self.variance = (label_noise**2 + left) / max(1 - self.u, 1e-9)
        self.decay = rate**2 * OUTPUTS * self.variance * self.values / batch  # of power, a step
        self.decay *= 2 / (2 - rate * self.values)
        self.rate, self.batch, self.units = rate, batch, UNITS

    def power(self, step):
        """Of the hidden layer off the readout."""
        return float((self.values * np.exp(-self.decay * step)).sum())

    def ratio(self, step):
        """Participation ratio of the hidden layer, if all of it were off the readout."""
        root = np.exp(-self.decay * step / 2)
        spread = np.diag(self.values) - np.outer(self.middle, self.middle)
        values = np.linalg.eigvalsh(root[:, None] * spread * root)
        return float(values.sum() ** 2 / (values**2).sum())

    def jitter(self, every=EPOCH // SAVES, looks=SAVES):
        """Mean over the weights of the variance over so many looks, each so many steps apart."""
        rest = self.rate * self.variance / self.batch / (2 - self.rate * self.values)
        kept = (1 - self.rate * self.values) ** every
        lags = np.arange(1, looks)
        alike = (2 * (looks - lags) * kept[:, None] ** lags).sum(1) / (looks * (looks - 1))
        return float((rest * (1 - alike)).sum() / self.units)

    def learnt(self, steps):
        """Whether half of the steps suffice for the clusters' slowest direction."""
        slowest = self.values[self.values > 1e-2].min()
        return bool(self.rate * slowest * steps / 2 > LEARNT)


def _missed(points, y, moment):
    """Mean squared residual of the best network, in all outputs."""
    cross = points.T @ y / len(points)
    return (y**2).sum() / len(y) - np.trace(cross.T @ np.linalg.solve(moment, cross))


def _kept(points, first):
    """Power of the outputs, of W V as it was at the start, off the clusters."""
    along = np.linalg.qr(points.T)[0]
    product = first["w"] @ first["v"]
    return SPREAD**2 * ((product - along @ (along.T @ product)) ** 2).sum()
