"""Growth of the weights of a channel close to its invariant set, from statistics of photographs."""

import numpy as np


def growth(pairs, v, s, rate: float, order):
    """Growth per step of log |(v, w, b)| of each run.  (runs,)

    pairs: K_i (n, d, 2).  v (d,), s (2,): the start, whose length has no meaning.  order: the
    photographs of each batch (runs, steps, batch).  A step with the mean K of its batch is
    v' = v - rate K s, s' = s - rate K^T v.
    """
    unit = np.sqrt((v**2).sum() + (s**2).sum())
    rows = np.tile(v / unit, (len(order), 1)), np.tile(s / unit, (len(order), 1))
    total = np.zeros(len(order))
    for index in np.swapaxes(order, 0, 1):
        rows = step(pairs[index].mean(1), *rows, rate)
        size = np.sqrt((rows[0] ** 2).sum(1) + (rows[1] ** 2).sum(1))
        total += np.log(size)
        rows = rows[0] / size[:, None], rows[1] / size[:, None]
    return total / order.shape[1]


def exponent(pairs, rate: float, order) -> float:
    """The mean growth per step from the direction that grows fastest on average.

    That is v = -u, s = w for the leading singular vectors u, w of the mean of K_i; it grows by
    rate sigma, with sigma the singular value, and by what noise adds.
    """
    left, _, right = np.linalg.svd(pairs.mean(0), full_matrices=False)
    return float(growth(pairs, -left[:, 0], right[0], rate, order).mean())


def step(pairs, v, s, rate):
    """One step of (v, s) for the mean K of a batch, for several runs."""
    return (
        v - rate * np.einsum("rdk,rk->rd", pairs, s),
        s - rate * np.einsum("rdk,rd->rk", pairs, v),
    )


def curvature(pairs, v, s):
    """Curvature of each photograph across the set along (v, s): 2 v^T K_i s / |(v, s)|^2.  (n,)"""
    return 2 * np.einsum("ndk,d,k->n", pairs, v, s) / ((v**2).sum() + (s**2).sum())
