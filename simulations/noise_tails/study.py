"""How well the shape of gradient noise can be estimated: tails, normality, and apparent tails.

Estimators of a tail index on known laws; Gaussian noise of many scales, pooled or not; the tail
that multiplicative noise makes, against Kesten's equation; tests of normality with and without the
null hypothesis; and the gradients of a network on digits.
"""

from functools import partial

import numpy as np
import torch
import xarray as xr
from scipy.stats import levy_stable

from sgdnoise.data import digits
from sgdnoise.lab import Study, merge_sweeps, option, size_table
from sgdnoise.nets import as_problem
from sgdnoise.noise import METHODS, extreme_value_index, gaussianity, tail_index
from sgdnoise.theory import kesten_index
from simulations.noise_tails import claims, figure
from simulations.noise_tails._cases import KESTEN

LAWS = {  # (rng, m) -> m numbers
    "Pareto 2": lambda rng, m: rng.choice([-1, 1], m) * (1 + rng.pareto(2, m)),
    "Student 1.5": lambda rng, m: rng.standard_t(1.5, m),
    "Student 3": lambda rng, m: rng.standard_t(3, m),
    "Student 5": lambda rng, m: rng.standard_t(5, m),
    "stable 1.2": lambda rng, m: levy_stable.rvs(1.2, 0, size=m, random_state=rng),
    "stable 1.7": lambda rng, m: levy_stable.rvs(1.7, 0, size=m, random_state=rng),
    "Gaussian": lambda rng, m: rng.normal(size=m),
}
SHAPES = {"24 x 60": (24, 60), "40 x 200": (40, 200), "100 x 3": (100, 3), "12 x 5": (12, 5)}
ALTERNATIVES = {  # noise that is not Gaussian, (rng, m) -> (m, 20)
    "random scale": lambda rng, m: rng.normal(size=(m, 20)) * rng.gamma(4, size=(m, 1)) ** 0.5,
    "Student 5": lambda rng, m: rng.standard_t(5, size=(m, 20)),
    "exponential": lambda rng, m: rng.exponential(size=(m, 20)),
}
POWER_SAMPLES = (25, 50, 100, 200, 400)
POOLED = ("hill", "stable", "blocks")
DRAWS = 99  # of the null hypothesis of a test
LEVEL_DRAWS = 1999  # of the null hypothesis where the level of the test is measured
PROJECTIONS, CHUNK = 8, 5000  # directions of the noise whose moments are measured; batches at once


def index(law: str, samples: int, *, repeats: int) -> xr.Dataset:
    """Every estimator on repeats of a law; `moments` gives the inverse index, which may be zero."""
    rng = np.random.default_rng([list(LAWS).index(law), samples])
    rows = np.full((repeats, len(METHODS), 2), np.nan)
    for row in rows:
        x = LAWS[law](rng, samples)
        for column, method in enumerate(METHODS):
            moments = method == "moments"
            estimate = extreme_value_index(x) if moments else tail_index(x, method=method)
            row[column] = estimate.value, estimate.stderr
    axes = ("repeat", "estimator")
    variables = {"index": (axes, rows[..., 0]), "index_stderr": (axes, rows[..., 1])}
    return xr.Dataset(variables, {"estimator": list(METHODS)})


def mixing(spread: float, member: int, *, rows: int = 400, columns: int = 200) -> xr.Dataset:
    """Gaussian noise whose log-scales have the deviation `spread`: pooled, and by layers."""
    rng = np.random.default_rng([member, round(100 * spread)])
    x = rng.normal(size=(rows, columns)) * np.exp(spread * rng.normal(size=columns))
    layers = np.zeros(columns)
    pooled = [float(tail_index(x.reshape(-1), method=m).value) for m in POOLED]
    separate = [float(tail_index(x, method=m, layers=layers).value[0]) for m in POOLED]
    values = np.asarray([pooled, separate]).T
    coords = {"by": list(POOLED), "pooling": ["naive", "layers"]}
    return xr.Dataset({"mixed": (("by", "pooling"), values)}, coords)


def chain(setting: int, chain_seed: int, *, chains: int, steps: int = 60) -> xr.Dataset:
    """Hill's index of theta after regression on one fresh Gaussian batch per step."""
    rate, batch = KESTEN[setting]
    rng, theta = np.random.default_rng([setting, chain_seed]), np.zeros(chains)
    for _ in range(steps):
        theta = (1 - rate * rng.chisquare(batch, chains) / batch) * theta + rng.normal(size=chains)
    return xr.Dataset(
        {"theta_index": float(tail_index(theta).value), "kesten": kesten_index(rate, batch)}
    )


def null(shape: str, *, tables: int, tests: int) -> xr.Dataset:
    """p-values of the test on Gaussian noise with a covariance over four decades.

    Tests of a table share the draws of the null hypothesis; only tables are independent.
    """
    m, p = SHAPES[shape]
    rng = np.random.default_rng([m, p])
    scales, values = np.exp(2 * rng.normal(size=p)), np.empty((tables, tests))
    for table in range(tables):
        factor = scales[:, None] * np.linalg.qr(rng.normal(size=(p, p)))[0]
        for test in range(tests):
            x = rng.normal(size=(m, p)) @ factor
            values[table, test] = gaussianity(x, draws=LEVEL_DRAWS, rng=table).p
    return xr.Dataset({"p_value": (("table", "test"), values)})


