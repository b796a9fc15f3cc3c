"""Processes whose stationary covariance is known: quadratic losses and linear regressions."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from sgdnoise import noise
from sgdnoise.core import Problem
from sgdnoise.dynamics import Process, heavy_ball, langevin, nesterov, sgd
from sgdnoise.noise import Normal, reshuffled
from sgdnoise.theory import (
    finite_covariance,
    heavy_ball_covariance,
    langevin_covariance,
    nesterov_covariance,
    online_covariance,
    reshuffled_covariance,
    stationary_covariance,
)

P, EXAMPLES, BATCH = 4, 16, 4  # parameters, examples, and examples of a step
CURVATURES = np.asarray([0.1, 0.4, 1.0, 2.0])
SUBSTEPS = 16  # steps of the Langevin equation in one of SGD
INPUTS = np.diag([1.0, 0.5, 0.25, 0.15])  # covariance of the inputs of the online regression
NOISE = 0.5  # standard deviation of its targets


class Case(NamedTuple):
    """An algorithm, its learning rate, and what else it needs."""

    algorithm: str
    rate: float
    momentum: float = 0.0
    batch: int = BATCH


CASES = {
    "descent, slow": Case("descent", 0.05),
    "descent, fast": Case("descent", 0.8),
    "equation": Case("langevin", 0.3),
    "heavy ball": Case("heavy ball", 0.3, 0.9),
    "heavy ball, fast": Case("heavy ball", 1.0, 0.9),
    "Nesterov": Case("nesterov", 0.3, 0.9),
    "reshuffled, slow": Case("reshuffled", 0.05),
    "reshuffled, fast": Case("reshuffled", 0.5),
    "online regression, slow": Case("online", 0.05, batch=1),
    "online regression, fast": Case("online", 0.6, batch=4),
    "given examples": Case("finite", 0.2, batch=2),
    "given examples, distinct": Case("distinct", 0.2, batch=4),
}
COMMON_FORMULA = {  # algorithm -> the formula that is often used in place of the right one
    "descent": "by the stochastic equation",
    "langevin": "by descent's own formula",
    "heavy ball": "by the equation at rate / (1 - momentum)",
    "nesterov": "by the equation at rate / (1 - momentum)",
    "reshuffled": "as if batches were independent",
    "online": "by rate σ² / 2B",
    "finite": "as if batches were distinct",
    "distinct": "as if drawn with replacement",
}


class Setup(NamedTuple):
    """A process, its stationary mean and covariance, one by the common formula, and a time."""

    process: Process
    mean: np.ndarray
    covariance: np.ndarray
    common: np.ndarray
    relaxation: float  # the longest relaxation time, in steps


def quadratic() -> tuple[Problem, np.ndarray, np.ndarray]:
    """A quadratic loss around centres, its Hessian, the covariance of an example's gradient."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(P, P)))[0]
    hessian = basis * CURVATURES @ basis.T
    centres = rng.normal(size=(EXAMPLES, P)) * [1, 2, 0.5, 1]
    centres -= centres.mean(0)
    curvature = jnp.asarray(hessian, jnp.float32)

    def losses(theta, centre):
        difference = theta - centre
        return 0.5 * ((difference @ curvature) * difference).sum(-1)

    problem = Problem(losses, (jnp.asarray(centres, jnp.float32),))
    return problem, hessian, hessian @ centres.T @ centres @ hessian / EXAMPLES


def regression() -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, p) and targets (n,) with residuals of different size."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(EXAMPLES, P)) * [1.2, 1.0, 0.7, 0.5]
    y = x @ rng.normal(size=P) + rng.normal(size=EXAMPLES) * np.linspace(0.3, 1.2, EXAMPLES)
    return x, y


def setup(case: Case) -> Setup:
    """The process of a case and what theory says of it."""
    if case.algorithm in ("finite", "distinct"):
        return _finite(case)
    if case.algorithm == "online":
        covariance = online_covariance(INPUTS, NOISE, case.rate, case.batch)
        common = case.rate * 0.25 / (2 * case.batch) * np.eye(P)
        process = online(case.rate, case.batch)
        return Setup(process, np.zeros(P), covariance, common, 1 / (case.rate * 0.15))
    return _quadratic(case)


def _quadratic(case):
    rate, mu = case.rate, case.momentum
    problem, hessian, of_example = quadratic()
    c, slowest = of_example / case.batch, float(CURVATURES[0])
    model = noise.minibatch(problem, case.batch)
    match case.algorithm:
        case "descent":
            process, covariance = sgd(model, rate), stationary_covariance(hessian, c, rate)
            common = langevin_covariance(hessian, c, rate)
        case "langevin":
            step = rate / SUBSTEPS  # its covariance is that of SGD at this rate, by theory
            process = langevin(model, rate, step)
            covariance = stationary_covariance(hessian, c * SUBSTEPS, step)
            common = stationary_covariance(hessian, c, rate)
            return Setup(process, np.zeros(P), covariance, common, 1 / (step * slowest))
        case "reshuffled":
            epoch = EXAMPLES // case.batch
            model = noise.from_weights(problem, reshuffled(EXAMPLES, case.batch))
            c = c * (EXAMPLES - case.batch) / (EXAMPLES - 1)
            process, covariance = sgd(model, rate), reshuffled_covariance(hessian, c, rate, epoch)
            common = stationary_covariance(hessian, c, rate)
        case _:
            rule, of_rule = (
                (heavy_ball, heavy_ball_covariance)
                if case.algorithm == "heavy ball"
                else (nesterov, nesterov_covariance)
            )
            common = langevin_covariance(hessian, c, rate / (1 - mu))
            relaxation = max(1 / (rate / (1 - mu) * slowest), 2 / (1 - mu))
            covariance = of_rule(hessian, c, rate, mu)
            return Setup(rule(model, rate, mu), np.zeros(P), covariance, common, relaxation)
    return Setup(process, np.zeros(P), covariance, common, 1 / (rate * slowest))


def _finite(case):
    x, y = regression()
    replacement = case.algorithm == "finite"
    covariance = finite_covariance(x, y, case.rate, case.batch, replacement)
    common = finite_covariance(x, y, case.rate, case.batch, not replacement)
    data = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    problem = Problem(lambda t, a, b: 0.5 * (a @ t - b) ** 2, data)
    minimum = np.linalg.lstsq(x, y, rcond=None)[0]
    slowest = np.linalg.eigvalsh(x.T @ x / len(x))[0]
    model = noise.minibatch(problem, case.batch, replacement)
    process = sgd(model, case.rate)
    return Setup(process, minimum, covariance, common, 1 / (case.rate * slowest))


def online(rate: float, batch: int) -> Process:
    """Regression of NOISE eps on new normal inputs of covariance INPUTS at each step."""
    roots = jnp.asarray(np.diag(INPUTS) ** 0.5, jnp.float32)

    def step(theta, white):
        x = white[: batch * P].reshape(batch, P) * roots
        return theta - rate * (x @ theta - NOISE * white[batch * P :]) @ x / batch

    return Process(step, Normal(batch * (P + 1)), rate)
