"""Stationary covariance of noisy gradient descent, predicted without a fit, and measured.

Quadratic losses with noise that does not depend on theta, under SGD, momentum, the Langevin
equation and reshuffling; linear regression, whose noise does depend on it, on new examples at each
step and on a fixed set.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from sgdnoise.core import batch_means
from sgdnoise.dynamics import simulate
from sgdnoise.lab import Study, option
from sgdnoise.theory import noise_feedback
from simulations.stationary import claims, figure
from simulations.stationary._cases import CASES, EXAMPLES, INPUTS, P, setup


def run(case: str, *, chains: int) -> xr.Dataset:
    """Stationary chains of one case, as squares in units of the predicted covariance."""
    chosen = CASES[case]
    process, mean, covariance, common, relaxation = setup(chosen)
    epoch = EXAMPLES // chosen.batch if chosen.algorithm == "reshuffled" else 1
    steps = epoch * math.ceil(6 * relaxation / epoch)
    start = jnp.tile(jnp.asarray(mean, jnp.float32), (chains, 1))
    key = jax.random.key([*CASES].index(case))
    thetas = simulate(process, key, start, steps=steps, every=steps, observe=lambda t: t)
    off = np.asarray(thetas, float)[:, 0] - mean
    white = off @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    entries = white.T @ white / len(white) - np.eye(P)
    error = np.sqrt(np.var(white[:, :, None] * white[:, None, :], axis=0) / len(white))
    by_common = np.einsum("ci,ij,cj->c", off, np.linalg.inv(common), off) / P
    values = {
        "square": ("batch", batch_means((white**2).mean(1))),
        "often": ("batch", batch_means(by_common)),
        "worst": float(np.abs(entries / error).max()),
        "steps": float(steps),
        "chains": chains,
        "measured_trace": float((off**2).sum(1).mean()),
    }
    if chosen.algorithm == "online":
        values["feedback"] = noise_feedback(INPUTS, chosen.rate, chosen.batch)
    return xr.Dataset(values)


SMALL = ["descent, fast", "heavy ball", "reshuffled, fast", "given examples"]
study = Study(
    run,
    grid={"case": [*CASES]},
    sizes={"full": {"chains": 40_000}, "small": {"case": SMALL, "chains": 4_000}},
    options={
        "chains": option(int, "chains of each case", least=2),
        "case": option(list, "only this case; repeat for more", choices=CASES),
    },
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
