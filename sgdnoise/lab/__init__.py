"""Running studies: sweeps, storage, verdicts, reports, figures and the terminal."""

from typing import TYPE_CHECKING

from sgdnoise._extras import check_installed as _check_installed

for _module in ("xarray", "h5netcdf", "matplotlib", "jinja2", "rich", "typer"):
    _check_installed(_module, "lab")

from sgdnoise._public import load as _load
from sgdnoise._public import publish as _publish
from sgdnoise.lab._commands import load_study as load_study
from sgdnoise.lab._commands import study_commands as study_commands
from sgdnoise.lab._commands import study_names as study_names
from sgdnoise.lab._options import option as option
from sgdnoise.lab._power import most_sensitive as most_sensitive
from sgdnoise.lab._power import power as power
from sgdnoise.lab._power import rivals_of_effect as rivals_of_effect
from sgdnoise.lab._power import rivals_of_path as rivals_of_path
from sgdnoise.lab._report import Table as Table
from sgdnoise.lab._report import report_html as report_html
from sgdnoise.lab._session import Session as Session
from sgdnoise.lab._store import provenance as provenance
from sgdnoise.lab._store import read_parts as read_parts
from sgdnoise.lab._store import read_result as read_result
from sgdnoise.lab._store import write_parts as write_parts
from sgdnoise.lab._store import write_result as write_result
from sgdnoise.lab._study import Study as Study
from sgdnoise.lab._study import StudyGroup as StudyGroup
from sgdnoise.lab._summary import estimate_in as estimate_in
from sgdnoise.lab._summary import estimate_variables as estimate_variables
from sgdnoise.lab._summary import mean_of as mean_of
from sgdnoise.lab._summary import merge_sweeps as merge_sweeps
from sgdnoise.lab._summary import settings_of as settings_of
from sgdnoise.lab._summary import size_table as size_table
from sgdnoise.lab._sweep._conduct import Incomplete as Incomplete
from sgdnoise.lab._sweep._conduct import sweep as sweep
from sgdnoise.lab._sweep._executors import workers as workers
from sgdnoise.lab._sweep._keys import spawn_generator as spawn_generator
from sgdnoise.lab._sweep._storage import SweepStatus as SweepStatus
from sgdnoise.lab._sweep._storage import collect as collect
from sgdnoise.lab._sweep._storage import sweep_status as sweep_status
from sgdnoise.lab._sweep._worker import Failure as Failure
from sgdnoise.lab._terminal import progress as progress
from sgdnoise.lab._verdict import Verdict as Verdict
from sgdnoise.lab._verdict import compare as compare
from sgdnoise.lab._verdict import exit_status as exit_status
from sgdnoise.lab._verdict import prediction_if as prediction_if
from sgdnoise.lab._verdict import verdicts_in as verdicts_in

if TYPE_CHECKING:
    from sgdnoise.lab._plot import COLOURS as COLOURS
    from sgdnoise.lab._plot import STYLE as STYLE
    from sgdnoise.lab._plot import band as band
    from sgdnoise.lab._plot import figure_svg as figure_svg
    from sgdnoise.lab._plot import plot_scale_profile as plot_scale_profile
    from sgdnoise.lab._plot import save_figure as save_figure
    from sgdnoise.lab._plot_networks import plot_depth as plot_depth
    from sgdnoise.lab._plot_networks import plot_ensembles as plot_ensembles
    from sgdnoise.lab._record import track as track
    from sgdnoise.lab._time_scaling import speed_rows as speed_rows
    from sgdnoise.lab._time_scaling import time_scaling as time_scaling

# What needs xarray, matplotlib or scipy's interpolation is loaded when it is first asked for.
_LATER = {
    "_plot": ("COLOURS", "STYLE", "band", "figure_svg", "plot_scale_profile", "save_figure"),
    "_plot_networks": ("plot_depth", "plot_ensembles"),
    "_record": ("track",),
    "_time_scaling": ("speed_rows", "time_scaling"),
}
_HOME = {name: module for module, names in _LATER.items() for name in names}

__all__ = sorted({*_publish(__name__, globals()), *_HOME} - {"TYPE_CHECKING"})


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, _load(__name__, _HOME[name], name))


def __dir__():
    return __all__
