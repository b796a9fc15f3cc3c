"""Figures of theory and measurement: colours, style, bands, and files."""

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.core._arguments import checked
from sgdnoise.core._files import atomic_write
from sgdnoise.dimension._scale import Profile, noise_onset, plateau

# Okabe & Ito (2008): colour-blind readers can distinguish them.
COLOURS = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
    "grey": "#8A8A8A",
}

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,  # TrueType, which editors and publishers can read
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "sgdnoise",
    "figure.constrained_layout.use": True,
}


@checked
def band(ax, x, estimate, *, width=2, marker="o", color, **kwargs):
    """Draw the points of an Estimate with a band of `width` standard errors on either side.

    ax: axes of matplotlib.  x (n,): numbers, one for each value of the Estimate.
    Raises ValueError for an x of another kind.

    Example:
        >>> import numpy as np
        >>> from matplotlib.figure import Figure
        >>> from sgdnoise.core import Estimate
        >>> ax, loss = Figure().subplots(), Estimate(np.asarray([3.0, 4.0]), np.asarray([0.1, 0.2]))
        >>> band(ax, [1, 2], loss, color="black")
        >>> len(ax.lines), len(ax.collections)  # the points, and the band
        (1, 1)
    """
    x = np.asarray(x, float)
    ax.fill_between(
        x,
        estimate.value - width * estimate.stderr,
        estimate.value + width * estimate.stderr,
        color=color,
        alpha=0.2,
        linewidth=0,
    )
    ax.plot(x, estimate.value, marker=marker, markersize=3, color=color, **kwargs)


@checked
def figure_svg(figure: Figure) -> str:
    """The figure as an <svg> element for a page, with its text as text.

    Example:
        >>> from matplotlib.figure import Figure
        >>> figure_svg(Figure())[:4]
        '<svg'
    """
    page = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(page, format="svg", metadata={"Date": None})
    text = page.getvalue()
    return text[text.index("<svg") :]


@checked
def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write `stem`.pdf with embedded TrueType fonts and `stem`.png with 200 dots per inch.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from matplotlib.figure import Figure
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in save_figure(Figure(figsize=(1, 1)), Path(folder, "empty"))]
        ['empty.pdf', 'empty.png']
    """
    paths = [Path(f"{stem}.pdf"), Path(f"{stem}.png")]
    with mpl.rc_context(STYLE):
        for path in paths:
            omitted = (
                ("Creator", "Producer", "CreationDate") if path.suffix == ".pdf" else ("Software",)
            )
            metadata = dict.fromkeys(omitted)
            with atomic_write(path) as new:
                figure.savefig(new, format=path.suffix[1:], dpi=200, metadata=metadata)
    return paths


@checked
def plot_scale_profile(ax, profile: Profile, *, color=COLOURS["blue"], **kwargs):
    """Draw dimension against scale, with bars of two standard errors, plateau and noise.

    The plateau is a line from its first scale to its last, with its value above the axes; noise is
    a shaded range.  See `dimension.plateau` and `dimension.noise_onset`.

    Example:
        >>> import numpy as np
        >>> from matplotlib.figure import Figure
        >>> from sgdnoise.core import Estimate
        >>> from sgdnoise.dimension import Profile
        >>> ax, dimensions = Figure().subplots(), Estimate(np.full(4, 2.0), np.full(4, 0.1))
        >>> plot_scale_profile(ax, Profile(np.asarray([0.1, 0.2, 0.4, 0.8]), dimensions))
        >>> ax.get_xscale()
        'log'
    """
    value, error = profile.dimension.value, profile.dimension.stderr
    ax.errorbar(
        profile.scale, value, 2 * error, fmt="o", markersize=3, capsize=2, color=color, **kwargs
    )
    ax.set(xscale="log", xlabel="distance between neighbours", ylabel="dimension")
    ax.set_ylim(bottom=0)
    flat, noise = plateau(profile), noise_onset(profile)
    if flat is not None:
        ends = [flat.start, flat.stop]
        level = [flat.dimension.value] * 2
        ax.plot(ends, level, color=COLOURS["vermilion"], zorder=3, label="plateau")
        ax.set_title(
            f"plateau {flat.dimension.value:.2f} ± {flat.dimension.stderr:.2f}",
            color=COLOURS["vermilion"],
        )
    if noise is not None:
        left = ax.get_xlim()[0]
        ax.axvspan(left, noise, color=COLOURS["grey"], alpha=0.15, linewidth=0)
        ax.set_xlim(left=left)
        ax.annotate("noise", (left, 0), (3, 3), textcoords="offset points", color=COLOURS["grey"])
