"""Networks, in torch: real ones, seen as a Problem over one flat vector."""

from sgdnoise.nets.flat import flatten as flatten
from sgdnoise.nets.walks import walk as walk
