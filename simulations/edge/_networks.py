"""Smooth networks of flat parameters in jax, their images, and what is observed of them.

theta is one vector (p,): for each layer its weights, row by row, and its biases.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgdnoise.core import Problem, largest_eigenpairs
from sgdnoise.data import cifar10, digits, mnist, patches
from simulations._vision import CLASSES

POWER = 10.0  # mean of |x|^2 over the images
READ = 5000  # images from which those of the study are drawn
TOLERANCE = 1e-3  # residual of the largest curvature, relative to it


class Net(NamedTuple):
    """Layers of a network as a function of theta, and the sizes (inputs, outputs) of its weights.

    layers: theta -> the hidden layers (n, d) and the outputs (n, classes) of the images.
    """

    layers: Callable[..., list]
    sizes: list[tuple[int, int]]
    inputs: Any
    targets: Any

    @property
    def size(self) -> int:
        """The number p of parameters."""
        return sum((i + 1) * o for i, o in self.sizes)

    def problem(self) -> Problem:
        """Half the squared error as a Problem."""

        def losses(theta, x, y):
            return (self.layers(theta, x)[-1] - y).__pow__(2).sum(-1) / 2

        return Problem(losses, (self.inputs, self.targets), size=self.size)

    def start(self, seed: int):
        """Weights with the variance 1 / inputs, and biases of zero."""
        rng = np.random.default_rng([seed, 1])
        layers = [(rng.normal(size=(i, o)) / i**0.5, np.zeros(o)) for i, o in self.sizes]
        flat = np.concatenate([part.ravel() for layer in layers for part in layer])
        return jnp.asarray(flat, jnp.float32)

    def ratios(self, theta):
        """The participation ratio of each hidden layer over the images, (layers,)."""
        return jnp.stack([_participation(rows) for rows in self.layers(theta, self.inputs)[:-1]])


def _participation(rows):
    centred = rows - rows.mean(0)
    gram = centred @ centred.T if len(rows) < rows.shape[1] else centred.T @ centred
    return jnp.trace(gram) ** 2 / (gram**2).sum()


def images(data, kind: str, count: int, pixels: int, seed: int = 0):
    """Images (count, pixels, pixels, channels), centred, and one-hot classes.

    data: the folder of the files of MNIST and of the photographs of CIFAR-10; None for images that
    need no file: digits of 8 x 8 pixels, and patches of photographs with classes of brightness.
    """
    if data is None:
        inputs, labels = _without_files(kind, count, pixels)
    elif kind == "MNIST":
        train = mnist(Path(data), "train")
        inputs, labels = np.asarray(train.inputs)[:READ], np.asarray(train.targets)[:READ]
        inputs = inputs.reshape(-1, 1, 28, 28)
    else:
        inputs, labels, _ = cifar10(Path(data), "train")
        inputs, labels = np.asarray(inputs)[:READ], np.asarray(labels)[:READ]
    chosen = np.random.default_rng(seed).permutation(len(inputs))[:count]
    inputs, labels = inputs[chosen].astype(np.float32), labels[chosen].astype(int)
    factor = inputs.shape[-1] // pixels
    inputs = inputs.reshape(*inputs.shape[:2], pixels, factor, pixels, factor).mean((3, 5))
    inputs = inputs - inputs.mean(0)
    inputs *= (POWER / (inputs**2).sum((1, 2, 3)).mean()) ** 0.5
    return jnp.asarray(inputs.transpose(0, 2, 3, 1)), jnp.eye(CLASSES, dtype=jnp.float32)[labels]


def _without_files(kind, count, pixels):
    if kind == "MNIST":
        every = digits()
        return every.inputs.reshape(-1, 1, 8, 8), every.targets.argmax(1)
    inputs = patches(count, pixels, rng=0).inputs
    return inputs, CLASSES * inputs.mean((1, 2, 3)).argsort().argsort() // count


def perceptron(inputs, targets, hidden: tuple[int, ...]) -> Net:
    """Dense layers with tanh."""
    widths = (inputs[0].size, *hidden, targets.shape[1])
    sizes = list(pairwise(widths))

    def layers(theta, x):
        values = [x.reshape(len(x), -1)]
        for k, (weights, bias) in enumerate(_parts(theta, sizes)):
            values.append(values[-1] @ weights + bias)
            if k < len(sizes) - 1:
                values[-1] = jnp.tanh(values[-1])
        return values[1:]

    return Net(layers, sizes, inputs, targets)


def convnet(inputs, targets, channels: tuple[int, int], units: int) -> Net:
    """Two 3 x 3 convolutions with tanh that halve the image, and two dense layers."""
    first, second = channels
    halved = (inputs.shape[1] + 1) // 2
    flat = second * ((halved + 1) // 2) ** 2
    sizes = [(9 * inputs.shape[-1], first), (9 * first, second)]
    sizes += [(flat, units), (units, targets.shape[1])]

    def layers(theta, x):
        (a, bias_a), (b, bias_b), (c, bias_c), (d, bias_d) = _parts(theta, sizes)
        one = jnp.tanh(_windows(x) @ a + bias_a)
        two = jnp.tanh(_windows(one) @ b + bias_b)
        three = jnp.tanh(two.reshape(len(x), -1) @ c + bias_c)
        return [one.reshape(len(x), -1), two.reshape(len(x), -1), three, three @ d + bias_d]

    return Net(layers, sizes, inputs, targets)


def _windows(x):
    """The 3 x 3 windows around every second pixel, (n, h, w, 9 c)."""
    h, w = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    views = [padded[:, i : i + h : 2, j : j + w : 2] for i in range(3) for j in range(3)]
    return jnp.concatenate(views, -1)


def _parts(theta, sizes):
    """The weights (i, o) and biases (o,) of each layer."""
    parts = []
    for i, o in sizes:
        weights, bias, theta = theta[: i * o], theta[i * o : (i + 1) * o], theta[(i + 1) * o :]
        parts.append((weights.reshape(i, o), bias))
    return parts


def sharpness_of(problem: Problem, k: int = 3) -> Callable:
    """theta -> the k largest eigenvalues of the Hessian of the mean loss, largest first."""
    products = jax.jit(jax.vmap(problem.hvp, (None, 0)))
    start = np.random.default_rng(0).normal(size=(problem.size or 0, k))

    def sharpness(theta):
        def operator(block):
            rows = jnp.asarray(block.T, theta.dtype)
            return np.asarray(products(theta, rows)).T.astype(float)

        return largest_eigenpairs(operator, start, k, tolerance=TOLERANCE)

    return sharpness
