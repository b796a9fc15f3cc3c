r"""How label noise moves a linear network of any depth along its minima.

The network is f(x) = x W_1 ... W_L with the product M = W_1 ... W_L.  Noise makes theta jitter
about a minimum with covariance S, and the mean force -(1/2) grad Tr(H S) of this jitter, projected
onto the tangent space of {W_1 ... W_L = M}, moves theta along the minima in the time
t = learning rate x steps.  With A_l = W_1 ... W_(l-1) and C_l = W_(l+1) ... W_L, a step along a
gradient G (d, o) of the product moves W_l by -rate A_l^T G C_l^T, hence the tangent kernel is
K = sum_l A_l A_l^T (x) C_l^T C_l, and at a minimum Tr H = sum_l |Sx^1/2 A_l|^2 |C_l|^2.

Known: descent on Tr H under label noise (Blanc et al., 2020; Damian, Ma & Lee, 2021; Li, Wang &
Arora, 2022), flat minima of deep linear networks (Mulayoff & Michaeli, 2020; Gatmiry et al., 2023),
rank-one features at its end (Gatmiry et al., 2024), two phases in two layers (Zhang et al., 2026).
New here, as far as we know: the whole path at any depth, with discrete steps and feedback.
"""

from collections.abc import Sequence
from functools import partial, reduce
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.integrate import solve_ivp

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy
from sgdnoise.core._eigen import eigenvalue_participation_ratio
from sgdnoise.theory._linear_task import FLAT, LinearTask, fisher_force, jitter_force
from sgdnoise.theory._modified_loss import residual_amplification


class LabelNoiseFlow(NamedTuple):
    """The path of the weights along the minima: time (t,), and layers, (t, in, out) each.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.theory import label_noise_flow, label_noise_task
        >>> task = label_noise_task(np.eye(2), outputs=1, label_noise=1.0)
        >>> layers = [np.eye(2), np.asarray([[1.0], [0.0]])]
        >>> flow = label_noise_flow(task, layers, [0, 50.0], learning_rate=0.1, batch_size=4)
        >>> flow.time.tolist(), [layer.shape for layer in flow.layers]
        ([0.0, 50.0], [(2, 2, 2), (2, 2, 1)])
    """

    time: np.ndarray
    layers: list[np.ndarray]

    def hidden_moments(self, moment) -> list[np.ndarray]:
        """The second moment (W_1 ... W_l)^T Sx W_1 ... W_l of each hidden layer, (t, h, h)."""
        moments, product = [], np.eye(len(moment))
        for weights in self.layers[:-1]:
            product = product @ weights
            moments.append(np.swapaxes(product, 1, 2) @ moment @ product)
        return moments


@checked
def label_noise_flow(
    task: LinearTask,
    layers: Sequence,
    times,
    *,
    learning_rate,
    batch_size,
    discrete_steps=1.0,
    with_feedback: bool = True,
    population_factor=1.0,
) -> LabelNoiseFlow:
    r"""The weights at some times t = learning rate x steps, moved by noise along the minima.

    layers: W_1, ..., W_L, whose product is a minimum of the loss.  The flow is
    d theta / dt = -P (1/2) grad Tr(H S), with S the covariance of theta about the minimum and P the
    projector onto the tangent space of {W_1 ... W_L = M}.
    population_factor: f = (n - B) / (n - 1) for sampling without replacement, which multiplies the
    covariance over the examples: that of residuals, and the feedback.  Fresh label noise keeps its
    size.
    discrete_steps: 1 for the jitter of SGD, 0 for that of its Langevin equation, and
    (1 - mu) / (1 + mu) for heavy-ball momentum mu at the learning rate rate / (1 - mu), which is
    exact under label noise.
    with_feedback: whether to include the noise of sampling the residuals that the jitter itself
    makes; it multiplies label noise by about 1 / (1 - `amplification`) and needs fourth moments.
    With neither, under label noise, the flow is gradient descent on kappa Tr H within the minima,
    kappa = rate label_noise^2 / (4 B) (Blanc et al., 2020; Damian, Ma & Lee, 2021; Li, Wang &
    Arora, 2022).  It describes SGD for amplification <= 0.12 and rate lambda_max <= 0.3.
    Raises ValueError if sizes do not chain, the noise is indefinite, the learning rate is unstable,
    or the feedback diverges.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.theory import label_noise_task
        >>> task = label_noise_task(np.eye(2), outputs=1, label_noise=1.0)
        >>> layers = [np.eye(2), np.asarray([[1.0], [0.0]])]
        >>> flow = label_noise_flow(task, layers, [0, 50.0], learning_rate=0.1, batch_size=4)
        >>> flow.layers[0][-1].round(3).tolist()
        [[1.11, 0.0], [0.0, 0.72]]
    """
    weights = _checked_layers(layers, len(task.moment), task.outputs)
    lowest, highest = np.linalg.eigvalsh(task.noise)[[0, -1]]
    if lowest < -1e-9 * max(abs(highest), 1e-300):
        raise ValueError(f"a covariance cannot have the eigenvalue {lowest:.3g}")
    force = partial(
        jitter_force,
        task,
        learning_rate=learning_rate,
        batch_size=batch_size,
        discrete_steps=discrete_steps,
        with_feedback=with_feedback,
        population_factor=population_factor,
    )
    return _integrate(force, weights, times)


