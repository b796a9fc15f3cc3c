"""Dimension against error: ranks and their errors, settings and labels, results that are wrong."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from scipy.stats import kendalltau, rankdata, spearmanr
from witnesses import SURE

from sgdnoise.lab import exit_status
from simulations.mnist import _training as training
from simulations.mnist.against_error import _correlations as ranks
from simulations.mnist.against_error import claims, study
from simulations.mnist.against_error import figure as drawing


@pytest.fixture(scope="module")
def results():
    """A smaller run than the smallest, in this process."""
    return study.study.simulate("small", net=["mlp"], epochs=0.5, width=24, looked=60)


# --- correlations ---


def test_rank_correlations_are_those_of_scipy(rng):
    x, y = rng.integers(0, 6, (2, 30)).astype(float)
    assert_allclose(ranks.spearman(x, y), spearmanr(x, y).statistic, rtol=1e-12)
    assert np.isnan(ranks.spearman(np.ones(5), np.arange(5)))


def test_what_another_column_explains_is_taken_off_the_ranks(rng):
    x, y, z = rng.normal(size=(3, 40))
    x, y = x + z, y + z**3
    line = np.stack([np.ones(40), rankdata(z)], axis=1)
    left = [rankdata(c) - line @ np.linalg.lstsq(line, rankdata(c))[0] for c in (x, y)]
    assert_allclose(ranks.partial_spearman(x, y, z), np.corrcoef(left)[0, 1], rtol=1e-10)


def test_ranks_within_groups_leave_nothing_of_the_groups(rng):
    x, y = rng.normal(size=(2, 12))
    groups = np.arange(12) // 4
    parts = [spearmanr(x[groups == g], y[groups == g]).statistic for g in range(3)]
    assert_allclose(ranks.spearman_within(x, y, groups), np.mean(parts), rtol=1e-12)
    moved = x + 100 * groups, y - 7 * groups**2
    assert_allclose(ranks.spearman_within(*moved, groups), np.mean(parts), rtol=1e-12)
    dealt = ranks.no_correlation(lambda a, b: ranks.spearman_within(a, b, groups), *moved, groups)
    assert abs(dealt.z(0)) < SURE


def test_agreement_counts_the_pairs_of_each_block(rng):
    x, y = rng.normal(size=(2, 12))
    blocks = np.arange(12) // 4
    parts = [kendalltau(x[blocks == b], y[blocks == b]).statistic for b in range(3)]
    assert_allclose(ranks.agreement(x, y, blocks).value, np.mean(parts), rtol=1e-12)
    same = ranks.agreement(x, x, blocks)
    assert (same.value, same.stderr, same.dof) == (1.0, 1 / 3, 2)


def test_errors_are_dealt_only_within_their_group(rng):
    x = rng.normal(size=20)
    groups = np.arange(20) // 5
    means = ranks.permuted(lambda x, y: y[..., groups == 2].mean(-1), x, x, groups)
    assert_allclose(means, x[groups == 2].mean(), rtol=1e-12)
    everywhere = ranks.no_correlation(ranks.spearman, x, x**3)
    assert abs(everywhere.z(0)) < SURE
    deviation = everywhere.stderr * ranks.PERMUTATIONS**0.5  # exactly 1 / sqrt(n - 1)
    assert abs(deviation * 19**0.5 - 1) < SURE / (2 * ranks.PERMUTATIONS) ** 0.5


def test_a_correlation_that_chance_gives_is_as_rare_as_it_says(rng):
    x, y = rng.normal(size=(2, 12))
    exact = spearmanr(x, y).pvalue
    assert abs(ranks.chance(ranks.spearman, x, y) - exact) < 0.05
    assert ranks.chance(ranks.spearman, x, x) < 0.002


def test_intervals_from_resampled_settings_hold_the_truth(rng):
    inside, truth, studies = 0, 6 / np.pi * np.arcsin(0.5 / 2), 200  # Spearman's of correlation 1/2
    for _ in range(studies):
        x, y = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], 32).T
        low, high = ranks.resampled(ranks.spearman, x, y).interval()
        inside += low <= truth <= high
    assert abs(inside / studies - 0.95) < SURE * (0.95 * 0.05 / studies) ** 0.5 + 0.02


# --- settings ---


def test_no_two_settings_have_the_same_seed():
    factors = study.FACTORS
    seeds = {
        tuple(study.setting_seed(net, rate, batch, fraction).generate_state(2))
        for net in training.NETS
        for rate in factors["rate"]
        for batch in factors["batch"]
        for fraction in factors["shuffled"]
    }
    assert len(seeds) == 64


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_shuffled_labels_are_drawn_from_all_classes(fraction):
    train, _ = training.images(None, False, "cpu")
    noisy = study.with_shuffled_labels(train, fraction, np.random.default_rng(0))
    wrong = float((noisy.labels != train.labels).double().mean())
    expected = 0.9 * fraction
    allowed = SURE * (expected * (1 - expected) / len(train.labels)) ** 0.5
    assert abs(wrong - expected) <= allowed
    assert noisy.inputs is train.inputs


def test_the_others_of_a_factor_are_what_else_a_setting_has(results):
    of = claims.flat(results.sel(net="mlp"), "pr")
    for factor in claims.FACTORS:
        blocks = of.others(factor)
        for block in np.unique(blocks):
            rows = blocks == block
            assert len(np.unique(getattr(of, factor)[rows])) == rows.sum()
            for name in {*claims.FACTORS} - {factor}:
                assert len(np.unique(getattr(of, name)[rows])) == 1


def test_a_small_run_has_every_measure(results):
    for name in ("pr", "twonn", "theory", "error", "loss", "training_error"):
        assert np.isfinite(results[name]).all(), name
    of = claims.flat(results.sel(net="mlp"), "twonn")
    at = results.sel(net="mlp", rate=0.16, batch=16, shuffled=1.0)
    row = (of.rate == 0.16) & (of.batch == 16) & (of.shuffled == 1)
    assert of.dimension[row] == float(at.twonn.sel(images="test", moment="end"))
    assert of.error[row] == float(at.error)
    assert all(isinstance(f, Figure) for _, f in drawing.figures(results).values())
    assert all(table.rows for table in claims.tables(results))


# --- results ---


def made_up(*, slope=1.0, chance=0.9):
    """All settings: the dimension rises with the error by a slope, with noise of its own."""
    axes = ("net", *claims.FACTORS)
    levels = {"net": ["mlp"], **{name: [*values] for name, values in study.FACTORS.items()}}
    shape = [len(values) for values in levels.values()]
    rng = np.random.default_rng(0)
    fraction = np.broadcast_to(np.asarray(levels["shuffled"]), shape)
    error = np.where(fraction == 1, chance, 0.02 + 0.1 * fraction) + 0.004 * rng.normal(size=shape)
    dimension = 12 + slope * 5 * fraction + rng.normal(size=shape)
    full = np.broadcast_to(dimension[..., None, None], (*shape, 2, 2))
    variables: dict = {n: ((*axes, "images", "moment"), full) for n in ("pr", "twonn", "theory")}
    variables |= {"error": (axes, error), "loss": (axes, 2 * fraction + rng.normal(size=shape))}
    variables["tested"] = (axes, np.full(shape, 10_000))
    coords = levels | {"images": ["test", "training"], "moment": ["start", "end"]}
    return xr.Dataset(variables, coords)


def outcomes(**changes):
    rows = study.study.judge(made_up(**changes))
    assert len({row.name for row in rows}) == len(rows)
    return {row.name: row.outcome for row in rows if row.kind == "prediction"}


def test_more_dimension_with_more_error_passes():
    result = outcomes()
    assert sum("sign" in name for name in result) == 4
    assert {outcome for name, outcome in result.items() if "given" not in name} == {"holds"}
    assert exit_status(study.study.judge(made_up())) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"slope": -1.0}, "sign of the correlation"), ({"chance": 0.7}, "all labels shuffled")],
)
def test_what_is_otherwise_fails(changes, words):
    failed = {name for name, outcome in outcomes(**changes).items() if outcome == "fails"}
    assert failed
    assert all(words in name for name in failed)


def test_without_a_correlation_no_sign_is_found():
    found = outcomes(slope=0.0)
    assert all(outcome != "holds" for name, outcome in found.items() if "sign" in name)
