r"""How much the jitter about a minimum of a linear network adds to the loss.

The jitter has the covariance S of theta about the minimum, whose mean force moves theta along the
minima, and E L - L = Tr(H S) / 2.  For small rates this is the number kappa Tr H that label noise
also adds to the effective loss.
"""

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy
from sgdnoise.theory._label_noise_flow import _checked_layers, _square_root, tangent_kernel
from sgdnoise.theory._linear_task import LinearTask, fisher_force, jitter_force


@checked
def flow_excess(
    task: LinearTask,
    layers,
    *,
    learning_rate,
    batch_size,
    discrete_steps=1.0,
    with_feedback: bool = True,
    population_factor=1.0,
    curvature=None,
) -> np.ndarray:
    r"""The excess loss E L - L = Tr(H S) / 2 of a linear network that jitters about a minimum.

    layers: W_1, ..., W_L, (in, out) each, which give one number (1,); or (t, in, out), as in
    `LabelNoiseFlow`, which give (t,).  The other arguments are those of `label_noise_flow`.
    curvature: (d o, d o), for the noise of labels drawn from the model, as in `fisher_flow`; the
    task then gives sizes alone.
    With neither discrete_steps nor feedback it is kappa Tr H under label noise, and with the first
    alone `label_noise_excess`.  Where the noise is that of the residuals of least squares, L is
    their loss.  Raises ValueError as `label_noise_flow` does.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.theory import label_noise_task
        >>> task = label_noise_task(np.eye(2), outputs=1, label_noise=1.0)
        >>> layers = [np.eye(2), np.asarray([[1.0], [0.0]])]
        >>> flow_excess(task, layers, learning_rate=0.1, batch_size=4).round(5).tolist()
        [0.01333]
    """
    weights = [as_numpy(array).astype(float) for array in layers]
    points = [*zip(*weights, strict=True)] if weights[0].ndim == 3 else [weights]
    _checked_layers(points[0], len(task.moment), task.outputs)
    common = (learning_rate, batch_size, discrete_steps)
    root = None if curvature is None else _square_root(as_numpy(curvature).astype(float))
    values = []
    for point in points:
        kernel = tangent_kernel(point)
        if root is None:
            force = jitter_force(task, kernel, *common, with_feedback, population_factor)
        else:
            force = fisher_force(root, kernel, *common)
        values.append(np.sum(force * kernel) / 2)
    return np.asarray(values)
