"""The study of the balance: its nets, parts of a small run, and what it says of made-up ones."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from scipy.integrate import dblquad
from witnesses import SURE

from sgdnoise.lab import Session, exit_status
from sgdnoise.theory import hessian_trace
from simulations.noise_balance import _chains as chains
from simulations.noise_balance import claims, study
from simulations.noise_balance import figure as drawing

SHORT = {"runs": 8, "fraction": 0.02, "seed": 0}
NAMES = {
    "mix": (
        ("level", "rho"),
        ("ratio", "hidden", "gap", "gap_exact", "excess"),
        ("reach", "sharpness", "jitter", "excess_label", "own_error", "haste"),
    ),
    "plane": (
        ("fan", "rho"),
        ("ratio", "hidden", "imbalance", "excess"),
        ("reach", "sharpness", "jitter", "excess_label", "own_error", "haste"),
    ),
    "unit": (("unit",), ("law", "exact"), ("scale",)),
    "grow": (("fan",), ("growth", "growth_exact", "still"), ("scale",)),
    "decay": (("temperature",), ("ratio", "large", "small"), ("reach", "jitter")),
    "contrast": (
        ("kind",),
        ("ratio", "exact", "excess"),
        ("amplification", "sharpness", "haste", "jitter", "own_error"),
    ),
    "law": (("sizes",), ("hidden", "volume"), ("hidden_without", "volume_without")),
}
AXES = {
    "level": ["weak", "strong"],
    "rho": [0.3, 1.0],
    "fan": [6, 2],
    "unit": ["linear 4 to 4"],
    "temperature": [1e-3, 0.1],
    "kind": ["label", "isotropic", "none"],
    "sizes": ["1, 1, 1"],
}


@pytest.fixture
def made():
    """Results in which all is as predicted, 2.0, to a hundredth of an allowance."""
    variables = {}
    for prefix, (axes, measured, unmeasured) in NAMES.items():
        shape = tuple(len(AXES[axis]) for axis in axes)
        for name in measured:
            variables[f"{prefix}_{name}"] = (axes, np.full(shape, 2.0))
            variables[f"{prefix}_{name}_predicted"] = (axes, np.full(shape, 2.0))
            variables[f"{prefix}_{name}_stderr"] = (axes, np.full(shape, 1e-4))
        for name in unmeasured:
            variables[f"{prefix}_{name}"] = (axes, np.full(shape, 0.04))
    paths = (("kind", "watch"), np.linspace(3, 2, 36).reshape(3, 12))
    variables |= {f"contrast_{name}": paths for name in ("path", "flow", "time")}
    return xr.Dataset(variables, AXES)


def test_without_noise_the_layers_of_the_committed_runs_stay_as_they_are():
    still = study.study.read()[""].grow_still
    assert np.isfinite(still).any()
    assert float(abs(still).max()) < 1e-3


def test_what_is_as_predicted_holds_and_is_drawn(made):
    verdicts = claims.verdicts(made)
    assert all(v.holds for v in verdicts)
    figures = drawing.figures(made)
    assert all(isinstance(figure, Figure) for _, figure in figures.values())
    assert all(
        len(row) == len(table.headings) for table in claims.tables(made) for row in table.rows
    )


@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("mix_ratio", 0.2),
        ("mix_gap", 0.05),
        ("mix_gap_exact", 0.02),
        ("plane_ratio", 0.2),
        ("plane_imbalance", 0.3),
        ("unit_law", 0.02),
        ("unit_exact", 0.01),
        ("grow_growth", 0.02),
        ("grow_growth_exact", 0.02),
        ("decay_ratio", 0.1),
        ("decay_large", 0.1),
        ("decay_small", 0.1),
        ("contrast_ratio", 0.1),
        ("contrast_exact", 0.2),
        ("mix_excess", 0.1),
        ("plane_excess", 0.1),
        ("contrast_excess", 0.1),
        ("law_hidden", 0.1),
        ("law_volume", 0.1),
    ],
)
def test_what_is_otherwise_than_predicted_fails(made, name, off):
    assert exit_status(claims.verdicts(made.assign({name: made[name] + off}))) == 1


def test_strengths_that_lie_on_two_curves_fail(made):
    wrong = made.mix_ratio * xr.where(made.level == "strong", 1.1, 1.0)
    both = {"mix_ratio": wrong, "mix_ratio_predicted": wrong}
    failed = [v.name for v in claims.verdicts(made.assign(both)) if v.outcome == "fails"]
    assert failed == [f"rho = {rho:g}: PR, strong over weak label noise" for rho in (0.3, 1)]


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [("reach", 0.099, 0.101), ("sharpness", 0.199, 0.201), ("jitter", 0.049, 0.051)],
)
def test_the_regime_has_its_borders(made, name, inside, outside):
    for value, claimed in ((inside, True), (outside, False)):
        data = made.isel(level=0, rho=0).assign({f"mix_{name}": value})
        assert claims.in_regime(data, "mix") == claimed


@pytest.mark.parametrize("rho", [0.0, 0.5])
@pytest.mark.parametrize(("d", "o"), [(4, 2), (2, 4)])
def test_the_excess_of_small_rates_is_the_trace_and_the_number_of_curved_directions(d, o, rho):
    """1 + rho d o / (2 Tr H), to first order in the rate."""
    x, _, goal = chains.task(d, o, np.linspace(1.5, 1, 2))
    theta, moment, h = chains.factors(goal, 5, np.eye(d)), x.T @ x / len(x), 5
    layers = [theta[: d * h].reshape(d, h), theta[d * h :].reshape(h, o)]
    trace, rate, sigma = 3.0, 1e-5, 1.3
    kappa = rate * sigma**2 / (4 * chains.BATCH)
    said = chains.predicted_excess(x, layers, trace, rate, sigma, rho * kappa)
    assert_allclose(said["excess_predicted"], 1 + rho * d * o / 2 / trace, rtol=1e-3)
    assert_allclose(said["excess_label"], 1, rtol=1e-3)
    e = rate * hessian_trace(moment, layers) / 2 / chains.BATCH / o
    assert said["own_error"] < 1e-3 + e


def test_an_excess_of_means_has_the_spread_of_repeats(rng):
    loss = rng.normal(5, 1, (400, 30))
    trace = loss + rng.normal(0, 1, loss.shape)
    values = [chains.excess_per_trace(*pair, 2.0) for pair in zip(loss, trace, strict=True)]
    assert_allclose(values[0].value, loss[0].mean() / trace[0].mean() / 2, rtol=2e-3)
    deviation = np.std([v.value for v in values], ddof=1)
    assert abs(np.mean([v.stderr for v in values]) / deviation - 1) < SURE * 800**-0.5


@pytest.mark.parametrize("name", ["mix", "plane", "contrast"])
def test_the_excess_is_claimed_of_slow_flows(made, name):
    for haste, kind in ((0.1, "prediction"), (0.101, "outside")):
        data = made.assign({f"{name}_haste": made[f"{name}_haste"] * 0 + haste})
        rows = [v for v in claims.verdicts(data) if "excess" in v.name]
        groups = {"mix": "noise, rho", "plane": "outputs, rho", "contrast": "noise: excess"}
        kinds = {v.kind for v in rows if groups[name] in v.name}
        assert kinds == {kind}


@pytest.mark.parametrize(
    ("name", "inside", "outside"), [("reach", 0.1, 0.11), ("jitter", 0.15, 0.16)]
)
def test_decay_is_claimed_within_its_borders(made, name, inside, outside):
    for value, claimed in ((inside, True), (outside, False)):
        data = made.assign({f"decay_{name}": ("temperature", [value, value])})
        regimes = {
            v.kind == "prediction" for v in claims.verdicts(data) if v.name.startswith("decay")
        }
        assert regimes == {claimed}


@pytest.mark.parametrize(("tolerance", "told"), [(0.24, True), (0.26, False)])
def test_a_number_is_claimed_where_half_of_rho_is_told_from_it(tolerance, told):
    assert claims._tells_half(1.0, tolerance, (("rho x 0.5", 0.75), ("rho x 2", 9.0))) is told
    assert claims._tells_half(1.0, tolerance, (("noise x 0.5", 1.0),))


@pytest.mark.parametrize(("d", "o"), [(6, 2), (3, 3), (2, 5)])
def test_nets_start_at_the_minimum_of_least_trace(d, o):
    modes = np.linspace(1.5, 1, min(d, o))
    x, y, goal = chains.task(d, o, modes, 0.2)
    moment, h = x.T @ x / len(x), 7
    assert_allclose(np.trace(moment), d)
    theta = chains.factors(goal, h, moment, 0.3, np.random.default_rng(0))
    w, v = theta[: d * h].reshape(d, h), theta[d * h :].reshape(h, o)
    assert_allclose(x @ w @ v, y, atol=1e-9)
    w[:, min(d, o) :] = 0  # as they are without a spread
    assert_allclose(o * w.T @ moment @ w, np.trace(moment) * v @ v.T, atol=1e-9)
    columns = []
    for unit in np.eye(w.size + v.size):
        dw, dv = unit[: w.size].reshape(w.shape), unit[w.size :].reshape(v.shape)
        columns.append((dw @ v + w @ dv).ravel())
    jacobian = np.stack(columns, axis=1)
    top = np.linalg.eigvalsh(jacobian.T @ np.kron(moment, np.eye(o)) @ jacobian)[-1]
    assert top * (1 - 1e-9) <= chains.sharpness(goal, moment) <= 1.5 * top


def test_a_ratio_of_means_has_the_spread_of_repeats(rng):
    """Of 400 repeats: its error is known to 1 / 800^1/2 of itself, and the jackknife's to less."""
    hidden = rng.normal(5, 1, (400, 30))
    square = hidden**2 / 2 + rng.normal(0, 1, hidden.shape)
    ratios = [chains.ratio(*pair) for pair in zip(hidden, square, strict=True)]
    deviation = np.std([r.value for r in ratios], ddof=1)
    assert abs(np.mean([r.stderr for r in ratios]) / deviation - 1) < SURE * 800**-0.5


