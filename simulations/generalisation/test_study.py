"""The study of generalisation: ranks and their errors, stacked networks, its smallest run."""

import json
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis.strategies import integers
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import kendalltau, rankdata, spearmanr
from witnesses import SURE

from sgdnoise.core import Estimate, mean
from sgdnoise.dimension import levina_bickel, participation_ratio
from sgdnoise.lab import Session
from simulations._signs import sign_claim
from simulations.generalisation import _nets as nets
from simulations.generalisation import _ranks as ranks
from simulations.generalisation import _settings as columns_of
from simulations.generalisation import claims, study
from simulations.generalisation import figure as drawing

TINY = study.SMALL | {"places": 2, "steps": 20, "seed": 0}
FULL = study.FULL | {"seed": 0}
LEVELS = {
    "rate": study.FULL["rates"],
    "batch": study.FULL["batches"],
    "width": study.FULL["widths"],
    **study.LEVELS,
}


@pytest.fixture(scope="module")
def small():
    """A smaller run than the smallest, in this process, without the table that `learned` loads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "learned", levina_bickel)
        return study.study.simulate("small", places=2, steps=20)


# --- ranks ---


def tied(rng, n=30):
    """Two columns with ties, and how often each row counts."""
    x = rng.integers(0, 9, n).astype(float)
    return x, x + rng.integers(-6, 7, n), rng.integers(0, 4, n)


@given(seed=integers(0, 2**32 - 1))
def test_weights_count_a_row_as_often_as_it_comes(seed):
    x, y, times = tied(np.random.default_rng(seed))
    expected = spearmanr(np.repeat(x, times), np.repeat(y, times)).statistic
    assert_allclose(ranks.spearman(x, y, times), expected, rtol=1e-10, atol=1e-12)
    assert_allclose(ranks.spearman(x, y), spearmanr(x, y).statistic, rtol=1e-10, atol=1e-12)


def test_what_another_column_explains_is_taken_off_the_ranks(rng):
    x, y, z = rng.normal(size=(3, 40))
    x, y = x + z, y + z**3
    line = np.stack([np.ones(40), rankdata(z)], axis=1)
    left = [rankdata(c) - line @ np.linalg.lstsq(line, rankdata(c))[0] for c in (x, y)]
    assert_allclose(ranks.partial_spearman(x, y, z), np.corrcoef(left)[0, 1], rtol=1e-10)


def test_ranks_within_groups_leave_nothing_of_the_groups(rng):
    """As often as each row counts; dealt within groups nothing is left, while a partial one is."""
    x, y = rng.normal(size=(2, 30))
    groups, times = np.arange(30) // 10, rng.integers(0, 4, 30)
    moved = x + 100 * groups, y - 7 * groups**2
    assert_allclose(ranks.spearman_within(*moved, groups), ranks.spearman_within(x, y, groups))
    parts = [spearmanr(x[groups == g], y[groups == g]).statistic for g in range(3)]
    assert_allclose(ranks.spearman_within(x, y, groups), np.mean(parts), rtol=1e-12)
    rows = [np.repeat(column, times) for column in (x, y, groups)]
    again = ranks.spearman_within(x, y, groups, times)
    assert_allclose(again, ranks.spearman_within(*rows), rtol=1e-10)
    dealt = ranks.permuted(lambda a, b: ranks.spearman_within(a, b, groups), *moved, groups, 400)
    assert abs(dealt.z(0)) < SURE
    kept = ranks.permuted(lambda a, b: b[groups == 1].mean(), *moved, groups, 20)
    assert_allclose(kept.value, moved[1][groups == 1].mean())


def test_pairs_are_counted_one_by_one(rng):
    x, y, _ = tied(rng)
    net = all_ = 0
    for i, j in product(range(30), repeat=2):
        both = np.sign(x[i] - x[j]) * np.sign(y[i] - y[j])
        net, all_ = net + both, all_ + abs(both)
    assert_allclose(ranks.concordance(x, y), net / all_, rtol=1e-12)
    x, y = rng.normal(size=(2, 30))
    assert_allclose(ranks.concordance(x, y), kendalltau(x, y).statistic, rtol=1e-12)
    groups = np.arange(30) // 5
    against = ranks.discordant(x, y, groups)
    assert_allclose(against.value, 50 * (1 - kendalltau(x, y).statistic), rtol=1e-12)


def test_pairs_within_groups_count_as_often_as_their_group(rng):
    """Of a group drawn twice, pairs of one copy with the other do not differ in one factor."""
    x, y = rng.normal(size=(2, 12))
    groups = np.arange(12) // 4
    among, times = groups[:, None] == groups, np.asarray([2.0, 0.0, 1.0])
    terms = [
        np.sign(x[i] - x[j]) * np.sign(y[i] - y[j]) * times[g]
        for g in range(3)
        for i, j in product(np.nonzero(groups == g)[0], repeat=2)
        if i != j
    ]
    expected = sum(terms) / (3 * 12)
    assert_allclose(ranks.concordance(x, y, times[groups], among=among), expected, rtol=1e-12)


@pytest.mark.parametrize("of", [ranks.spearman, ranks.concordance])
def test_rows_that_are_missing_do_not_count(of, rng):
    x, y = rng.normal(size=(2, 20))
    gaps = np.concatenate([x, [np.nan, 3.0]]), np.concatenate([y, [9.0, np.nan]])
    assert_allclose(of(*gaps), of(x, y), rtol=1e-12)
    assert np.isnan(of(np.ones(5), np.arange(5.0)))


def synthetic(rng, slope, places=10, settings=6, seeds=3):
    """Dimension and error of seeds (place, setting, seed, 2): alike in a setting and in a place."""
    mix = np.asarray([[1.0, slope], [0.0, 1.0]])
    shared, group = rng.normal(size=(places, 1, 2)), rng.normal(size=(places, settings, 2))
    apart = 0.7 * rng.normal(size=(places, settings, seeds, 2))
    return ((shared + group) @ mix)[:, :, None] + apart


def columns(data):
    return data.mean(axis=2).reshape(-1, 2).T


def errors_of(data, rng):
    """The rank correlation, with places, settings, or seeds of each setting alone drawn anew."""
    x, y = columns(data)
    again = partial(ranks.bootstrap, partial(ranks.spearman, x, y), times=150)
    places, settings = again(np.repeat(np.arange(10), 6)), again(np.arange(60))
    picks = rng.integers(0, 3, (20, *data.shape[:3], 1))
    alone = [ranks.spearman(*columns(np.take_along_axis(data, pick, 2))) for pick in picks]
    return places, settings, Estimate(places.value, np.std(alone, ddof=1), 19)


STUDIES = 100  # made up


def test_intervals_from_places_hold_the_truth_and_from_settings_or_seeds_they_do_not(rng):
    """As often as chance allows, and 2% for there being but 10 places."""
    many = [ranks.spearman(*columns(synthetic(rng, 1.0, 100))) for _ in range(40)]
    truth, result = mean(np.asarray(many)).value, []
    for _ in range(STUDIES):
        ends = [estimate.interval() for estimate in errors_of(synthetic(rng, 1.0), rng)]
        result.append([low <= truth <= high for low, high in ends])
    places, settings, seeds = np.mean(result, axis=0)
    allowed = SURE * (0.95 * 0.05 / STUDIES) ** 0.5
    assert abs(places - 0.95) < allowed + 0.02
    assert settings < places - 0.05
    assert seeds < 0.95 - allowed


@pytest.mark.parametrize(("slope", "expected"), [(0.0, None), (1.5, "holds"), (-1.5, "fails")])
def test_a_sign_that_is_not_there_is_told_as_rarely_as_it_says(slope, expected, rng):
    """In at most 1 of 37, and 2% for there being but 10 places; where there is one it is."""
    groups, result = np.repeat(np.arange(10), 6), []
    for _ in range(STUDIES):
        statistic = partial(ranks.spearman, *columns(synthetic(rng, slope)))
        result.append(said(ranks.bootstrap(statistic, groups, times=150)))
    rarely = 1 / 37 + 0.02 + SURE * (1 / 37 / STUDIES) ** 0.5
    for outcome in ("holds", "fails"):
        fraction = result.count(outcome) / STUDIES
        assert fraction > 0.9 if outcome == expected else fraction < rarely


def said(result):
    return sign_claim("", result, "prediction").outcome


def test_groups_that_all_agree_still_have_an_error():
    x, groups = np.arange(12.0), np.arange(12) // 3
    result = ranks.kendall(x, x, groups, among=groups[:, None] == groups)
    assert result.value == 1
    assert result.stderr == 1 / 4


def test_errors_dealt_at_random_have_no_rank_correlation(rng):
    x = rng.normal(size=60)
    x[3] = np.nan
    result = ranks.permuted(ranks.spearman, x, x**3)
    assert abs(result.z(0)) < SURE
    deviation = result.stderr * 1600**0.5  # exactly 1 / sqrt(n - 1)
    assert abs(deviation * 58**0.5 - 1) < SURE / (2 * 1600) ** 0.5


def test_rivals_of_a_control_are_half_and_twice_of_what_it_should_do():
    """Committed numbers: each control excludes that nothing happens, half of it, and twice."""
    verdicts = [v for v in study.study.judge(study.study.read()[""]) if v.kind == "prediction"]
    controls = [v for v in verdicts if "sign" not in v.name]
    for verdict in controls:
        rivals = dict(verdict.rivals)
        nothing = rivals["nothing changes"]
        half = (verdict.predicted + nothing) / 2
        effect = "dealing" if "dealt" in verdict.name else "shuffling"
        assert rivals[f"{effect} x 0.5"] == pytest.approx(half)
        twice = 2 * verdict.predicted - nothing
        assert rivals.get(f"{effect} x 2", twice) == pytest.approx(twice)
        assert (f"{effect} x 2" in rivals) == (twice <= 1)  # no error is above 1
        assert all(verdict.excluded[name] for name in ("nothing changes", f"{effect} x 0.5"))
    assert len(controls) == 19  # of one network nothing is left that dealing could remove
    (said_by_labels,) = (v for v in verdicts if "sign" in v.name)
    assert all(said_by_labels.excluded.values())


def test_one_group_has_no_error():
    with pytest.raises(ValueError, match="an error needs at least 2 groups of settings, not 1"):
        ranks.bootstrap(partial(ranks.spearman, np.arange(4), np.arange(4)), np.zeros(4))


# --- networks ---


def task_of(m, n, seed=0):
    """Random images of three classes, one channel of 8 x 8 pixels."""
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(m, n, 1, 8, 8, generator=draw)
    labels = torch.randint(0, 3, (m, n), generator=draw)
    return nets.Task(inputs, labels, inputs, labels)


@pytest.mark.parametrize("name", ["mlp", "convnet"])
def test_networks_trained_together_are_those_trained_one_by_one(name):
    """By torch's own descent, with the same batches: but for rounding of float32."""
    task, rates, steps = task_of(2, 20), (0.05, 0.2), 6
    synthetic = partial(nets.network, name, (1, 8, 8), 8)
    start, net = nets.stacked_networks([synthetic(0), synthetic(1)], "cpu")
    draws = np.random.default_rng(3).integers(0, 20, (steps, 2, 4))

    class Known:
        def integers(self, *_):
            return draws[next(count)]

    count = iter(range(steps))
    schedule = {"rates": rates, "batch": 4, "steps": steps, "loss": 0.0}
    result = nets.train(start, net, task, rng=Known(), **schedule)
    assert np.isnan(result.step).all()
    for i, rate in enumerate(rates):
        alone = synthetic(i)
        descent = torch.optim.SGD(alone.parameters(), rate)
        for index in draws[:, i]:
            descent.zero_grad()
            F.cross_entropy(alone(task.inputs[i, index]), task.labels[i, index]).backward()
            descent.step()
        for key, p in alone.named_parameters():
            assert_allclose(result.end[key][i], p.detach(), rtol=1e-4, atol=1e-5)


