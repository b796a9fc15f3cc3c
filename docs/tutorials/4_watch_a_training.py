"""
Watch a real training
=====================

**Question.** What happens to the noise of the gradient, and to the dimension of each layer, while
a network learns handwritten digits?
"""

# %%
# The data
# --------
# MNIST is used if the environment variable ``MNIST`` names the folder of its files; if it is
# empty they are fetched.  Without the variable, the page uses the smaller images of 1797 digits
# that scikit-learn ships.

import os

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.nn.functional import cross_entropy

from sgdnoise.data import digits, mnist
from sgdnoise.nets import models, watch

if "MNIST" in os.environ:
    images, targets = mnist(os.environ["MNIST"] or None)[:2]
    inputs, labels = torch.tensor(images).flatten(1), torch.tensor(targets).long()
else:
    data = digits()
    inputs = torch.tensor(data.inputs, dtype=torch.float32)
    labels = torch.tensor(data.targets).argmax(dim=1)
print(f"{len(inputs)} images of {inputs.shape[1]} pixels")

order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
held_out, train = order[:400], order[400:]

# %%
# A training loop with one more line
# ----------------------------------
# ``watch`` measures on images that are held out, at the steps 0, 1, 2, 4, 8 and so on.  It
# changes no bit of the training.

net = models.mlp([inputs.shape[1], 64, 32, 10], seed=0)
optimizer = torch.optim.SGD(net.parameters(), 0.1)
losses = torch.nn.CrossEntropyLoss(reduction="none")
watcher = watch(net, inputs[held_out], labels[held_out], losses)

generator = torch.Generator().manual_seed(0)
for _ in range(2048):
    batch = train[torch.randint(len(train), (32,), generator=generator)]
    optimizer.zero_grad()
    cross_entropy(net(inputs[batch]), labels[batch]).backward()
    optimizer.step()
    watcher.step()

results = watcher.results()
print("step       ", *(f"{value:7d}" for value in results.step.values[::3]))
print("loss       ", *(f"{value:7.3f}" for value in results.loss.values[::3]))
print("noise scale", *(f"{value:7.1f}" for value in results.noise_scale.values[::3]))
for layer in results.layer.values:
    print(f"twonn, {layer:5}", *(f"{value:7.1f}" for value in results.twonn.sel(layer=layer)[::3]))

# %%
# The pictures
# ------------

figure, axes = plt.subplots(1, 3, figsize=(8, 2.8))
step = np.maximum(results.step.values, 0.5)  # step 0 is drawn at one half
axes[0].loglog(step, results.loss, color="#0072B2")
axes[0].set(xlabel="step", ylabel="held-out loss")
axes[1].semilogx(step, results.noise_scale, color="#D55E00")
axes[1].set(xlabel="step", ylabel=r"noise scale Tr C / |g|$^2$")
for layer in results.layer.values:
    axes[2].semilogx(step, results.twonn.sel(layer=layer), label=f"layer {layer}")
axes[2].set(xlabel="step", ylabel="dimension (twonn)")
axes[2].legend(frameon=False, fontsize=7)
figure.tight_layout()

# %%
# What we read off
# ----------------

first, last = results.isel(step=0), results.isel(step=-1)
assert last.loss < first.loss / 5
scales = results.noise_scale.values
resolved = scales[np.isfinite(scales)]
assert resolved.argmin() == 0
assert resolved.max() > 3 * resolved[0]
top = results.layer.values[-1]
assert last.twonn.sel(layer=top) < last.twonn.sel(layer=results.layer.values[0])

# %%
# **Answer.** The held-out loss falls to less than a fifth.  The noise scale is smallest at the
# start and more than three times as large later, since the mean gradient shrinks faster than the
# noise: early in training a larger batch gains less.  Where it is infinite, the held-out images
# are too few to resolve it.  At the end the last layer has a lower dimension than the first.
#
# **Next.** :doc:`/watching` has loggers, Lightning and Hugging Face, and a budget for the time
# that measurements take.
