r"""The path of theta along the minima of any network under label noise, by its mean gradient.

Label noise makes theta jitter about a mean with the covariance S of `label_noise_covariance`.  The
mean follows -rate P E grad L(mean + xi), where P is the preconditioner (1 for SGD).  Along the
minima, where P^(1/2) H P^(1/2) is zero, all steps of a jump are made at once; across them the mean
relaxes by 1 - (1 - rate h)^steps.

Assumed: squared loss, residuals that vanish without noise, jitter that is small beside the distance
over which J changes and fast beside the drift, and a preconditioner that changes slowly.

Known: the slow flow along the minima (Blanc et al., 2020; Li, Wang & Arora, 2022).  New here, as
far as we know: its integration with the covariance of the next order, for any preconditioner.
"""

from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy
from sgdnoise.core._checks import as_generator
from sgdnoise.core._operators import Factor
from sgdnoise.theory._adaptive import adaptive_preconditioner, squared_gradients
from sgdnoise.theory._averaged_gradient import averaged_gradient
from sgdnoise.theory._label_noise_covariance import label_noise_covariance, modes

PAIRS = 8  # of jitter, at most, over which the squared gradients of Adam are averaged


class AveragedFlow(NamedTuple):
    """The mean path of theta: step (t,), theta (t, p), and the jitter about it at each step.

    jitter: the covariance S of theta, a Factor for each step.
    excess: Tr(H S) / 2, the mean loss to first order in S, (t,).
    preconditioner: P at each step, (t, p), or None for SGD.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.theory import averaged_flow
        >>> outputs = lambda t: np.asarray([[t[0] * t[1] - 1.0]])  # minima: t_0 t_1 = 1
        >>> jacobian = lambda t: np.asarray([[[t[1], t[0]]]])
        >>> gradient = lambda t: outputs(t)[0, 0] * jacobian(t)[0, 0]
        >>> noise = {"label_noise": 0.5, "learning_rate": 0.02, "batch_size": 1}
        >>> options = {"steps": 2000, "every": 1000, "jumps": 20, "draws": 1}
        >>> path = averaged_flow(gradient, jacobian, np.asarray([2.0, 0.5]), **options, **noise)
        >>> path.step.tolist(), path.theta.shape, path.preconditioner
        ([1000, 2000], (2, 2), None)
    """

    step: np.ndarray
    theta: np.ndarray
    jitter: list[Factor]
    excess: np.ndarray
    preconditioner: np.ndarray | None


