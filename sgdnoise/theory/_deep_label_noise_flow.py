r"""How noise moves a linear network of any depth along its minima, and which layer it compresses.

The network is f(x) = x W_1 ... W_L with product M.  A step along a noisy gradient G (d, o) of the
product moves W_l by -rate A_l^T G C_l^T, with A_l = W_1 ... W_(l-1) before and
C_l = W_(l+1) ... W_L after it; all that noise does goes by K = sum_l A_l A_l^T (x) C_l^T C_l.  At
a minimum Tr H = sum_l |Sx^1/2 A_l|^2 |C_l|^2.  For two layers this is `theory.slow_flow`.
"""

from collections.abc import Sequence
from functools import partial, reduce
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.integrate import solve_ivp

from sgdnoise.core._arrays import as_numpy
from sgdnoise.theory._label_noise_flow import LinearTask, jitter_force

FLAT = 1e-12  # as a share of the largest, what does not bend


class DeepLabelNoiseFlow(NamedTuple):
    """A slow flow: time (t,), and each layer's weights (t, in, out)."""

    time: np.ndarray
    layers: list[np.ndarray]

    def hidden(self, moment) -> list[np.ndarray]:
        """Second moments of each hidden layer, (W_1 ... W_l)^T Sx W_1 ... W_l.  (t, h, h) each"""
        found, before = [], np.eye(len(moment))
        for weights in self.layers[:-1]:
            before = before @ weights
            found.append(np.swapaxes(before, 1, 2) @ moment @ before)
        return found


def deep_label_noise_flow(
    task: LinearTask, layers: Sequence, times, *, learning_rate, batch_size, discrete=1.0, fed=True
) -> DeepLabelNoiseFlow:
    r"""Weights at some times t = rate x steps, moved by noise from a minimum along all minima.

    layers: W_1, ..., W_L, whose product is a minimum.  dtheta/dt = -P_T (1/2) grad Tr(H S), S the
    jitter about a minimum and P_T the projector on the tangents of {W_1 ... W_L = M}: under label
    noise, with neither `discrete` nor `fed`, descent on kappa Tr H, kappa = rate label_noise^2 /
    (4 batch) (Blanc et al., 2020; Damian, Ma & Lee, 2021; Li, Wang & Arora, 2022).
    discrete and fed as in `slow_flow`; heavy-ball momentum mu is told by the effective rate,
    rate / (1 - mu), and discrete = (1 - mu) / (1 + mu), which gives its jitter exactly under label
    noise.  Raises ValueError where sizes do not chain, a step is unstable or noise feeds itself
    without bound.
    """
    weights = _checked(layers, len(task.moment), task.outputs)
    power = partial(
        jitter_force,
        task,
        learning_rate=learning_rate,
        batch_size=batch_size,
        discrete=discrete,
        fed=fed,
    )
    return _followed(power, None, weights, times)


