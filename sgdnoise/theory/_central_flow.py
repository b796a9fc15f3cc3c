r"""The mean path of descent and of SGD through and at the edge of stability.

Where the largest curvature lambda of the loss exceeds 2 / rate, gradient descent oscillates with
growing amplitude.  The oscillation, of covariance S, moves the mean path by -grad Tr(H S) / 2.
That lowers lambda, so that it stays near 2 / rate.  Minibatches kick theta all the time: S is then
not zero below the edge, and lambda stays below it by a gap.

Assumed: the loss is smooth; few directions oscillate; the change of the curvature within the
oscillation is small beside 2 / rate; and S follows the mean path without delay, which leaves out
the overshoot when the edge is reached.  Under SGD the batches are independent, and S is isotropic
outside of the k directions of largest curvature, as it is where C is proportional to H.

Known: descent at the edge (Cohen, Kaur, Li, Kolter & Talwalkar, 2021), self-stabilisation (Damian,
Nichani & Lee, 2023), and the flow without noise (Cohen, Damian, Talwalkar, Kolter & Lee, 2025).
New here, as far as we know: the flow with the noise of minibatches, also of their curvatures.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, as_numpy, device, namespace
from sgdnoise.core._checks import as_generator, check_positive
from sgdnoise.core._eigen import largest_eigenpairs
from sgdnoise.core._operators import Factor
from sgdnoise.core._problem import Problem
from sgdnoise.theory._edge_covariance import edge_covariance, pairs_of, symmetric, weights_of
from sgdnoise.theory._moment_closure import _compiled

SUBSTEPS = 2  # of Euler a step of descent, so that the flow is stable at the edge
LANCZOS = 1e-4  # residual of eigenvectors, relative to the largest curvature
PROBES = 4  # random vectors a substep, for the traces outside of the directions


class CentralFlow(NamedTuple):
    """The mean path of descent or of SGD, at `time` = rate x steps.

    theta: (t, p).  loss: of theta, (t,).  mean_loss: with the oscillation, L + Tr(H S) / 2, (t,).
    curvatures: the largest k eigenvalues of H, largest first, (t, k).
    covariance: S along their eigenvectors, a Factor of k rows for each time.
    isotropic: the variance of theta along any direction outside of them, (t,); 0 without noise.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.core import Problem
        >>> from sgdnoise.theory import central_flow
        >>> problem = Problem(lambda t, y: (t[0] * t[1] - y) ** 2 / 2, (jnp.ones(1),))
        >>> options = {"learning_rate": 0.9, "steps": 100, "every": 50, "directions": 1}
        >>> path = central_flow(problem, jnp.asarray([2.0, 0.4]), **options)
        >>> path.time.tolist(), path.theta.shape, path.curvatures.shape
        ([45.0, 90.0], (2, 2), (2, 1))
    """

    time: Any
    theta: Any
    loss: Any
    mean_loss: Any
    curvatures: Any
    covariance: list[Factor]
    isotropic: Any


class _State(NamedTuple):
    """Theta (p,), directions (p, k) of large curvature, and the covariance (k, k) along them."""

    theta: Any
    directions: np.ndarray
    covariance: np.ndarray


class _Place(NamedTuple):
    """A loss near theta, along k directions of large curvature."""

    directions: np.ndarray  # (p, k)
    curvatures: np.ndarray  # (k,), largest first
    force: Any  # grad L, (p,)
    slopes: Any  # of each entry of U^T H U, one row a pair of directions, (k (k + 1) / 2, p)


class _Noise(NamedTuple):
    """What minibatches do at a place."""

    kicks: np.ndarray  # U^T C U / B with the jitter of the other directions, (k, k)
    own: np.ndarray  # E[(H_i - H) X (H_i - H)] / B along the directions, (k, k, k, k)
    isotropic: float  # variance of the other directions
    trace: float  # of H in them
    force: Any  # their mean force, (p,)


@checked
def central_flow(
    problem: Problem,
    theta: Float[Array, " p"],
    *,
    learning_rate: float,
    steps: int,
    every: int = 1,
    batch_size=None,
    directions: int = 4,
    window: int = 5,
    rng=0,
) -> CentralFlow:
    r"""The mean path of gradient descent, or of SGD, through and at the edge of stability.

    d theta / dt = -grad [L + Tr(H S) / 2] with S held, along which S >= 0, H <= 2 / rate and
    Tr[(2 / rate - H) S] = 0 (Cohen et al., 2025): S is zero below the edge, and else as large as
    keeps the curvature at 2 / rate.  With a `batch_size` S is that of SGD at rest instead:
    H S + S H - rate H S H = (rate / B) (C + E[(H_i - H) S (H_i - H)]), with C the covariance of
    the gradients of the examples, drawn with replacement.  S is sought as U X U^T + s (1 - U U^T):
    X by `edge_covariance`, and s by the trace of the same equation.
    directions: k, the number of columns of U, of the largest curvatures; without noise the
    smallest of these must stay below 2 / rate.
    steps: of descent, whose time is rate x steps.  every: the number of steps between records.
    window: steps, at most, over which S is constant; the error is of first order in it.  One costs
    about 4 k products with the Hessian and k (k + 1) / 2 gradients of a curvature; with noise also
    k + 4 products with the Hessian of every example.  rng: of random vectors, for traces outside
    of U, which are exact if p - k is at most 4.
    Raises ValueError unless every divides steps, for k out of 1 to p, or to p - 1 with noise, for
    numbers that are not positive, if the path diverges, or if noise leaves no covariance at rest.

    Example:
        >>> import jax.numpy as jnp
        >>> losses = lambda theta, y: (theta[0] * theta[1] - y) ** 2 / 2
        >>> problem = Problem(losses, (jnp.ones(1),))
        >>> options = {"learning_rate": 0.9, "steps": 100, "every": 100, "directions": 1}
        >>> path = central_flow(problem, jnp.asarray([2.0, 0.4]), **options)
        >>> round(float(path.curvatures[0, 0]) * 0.9, 2)
        2.0
    """
    _check(learning_rate, steps, every, window)
    _check_directions(directions, theta.shape[0] - (batch_size is not None))
    if batch_size is not None:
        check_positive(batch_size=batch_size)
    rng, xp, p = as_generator(rng), namespace(theta), theta.shape[0]
    local = _Derivatives(problem, batch_size, learning_rate)
    none = np.zeros((directions, directions))
    state = _State(theta, rng.normal(size=(p, directions)), none)
    records: list[tuple] = []
    done = 0
    while done < steps:
        length = min(window, every - done % every)
        state = _window(local, state, length, rng)
        done += length
        if done % every == 0:
            if not bool(xp.isfinite(xp.sum(state.theta))):
                raise ValueError(f"at rate {learning_rate:.3g} the path diverges")
            records.append(_record(local, state, rng))
    thetas, losses, excesses, curvatures, covariances, isotropic = zip(*records, strict=True)
    time = learning_rate * every * np.arange(1, 1 + len(records))
    loss, mean_loss = np.asarray(losses), np.asarray(losses) + np.asarray(excesses)
    more = np.stack(curvatures), list(covariances), np.asarray(isotropic)
    return CentralFlow(time, xp.stack(thetas), loss, mean_loss, *more)


class _Derivatives:
    """What the flow needs of a problem at one place, compiled where its library can."""

    def __init__(self, problem, batch_size, learning_rate):
        self.problem, self.batch_size, self.rate = problem, batch_size, learning_rate
        self.value = _compiled(problem, problem.value)
        self.gradient = _compiled(problem, problem.gradient)
        self.products = _compiled(problem, self._products)
        self.slopes = _compiled(problem, self._slopes)
        self.noise = _compiled(problem, self._noise)

    def _products(self, theta, block):
        """H times each column of a block (p, b)."""
        return self.problem.autodiff.vmap(lambda v: self.problem.hvp(theta, v))(block.T).T

    def _slopes(self, theta, left, right):
        """The gradients of a^T H b, for rows a and b (m, p)."""

        def slope(a, b):
            def curvature(t):
                return (a * self.problem.hvp(t, b)).sum()

            return self.problem.autodiff.grad(curvature)(theta)

        return self.problem.autodiff.vmap(slope)(left, right)

    def _noise(self, theta, directions, probes):
        """Moments over the examples, with U and probes as rows (k, p) and (m, p), all centred.

        -> Tr C; U^T g_i, (k, n); U^T H_i v of directions and probes v, (k + m, k, n); and
        mean_i v^T H_i H_i w, (k + m, k + m).
        """
        xp, gradients, autodiff = namespace(theta), self.problem.gradients, self.problem.autodiff
        vectors = xp.concat([directions, probes])
        values = gradients(theta)
        products = autodiff.vmap(lambda v: autodiff.jvp(gradients, (theta,), (v,))[1])(vectors)
        values = values - xp.mean(values, axis=0)
        products = products - xp.mean(products, axis=1)[:, None, :]
        flat = xp.reshape(products, (products.shape[0], -1))
        n = values.shape[0]
        return (
            xp.sum(values**2) / n,
            directions @ values.T,
            directions @ xp.matrix_transpose(products),
            flat @ flat.T / n,
        )


def _window(local, state, steps, rng) -> _State:
    """The state some steps of descent later, with the covariance that balances all of them."""
    place, time = _place(local, state), local.rate * steps
    noise = _noise(local, state, place, rng) if local.batch_size else None
    covariance = _covariance(local, place, noise, time)
    force = _like(state.theta, weights_of(covariance)) @ place.slopes / 2
    force = force if noise is None else force + noise.force
    theta = state.theta
    for _ in range(SUBSTEPS * steps):
        theta = theta - local.rate / SUBSTEPS * (local.gradient(theta) + force)
    return _State(theta, place.directions, covariance)


def _place(local, state) -> _Place:
    theta, k = state.theta, state.directions.shape[1]
    values, vectors = largest_eigenpairs(
        lambda block: as_numpy(local.products(theta, _like(theta, block))).astype(float),
        state.directions,
        k,
        tolerance=LANCZOS,
    )
    first, second = (_like(theta, vectors.T[[pair[end] for pair in pairs_of(k)]]) for end in (0, 1))
    return _Place(vectors, values, local.gradient(theta), local.slopes(theta, first, second))


def _relaxing(place, time):
    """Forces (..., p) -> their mean over a time in which they relax along the directions.

    A force along a curvature h falls as exp(-h t), whose mean is (1 - exp(-z)) / z, z = h x time.
    """
    z = np.maximum(place.curvatures * time, 1e-12)
    lost = _like(place.force, 1 + np.expm1(-z) / z)
    directions = _like(place.force, place.directions)
    return lambda forces: forces - ((forces @ directions) * lost) @ directions.T


def _covariance(local, place, noise, time):
    """The covariance (k, k) that balances the change of curvatures in a time."""
    k = len(place.curvatures)
    slopes, force = (as_numpy(a).astype(float) for a in (place.slopes, place.force))
    moved = as_numpy(_relaxing(place, time)(place.slopes)).astype(float)
    force = force if noise is None else force + as_numpy(noise.force)
    slack = 2 / local.rate * np.eye(k) - np.diag(place.curvatures)
    slack = slack + time * symmetric(moved @ force, k)
    if noise is None and np.linalg.eigvalsh(slack)[0] >= 0:
        return np.zeros((k, k))
    entries = np.stack([symmetric(row, k) for row in np.eye(len(slopes))])
    weights = np.stack([weights_of(m) for m in np.eye(k * k).reshape(-1, k, k)])
    response = np.einsum("aij,ab,mb->ijm", entries, time / 2 * moved @ slopes.T, weights)
    more = () if noise is None else (noise.kicks, noise.own, np.diag(place.curvatures))
    return edge_covariance(slack, response.reshape((k,) * 4), local.rate, *more)[0]


def _noise(local, state, place, rng) -> _Noise:
    """What minibatches do, with the variance of all directions but those of the place."""
    theta, (p, k), half = state.theta, place.directions.shape, local.rate / 2
    count = min(PROBES, p - k)
    probes = rng.normal(size=(p, count))
    for _ in range(2):  # once more for rounding
        probes = probes - place.directions @ (place.directions.T @ probes)
        probes = np.linalg.qr(probes)[0]
    probes *= (p - k) ** 0.5
    rows = _like(theta, probes.T)
    images = as_numpy(local.products(theta, rows.T)).astype(float)
    outer = images - place.directions @ (place.directions.T @ images)
    trace, squares = np.sum(probes * images) / count, np.sum(outer**2) / count
    all_kicks, along, products, gram = (
        as_numpy(a).astype(float)
        for a in local.noise(theta, _like(theta, place.directions.T), rows)
    )
    n = along.shape[1]
    kicks, own = along @ along.T / n, np.einsum("ain,bjn->ijab", products[:k], products[:k]) / n
    outside = gram - np.einsum("ain,bin->ab", products, products) / n  # of the squares of H_i v
    from_probes = np.trace(outside[k:, k:]) / count
    source = all_kicks - np.trace(kicks) + np.sum(state.covariance * outside[:k, :k])
    damping = trace - half * squares - half / local.batch_size * from_probes
    if not damping > 0:
        raise ValueError(f"batches of {local.batch_size} leave no covariance of theta at rest")
    isotropic = half / local.batch_size * source / damping
    kicks = kicks + isotropic * np.einsum("ain,ajn->ij", products[k:], products[k:]) / n / count
    force = isotropic / 2 * namespace(theta).mean(local.slopes(theta, rows, rows), axis=0)
    b = local.batch_size
    return _Noise(kicks / b, own / b, float(isotropic), float(trace), force)


def _record(local, state, rng):
    """Theta, its loss, the excess of the oscillation, curvatures, covariance and variance."""
    place = _place(local, state)
    noise = _noise(local, state, place, rng) if local.batch_size else None
    covariance = _covariance(local, place, noise, local.rate)
    values, vectors = np.linalg.eigh(covariance)
    root = np.maximum(values, 0)[:, None] ** 0.5 * vectors.T
    factor = Factor(_like(state.theta, root @ place.directions.T))
    excess = float(np.diag(covariance) @ place.curvatures) / 2
    isotropic = 0.0 if noise is None else noise.isotropic
    excess += 0.0 if noise is None else noise.isotropic * noise.trace / 2
    loss = float(local.value(state.theta))
    return state.theta, loss, excess, place.curvatures, factor, isotropic


def _like(theta, array):
    """An array of numpy in the library, the precision and on the device of theta."""
    return namespace(theta).asarray(array, dtype=theta.dtype, device=device(theta))


def _check(learning_rate, steps, every, window):
    check_positive(learning_rate=learning_rate, steps=steps, every=every, window=window)
    if steps % every:
        raise ValueError(f"steps must be a multiple of every, not {steps} of {every}")


def _check_directions(directions, most):
    if not 1 <= directions <= most:
        raise ValueError(f"directions must be from 1 to {most}, not {directions}")
