"""Estimates of a tail index, apparent tails, and Kesten's index."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE, settings_of
from simulations.noise_tails.claims import ALPHA, truth

CAPTION = (
    "a: mean of each estimator of the tail index over its truth, for the most samples; bars are "
    "two standard deviations of a repeat; stable fits are compared with 2 where the variance is "
    "finite. b: Gaussian noise whose coordinates differ in scale appears heavy-tailed if it is "
    "pooled (open), and not by layers (filled). c: Hill's index of theta against Kesten's "
    "equation; bars are two standard errors."
)
CAPTION_TESTS = (
    "a: sorted p-values of the test of normality on Gaussian noise; the line is uniform. b: tests "
    "that reject other noise at 5%. c: excess fourth moment of a network's minibatch noise; bars "
    "are two standard errors; the line is that of single examples over the batch size."
)
METHODS = {
    "hill": ("blue", "o"),
    "clauset": ("sky", "s"),
    "moments": ("green", "D"),
    "stable": ("vermilion", "^"),
    "blocks": ("orange", "v"),
}
LINES = ("blue", "vermilion", "green", "orange")


def figures(results) -> dict[str, tuple[str, Figure]]:
    """The tails, and the tests of normality."""
    return {
        "figure": (
            CAPTION,
            draw(results, (9.6, 3.2), (_estimators, _mixtures, _chains), (1.7, 1, 1)),
        ),
        "tests": (CAPTION_TESTS, draw(results, (9.6, 3.0), (_null, _power, _network), (1, 1, 1))),
    }


@mpl.rc_context(STYLE)
def draw(results, size, panels, widths) -> Figure:
    """Three panels in a row."""
    figure = Figure(figsize=size)
    for ax, panel in zip(figure.subplots(1, 3, width_ratios=widths), panels, strict=True):
        panel(ax, results)
        if panel is not _chains:
            ax.legend(fontsize=6.5, ncols=2 if panel is _estimators else 1)
    return figure


def _estimators(ax, results):
    """Values over the truth; laws without a finite truth are left out."""
    data = results.sel(samples=results.samples.max())
    laws, methods = data.law.values.tolist(), data.estimator.values.tolist()
    ax.axhline(1, color="black", linewidth=0.7)
    for shift, method in zip(np.linspace(-0.25, 0.25, len(methods)), methods, strict=True):
        color, marker = METHODS[method]
        ratios = np.asarray([_ratio(data, law, method) for law in laws])
        style: dict = {"color": COLOURS[color], "fmt": marker, "markersize": 3.5, "linewidth": 0.8}
        x = np.arange(len(laws)) + shift
        ax.errorbar(x, ratios[:, 0], 2 * ratios[:, 1], label=method, **style)
    ax.set_xticks(np.arange(len(laws)), laws, rotation=40, ha="right")
    ax.set_ylabel("index estimated / true")
    ax.set_title(f"a  m = {int(data.samples)}")
    ax.set_ylim(0.4, 1.8)


def _ratio(data, law, method):
    """Mean and deviation of the index over the truth; missing where the truth is infinite."""
    value = data["index"].sel(law=law, estimator=method).values
    if method == "moments":
        finite = np.isfinite(ALPHA[law])
        value = value * ALPHA[law] if finite else np.full_like(value, np.nan)
    else:
        value = value / truth(law, method)
        value = np.where(value == 0, np.nan, value)
    return np.mean(value), np.std(value, ddof=1)


def _mixtures(ax, results):
    ax.axhline(2, color="black", linewidth=0.7)
    for method in ("stable", "blocks"):
        color, marker = METHODS[method]
        for pooling, face in (("naive", "white"), ("layers", COLOURS[color])):
            values = results.mixed.sel(by=method, pooling=pooling)
            mean, deviation = values.mean("member"), values.std("member", ddof=1)
            style: dict = {"color": COLOURS[color], "marker": marker, "markerfacecolor": face}
            label = f"{method}, {pooling}"
            ax.errorbar(results.spread, mean, 2 * deviation, label=label, markersize=4, **style)
    ax.set(xlabel="deviation of the logarithm of scales", ylabel="alpha, of Gaussian noise")
    ax.set_title("b  scales mixed")


def _chains(ax, results):
    kesten = results.kesten.isel(chain_seed=0).values
    index = results.theta_index
    error = index.std("chain_seed", ddof=1) / index.sizes["chain_seed"] ** 0.5
    line = [0.9 * kesten.min(), 1.1 * kesten.max()]
    ax.plot(line, line, color="black", linewidth=0.7)
    mean = index.mean("chain_seed")
    ax.errorbar(kesten, mean, 2 * error, fmt="o", markersize=4, color=COLOURS["blue"])
    ax.set(xlabel="predicted by Kesten's equation", ylabel="Hill's index of theta")
    ax.set_title("c  SGD")


def _null(ax, results):
    ax.plot([0, 1], [0, 1], color="black", linewidth=0.7)
    for color, (shape, data) in zip(LINES, settings_of(results, "shape"), strict=True):
        p = np.sort(data.p_value.values, axis=None)
        ax.plot((np.arange(len(p)) + 0.5) / len(p), p, color=COLOURS[color], label=shape)
    ax.set(xlabel="fraction of tests", ylabel="p-value, Gaussian noise")
    ax.set_title("a  the null, samples x coordinates")


def _power(ax, results):
    for color, (alternative, data) in zip(LINES, settings_of(results, "other"), strict=False):
        style: dict = {
            "marker": "o",
            "markersize": 3,
            "color": COLOURS[color],
            "label": alternative,
        }
        ax.plot(results.m, 100 * data.found, **style)
    ax.axhline(5, color="black", linewidth=0.7)
    ax.set(xscale="log", xlabel="samples", ylabel="rejected at 5% (%)")
    ax.set_xticks(results.m.values, [str(m) for m in results.m.values])
    ax.minorticks_off()
    ax.set_title("b  power")


def _network(ax, results):
    for color, (stage, data) in zip(LINES, settings_of(results, "stage"), strict=False):
        style: dict = {"color": COLOURS[color], "fmt": "o", "markersize": 3.5, "label": stage}
        ax.errorbar(results.batch, data.mardia, 2 * data.mardia_stderr, **style)
        ax.plot(results.batch, data.one_example / results.batch, color=COLOURS[color])
    ax.set(xscale="log", xlabel="batch", ylabel="excess fourth moment")
    ax.set_yscale("symlog", linthresh=0.01)
    ax.set_title("c  a network on digits")
