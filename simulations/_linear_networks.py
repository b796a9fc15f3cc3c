"""Tasks, processes and measures of linear networks, for the studies that simulate them."""

import jax.numpy as jnp
import numpy as np

from sgdnoise.core import Problem
from sgdnoise.dynamics import simulate
from sgdnoise.theory import (
    MLP,
    FlowLimits,
    FlowRegime,
    flow_excess,
    flow_regime,
    products_around,
)

RECORDS, SUBRECORDS = 40, 25  # of each chain; of the loss for each record
PARAMETERS = ("u", "rate λ_max", "time scales", "jitter", "own error %")  # headings of tables


def inputs_with_moments(rng, examples: int, moments) -> np.ndarray:
    """Inputs (n, d) whose second moment is diagonal, with these entries (d,)."""
    white = np.linalg.qr(rng.normal(size=(examples, len(moments))))[0] * examples**0.5
    return white * np.sqrt(moments)


def descend_to_minimum(moment, product, layers, steps: int) -> list:
    """The layers after gradient descent on the loss whose best product (d, o) is given."""
    for _ in range(steps):
        around = products_around(layers)
        gradient = moment @ (around[-1][0] @ layers[-1] - product)
        layers = [w - 0.05 * a.T @ gradient @ c.T for w, (a, c) in zip(layers, around, strict=True)]
    return layers


def two_layer_task(d, h, modes, *, examples=200, gain=1.0, target_noise=0.0):
    """Inputs (n, d) whose second moment is diagonal, targets, and W, V at a minimum.

    The product uses the first half of the inputs only, so that the last one is irrelevant.  modes:
    its singular values, one for each output.  target_noise: drawn once and for all.
    """
    rng, o = np.random.default_rng(0), len(modes)
    x = inputs_with_moments(rng, examples, np.linspace(0.5, 1.5, d))
    used = np.linalg.qr(rng.normal(size=(d // 2, o)))[0]
    mixed = np.linalg.qr(rng.normal(size=(o, o)))[0]
    y = x[:, : d // 2] @ used @ np.diag(modes) @ mixed
    if target_noise:
        y = y + target_noise * rng.normal(size=y.shape)
    w, v = gain * rng.normal(size=(d, h)) / d**0.5, gain * rng.normal(size=(h, o)) / h**0.5
    moment = x.T @ x / examples
    product = np.linalg.solve(moment, x.T @ y / examples)
    return x, y, *descend_to_minimum(moment, product, [w, v], 30_000)


def two_layer_problem(x, y, w, v, *, frozen: bool = False):
    """The problem in single precision, its start theta, and theta -> (W, V).

    With a frozen readout theta holds W alone.
    """
    net = MLP((len(w), len(v), v.shape[1]), "linear")
    data = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    if not frozen:
        start = np.concatenate([w.ravel(), v.ravel()])
        return Problem(net.losses, data), jnp.asarray(start, jnp.float32), net.weights
    readout = jnp.asarray(v, jnp.float32)

    def losses(theta, inputs, targets):
        return 0.5 * ((inputs @ theta.reshape(w.shape) @ readout - targets) ** 2).sum(1)

    def weights(theta):
        return theta.reshape(w.shape), readout

    return Problem(losses, data), jnp.asarray(w.ravel(), jnp.float32), weights


def run_chains(process, key, theta, *, runs: int, every: int, observe, records: int = RECORDS):
    """Records of chains that start alike, one each `every` steps."""
    start = jnp.tile(theta, (runs, 1))
    return simulate(process, key, start, steps=records * every, every=every, observe=observe)


def steps_between_records(steps: float) -> int:
    """The number of steps between the records of a run of about so many steps."""
    return max(1, round(steps / RECORDS))


def records_and_mean_loss(process, key, theta, *, runs: int, every: int, observe, loss):
    """Records of `run_chains`, and the mean loss (run, watch) since the previous record.

    The loss is observed SUBRECORDS times for each record, or after each step where there are less.
    """
    often = max(k for k in range(1, SUBRECORDS + 1) if every % k == 0)
    records = run_chains(
        process,
        key,
        theta,
        runs=runs,
        every=every // often,
        records=RECORDS * often,
        observe=lambda theta: observe(theta) | {"loss": loss(theta)},
    )
    losses = np.asarray(records.pop("loss"), float).reshape(runs, RECORDS, often)
    return {name: value[:, often - 1 :: often] for name, value in records.items()}, losses.mean(2)


def excess_variables(task, layers, minimum: float, refined: dict, base: dict) -> dict:
    """What theory says of the mean loss since the previous record, by the names that results store.

    layers: the weights on the refined flow, (t, in, out) each, from the start on.
    minimum: L, the loss without jitter.  refined, base: arguments of `flow_excess`; the second
    gives kappa Tr H.
    """
    paths = {"excess": refined, "kappa_trace": base}
    numbers = {name: flow_excess(task, layers, **terms) for name, terms in paths.items()}
    means = {name: ("watch", (v[1:] + v[:-1]) / 2) for name, v in numbers.items()}
    return means | {"loss_minimum": minimum}


def regime_variables(task, layers, **strength) -> dict[str, float]:
    """The small parameters of a flow and its own error, by the names that results store.

    layers: the weights along the path, (t, in, out) each; five of its moments count.
    """
    apart = max(1, (len(layers[0]) - 1) // 4)
    regime = flow_regime(task, [path[::apart] for path in layers], **strength)
    return {"own_error" if k == "error" else k: v for k, v in regime._asdict().items()}


def small_parameters(setting) -> FlowRegime:
    """The small parameters of a setting, and theory's own error, as they are stored."""
    return FlowRegime(*(float(setting[name]) for name in (*FlowLimits._fields, "own_error")))


def parameter_cells(setting) -> tuple[str, ...]:
    """The small parameters as text, in the order of PARAMETERS."""
    u, sharpness, haste, jitter, error = small_parameters(setting)
    return (
        *(f"{u:.3f}", f"{sharpness:.2f}", f"{haste:.3f}" if haste < 10 else "-"),
        *(f"{jitter:.4f}", f"{100 * error:.2f}" if error < 10 else "-"),
    )


def allowed_or_own(setting, tolerance: float) -> float:
    """A relative tolerance, or theory's own error where that is larger."""
    return max(tolerance, float(setting.own_error))


def participation_ratio(covariance):
    """(Tr C)^2 / Tr C^2 of symmetric matrices (..., h, h)."""
    return covariance.trace(axis1=-2, axis2=-1) ** 2 / (covariance**2).sum((-2, -1))


def curvatures_across(moment, layers) -> np.ndarray:
    """The curvatures across the minima, ascending, where the moment of the inputs is diagonal.

    They are the eigenvalues of A^1/2 K A^1/2, with A = Sx (x) 1 and the tangent kernel K.
    """
    root = np.kron(np.diag(np.diag(moment) ** 0.5), np.eye(layers[-1].shape[1]))
    kernel = sum(np.kron(a @ a.T, c.T @ c) for a, c in products_around(layers))
    return np.linalg.eigvalsh(root @ kernel @ root)