def test_the_integral_is_that_over_both_weights():
    """One input, unit and output: by adaptive quadrature over w and v, with nothing integrated."""
    moment, target = 0.8, 0.9
    temperature, decay = chains.LAW_T, chains.LAW_DECAY

    def law(v, w):
        loss = moment * (w * v - target) ** 2 / 2 + decay * (w**2 + v**2) / 2
        return np.exp(-loss / temperature)

    box = (0, 6, -6, 6)
    total = dblquad(law, *box, epsabs=1e-9)[0]
    power = dblquad(lambda v, w: moment * w**2 * law(v, w), *box, epsabs=1e-9)[0] / total
    values = chains.integrals(np.asarray([[moment]]), np.asarray([[moment * target]]), 1)
    assert values["hidden"] == pytest.approx(power, rel=1e-6)


def test_the_integral_of_two_inputs_is_that_of_normal_weights_without_outputs():
    """E Tr K = (T / decay) h Tr Sx, to the share of the nodes' error; the study takes 24."""
    moment, h = np.asarray([[1.2, 0.3], [0.3, 0.8]]), 3
    values = chains.integrals(moment, np.zeros((2, 0)), h, nodes=16)
    expected = chains.LAW_T / chains.LAW_DECAY * h * np.trace(moment)
    assert values["hidden"] == pytest.approx(expected, rel=1e-3)


