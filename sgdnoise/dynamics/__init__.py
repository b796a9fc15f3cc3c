"""Dynamics of theta: descent and its Langevin equations; many chains of them at once."""

from sgdnoise.dynamics.descent import descent as descent
from sgdnoise.dynamics.langevin import langevin as langevin
from sgdnoise.dynamics.process import Process as Process
from sgdnoise.dynamics.process import together as together
