"""Dimension of a cloud of points: one function an estimator, (n, D) -> ()."""

from sgdnoise.dimension.cloud import Duplicates as Duplicates
from sgdnoise.dimension.cloud import Neighbours as Neighbours
from sgdnoise.dimension.cloud import cloud as cloud
from sgdnoise.dimension.cloud import distinct as distinct
from sgdnoise.dimension.cloud import nearest as nearest
from sgdnoise.dimension.ratios import l2n2 as l2n2
from sgdnoise.dimension.ratios import levina_bickel as levina_bickel
from sgdnoise.dimension.ratios import twonn as twonn
from sgdnoise.dimension.spectral import participation_ratio as participation_ratio