def power(other: str, m: int, *, tests: int) -> xr.Dataset:
    """The fraction of tests that reject noise of another shape at 5%."""
    rng = np.random.default_rng([list(ALTERNATIVES).index(other), m])
    samples = (ALTERNATIVES[other](rng, m) for _ in range(tests))
    rejected = [gaussianity(x, draws=DRAWS).p <= 0.05 for x in samples]
    return xr.Dataset({"found": float(np.mean(rejected))})


def network(stage: str, *, batches: tuple[int, ...], draws: int, sampled: int) -> xr.Dataset:
    """Minibatch noise of a network on digits: its normality by batch size, its tails by layer.

    sampled: batches for the fourth moment, of the noise in random directions.
    """
    torch.set_num_threads(1)
    gradients, layers = _gradients(200 if stage == "trained" else 0)
    noise = gradients - gradients.mean(0)
    rng, rows, tails = np.random.default_rng(0), [], []
    projected = noise @ rng.normal(size=(noise.shape[1], PROJECTIONS))
    for batch in batches:
        picked = rng.integers(0, len(noise), (draws, batch))
        x = np.asarray([noise[examples].mean(0) for examples in picked])
        moment = gaussianity(_batch_noise(projected, batch, sampled, rng), draws=1).mardia
        rows.append([gaussianity(x, draws=DRAWS).p, moment.value, moment.stderr])
        tails.append([_layer_indices(x, layers, method) for method in POOLED])
    p, kurtosis, error = np.asarray(rows).T
    return xr.Dataset(
        {
            "batch_p": ("batch", p),
            "mardia": ("batch", kurtosis),
            "mardia_stderr": ("batch", error),
            "one_example": _excess(projected),
            "layer_index": (("batch", "by", "layer"), np.asarray(tails)),
        },
        {"batch": list(batches), "by": list(POOLED), "layer": ["first", "second", "pooled"]},
    )


def _batch_noise(noise, batch, count, rng):
    """Means of `count` batches drawn with replacement, (count, p)."""
    sizes = [min(CHUNK, count - start) for start in range(0, count, CHUNK)]
    return np.concatenate(
        [noise[rng.integers(0, len(noise), (size, batch))].mean(1) for size in sizes]
    )


def _excess(points):
    """E|y|^4 / (k (k + 2)) - 1 of whitened points, over the points themselves: no sample."""
    n, k = points.shape
    white = np.linalg.svd(points - points.mean(0), full_matrices=False)[0] * n**0.5
    return float(np.mean((white**2).sum(1) ** 2) / (k * (k + 2)) - 1)


def _layer_indices(x, layers, method):
    """The tail index in each layer, each column rescaled, and of all numbers pooled."""
    separate = tail_index(x, method=method, layers=layers).value
    return [*separate, float(tail_index(x.reshape(-1), method=method).value)]


def _gradients(steps):
    """Per-example gradients of an MLP after full-batch steps, and the layer of each parameter."""
    data = digits()
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.Tanh(), torch.nn.Linear(16, 10))
    loss = partial(torch.nn.functional.cross_entropy, reduction="none")
    inputs = torch.as_tensor(data.inputs, dtype=torch.float32)
    targets = torch.as_tensor(data.targets)
    labels = targets.argmax(1) if targets.ndim > 1 else targets.long()
    problem, theta = as_problem(net, loss, inputs, labels)
    for _ in range(steps):
        theta = theta - 0.5 * problem.gradient(theta)
    layers = np.where(np.arange(len(theta)) < 65 * 16, 0, 1)
    return problem.gradients(theta).detach().numpy().astype(float), layers


def execute(parameters: dict, session) -> xr.Dataset:
    """All experiments, each on its own grid."""
    p, seeds = parameters, list(range(parameters["seeds"]))
    settings = list(range(len(KESTEN)))
    nets = {"batches": tuple(p["batches"]), "draws": p["draws"], "sampled": p["sampled"]}
    sweeps = {
        "index": (
            partial(index, repeats=p["repeats"]),
            {"law": list(LAWS), "samples": list(p["samples"])},
        ),
        "mixing": (mixing, {"spread": list(p["spreads"]), "member": seeds}),
        "chain": (
            partial(chain, chains=p["chains"]),
            {"setting": settings, "chain_seed": seeds},
        ),
        "null": (
            partial(null, tables=p["tables"], tests=p["tests"]),
            {"shape": list(SHAPES)},
        ),
        "power": (
            partial(power, tests=p["power"]),
            {"other": list(ALTERNATIVES), "m": list(POWER_SAMPLES)},
        ),
        "network": (partial(network, **nets), {"stage": ["start", "trained"]}),
    }
    return merge_sweeps(session.sweep_all(sweeps))


FULL, SMALL = size_table(  # parameter: full, small
    {
        "samples": ((1000, 5000), (300,)),
        "repeats": (240, 4),
        "spreads": ((0, 0.5, 1, 2), (0, 2)),
        "chains": (100_000, 5000),
        "seeds": (40, 2),
        "tables": (40, 2),
        "tests": (500, 10),
        "power": (40, 4),
        "batches": ((1, 4, 16, 64), (1, 16)),
        "draws": (800, 150),
        "sampled": (200_000, 4000),
    }
)

study = Study(
    execute=execute,
    sizes={"full": FULL, "small": SMALL},
    options={
        "repeats": option(int, "repeats of each law", least=2),
        "seeds": option(int, "repeats of mixtures and chains", least=2),
    },
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
