"""Data sets, both real ones and simulated ones of known dimension."""

from sgdnoise._public import publish as _publish
from sgdnoise.data._benchmark import BENCHMARK as BENCHMARK
from sgdnoise.data._benchmark import Manifold as Manifold
from sgdnoise.data._benchmark import benchmark as benchmark
from sgdnoise.data._columns import IndexColumn as IndexColumn
from sgdnoise.data._digits import digits as digits
from sgdnoise.data._files import cifar10 as cifar10
from sgdnoise.data._files import cifar100 as cifar100
from sgdnoise.data._files import fashion_mnist as fashion_mnist
from sgdnoise.data._files import mnist as mnist
from sgdnoise.data._images import PHOTOGRAPHS as PHOTOGRAPHS
from sgdnoise.data._images import faces as faces
from sgdnoise.data._images import patches as patches
from sgdnoise.data._labels import mislabelled as mislabelled
from sgdnoise.data._labels import stripes as stripes
from sgdnoise.data._manifolds import ball as ball
from sgdnoise.data._manifolds import cube as cube
from sgdnoise.data._manifolds import embedded as embedded
from sgdnoise.data._manifolds import gaussian as gaussian
from sgdnoise.data._manifolds import helix as helix
from sgdnoise.data._manifolds import klein_bottle as klein_bottle
from sgdnoise.data._manifolds import moebius as moebius
from sgdnoise.data._manifolds import noisy as noisy
from sgdnoise.data._manifolds import paraboloid as paraboloid
from sgdnoise.data._manifolds import product as product
from sgdnoise.data._manifolds import rotations as rotations
from sgdnoise.data._manifolds import sphere as sphere
from sgdnoise.data._manifolds import spiral as spiral
from sgdnoise.data._manifolds import stiefel as stiefel
from sgdnoise.data._manifolds import swiss_roll as swiss_roll
from sgdnoise.data._manifolds import thinned as thinned
from sgdnoise.data._manifolds import torus as torus
from sgdnoise.data._read import read_points as read_points
from sgdnoise.data._rendered import FACTORS as FACTORS
from sgdnoise.data._rendered import KINDS as KINDS
from sgdnoise.data._rendered import render as render
from sgdnoise.data._rendered import rendered as rendered
from sgdnoise.data._rendered import scenes as scenes
from sgdnoise.data._scaled import principal as principal
from sgdnoise.data._sets import Data as Data
from sgdnoise.data._sets import normalized as normalized
from sgdnoise.data._sets import one_hot as one_hot
from sgdnoise.data._sets import split as split

__all__ = _publish(__name__, globals())


def __dir__():
    return __all__
