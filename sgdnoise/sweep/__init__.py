"""One run for each point of a grid, on any executor, as one Dataset; what is done is never lost."""

from sgdnoise.sweep.conducting import Incomplete as Incomplete
from sgdnoise.sweep.conducting import Lasting as Lasting
from sgdnoise.sweep.conducting import sweep as sweep
from sgdnoise.sweep.kept import Status as Status
from sgdnoise.sweep.kept import collect as collect
from sgdnoise.sweep.kept import status as status
from sgdnoise.sweep.kept import tally as tally
from sgdnoise.sweep.names import fingerprint as fingerprint
from sgdnoise.sweep.names import points as points
from sgdnoise.sweep.names import spawned as spawned
from sgdnoise.sweep.worker import Failure as Failure
from sgdnoise.sweep.workers import workers as workers
