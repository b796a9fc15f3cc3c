"""
Predict compression under label noise
=====================================

**Question.** A network fits its data.  Training goes on with noise on the labels.  What happens
to the dimension of its hidden layer, and can that be predicted from the weights at the start?
"""

# %%
# A network at a minimum
# ----------------------
# The network is linear with one hidden layer, f(x) = x W V.  It starts where it fits the targets
# exactly, with more weight in W than is needed.

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from sgdnoise import noise
from sgdnoise.core import mean
from sgdnoise.dynamics import mlp_problem, sgd, simulate
from sgdnoise.theory import (
    MLP,
    flow_regime,
    label_noise_flow,
    label_noise_task,
    stationary_participation_ratio,
)

rng = np.random.default_rng(0)
inputs, target = rng.normal(size=(40, 6)), rng.normal(size=(6, 2)) / 3
first = 1.5 * np.linalg.qr(rng.normal(size=(6, 6))).Q
layers = [first, np.linalg.solve(first, target)]  # W V = target

# %%
# The prediction
# --------------
# Label noise moves the weights along the minima, as descent on L + κ Tr H does, with κ =
# learning_rate · label_noise² / (4 batch_size).  ``flow_regime`` says whether the theory claims
# to hold.

settings = {"learning_rate": 0.02, "batch_size": 10}
label_noise, every, records = 1.0, 4_000, 8
times = settings["learning_rate"] * every * np.arange(records + 1)
task = label_noise_task(inputs, outputs=2, label_noise=label_noise)
flow = label_noise_flow(task, layers, times, **settings)
regime = flow_regime(task, layers, **settings)
print(regime)

assert regime.claimed()


def ratio(w):
    """The participation ratio of the hidden layer: how many of its axes carry the variance."""
    values = np.linalg.eigvalsh(w.T @ task.moment @ w)
    return values.sum() ** 2 / (values**2).sum()


predicted = np.asarray([ratio(w) for w in flow.layers[0]])
limit = stationary_participation_ratio(task.moment, target)

# %%
# SGD
# ---
# 16 independent trainings with label noise, from the same weights.

problem = mlp_problem(MLP((6, 6, 2), "linear"), jnp.asarray(inputs), jnp.asarray(inputs @ target))
process = sgd(
    noise.label_noise(problem, settings["batch_size"], label_noise), settings["learning_rate"]
)
start = jnp.tile(jnp.asarray(np.concatenate([w.ravel() for w in layers])), (16, 1))
path = simulate(process, 0, start, steps=records * every, every=every)
weights = np.asarray(path.theta[:, :, :36]).reshape(16, records, 6, 6)
measured = mean(np.asarray([[ratio(w) for w in chain] for chain in weights]))

for time, theory, value, error in zip(
    times[1:], predicted[1:], measured.value, measured.stderr, strict=True
):
    print(f"time {time:5.0f}: predicted {theory:.3f}, SGD {value:.3f} ± {error:.3f}")
print(f"limit of long times: {limit:.3f}")

assert np.allclose(measured.value, predicted[1:], rtol=0.02)
assert predicted[-1] < 0.6 * predicted[0]
assert limit < predicted[-1]

# %%
# **Answer.** The participation ratio falls by more than 40%, and the prediction is within 2% of
# SGD at each time.  Nothing is fitted.  The limit of long times is lower still.

figure, ax = plt.subplots(figsize=(4.2, 2.8))
ax.plot(times, predicted, color="#D55E00", label="predicted from the start")
ax.errorbar(
    times[1:],
    measured.value,
    2 * measured.stderr,
    fmt="o",
    color="#0072B2",
    label="SGD, 16 trainings",
)
ax.axhline(limit, color="black", linewidth=0.7, linestyle=":", label="limit of long times")
ax.set(xlabel="learning rate × steps", ylabel="participation ratio")
ax.legend(frameon=False, fontsize=7)
figure.tight_layout()

# %%
# **Next.** :doc:`/studies/compression` does this with digits, where the ratio can also rise, and
# :doc:`/studies/public_network` with a ResNet-20 that others trained.
