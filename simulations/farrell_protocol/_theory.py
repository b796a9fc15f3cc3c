"""What theory predicts for the protocol, from its clusters alone."""

import numpy as np

from sgdnoise.core import eigenvalue_participation_ratio
from simulations.farrell_protocol import _task as task

MIN_DECAY = 5.0  # rate x smallest variance of clusters x half the steps, of a learnt task


class Theory:
    """The prediction for one network; `values` are the eigenvalues of Sx.

    `variance` is the variance of a residual: of label noise, of what no network explains, and of
    the part of the inputs off the clusters as the initial weights map it, which decays a thousand
    times more slowly than the task is learnt; all amplified by 1 / (1 - u), because the residuals
    that the fluctuations cause are sampled too.
    """

    def __init__(self, net, rate, batch, label_noise):
        points, y, initial = task.clusters(net), task.targets(), task.initial_weights(net)
        moment = points.T @ points / len(points) + task.CLUSTER_STD**2 * np.eye(points.shape[1])
        self.values, self.basis = np.linalg.eigh(moment)
        self.mean = self.basis.T @ points.mean(0)
        self.u = rate * self.values.sum() / (2 * batch)
        squares = _unexplained(points, y, moment) + _unlearnt(points, initial)
        self.minimum = squares / 2  # the loss without jitter
        self.variance = (label_noise**2 + squares / task.OUTPUTS) / max(1 - self.u, 1e-9)
        self.decay = (
            rate**2 * task.OUTPUTS * self.variance * self.values / batch
        )  # of power, per step
        self.decay *= 2 / (2 - rate * self.values)
        self.rate, self.batch = rate, batch

    def power(self, step):
        """Power of the hidden layer off the readout."""
        return float((self.values * np.exp(-self.decay * step)).sum())

    def ratio(self, step):
        """Participation ratio of the hidden layer, if all of it were off the readout."""
        root = np.exp(-self.decay * step / 2)
        covariance = np.diag(self.values) - np.outer(self.mean, self.mean)
        values = np.linalg.eigvalsh(root[:, None] * covariance * root)
        return float(eigenvalue_participation_ratio(values))

    def jitter(self, every=task.EPOCH // task.RECORDS, records=task.RECORDS):
        """Mean over the weights of the variance over so many records, `every` steps apart."""
        stationary = self.rate * self.variance / self.batch / (2 - self.rate * self.values)
        decay = (1 - self.rate * self.values) ** every
        lags = np.arange(1, records)
        weights = 2 * (records - lags) / (records * (records - 1))
        correlation = (weights * decay[:, None] ** lags).sum(1)
        return float((stationary * (1 - correlation)).sum() / task.UNITS)

    def learnt(self, steps):
        """Whether half of the steps suffice for the slowest direction of the clusters."""
        slowest = self.values[self.values > 1e-2].min()
        return bool(self.rate * slowest * steps / 2 > MIN_DECAY)


def _unexplained(points, y, moment):
    """Mean squared residual of the best network, summed over outputs."""
    cross = points.T @ y / len(points)
    return (y**2).sum() / len(y) - np.trace(cross.T @ np.linalg.solve(moment, cross))


def _unlearnt(points, initial):
    """Power of the outputs of the initial W V off the clusters."""
    along = np.linalg.qr(points.T)[0]
    product = initial["w"] @ initial["v"]
    return task.CLUSTER_STD**2 * ((product - along @ (along.T @ product)) ** 2).sum()
