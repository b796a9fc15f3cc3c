r"""How long noise takes to leave a well, of gradients that jitter and of gradients that jump.

Along d x = -U'(x) dt + (2 D(x))^1/2 dW, Ito, time being rate x steps: for descent D is
rate C(x) / (2 batch), C the variance of the gradient of an example.
"""

import math

import numpy as np
from jaxtyping import Float
from scipy.integrate import quad

from sgdnoise.core._arrays import Array, namespace

OVERSHOOT = 1.4603545088095868 / (2 * math.pi) ** 0.5  # -zeta(1/2) / (2 pi)^1/2
NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)
_LEGENDRE = np.polynomial.legendre.legvander(NODES, 11)
_INTEGRALS = np.stack(
    [
        np.polynomial.legendre.legval(NODES, np.polynomial.legendre.legint(e, lbnd=-1))
        for e in np.eye(12)
    ],
    axis=1,
)
RUNNING = _INTEGRALS @ np.linalg.inv(_LEGENDRE)  # from values at the nodes to integrals up to them
CLOSE = 1e-9  # by how much, relative, twice as many panels may change a passage time
MOST = 1 << 12  # panels


# --- exact ---


def passage_time(slope, diffusion, start: float, end: float, low: float) -> float:
    r"""Mean time to come from start up to end for the first time, reflected at low: exact.

    int_start^end dy e^Phi(y) int_low^y dz e^-Phi(z) / D(z), Phi = int U' / D, which solves
    D t'' - U' t' = -1, Ito (Gardiner, 2009).  slope: U'(x) of a numpy array; diffusion: D(x) of
    one, or a number, the temperature.  For a well that is closed below, low is any point it hardly
    ever reaches.  Mirror the slope for an exit below.  Relative error 1e-9, by quadrature.
    Raises ValueError unless low <= start < end and D > 0, or beyond e^700.
    """
    if not -math.inf < low <= start < end < math.inf:
        raise ValueError(f"a passage from {start} to {end} above {low} has no order low to high")
    panels, last = 32, math.nan
    while panels <= MOST:
        found = _passage(slope, diffusion, (low, start, end), panels)
        if abs(found - last) <= CLOSE * found < math.inf:
            return found
        panels, last = 2 * panels, found
    if not math.isfinite(last):
        raise ValueError("the barrier is so high that the time is beyond floating point")
    raise ValueError(f"slope or diffusion is too rough for {MOST} panels between {low} and {end}")


def ito_density(slope, diffusion, points: Float[Array, " n"]) -> np.ndarray:
    r"""Density at rest at ascending points (n,), normalised between the first and the last.

    p = e^-Phi / D up to a constant, Phi = int U' / D: noise that depends on x pushes towards where
    it is small, by 1 / D, without any slope.  (Of Stratonovich's reading it would be D^-1/2.)
    Normalised by the trapezoidal rule: take points close.  Raises ValueError unless D > 0 and the
    points ascend.
    """
    x = np.asarray(points, dtype=float)
    if len(x) < 2 or not (np.diff(x) > 0).all():
        raise ValueError("a density is wanted at two or more points in ascending order")
    half = np.diff(x)[:, None] / 2
    nodes = x[:-1, None] + half * (NODES + 1)
    rises = (half * slope(nodes) / _noise(diffusion, nodes)) @ WEIGHTS
    phi = np.append(0.0, np.cumsum(rises))
    density = np.exp(phi.min() - phi) / _noise(diffusion, x)
    return density / np.trapezoid(density, x)


# --- small noise ---


def kramers_time(barrier: float, temperature: float, bottom: float, top: float) -> float:
    r"""Mean time from a well into the next one: 2 pi e^(dU/T) / (U''_a |U''_b|)^1/2.

    Kramers (1940), overdamped, for dU >> T, relative error of order T / dU; bottom and top are
    U'' at the minimum and at the barrier, top negative.  To reach the top itself takes half as
    long.  Raises ValueError unless barrier, temperature and bottom are positive and top negative.
    """
    _barrier(barrier, temperature)
    return shaped_kramers_time(barrier / temperature, bottom, top, 1.0, 1.0)


