"""Networks, in torch: real ones, seen as a Problem over one flat vector, and their noise."""

from sgdnoise.nets.flat import flatten as flatten
from sgdnoise.nets.gradients import gradient_covariance as gradient_covariance
from sgdnoise.nets.gradients import gradients as gradients
from sgdnoise.nets.walks import walk as walk
from sgdnoise.nets.watch import watch as watch
