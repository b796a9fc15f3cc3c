r"""How a noisy descent in a quadratic bowl forgets its start, remembers its noise and circulates.

A `Recursion` is linear and takes steps, as descent does; an `OrnsteinUhlenbeck` process flows, as
its Langevin equation does.  Each has exact moments at any time, and either can be made from the
other.  The methods are scipy's, on numpy arrays; the functions that make them from a Hessian take
those of any library.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import expm, logm, solve_continuous_lyapunov

from sgdnoise.core._arrays import Array, as_numpy
from sgdnoise.theory._stationary import stationary_modes

FOREVER = 60  # doublings of a step, 10^18 of them
DOUBT = 1e-5  # what rounding to float32 may do to that of a noise
ROUGH = 1e-9  # what rounding may do to the smallest eigenvalue of a diffusion, of the largest


@dataclass(frozen=True, eq=False)
class Recursion:
    r"""theta <- M theta + xi, M = kept (p, p), with xi fresh, of mean zero and covariance kick.

    Raises ValueError for matrices that are not square or of one size, or a kick that is no
    covariance.
    """

    kept: Array
    kick: Array

    def __post_init__(self):
        _check_noise("kick", self.kept, self.kick)

    def times(self, steps: int) -> "Recursion":
        """Several steps as one: M^k, and the sum of M^j Q M^jT over j < k, by doubling."""
        if steps < 0:
            raise ValueError(f"a number of steps cannot be negative, as {steps} is")
        whole, piece = (np.eye(len(self.kept)), 0 * self.kick), (self.kept, self.kick)
        while steps:
            whole = _then(whole, piece) if steps % 2 else whole
            steps //= 2
            piece = _then(piece, piece) if steps else piece
        return Recursion(*whole)

    def moved(self, mean, covariance, steps: int = 1):
        """Mean (p,) and covariance (p, p) after some steps from these; exact, stable or not."""
        whole = self.times(steps)
        kept, mean, covariance = whole.kept, as_numpy(mean), as_numpy(covariance)
        return kept @ mean, kept @ covariance @ kept.T + whole.kick

    def rest(self) -> np.ndarray:
        """Covariance at rest, S = M S M^T + Q.

        Raises ValueError where M does not shrink every direction in the end.
        """
        radius = float(max(abs(np.linalg.eigvals(self.kept))))
        if not radius < 1:
            raise ValueError(
                f"no stationary law: a step multiplies some direction by {radius:.3g}, "
                f"which must be below 1"
            )
        return _even(self.times(2**FOREVER).kick)

    def autocovariance(self, lag: int) -> np.ndarray:
        """Cov(theta_(s + k), theta_s) = M^k S at rest, for a lag k of 0 or more."""
        return self.times(lag).kept @ self.rest()

    def long_run(self) -> np.ndarray:
        r"""Sum of autocovariances over all lags, (1 - M)^-1 Q (1 - M)^-T.

        The mean of t >> 1 successive theta has this covariance over t: for descent it is
        H^-1 C H^-1, whatever the rate, and the same with momentum (Polyak & Juditsky, 1992).
        """
        self.rest()
        gain = np.linalg.inv(np.eye(len(self.kept)) - self.kept)
        return gain @ self.kick @ gain.T

    def correlation_time(self, direction) -> float:
        """Steps tau = 1 + 2 sum_k rho_k of v . theta; along a mode (2 - rate h) / (rate h).

        A mean of t steps varies as one of t / tau independent ones; Sokal (1997) calls half of it
        tau.  Raises ValueError for a direction in which theta does not vary.
        """
        return _ratio(self.long_run(), self.rest(), as_numpy(direction))

    def current(self) -> np.ndarray:
        r"""Mean area swept a step at rest, E(theta theta'^T - theta' theta^T) / 2, antisymmetric.

        For descent rate (H S - S H) / 2: zero exactly where H and C commute (detailed balance).
        """
        forward = self.kept @ self.rest()
        return (forward.T - forward) / 2

    def entropy_production(self) -> float:
        r"""Mean log-likelihood ratio, a step at rest, of a Gaussian path and of its reverse.

        Tr(Q^-1 K M^T), K = M S - S M^T: how well one step tells the direction of time, in nats;
        zero exactly at detailed balance.  Raises ValueError where Q is singular, as for fewer
        examples than parameters: such a path is never seen in reverse.
        """
        _check_full(self.kick)
        turned = -2 * self.current()
        return float(np.trace(np.linalg.solve(self.kick, turned @ self.kept.T)))

    def matched(self, dt: float) -> "OrnsteinUhlenbeck":
        r"""The process whose samples at times k dt have exactly the law of these steps.

        A = -log(M) / dt and D = A S + S A^T.  There is none where M has an eigenvalue that is not
        positive, as descent above rate h = 1, nor where D is indefinite, as for noise of a low
        rank that mixes modes of different curvature.  Raises ValueError there.
        """
        _check_positive(dt=dt)
        factors = np.linalg.eigvals(self.kept)
        worst = min(factors[factors.imag == 0].real, default=1.0)
        if not worst > 0:
            raise ValueError(
                f"no flow takes a step that multiplies a direction by {worst:.3g}: all factors "
                f"must be above 0"
            )
        drift = -np.real(logm(self.kept)) / dt
        rest = self.rest()
        diffusion = _even(drift @ rest + rest @ drift.T)
        low, high = np.linalg.eigvalsh(diffusion)[[0, -1]]
        if low < -ROUGH * high:
            raise ValueError(
                f"no flow has the law of these steps: its diffusion would have the eigenvalue "
                f"{low:.3g} beside {high:.3g}"
            )
        return OrnsteinUhlenbeck(drift, diffusion)


@dataclass(frozen=True, eq=False)
class OrnsteinUhlenbeck:
    r"""d theta = -A theta dt + D^(1/2) dW, with A = drift (p, p) and D = diffusion (p, p).

    Raises ValueError for matrices that are not square or of one size, or a diffusion that is no
    covariance.
    """

    drift: Array
    diffusion: Array

    def __post_init__(self):
        _check_noise("diffusion", self.drift, self.diffusion)

    def sampled(self, time: float) -> Recursion:
        r"""Its steps of some length t: exp(-A t), and int_0^t exp(-A s) D exp(-A^T s) ds.

        Both from one exponential of a matrix of twice the size, as Charles Van Loan found, over a
        time so short that nothing overflows, and then doubled.  Exact for any A, stable or not.
        """
        if not time >= 0:
            raise ValueError(f"a time cannot be negative, as {time} is")
        p, length = len(self.drift), time * np.linalg.norm(self.drift, 1)
        doublings = max(0, math.ceil(math.log2(length))) if length > 0 else 0
        corner = np.zeros((p, p))
        block = expm(
            np.block([[-self.drift, self.diffusion], [corner, self.drift.T]]) * time / 2**doublings
        )
        kept = block[:p, :p]
        return Recursion(kept, _even(block[:p, p:] @ kept.T)).times(2**doublings)

    def moved(self, mean, covariance, time: float):
        """Mean (p,) and covariance (p, p) some time after these."""
        return self.sampled(time).moved(mean, covariance)

    def rest(self) -> np.ndarray:
        """Covariance at rest, A S + S A^T = D.

        Raises ValueError unless A pulls in all directions.
        """
        slowest = float(min(np.linalg.eigvals(self.drift).real))
        if not slowest > 0:
            raise ValueError(
                f"no stationary law: the drift has an eigenvalue of real part {slowest:.3g}, "
                f"which must be above 0"
            )
        return _even(solve_continuous_lyapunov(self.drift, self.diffusion))

    def autocovariance(self, lag: float) -> np.ndarray:
        """Cov(theta(s + t), theta(s)) = exp(-A t) S at rest, for a lag t of 0 or more."""
        return self.sampled(lag).kept @ self.rest()

    def long_run(self) -> np.ndarray:
        """Integral of autocovariances over all lags, A^-1 D A^-T: over t, that of a mean over t."""
        self.rest()
        gain = np.linalg.inv(self.drift)
        return gain @ self.diffusion @ gain.T

    def correlation_time(self, direction) -> float:
        """Time tau = 2 int_0^inf rho(t) dt of v . theta; along a mode 2 / h.

        That of descent is shorter by one rate.  Raises ValueError for a direction in which theta
        does not vary.
        """
        return _ratio(self.long_run(), self.rest(), as_numpy(direction))

    def current(self) -> np.ndarray:
        r"""Omega = (A S - S A^T) / 2 = A S - D / 2: mean area swept a unit of time, antisymmetric.

        The probability current at rest is -Omega S^-1 theta times the density: zero exactly where
        A D = D A^T, for SGD where H and C commute (Kwon, Ao & Thouless, 2005; Chaudhari & Soatto,
        2018).
        """
        turned = self.drift @ self.rest()
        return (turned - turned.T) / 2

    def entropy_production(self) -> float:
        r"""Entropy made a unit of time at rest, 2 Tr(Omega^T D^-1 Omega S^-1).

        In nats (Godrèche & Luck, 2019).  Zero exactly at detailed balance.  Raises ValueError
        where D is singular.
        """
        _check_full(self.diffusion)
        omega = self.current()
        flux = np.linalg.solve(self.rest(), omega.T)
        return float(2 * np.trace(flux @ np.linalg.solve(self.diffusion, omega)))


def sgd_recursion(hessian, noise, learning_rate: float) -> Recursion:
    r"""Steps theta <- theta - rate (H theta + xi), Cov xi = C: M = 1 - rate H, Q = rate^2 C.

    Raises ValueError for matrices that are not symmetric, an indefinite C, or rate <= 0; a bowl
    without bottom, or a rate too large for it, only where its rest is asked for.
    """
    hessian, noise = _quadratic(hessian, noise, learning_rate)
    return Recursion(np.eye(len(hessian)) - learning_rate * hessian, learning_rate**2 * noise)


def heavy_ball_recursion(hessian, noise, learning_rate: float, momentum: float) -> Recursion:
    r"""Steps of (theta, theta before), (2p,), for x <- x - rate (H x + xi) + mu (x - x before).

    Raises ValueError as `descent_steps`, or unless 0 <= momentum < 1.
    """
    hessian, noise = _quadratic(hessian, noise, learning_rate)
    if not 0 <= momentum < 1:
        raise ValueError(f"the momentum must be at least 0 and below 1, not {momentum}")
    one, none = np.eye(len(hessian)), np.zeros_like(hessian)
    kept = np.block(
        [[(1 + momentum) * one - learning_rate * hessian, -momentum * one], [one, none]]
    )
    return Recursion(kept, np.block([[learning_rate**2 * noise, none], [none, none]]))


def langevin_relaxation(hessian, noise, learning_rate: float) -> OrnsteinUhlenbeck:
    r"""d theta = -H theta dt + (rate C)^(1/2) dW, the first-order equation of descent.

    Time is rate times steps (Mandt, Hoffman & Blei, 2017).  Raises ValueError as `descent_steps`.
    """
    hessian, noise = _quadratic(hessian, noise, learning_rate)
    return OrnsteinUhlenbeck(hessian, learning_rate * noise)


def _quadratic(hessian, noise, learning_rate):
    hessian, noise = (as_numpy(part).astype(float) for part in (hessian, noise))
    stationary_modes(hessian, "hessian")
    _check_noise("noise", hessian, noise)
    _check_positive(learning_rate=learning_rate)
    return hessian, noise


def _then(one, other):
    """A step (M, Q) and then another, as one."""
    return other[0] @ one[0], other[0] @ one[1] @ other[0].T + other[1]


def _ratio(above, below, v):
    if not v @ below @ v > 0:
        raise ValueError("a direction in which theta does not vary has no correlation time")
    return float(v @ above @ v / (v @ below @ v))


def _even(matrix):
    return (matrix + matrix.T) / 2


def _check_positive(**given):
    for name, value in given.items():
        if not value > 0:
            raise ValueError(f"the {name} must be above 0, and {value} is not")


def _check_noise(name, matrix, noise):
    if np.ndim(matrix) != 2 or np.shape(matrix) != np.shape(noise):
        shapes = f"their shapes are {np.shape(noise)} and {np.shape(matrix)}"
        raise ValueError(f"the {name} must be a square matrix as large as the other: {shapes}")
    low, high = stationary_modes(noise, name)[0][[0, -1]]
    if low < -DOUBT * abs(high):
        raise ValueError(f"the {name} is no covariance: it has the eigenvalue {low:.3g}")


def _check_full(noise):
    spectrum = np.linalg.eigvalsh(noise)
    if not spectrum[0] > ROUGH * spectrum[-1]:
        low = f"the smallest eigenvalue of its covariance is {spectrum[0]:.3g}"
        raise ValueError(f"without noise in every direction time has no reverse: {low}")