def eyring_kramers_time(
    barrier: float, temperature: float, bottom: Float[Array, "p p"], top: Float[Array, "p p"]
) -> float:
    r"""The same in p dimensions: 2 pi / |l| (|det H_b| / det H_a)^1/2 e^(dU/T).

    H_a the Hessian at the minimum, H_b at the saddle, l its one negative eigenvalue (Bovier,
    Eckhoff, Gayrard & Klein, 2004); for one saddle that leads to a deeper or equal well, and noise
    alike in all directions.  A wide saddle is found sooner: flatness of both counts, not only
    height.  Raises ValueError unless both are symmetric, H_a is positive definite and H_b has
    exactly one negative eigenvalue.
    """
    _barrier(barrier, temperature)
    lows, highs = (_curvatures(name, m) for name, m in (("bottom", bottom), ("top", top)))
    if not lows[0] > 0:
        raise ValueError(f"a minimum has no curvature {lows[0]:.3g}, all must be positive")
    if not highs[0] < 0 or (len(highs) > 1 and not highs[1] > 0):
        raise ValueError(
            "a saddle between wells has one negative curvature and no zero one, not "
            f"{highs[0]:.3g} and {highs[min(1, len(highs) - 1)]:.3g} as its lowest"
        )
    stretch = 0.5 * (sum(math.log(abs(h)) for h in highs) - sum(math.log(h) for h in lows))
    return 2 * math.pi / -highs[0] * math.exp(barrier / temperature + stretch)


def quasipotential(slope, diffusion, bottom: float, top: float) -> float:
    r"""E = int U' / D from bottom to top: what dU / T becomes where noise depends on x.

    Times grow as e^E; D in proportion to the rate makes d log time / d log rate = -E over a saddle,
    and 1/2 more over a boundary (see `boundary_time`).  Raises ValueError unless D > 0 at both ends
    and E > 0.
    """
    _noise(diffusion, np.asarray([bottom, top]))

    def rise(x):
        at = np.asarray([x])
        return float((slope(at) / _noise(diffusion, at))[0])

    found = quad(rise, bottom, top, epsabs=0, epsrel=1e-11, limit=200)[0]
    if not found > 0:
        raise ValueError(
            f"the top must lie above the bottom of the well, not at {found:.3g} noises"
        )
    return found


def shaped_kramers_time(
    height: float, bottom: float, top: float, noise_bottom: float, noise_top: float
) -> float:
    r"""Kramers' time where noise depends on x: 2 pi (D_b / D_a)^1/2 e^E / (U''_a |U''_b|)^1/2.

    height: E of `quasi_height`; noise: D at minimum and barrier, Ito.  Relative error of order
    1 / E.  Raises ValueError as `kramers_time`, and unless both D are positive.
    """
    if not height > 0:
        raise ValueError(f"the barrier must lie above the well, not at {height:.3g} temperatures")
    if not (bottom > 0 > top):
        raise ValueError(f"a well curves up and a barrier down, not by {bottom} and {top}")
    if not (noise_bottom > 0 and noise_top > 0):
        raise ValueError(f"noise must be positive, not {noise_bottom} and {noise_top}")
    spread = (noise_top / noise_bottom / (bottom * -top)) ** 0.5
    return 2 * math.pi * spread * math.exp(height)


def boundary_time(height: float, curvature: float) -> float:
    r"""Mean time to leave a parabola by one end, no saddle there: (pi / E)^1/2 e^E / h.

    E = h w^2 / (2 D) for an end at distance w and constant D; half of it for two ends at +-w.
    Relative error of order 1 / E.  Raises ValueError unless both are positive.
    """
    if not (height > 0 and curvature > 0):
        raise ValueError(f"height and curvature must be positive, not {height} and {curvature}")
    return (math.pi / height) ** 0.5 * math.exp(height) / curvature


def label_noise_height(
    distance: float, learning_rate: float, label_noise: float, batch_size: int
) -> float:
    r"""E for leaving to a distance w where C = label_noise^2 H: batch w^2 / (rate label_noise^2).

    In a parabola of any curvature, in any number of dimensions: noise in proportion to curvature
    spreads alike in all directions, and sharp wells are left sooner only by the 1 / h of
    `boundary_time`, at equal width.  At equal height dU = h w^2 / 2 it is
    2 batch dU / (rate label_noise^2 h), and sharp wells are left exponentially sooner (Xie, Sato &
    Sugiyama, 2021).  Where the residual makes the noise, C grows with L and times grow as a power
    (Mori et al., 2022).  Raises ValueError unless all are positive.
    """
    if not (distance > 0 and learning_rate > 0 and label_noise > 0 and batch_size > 0):
        raise ValueError(
            "distance, rate, label_noise and batch must be positive, not "
            f"{distance}, {learning_rate}, {label_noise} and {batch_size}"
        )
    return batch_size * distance**2 / (learning_rate * label_noise**2)


# --- steps of time ---


def discrete_shift(diffusion: float, dt: float) -> float:
    r"""How much farther an end seems to steps dt: -zeta(1/2) / (2 pi)^1/2 (2 D dt)^1/2.

    0.5826 standard deviations of a step, the mean of what a walk leaps beyond an end (Chernoff,
    1965; Broadie, Glasserman & Kou, 1997).  Raises ValueError unless D > 0 and dt >= 0.
    """
    if not (diffusion > 0 and dt >= 0):
        raise ValueError(f"a shift needs diffusion > 0 and dt >= 0, not {diffusion} and {dt}")
    return OVERSHOOT * (2 * diffusion * dt) ** 0.5


