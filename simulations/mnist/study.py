"""All of MNIST: the dimension of layers in the time of training, and against the test error.

Two parts: in_time, layers of two networks at 0, 1, 10, 100, ... steps; against_error, the last
hidden layer over learning rate, batch size and shuffled labels.
"""

from sgdnoise.lab import StudyGroup
from simulations.mnist.against_error.study import study as against_error
from simulations.mnist.in_time.study import study as in_time

study = StudyGroup(
    {"in_time": in_time, "against_error": against_error},
    title="All of MNIST: dimension in time, and against the test error",
)

if __name__ == "__main__":
    study.main()