def test_a_network_is_kept_where_its_loss_is_first_as_low():
    task = task_of(2, 20)
    start, net = nets.stacked_networks(
        [nets.network("mlp", (1, 8, 8), 16, s) for s in (0, 1)], "cpu"
    )
    schedule = {"rates": (0.03, 0.0), "batch": 8, "loss": 0.3}
    result = nets.train(start, net, task, steps=400, rng=np.random.default_rng(0), **schedule)
    losses = nets.losses(result.equal, net, task)
    assert losses[0] <= 0.3 < losses[1]
    assert np.isnan(result.step[1])  # which stood still
    start, _ = nets.stacked_networks([nets.network("mlp", (1, 8, 8), 16, s) for s in (0, 1)], "cpu")
    before = int(result.step[0]) - nets.CHECK_EVERY
    earlier = nets.train(start, net, task, steps=before, rng=np.random.default_rng(0), **schedule)
    assert nets.losses(earlier.end, net, task)[0] > 0.3
    assert np.isnan(earlier.step).all()


@pytest.mark.parametrize(("name", "width"), [*product(("mlp", "convnet"), [8, 12])])
def test_the_readout_sees_a_last_layer_of_the_width_asked_for(name, width):
    net = nets.network(name, (1, 8, 8), width, 0)
    parameters, base = nets.stacked_networks([net, nets.network(name, (1, 8, 8), width, 1)], "cpu")
    task = task_of(2, 3)
    rows = nets.hidden(parameters, base, task.inputs)
    assert rows.shape == (2, 3, width)
    last = net[-1](rows[0])
    assert_allclose(nets.predict(parameters, base, task.inputs)[0], last.detach(), atol=1e-5)


