"""The shape of gradient noise against curvature, and the critical batch that its size predicts.

Two parts: shape, gradient covariance and Hessian through training; scale, the noise scale against
the batch at which a step gains half as much as with the exact gradient.
"""

from sgdnoise.lab import StudyGroup
from simulations.gradient_noise.scale.study import study as scale
from simulations.gradient_noise.shape.study import study as shape

study = StudyGroup({"shape": shape, "scale": scale}, title="Shape and scale of gradient noise")

if __name__ == "__main__":
    study.main()
