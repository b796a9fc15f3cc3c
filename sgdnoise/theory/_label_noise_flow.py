r"""How noise moves a two-layer linear network along its manifold of minima, and where to.

The network is f(x) = x W V with W (d, h), V (h, o) and product M = W V.  Noise makes theta jitter
about a minimum with covariance S; the mean force -(1/2) grad Tr(H S) of that jitter, projected on
the tangent space of {W V = M}, is the slow flow, in time t = rate x steps.  It all happens in the
space of products, of d o numbers: gradients are D^T vec(G) with D D^T = 1 (x) V^T V + W W^T (x) 1.
"""

from typing import NamedTuple

import numpy as np
from scipy.integrate import solve_ivp

from sgdnoise.core._arrays import as_numpy

FLAT = 1e-12  # curvature, as a share of the largest, below which a direction does not bend
ROUNDS = 200  # of the residual's feedback, which converges as u^k


class LinearTask(NamedTuple):
    """What a linear network learns from, as far as its slow flow knows.

    moment: (d, d), mean x x^T.
    noise: (d o, d o), covariance of one example's gradient x r^T in the product, row by row.
    fourth: (d, d, d, d), mean of x x x x, by which residuals that the jitter makes are noise too.
    """

    moment: np.ndarray
    noise: np.ndarray
    fourth: np.ndarray | None = None

    @property
    def outputs(self) -> int:
        """Number o of outputs."""
        return len(self.noise) // len(self.moment)


class LabelNoiseFlow(NamedTuple):
    """A slow flow: time (t,), W (t, d, h), V (t, h, o)."""

    time: np.ndarray
    first: np.ndarray
    second: np.ndarray

    def hidden(self, moment):
        """Second moment of the hidden units, W^T Sx W.  (t, h, h)"""
        return np.einsum("tih,ij,tjk->thk", self.first, moment, self.first)


def label_noise_task(inputs, outputs: int, label_noise: float) -> LinearTask:
    """Fresh label noise on examples without a residual: noise = label_noise^2 Sx (x) 1."""
    x = as_numpy(inputs).astype(float)
    moment = x.T @ x / len(x)
    return LinearTask(moment, label_noise**2 * np.kron(moment, np.eye(outputs)), _fourth(x))


def residual_task(inputs, targets, label_noise: float = 0.0) -> tuple[LinearTask, np.ndarray]:
    """The noise of sampling examples whose residuals stay, and the product (d, o) that fits best.

    noise = mean_i vec(x_i r_i^T) vec(x_i r_i^T)^T, with r the residuals of least squares, and
    label noise beside it.  Raises ValueError for fewer examples than inputs.
    """
    x, y = (as_numpy(part).astype(float) for part in (inputs, targets))
    if len(x) < x.shape[1]:
        raise ValueError(
            f"least squares of {x.shape[1]} inputs needs as many examples, not {len(x)}"
        )
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    each = (x[:, :, None] * (x @ best - y)[:, None, :]).reshape(len(x), -1)
    plain = label_noise_task(x, y.shape[1], label_noise)
    return plain._replace(noise=plain.noise + each.T @ each / len(x)), best