def test_labels_all_shuffled_tell_nothing_and_a_share_leaves_the_rest():
    n = 4000
    first = nets.Data(np.zeros((n, 1, 2, 2)), np.arange(n) % 10)
    others_set = nets.Data(np.zeros((5, 1, 2, 2)), np.arange(5))
    for fraction in (0.0, 0.5, 1.0):
        inputs, labels, others, truth = nets.corrupted(first, others_set, fraction, 0.5, 1)
        right, expected = np.mean(labels == first.targets), 1 - 0.9 * fraction
        assert abs(right - expected) <= SURE * (expected * (1 - expected) / n) ** 0.5
        assert_array_equal(truth, others_set.targets)
    assert abs(inputs.std() / 0.5 - 1) < SURE / (2 * inputs.size) ** 0.5
    assert others.std() > 0


def test_noises_of_one_seed_differ_in_size_alone():
    first, others_set = nets.images("digits", 60, 40, 8, 0)
    single, two, none = (
        nets.corrupted(first, others_set, 0.0, noise, 0)[0] for noise in (0.5, 1.0, 0.0)
    )
    assert_allclose(two - none, 2 * (single - none), rtol=1e-10, atol=1e-12)
    assert_array_equal(none, first.inputs)
    assert_allclose(first.inputs.mean(0), 0, atol=1e-5)  # float32
    assert abs(first.inputs.std() - 1) < 1e-5
    assert len(others_set.inputs) == 20


