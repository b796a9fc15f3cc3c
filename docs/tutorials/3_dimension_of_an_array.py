"""
The dimension of an array, and what not to believe
==================================================

**Question.** I have an array of n points with D coordinates.  How many dimensions do the points
have, and when is the answer wrong?
"""

# %%
# Points of a known dimension
# ---------------------------
# A curved surface of 3 dimensions in 20 coordinates stands for your array, so that we know the
# answer.

import warnings

import matplotlib.pyplot as plt
import numpy as np

from sgdnoise import estimate_dimension, participation_ratio, twonn, with_group_error
from sgdnoise.dimension import doubts, scale_profile

rng = np.random.default_rng(0)
points = np.sin(rng.normal(size=(1500, 3)) @ rng.normal(size=(3, 20)))

recommended = estimate_dimension(points)
axes_of_variance = with_group_error(participation_ratio, points)
print(f"recommended estimate {recommended}")
print(f"participation ratio {axes_of_variance}")

low, high = recommended.interval(0.99)
assert low < 3 < high
assert axes_of_variance.value > 5

# %%
# The recommended estimate finds the 3 dimensions of the surface.  The participation ratio answers
# another question: how many principal axes carry the variance.  A curved surface needs more axes
# than it has dimensions.  Say which of the two you report.

# %%
# Do not believe one number in noise
# ----------------------------------
# A sphere has 2 dimensions.  With noise in each of 20 coordinates the points fill all 20 at small
# distances: the dimension depends on the scale at which you look.  Points that are thinned are
# looked at from further away.

sphere = np.zeros((2000, 20))
sphere[:, :3] = rng.normal(size=(2000, 3))
sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
noisy = sphere + 0.02 * rng.normal(size=sphere.shape)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # we look at the scales ourselves
    clean_profile = scale_profile(twonn, sphere, rng=0)
    noisy_profile = scale_profile(twonn, noisy, rng=0)
beneath = estimate_dimension(noisy, noisy=True)
print("twonn of the sphere, fine to coarse:", clean_profile.dimension.value.round(1))
print("twonn in noise, fine to coarse:     ", noisy_profile.dimension.value.round(1))
print(f"estimate that is told of the noise: {beneath}")

assert np.all(abs(clean_profile.dimension.value - 2) < 0.3)
assert noisy_profile.dimension.value[0] > 6
assert noisy_profile.dimension.value[-1] < 4
assert 2 + 3 * beneath.stderr < beneath.value < 3

figure, ax = plt.subplots(figsize=(4.2, 2.8))
for name, profile, color in (
    ("sphere", clean_profile, "#0072B2"),
    ("sphere with noise", noisy_profile, "#D55E00"),
):
    value, error = profile.dimension.value, 2 * profile.dimension.stderr
    ax.errorbar(profile.scale, value, error, fmt="o-", markersize=3, color=color, label=name)
ax.axhline(2, color="black", linewidth=0.7, linestyle=":")
ax.set(xscale="log", xlabel="distance between neighbours", ylabel="dimension (twonn)", ylim=(0, 10))
ax.legend(frameon=False)
figure.tight_layout()

# %%
# The dotted line is the truth.  With noise, ``twonn`` is above 6 at small distances and below 4
# at large ones.  With ``noisy=True`` the estimate looks beneath the noise: it is below 3.  It is
# still too large by more than its error, which tells only how much other points would change it.

# %%
# Do not believe a large dimension from few points
# ------------------------------------------------
# Most points of a ball of high dimension lie at its edge, where half of the neighbours are
# missing.

truth = np.asarray([2, 5, 10, 20])
plain, corrected = [], []
for dimension in truth:
    directions = rng.normal(size=(1000, dimension))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    ball = directions * rng.uniform(size=(1000, 1)) ** (1 / dimension)
    plain.append(float(twonn(ball)))
    corrected.append(estimate_dimension(ball))
print("true dimension      ", *truth)
print("twonn               ", *(f"{value:.1f}" for value in plain))
print("recommended estimate", *corrected, sep="  ")

assert plain[-1] < 17
assert abs(corrected[-1].value - 20) < 2

figure, ax = plt.subplots(figsize=(3.6, 2.8))
ax.plot([0, 22], [0, 22], color="black", linewidth=0.7, label="truth")
ax.plot(truth, plain, "o", color="#D55E00", label="twonn")
values, errors = zip(*((each.value, 2 * each.stderr) for each in corrected), strict=True)
ax.errorbar(truth, values, errors, fmt="s", color="#0072B2", label="recommended")
ax.set(xlabel="dimension of a ball", ylabel="estimate from 1000 points")
ax.legend(frameon=False)
figure.tight_layout()

# %%
# ``twonn`` finds fewer than 17 of 20 dimensions.  The recommended estimate is corrected for edges
# and is within 2 of the truth.

# %%
# Do not believe rows that are moments of one recording
# -----------------------------------------------------
# The nearest neighbour of a row is then the row before or after it.  ``doubts`` says what speaks
# against an estimate; the estimators give the same warnings.

recording = np.cumsum(rng.normal(size=(1000, 5)), axis=0)
sentences = [str(doubt) for doubt in doubts(recording)]
print(*sentences, sep="\n")

assert [type(doubt).__name__ for doubt in doubts(recording)] == ["SerialDependence"]
assert not doubts(points)

# %%
# **Answer.** Take the recommended estimate with its error, read the warnings, and look at the
# scales before you believe a number.  :doc:`/dimension` has the tables of errors of all
# estimators.