@checked
def averaged_flow(
    gradient: Callable,
    jacobian: Callable,
    theta,
    *,
    steps: int,
    every: int,
    jumps: int = 4,
    draws: int | None = None,
    label_noise,
    learning_rate,
    batch_size,
    discrete_steps=1.0,
    preconditioner=None,
    adaptive: float | None = None,
    rng=0,
) -> AveragedFlow:
    r"""The mean path of SGD, or of Adam, under label noise along the minima of a network.

    gradient: theta -> grad L (p,).  jacobian: theta -> J (n, o, p), the derivatives of the outputs
    of each example.  theta: a minimum without residuals, (p,).
    steps: of SGD.  every: steps between records.  jumps: of the flow between two records; the
    error is of second order in their length, and of first order with `adaptive`.
    draws: pairs of jitter for each mean gradient; None: as many as there are directions that H
    sees, which makes the mean of a quadratic form exact.  Fewer have an error by chance.
    label_noise, learning_rate, batch_size, discrete_steps: see `label_noise_covariance`.
    preconditioner: P (p,), held on the way; None: 1, which is SGD.
    adaptive: beta_2 of Adam or RMSprop.  P then is v^(-1/2), where v is the moving average, with
    this factor, of `squared_gradients` averaged over the jitter.  At first v is that of theta
    without jitter.  Adam with beta_1 has discrete_steps = (1 - beta_1) / (1 + beta_1).
    Raises ValueError if every does not divide steps, for a preconditioner beside `adaptive`, or as
    `label_noise_covariance` and `adaptive_preconditioner` do on the way.

    Example:
        >>> import numpy as np
        >>> outputs = lambda t: np.asarray([[t[0] * t[1] - 1.0]])  # minima: t_0 t_1 = 1
        >>> jacobian = lambda t: np.asarray([[[t[1], t[0]]]])
        >>> gradient = lambda t: outputs(t)[0, 0] * jacobian(t)[0, 0]
        >>> noise = {"label_noise": 0.5, "learning_rate": 0.02, "batch_size": 1}
        >>> options = {"steps": 40_000, "every": 40_000, "jumps": 400, "draws": 1}
        >>> path = averaged_flow(gradient, jacobian, np.asarray([2.0, 0.5]), **options, **noise)
        >>> path.theta[-1].round(1).tolist()
        [1.0, 1.0]
    """
    if every < 1 or steps % every or jumps < 1:
        raise ValueError(f"{jumps} jumps every {every} steps do not divide {steps} steps")
    if adaptive is not None and preconditioner is not None:
        raise ValueError("a preconditioner is either held or adaptive, not both")
    noise = {
        "label_noise": label_noise,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "discrete_steps": discrete_steps,
    }
    theta = as_numpy(theta).astype(float)
    place = _Place(gradient, jacobian, noise, adaptive, draws, as_generator(rng))
    if adaptive is not None:
        p = adaptive_preconditioner(place.jacobian(theta), **place.drawn_labels)
    else:
        p = np.ones_like(theta) if preconditioner is None else as_numpy(preconditioner)
    state = _State(theta, np.zeros_like(theta), p**-2.0)
    records: list[tuple] = []
    done = 0
    for _ in range(steps // every):
        for length in np.diff(np.linspace(0, every, jumps + 1).round().astype(int)).tolist():
            state = place.jump(state, done, length)
            done += length
        records.append((done, state.theta, *place.jitter(state.theta, state, done)[:2], state.p))
    step, thetas, jitter, excess, scales = zip(*records, strict=True)
    plain = adaptive is None and preconditioner is None
    return AveragedFlow(
        *(np.asarray(step), np.stack(thetas), list(jitter), np.asarray(excess)),
        None if plain else np.stack(scales),
    )


class _State(NamedTuple):
    """Theta, the last move along the minima, and v = 1 / P^2, (p,) each."""

    theta: np.ndarray
    along: np.ndarray
    squares: np.ndarray

    @property
    def p(self) -> np.ndarray:
        return self.squares**-0.5


class _Place:
    """A network, its noise, and what they do at any theta."""

    def __init__(self, gradient, jacobian, noise, beta, draws, rng):
        self._gradient, self._jacobian = gradient, jacobian
        self.noise, self.beta, self.draws, self.rng = noise, beta, draws, rng
        self.drawn_labels = {key: noise[key] for key in ("label_noise", "batch_size")}

    def gradient(self, theta):
        return as_numpy(self._gradient(theta)).astype(float)

    def jacobian(self, theta):
        return as_numpy(self._jacobian(theta)).astype(float)

    def jitter(self, theta, state: _State, steps):
        """S at theta some steps after weights without jitter, Tr(H S) / 2, and J (n, o, p)."""
        jacobian, time = self.jacobian(theta), self.noise["learning_rate"] * steps
        covariance = label_noise_covariance(
            jacobian, preconditioner=state.p, time=time, **self.noise
        )
        seen = jacobian.reshape(-1, len(theta)) @ covariance.rows.T
        return covariance, np.sum(seen**2) / (2 * len(jacobian)), jacobian

    def jump(self, state: _State, begin: int, steps: int) -> _State:
        """The state some steps later.

        The mean gradient is taken half of the previous move along the minima further on.
        """
        middle, rate, root = (
            state.theta + state.along / 2,
            self.noise["learning_rate"],
            state.p**0.5,
        )
        covariance, _, jacobian = self.jitter(middle, state, begin + steps / 2)
        count = self.draws or covariance.width
        white = np.asarray([*islice(balanced(covariance.width, self.rng), count)])
        force = averaged_gradient(self.gradient, middle, covariance, white)
        curvatures, _, mapped = modes(jacobian * root)
        directions = mapped(np.eye(len(curvatures)))  # seen by P^(1/2) H P^(1/2), one a row
        inside = directions @ (root * force)
        relaxed = (1 - (1 - rate * curvatures) ** steps) / curvatures
        along = -steps * rate * root * (root * force - inside @ directions)
        theta = state.theta + along - root * ((inside * relaxed) @ directions)
        if self.beta is None:
            return _State(theta, along, state.squares)
        target = self.squares(middle, jacobian, covariance, white[:PAIRS])
        squares = target + self.beta**steps * (state.squares - target)
        return _State(theta, along, squares)

    def squares(self, theta, jacobian, covariance, white):
        """The mean square of the gradient over the jitter, by pairs."""
        total = squared_gradients(jacobian, covariance, **self.drawn_labels)
        total -= squared_gradients(jacobian, **self.drawn_labels)
        for row in white:
            away = covariance.colour(row)
            for at in (theta + away, theta - away):
                there = squared_gradients(self.jacobian(at), **self.drawn_labels)
                total += there / (2 * len(white))
        return total


def balanced(width: int, rng):
    """Endless white numbers (width,), of which each `width` in a row are orthogonal.

    A mean over `width` of them has the exact mean of a quadratic form, and one over fewer has a
    smaller error than independent numbers.
    """
    while True:
        q, _ = np.linalg.qr(rng.standard_normal((width, width)))
        yield from width**0.5 * q
