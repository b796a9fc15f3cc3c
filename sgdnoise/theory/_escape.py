r"""Mean times to leave a well under Gaussian and under heavy-tailed noise.

The process is d x = -U'(x) dt + (2 D(x))^1/2 dW, Ito, with the time rate x steps: for SGD D is
rate C(x) / (2 B), C the variance of the gradient of an example.  Exact times are quadratures in
panels: the equivalent differential equation in scipy.integrate.solve_ivp takes 25 to 800 times as
long, and underflows on steep descents.

Known: the times of Kramers (1940), his formula with state-dependent noise for SGD (Mori et al.,
2022), and the shift of discrete steps (Broadie, Glasserman & Kou, 1997).  New here, as far as we
know: all of them beside exact quadratures, so that each error of the formulas is a number.
"""

import math

import numpy as np
from jaxtyping import Float
from scipy.integrate import quad

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, namespace

OVERSHOOT = 1.4603545088095868 / (2 * math.pi) ** 0.5  # -zeta(1/2) / (2 pi)^1/2
DEGREE = 12
NODES, WEIGHTS = np.polynomial.legendre.leggauss(DEGREE)
_LEGENDRE = np.polynomial.legendre.legvander(NODES, DEGREE - 1)
_INTEGRALS = np.stack(
    [
        np.polynomial.legendre.legval(NODES, np.polynomial.legendre.legint(e, lbnd=-1))
        for e in np.eye(DEGREE)
    ],
    axis=1,
)
RUNNING = _INTEGRALS @ np.linalg.inv(_LEGENDRE)  # from values at the nodes to integrals up to them
TOLERANCE = 1e-9  # relative change of a passage time with twice as many panels
MAX_PANELS = 1 << 12


@checked
def passage_time(slope, diffusion, start: float, end: float, low: float) -> float:
    r"""The exact mean first-passage time from start up to end, with reflection at low.

    int_start^end dy e^Phi(y) int_low^y dz e^-Phi(z) / D(z), Phi = int U' / D, which solves
    D t'' - U' t' = -1, Ito (Gardiner, 2009).  slope: U'(x) of a numpy array; diffusion: D(x) of
    one, or a number, the temperature.  For a well without a lower end, low is any point it hardly
    ever reaches.  Mirror the slope for an exit below.  The relative error is 1e-9.
    Raises ValueError unless low <= start < end and D > 0, or for a time above e^700.

    Example:
        >>> round(passage_time(lambda x: 0 * x, 0.5, start=0.0, end=2.0, low=0.0), 6)
        4.0
    """
    if not -math.inf < low <= start < end < math.inf:
        raise ValueError(f"a passage from {start} to {end} above {low} has no order low to high")
    panels, previous = 32, math.nan
    while panels <= MAX_PANELS:
        time = _passage(slope, diffusion, (low, start, end), panels)
        if abs(time - previous) <= TOLERANCE * time < math.inf:
            return time
        panels, previous = 2 * panels, time
    if not math.isfinite(previous):
        raise ValueError("the barrier is so high that the time is beyond floating point")
    raise ValueError(
        f"slope or diffusion is too rough for {MAX_PANELS} panels between {low} and {end}"
    )


@checked
def ito_density(slope, diffusion, points: Float[Array, " n"]) -> np.ndarray:
    r"""The stationary density at ascending points (n,), normalised between the first and the last.

    p = e^-Phi / D up to a constant, Phi = int U' / D: noise that depends on x favours regions where
    it is small, by 1 / D, even without a gradient.  (In the Stratonovich sense it is D^-1/2.)
    It is normalised by the trapezoidal rule, which needs a fine grid.  Raises ValueError unless
    D > 0 and the points ascend.

    Example:
        >>> import numpy as np
        >>> points = np.linspace(-3, 3, 301)
        >>> density = ito_density(lambda x: x, 0.5, points)
        >>> round(float(density.sum() * 0.02), 3)
        1.0
    """
    x = np.asarray(points, dtype=float)
    if len(x) < 2 or not (np.diff(x) > 0).all():
        raise ValueError("a density needs two or more points in ascending order")
    half = np.diff(x)[:, None] / 2
    nodes = x[:-1, None] + half * (NODES + 1)
    rises = (half * slope(nodes) / _noise(diffusion, nodes)) @ WEIGHTS
    phi = np.append(0.0, np.cumsum(rises))
    density = np.exp(phi.min() - phi) / _noise(diffusion, x)
    return density / np.trapezoid(density, x)


@checked
def kramers_time(barrier: float, temperature: float, bottom: float, top: float) -> float:
    r"""Kramers' mean time from a well into the next one: 2 pi e^(dU/T) / (U''_a |U''_b|)^1/2.

    Kramers (1940), overdamped, for dU >> T, with a relative error of order T / dU; bottom and top
    are U'' at the minimum and at the barrier, top negative.  The mean time to the top itself is
    half of it.  Raises ValueError unless barrier, temperature and bottom are positive and top is
    negative.

    Example:
        >>> round(kramers_time(0.25, 0.05, bottom=2.0, top=-1.0), 1)
        659.4
    """
    _barrier(barrier, temperature)
    return shaped_kramers_time(barrier / temperature, bottom, top, 1.0, 1.0)


