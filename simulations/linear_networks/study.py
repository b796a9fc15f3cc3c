"""Label noise, residuals and weight decay in linear networks, against flows along the minima.

Four parts: two_layer and deep under label noise, residual on minibatches that cannot be fitted, and
decay, which compares weight decay with label noise.
"""

from sgdnoise.lab import StudyGroup
from simulations.linear_networks.decay.study import study as decay
from simulations.linear_networks.deep.study import study as deep
from simulations.linear_networks.residual.study import study as residual
from simulations.linear_networks.two_layer.study import study as two_layer

study = StudyGroup(
    {"two_layer": two_layer, "residual": residual, "decay": decay, "deep": deep},
    title="Label noise, residuals and weight decay in linear networks",
)

if __name__ == "__main__":
    study.main()
