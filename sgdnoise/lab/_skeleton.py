"""The files of a new study."""

import keyword
from importlib.util import find_spec
from pathlib import Path

from sgdnoise.lab._trials import FILE, HEADER

_STUDY = '''\
"""Variance of the mean of n numbers: replace this sentence, `run`, the claims and the figure."""

import numpy as np
import xarray as xr

from sgdnoise.core import batch_means
from sgdnoise.lab import Study, option
from PACKAGE.NAME import claims, figure


def run(n: int, *, repeats: int) -> xr.Dataset:
    """Squares of n times the mean of n normal numbers, in 32 batches of repeats."""
    rng = np.random.default_rng(n)
    means = rng.normal(size=(repeats, n)).mean(1)
    return xr.Dataset({"square": ("batch", batch_means(n * means**2))})


study = Study(
    run,
    grid={"n": [1, 4, 16, 64]},
    sizes={"full": {"repeats": 100_000}, "small": {"n": [1, 16], "repeats": 40_000}},
    options={"repeats": option(int, "means of each n", least=64)},
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
'''

_CLAIMS = '''\
"""What is claimed, and the numbers beside it."""

import xarray as xr

from sgdnoise.lab import Table, Verdict, mean_of, rivals_of_effect

TITLE = "The variance of a mean"
LEAD = ("The mean of n independent numbers of variance 1 has the variance 1 / n.",)
TOLERANCE = 0.1


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """n times the variance of the mean, which is 1 in theory."""
    rivals = rivals_of_effect(lambda factor: factor, "variance")
    measured = {n: mean_of(results.square.sel(n=n)) for n in results.n.values.tolist()}
    return [
        Verdict(f"n = {n}: n Var", 1.0, value, "prediction", TOLERANCE, rivals)
        for n, value in measured.items()
    ]


def tables(results: xr.Dataset) -> list[Table]:
    """The measured variance of each mean."""
    rows = [(str(n), f"{float(results.square.sel(n=n).mean()) / n:.4f}") for n in results.n.values]
    return [Table("Measured variances", ("n", "variance"), rows)]
'''

_FIGURE = '''\
"""The variance of a mean, predicted and measured."""

import matplotlib as mpl
from matplotlib.figure import Figure

from sgdnoise.core import mean
from sgdnoise.lab import COLOURS, STYLE, band

CAPTION = "n times the variance of the mean of n numbers; the band is two standard errors."


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"figure": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """The prediction as a line, the measurement as points."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6, 2.7))
        ax = figure.subplots()
        ax.axhline(1, color=COLOURS["grey"], label="predicted")
        measured = mean(results.square.transpose("batch", "n").values)
        band(ax, results.n.values, measured, color=COLOURS["blue"], label="measured")
        ax.set(xscale="log", xlabel="n", ylabel="n Var")
        ax.legend()
    return figure
'''

_FINDINGS = """\
# The variance of a mean

Replace this text. The table is renewed by `python -m PACKAGE draw NAME`. Runs that informed a
tolerance are in [trials.md](trials.md).

<!-- table -->
<!-- /table -->
"""

_TEST = '''\
"""The study of NAME: its small size holds, and a wrong variance fails."""

import pytest

from sgdnoise.lab import exit_status
from PACKAGE.NAME.study import study


@pytest.fixture(scope="module")
def results():
    return study.simulate("small")


def test_the_small_size_holds(results):
    assert exit_status(study.judge(results)) == 0
    assert all(verdict.holds for verdict in study.judge(results))


def test_a_wrong_variance_fails(results):
    assert exit_status(study.judge(results.assign(square=2 * results.square))) == 1
'''

FILES = {
    "study.py": _STUDY,
    "claims.py": _CLAIMS,
    "figure.py": _FIGURE,
    "findings.md": _FINDINGS,
    "test_study.py": _TEST,
    FILE: HEADER.replace("python -m simulations", "python -m PACKAGE"),
}


def write_study(folder: Path, name: str) -> list[Path]:
    """Write the files of a new study into folder/NAME; their paths.  Raises ValueError."""
    if not name.isidentifier() or not name.islower() or keyword.iskeyword(name):
        raise ValueError(f"a study has the name of a Python module, in lower case, not {name!r}")
    if name.startswith(("_", "test_")):
        raise ValueError(f"the name of a study begins neither with _ nor with test_, unlike {name}")
    home = folder / name
    if home.exists():
        raise ValueError(f"there is already a folder {home}")
    if (spec := find_spec(name)) is not None and spec.origin is not None:
        raise ValueError(f"there is already a Python module {name}; give the study another name")
    home.mkdir()
    for file, text in FILES.items():
        text = text.replace("PACKAGE", folder.resolve().name).replace("NAME", name)
        (home / file).write_text(text, encoding="utf-8")
    return [home / file for file in FILES]