@checked
def fisher_flow(
    curvature,
    layers: Sequence,
    times,
    *,
    learning_rate,
    batch_size,
    discrete_steps=1.0,
) -> LabelNoiseFlow:
    r"""The same flow for labels drawn from the model, whose noise is curvature / batch_size.

    curvature: (d o, d o), that of the mean loss in the product M, row by row, at the minimum.  Full
    gradients have no feedback.  For squared loss it is Sx (x) 1, and the noise is label noise of
    unit variance.  For cross-entropy with attainable probabilities p_i it is mean_i x_i x_i^T (x)
    (diag p_i - p_i p_i^T), which is flat where all logits move alike (Martens, 2020); there layers
    are not equally compressed in the end, and the curvature jitters too, so that only small
    rate / batch is described.  Raises ValueError as `label_noise_flow` does.

    Example:
        >>> import numpy as np
        >>> layers = [np.eye(2), np.asarray([[1.0], [0.0]])]
        >>> flow = fisher_flow(np.eye(2), layers, [0, 50.0], learning_rate=0.1, batch_size=4)
        >>> flow.layers[0][-1].round(3).tolist()
        [[1.154, 0.0], [0.0, 0.511]]
    """
    curvature = as_numpy(curvature).astype(float)
    size = as_numpy(layers[0]).shape[0]
    weights = _checked_layers(layers, size, len(curvature) // size)
    values, basis = np.linalg.eigh(curvature)
    force = partial(
        fisher_force,
        _square_root(curvature),
        learning_rate=learning_rate,
        batch_size=batch_size,
        discrete_steps=discrete_steps,
    )
    return _integrate(force, weights, times, basis[:, values > 1e-9 * values[-1]])


@checked
def products_around(layers) -> list[tuple[np.ndarray, np.ndarray]]:
    """The products before and after each layer, (A_l, C_l), of shapes (d, in) and (out, o).

    layers: weights (in, out) from the first to the last.  The first A and the last C are the
    identity.

    Example:
        >>> import numpy as np
        >>> layers = [np.eye(2), np.asarray([[1.0], [0.5]])]
        >>> [left.shape + right.shape for left, right in products_around(layers)]
        [(2, 2, 2, 1), (2, 2, 1, 1)]
    """
    ends = np.eye(layers[0].shape[0]), np.eye(layers[-1].shape[1])
    return [
        (reduce(np.matmul, layers[:k], ends[0]), reduce(np.matmul, [*layers[k + 1 :], ends[1]]))
        for k in range(len(layers))
    ]


@checked
def hessian_trace(moment, layers) -> float:
    """The trace Tr H = sum_l |Sx^1/2 A_l|^2 |C_l|^2 for |f(x) - y|^2 / 2, at a minimum.

    For two layers it is o Tr(W^T Sx W) + Tr(Sx) |V|^2, at any weights.

    Example:
        >>> import numpy as np
        >>> layers = [np.eye(2), np.asarray([[1.0], [0.5]])]
        >>> hessian_trace(np.eye(2), layers)
        4.5
    """
    powers = [np.trace(a.T @ moment @ a) * np.sum(c**2) for a, c in products_around(layers)]
    return float(sum(powers))


@checked
def sharpness(curvature, layers) -> float:
    """The largest eigenvalue of the Hessian at a minimum.

    curvature: (d o, d o), that of the mean loss in the product: Sx (x) 1 for squared loss.

    Example:
        >>> import numpy as np
        >>> layers = [np.eye(2), np.asarray([[1.0], [0.5]])]
        >>> float(round(sharpness(np.eye(2), layers), 3))
        2.25
    """
    root = _square_root(curvature)
    return float(np.linalg.eigvalsh(root @ tangent_kernel(layers) @ root)[-1])


def tangent_kernel(layers) -> np.ndarray:
    """K = sum_l A_l A_l^T (x) C_l^T C_l, which maps a gradient in the product to its change."""
    return np.sum([np.kron(a @ a.T, c.T @ c) for a, c in products_around(layers)], axis=0)


@checked
def amplification(moment, layers, learning_rate, batch_size, population_factor=1.0) -> float:
    """The u = rate f Tr H / (2 B o) by which residuals amplify label noise, as 1 / (1 - u).

    population_factor: f, 1 with replacement and (n - B) / (n - 1) without.
    moment: the second moment Sx (d, d) of inputs; layers: weights from the first to the last;
    H: the Hessian of the loss at a minimum; B: batch_size; o: the number of outputs.

    Example:
        >>> import numpy as np
        >>> layers = [np.eye(2), np.asarray([[1.0], [0.5]])]
        >>> round(amplification(np.eye(2), layers, 0.1, 4), 4)
        0.0563
    """
    outputs, trace = layers[-1].shape[1], hessian_trace(moment, layers)
    return population_factor * residual_amplification(learning_rate, trace, batch_size, outputs)


@checked
def imbalances(layers) -> list:
    """The imbalances D_l = W_l^T W_l - W_(l+1) W_(l+1)^T of neighbouring layers, (h_l, h_l).

    Gradient flow conserves it.  A step along a noisy gradient G of the product changes it by
    exactly rate^2 (C_l G^T A_l A_l^T G C_l^T - A'^T G C'^T C' G^T A'), with A' and C' those of
    layer l + 1: noise of first order cancels at any depth (Ziyin, Li & Ueda, 2023, for two layers).
    Label noise moves it at rate label_noise^2 / B times |Sx^1/2 A_l|^2 C_l C_l^T
    - |C'|^2 A'^T Sx A'.

    Example:
        >>> import numpy as np
        >>> layers = [np.eye(2), np.asarray([[1.0], [0.5]])]
        >>> [matrix.shape for matrix in imbalances(layers)]
        [(2, 2)]
    """
    return [first.T @ first - second @ second.T for first, second in pairwise(layers)]


@checked
def stationary_hidden_modes(moment, product, depth: int = 2) -> np.ndarray:
    r"""The stationary eigenvalues of each hidden second moment under label noise.

    (depth - 1, modes), largest first: c_l s_j, with s_j the singular values of Sx^1/2 M, S their
    sum and c_l = Tr Sx (o Tr Sx)^(-l/L) S^(2l/L - 1), which for two layers is (Tr Sx / o)^1/2.
    All layers are equally compressed at any depth, and Tr H is the least of all factors of M.
    Raises ValueError for fewer than 2 layers.

    Example:
        >>> import numpy as np
        >>> stationary_hidden_modes(np.eye(2), np.diag([3.0, 1.0])).tolist()
        [[3.0, 1.0]]
    """
    if depth < 2:
        raise ValueError(f"a hidden layer needs 2 layers of weights, not {depth}")
    singular = _singular_values(moment, product)
    trace, places = np.trace(moment), np.arange(1, depth) / depth
    scales = trace * (product.shape[1] * trace) ** -places * singular.sum() ** (2 * places - 1)
    return scales[:, None] * singular


@checked
def stationary_participation_ratio(moment, product) -> float:
    """The stationary participation ratio (sum s)^2 / sum s^2 of every hidden layer.

    s are the singular values of Sx^1/2 M.  Weights of least norm, or balanced ones, have
    (sum s^(2l/L))^2 / sum s^(4l/L) in layer l instead.

    Example:
        >>> import numpy as np
        >>> stationary_participation_ratio(np.eye(2), np.diag([3.0, 1.0]))  # 4^2 / 10
        1.6
    """
    return float(eigenvalue_participation_ratio(_singular_values(moment, product)))


@checked
def stationary_hessian_trace(moment, product, depth: int = 2) -> float:
    """The least Tr H of all factors of M: L (o Tr Sx)^(1/L) (sum s)^(2 (L-1) / L).

    Gatmiry et al. (2023) study its consequences for white inputs.

    Example:
        >>> import numpy as np
        >>> round(stationary_hessian_trace(np.eye(2), np.diag([3.0, 1.0])), 6)  # 2 4^1/2 4
        16.0
    """
    ends = product.shape[1] * np.trace(moment)
    total = _singular_values(moment, product).sum()
    return float(depth * (ends * total ** (2 * (depth - 1))) ** (1 / depth))


@checked
def irrelevant_rate(variance, outputs, label_noise, learning_rate, batch_size) -> float:
    """The decay rate, per step, of weights from an irrelevant input to units without a readout.

    They decay as exp(-r steps) with r = rate^2 label_noise^2 o s / (2 B), for an input of
    variance s that the task does not use.

    Example:
        >>> round(irrelevant_rate(1.0, 10, label_noise=2.0, learning_rate=0.1, batch_size=5), 6)
        0.04
    """
    return learning_rate**2 * label_noise**2 * outputs * variance / (2 * batch_size)


def _square_root(matrix):
    values, basis = np.linalg.eigh(matrix)
    return basis * values.clip(0) ** 0.5 @ basis.T


def _singular_values(moment, product):
    """Singular values of Sx^1/2 M."""
    return np.linalg.svd(_square_root(moment) @ product, compute_uv=False)


def _integrate(force, weights, times, visible=None):
    """The flow with the force Q(K), where the loss depends on the directions `visible` of M."""
    shapes, cuts = [w.shape for w in weights], np.cumsum([w.size for w in weights])[:-1]

    def velocity(_, flat):
        blocks = np.split(flat, cuts)
        layers = [block.reshape(shape) for block, shape in zip(blocks, shapes, strict=True)]
        return np.concatenate([block.ravel() for block in _drift(layers, force, visible)])

    start, times = np.concatenate([w.ravel() for w in weights]), np.asarray(times, float)
    solution = solve_ivp(velocity, (0, times[-1]), start, "LSODA", times, rtol=1e-7, atol=1e-9)
    if not solution.success:
        raise ValueError(f"the label-noise flow could not be integrated: {solution.message}")
    paths = np.split(solution.y.T, cuts, axis=1)
    return LabelNoiseFlow(
        times, [p.reshape(-1, *shape) for p, shape in zip(paths, shapes, strict=True)]
    )


def _drift(layers, force, visible=None):
    """Velocities of the layers: the force of the jitter without its component across the minima."""
    around, kernel = products_around(layers), tangent_kernel(layers)
    forces = [-gradient for gradient in _force_gradients(layers, around, force(kernel))]
    moved = sum(a @ f @ c for (a, c), f in zip(around, forces, strict=True)).ravel()
    across = _solve_kernel(kernel, moved, visible).reshape(len(layers[0]), -1)
    return [f - a.T @ across @ c.T for (a, c), f in zip(around, forces, strict=True)]


def _force_gradients(layers, around, force):
    """Gradients of Tr(Q K) / 2 with respect to each W_l, Q fixed.

    W_l occurs in A_k of the later layers k, and in C_k of the earlier ones.
    """
    size, outputs = len(around[0][0]), around[-1][1].shape[1]
    force = force.reshape(size, outputs, size, outputs)
    later = [a.T @ np.einsum("iajb,ba->ij", force, c.T @ c) for a, c in around]
    earlier = [c @ np.einsum("iajb,ji->ab", force, a @ a.T) for a, c in around]
    gradients = []
    for place, (a, c) in enumerate(around):
        gradient, between = np.zeros(layers[place].shape), np.eye(layers[place].shape[1])
        for k in range(place + 1, len(layers)):
            gradient = gradient + (between @ later[k] @ a).T
            between = between @ layers[k]
        between = np.eye(layers[place].shape[0])
        for k in reversed(range(place)):
            gradient = gradient + between.T @ earlier[k] @ c.T
            between = layers[k] @ between
        gradients.append(gradient)
    return gradients


def _solve_kernel(kernel, moved, visible):
    """X, within the visible directions of the product, with K X = moved; 0 where K vanishes."""
    if visible is not None:
        return visible @ _solve_kernel(visible.T @ kernel @ visible, visible.T @ moved, None)
    values, basis = np.linalg.eigh(kernel)
    curved = values > FLAT * values[-1]
    return basis @ (np.where(curved, 1 / np.where(curved, values, 1), 0) * (basis.T @ moved))


def _checked_layers(layers, size, outputs):
    weights = [as_numpy(array).astype(float) for array in layers]
    ends = [size, *(w.shape[1] for w in weights)]
    if len(weights) < 2 or ends[:-1] != [len(w) for w in weights] or ends[-1] != outputs:
        shapes = ", ".join(str(w.shape) for w in weights)
        raise ValueError(
            f"layers {shapes} do not chain from {size} inputs to {outputs} outputs by two or more"
        )
    return weights