def test_a_surrogate_has_the_covariance_of_its_cloud_on_average(rng):
    rows = rng.uniform(size=(30, 3)) * (1, 2, 3)
    draws = [study.gaussian(rows, rng) for _ in range(400)]
    result = mean(np.asarray([d.T @ d / 29 for d in draws]))  # n z's for n - 1
    assert_allclose(np.max(abs(result.z(np.cov(rows.T) * 30 / 29))), 0, atol=SURE)


# --- the study ---


def test_from_each_place_each_factor_varies_alone_over_all_its_levels():
    chosen, varied = study.settings(1, FULL)
    base, known = chosen[0], LEVELS
    for name, values in known.items():
        group = [s for s, v in zip(chosen, varied, strict=True) if v in ("none", name)]
        assert {s[name] for s in group} == set(values)
        assert len(group) == len(values)
        assert all(s | {name: 0} == base | {name: 0} for s in group)
    assert study.settings(1, FULL | {"seed": 1})[0] != chosen
    drawn = [tuple(study.settings(p, FULL)[0][0].values()) for p in range(60)]
    assert len(set(drawn)) > 40


def test_pairs_that_count_differ_in_one_factor(small):
    of = columns_of.flat(small, TINY["task"], estimator="twonn")
    every = [study.settings(p, TINY)[0][s] for p, s in zip(of.place, of.setting, strict=True)]
    for name in LEVELS:
        among = columns_of.differing_in(small, of, name)
        for i, j in product(range(len(every)), repeat=2):
            same = (of.place[i], of.task[i]) == (of.place[j], of.task[j])
            others = {k: v for k, v in every[i].items() if k != name}
            single = same and others.items() <= every[j].items()
            assert i == j or among[i, j] == single
    assert_array_equal(of.shuffled, [s["shuffled"] for s in every])
    pairs = columns_of.between_networks(of)
    assert pairs.sum() == len(every)
    assert_array_equal(pairs, pairs.T)


def test_estimates_are_those_of_the_points_and_of_dead_units_there_are_none(rng):
    rows = rng.normal(size=(50, 4))
    assert_allclose(study.estimates(rows)[0], participation_ratio(rows), rtol=1e-12)
    assert np.isnan(study.estimates(rows, slow=False)[2])
    assert np.isnan(study.estimates(np.zeros((50, 4)))).all()


def test_the_smallest_run_holds_and_is_drawn(small):
    result = claims.verdicts(small)
    assert [v for v in result if v.outcome == "fails"] == []
    assert {v.name for v in result} >= {
        f"{task}: test error, all labels shuffled" for task in TINY["task"]
    }
    for results in (small, study.study.read()[""]):
        for task in results.task.values.tolist():
            assert claims.change_before_training(results, task) <= 1e-4
    figures = drawing.figures(small)
    assert list(figures) == ["loss", "steps"]
    assert all(isinstance(figure, Figure) for _, figure in figures.values())
    for table in claims.tables(small):
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.headings)}


