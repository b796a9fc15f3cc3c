"""Slow and obvious twins of what the package does fast, and clouds and problems of known truth."""

from itertools import permutations, product

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp
import torch
from scipy.spatial import KDTree

from sgdnoise.core import Problem
from sgdnoise.noise import Normal, Permutation, Uniform, WithoutReplacement, WithReplacement

SURE = 5  # standard errors: a right estimator fails one run in 1.7 million
LIBRARIES = {"jax": jnp.asarray, "torch": torch.asarray}
SIZE = 8  # parameters of `curved`


def torus(d, n, rng):
    """Uniform on a flat d-torus: no edge, no density gradient, dimension d exactly."""
    angle = rng.uniform(0, 2 * np.pi, (n, d))
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1)


def tree_distances(points, k):
    """Distances to the k nearest others, from a tree."""
    return KDTree(points).query(points, k=k + 1)[0][:, 1:]


def matrix(covariance, p, asarray=np.asarray):
    """The p x p matrix of an operator, one column at a time."""
    columns = [np.asarray(covariance @ asarray(e)) for e in np.eye(p)]
    return np.stack(columns, axis=1)


def colours(covariance, asarray=np.asarray):
    """The matrix B (p, width) by which an operator colours white noise."""
    columns = [np.asarray(covariance.colour(asarray(e))) for e in np.eye(covariance.width)]
    return np.stack(columns, axis=1)


def outcomes(kinds):
    """All that may be drawn, each as likely as the next.

    In place of uniform numbers the middles of `size` equal cells, and of normal numbers their
    signs: exact for a threshold between cells, and for mean and covariance of what is linear.
    """
    match kinds:
        case tuple():
            return list(product(*map(outcomes, kinds)))
        case WithReplacement(size, below):
            rows = product(range(below), repeat=size)
        case WithoutReplacement(size, below):
            rows = permutations(range(below), size)
        case Permutation(size, below):
            places = range(0, below - size + 1, size)
            rows = (p[at : at + size] for p in permutations(range(below)) for at in places)
        case Uniform(size):
            rows = product((np.arange(size) + 0.5) / size, repeat=size)
        case Normal(size):
            rows = product((-1.0, 1.0), repeat=size)
    return [np.asarray(row) for row in rows]


def by_hand(kinds, rng):
    """One draw of what `kinds` ask for."""
    match kinds:
        case dict():
            return {name: by_hand(kind, rng) for name, kind in kinds.items()}
        case tuple():
            return tuple(by_hand(kind, rng) for kind in kinds)
        case Normal(size):
            return rng.normal(size=size)
        case Uniform(size):
            return rng.uniform(size=size)
        case WithReplacement(size, below):
            return rng.integers(0, below, size)
        case WithoutReplacement(size, below) | Permutation(size, below):
            return rng.permutation(below)[:size]


def moments(rows):
    """Exact mean and covariance of equally likely rows."""
    centred = rows - rows.mean(0)
    return rows.mean(0), centred.T @ centred / len(rows)


def dense_weights(law):
    """The weight of each example in each outcome of a law, (outcome, n)."""
    rows = []
    for drawn in outcomes(law.draw):
        picked, weights = law.weights_of(drawn, np.float64)
        row = np.zeros(law.n)
        np.add.at(row, np.arange(law.n) if picked is None else picked, weights)
        rows.append(row)
    return np.stack(rows)


def noisy_gradients(noise, theta):
    """The noisy gradient in each outcome of what a noise draws, (outcome, p)."""
    drawn = jax.tree.map(lambda *rows: jnp.asarray(np.stack(rows)), *outcomes(noise.draw))
    return np.asarray(jax.jit(jax.vmap(noise.gradient, (None, 0)))(theta, drawn))


def curved(library="jax", n=4, outputs=1, seed=0):
    """A small regression, curved in theta (8,) and quadratic in targets; and a theta."""
    asarray = LIBRARIES[library]
    rng = np.random.default_rng(seed)
    inputs, targets = rng.normal(size=(n, 3)), rng.normal(size=(n, outputs))
    theta = rng.normal(size=SIZE) / 2

    def losses(t, x, y):
        return 0.5 * (((x @ t[:6].reshape(3, 2)) ** 2 @ t[6:].reshape(2, 1) - y) ** 2).sum(1)

    return Problem(losses, (asarray(inputs), asarray(targets)), SIZE), asarray(theta)


def entries(estimate):
    """All three entries of an Estimate."""
    return estimate.value, estimate.stderr, estimate.dof


def value_and_error(estimate):
    """The first two entries of an Estimate, for comparisons of both."""
    return estimate.value, estimate.stderr


HESSIAN = np.asarray([[1.0, 0.3, 0.0], [0.3, 0.8, 0.1], [0.0, 0.1, 2.0]])


def bowl(library="jax", n=8, seed=0):
    """Quadratic loss around centres whose mean is zero: curvature HESSIAN everywhere."""
    asarray = LIBRARIES[library]
    centres = np.random.default_rng(seed).normal(size=(n, 3))
    hessian = asarray(HESSIAN)

    def losses(t, c):
        return 0.5 * (((t - c) @ hessian) * (t - c)).sum(1)

    return Problem(losses, (asarray(centres - centres.mean(0)),), 3)


def number(equation, **letters):
    """The right side of a derived equation with numbers for its letters, named as printed."""
    names = sorted(equation.rhs.free_symbols, key=str)
    return sp.lambdify(names, equation.rhs)(*(letters[str(name)] for name in names))
