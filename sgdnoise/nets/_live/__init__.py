"""The gradient-noise scale from the backward passes of a training."""