def test_fields_are_those_of_the_networks_seen_again(small):
    """The networks before training, made again: their error, and what equal loss leaves out."""
    assert (small.loss.sel(moment="equal loss") <= TINY["loss"]).sum() == small.step.notnull().sum()
    assert np.isnan(small.error.sel(moment="equal loss").values[np.isnan(small.step.values)]).all()
    first, others_set = study.image_sets("digits", 0, TINY)
    chosen = study.settings(0, TINY)[0][0]
    inputs, _, others, truth = nets.corrupted(
        first, others_set, chosen["shuffled"], chosen["noise"], 0
    )
    net = nets.network("mlp", (1, 8, 8), chosen["width"], 0)
    with torch.no_grad():
        wrong = net(torch.asarray(others, dtype=torch.float32)).argmax(1).numpy() != truth
        rows = net[:-1](torch.asarray(inputs, dtype=torch.float32)).double().numpy()
    at = small.sel(task="mlp digits", place=0, moment="start").isel(setting=0, seed=0)
    assert_allclose(at.error, wrong.mean(), rtol=1e-12)
    ratio = at.dimension.sel(where="trained", estimator="participation_ratio")
    assert_allclose(ratio, participation_ratio(rows), rtol=1e-4)  # float32


def schedule(results):
    """Results with all shuffled labels fitted, and dimensions that rise by a factor with them."""
    accuracy = results.accuracy * 0 + 1.0
    return results.assign(accuracy=accuracy, dimension=results.dimension.fillna(5.0) * 0 + 5.0)


@pytest.mark.parametrize(("slope", "outcome"), [(0.5, "holds"), (-0.5, "fails")])
def test_a_dimension_that_collapses_with_shuffled_labels_fails(small, slope, outcome):
    made_up = schedule(small)
    wide = made_up.isel(place=[0, 1] * 6).assign_coords(place=np.arange(12))
    group = wide.dimension * np.exp(slope * wide.shuffled) * (1 + 0.01 * wide.place)
    wide = wide.assign(dimension=group)
    (result,) = [v for v in claims._shuffled_labels(wide, claims.CLAIMED) if "TwoNN" in v.name]
    assert result.kind == "prediction"
    assert result.outcome == outcome
    assert_allclose(columns_of.log_rise(wide, claims.CLAIMED, "twonn"), slope, rtol=1e-9)
    less = wide.assign(accuracy=wide.accuracy * 0.9)
    assert not any(v.kind == "prediction" for v in claims._shuffled_labels(less, claims.CLAIMED))
    assert not any(v.kind == "prediction" for v in claims._shuffled_labels(wide, "mlp digits"))


def test_a_control_that_shows_something_fails(small):
    wrong = small.assign(error=0.5 * small.error)
    failed = [v.name for v in claims.verdicts(wrong) if v.outcome == "fails"]
    assert failed
    assert all("all labels shuffled" in text for text in failed)
    changed = small.dimension * (1 + 0.01 * (small.rate == small.rate.max()))
    task = small.task.values[0]
    assert claims.change_before_training(small.assign(dimension=changed), task) > 1e-4


def test_what_rises_with_the_error_in_a_factor_alone_is_found_there(small):
    """Made up: dimension follows the error but for width, which moves it the other way."""
    error = small.error.fillna(0.5) * 0 + small.shuffled + 0.1 * small.noise + 0.001 * small.width
    ends = small.dimension.fillna(5.0) * 0
    rise = ends + error - 0.1 * small.width
    wide = small.assign(error=error, dimension=rise)
    ask = partial(
        columns_of.agreement, wide, list(TINY["task"]), moment="equal loss", estimator="twonn"
    )
    assert ask("shuffled").value == ask("noise").value == 1
    assert ask("width").value == -1
    assert np.isnan(ask("rate").value)
    assert np.isnan(ask("network").value)  # both are alike


def test_the_lead_names_the_device_and_how_networks_are_compared():
    lead = claims.LEAD({"device": "cpu", "arguments": json.dumps(study.FULL)})
    assert "on cpu: 10 places" in lead[0]
    assert "equally many steps" in lead[2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"places": 1}, "places must be at least 2, not 1"),
        ({"seeds": 0}, "seeds must be at least 1, not 0"),
        ({"task": ["mlp words"]}, "there is no task 'mlp words'; there are mlp digits"),
    ],
)
def test_bad_input_is_answered_by_one_sentence(changes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        study.study.parameters("small", Session(tmp_path), changes)
    with pytest.raises(ValueError, match="a seed is an integer from 0"):
        study.study.parameters("small", Session(tmp_path, seed=-1), {})