def within(data, name, tolerance=0.0):
    gap = abs(float(data[name] - data[f"{name}_predicted"]))
    return gap < SURE * float(data[f"{name}_stderr"]) + tolerance


@pytest.mark.usefixtures("quick_to_compile")
def test_units_of_a_small_run_have_their_imbalance():
    """With the gradients' square it is exact, whatever the rate."""
    data = study.units("ReLU 6 to 2", runs=16, fraction=0.02, seed=0)
    assert within(data, "unit_exact")
    assert float(data.unit_exact) > 5 * float(data.unit_exact_stderr)


@pytest.mark.usefixtures("quick_to_compile")
def test_layers_grow_as_foretold_and_stay_without_noise():
    data = study.growth(2, **SHORT)
    assert within(data, "grow_growth_exact")
    assert float(data.grow_growth) < -5 * float(data.grow_growth_stderr)
    assert_allclose(data.grow_still, 0, atol=1e-4)  # single precision


def test_sampling_adds_the_kicks_of_examples_to_that_of_their_mean(rng):
    """Over all pairs of examples drawn with replacement, from gradients taken one by one."""
    net, problem = chains.network(rng.normal(size=(3, 2)), rng.normal(size=(3, 2)), 4)
    theta = jnp.asarray(rng.normal(size=net.size), jnp.float32)
    gradients = np.asarray(problem.gradients(theta), float)

    def kick(gradient):
        return (gradient[:8] ** 2).sum() - (gradient[8:] ** 2).sum()

    pairs = np.mean([kick((a + b) / 2) for a in gradients for b in gradients])
    added = float(chains.batch_kick(net, problem, theta))
    assert_allclose(kick(gradients.mean(0)) + added / 2, pairs, rtol=1e-4)


@pytest.mark.usefixtures("quick_to_compile")
def test_the_sum_rule_of_discrete_steps_holds_where_that_of_small_rates_does_not(monkeypatch):
    """Without isotropic noise, at rate x curvature 0.15, where the gap is 3%."""
    monkeypatch.setitem(chains.LEVELS, "strong", (0.04, 1.0))
    data = study.collapse("strong", 0.0, runs=16, relaxations=0.4, seed=0)
    assert abs(float(data.mix_gap_exact)) < SURE * float(data.mix_gap_exact_stderr) + 0.003
    assert float(data.mix_gap) < -0.02
    assert float(data.mix_gap_exact_stderr) < 0.004


@pytest.mark.usefixtures("quick_to_compile")
def test_both_noises_run_and_are_told():
    data = study.collapse("strong", 0.1, runs=8, relaxations=0.1, seed=0)
    assert {"mix_ratio", "mix_gap_stderr", "mix_jitter"} <= set(data)
    assert claims.in_regime(data, "mix")
    own = float(data.mix_own_error * data.mix_excess_predicted)
    assert within(data, "mix_excess", own)
    assert float(data.mix_excess_predicted) > float(data.mix_excess_label) > 1.05


def test_bad_input_is_answered_by_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="runs must be at least 4, not 3"):
        study.study.parameters("small", Session(tmp_path), {"runs": 3})
    with pytest.raises(ValueError, match="a seed is an integer from 0"):
        study.study.parameters("small", Session(tmp_path, seed=-1), {})
