r"""What a linear network learns from, and the force that jitter about a minimum exerts on it.

The network is f(x) = x M with a product M (d, o) of weight matrices.  A step along a noisy gradient
G of M changes M by K vec(G), with K (d o, d o) the tangent kernel, and so all that noise does
depends on the weights through K alone.  The curvature of the loss in M is A = Sx (x) 1, where Sx
(d, d) is the second moment of the inputs.

Known: the stationary covariance of discrete SGD (Liu, Ziyin & Ueda, 2021; Ziyin, Liu, Mori & Ueda,
2022).  New here, as far as we know: the force of that covariance along the minima of a network.
"""

from typing import NamedTuple

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy

FLAT = 1e-12  # curvature, relative to the largest, below which a direction counts as flat
MAX_ITERATIONS = 200  # of the feedback of the residual, which converges as u^k


class LinearTask(NamedTuple):
    """The moments of the data that determine how label noise moves a linear network.

    moment: (d, d), the mean of x x^T.
    noise: (d o, d o), the covariance of the gradient x r^T of one example in the product, row by
    row.
    fourth: (d, d, d, d), the mean of x x x x; `with_feedback` needs it, and None omits it.
    sampled: (d o, d o), the part of the noise that is a covariance over the examples; sampling
    without replacement makes this part smaller, but not that of fresh labels.  None if it is zero.

    Example:
        >>> import numpy as np
        >>> task = LinearTask(moment=np.eye(3), noise=np.eye(6))
        >>> task.outputs
        2
    """

    moment: np.ndarray
    noise: np.ndarray
    fourth: np.ndarray | None = None
    sampled: np.ndarray | None = None

    @property
    def outputs(self) -> int:
        """The number o of outputs."""
        return len(self.noise) // len(self.moment)


@checked
def label_noise_task(inputs, outputs: int, label_noise: float) -> LinearTask:
    """The task of fresh label noise on inputs (n, d) that the network fits without a residual.

    Its noise is label_noise^2 Sx (x) 1.

    Example:
        >>> import numpy as np
        >>> label_noise_task(np.eye(2), outputs=1, label_noise=2.0).noise.tolist()
        [[2.0, 0.0], [0.0, 2.0]]
    """
    x = as_numpy(inputs).astype(float)
    moment = x.T @ x / len(x)
    return LinearTask(moment, label_noise**2 * np.kron(moment, np.eye(outputs)), _fourth_moment(x))


@checked
def residual_task(inputs, targets, label_noise: float = 0.0) -> tuple[LinearTask, np.ndarray]:
    """The task of sampling examples with residuals, and the least-squares product (d, o).

    The noise is mean_i vec(x_i r_i^T) vec(x_i r_i^T)^T, with r_i the residuals of least squares,
    plus that of label noise.  Raises ValueError for fewer examples than inputs.

    Example:
        >>> import numpy as np
        >>> inputs, targets = np.asarray([[1.0], [1.0]]), np.asarray([[0.0], [2.0]])
        >>> task, product = residual_task(inputs, targets)
        >>> product.round(6).tolist(), task.noise.round(6).tolist()
        ([[1.0]], [[1.0]])
    """
    x, y = (as_numpy(array).astype(float) for array in (inputs, targets))
    if len(x) < x.shape[1]:
        raise ValueError(
            f"least squares of {x.shape[1]} inputs needs as many examples, not {len(x)}"
        )
    product = np.linalg.lstsq(x, y, rcond=None)[0]
    gradients = (x[:, :, None] * (x @ product - y)[:, None, :]).reshape(len(x), -1)
    task = label_noise_task(x, y.shape[1], label_noise)
    sampled = gradients.T @ gradients / len(x)
    return task._replace(noise=task.noise + sampled, sampled=sampled), product


@checked
def jitter_force(
    task: LinearTask,
    kernel,
    learning_rate,
    batch_size,
    discrete_steps=1.0,
    with_feedback=True,
    population_factor=1.0,
) -> np.ndarray:
    """The matrix Q (d o, d o) whose force on theta is -grad Tr(Q K(theta)) / 2.

    Q = Y K A, where K Y K is the covariance of the product about a minimum:

        A K Y + Y K A - discrete_steps rate A K Y K A = (rate / batch) noise,

    solved in the eigenbasis of A^1/2 K A^1/2.  kernel: K (d o, d o); the other arguments are those
    of `label_noise_flow`.  Raises ValueError if the learning rate is unstable or if the feedback
    diverges.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.theory import label_noise_task
        >>> task = label_noise_task(np.eye(1), outputs=1, label_noise=1.0)
        >>> force = jitter_force(task, np.asarray([[2.0]]), 0.1, 5, with_feedback=False)
        >>> round(force.item(), 6)  # 2 Y with 4 Y - 0.1 4 Y = 0.1 / 5
        0.011111
    """
    modes, spread, eigenvalues = _relaxed(
        task, kernel, learning_rate, batch_size, discrete_steps, with_feedback, population_factor
    )
    # Where v^T K v = 0 is at its minimum its gradient vanishes: flat directions exert no force.
    return modes @ (spread * eigenvalues) @ modes.T


