"""Stationary scales of SGD driven by stable noise, and the rate of infinite variance."""


def diverging(batch: int, curvature: float, dimension: int) -> float:
    """The rate 2 B / (B + d + 1) / h from which the variance is infinite, d equal inputs."""
    return 2 * batch / (batch + dimension + 1) / curvature


def driven_scale(rate: float, alpha: float, jump: float, curvature: float = 1.0) -> float:
    r"""Scale of the stationary stable law of theta <- theta - rate (h theta + jump S).

    It is exactly that of contracted jumps:
    s^alpha = (rate jump)^alpha / (1 - |1 - rate h|^alpha).
    """
    contraction = abs(1 - rate * curvature) ** alpha
    return rate * jump / (1 - contraction) ** (1 / alpha)


def flow_scale(rate: float, alpha: float, jump: float, curvature: float = 1.0) -> float:
    """The scale for d theta = -h theta dt + rate^(1 - 1/alpha) jump dL, the limit of small rate."""
    return jump * (rate ** (alpha - 1) / (alpha * curvature)) ** (1 / alpha)
