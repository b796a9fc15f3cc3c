"""Dynamics of theta: descent of every kind, and the stochastic equations behind it."""

from sgdnoise.dynamics.adaptive import adam as adam
from sgdnoise.dynamics.adaptive import adam_langevin as adam_langevin
from sgdnoise.dynamics.adaptive import adamw as adamw
from sgdnoise.dynamics.adaptive import rmsprop as rmsprop
from sgdnoise.dynamics.adaptive import rmsprop_langevin as rmsprop_langevin
from sgdnoise.dynamics.descent import descent as descent
from sgdnoise.dynamics.descent import svag as svag
from sgdnoise.dynamics.langevin import heun as heun
from sgdnoise.dynamics.langevin import langevin as langevin
from sgdnoise.dynamics.langevin import thermal as thermal
from sgdnoise.dynamics.momentum import heavy_ball as heavy_ball
from sgdnoise.dynamics.momentum import nesterov as nesterov
from sgdnoise.dynamics.ornstein_uhlenbeck import ornstein_uhlenbeck as ornstein_uhlenbeck
from sgdnoise.dynamics.process import Process as Process
from sgdnoise.dynamics.process import together as together
from sgdnoise.dynamics.process import weakly as weakly
from sgdnoise.dynamics.stable import stable as stable
from sgdnoise.dynamics.stable import stable_numbers as stable_numbers
from sgdnoise.dynamics.underdamped import baoab as baoab
from sgdnoise.dynamics.underdamped import inertia as inertia
from sgdnoise.dynamics.underdamped import underdamped as underdamped
