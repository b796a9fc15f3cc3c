r"""Where the flow along the minima describes SGD: its small parameters and its own error.

`label_noise_flow` has all orders of the amplification u and of rate lambda that a quadratic loss
has.  It is the lowest order in the strength of the noise: it takes the jitter about the minimum as
stationary, and small beside the weights.  What it leaves out first are the lag of the jitter, which
relaxes along a curvature lambda at the rate 2 lambda while the minimum moves, and the jitter's own
share of what is measured.

Known: that label noise descends on Tr H along the minima is due to Blanc et al. (2020), Damian, Ma
& Lee (2021) and Li, Wang & Arora (2022), in the limit of a small rate.  New here: numbers for where
that limit is reached in linear networks of any depth, and the size of the next order.
"""

from typing import NamedTuple

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy
from sgdnoise.theory._label_noise_flow import (
    _checked_layers,
    _force_gradients,
    _square_root,
    amplification,
    products_around,
    tangent_kernel,
)
from sgdnoise.theory._linear_task import (
    FLAT,
    LinearTask,
    fisher_force,
    fisher_response,
    jitter_force,
    jitter_response,
)


class FlowLimits(NamedTuple):
    """The largest small parameters at which the flow is claimed; each is at least zero.

    Within them `FlowRegime.error` is at most haste / 2 + jitter = 0.1.

    Example:
        >>> FlowLimits(amplification=0.3).haste
        0.1
    """

    amplification: float = 0.12
    sharpness: float = 0.3
    haste: float = 0.1
    jitter: float = 0.05


_LIMITS = FlowLimits()


class FlowRegime(NamedTuple):
    """The small parameters of a flow along the minima; nan where a number is not known.

    amplification: u, the share of the noise that comes from residuals of the jitter itself.
    sharpness: the learning rate times the largest curvature.
    haste: the rate of the slow flow over the smallest curvature, both per unit of time.
    jitter: the share of the jitter in the second moment of a hidden layer, of the worst layer.
    error: the size of the next order relative to the speed of the flow, and so to its effect.

    Example:
        >>> regime = FlowRegime(0.05, 0.1, 0.002, 0.01, error=0.03)
        >>> regime.claimed(), regime._replace(sharpness=1.9).claimed()
        (True, False)
    """

    amplification: float
    sharpness: float
    haste: float
    jitter: float
    error: float

    def claimed(self, limits: FlowLimits = _LIMITS) -> bool:
        """Whether all parameters are within their limits; one that is nan is not.

        Example:
            >>> small = FlowRegime(0.05, 0.2, 0.02, 0.01, 0.02)
            >>> small.claimed(), small._replace(haste=0.11).claimed()
            (True, False)
        """
        return all(bool(value <= limit) for value, limit in zip(self, limits, strict=False))


@checked
def flow_regime(
    task: LinearTask,
    layers,
    *,
    learning_rate,
    batch_size,
    discrete_steps=1.0,
    with_feedback: bool = True,
    population_factor=1.0,
    curvature=None,
) -> FlowRegime:
    r"""The small parameters of `label_noise_flow` or `fisher_flow` at some weights, or on a path.

    layers: W_1, ..., W_L, (in, out) each, or (t, in, out) as in `LabelNoiseFlow`: then each number
    is the largest on the path.  The other arguments are those of `label_noise_flow`.
    curvature: (d o, d o), for the noise of labels drawn from the model, as in `fisher_flow`; the
    task then gives the moment of the inputs alone, and u = 0.

    With v the largest |force| / |weights| of a layer or of an output, and lambda the curvatures
    across the minima, haste = v / min lambda, and error = v <1 / (2 lambda)> + jitter: the mean is
    over the jitter, and evenly over curvatures under label noise.  For two layers and label noise
    v = 2 kappa Tr Sx is the rate of the readout.  With the covariance S of theta, jitter is
    Tr(D S D^T) / Tr M_l, where D theta is the change of Sx^1/2 W_1 ... W_l, and M_l its moment.
    Raises ValueError as `label_noise_flow` does.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.theory import label_noise_task
        >>> task = label_noise_task(np.eye(2), outputs=1, label_noise=1.0)
        >>> layers = [np.eye(2), np.asarray([[1.0], [0.0]])]
        >>> regime = flow_regime(task, layers, learning_rate=0.1, batch_size=4)
        >>> round(regime.haste, 3), round(regime.jitter, 3), regime.claimed()
        (0.013, 0.007, True)
    """
    weights = [as_numpy(array).astype(float) for array in layers]
    points = [*zip(*weights, strict=True)] if weights[0].ndim == 3 else [weights]
    _checked_layers(points[0], len(task.moment), task.outputs)
    common = (learning_rate, batch_size, discrete_steps)
    linear = (*common, with_feedback, population_factor)
    numbers = []
    for point in points:
        kernel = tangent_kernel(point)
        if curvature is None:
            force, response = (f(task, kernel, *linear) for f in (jitter_force, jitter_response))
            root = _square_root(np.kron(task.moment, np.eye(task.outputs)))
            u = amplification(task.moment, point, learning_rate, batch_size, population_factor)
        else:
            root, u = _square_root(as_numpy(curvature).astype(float)), 0.0
            force, response = (f(root, kernel, *common) for f in (fisher_force, fisher_response))
        across, delay = _relaxation(root, kernel, response)
        speed, jitter = _speed(point, force), _jitter(task.moment, point, response)
        numbers.append(
            (
                u,
                learning_rate * float(across[-1]),
                speed / float(across[0]),
                jitter,
                speed * delay + jitter,
            )
        )
    return FlowRegime(*np.max(numbers, axis=0).tolist())


def _relaxation(root, kernel, response):
    """The curvatures across the minima, ascending, and the mean of 1 / (2 lambda) over the jitter.

    Each counts as much as its share of Tr S; root: A^1/2.
    """
    values, basis = np.linalg.eigh(root @ kernel @ root)
    curved = values > FLAT**0.75 * values[-1]
    values, modes = values[curved], (kernel @ root @ basis)[:, curved]
    variances = np.diag(modes.T @ response @ modes) / values
    weights = variances if variances.sum() > 0 else np.ones(len(values))  # without noise, even
    return values, float(np.average(0.5 / values, weights=weights))


def _speed(layers, force):
    """The largest |force| / |weights|, of all weights of a layer or of an output."""
    gradients = _force_gradients(layers, products_around(layers), force)
    pairs = [*zip(layers, gradients, strict=True)]
    pairs += zip(layers[-1].T, gradients[-1].T, strict=True)
    norms = [(np.linalg.norm(w), np.linalg.norm(g)) for w, g in pairs]
    return max(float(g / w) for w, g in norms if w > 0)


def _jitter(moment, layers, response):
    """The largest share of the jitter in the second moment of a hidden layer."""
    root, around = _square_root(moment), products_around(layers)
    slopes = [np.kron(a, c.T) for a, c in around]  # of the product to each layer, row by row
    shares, product = [], np.eye(len(moment))
    for last, weights in enumerate(layers[:-1]):
        product = product @ weights
        onward = [np.eye(weights.shape[1])]
        for w in reversed(layers[1 : last + 1]):
            onward.insert(0, w @ onward[0])
        moves = [np.kron(root @ around[k][0], onward[k].T) @ slopes[k].T for k in range(last + 1)]
        moved = np.sum(moves, axis=0)
        power = np.trace(product.T @ moment @ product)
        shares.append(float(np.trace(moved @ response @ moved.T) / power))
    return max(shares)
