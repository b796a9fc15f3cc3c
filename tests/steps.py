"""Steps read off a process: draws made by hand, and the matrices of what is linear."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.flatten_util import ravel_pytree
from scipy.linalg import expm, solve_continuous_lyapunov
from witnesses import HESSIAN, by_hand, curved

from sgdnoise import noise
from sgdnoise.noise import Rademacher, StepNumber, ThreePoint
from sgdnoise.noise._draws import with_sizes


def numbers(kinds, k, rng, asarray=np.asarray):
    """One draw of what `kinds` ask for at step k, as arrays of one library."""
    match kinds:
        case dict():
            return {name: numbers(kind, k, rng, asarray) for name, kind in kinds.items()}
        case tuple():
            return tuple(numbers(kind, k, rng, asarray) for kind in kinds)
        case StepNumber():
            return k
        case Rademacher(size):
            return asarray(rng.choice([-1.0, 1.0], size))
        case ThreePoint(size):
            return asarray(3**0.5 * rng.choice([-1.0, 0.0, 1.0], size, p=[1 / 6, 2 / 3, 1 / 6]))
    return asarray(by_hand(kinds, rng))


def side_by_side(process, optimiser, rng, schedule=None, steps=6):
    """Theta after steps of a process, and of an optimiser of torch's given the same gradients."""
    problem, start = curved("torch")
    model = noise.minibatch(problem, 2)
    ours = process(model)
    theirs = torch.nn.Parameter(start.clone())
    taking = optimiser([theirs])
    state, recorded = ours.begin(start), []
    for k in range(steps):
        drawn = numbers(ours.draw, k, rng, torch.asarray)
        chosen = drawn[0] if isinstance(drawn, tuple) else drawn
        state = ours.step(state, drawn)
        theirs.grad = model.gradient(theirs.detach(), chosen)
        if schedule is not None:
            taking.param_groups[0]["lr"] = schedule(k)
        taking.step()
        recorded.append((ours.theta(state).numpy(), theirs.detach().numpy().copy()))
    return map(np.stack, zip(*recorded, strict=True))


def affine(process, p):
    """A and B of state <- A state + B white, theta first in the flat state."""
    return tuple(map(np.asarray, jax.jit(lambda: linear(process, p))()))


def linear(process, p):
    """As `affine`, for a process that is itself made inside a compiled function."""
    state, back = ravel_pytree(process.begin(jnp.zeros(p)))

    def flat(state, white):
        return ravel_pytree(process.step(back(state), white))[0]

    draw = with_sizes(process.draw, jnp.zeros(p))
    return jax.jacobian(flat, (0, 1))(state, jnp.zeros(draw.size))


def at_rest(process, p):
    """Stationary covariance of theta under a linear process, from its steps."""
    a, b = affine(process, p)
    flat = np.linalg.solve(np.eye(a.size) - np.kron(a, a), (b @ b.T).reshape(-1))
    return flat.reshape(a.shape)[:p, :p]


def after(a, b, steps, start):
    """Mean and covariance of a linear process after so many steps from a fixed state."""
    mean, cov = start, np.zeros((len(a), len(a)))
    for _ in range(steps):
        mean, cov = a @ mean, a @ cov @ a.T + b @ b.T
    return mean, cov


def solution(a, sigma, time, start):
    """Mean and covariance of dx = -a x dt + sigma dW, from the covariance at rest."""
    decay, remainder = expm(-a * time), solve_continuous_lyapunov(a, sigma @ sigma.T)
    return decay @ start, remainder - decay @ remainder @ decay.T


def with_inertia(friction, strength, hessian=HESSIAN):
    """Drift and noise matrices of (theta, v) in a bowl, with noise in the velocity."""
    p = len(hessian)
    a = np.block([[np.zeros((p, p)), -np.eye(p)], [hessian, friction * np.eye(p)]])
    return a, np.concatenate([np.zeros((p, p)), strength * np.eye(p)])


def slope(errors, steps):
    """Orders of convergence from one step length to the next."""
    return np.diff(np.log(errors)) / np.diff(np.log(steps))
