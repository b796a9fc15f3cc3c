"""Which equation and which loss SGD follows, and what linear scaling of rate and batch changes.

Three parts: weak_order, the distance of SGD from stochastic equations; modified_loss, the losses
that it follows on average; scaling, rate and batch scaled together.
"""

from sgdnoise.lab import StudyGroup
from simulations.sde_and_scaling.modified_loss.study import study as modified_loss
from simulations.sde_and_scaling.scaling.study import study as scaling
from simulations.sde_and_scaling.weak_order.study import study as weak_order

study = StudyGroup(
    {"weak_order": weak_order, "modified_loss": modified_loss, "scaling": scaling},
    title="Stochastic equations, modified losses and linear scaling",
)

if __name__ == "__main__":
    study.main()
