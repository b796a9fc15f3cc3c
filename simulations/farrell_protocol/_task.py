"""The task of the group's protocol: clusters of two classes, and where networks start."""

import numpy as np

__all__ = ["clusters", "start", "targets"]

CLUSTERS, INPUTS, UNITS, OUTPUTS = 60, 200, 200, 2
SPREAD, SEPARATION, TARGET, READOUT = 0.02, 1.0, 0.7, 0.3
EPOCH, SAVES = 800, 20  # examples, and looks at the readout in a stretch of as many steps
RATES = (1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2)


def clusters(net: int) -> np.ndarray:
    """Centres (60, 200), uniform on [-2, 2], none nearer to another than SEPARATION."""
    rng, found = np.random.default_rng([7, net]), np.empty((0, INPUTS))
    while len(found) < CLUSTERS:
        one = rng.uniform(-2, 2, (1, INPUTS))
        if not len(found) or np.linalg.norm(found - one, axis=1).min() > SEPARATION:
            found = np.concatenate([found, one])
    return found


def targets() -> np.ndarray:
    """0.7 for the class of each cluster, which alternates, and 0.  (60, 2)"""
    return TARGET * np.eye(OUTPUTS)[np.arange(CLUSTERS) % OUTPUTS]


def start(net: int) -> dict[str, np.ndarray]:
    """W orthogonal, V of small normal numbers."""
    rng = np.random.default_rng([8, net])
    w = np.linalg.qr(rng.normal(size=(INPUTS, UNITS)))[0]
    return {"w": w, "v": READOUT * rng.normal(size=(UNITS, OUTPUTS)) / UNITS**0.5}
