"""Pictures of depth and of ensembles show what they are given."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from sgdnoise.core import Estimate
from sgdnoise.lab import compare, plot_depth, plot_ensembles
from sgdnoise.nets import models, representation_dimensions


@pytest.fixture
def ax():
    return Figure().subplots()


def test_depth_has_a_line_for_each_estimator_and_a_tick_for_each_layer(ax):
    net = models.mlp([5, 20, 3], seed=0)
    data = representation_dimensions(net, torch.randn(60, 5))
    plot_depth(ax, data)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["input", "1", "3"]
    lines = [container.lines[0] for container in ax.containers]
    drawn = [line.get_ydata() for line in lines]
    names = ("participation_ratio", "twonn", "surrogate_twonn")
    np.testing.assert_array_equal(drawn, [data[name].values for name in names])


def test_several_networks_share_places_by_name_and_differ_by_colour(ax):
    first, deeper = (
        representation_dimensions(models.mlp(sizes, seed=0), torch.randn(60, 5))
        for sizes in ([5, 20, 3], [5, 20, 20, 3])
    )
    plot_depth(ax, {"a": first, "b": deeper}, names=["participation_ratio", "twonn"])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["input", "1", "3", "5"]
    lines = [container.lines[0] for container in ax.containers]
    assert lines[0].get_color() == lines[1].get_color() != lines[2].get_color()
    assert lines[0].get_marker() != lines[1].get_marker()
    assert ax.get_legend_handles_labels()[1][-1] == "b, TwoNN"
    plot_depth(ax, first, names="twonn")
    for wrong, names in (({}, None), (first, ["other"]), (first.expand_dims("step"), None)):
        with pytest.raises(ValueError, match=r"nothing to draw|no 'other'|along layer alone"):
            plot_depth(ax, wrong, names)


def test_ensembles_have_their_mean_and_error(ax):
    values = np.random.default_rng(0).normal(size=(50, 4))
    plot_ensembles(ax, range(4), {"SGD": values, "theory": np.zeros(4)})
    mean_line, theory = ax.get_lines()
    np.testing.assert_allclose(mean_line.get_ydata(), values.mean(0))
    np.testing.assert_array_equal(theory.get_ydata(), 0)
    top = ax.collections[0].get_paths()[0].vertices[:, 1].max()
    error = values.std(0, ddof=1) / 50**0.5
    np.testing.assert_allclose(top, (values.mean(0) + 2 * error).max())
    with pytest.raises(ValueError, match="as long as times"):
        plot_ensembles(ax, range(3), {"SGD": values})


def test_two_estimates_are_compared_with_the_errors_of_both():
    first, second = Estimate(1.3, 0.03), Estimate(1.0, 0.04)
    verdict = compare("width", first, second, tolerance=0.1)
    assert verdict.measured.value == pytest.approx(1.3)
    assert verdict.measured.stderr == pytest.approx(0.05)
    assert (verdict.predicted, verdict.outcome) == (1.0, "fails")
    assert compare("width", first, second, tolerance=0.5).outcome == "holds"
    assert compare("width", first, second, tolerance=0.3).outcome == "undecided"
    with pytest.raises(ValueError, match="two Estimates"):
        compare("width", first, Estimate(np.ones(2), np.ones(2)), tolerance=0.1)
