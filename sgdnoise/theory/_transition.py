"""Steps of the Ornstein-Uhlenbeck process of any length, as a matrix and a covariance.

Known: all of it (Van Loan, 1978; Gillespie, 1996).
"""

import math

import numpy as np
from scipy.linalg import expm


def transition(drift: np.ndarray, diffusion: np.ndarray, time: float):
    r"""exp(-A t) and Cov = int_0^t exp(-A s) D exp(-A^T s) ds, each (p, p), for any A.

    One exponential of a block matrix (Van Loan, 1978) over a time so short that |A| t <= 1, doubled
    as often as it takes: only sums of covariances, so that long times cost no digits.
    """
    length = float(np.linalg.norm(drift, 2)) * time
    doublings = math.ceil(math.log2(max(length, 1)))
    p = len(drift)
    block = np.block([[-drift, diffusion], [np.zeros((p, p)), drift.T]])
    block = expm(time / 2**doublings * block)
    decay = block[:p, :p]
    step = decay, block[:p, p:] @ decay.T
    for _ in range(doublings):
        step = compose(step, step)
    return step[0], symmetrised(step[1])


def compose(first, second):
    """A step (M, Q) and then another, as one."""
    return second[0] @ first[0], second[0] @ first[1] @ second[0].T + second[1]


def symmetrised(matrix):
    return (matrix + matrix.T) / 2
