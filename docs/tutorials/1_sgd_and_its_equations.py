"""
SGD against its equations, for your own loss
============================================

**Question.** My loss is not quadratic and my gradients are noisy.  How far does SGD move about
the minimum, and is that what theory and the Langevin equation say?

SGD with the learning rate λ makes steps ``theta <- theta - λ g``, where g is the gradient of a
batch.  Its stochastic differential equation is ``d theta = -grad L dt + (λ C)^(1/2) dW``, where C
is the covariance of g.
"""

# %%
# A loss of your own
# ------------------
# A ``Problem`` needs one loss for each example.  This one is a regression that forgives outliers.

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from sgdnoise import noise
from sgdnoise.core import Problem, mean
from sgdnoise.dynamics import langevin, sgd, simulate
from sgdnoise.theory import langevin_covariance, stationary_covariance

rng = np.random.default_rng(0)
inputs = rng.normal(size=(60, 2)) * [2.0, 1.0]
targets = inputs @ [1.0, -1.0] + 0.5 * rng.normal(size=60)


def losses(theta, x, y):
    return jnp.sqrt(1 + (x @ theta - y) ** 2) - 1


problem = Problem(losses, (jnp.asarray(inputs), jnp.asarray(targets)))

# %%
# What theory predicts
# --------------------
# At the minimum we need the Hessian and the covariance of a batch's gradient.  Nothing is fitted.

learning_rate, batch_size = 0.1, 4
batches = noise.minibatch(problem, batch_size)

minimum = jnp.zeros(2)
for _ in range(500):
    minimum = minimum - learning_rate * problem.gradient(minimum)

hessian = np.stack([problem.hvp(minimum, unit) for unit in jnp.eye(2)])
covariance = batches.covariance(minimum) @ jnp.eye(2)
of_sgd = np.trace(stationary_covariance(hessian, np.asarray(covariance), learning_rate))
of_equation = np.trace(langevin_covariance(hessian, np.asarray(covariance), learning_rate))
print(
    f"learning rate times largest curvature: {learning_rate * np.linalg.eigvalsh(hessian)[-1]:.2f}"
)
print(f"predicted variance of SGD {of_sgd:.4f}, of its equation {of_equation:.4f}")

# %%
# What simulation gives
# ---------------------
# 4000 independent chains start at the minimum.  The equation is simulated with steps of λ / 8.

processes = {
    "SGD": (sgd(batches, learning_rate), 400),
    "equation": (langevin(batches, learning_rate, dt=learning_rate / 8), 3200),
}
ends, variance = {}, {}
for name, (process, steps) in processes.items():
    start = jnp.tile(minimum, (4000, 1))
    path = simulate(process, 0, start, steps=steps, every=steps)
    ends[name] = np.asarray(path.theta[:, -1] - minimum)
    variance[name] = mean((ends[name] ** 2).sum(axis=1))
    print(f"{name}: {variance[name]}")

assert abs(variance["SGD"].value / of_sgd - 1) < 0.1
assert abs(variance["equation"].value / of_equation - 1) < 0.1
assert variance["SGD"].value > variance["equation"].value + 3 * variance["SGD"].stderr
assert variance["SGD"].value > of_sgd
assert variance["equation"].value > of_equation

# %%
# **Answer.** Both agree with theory within 10%, and SGD moves further than its equation.  The
# difference is not an error of the simulation: theory has it too, as a factor 1 - λh / 2 for each
# curvature h.  Both move a little further than predicted: theory is that of a quadratic loss, and
# this one is flatter further out.

figure, axes = plt.subplots(1, 2, figsize=(7, 2.8), sharey=True)
for ax, (name, points) in zip(axes, ends.items(), strict=True):
    expected = stationary_covariance if name == "SGD" else langevin_covariance
    deviation = expected(hessian, np.asarray(covariance), learning_rate)[0, 0] ** 0.5
    grid = np.linspace(-4, 4, 200) * deviation
    density = np.exp(-((grid / deviation) ** 2) / 2) / (2 * np.pi) ** 0.5 / deviation
    ax.hist(points[:, 0], bins=60, density=True, color="#56B4E9", label="4000 chains")
    ax.plot(grid, density, color="#D55E00", label="normal law of the predicted variance")
    ax.set(title=name, xlabel="distance from the minimum, first parameter")
axes[0].set(ylabel="density", ylim=(0, 13))
axes[1].legend(frameon=False, fontsize=7, loc="upper right")
figure.tight_layout()

# %%
# **Next.** :doc:`/dynamics` has momentum, Adam and other equations.
# ``sgdnoise.theory.moment_closure`` follows mean and covariance on the way to a minimum.
