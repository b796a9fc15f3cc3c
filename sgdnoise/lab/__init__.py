"""Running studies: sweeps, storage, verdicts, reports, figures and the terminal."""

from sgdnoise._public import publish as _publish
from sgdnoise.lab._plot import COLOURS as COLOURS
from sgdnoise.lab._plot import STYLE as STYLE
from sgdnoise.lab._plot import band as band
from sgdnoise.lab._plot import plot_scale_profile as plot_scale_profile
from sgdnoise.lab._plot import save as save
from sgdnoise.lab._plot import svg as svg
from sgdnoise.lab._record import track as track
from sgdnoise.lab._report import Table as Table
from sgdnoise.lab._report import html as html
from sgdnoise.lab._store import provenance as provenance
from sgdnoise.lab._store import read as read
from sgdnoise.lab._store import write as write
from sgdnoise.lab._sweep._conduct import Incomplete as Incomplete
from sgdnoise.lab._sweep._conduct import Lasting as Lasting
from sgdnoise.lab._sweep._conduct import sweep as sweep
from sgdnoise.lab._sweep._executors import workers as workers
from sgdnoise.lab._sweep._keys import fingerprint as fingerprint
from sgdnoise.lab._sweep._keys import points as points
from sgdnoise.lab._sweep._keys import spawn_generator as spawn_generator
from sgdnoise.lab._sweep._storage import Status as Status
from sgdnoise.lab._sweep._storage import collect as collect
from sgdnoise.lab._sweep._storage import status as status
from sgdnoise.lab._sweep._storage import tally as tally
from sgdnoise.lab._sweep._worker import Failure as Failure
from sgdnoise.lab._verdict import Verdict as Verdict
from sgdnoise.lab._verdict import columns as columns
from sgdnoise.lab._verdict import exit_status as exit_status
from sgdnoise.lab._verdict import summary as summary
from sgdnoise.lab._verdict import verdicts_in as verdicts_in

__all__ = _publish(__name__, globals())


def __dir__():
    return __all__
