"""Spectrum, layers, gain of one step and kurtosis of gradient noise."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE, settings_of

CAPTION = (
    "Gradient noise of public ResNets on training photographs, one colour a network. Top left: "
    "eigenvalues of the noise covariance C over their sum. Top right: Tr C per weight of stem, "
    "blocks and readout over the mean of all weights, against relative depth. Bottom left: gain of "
    "one step at half of the best rate of its batch over that of the exact gradient, against the "
    "batch B over the predicted critical batch, with (n - B) / (n - 1) for a finite population of "
    "n; the line is theory, 1 / (1 + 1 / x). Bottom right: excess kurtosis of random projections "
    "of the gradient of a batch over that of single examples; lines are theory, points measured. "
    "Bars are two standard errors."
)


def figures(results) -> dict[str, tuple[str, Figure]]:
    """The only figure of the study."""
    return {"figure": (CAPTION, draw(results))}


@mpl.rc_context(STYLE)
def draw(results) -> Figure:
    """Four panels."""
    figure = Figure(figsize=(6.6, 4.8))
    (spectrum, layers), (gain, kurtosis) = figure.subplots(2, 2)
    x = np.geomspace(0.05, 20, 100)
    gain.plot(x, 1 / (1 + 1 / x), color=COLOURS["grey"], label="theory")
    colours = list(COLOURS.values())
    for (depth, data), colour in zip(settings_of(results, "depth"), colours, strict=False):
        label = f"ResNet-{depth}"
        values = data.eigenvalues.values[: int(data.examples) - 1]
        spectrum.plot(1 + np.arange(len(values)), values / values.sum(), color=colour, label=label)
        _layers(layers, data, colour)
        _gain(gain, data, colour)
        _kurtosis(kurtosis, data, colour)
    spectrum.set(xscale="log", yscale="log", xlabel="rank", ylabel="eigenvalue / Tr C", ylim=1e-7)
    layers.set(yscale="log", xlabel="relative depth", ylabel="Tr C per weight / mean")
    gain.set(xscale="log", xlabel="batch / critical batch", ylabel="gain / exact gain")
    kurtosis.set(xscale="log", xlabel="batch", ylabel="excess kurtosis / that of one")
    kurtosis.axhline(0, color=COLOURS["grey"], linewidth=0.8)
    kurtosis.set_yscale("symlog", linthresh=0.01)
    spectrum.legend(fontsize=6.5)
    gain.legend(fontsize=6.5)
    return figure


def _layers(ax, data, colour):
    traces, sizes = data.layer_trace.values, data.layer_size.values
    known = np.isfinite(traces)
    traces, sizes = traces[known], sizes[known]
    mean = traces.sum() / sizes.sum()
    ax.plot(np.linspace(0, 1, len(traces)), traces / sizes / mean, "o-", color=colour, ms=2)


def _gain(ax, data, colour):
    at = data.isel(share=0)
    size = data.batch * (data.examples - 1) / (data.examples - data.batch)
    ax.errorbar(
        size / data.hessian_scale,
        at.gain / at.exact,
        2 * at.gain_stderr / at.exact,
        fmt="o",
        color=colour,
        markersize=3,
    )


def _kurtosis(ax, data, colour):
    single = float(data.kurtosis_single)
    ax.plot(data.batch, data.kurtosis_predicted / single, color=colour, linewidth=0.8)
    ax.errorbar(
        data.batch,
        data.kurtosis_measured / single,
        2 * data.kurtosis_measured_stderr / single,
        fmt="o",
        color=colour,
        markersize=3,
    )