@checked
def eyring_kramers_time(
    barrier: float, temperature: float, bottom: Float[Array, "p p"], top: Float[Array, "p p"]
) -> float:
    r"""Kramers' time in p dimensions: 2 pi / |l| (|det H_b| / det H_a)^1/2 e^(dU/T).

    H_a is the Hessian at the minimum, H_b at the saddle, l its one negative eigenvalue (Bovier,
    Eckhoff, Gayrard & Klein, 2004); for one saddle that leads to a deeper or equal well, and
    isotropic noise.  A wide saddle is crossed sooner: the flatness of both matters, not only the
    height.  Raises ValueError unless both are symmetric, H_a is positive definite and H_b has
    exactly one negative eigenvalue.

    Example:
        >>> import numpy as np
        >>> bottom, top = np.diag([1.0, 2.0]), np.diag([-1.0, 2.0])
        >>> round(eyring_kramers_time(1.0, 0.2, bottom, top), 1)
        932.5
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
    log_ratio = 0.5 * (sum(math.log(abs(h)) for h in highs) - sum(math.log(h) for h in lows))
    return 2 * math.pi / -highs[0] * math.exp(barrier / temperature + log_ratio)


@checked
def quasipotential(slope, diffusion, bottom: float, top: float) -> float:
    r"""The barrier E = int U' / D from bottom to top, which replaces dU / T if noise depends on x.

    Times grow as e^E; if D is proportional to the rate, d log time / d log rate = -E over a saddle,
    and 1/2 - E over a boundary (see `boundary_time`).  Raises ValueError unless D > 0 at both ends
    and E > 0.

    Example:
        >>> double_well = lambda x: x**3 - x
        >>> round(quasipotential(double_well, 0.1, -1.0, 0.0), 3)
        2.5
    """
    _noise(diffusion, np.asarray([bottom, top]))

    def integrand(x):
        point = np.asarray([x])
        return float((slope(point) / _noise(diffusion, point))[0])

    height = quad(integrand, bottom, top, epsabs=0, epsrel=1e-11, limit=200)[0]
    if not height > 0:
        raise ValueError(
            f"the top must lie above the bottom of the well, not at {height:.3g} noises"
        )
    return height


@checked
def shaped_kramers_time(
    height: float, bottom: float, top: float, noise_bottom: float, noise_top: float
) -> float:
    r"""Kramers' time for noise that depends on x: 2 pi (D_b / D_a)^1/2 e^E / (U''_a |U''_b|)^1/2.

    height: E of `quasipotential`; noise_bottom, noise_top: D at minimum and barrier, Ito.  The
    relative error is of order 1 / E.  Raises ValueError as `kramers_time`, and unless both D are
    positive.

    Example:
        >>> round(shaped_kramers_time(1.0, 1.0, -1.0, 0.2, 0.2), 1)
        17.1
    """
    if not height > 0:
        raise ValueError(f"the barrier must lie above the well, not at {height:.3g} temperatures")
    if not (bottom > 0 > top):
        raise ValueError(f"a well curves up and a barrier down, not by {bottom} and {top}")
    if not (noise_bottom > 0 and noise_top > 0):
        raise ValueError(f"noise must be positive, not {noise_bottom} and {noise_top}")
    prefactor = (noise_top / noise_bottom / (bottom * -top)) ** 0.5
    return 2 * math.pi * prefactor * math.exp(height)


@checked
def boundary_time(height: float, curvature: float) -> float:
    r"""The mean time to leave a parabola by one end without a saddle: (pi / E)^1/2 e^E / h.

    E = h w^2 / (2 D) for an end at distance w and constant D; half of the time for two ends at +-w.
    The relative error is of order 1 / E.  Raises ValueError unless both are positive.

    Example:
        >>> import math
        >>> round(boundary_time(8.0, curvature=0.5), 3)
        3736.077
        >>> round(math.sqrt(math.pi / 8) * math.exp(8) / 0.5, 3)
        3736.077
    """
    if not (height > 0 and curvature > 0):
        raise ValueError(f"height and curvature must be positive, not {height} and {curvature}")
    return (math.pi / height) ** 0.5 * math.exp(height) / curvature


@checked
def label_noise_height(
    distance: float, learning_rate: float, label_noise: float, batch_size: int
) -> float:
    r"""The barrier E to a distance w if C = label_noise^2 H: B w^2 / (rate label_noise^2).

    It holds in a parabola of any curvature and in any number of dimensions: noise proportional to
    the curvature gives an isotropic stationary law, and at equal width sharp wells are left sooner
    only by the 1 / h of `boundary_time`.  At equal height dU = h w^2 / 2 it is
    2 B dU / (rate label_noise^2 h), and sharp wells are left exponentially sooner (Xie, Sato &
    Sugiyama, 2021).  If the residual makes the noise, C grows with L and times grow as a power
    (Mori et al., 2022).  Raises ValueError unless all are positive.

    Example:
        >>> round(label_noise_height(1.0, 0.1, 0.5, 4), 3)
        160.0
    """
    if not (distance > 0 and learning_rate > 0 and label_noise > 0 and batch_size > 0):
        raise ValueError(
            "distance, learning_rate, label_noise and batch_size must be positive, not "
            f"{distance}, {learning_rate}, {label_noise} and {batch_size}"
        )
    return batch_size * distance**2 / (learning_rate * label_noise**2)


@checked
def discrete_shift(diffusion: float, dt: float) -> float:
    r"""The apparent shift of an end for steps dt: -zeta(1/2) / (2 pi)^1/2 (2 D dt)^1/2.

    It is 0.5826 standard deviations of a step, the mean overshoot of a walk (Chernoff, 1965;
    Broadie, Glasserman & Kou, 1997).  Raises ValueError unless D > 0 and dt >= 0.

    Example:
        >>> round(discrete_shift(0.1, 0.01), 4)
        0.0261
    """
    if not (diffusion > 0 and dt >= 0):
        raise ValueError(f"a shift needs diffusion > 0 and dt >= 0, not {diffusion} and {dt}")
    return OVERSHOOT * (2 * diffusion * dt) ** 0.5


@checked
def discrete_passage_time(
    slope, diffusion, start: float, end: float, low: float, dt: float
) -> float:
    r"""The mean first-passage time of Euler-Maruyama steps dt, to order dt.

    It is `passage_time` to an end shifted outward, because steps miss short visits beyond the end;
    without the shift the error is of order dt^1/2.  It holds if U' times the shift is small against
    D at the end.  Raises ValueError as
    `passage_time` and `discrete_shift`.

    Example:
        >>> double_well = lambda x: x**3 - x
        >>> round(discrete_passage_time(double_well, 0.2, -1.0, 1.0, -3.0, 0.1), 0)
        20.0
    """
    at_end = float(_noise(diffusion, np.asarray([float(end)]))[0])
    return passage_time(slope, diffusion, start, end + discrete_shift(at_end, dt), low)


@checked
def jump_constant(alpha: float) -> float:
    r"""The c in the rate c / |y|^(1 + alpha) at which a stable Levy motion jumps by y.

    Gamma(1 + alpha) sin(pi alpha / 2) / pi for E e^(ikL) = e^(-|k|^alpha); 0 for Gaussian motion.
    Raises ValueError unless 0 < alpha < 2.

    Example:
        >>> round(jump_constant(1.5), 4)
        0.2992
    """
    if not 0 < alpha < 2:
        raise ValueError(f"stable motion that jumps has a tail index in (0, 2), not {alpha}")
    return math.gamma(1 + alpha) * math.sin(math.pi * alpha / 2) / math.pi


@checked
def stable_exit_time(alpha: float, strength: float, left: float, right: float) -> float:
    r"""The mean time to leave a well by one large jump: alpha / (c eps^alpha (left^-a + right^-a)).

    d x = -U' dt + eps dL, L symmetric stable, c of `jump_constant`, ends at distances left and
    right of the minimum, inf for none (Imkeller & Pavlyukevich, 2006, whose jumps come at
    1 / |y|^(1 + alpha)).  It depends on the width, not on the height: a power of eps, no
    exponential.  It holds for eps -> 0, a time long against relaxation; in units of rate x steps,
    steps rate (U' + scale xi) with xi standard symmetric stable have
    eps = scale rate^(1 - 1/alpha).
    Raises ValueError unless 0 < alpha < 2, and strength, left and right are positive.

    Example:
        >>> round(stable_exit_time(1.5, 0.1, 1.0, 1.0), 3)
        79.267
    """
    if not (strength > 0 and left > 0 and right > 0):
        raise ValueError(
            f"strength and distances must be positive, not {strength}, {left}, {right}"
        )
    exit_rate = jump_constant(alpha) * strength**alpha * (left**-alpha + right**-alpha) / alpha
    if exit_rate == 0:
        raise ValueError("a well without ends is never left")
    return 1 / exit_rate


def _passage(slope, diffusion, ends, panels):
    """By Gauss-Legendre panels; the inner integral f solves f' = U' / D f + 1 / D across them."""
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
        rise, panel_rise = climb @ RUNNING.T, climb @ WEIGHTS
        local = half * np.exp(-rise) / noise
        gain, panel_gain = local @ RUNNING.T, local @ WEIGHTS
        flux, total = 0.0, 0.0
        for k, growth in enumerate(np.exp(rise)):
            if k >= before:
                total += half[k, 0] * float(WEIGHTS @ (growth * (flux + gain[k])))
            flux = float(np.exp(panel_rise[k])) * (flux + float(panel_gain[k]))
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
