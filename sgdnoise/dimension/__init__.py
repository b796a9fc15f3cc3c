"""Dimension of a cloud of points: one function an estimator, (n, D) -> ()."""

from sgdnoise.dimension.neighbours import levina_bickel as levina_bickel
from sgdnoise.dimension.neighbours import twonn as twonn
from sgdnoise.dimension.spectral import participation_ratio as participation_ratio
