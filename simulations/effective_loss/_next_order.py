"""What theory says of perceptrons beyond kappa Tr H: their excess loss, and small parameters."""

from typing import Any

import numpy as np
import torch

from sgdnoise.theory import label_noise_covariance, network_regime
from simulations.effective_loss._nets import Theta
from simulations.effective_loss._steps import Training

SMALL = ("haste", "jitter")  # parameters of `network_regime` that are stored


def derivatives(training: Training, theta: Theta, network: int, first: int = 0):
    """Activations (n, h) and their derivatives (n, h, p) of the layers of a network, from `first`.

    The last layer is that of the outputs.
    """
    x = training.x[network : network + 1]
    weights = [t[network : network + 1].detach() for t in theta]

    def layers(*weights):
        return training.nets.layers(weights, x)[first:]

    places = tuple(range(len(weights)))
    slopes = torch.func.jacrev(layers, argnums=places)(*weights)
    flat = [torch.cat([s[0].flatten(2) for s in layer], 2) for layer in slopes]
    return [(a[0], slope) for a, slope in zip(layers(*weights), flat, strict=True)]


def noise_of(training: Training, rate: float) -> dict[str, Any]:
    """The noise of a training, by the names of `label_noise_covariance`."""
    return {
        "learning_rate": rate,
        "batch_size": training.batch,
        "label_noise": training.label_noise,
    }


def excess(training: Training, theta: Theta, rate: float, time: float) -> np.ndarray:
    """E L - L to the next order in the rate, Tr(H S) / 2, after some time under noise.  (k,)

    H is the Gauss-Newton matrix and S the covariance of `label_noise_covariance`.
    """
    values = []
    for network, y in enumerate(training.y):
        [(outputs, jacobian)] = derivatives(training, theta, network, first=-1)
        noise = noise_of(training, rate)
        rows = label_noise_covariance(jacobian, outputs - y, time=time, **noise).rows
        moved = jacobian.double().flatten(0, 1).numpy(force=True) @ rows.T
        values.append(0.5 * np.sum(moved**2) / len(y))
    return np.asarray(values)


def regime(training: Training, theta: Theta, rate: float, times, paths) -> dict[str, np.ndarray]:
    """The small parameters SMALL of each network at the start, (k,).

    paths: predicted observables (k, observable, t) at some times, rate x steps.
    """
    rows = []
    for network, path in enumerate(paths):
        *hidden, (outputs, jacobian) = derivatives(training, theta, network)
        noise = noise_of(training, rate) | {"residuals": outputs - training.y[network]}
        rows.append(network_regime(jacobian, hidden, times, path, **noise))
    return {name: np.asarray([getattr(row, name) for row in rows]) for name in SMALL}
