"""The task of the protocol: clusters of two classes, and the initial weights of the networks."""

import numpy as np

CLUSTERS, INPUTS, UNITS, OUTPUTS = 60, 200, 200, 2
CLUSTER_STD, SEPARATION, TARGET, READOUT = 0.02, 1.0, 0.7, 0.3
EPOCH, RECORDS = 800, 20  # examples; records of the readout in a stretch of as many steps
RATES = (1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2)


def clusters(net: int) -> np.ndarray:
    """Centres (60, 200), uniform on [-2, 2], no two closer than SEPARATION."""
    rng, centres = np.random.default_rng([7, net]), np.empty((0, INPUTS))
    while len(centres) < CLUSTERS:
        new = rng.uniform(-2, 2, (1, INPUTS))
        if not len(centres) or np.linalg.norm(centres - new, axis=1).min() > SEPARATION:
            centres = np.concatenate([centres, new])
    return centres


def targets() -> np.ndarray:
    """0.7 for the class of each cluster, which alternates, and 0.  (60, 2)"""
    return TARGET * np.eye(OUTPUTS)[np.arange(CLUSTERS) % OUTPUTS]


def initial_weights(net: int) -> dict[str, np.ndarray]:
    """An orthogonal W, and a V of small normal numbers."""
    rng = np.random.default_rng([8, net])
    w = np.linalg.qr(rng.normal(size=(INPUTS, UNITS)))[0]
    return {"w": w, "v": READOUT * rng.normal(size=(UNITS, OUTPUTS)) / UNITS**0.5}


def loss(points, product) -> float:
    """The mean of 1/2 |x M - y|^2 over examples about the centres, of a product M (200, 2)."""
    error = points @ product - targets()
    return float(0.5 * (error**2).sum(1).mean() + 0.5 * CLUSTER_STD**2 * (product**2).sum())
