"""Data sets: real ones that need no network, and made ones of known dimension."""

from sgdnoise.data import benchmark as benchmark
from sgdnoise.data import manifolds as manifolds
from sgdnoise.data import rendered as rendered
from sgdnoise.data.digits import digits as digits
from sgdnoise.data.files import cifar10 as cifar10
from sgdnoise.data.files import cifar100 as cifar100
from sgdnoise.data.files import fashion_mnist as fashion_mnist
from sgdnoise.data.files import mnist as mnist
from sgdnoise.data.images import faces as faces
from sgdnoise.data.images import patches as patches
from sgdnoise.data.labels import mislabelled as mislabelled
from sgdnoise.data.labels import stripes as stripes
from sgdnoise.data.scaled import principal as principal
from sgdnoise.data.sets import Data as Data
from sgdnoise.data.sets import one_hot as one_hot
from sgdnoise.data.sets import split as split
