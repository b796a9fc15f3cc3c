"""The moment closure of SGD against runs, far from a minimum.

Tanh networks learn a noisy teacher from a random start.  Means over runs of the participation ratio
of their hidden layer, of their loss and of theta are compared with the closure of mean and
covariance, averaged over the covariance, with derivatives at the mean alone ("plain") and of low
rank, and with gradient descent without noise.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from sgdnoise import noise
from sgdnoise.core import Factor, Problem, batch_means
from sgdnoise.dimension import participation_ratio
from sgdnoise.dynamics import sgd, simulate
from sgdnoise.lab import Study, option
from sgdnoise.theory import MLP, closure_error, moment_closure, second_order_mean
from simulations.closure import claims, figure
from simulations.closure._draws import closure_over_draws

RECORDS = 6  # moments at which a run is recorded
LEADING = 30  # eigenvectors of the covariance over which derivatives are averaged
GROUPS = 256  # of runs, whose means are stored
DRAWS = 2048  # normal theta, in pairs of opposite sign, for the remainder of the second order
TEACHER_UNITS, TEACHER_GAIN, RESIDUAL, BATCH, LABEL_NOISE = 4, 1.5, 0.5, 4, 0.5
RANKS = (10, 30)
METHODS = ("descent", "middle", "closure", "plain", *(f"rank {rank}" for rank in RANKS))
METHODS = (*METHODS, claims.ALL_MODES)  # the last where LEADING are few of the eigenvectors


class Case(NamedTuple):
    """A network of widths (d, h, o), its number of examples, its noise, rate and duration."""

    kind: str  # minibatch, label or none
    rate: float
    time: float = 48.0
    widths: tuple[int, int, int] = (5, 8, 2)
    examples: int = 60


KINDS, RATES = ("minibatch", "label"), (0.05, 0.1, 0.2)
CASES = {f"{kind}, {rate}": Case(kind, rate) for kind in KINDS for rate in RATES}
CASES |= {f"{kind}, wide": Case(kind, 0.05, 4.8, (20, 22, 3), 100) for kind in KINDS}
CASES |= {"no noise": Case("none", 0.1)}


def task(case: Case):
    """A network, its problem and its initial parameters; a tanh teacher with residuals."""
    rng, (d, h, o) = np.random.default_rng(2), case.widths
    x, teacher = rng.normal(size=(case.examples, d)), MLP((d, TEACHER_UNITS, o))
    y = teacher.outputs(TEACHER_GAIN * _initial(rng, teacher), x)
    y = y / y.std() + RESIDUAL * rng.normal(size=y.shape)
    net, data = MLP((d, h, o)), tuple(jnp.asarray(array, jnp.float32) for array in (x, y))
    return net, Problem(net.losses, data), jnp.asarray(_initial(rng, net), jnp.float32)


def _initial(rng, net):
    d, h, o = net.widths
    first = rng.normal(size=d * h) / d**0.5
    return np.concatenate([first, rng.normal(size=h * o) / h**0.5])


def noise_of(case: Case, problem: Problem):
    """The noise model of a case."""
    match case.kind:
        case "label":
            return noise.label_noise(problem, BATCH, LABEL_NOISE)
        case "minibatch":
            return noise.minibatch(problem, BATCH)
    return noise.full_batch(problem)


def run(case: str, *, runs: int, duration: float, ranks: tuple[int, ...]) -> xr.Dataset:
    """Runs of one case, and the prediction of each method at the same moments.

    duration: fraction of the time of the case.
    """
    setting = CASES[case]
    net, problem, start = task(setting)
    steps, observe = steps_of(setting, duration), observable(net, problem)
    model = noise_of(setting, problem)
    key = jax.random.fold_in(jax.random.key(0), list(CASES).index(case))
    process = sgd(model, setting.rate)
    theta = simulate(process, key, jnp.tile(start, (runs, 1)), **steps).theta
    descent = sgd(noise.full_batch(problem), setting.rate)
    noiseless = simulate(descent, key, start[None], **steps).theta[0]
    noisy = setting.kind != "none"
    average = min(LEADING, len(start)) if noisy else 0
    plain = moment_closure(model, start, learning_rate=setting.rate, **steps)
    closure = moment_closure(model, start, learning_rate=setting.rate, averaged=average, **steps)
    paths = np.concatenate([np.stack([noiseless, closure.mean]), theta])
    values = np.asarray(jax.jit(jax.vmap(jax.vmap(observe)))(paths))
    predictions = {"descent": values[0], "middle": values[1]}
    predictions["closure"] = _expected(problem, observe, closure)
    predictions["plain"] = _expected(problem, observe, plain)
    for rank in (r for r in ranks if r < len(start) and noisy):
        zero = Factor(jnp.zeros((rank, len(start)), jnp.float32))
        low_rank = moment_closure(model, start, zero, learning_rate=setting.rate, **steps)
        predictions[f"rank {rank}"] = _expected(problem, observe, low_rank)
    if case.endswith("wide"):
        predictions[claims.ALL_MODES] = over_all_modes(setting, duration)
    errors = np.zeros((2, RECORDS, 2))
    if noisy:
        errors = np.stack([neglected(problem, model, closure), remainder(observe, closure)])
    theta, noiseless = np.asarray(theta, float), np.asarray(noiseless, float)
    return _dataset(closure, predictions, noiseless, theta, values[2:], errors)


def steps_of(setting: Case, duration: float) -> dict[str, int]:
    """The steps of a run, and those between two records."""
    every = max(1, round(setting.time * duration / setting.rate / RECORDS))
    return {"steps": RECORDS * every, "every": every}


def observable(net, problem):
    """The function theta -> participation ratio of the hidden layer, and loss.  (2,)"""

    def observe(theta):
        ratio = participation_ratio(net.hidden(theta, problem.examples[0]))
        return jnp.stack([ratio, problem.value(theta)])

    return observe


def over_all_modes(setting: Case, duration: float):
    """The mean of the observed numbers by `closure_over_draws`, at each moment.  -> (watch, 2)"""
    net, problem, start = task(setting)
    model, steps = noise_of(setting, problem), steps_of(setting, duration)
    closure = closure_over_draws(model, start, learning_rate=setting.rate, **steps)
    return _expected(problem, observable(net, problem), closure)


def _expected(problem, observe, closure):
    """The mean of the observed numbers to second order, at each moment.  -> (watch, 2)"""
    low_rank = isinstance(closure.covariance[0], Factor)
    matrices = [s.rows if low_rank else s for s in closure.covariance]

    @jax.jit
    def at(mean, matrix):
        covariance = Factor(matrix) if low_rank else matrix
        return second_order_mean(problem, observe, mean, covariance)

    return np.stack([np.asarray(at(*pair)) for pair in zip(closure.mean, matrices, strict=True)])


def neglected(problem, model, closure):
    """What the closure neglects, at each moment.  -> (watch, 2)

    The closure error and the feedback (E Tr C - Tr C(m)) / Tr C(m), of the leading eigenvectors.
    """

    def trace(theta):
        return model.covariance(theta).trace()

    @jax.jit
    def at(mean, covariance):
        values, vectors = jnp.linalg.eigh(covariance)
        rows = jnp.sqrt(jnp.clip(values, 0))[-LEADING:, None] * vectors[:, -LEADING:].T
        feedback = second_order_mean(problem, trace, mean, Factor(rows)) / trace(mean) - 1
        return jnp.stack([closure_error(problem, mean, Factor(rows)), feedback])

    pairs = zip(closure.mean, closure.covariance, strict=True)
    return np.stack([np.asarray(at(*pair)) for pair in pairs])


def remainder(observe, closure):
    """What the second order leaves out of the means of the observed numbers.  -> (watch, 2)

    E [f(m + z) + f(m - z)] / 2 - f(m) - z f'' z / 2 over normal z of covariance S: all higher
    orders of a normal law.  Pairs of opposite sign and the subtraction leave little error.
    """
    size = closure.mean.shape[-1]
    white = jax.random.normal(jax.random.key(1), (DRAWS, size), jnp.float32)

    @jax.jit
    def at(mean, covariance):
        values, vectors = jnp.linalg.eigh(covariance)
        middle, factor = observe(mean), jnp.sqrt(jnp.clip(values, 0)) * vectors

        def of_pair(normal):
            z = (factor @ normal).astype(mean.dtype)

            def slope(theta):
                return jax.jvp(observe, (theta,), (z,))[1]

            second = jax.jvp(slope, (mean,), (z,))[1]
            return (observe(mean + z) + observe(mean - z)) / 2 - middle - second / 2

        return jax.vmap(of_pair)(white).mean(0)

    pairs = zip(closure.mean, closure.covariance, strict=True)
    return np.stack([np.asarray(at(*pair)) for pair in pairs])


def _dataset(closure, predictions, noiseless, theta, values, errors):
    """Means of groups of runs, predictions and the regime.

    shift: that of theta along that of the closure.
    """
    shift = np.asarray(closure.mean, float) - noiseless
    along = ((theta - noiseless) * shift).sum(-1) / np.maximum((shift**2).sum(-1), 1e-30)
    blank = np.full((RECORDS, 2), np.nan)
    table = np.stack([np.asarray(predictions.get(name, blank)) for name in METHODS])
    groups = batch_means(np.concatenate([values, along[..., None]], -1), GROUPS)
    ratio, loss, along = np.moveaxis(groups.astype(np.float32), -1, 0)
    neglects, remainders = errors
    return xr.Dataset(
        {
            "ratio": (("run", "watch"), ratio),
            "loss": (("run", "watch"), loss),
            "shift": (("run", "watch"), along),
            "ratio_by": (("how", "watch"), table[..., 0]),
            "loss_by": (("how", "watch"), table[..., 1]),
            "ratio_remainder": ("watch", remainders[:, 0]),
            "loss_remainder": ("watch", remainders[:, 1]),
            "strain": ("watch", neglects[:, 0]),
            "feedback": ("watch", neglects[:, 1]),
            "spread": ("watch", np.asarray([np.trace(s) for s in closure.covariance])),
            "spread_runs": ("watch", theta.var(0, ddof=1).sum(-1)),
            "time": ("watch", np.asarray(closure.time)),
            "parameters": theta.shape[-1],
        },
        {"how": list(METHODS)},
    )


study = Study(
    run,
    grid={"case": [*CASES]},
    sizes={
        "full": {"runs": 4096, "duration": 1.0, "ranks": RANKS},
        "small": {
            "case": ["minibatch, 0.1", "no noise"],
            "runs": 512,
            "duration": 0.125,
            "ranks": (10,),
        },
    },
    options={
        "case": option(list, "only this case; may be repeated", choices=list(CASES)),
        "runs": option(int, "runs of each case", least=2),
    },
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
