r"""Where descent on L + kappa Tr H describes label noise in nonlinear networks: small parameters.

The smallest curvature of a nonlinear network is about zero, so that the slow rate over it says
nothing.  The force of the jitter is that of Tr(H S) / 2, and a direction of curvature h and
variance s counts in it as h s.  With these weights the mean of 1 / h is Tr S / Tr(H S), and
directions that have had no time to jitter do not count.
"""

from collections.abc import Sequence

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy
from sgdnoise.theory._flow_regime import FlowRegime
from sgdnoise.theory._label_noise_covariance import label_noise_covariance
from sgdnoise.theory._modified_loss import residual_amplification


@checked
def network_regime(
    jacobian,
    hidden: Sequence,
    times,
    paths,
    *,
    label_noise,
    learning_rate,
    batch_size,
    residuals=None,
) -> FlowRegime:
    r"""The small parameters of label noise in any network with squared loss, at some weights.

    jacobian: J (n, o, p), the derivatives of the outputs for each example.
    hidden: for each hidden layer its activations a (n, h) and their derivatives D (n, h, p).
    times: (t,), learning rate x steps, ascending from the moment at which noise is switched on.
    paths: (k, t), the predicted path of each observed quantity, positive.
    residuals: r (n, o), as in `label_noise_covariance`, whose S (p, p) at the last time is used.

    With v the largest |change of log path| / (change of time) of all quantities,

        haste = v Tr S / Tr(H S),  jitter = max_l Tr cov(D S^1/2) / Tr cov(a),

    where cov is that over the examples: haste is v times the mean of 1 / curvature, each direction
    weighted by its share of Tr(H S), whose gradient is the force.  It is v over the mean curvature
    where S is a multiple of the identity.  error = haste / 2 + jitter.  u and the sharpness are
    those of `residual_amplification` and of H.
    Raises ValueError as `label_noise_covariance` does, and for paths that do not fit or are not
    positive, for times that do not ascend, and without a hidden layer.

    Example:
        >>> import numpy as np
        >>> jacobian = np.asarray([[[1.0, 0.0]], [[0.0, 2.0]]])
        >>> layer = np.asarray([[1.0], [-1.0]]), np.asarray([[[0.5, 0.0]], [[0.0, 0.5]]])
        >>> times, paths = [0.0, 100.0], [[2.0, 1.0]]
        >>> noise = {"label_noise": 0.5, "learning_rate": 0.1, "batch_size": 4}
        >>> regime = network_regime(jacobian, [layer], times, paths, **noise)
        >>> round(regime.haste, 4), round(regime.jitter, 5), regime.claimed()
        (0.0054, 0.00042, True)
    """
    jacobian, times = as_numpy(jacobian).astype(float), as_numpy(times).astype(float)
    speed = _slow_rate(times, as_numpy(paths).astype(float))
    if not hidden:
        raise ValueError("the regime of a network needs a hidden layer, and there is none")
    noise = {"label_noise": label_noise, "learning_rate": learning_rate, "batch_size": batch_size}
    rows = label_noise_covariance(jacobian, residuals, time=times[-1] - times[0], **noise).rows
    n, outputs, _ = jacobian.shape
    flat = jacobian.reshape(n * outputs, -1) / n**0.5
    haste = speed * float(np.sum(rows**2) / np.sum((flat @ rows.T) ** 2))
    jitter = max(_share(a, derivatives, rows) for a, derivatives in hidden)
    u = residual_amplification(learning_rate, float(np.sum(flat**2)), batch_size, outputs)
    largest = float(np.linalg.norm(flat, 2) ** 2)
    return FlowRegime(u, learning_rate * largest, haste, jitter, haste / 2 + jitter)


def _slow_rate(times, paths) -> float:
    """The largest rate at which the logarithm of a path changes between two of its times."""
    if times.ndim != 1 or len(times) < 2 or np.any(np.diff(times) <= 0):
        raise ValueError("times must be two or more, in ascending order")
    if paths.ndim != 2 or paths.shape[1] != len(times):
        raise ValueError(f"paths {paths.shape} are not of {len(times)} times")
    if not np.all(paths > 0):
        raise ValueError(f"a path must be positive, not {np.min(paths):.3g}")
    return float(np.max(abs(np.diff(np.log(paths))) / np.diff(times)))


def _share(activations, derivatives, rows) -> float:
    """The share of the jitter of theta with covariance rows^T rows in the variance of a layer."""
    activations, derivatives = (as_numpy(a).astype(float) for a in (activations, derivatives))
    if derivatives.shape != (*activations.shape, rows.shape[1]):
        raise ValueError(
            f"derivatives {derivatives.shape} are not those of activations {activations.shape} to "
            f"{rows.shape[1]} parameters"
        )
    n, width = activations.shape
    moved = (derivatives.reshape(n * width, -1) @ rows.T).reshape(n, width, -1)
    return float(moved.var(0).sum() / activations.var(0).sum())
