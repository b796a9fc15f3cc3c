"""Data sets: real ones that need no network."""

from sgdnoise.data import benchmark as benchmark
from sgdnoise.data import manifolds as manifolds
from sgdnoise.data.digits import digits as digits
from sgdnoise.data.scaled import principal as principal
from sgdnoise.data.sets import Data as Data
from sgdnoise.data.sets import one_hot as one_hot
from sgdnoise.data.sets import split as split