def jitter_response(
    task: LinearTask,
    kernel,
    learning_rate,
    batch_size,
    discrete_steps=1.0,
    with_feedback=True,
    population_factor=1.0,
) -> np.ndarray:
    """The matrix Y (d o, d o) of the same equation: the jitter of theta is J^T Y J.

    J (d o, p) is the derivative of the product to theta, with K = J J^T.  Raises as `jitter_force`.
    """
    modes, spread, _ = _relaxed(
        task, kernel, learning_rate, batch_size, discrete_steps, with_feedback, population_factor
    )
    return modes @ spread @ modes.T


def _relaxed(
    task, kernel, learning_rate, batch_size, discrete_steps, with_feedback, population_factor
):
    """A^1/2 U, U^T A^-1/2 Y A^-1/2 U and the eigenvalues of A^1/2 K A^1/2, whose basis is U."""
    root, inverse_root = _powers_of_curvature(task)
    eigenvalues, basis = np.linalg.eigh(root @ kernel @ root)
    eigenvalues = eigenvalues.clip(0)
    check_stable(learning_rate, eigenvalues[-1])
    pairs = eigenvalues[:, None] + eigenvalues
    pairs = pairs - discrete_steps * learning_rate * eigenvalues[:, None] * eigenvalues
    curved = pairs > FLAT * eigenvalues[-1]
    pairs = np.where(curved, pairs, 1)
    noise = task.noise
    if task.sampled is not None:
        noise = noise - (1 - population_factor) * task.sampled
    if with_feedback and task.fourth is not None:
        products, modes = eigenvalues[:, None] * eigenvalues / pairs, inverse_root @ basis
        noise = _noise_with_feedback(
            task,
            noise,
            lambda c: modes @ (modes.T @ c @ modes * products) @ modes.T,
            learning_rate / batch_size,
            population_factor,
        )
    rotated = learning_rate / batch_size * basis.T @ inverse_root @ noise @ inverse_root @ basis
    return root @ basis, np.where(curved, rotated / pairs, 0), eigenvalues


def fisher_force(root, kernel, learning_rate, batch_size, discrete_steps=1.0) -> np.ndarray:
    """The same Q where the noise of one example is the curvature A itself; root: A^1/2."""
    modes, jitter, _ = _fisher_modes(root, kernel, learning_rate, batch_size, discrete_steps)
    return (modes * jitter) @ modes.T


def fisher_response(root, kernel, learning_rate, batch_size, discrete_steps=1.0) -> np.ndarray:
    """The same Y where the noise of one example is the curvature A itself; root: A^1/2."""
    modes, jitter, values = _fisher_modes(root, kernel, learning_rate, batch_size, discrete_steps)
    curved = values > FLAT * values[-1]
    return (modes * np.where(curved, jitter / np.where(curved, values, 1), 0)) @ modes.T


def _fisher_modes(root, kernel, learning_rate, batch_size, discrete_steps):
    eigenvalues, basis = np.linalg.eigh(root @ kernel @ root)
    check_stable(learning_rate, eigenvalues[-1])
    jitter = learning_rate / batch_size / (2 - discrete_steps * learning_rate * eigenvalues)
    return root @ basis, jitter, eigenvalues


def check_stable(learning_rate, sharpness):
    """Raise ValueError unless learning_rate * sharpness < 2."""
    if learning_rate * sharpness >= 2:
        raise ValueError(
            f"the learning rate {learning_rate:.3g} is not stable at a curvature of "
            f"{sharpness:.3g}: it must stay below {2 / sharpness:.3g}"
        )


def _noise_with_feedback(task, without, jitter, strength, population_factor):
    """The noise plus that of sampling x x^T dM, for the jitter dM of the product that it makes."""
    size, outputs = len(task.moment), task.outputs
    noise, change = without, float("inf")
    for _ in range(MAX_ITERATIONS):
        covariance = strength * jitter(noise).reshape(size, outputs, size, outputs)
        second = np.einsum("ijkl,jalb->iakb", task.fourth, covariance, optimize=True)
        squared_mean = np.einsum(
            "ij,jalb,lk->iakb", task.moment, covariance, task.moment, optimize=True
        )
        sampled = population_factor * (second - squared_mean)
        updated = without + sampled.reshape(noise.shape)
        noise, previous, change = updated, change, float(np.linalg.norm(updated - noise))
        if change <= 1e-9 * np.linalg.norm(noise):
            return noise
        if change >= previous:
            break
    raise ValueError(
        f"the noise feeds itself without bound, at a rate over batch size of {strength:.3g}"
    )


def _powers_of_curvature(task):
    """A^1/2 and A^-1/2 of A = Sx (x) 1; the second leaves out inputs of no variance."""
    values, basis = np.linalg.eigh(task.moment)
    positive = values > FLAT * values[-1]
    root = np.sqrt(np.where(positive, values, 0))
    powers = root, np.where(positive, 1 / np.where(positive, root, 1), 0)
    return [np.kron(basis * power @ basis.T, np.eye(task.outputs)) for power in powers]


def _fourth_moment(x):
    pairs = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    return (pairs.T @ pairs / len(x)).reshape((x.shape[1],) * 4)
