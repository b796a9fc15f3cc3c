"""The symbols that all derivations share."""

import sympy as sp

__all__ = ["batch", "curvature", "d", "n", "outputs", "rate", "sigma", "trace"]

n = sp.Symbol("n", integer=True, positive=True)  # examples, or points
batch = sp.Symbol("B", integer=True, positive=True)  # examples a step
rate = sp.Symbol("eta", positive=True)  # learning rate
sigma = sp.Symbol("sigma", positive=True)  # standard deviation of label noise
curvature = sp.Symbol("h", positive=True)  # an eigenvalue of the Hessian
trace = sp.Symbol(r"{\operatorname{Tr} H}", positive=True)  # of the Hessian
outputs = sp.Symbol("o", integer=True, positive=True)  # outputs of a network
d = sp.Symbol("d", positive=True)  # dimension, not always whole