def fisher_flow(
    curvature, layers: Sequence, times, *, learning_rate, batch_size, discrete=1.0
) -> DeepLabelNoiseFlow:
    r"""The same under labels that the model draws itself, whose noise is curvature / batch.

    curvature: (d o, d o), of the mean loss in the product M, row by row, at the minimum.  Full
    gradients feed nothing back.  For squared loss it is Sx (x) 1, and the noise label noise of unit
    variance; for cross-entropy with attainable probabilities p_i it is mean x_i x_i^T (x)
    (diag p_i - p_i p_i^T), flat where all logits move alike (Martens, 2020); there layers rest not
    quite alike, and the curvature jitters too, so that only small rate / batch is in regime.
    Raises ValueError as `deep_flow` does.
    """
    curvature = as_numpy(curvature).astype(float)
    size = as_numpy(layers[0]).shape[0]
    weights = _checked(layers, size, len(curvature) // size)
    values, basis = np.linalg.eigh(curvature)
    seen = basis[:, values > 1e-9 * values[-1]]
    root = basis * values.clip(0) ** 0.5 @ basis.T
    return _followed(
        lambda bend: _fisher_power(root, bend, learning_rate, batch_size, discrete),
        seen,
        weights,
        times,
    )


def products_around(layers) -> list[tuple[np.ndarray, np.ndarray]]:
    """(A_l, C_l) of each layer: the product before it (d, in) and the one after it (out, o)."""
    ends = np.eye(layers[0].shape[0]), np.eye(layers[-1].shape[1])
    return [
        (reduce(np.matmul, layers[:k], ends[0]), reduce(np.matmul, [*layers[k + 1 :], ends[1]]))
        for k in range(len(layers))
    ]


def deep_hessian_trace(moment, layers) -> float:
    """Tr H = sum_l |Sx^1/2 A_l|^2 |C_l|^2, of 1/2 |f - y|^2 on average, at a minimum."""
    powers = [np.trace(a.T @ moment @ a) * np.sum(c**2) for a, c in products_around(layers)]
    return float(sum(powers))


def deep_imbalances(layers) -> list[np.ndarray]:
    """D_l = W_l^T W_l - W_(l+1) W_(l+1)^T of neighbouring layers, (h_l, h_l) each.

    A step changes it by exactly rate^2 (C_l G^T A_l A_l^T G C_l^T - A'^T G C'^T C' G^T A'), with
    A', C' around W_(l+1): all first-order noise cancels, at any depth (Ziyin, Li & Ueda, 2023, for
    two layers), so that label noise moves it as rate label_noise^2 / batch times
    |Sx^1/2 A_l|^2 C_l C_l^T - |C'|^2 A'^T Sx A'.
    """
    return [one.T @ one - other @ other.T for one, other in pairwise(layers)]


def deep_modes_at_rest(moment, product, depth: int) -> np.ndarray:
    r"""Eigenvalues of each hidden second moment where label noise leaves it.  (depth - 1, modes)

    c_l s_j, with s_j the singular values of Sx^1/2 M, S their sum, T = (o Tr Sx S^(2 (L-1)))^(1/L)
    and c_l = Tr Sx S / T (S^2 / T)^(l-1): every layer is as compressed as every other, whatever
    the depth.  All minima that no imbalance leaves are so, and all have the least Tr H.
    Raises ValueError for fewer than 2 layers.
    """
    if depth < 2:
        raise ValueError(f"a hidden layer needs 2 layers of weights, not {depth}")
    singular = _singular(moment, product)
    each, total = deep_trace_at_rest(moment, product, depth) / depth, singular.sum()
    scales = np.trace(moment) * total / each * (total**2 / each) ** np.arange(depth - 1)
    return scales[:, None] * singular


def deep_ratio_at_rest(moment, product) -> float:
    """Participation ratio of every hidden layer at rest, (sum s)^2 / sum s^2: that of two layers.

    Weights of least norm, or balanced ones, have (sum s^(2l/L))^2 / sum s^(4l/L) in layer l.
    """
    singular = _singular(moment, product)
    return float(singular.sum() ** 2 / np.sum(singular**2))


def deep_trace_at_rest(moment, product, depth: int) -> float:
    """The least Tr H of all factors of M: L (o Tr Sx)^(1/L) (sum s)^(2 (L-1) / L).

    Gatmiry et al. (2023) study what it leads to for white inputs.
    """
    ends = product.shape[1] * np.trace(moment)
    total = _singular(moment, product).sum()
    return float(depth * (ends * total ** (2 * (depth - 1))) ** (1 / depth))


def deep_amplification(moment, layers, learning_rate, batch_size) -> float:
    """u = rate Tr H / (2 batch o), by which label noise is fed by the residuals that it makes."""
    return (
        learning_rate * deep_hessian_trace(moment, layers) / (2 * batch_size * layers[-1].shape[1])
    )


def deep_sharpness(curvature, layers) -> float:
    """Largest eigenvalue of H = D^T A D, A the curvature in the product, Sx (x) 1 if squared."""
    values, basis = np.linalg.eigh(curvature)
    root = basis * values.clip(0) ** 0.5 @ basis.T
    return float(np.linalg.eigvalsh(root @ _bend(products_around(layers)) @ root)[-1])


def _singular(moment, product):
    """Singular values of Sx^1/2 M."""
    values, basis = np.linalg.eigh(moment)
    root = np.sqrt(values.clip(0))[:, None] * basis.T
    return np.linalg.svd(root @ product, compute_uv=False)


def _bend(around):
    """K, by which a force on the product becomes a speed of it."""
    return sum(np.kron(a @ a.T, c.T @ c) for a, c in around)


def _fisher_power(root, bend, learning_rate, batch_size, discrete):
    """Q of noise A / batch: (rate / batch) A^1/2 (2 - rate A^1/2 K A^1/2)^-1 A^1/2."""
    curved, basis = np.linalg.eigh(root @ bend @ root)
    _steady(learning_rate, curved[-1])
    seen = root @ basis
    return learning_rate / batch_size * (seen / (2 - discrete * learning_rate * curved)) @ seen.T


def _steady(learning_rate, sharpest):
    if learning_rate * sharpest >= 2:
        raise ValueError(
            f"rate {learning_rate:.3g} is not stable at a curvature of {sharpest:.3g}: "
            f"it must stay below {2 / sharpest:.3g}"
        )


def _followed(power, seen, weights, times):
    """The flow, with `power` giving Q of K, and minima told apart in the directions `seen`."""
    shapes, cuts = [w.shape for w in weights], np.cumsum([w.size for w in weights])[:-1]

    def speed(_, flat):
        parts = np.split(flat, cuts)
        now = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
        return np.concatenate([part.ravel() for part in _drift(now, power, seen)])

    start, times = np.concatenate([w.ravel() for w in weights]), np.asarray(times, float)
    found = solve_ivp(speed, (0, times[-1]), start, "LSODA", times, rtol=1e-7, atol=1e-9)
    if not found.success:
        raise ValueError(f"the slow flow could not be followed: {found.message}")
    paths = np.split(found.y.T, cuts, axis=1)
    return DeepLabelNoiseFlow(
        times, [p.reshape(-1, *shape) for p, shape in zip(paths, shapes, strict=True)]
    )


def _drift(layers, power, seen):
    """Speeds of the layers: the force of the jitter, less its part across the manifold."""
    around = products_around(layers)
    bend = _bend(around)
    forces = [-slope for slope in _slopes(layers, around, power(bend))]
    moved = sum(a @ f @ c for (a, c), f in zip(around, forces, strict=True)).ravel()
    across = _undone(bend, moved, seen).reshape(len(layers[0]), -1)
    return [f - a.T @ across @ c.T for (a, c), f in zip(around, forces, strict=True)]


def _slopes(layers, around, power):
    """Gradient to each W_l of Tr(Q dD D^T), D the derivative of the product, dD its change.

    W_l stands in A_k of the later layers, and in C_k of the earlier ones.
    """
    size, outputs = len(around[0][0]), around[-1][1].shape[1]
    power = power.reshape(size, outputs, size, outputs)
    later = [a.T @ np.einsum("iajb,ba->ij", power, c.T @ c) for a, c in around]
    earlier = [c @ np.einsum("iajb,ji->ab", power, a @ a.T) for a, c in around]
    slopes = []
    for place, (a, c) in enumerate(around):
        slope, between = np.zeros(layers[place].shape), np.eye(layers[place].shape[1])
        for k in range(place + 1, len(layers)):
            slope = slope + (between @ later[k] @ a).T
            between = between @ layers[k]
        between = np.eye(layers[place].shape[0])
        for k in reversed(range(place)):
            slope = slope + between.T @ earlier[k] @ c.T
            between = layers[k] @ between
        slopes.append(slope)
    return slopes


def _undone(bend, moved, seen):
    """X, among what is seen of the product, with K X = moved there; 0 where K vanishes."""
    if seen is not None:
        return seen @ _undone(seen.T @ bend @ seen, seen.T @ moved, None)
    values, basis = np.linalg.eigh(bend)
    fine = values > FLAT * values[-1]
    return basis @ (np.where(fine, 1 / np.where(fine, values, 1), 0) * (basis.T @ moved))


def _checked(layers, size, outputs):
    weights = [as_numpy(part).astype(float) for part in layers]
    ends = [size, *(w.shape[1] for w in weights)]
    if len(weights) < 2 or ends[:-1] != [len(w) for w in weights] or ends[-1] != outputs:
        shapes = ", ".join(str(w.shape) for w in weights)
        raise ValueError(
            f"layers {shapes} do not chain from {size} inputs to {outputs} outputs by two or more"
        )
    return weights
