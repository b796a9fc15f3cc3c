"""What estimators of a tail index find, what fakes a tail, and Kesten's index."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "a: mean of each estimator of the tail index over its truth, bars two spreads of a repeat, the "
    "largest samples; stable fits are held against 2 where the variance is finite. b: Gaussian "
    "noise whose coordinates differ in scale, read as heavy-tailed if pooled (open) and not by "
    "layers (filled). c: Hill's index of theta against Kesten's equation, bars two standard errors."
)
CAPTION_TESTS = (
    "a: p-values of the test of normality of Gaussian noise, sorted; the line is uniform. b: share "
    "of other noise that is found at 5%. c: excess fourth moment of a network's minibatch noise, "
    "bars two standard errors; the line falls as 1 / batch from single examples."
)
LOOKS = {
    "hill": ("blue", "o"),
    "clauset": ("sky", "s"),
    "moments": ("green", "D"),
    "stable": ("vermilion", "^"),
    "blocks": ("orange", "v"),
}
LINES = ("blue", "vermilion", "green", "orange")


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure: tails, and tests."""
    return {
        "noise_tails": (CAPTION, draw(results)),
        "noise_tails_tests": (CAPTION_TESTS, draw_tests(results)),
    }


def draw(results) -> Figure:
    """Estimators, mixtures, chains."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.2))
        axes = figure.subplots(1, 3, width_ratios=[1.7, 1, 1])
        _estimators(axes[0], results)
        _mixtures(axes[1], results)
        _chains(axes[2], results)
    return figure


def draw_tests(results) -> Figure:
    """p-values under the null, power, and a network."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.0))
        axes = figure.subplots(1, 3)
        _null(axes[0], results)
        _power(axes[1], results)
        _network(axes[2], results)
    return figure


def _estimators(ax, results):
    """Values over truth; where the truth is infinite its inverse is shown by moments alone."""
    part = results.sel(samples=results.samples.max())
    laws = part.law.values.tolist()
    ax.axhline(1, color="black", linewidth=0.7)
    methods = part.estimator.values.tolist()
    for shift, method in zip(np.linspace(-0.25, 0.25, len(methods)), methods, strict=True):
        color, marker = LOOKS[method]
        ratios = np.asarray([_ratio(part, law, method) for law in laws])
        places = np.arange(len(laws)) + shift
        look: dict = {"color": COLOURS[color], "fmt": marker, "markersize": 3.5, "linewidth": 0.8}
        ax.errorbar(places, ratios[:, 0], 2 * ratios[:, 1], label=method, **look)
    ax.set_xticks(np.arange(len(laws)), laws, rotation=40, ha="right")
    ax.set_ylabel("index found / true")
    ax.set_title(f"a  m = {int(part.samples)}")
    ax.set_ylim(0.4, 1.8)
    ax.legend(fontsize=6.5, ncols=2)


def _ratio(part, law, method):
    """Mean and spread of the index over the truth; nothing where that is infinite."""
    value = part["index"].sel(law=law, estimator=method).values
    number = law.partition(" ")[2]
    alpha = float(number) if number else np.inf
    if method == "moments":
        value = value * alpha if np.isfinite(alpha) else np.full_like(value, np.nan)
    else:
        value = value / (min(alpha, 2.0) if method in ("stable", "blocks") else alpha)
        value = np.where(value == 0, np.nan, value)
    return np.mean(value), np.std(value, ddof=1)


def _mixtures(ax, results):
    ax.axhline(2, color="black", linewidth=0.7)
    for method in ("stable", "blocks"):
        color, marker = LOOKS[method]
        for pooling, face in (("naive", "white"), ("layers", COLOURS[color])):
            values = results.mixed.sel(by=method, pooling=pooling)
            mean, spread = values.mean("member"), values.std("member", ddof=1)
            look: dict = {"color": COLOURS[color], "marker": marker, "markerfacecolor": face}
            label = f"{method}, {pooling}"
            ax.errorbar(results.spread, mean, 2 * spread, label=label, markersize=4, **look)
    ax.set(xlabel="deviation of the logarithm of scales", ylabel="alpha, of Gaussian noise")
    ax.set_title("b  scales mixed")
    ax.legend(fontsize=6.5)


def _chains(ax, results):
    kesten = results.kesten.isel(chain_seed=0).values
    found = results.theta_index
    error = found.std("chain_seed", ddof=1) / found.sizes["chain_seed"] ** 0.5
    line = [0.9 * kesten.min(), 1.1 * kesten.max()]
    ax.plot(line, line, color="black", linewidth=0.7)
    mean = found.mean("chain_seed")
    ax.errorbar(kesten, mean, 2 * error, fmt="o", markersize=4, color=COLOURS["blue"])
    ax.set(xlabel="predicted by Kesten's equation", ylabel="Hill's index of theta")
    ax.set_title("c  descent")


def _null(ax, results):
    ax.plot([0, 1], [0, 1], color="black", linewidth=0.7)
    for color, shape in zip(LINES, results["shape"].values.tolist(), strict=True):
        p = np.sort(results.p_value.sel(shape=shape).values)
        ax.plot((np.arange(len(p)) + 0.5) / len(p), p, color=COLOURS[color], label=shape)
    ax.set(xlabel="share of tests", ylabel="p-value, Gaussian noise")
    ax.set_title("a  the null, samples x coordinates")
    ax.legend(fontsize=6.5)


def _power(ax, results):
    for color, other in zip(LINES, results.other.values.tolist(), strict=False):
        shares = 100 * results.found.sel(other=other)
        ax.plot(results.m, shares, marker="o", markersize=3, color=COLOURS[color], label=other)
    ax.axhline(5, color="black", linewidth=0.7)
    ax.set(xscale="log", xlabel="samples", ylabel="found at 5% (%)")
    ax.set_xticks(results.m.values, [str(m) for m in results.m.values])
    ax.minorticks_off()
    ax.set_title("b  power")
    ax.legend(fontsize=6.5)


def _network(ax, results):
    for color, stage in zip(LINES, results.stage.values.tolist(), strict=False):
        part = results.sel(stage=stage)
        look: dict = {"color": COLOURS[color], "fmt": "o", "markersize": 3.5, "label": stage}
        ax.errorbar(results.batch, part.mardia, 2 * part.mardia_stderr, **look)
        ax.plot(results.batch, part.one_example / results.batch, color=COLOURS[color])
    ax.set(xscale="log", xlabel="batch", ylabel="excess fourth moment")
    ax.set_yscale("symlog", linthresh=0.01)
    ax.set_title("c  a network on digits")
    ax.legend(fontsize=6.5)
