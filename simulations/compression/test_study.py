"""The study of compression: a tiny run, resuming bit for bit, bad input, and wrong results."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy.interpolate import PchipInterpolator
from witnesses import SURE

from sgdnoise.core import mean
from sgdnoise.lab import Session, exit_status
from sgdnoise.theory import label_noise_covariance
from simulations.compression import _chains as chains
from simulations.compression import claims
from simulations.compression import figure as picture
from simulations.compression.study import SETTINGS, study

TINY = SETTINGS["three"]._replace(
    hidden=5, inputs=4, examples=16, descent_steps=40, steps=40, watches=4, quench=5
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny run of two seeds, all modes."""
    return chains.run(TINY, [3, 4], folder=tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def row():
    """The examples of one chain, and weights."""
    data = jax.tree.map(lambda array: array[0].astype(float), chains.rows(TINY, [3]))
    return data, chains.initial_weights(TINY, jax.random.key(0)).astype(float)


def test_every_mode_starts_from_the_same_weights_and_is_watched(tiny):
    assert tiny.mode.values.tolist() == list(chains.MODES)
    np.testing.assert_array_equal(tiny.step, [0, 10, 20, 30, 40])
    np.testing.assert_array_equal(tiny.lasted, 40)
    for name in ("dimension", "loss", "trace", "accuracy"):
        start = tiny[name].isel(watch=0)
        np.testing.assert_array_equal(start - start.isel(mode=0), 0)
        assert np.isfinite(tiny[name]).all()
    assert (tiny.loss_quenched < tiny.loss).all()  # a quench goes downhill
    end = tiny.dimension.isel(watch=-1)
    assert len(np.unique(end.isel(seed=0))) == len(chains.MODES)


@pytest.mark.slow
def test_a_seed_gives_the_same_numbers_in_whatever_company(tiny, tmp_path):
    alone = chains.run(TINY, [4], folder=tmp_path)
    together = tiny.sel(seed=[4])
    # one chain more changes the order of float32 sums, which 80 steps amplify little
    np.testing.assert_allclose(alone.dimension, together.dimension, rtol=1e-3)
    np.testing.assert_allclose(alone.trace, together.trace, rtol=1e-3)


@pytest.mark.slow
def test_the_noises_are_matched_as_they_claim(row):
    data, theta = row
    noises = chains.noises(TINY, data)
    label = noises["label"].covariance(theta)
    diagonal, isotropic = (noises[m].covariance(theta) for m in ("diagonal", "isotropic"))
    np.testing.assert_allclose(diagonal.diagonal(), label.diagonal(), rtol=1e-10)
    np.testing.assert_allclose(isotropic.trace(), label.trace(), rtol=1e-10)
    white = jnp.zeros(noises["gaussian"].draw.size)
    factor = jax.jacobian(noises["gaussian"].gradient, 1)(theta, white)
    np.testing.assert_allclose(factor @ factor.T, label.rows.T @ label.rows, rtol=1e-9, atol=1e-14)


@pytest.mark.slow
def test_the_prediction_is_descent_on_the_loss_plus_kappa_times_the_trace(row):
    data, theta = row
    net = chains.network(TINY)
    kappa = TINY.learning_rate * TINY.label_noise**2 / (4 * TINY.batch_size)

    def loss(t):
        jacobian = jax.jacobian(net.outputs)(t, data.inputs)
        return (
            0.5 * ((net.outputs(t, data.inputs) - data.targets) ** 2).sum(1).mean()
            + kappa * (jacobian**2).sum() / TINY.examples
        )

    gradient = chains.noises(TINY, data)["prediction"].gradient(theta, ())
    np.testing.assert_allclose(gradient, jax.grad(loss)(theta), rtol=1e-9, atol=1e-12)


def test_small_parameters_are_those_of_the_weights_at_the_start(tiny, row):
    """The share of the jitter against weights drawn from the covariance of theory."""
    data, _ = row
    assert np.all((tiny.haste > 0) & (tiny.jitter > 0))
    theta = chains.initial_weights(TINY, jax.random.key(1))
    data = chains.Row(*(jnp.asarray(array, jnp.float32) for array in data))
    times, paths = [0.0, 1e6], np.asarray([[2.0, 1.0]])
    regime = chains.regime_of(TINY, data, theta, times, paths)
    net = chains.network(TINY)
    jacobian = np.asarray(jax.jacobian(net.outputs)(theta, data.inputs), float)
    noise = {"label_noise": 1.0, "learning_rate": TINY.learning_rate, "batch_size": 8}
    residuals = np.asarray(net.outputs(theta, data.inputs) - data.targets)
    rows = label_noise_covariance(jacobian, residuals, time=1e6, **noise).rows
    draws = 0.01 * np.random.default_rng(0).normal(size=(2000, len(rows))) @ rows
    hidden = net.hidden(theta, data.inputs)
    pairs = np.stack([draws, -draws], 1)
    moved = jax.vmap(jax.vmap(lambda d: net.hidden(theta + d, data.inputs)))(pairs) - hidden
    added = np.asarray(moved, float).var(2).sum(2).mean(1) / np.asarray(hidden).var(0).sum()
    share = mean(added / 0.01**2)
    assert abs(share.z(regime.jitter)) < SURE


def test_the_largest_curvature_is_that_of_the_dense_hessian(row):
    data, theta = row
    plain = chains.problem(TINY, data)
    dense = np.linalg.eigvalsh(jax.hessian(plain.value)(theta))
    steepest = dense[np.abs(dense).argmax()]
    np.testing.assert_allclose(chains._sharpness(plain, theta), steepest, rtol=1e-3)


@pytest.mark.slow
def test_a_chain_that_diverges_is_named_and_left_out_of_no_average_silently(tmp_path):
    unstable = TINY._replace(learning_rate=1000.0, modes=("label", "prediction"))
    results = chains.run(unstable, [3, 4], folder=tmp_path).expand_dims(setting=["three"])
    sentences = claims.diverged(results)
    assert len(sentences) == int((results.lasted < 40).sum()) > 0
    assert "three: label of seed 3 diverged at step " in " ".join(sentences)
    last = int(results.lasted.sel(mode="label", seed=3).item())
    loss, step = results.loss.sel(setting="three", mode="label", seed=3), results.step[0]
    assert np.isfinite(loss[step <= last]).all()
    assert not np.isfinite(loss[step > last]).any()
    assert not any(v.holds for v in claims.verdicts(results) if "label" in v.name)


def made_up(rng, *, u=0.1, sharpness=0.2, haste=0.05, jitter=0.03):
    """Results of one setting, whose numbers are drawn and not computed."""
    modes, shape = list(chains.MODES), (1, 6, 8, 5)
    axes = ("setting", "mode", "seed", "watch")
    values = {name: (axes, rng.normal(10, 1, shape)) for name in ("dimension", "trace", "loss")}
    fixed = {"steps": 400, "rate": 0.5, "allowed": 0.2, "kappa": 0.01}
    return xr.Dataset(
        values
        | {name: ("setting", [value]) for name, value in fixed.items()}
        | {
            "lasted": (axes[:3], np.full(shape[:3], 400)),
            "step": (("setting", "watch"), [[0, 100, 200, 300, 400]]),
            "amplification": (("setting", "seed"), np.full((1, 8), u)),
            "sharpness": (("setting", "seed"), np.full((1, 8), sharpness / 0.5)),
            "haste": (("setting", "seed"), np.full((1, 8), haste)),
            "jitter": (("setting", "seed"), np.full((1, 8), jitter)),
        },
        {"setting": ["three"], "mode": modes, "seed": range(8)},
    )


def test_a_verdict_is_the_paired_difference_with_its_error(rng):
    results = made_up(rng)
    verdicts = {v.name: v for v in claims.verdicts(results)}
    dimension = results.dimension.sel(setting="three")
    path = dimension.sel(mode="prediction").mean("seed").values
    middle = claims.sensitive(results.sel(setting="three"), "dimension")
    assert 0 < middle <= 2
    sensitive = f"PR after {middle * 100} steps"
    for name, mode, reference, at, allowed in (
        (f"three: label noise, {sensitive}", "label", "prediction", middle, 0.2),
        ("three: label noise, PR after 400 steps", "label", "prediction", 4, 0.2),
        (
            f"three: Gaussian of same covariance, {sensitive} as label noise",
            *("gaussian", "label", middle, 0.05),
        ),
        ("three: isotropic of same trace, PR", "isotropic", "prediction", 4, 0.2),
    ):
        measured, predicted = (
            dimension.sel(mode=m).isel(watch=at).values for m in (mode, reference)
        )
        verdict = verdicts[name]
        np.testing.assert_allclose(verdict.predicted, predicted.mean(), rtol=1e-12)
        np.testing.assert_allclose(verdict.measured.value, measured.mean(), rtol=1e-12)
        error = np.std(measured - predicted, ddof=1) / 8**0.5
        np.testing.assert_allclose(verdict.measured.stderr, error, rtol=1e-12)
        own = (0.1 + 0.2 / 2) * abs(path[at] - path[0])
        tolerance = min(allowed * predicted.mean(), own)
        np.testing.assert_allclose(verdict.tolerance, tolerance, rtol=1e-12)
    start = dimension.sel(mode="none").isel(watch=0)
    np.testing.assert_allclose(verdicts["three: no noise, PR stays"].predicted, start.mean())


@pytest.mark.parametrize(("steepness", "kind"), [(0.5, "prediction"), (12.0, "observation")])
def test_the_end_is_claimed_where_half_of_kappa_is_told_from_it(steepness, kind, rng):
    """A path that has ended long before is the same at half of kappa."""
    results = made_up(rng)
    path = 10 - 3 * (1 - np.exp(-steepness * results.step.values[0] / 400))
    for mode in ("label", "prediction"):
        results.dimension.loc[{"mode": mode}] = path
    names = {v.name: v.kind for v in claims.verdicts(results)}
    assert names["three: label noise, PR after 400 steps"] == kind


@pytest.mark.parametrize(("change", "kind"), [(0.19, "outside"), (0.21, "prediction")])
def test_a_path_is_claimed_once_it_has_moved(change, kind, rng):
    """By 2% of 10, at the record where it is most sensitive to its speed."""
    results = made_up(rng)
    for mode in ("label", "prediction", "gaussian"):
        results.dimension.loc[{"mode": mode}] = 10 + change * results.step.values[0] / 200
    kinds = {v.name: v.kind for v in claims.verdicts(results)}
    assert kinds["three: label noise, PR after 200 steps"] == kind
    text = "three: Gaussian of same covariance, PR after 200 steps as label noise"
    assert kinds[text] == kind
    assert kinds["three: label noise, PR after 400 steps"] == "prediction"


@pytest.mark.parametrize(("factor", "outcome"), [(1.0, "holds"), (0.5, "fails"), (2.0, "fails")])
def test_a_path_of_another_speed_fails_where_it_is_sensitive(factor, outcome):
    """Committed numbers, of which the label noise follows the prediction at this speed."""
    setting = study.read()[""].sel(setting="three_weak").sel(mode=["label", "prediction"])
    wrong, steps = setting.copy(deep=True), setting.step.values
    path = setting.dimension.sel(mode="prediction").values
    later = np.minimum(factor * steps, steps[-1])
    wrong.dimension.loc[{"mode": "label"}] = PchipInterpolator(steps, path, axis=1)(later)
    row, *_ = [v for v in claims._claims(wrong, "three_weak") if "PR after" in v.name]
    assert row.outcome == outcome


@pytest.mark.parametrize(
    ("changes", "inside"),
    [
        ({"u": 0.119, "sharpness": 0.299, "haste": 0.099, "jitter": 0.049}, True),
        ({"u": 0.121}, False),
        ({"sharpness": 0.301}, False),
        ({"haste": 0.101}, False),
        ({"haste": np.nan}, False),
        ({"jitter": 0.051}, False),
    ],
)
def test_the_regime_has_a_border_for_each_parameter(rng, changes, inside):
    results = made_up(rng, **changes)
    assert claims.in_regime(results.sel(setting="three")) == inside
    claimed = [
        v.kind == "prediction" for v in claims.verdicts(results) if "label noise, PR" in v.name
    ]
    assert claimed[0] == inside  # the end of a path of random numbers need not be told from half
    assert inside or not any(claimed)


def test_modes_that_were_not_run_make_no_claim(rng):
    results = made_up(rng)
    results["lasted"] = results.lasted.astype(float).where(results["mode"] != "gaussian")
    names = [v.name for v in claims.verdicts(results)]
    assert len(names) == 8  # paths of random numbers have no speed
    assert not any("Gaussian" in name for name in names)


SCRIPT = """
import sys
from pathlib import Path
from simulations.compression._chains import run
from simulations.compression.study import SETTINGS

small = {"hidden": 5, "inputs": 4, "examples": 16, "descent_steps": 40, "quench": 5}
longer = SETTINGS["three"]._replace(**small, steps=8000, watches=40, modes=("label", "isotropic"))
run(longer, [3, 4], folder=Path(sys.argv[1])).to_netcdf(sys.argv[2], engine="h5netcdf")
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_resumes_and_ends_with_the_same_numbers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    env = {**os.environ, "PYTHONPATH": os.getcwd()}

    def command(name):
        return [sys.executable, str(script), str(tmp_path / name), str(tmp_path / f"{name}.nc")]

    subprocess.run(command("whole"), env=env, check=True, capture_output=True)
    with subprocess.Popen(command("cut"), env=env, stdout=subprocess.DEVNULL) as child:
        while not list((tmp_path / "cut").rglob("noise/chunk-0003.npz")):
            assert child.poll() is None
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGKILL)
    finished = list((tmp_path / "cut").rglob("chunk-*.npz"))
    subprocess.run(command("cut"), env=env, check=True, capture_output=True)
    assert 4 < len(finished) < 44
    names = ("whole", "cut")
    whole, cut = (xr.load_dataset(tmp_path / f"{n}.nc", engine="h5netcdf") for n in names)
    xr.testing.assert_identical(whole, cut)


@pytest.mark.parametrize(("factor", "outcome"), [(1.0, "holds"), (0.6, "fails"), (1.5, "fails")])
def test_the_loss_of_another_noise_fails(factor, outcome):
    """Committed numbers, with the excess loss times a factor."""
    setting = study.read()[""].sel(setting="ten")
    plain, label = (setting.loss.sel(mode=mode) for mode in ("prediction", "label"))
    wrong = setting.copy(deep=True)
    wrong.loss.loc[{"mode": "label"}] = plain + factor * (label - plain)
    [row] = claims._excess(wrong, "ten")
    assert (row.kind, row.outcome) == ("prediction", outcome)
    assert row.excluded["nothing changes"]


def test_speeds_are_those_of_the_measured_paths():
    """Committed numbers, of which the label noise follows its prediction at another speed."""
    setting = study.read()[""].sel(setting="three_weak").sel(mode=["label", "prediction"])
    wrong, steps = setting.copy(deep=True), setting.step.values
    path = setting.trace.sel(mode="prediction").values
    slower = PchipInterpolator(steps, path, axis=1)(0.8 * steps)
    wrong.trace.loc[{"mode": "label"}] = slower
    ratio, trace = claims._speeds(wrong, "three_weak")
    assert "speed of PR" in ratio.name
    assert trace.measured.value == pytest.approx(0.8, abs=0.01)
    assert claims._speeds(setting.sel(mode=["label"]), "three_weak") == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--batch-size", "129"], "a batch of 129 is larger than the data, 128 examples"),
        (["--batch-size", "0"], "batch_size must be at least 1, not 0"),
        (["--learning-rate", "-0.1"], "learning_rate must be positive, not -0.1"),
        (["--label-noise", "-1"], "label_noise must be at least 0, not -1"),
        (["--mode", "pink"], "there is no mode 'pink'; there are none, label, gaussian"),
        (["--setting", "four"], "there is no setting 'four'; there are three, ten, three_weak"),
        (["--size", "huge"], "there is no size 'huge'; there are small, demo, full"),
        (["--seeds", "1"], "seeds must be at least 2, not 1"),
        (["--seed", "-1"], "a seed is an integer from 0"),
        (["--steps", "7"], "steps must be a multiple of 20"),
        (["--device", "abacus"], "there is no device 'abacus'"),
        (["--out", "pyproject.toml"], "cannot write to the folder"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(words, sentence, capsys):
    with pytest.raises(SystemExit) as stopped:
        study.main(words)
    assert stopped.value.code == 2
    text = " ".join(capsys.readouterr().err.split())
    assert text.startswith("error: ")
    assert sentence in text


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has a GPU")
def test_a_gpu_that_is_absent_is_one_sentence(tmp_path):
    words = ["--device", "cuda", "--size", "small", "--out", str(tmp_path)]
    script = Path(__file__).parent / "study.py"
    done = subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "error: there is no CUDA device on this machine; use --device cpu"
    )


def test_seeds_are_run_in_blocks_and_come_back_in_order(tmp_path):
    """Three seeds of a tiny network, in one block each for two processes or more."""
    short = {"hidden": 5, "inputs": 4, "examples": 16, "descent_steps": 40, "watches": 4}
    changes = {"three": short | {"steps": 40, "quench": 5}}
    session = Session(tmp_path, in_process=True, seed=3)
    chosen = {"setting": ["three"], "mode": ["label", "none"], "seeds": 3, "changes": changes}
    results = study.simulate("small", session, **chosen)
    assert results.seed.values.tolist() == [3, 4, 5]
    assert results["mode"].values.tolist() == ["none", "label"]
    assert results.dimension.dims == ("setting", "mode", "seed", "watch")
    assert exit_status(study.judge(results)) in (0, 1)
    assert not study.lead(results)[len(claims.LEAD) :]  # nothing diverged


def test_the_figures_draw_what_was_run(tiny):
    results = tiny.expand_dims(setting=["three"])
    for drawn, axes in ((picture.draw(results), 2), (picture.draw_others(results), 4)):
        assert len(drawn.axes) == axes
        assert all(ax.get_xlabel() or not ax.get_subplotspec().is_last_row() for ax in drawn.axes)
        assert all(ax.has_data() for ax in drawn.axes)
    line = picture.draw(results).axes[0].lines[0]
    expected = results.dimension.sel(mode="prediction").mean("seed").values[0]
    np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)