def label_noise_flow(
    task: LinearTask, first, second, times, *, learning_rate, batch_size, discrete=True, fed=True
) -> LabelNoiseFlow:
    r"""W and V at some times t = rate x steps, moved by noise from a minimum along all minima.

    first, second: W (d, h) and V (h, o) with W V a minimum; batch may be batch / f for sampling
    without replacement, f = (n - batch) / (n - 1).  With neither `discrete` nor `fed`, under label
    noise, it is descent on kappa Tr H within the minima, kappa = rate label_noise^2 / (4 batch)
    (Blanc et al., 2020; Damian, Ma & Lee, 2021; Li, Wang & Arora, 2022).
    discrete: the jitter of descent and not of its stochastic equation, which puts
    -(2 / rate) Tr log(1 - rate H / 2) in the place of Tr H.
    fed: with the noise of sampling the residuals that the jitter itself makes, which amplifies
    label noise by about 1 / (1 - `amplification`); it needs the fourth moments of the inputs.
    In regime for amplification <= 0.12 and rate lambda_max <= 0.3.  Raises ValueError where sizes
    do not chain, noise is indefinite, a step is unstable or the noise feeds itself without bound.
    """
    w, v = (as_numpy(part).astype(float) for part in (first, second))
    _check(task, w, v)
    shape, cut = (w.shape, v.shape), w.size

    def speed(_, flat):
        w, v = flat[:cut].reshape(shape[0]), flat[cut:].reshape(shape[1])
        parts = _drift(task, w, v, learning_rate, batch_size, discrete, fed)
        return np.concatenate([part.ravel() for part in parts])

    start, times = np.concatenate([w.ravel(), v.ravel()]), np.asarray(times, float)
    found = solve_ivp(speed, (0, times[-1]), start, "LSODA", times, rtol=1e-7, atol=1e-9)
    if not found.success:
        raise ValueError(f"the slow flow could not be followed: {found.message}")
    path = found.y.T
    return LabelNoiseFlow(
        times, path[:, :cut].reshape(-1, *shape[0]), path[:, cut:].reshape(-1, *shape[1])
    )


def hessian_trace(moment, first, second) -> float:
    """Tr H = o Tr(W^T Sx W) + Tr(Sx) |V|^2, of the mean of 1/2 |x W V - y|^2, at any weights."""
    outputs = second.shape[1]
    return float(
        outputs * np.trace(first.T @ moment @ first) + np.trace(moment) * np.sum(second**2)
    )


def hidden_imbalance(first, second):
    """D = W^T W - V V^T (h, h), which gradient flow keeps and noise moves.

    A step theta - rate (G V^T, W^T G), G the noisy gradient in the product, changes it by exactly
    rate^2 (V G^T G V^T - W^T G G^T W): all first-order noise cancels (Ziyin, Li & Ueda, 2023).
    """
    return first.T @ first - second @ second.T


def modes_at_rest(moment, product) -> np.ndarray:
    """Eigenvalues of the hidden second moment where label noise leaves it, largest first.

    (Tr Sx / o)^1/2 s_j, with s_j the singular values of Sx^1/2 M: the least Tr H of all factors of
    M is 2 (o Tr Sx)^1/2 sum_j s_j.
    """
    values, basis = np.linalg.eigh(moment)
    root = np.sqrt(values.clip(0))[:, None] * basis.T
    singular = np.linalg.svd(root @ product, compute_uv=False)
    return (np.trace(moment) / product.shape[1]) ** 0.5 * singular


def ratio_at_rest(moment, product) -> float:
    """Participation ratio of the hidden units where label noise leaves it: (sum s)^2 / sum s^2."""
    modes = modes_at_rest(moment, product)
    return float(modes.sum() ** 2 / (modes**2).sum())


def irrelevant_rate(variance, outputs, label_noise, learning_rate, batch_size) -> float:
    """Decay, a step, of weights from a useless input to useless units: exp(-rate * steps).

    rate^2 label_noise^2 o s / (2 batch) for an input of variance s, with o outputs.
    """
    return learning_rate**2 * label_noise**2 * outputs * variance / (2 * batch_size)


def amplification(moment, first, second, learning_rate, batch_size) -> float:
    """u = rate Tr H / (2 batch o), by which label noise is fed by the residuals that it makes."""
    return learning_rate * hessian_trace(moment, first, second) / (2 * batch_size * second.shape[1])


def _drift(task, w, v, learning_rate, batch_size, discrete, fed):
    """Speeds of W and V: the force of the jitter, less its part across the manifold."""
    size, outputs = len(task.moment), task.outputs
    bend = np.kron(np.eye(size), v.T @ v) + np.kron(w @ w.T, np.eye(outputs))
    power = jitter_force(task, bend, learning_rate, batch_size, discrete, fed)
    power = power.reshape(size, outputs, size, outputs)
    along_w = -np.einsum("jaia->ij", power) @ w
    along_v = -v @ np.einsum("ibia->ba", power)
    across = _sylvester(w @ w.T, v.T @ v, along_w @ v + w @ along_v)
    return along_w - across @ v.T, along_v - w.T @ across


