r"""How SGD on a quadratic loss forgets its start, correlates in time, and circulates.

A `LinearRecursion` takes discrete steps, as SGD does; an `OrnsteinUhlenbeck` process runs in
continuous time, as its Langevin equation does.  Both have exact moments at any time, and each can
be made from the other.  The methods use scipy on numpy arrays; the functions that make them from a
Hessian take arrays of any library.

Known: SGD as an Ornstein-Uhlenbeck process (Mandt, Hoffman & Blei, 2017), its circulation (Godrèche
& Luck, 2019).  New here: discrete steps in the same terms.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from scipy.linalg import logm, solve_continuous_lyapunov, solve_discrete_lyapunov

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, as_numpy
from sgdnoise.core._checks import check_positive
from sgdnoise.theory._stationary import check_covariance, symmetric_eigh
from sgdnoise.theory._transition import compose, symmetrised, transition

ROUNDING = 1e-9  # what it may do to the smallest eigenvalue of a diffusion, relative to the largest


class _Gaussian(ABC):
    """Correlations of the stationary law, which both processes share."""

    @abstractmethod
    def stationary_covariance(self) -> np.ndarray: ...

    @abstractmethod
    def long_run_covariance(self) -> np.ndarray: ...

    def correlation_time(self, direction) -> float:
        """The integrated autocorrelation time of v . theta: steps or time per independent value.

        Discrete steps have tau = 1 + 2 sum_k rho_k, (2 - rate h) / (rate h) along a mode of SGD;
        continuous time has tau = 2 int_0^inf rho(t) dt, 2 / h, longer by one rate.  A mean over t
        varies as one of t / tau independent values; Sokal (1997) calls half of it tau.
        Raises ValueError for a direction in which theta does not vary.
        """
        v = as_numpy(direction)
        variance = v @ self.stationary_covariance() @ v
        if not variance > 0:
            raise ValueError("a direction in which theta does not vary has no correlation time")
        return float(v @ self.long_run_covariance() @ v / variance)


@dataclass(frozen=True, eq=False)
class LinearRecursion(_Gaussian):
    r"""The linear recursion theta <- M theta + xi.

    M = matrix (p, p), and xi has mean zero and the covariance Q = noise (p, p).

    Raises ValueError for matrices that are not square or not of one size, or a noise that is no
    covariance.

    Example:
        >>> import numpy as np
        >>> recursion = LinearRecursion(np.asarray([[0.5]]), np.eye(1))
        >>> round(recursion.stationary_covariance().item(), 6)  # 1 / (1 - 1 / 4)
        1.333333
    """

    matrix: Array
    noise: Array

    def __post_init__(self):
        _check_noise("noise", self.matrix, self.noise)

    def power(self, steps: int) -> "LinearRecursion":
        """Several steps as one: M^k, and the sum of M^j Q M^jT over j < k, by repeated doubling."""
        if steps < 0:
            raise ValueError(f"a number of steps cannot be negative, as {steps} is")
        result, doubled = (np.eye(len(self.matrix)), 0 * self.noise), (self.matrix, self.noise)
        while steps:
            result = compose(result, doubled) if steps % 2 else result
            steps //= 2
            doubled = compose(doubled, doubled) if steps else doubled
        return LinearRecursion(*result)

    def propagate(self, mean, covariance, steps: int = 1):
        """The mean (p,) and covariance (p, p) after some steps; exact, stable or not."""
        step, mean, covariance = self.power(steps), as_numpy(mean), as_numpy(covariance)
        return step.matrix @ mean, step.matrix @ covariance @ step.matrix.T + step.noise

    def stationary_covariance(self) -> np.ndarray:
        """The stationary covariance, S = M S M^T + Q.

        Raises ValueError unless all eigenvalues of M are below 1 in size.
        """
        radius = float(max(abs(np.linalg.eigvals(self.matrix))))
        if not radius < 1:
            raise ValueError(
                f"no stationary law: a step multiplies some direction by {radius:.3g}, "
                f"which must be below 1"
            )
        return symmetrised(solve_discrete_lyapunov(self.matrix, self.noise))

    def autocovariance(self, lag: int) -> np.ndarray:
        """The stationary Cov(theta_(s + k), theta_s) = M^k S, for a lag k of 0 or more."""
        return self.power(lag).matrix @ self.stationary_covariance()

    def long_run_covariance(self) -> np.ndarray:
        r"""The sum of autocovariances over all lags, (1 - M)^-1 Q (1 - M)^-T.

        The mean of t >> 1 successive theta has this covariance over t: for SGD it is
        H^-1 C H^-1, at any rate, and the same with momentum (Polyak & Juditsky, 1992).
        """
        self.stationary_covariance()
        gain = np.linalg.inv(np.eye(len(self.matrix)) - self.matrix)
        return gain @ self.noise @ gain.T

    def circulation(self) -> np.ndarray:
        r"""The mean area swept per step, E(theta theta'^T - theta' theta^T) / 2, antisymmetric.

        For SGD it is rate (H S - S H) / 2: zero if and only if H and C commute (detailed balance).
        """
        forward = self.matrix @ self.stationary_covariance()
        return (forward.T - forward) / 2

    def entropy_production(self) -> float:
        r"""The mean log-likelihood ratio, per step, of a stationary path and its reverse, in nats.

        Tr(Q^-1 K M^T), K = M S - S M^T: how well one step shows the direction of time; zero if and
        only if detailed balance holds.  Raises ValueError where Q is singular, as for fewer
        examples than parameters: such a path never occurs in reverse.
        """
        _check_full_rank(self.noise)
        return float(np.trace(np.linalg.solve(self.noise, -2 * self.circulation() @ self.matrix.T)))

    def embed(self, dt: float) -> "OrnsteinUhlenbeck":
        r"""The process in continuous time whose samples at times k dt have the law of these steps.

        A = -log(M) / dt and D = A S + S A^T.  Raises ValueError if there is none: where M has an
        eigenvalue that is not positive, as SGD above rate h = 1, or where D is indefinite, as for
        noise of low rank that mixes modes of different curvature.
        """
        check_positive(dt=dt)
        factors = np.linalg.eigvals(self.matrix)
        lowest = min(factors[factors.imag == 0].real, default=1.0)
        if not lowest > 0:
            raise ValueError(
                f"no process in continuous time takes a step that multiplies a direction by "
                f"{lowest:.3g}: all factors must be above 0"
            )
        drift, covariance = -np.real(logm(self.matrix)) / dt, self.stationary_covariance()
        diffusion = symmetrised(drift @ covariance + covariance @ drift.T)
        low, high = np.linalg.eigvalsh(diffusion)[[0, -1]]
        if low < -ROUNDING * high:
            raise ValueError(
                f"no process in continuous time has the law of these steps: its diffusion would "
                f"have the eigenvalue {low:.3g} beside {high:.3g}"
            )
        return OrnsteinUhlenbeck(drift, diffusion)


@dataclass(frozen=True, eq=False)
class OrnsteinUhlenbeck(_Gaussian):
    r"""The process d theta = -A theta dt + D^(1/2) dW, A = drift, D = diffusion, (p, p) each.

    Raises ValueError for matrices that are not square or not of one size, or a diffusion that is no
    covariance.

    Example:
        >>> import numpy as np
        >>> process = OrnsteinUhlenbeck(np.asarray([[2.0]]), np.eye(1))
        >>> round(process.stationary_covariance().item(), 6)  # D / (2 A)
        0.25
    """

    drift: Array
    diffusion: Array

    def __post_init__(self):
        _check_noise("diffusion", self.drift, self.diffusion)

    def discretise(self, time: float) -> LinearRecursion:
        r"""Its steps of length t: exp(-A t), and int_0^t exp(-A s) D exp(-A^T s) ds."""
        if not time >= 0:
            raise ValueError(f"a time cannot be negative, as {time} is")
        return LinearRecursion(*transition(self.drift, self.diffusion, time))

    def propagate(self, mean, covariance, time: float):
        """The mean (p,) and covariance (p, p) some time later."""
        return self.discretise(time).propagate(mean, covariance)

    def stationary_covariance(self) -> np.ndarray:
        """The stationary covariance, A S + S A^T = D.

        Raises ValueError unless all eigenvalues of A have positive real parts.
        """
        slowest = float(min(np.linalg.eigvals(self.drift).real))
        if not slowest > 0:
            raise ValueError(
                f"no stationary law: the drift has an eigenvalue of real part {slowest:.3g}, "
                f"which must be above 0"
            )
        return symmetrised(solve_continuous_lyapunov(self.drift, self.diffusion))

    def autocovariance(self, lag: float) -> np.ndarray:
        """The stationary Cov(theta(s + t), theta(s)) = exp(-A t) S, for a lag t of 0 or more."""
        return self.discretise(lag).matrix @ self.stationary_covariance()

    def long_run_covariance(self) -> np.ndarray:
        """The integral of autocovariances over all lags, A^-1 D A^-T."""
        self.stationary_covariance()
        gain = np.linalg.inv(self.drift)
        return gain @ self.diffusion @ gain.T

    def circulation(self) -> np.ndarray:
        r"""Omega = (A S - S A^T) / 2, the mean area swept per unit of time, antisymmetric.

        The stationary probability current is -Omega S^-1 theta times the density: zero if and only
        if A D = D A^T, for SGD if H and C commute (Kwon, Ao & Thouless, 2005; Chaudhari & Soatto,
        2018).
        """
        product = self.drift @ self.stationary_covariance()
        return (product - product.T) / 2

    def entropy_production(self) -> float:
        r"""The stationary entropy production per unit of time, 2 Tr(Omega^T D^-1 Omega S^-1).

        In nats (Godrèche & Luck, 2019).  It is zero if and only if detailed balance holds.  Raises
        ValueError where D is singular.
        """
        _check_full_rank(self.diffusion)
        omega = self.circulation()
        flux = np.linalg.solve(self.stationary_covariance(), omega.T)
        return float(2 * np.trace(flux @ np.linalg.solve(self.diffusion, omega)))


@checked
def sgd_recursion(hessian, noise, learning_rate: float) -> LinearRecursion:
    r"""The steps theta <- theta - rate (H theta + xi), Cov xi = C: M = 1 - rate H, Q = rate^2 C.

    Raises ValueError for matrices that are not symmetric, an indefinite C, or rate <= 0; an
    indefinite H or an unstable rate is refused only by what needs a stationary law.

    Example:
        >>> import numpy as np
        >>> steps = sgd_recursion(np.eye(1), np.eye(1), 0.5)
        >>> round(steps.correlation_time([1.0]), 6)
        3.0
    """
    hessian, noise = _quadratic(hessian, noise, learning_rate)
    matrix = np.eye(len(hessian)) - learning_rate * hessian
    return LinearRecursion(matrix, learning_rate**2 * noise)


@checked
def heavy_ball_recursion(hessian, noise, learning_rate: float, momentum: float) -> LinearRecursion:
    r"""The steps of (x, previous x), (2p,), for x <- x - rate (H x + xi) + mu (x - previous x).

    Raises ValueError as `sgd_recursion`, or unless 0 <= momentum < 1.

    Example:
        >>> import numpy as np
        >>> heavy_ball_recursion(np.diag([1.0, 2.0]), np.eye(2), 0.05, 0.5).matrix.shape
        (4, 4)
    """
    hessian, noise = _quadratic(hessian, noise, learning_rate)
    if not 0 <= momentum < 1:
        raise ValueError(f"the momentum must be at least 0 and below 1, not {momentum}")
    identity, zero = np.eye(len(hessian)), np.zeros_like(hessian)
    matrix = np.block(
        [
            [(1 + momentum) * identity - learning_rate * hessian, -momentum * identity],
            [identity, zero],
        ]
    )
    return LinearRecursion(matrix, np.block([[learning_rate**2 * noise, zero], [zero, zero]]))


@checked
def langevin_relaxation(hessian, noise, learning_rate: float) -> OrnsteinUhlenbeck:
    r"""The Langevin equation of SGD, d theta = -H theta dt + (rate C)^(1/2) dW.

    Time is rate x steps (Mandt, Hoffman & Blei, 2017).  Raises ValueError as `sgd_recursion`.

    Example:
        >>> import numpy as np
        >>> langevin_relaxation(np.diag([1.0, 2.0]), np.eye(2), 0.05).drift.tolist()
        [[1.0, 0.0], [0.0, 2.0]]
    """
    hessian, noise = _quadratic(hessian, noise, learning_rate)
    return OrnsteinUhlenbeck(hessian, learning_rate * noise)


def _quadratic(hessian, noise, learning_rate):
    hessian, noise = (as_numpy(matrix).astype(float) for matrix in (hessian, noise))
    symmetric_eigh(hessian, "hessian")
    _check_noise("noise", hessian, noise)
    check_positive(learning_rate=learning_rate)
    return hessian, noise


def _check_noise(name, matrix, noise):
    if np.ndim(matrix) != 2 or np.shape(matrix) != np.shape(noise):
        shapes = f"their shapes are {np.shape(noise)} and {np.shape(matrix)}"
        raise ValueError(f"the {name} must be a square matrix as large as the other: {shapes}")
    check_covariance(noise, len(matrix), name)


def _check_full_rank(noise):
    eigenvalues = np.linalg.eigvalsh(noise)
    if not eigenvalues[0] > ROUNDING * eigenvalues[-1]:
        low = f"the smallest eigenvalue of its covariance is {eigenvalues[0]:.3g}"
        raise ValueError(f"without noise in every direction time has no reverse: {low}")
