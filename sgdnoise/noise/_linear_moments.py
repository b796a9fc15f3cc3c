"""Gaussian noise of linear networks from second moments of the data, without its examples.

The output x W_1 ... W_L = x M and the squared loss 1/2 |x M - y|^2 make the gradient of weighted
examples a function of A = sum_i w_i x_i x_i^T and B = sum_i w_i x_i y_i^T alone,

    dL / dW_l = (W_1 ... W_(l-1))^T (A M - B) (W_(l+1) ... W_L)^T.

For Gaussian weights w, or Gaussian noise on the targets, (A, B) is a Gaussian vector whose
covariance does not depend on theta.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from operator import matmul

import numpy as np
from jaxtyping import Float

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, as_numpy, concrete, device, namespace
from sgdnoise.core._problem import Problem
from sgdnoise.noise import _label_noise
from sgdnoise.noise._draws import Normal
from sgdnoise.noise._models import Noise, from_weights
from sgdnoise.noise._weights import Weights, spread_rows
from sgdnoise.theory._mlp import MLP


@checked
def linear_network_moments(
    problem: Problem,
    net: MLP | Sequence[int],
    law: Weights,
    label_noise: float | Array = 0.0,
) -> Noise:
    r"""The noise of `from_weights` or `label_noise`, whose Gaussian gradient is drawn from moments.

    net: widths d, ..., o of a linear network without biases whose layers theta holds one after the
    other, each (in, out) row by row; or a linear MLP.  The problem has inputs
    (n, d), targets (n, o) and the loss 1/2 |x M - y|^2.
    A, B take rank numbers of a constant factor, at most min(n - 1, d (d + 1) / 2 + d o) for a law
    whose weights have a fixed sum and without label noise.  A step costs
    rank x (d (d + 1) / 2 + d o) multiplications whatever n.  `gradient` and `covariance` are those
    of the noise itself.
    Raises ValueError for an activation, losses of another kind, a law without a batch for
    label noise, or as `label_noise` does.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.dynamics import mlp_problem
        >>> from sgdnoise.noise import minibatch, with_replacement
        >>> from sgdnoise.theory import MLP
        >>> net = MLP((2, 2, 1), "linear")
        >>> problem = mlp_problem(net, jnp.eye(2), jnp.ones((2, 1)))
        >>> moments = linear_network_moments(problem, net, with_replacement(2, 1))
        >>> theta, batches = jnp.arange(6.0) / 6, minibatch(problem, 1)
        >>> bool(jnp.isclose(*(n.covariance(theta).trace() for n in (moments, batches))))
        True
    """
    widths = _widths(net)
    _check(problem, widths)
    relabelled = not isinstance(label_noise, (int, float)) or label_noise != 0
    base = _relabelling(problem, law, label_noise) if relabelled else from_weights(problem, law)
    inputs, targets = problem.examples
    mean, factor = _moments(inputs, targets, law, label_noise if relabelled else None)

    def gaussian_gradient(theta, white):
        moments = mean + namespace(white).astype(white, mean.dtype) @ factor
        return moment_slopes(theta, widths, *_unpacked(moments, widths[0], widths[-1]))

    return base._replace(normal=Normal(factor.shape[0]), gaussian_gradient=gaussian_gradient)


@checked
def moment_slopes(
    theta: Float[Array, " p"],
    widths: Sequence[int],
    a: Float[Array, "d d"],
    b: Float[Array, "d o"],
) -> Float[Array, " p"]:
    """Gradient of Tr(M^T A M) / 2 - Tr(M^T B), M the product of the layers of theta.

    Example:
        >>> import numpy as np
        >>> theta = np.asarray([2.0, 3.0])  # w = 2, v = 3 and M = w v
        >>> moment_slopes(theta, (1, 1, 1), np.eye(1), np.eye(1)).tolist()  # (M - 1) (v, w)
        [15.0, 10.0]
    """
    layers = _layers(theta, widths)
    products = list(accumulate(layers, matmul))
    error, gradients = a @ products[-1] - b, []
    for k in reversed(range(len(layers))):
        gradients.append(products[k - 1].T @ error if k else error)
        error = error @ layers[k].T
    return namespace(theta).concat([gradient.reshape(-1) for gradient in reversed(gradients)])


def _relabelling(problem, law, label_noise):
    if law.batch_size is None:
        raise ValueError("label noise needs a law of minibatches, not one whose batch is None")
    return _label_noise.label_noise(problem, law.batch_size, label_noise, law)


def _layers(theta, widths):
    """Matrices (in, out) of each layer."""
    ends = list(accumulate((i * o for i, o in pairwise(widths)), initial=0))
    cuts = zip(pairwise(ends), pairwise(widths), strict=True)
    return [theta[start:end].reshape(shape) for (start, end), shape in cuts]


def _moments(inputs, targets, law, label_noise):
    """Mean of what A and B hold (m,), and the factor (rank, m) of its covariance."""
    xp = namespace(inputs)
    rows, columns = _triangle(inputs.shape[1])
    squares = inputs[:, rows] * inputs[:, columns]
    crossed = inputs[:, :, None] * targets[:, None, :]
    products = xp.concat([squares, crossed.reshape(len(inputs), -1)], axis=1)
    mean = xp.mean(products, axis=0)
    factor = spread_rows(products, law)
    if label_noise is not None:
        scale = label_noise / (law.n * law.batch_size) ** 0.5
        factor = xp.concat([factor, scale * _relabelled(inputs, targets, squares.shape[1])])
    return mean, _thin(factor)


def _relabelled(inputs, targets, before):
    """What one unit of noise on each number of each target adds to A and B, (d o, m)."""
    xp, outputs = namespace(inputs), targets.shape[1]
    root = xp.linalg.qr(inputs).R
    rows = root[:, None, :, None] * xp.eye(outputs, dtype=root.dtype, device=device(root))[:, None]
    flat = rows.reshape(-1, root.shape[1] * outputs)
    blank = xp.zeros((flat.shape[0], before), dtype=flat.dtype, device=device(flat))
    return xp.concat([blank, flat], axis=1)


def _thin(rows):
    """As few rows as have the same Gram matrix rows^T rows; all singular ones while tracing."""
    xp = namespace(rows)
    _, values, vectors = xp.linalg.svd(rows, full_matrices=False)
    rank = len(values)
    if concrete(xp.all(xp.isfinite(values))):
        threshold = max(rows.shape) * float(xp.finfo(values.dtype).eps)
        rank = max(1, int(np.sum(as_numpy(values) > threshold * float(values[0]))))
    return values[:rank, None] * vectors[:rank, :]


def _triangle(d):
    return (list(map(int, index)) for index in np.triu_indices(d))


def _unpacked(moments, d, o):
    """A (d, d) and B (d, o)."""
    xp, (rows, columns) = namespace(moments), np.triu_indices(d)
    place = np.zeros((d, d), int)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    index = xp.asarray(place.reshape(-1), device=device(moments))
    return xp.take(moments, index).reshape(d, d), moments[len(rows) :].reshape(d, o)


def _widths(net):
    if not isinstance(net, MLP):
        return tuple(net)
    if net.activation != "linear":
        raise ValueError(
            f"second moments are all of a linear network, not of one of {net.activation}"
        )
    return net.widths


def _check(problem, widths):
    """The losses are those that second moments stand for, at one theta where they can be seen."""
    inputs, targets = problem.examples
    if (inputs.shape[1], targets.shape[1]) != (widths[0], widths[-1]):
        shapes = tuple(inputs.shape), tuple(targets.shape)
        raise ValueError(f"a network of widths {widths} cannot map examples of shapes {shapes}")
    xp, size = namespace(inputs), sum(i * o for i, o in pairwise(widths))
    theta = xp.asarray(np.cos(np.arange(size)), dtype=inputs.dtype, device=device(inputs))
    *_, product = accumulate(_layers(theta, widths), matmul)
    expected = 0.5 * xp.sum((inputs @ product - targets) ** 2, axis=1)
    off = xp.max(xp.abs(problem.losses(theta, inputs, targets) - expected))
    if concrete(off > 1e-3 * xp.max(xp.abs(expected))):
        raise ValueError(f"the losses are not 1/2 |x M - y|^2 of a linear network of {widths}")