def jitter_force(task: LinearTask, bend, learning_rate, batch_size, discrete=True, fed=True):
    """How the jitter pushes on what moves K: Q (d o, d o), with a force -Tr(Q dK) / 2 on theta.

    Q = Y K A, with K Y K the jitter of the product and A = Sx (x) 1, from a Lyapunov equation.
    A K Y + Y K A - rate A K Y K A = (rate / batch) noise is solved in the eigenbasis of
    G = A^1/2 K A^1/2; without `discrete` the term in rate is left out.
    """
    root, back = _roots(task)
    curved, basis = np.linalg.eigh(root @ bend @ root)
    curved = curved.clip(0)
    if learning_rate * curved[-1] >= 2:
        raise ValueError(
            f"rate {learning_rate:.3g} is not stable at a curvature of {curved[-1]:.3g}: "
            f"it must stay below {2 / curved[-1]:.3g}"
        )
    still = curved[:, None] + curved - discrete * learning_rate * curved[:, None] * curved
    bent = still > FLAT * curved[-1]
    still = np.where(bent, still, 1)
    kick = task.noise
    if fed and task.fourth is not None:
        both, seen = curved[:, None] * curved / still, back @ basis
        kick = _fed(
            task, lambda c: seen @ (seen.T @ c @ seen * both) @ seen.T, learning_rate / batch_size
        )
    turned = learning_rate / batch_size * basis.T @ back @ kick @ back @ basis
    share = np.where(bent, curved / still, 0.5)
    return root @ basis @ (turned * share) @ basis.T @ root


def _fed(task, jitter, strength):
    """The noise with that of sampling x x^T dM, for the jitter dM of the product that it makes."""
    size, outputs = len(task.moment), task.outputs
    noise, change = task.noise, float("inf")
    for _ in range(ROUNDS):
        parts = strength * jitter(noise).reshape(size, outputs, size, outputs)
        second = np.einsum("ijkl,jalb->iakb", task.fourth, parts, optimize=True)
        middle = np.einsum("ij,jalb,lk->iakb", task.moment, parts, task.moment, optimize=True)
        after = task.noise + (second - middle).reshape(noise.shape)
        noise, before, change = after, change, float(np.linalg.norm(after - noise))
        if change <= 1e-9 * np.linalg.norm(noise):
            return noise
        if change >= before:
            break
    raise ValueError(
        f"the noise feeds itself without bound, at a rate over batch of {strength:.3g}"
    )


def _roots(task):
    """A^1/2 and A^-1/2 of A = Sx (x) 1; the second leaves out inputs of no variance."""
    values, basis = np.linalg.eigh(task.moment)
    some = values > FLAT * values[-1]
    root = np.sqrt(np.where(some, values, 0))
    powers = root, np.where(some, 1 / np.where(some, root, 1), 0)
    return [np.kron(basis * one @ basis.T, np.eye(task.outputs)) for one in powers]


def _sylvester(one, other, right):
    """X of one X + X other = right, for positive semidefinite ones; 0 where both vanish."""
    (a, left), (b, basis) = np.linalg.eigh(one), np.linalg.eigh(other)
    total = a[:, None] + b
    turned = left.T @ right @ basis
    fine = total > FLAT * total.max()
    return left @ np.where(fine, turned / np.where(fine, total, 1), 0) @ basis.T


def _fourth(x):
    pairs = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    return (pairs.T @ pairs / len(x)).reshape((x.shape[1],) * 4)


def _check(task, w, v):
    d, outputs = len(task.moment), task.outputs
    if w.shape[0] != d or w.shape[1] != v.shape[0] or v.shape[1] != outputs:
        raise ValueError(
            f"weights {w.shape} and {v.shape} do not chain from {d} inputs to {outputs} outputs"
        )
    low, high = np.linalg.eigvalsh(task.noise)[[0, -1]]
    if low < -1e-9 * max(abs(high), 1e-300):
        raise ValueError(f"a covariance cannot have the eigenvalue {low:.3g}")