def discrete_passage_time(
    slope, diffusion, start: float, end: float, low: float, dt: float
) -> float:
    r"""`passage_time` as steps dt of Euler-Maruyama see it, to order dt: the end shifted outward.

    Steps miss short visits beyond the end: without the shift the error is of order dt^1/2.
    In regime while U' times the shift is small against D at the end.  Raises ValueError as
    `passage_time` and `discrete_shift`.
    """
    at_end = float(_noise(diffusion, np.asarray([float(end)]))[0])
    return passage_time(slope, diffusion, start, end + discrete_shift(at_end, dt), low)


# --- jumps ---


def jump_constant(alpha: float) -> float:
    r"""c in c / |y|^(1 + alpha), how often stable motion jumps by y in a unit of time.

    Gamma(1 + alpha) sin(pi alpha / 2) / pi for E e^(ikL) = e^(-|k|^alpha); 0 of Gaussian motion.
    Raises ValueError unless 0 < alpha < 2.
    """
    if not 0 < alpha < 2:
        raise ValueError(f"stable motion that jumps has a tail index in (0, 2), not {alpha}")
    return math.gamma(1 + alpha) * math.sin(math.pi * alpha / 2) / math.pi


def stable_exit_time(alpha: float, strength: float, left: float, right: float) -> float:
    r"""Mean time to leave a well by one big jump: alpha / (c eps^alpha (left^-a + right^-a)).

    d x = -U' dt + eps dL, L symmetric stable, c of `jump_constant`, ends at distances left and
    right of the minimum, inf for none (Imkeller & Pavlyukevich, 2006, whose jumps come at
    1 / |y|^(1 + alpha)).  Width counts, height does not: a power of eps, no exponential.
    For eps -> 0, the time long against relaxation; in units of rate x steps, steps
    rate (U' + scale xi) with xi standard symmetric stable have eps = scale rate^(1 - 1/alpha).
    Raises ValueError unless 0 < alpha < 2, and strength, left and right are positive.
    """
    if not (strength > 0 and left > 0 and right > 0):
        raise ValueError(
            f"strength and distances must be positive, not {strength}, {left}, {right}"
        )
    learning_rate = jump_constant(alpha) * strength**alpha * (left**-alpha + right**-alpha) / alpha
    if learning_rate == 0:
        raise ValueError("a well without ends is never left")
    return 1 / learning_rate


def _passage(slope, diffusion, ends, panels):
    """By Gauss and Legendre's rule in panels; f' = U' / D f + 1 / D leads from each to the next."""
    low, start, end = ends
    before = 0 if low == start else panels
    edges = np.concatenate(
        [np.linspace(low, start, before, endpoint=False), np.linspace(start, end, panels + 1)]
    )
    half = np.diff(edges)[:, None] / 2
    nodes = edges[:-1, None] + half * (NODES + 1)
    noise = _noise(diffusion, nodes)
    climb = half * slope(nodes) / noise
    with np.errstate(over="ignore", invalid="ignore"):
        rise, whole = climb @ RUNNING.T, climb @ WEIGHTS
        local = half * np.exp(-rise) / noise
        gained, all_gained = local @ RUNNING.T, local @ WEIGHTS
        flux, total = 0.0, 0.0
        for k, up in enumerate(np.exp(rise)):
            if k >= before:
                total += half[k, 0] * float(WEIGHTS @ (up * (flux + gained[k])))
            flux = float(np.exp(whole[k])) * (flux + float(all_gained[k]))
    return float(total)


def _noise(diffusion, x):
    values = np.broadcast_to(diffusion(x) if callable(diffusion) else diffusion, x.shape)
    if not (values > 0).all():
        raise ValueError(f"diffusion, or temperature, must be positive, not {values.min():.3g}")
    return values


def _barrier(barrier, temperature):
    if not temperature > 0:
        raise ValueError(f"a temperature must be positive, not {temperature}")
    if not barrier > 0:
        raise ValueError(f"the barrier must lie above the well, not by {barrier}")


def _curvatures(name, matrix):
    """Eigenvalues of a symmetric matrix, ascending."""
    xp = namespace(matrix)
    skew, size = float(xp.max(xp.abs(matrix - matrix.T))), float(xp.max(xp.abs(matrix)))
    if not skew <= 1e-8 * size:
        raise ValueError(f"the Hessian at the {name} is not symmetric, it is off by {skew:.3g}")
    values = xp.linalg.eigvalsh(matrix)
    return [float(values[i]) for i in range(values.shape[0])]
