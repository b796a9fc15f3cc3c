"""Each derived formula against the code that claims to compute it, and against simulated chains."""

import ast
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
from numpy.testing import assert_allclose
from scipy.integrate import quad
from witnesses import SURE, matrix, number

from derivations import (
    batch_kurtosis,
    decay,
    directions,
    effective_loss,
    fisher,
    groups,
    langevin,
    neighbours,
    sampling,
    slow_flow,
    spectra,
    stationary,
    symbols,
    two_layer,
)
from derivations.catalogue import SUBJECTS, entries
from sgdnoise import dynamics, noise
from sgdnoise.core import Problem, mean, with_group_error
from sgdnoise.data import ball
from sgdnoise.dimension import (
    Neighbours,
    abid,
    binomial,
    debiased,
    find_neighbours,
    gride,
    l2n2,
    levina_bickel,
    mind_ml,
    mom,
    participation_ratio,
)
from sgdnoise.dimension._angles import _mean_sine, cosines
from sgdnoise.dimension._correlation import _misfit
from sgdnoise.dimension._counts import BEST_FRACTION
from sgdnoise.dimension._distance_ratios import pareto_exponent
from sgdnoise.dimension._geodesic import sine_exponent
from sgdnoise.dimension._separability import _dimension_of
from sgdnoise.dimension._spectral import trace_moments
from sgdnoise.dynamics import simulate
from sgdnoise.noise import fisher_inner_product, fisher_scatter
from sgdnoise.theory import (
    MLP,
    LinearTask,
    equal_decay,
    hessian_trace,
    imbalance_after,
    imbalances,
    irrelevant_rate,
    jitter_force,
    label_noise_strength,
    mode_with_decay,
    noise_feedback,
    online_covariance,
    residual_amplification,
    shrink_rates,
    shrinkage,
    stationary_covariance,
    stationary_hidden_modes,
    variance_slope,
)
from sgdnoise.theory._label_noise_flow import _drift

TIGHT = {"rtol": 1e-12, "atol": 0}
SIZES = [(7, 3), (7, 1), (5, 5), (64, 16)]


# --- derived = coded: how a step weighs the examples ---


@pytest.mark.parametrize(("n", "batch"), SIZES)
@pytest.mark.parametrize(
    ("derive", "law"),
    [
        (sampling.own_with_replacement, noise.with_replacement),
        (sampling.own_without_replacement, noise.without_replacement),
        (sampling.own_bernoulli, noise.bernoulli),
    ],
    ids=["with", "without", "bernoulli"],
)
def test_own_eigenvalue_is_the_derived_one(derive, law, n, batch):
    assert_allclose(law(n, batch).var_within, number(derive(), n=n, B=batch), **TIGHT)


@pytest.mark.parametrize(("n", "batch"), SIZES)
def test_shared_eigenvalue_is_the_derived_one(n, batch):
    fixed = number(sampling.shared_of_a_fixed_batch())
    assert noise.with_replacement(n, batch).var_mean == fixed
    assert noise.without_replacement(n, batch).var_mean == fixed
    derived = number(sampling.shared_bernoulli(), n=n, B=batch)
    assert_allclose(noise.bernoulli(n, batch).var_mean, derived, **TIGHT)


@pytest.mark.parametrize(("n", "batch"), [(7, 3), (7, 1), (64, 16)])
def test_kurtosis_of_a_batch_is_the_derived_one(n, batch):
    derived = number(batch_kurtosis.kurtosis_of_a_batch(), n=n, B=batch, kappa=2.5)
    assert_allclose(noise.minibatch_kurtosis(2.5, batch, n), derived, **TIGHT)


@pytest.mark.parametrize("stretch", [1, 2, 5])
def test_svag_stretches_as_derived(stretch):
    law = noise.without_replacement(9, 4)
    letters = {"ell": stretch, r"\lambda_{\perp}": law.var_within}
    assert_allclose(
        noise.svag_weights(law, stretch).var_within, number(sampling.own_svag(), **letters), **TIGHT
    )


@pytest.mark.parametrize("law", ["with_replacement", "without_replacement", "bernoulli"])
def test_gaussian_twin_has_the_derived_covariance(law):
    """Its weights are linear in the white numbers: their Gram matrix, no sampling."""
    n = 6
    original = getattr(noise, law)(n, 4)
    pick = noise.gaussian_weights(original).weights_of
    fixed = pick(np.zeros(n), np.float64)[1]
    rows = np.stack([pick(e, np.float64)[1] - fixed for e in np.eye(n)])
    letters = {r"\lambda_{\perp}": original.var_within, r"\lambda_{\parallel}": original.var_mean}
    separate = number(sampling.own_twin(), **letters)
    shared = number(sampling.shared_twin(), **letters)
    assert_allclose(rows.T @ rows, exchangeable(separate, shared, n), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("replacement", [True, False])
def test_minibatch_covariance_is_that_of_the_derived_weights(replacement, rng):
    problem = bowl(rng)
    n, batch, theta = len(problem), 4, jnp.asarray(rng.normal(size=3))
    derive = sampling.own_with_replacement if replacement else sampling.own_without_replacement
    weights = exchangeable(number(derive(), n=n, B=batch), 0.0, n)
    gradients = np.asarray(problem.gradients(theta))
    coded = matrix(noise.minibatch(problem, batch, replacement).covariance(theta), 3, jnp.asarray)
    assert_allclose(coded, gradients.T @ weights @ gradients, rtol=1e-12, atol=1e-15)


# --- derived = coded: rest, effective loss, networks ---


def test_stationary_covariance_is_the_derived_one(xp, rng):
    h, rate = rng.uniform(0.5, 2, 4), 0.3
    kicks = np.cov(rng.normal(size=(4, 50)))
    letters = {"h_i": h[:, None], "h_j": h[None, :], "C_ij": kicks, "eta": rate}
    derived = number(stationary.stationary_entry(), **letters)
    coded = stationary_covariance(xp.asarray(np.diag(h)), xp.asarray(kicks), rate)
    assert_allclose(np.asarray(coded), derived, **TIGHT)


def test_label_noise_rests_as_derived(rng):
    h, rate, sigma, batch = np.sort(rng.uniform(0.5, 2, 4)), 0.3, 0.7, 5
    derived = number(stationary.label_noise_rest(), h=h, eta=rate, sigma=sigma, B=batch)
    coded = stationary_covariance(np.diag(h), sigma**2 * np.diag(h) / batch, rate)
    assert_allclose(np.diag(coded), derived, **TIGHT)


def test_langevin_steps_as_derived(rng):
    """Read off the step itself, which is linear in the white numbers."""
    problem, rate, dt = bowl(rng), 0.2, 0.07
    source = noise.minibatch(problem, 4)
    theta, fixed = jnp.asarray(rng.normal(size=3)), jnp.zeros(source.normal.size)
    process = dynamics.langevin(source, rate, dt)
    slope = jax.jacobian(process.step, 1)(theta, fixed)
    unscaled = jax.jacobian(source.gaussian_gradient, 1)(theta, fixed)
    scale = number(langevin.white_scale(), eta=rate, tau=dt)
    assert_allclose(slope, -dt * scale * unscaled, rtol=1e-12, atol=1e-15)
    kicks = {f"k_{i}{j}": unscaled[i - 1] @ basis for i, j, basis in _two_kicks(unscaled)}
    covariance = number(langevin.step_covariance(), eta=rate, tau=dt, **kicks)
    assert_allclose((slope @ slope.T)[0, 1], covariance, rtol=1e-12)
    step = dynamics.langevin(source, rate).step(theta, fixed)
    g = problem.gradient(theta)
    assert_allclose(
        step[0], number(langevin.step_mean(), eta=rate, theta_1=theta[0], g_1=g[0]), rtol=1e-12
    )


def _two_kicks(rows):
    """Two directions of white numbers that hold all of the first two rows."""
    basis = np.linalg.qr(np.asarray(rows[:2]).T)[0].T
    return [(i, j, basis[j - 1]) for i in (1, 2) for j in (1, 2)]


@pytest.mark.parametrize(("rate", "sigma", "batch"), [(0.05, 1.0, 8), (0.3, 0.2, 1)])
def test_label_noise_strength_is_the_derived_one(rate, sigma, batch):
    derived = number(effective_loss.label_noise_strength(), eta=rate, sigma=sigma, B=batch)
    assert_allclose(label_noise_strength(rate, sigma, batch), derived, **TIGHT)


@pytest.mark.parametrize(
    ("rate", "trace", "batch", "outputs"), [(0.05, 54.0, 8, 3), (0.3, 1, 1, 1)]
)
def test_residual_amplification_is_the_derived_one(rate, trace, batch, outputs):
    letters = {"eta": rate, str(symbols.trace): trace, "B": batch, "o": outputs}
    derived = number(effective_loss.amplification(), **letters)
    assert_allclose(residual_amplification(rate, trace, batch, outputs), derived, **TIGHT)


def test_a_jitter_pushes_as_derived(rng):
    """Any slopes up to the third, and a jitter: coded where it is that of label noise.

    Seen over points of a rule that is exact for cubic losses: +-3^1/2 along either axis, or none.
    """
    slopes = {(a, b): rng.normal() for a in range(4) for b in range(4 - a) if a + b}
    named = {"L_{" + "1" * a + "2" * b + "}": value for (a, b), value in slopes.items()}
    rate, sigma, batch = 0.3, 0.7, 4
    kappa = label_noise_strength(rate, sigma, batch)
    alike = {"S_11": 2 * kappa, "S_12": 0.0, "S_22": 2 * kappa}
    gap = number(effective_loss.mean_force(), **named, **alike) - slopes[1, 0]
    assert_allclose(gap, kappa * (slopes[3, 0] + slopes[1, 2]), **TIGHT)
    root = np.asarray([[0.5, 0.2], [0.0, 0.8]])
    ends = np.asarray(np.meshgrid(*[[-(3**0.5), 0, 3**0.5]] * 2)).reshape(2, -1)
    weights = np.prod(np.where(ends == 0, 2 / 3, 1 / 6), axis=0)
    (x, y), s = root @ ends, root @ root.T
    force = slopes[1, 0] + slopes[2, 0] * x + slopes[1, 1] * y + slopes[2, 1] * x * y
    force = force + slopes[3, 0] * x**2 / 2 + slopes[1, 2] * y**2 / 2
    jitter = {"S_11": s[0, 0], "S_12": s[0, 1], "S_22": s[1, 1]}
    derived = number(effective_loss.mean_force(), **named, **jitter)
    assert_allclose(weights @ force, derived, rtol=1e-12)


@pytest.mark.parametrize("rate", [1e-6, 0.05])
def test_noise_that_feeds_on_its_residual_is_the_derived_one(rate, rng):
    """Regression, where label noise and residual are known; at small rates by the coded share."""
    a, sigma, batch = np.cov(rng.normal(size=(3, 9))), 0.7, 2
    residual = np.trace(a @ online_covariance(a, sigma, rate, batch))
    exact = number(effective_loss.amplified_noise(), u=noise_feedback(a, rate, batch), sigma=sigma)
    assert_allclose(sigma**2 + residual, exact, rtol=1e-12)
    if rate < 1e-3:
        small = residual_amplification(rate, np.trace(a), batch, 1)
        near = number(effective_loss.amplified_noise(), u=small, sigma=sigma)
        assert_allclose(near / sigma**2 - 1, residual / sigma**2, rtol=100 * rate)


# --- derived = coded: linear networks of two hidden units ---


def linear_net(rng):
    """One input and one output: weights (1, 2) and (2, 1), and the letters they are derived by."""
    w, v, moment = rng.normal(size=(1, 2)), rng.normal(size=(2, 1)), 0.8
    named = {"W_{11}": w[0, 0], "W_{12}": w[0, 1], "V_{11}": v[0, 0], "V_{21}": v[1, 0]}
    return w, v, np.asarray([[moment]]), named | {r"\Sigma_{11}": moment}


def test_the_trace_of_a_linear_network_is_the_derived_one(rng):
    w, v, moment, named = linear_net(rng)
    derived = number(slow_flow.trace_of_hessian(), **named)
    assert_allclose(hessian_trace(moment, [w, v]), derived, **TIGHT)


def test_a_step_moves_the_imbalance_as_derived(rng):
    w, v, _, named = linear_net(rng)
    gradient, rate = 0.6, 0.1
    after = imbalances((w - rate * gradient * v.T, v - rate * gradient * w.T))[0]
    derived = derived_at(slow_flow.imbalance_step(), named | {"G_{11}": gradient, "eta": rate})
    assert_allclose(after - imbalances((w, v))[0], derived, rtol=1e-12, atol=1e-16)


def test_the_flow_gives_up_the_derived_part_across_the_minima(rng):
    """Lambda is read off the coded speed of W: -kappa grad Tr H - Lambda V^T."""
    w, v, moment, named = linear_net(rng)
    rate, sigma, batch = 0.1, 0.7, 4
    kappa = label_noise_strength(rate, sigma, batch)
    task = LinearTask(moment, sigma**2 * moment)
    force = partial(jitter_force, task, learning_rate=rate, batch_size=batch)
    speeds = _drift([w, v], partial(force, discrete_steps=0, with_feedback=False))
    across = (-2 * kappa * moment @ w - speeds[0]) / v.T
    assert_allclose(across[0, 0], across[0, 1], rtol=1e-10)
    equation = slow_flow.multiplier().subs(slow_flow.kappa, kappa)
    left, right = (
        derived_at(sp.Eq(sp.Symbol("x"), side), named | {r"\Lambda_{11}": across[0, 0]})
        for side in equation.args
    )
    assert_allclose(left, right, rtol=1e-10)


def test_modes_rest_as_derived_and_their_trace_is_least(rng):
    """White inputs, and weights made of the modes of a product: W^T W diagonal, as derived."""
    product = rng.normal(size=(4, 2))
    left, singular, right = np.linalg.svd(product, full_matrices=False)
    letters = {"o": 2, str(slow_flow.trace_moment): 4}
    modes = np.asarray([number(slow_flow.mode_at_rest(), s=s, **letters) for s in singular])
    assert_allclose(stationary_hidden_modes(np.eye(4), product)[0], modes, rtol=1e-12)
    w, v = left * modes**0.5, (singular / modes**0.5)[:, None] * right
    smallest = sum(number(slow_flow.trace_at_rest(), s=s, **letters) for s in singular)
    assert_allclose(hessian_trace(np.eye(4), [w, v]), smallest, rtol=1e-12)


def test_useless_weights_decay_at_the_derived_rate():
    letters = {"s_x": 0.8, "o": 3, "sigma": 0.7, "eta": 0.1, "B": 4}
    derived = number(slow_flow.irrelevant_rate(), **letters)
    assert_allclose(irrelevant_rate(0.8, 3, 0.7, 0.1, 4), derived, **TIGHT)


def test_discrete_steps_strengthen_the_force_as_derived():
    """Of one mode of curvature h, in the power of the jitter that makes the force."""
    task, curvature, rate = LinearTask(np.eye(1), np.eye(1)), 2.6, 0.3
    fine, coarse = (
        jitter_force(task, np.asarray([[curvature]]), rate, 1, discrete, False)
        for discrete in (False, True)
    )
    derived = number(slow_flow.discrete_force(), eta=rate, h=curvature)
    assert_allclose(coarse / fine, [[derived]], rtol=1e-12)


# --- derived = coded: weight decay in linear networks ---

DECAYED = {"eta": 0.1, "lambda": 0.02, "sigma": 0.7, "B": 4}


def test_useless_weights_shrink_at_the_derived_rates_under_decay_too():
    """One output: e is the weight of either input, v that of the readout, large enough to see."""
    s, v, e = np.asarray([0.8, 0.3]), 1.2, 0.4
    options = {"label_noise": 0.7, "learning_rate": 0.1, "batch_size": 4}
    coded = shrink_rates(s, np.full(2, e**2), np.asarray([v**2]), decay=0.02, **options)
    letters = DECAYED | {"v": v, "e": e}
    derived = [derived_at(decay.shrink_rate(), letters | {"s_x": x}) for x in s]
    assert_allclose(coded, derived, rtol=1e-10)


def test_decay_equals_noise_where_half_of_the_derived_small_rate_is_its_own():
    letters = DECAYED | {"s_x": 0.8}
    equal = equal_decay(np.asarray([0.8]), np.asarray([0.3]), 1, 0.7, 0.1, 4)
    small = derived_at(decay.shrink_rate_small(), letters | {"lambda": equal})
    assert_allclose(small, 2 * 0.1 * equal, **TIGHT)


def test_the_slope_of_rates_against_variances_is_the_derived_one():
    """Of small rates at variances that differ by little, whose square is left out."""
    s = 0.8 * np.exp(np.asarray([-1e-4, 1e-4]))
    rates = [derived_at(decay.shrink_rate_small(), DECAYED | {"s_x": x}) for x in s]
    slope = derived_at(decay.variance_slope(), DECAYED | {"s_x": 0.8})
    assert_allclose(variance_slope(s, np.asarray(rates)), slope, rtol=1e-6)


@pytest.mark.parametrize(("shrinking", "kappa"), [(0.02, 0.0), (0.02, 0.01), (0.001, 0.05)])
def test_modes_rest_under_decay_at_the_derived_balance_and_threshold(shrinking, kappa):
    letters = {"lambda": shrinking, "kappa": kappa, "s_x": 0.8, "s_1": 0.8, "o": 1}
    letters |= {str(decay.trace_moment): 2.5}
    mode = mode_with_decay(3.0, 0.8, 2.5, 1, decay=shrinking, kappa=kappa)
    assert_allclose(mode[1] / mode[2], derived_at(decay.balance(), letters), rtol=1e-10)
    low = derived_at(decay.threshold(), letters)
    assert_allclose(shrinkage(0.8, 2.5, 1, decay=shrinking, kappa=kappa), low, rtol=1e-10)


def test_a_step_with_decay_moves_the_imbalance_as_derived():
    """One input, one unit, one output: the imbalance is w^2 - v^2."""
    w, v, g = (np.asarray([[x]]) for x in (0.5, 1.2, 0.3))
    letters = DECAYED | {"w": 0.5, "v": 1.2, "g": 0.3}
    coded = imbalance_after(w, v, g, learning_rate=0.1, decay=0.02)
    assert_allclose(coded[0, 0], derived_at(decay.imbalance_step(), letters), rtol=1e-12)


# --- derived = coded: gradients of drawn labels ---


def test_moments_of_drawn_labels_are_the_derived_ones(rng):
    """One example of three labels, its gradients and a direction in one matrix of products."""
    gradients, direction = rng.normal(size=(3, 2)), rng.normal(size=2)
    p = np.asarray([0.2, 0.5, 0.3])
    named = {f"p{y}": p[y] for y in range(3)} | {"v0": direction[0], "v1": direction[1]}
    named |= {f"g{y}_{i}": gradients[y, i] for y in range(3) for i in range(2)}
    scattered = fisher_scatter(gradients @ gradients.T, p[None])
    assert_allclose(scattered, derived_at(fisher.mean_square_distance(), named), rtol=1e-12)
    rows = np.vstack([gradients, direction])
    along = fisher_inner_product(rows @ rows.T, np.append(p, 0.0), np.asarray([0.0, 0, 0, 1]))
    assert_allclose(along, derived_at(fisher.second_moment_is_fisher(), named), rtol=1e-12)


def test_two_layer_traces_are_the_derived_ones(xp, rng):
    net, theta, inputs = small_net(rng)
    derived = [number(two_layer.squared_jacobian(), **letters(net, theta, x)) for x in inputs]
    coded = net.traces(xp.asarray(theta), xp.asarray(inputs))
    assert_allclose(np.asarray(coded), derived, **TIGHT)


def test_two_layer_diagonal_is_the_derived_one(xp, rng):
    net, theta, inputs = small_net(rng)
    halves = two_layer.first_diagonal(), two_layer.second_diagonal()
    values = [
        np.concatenate([number(half, **letters(net, theta, x)).ravel() for half in halves])
        for x in inputs
    ]
    coded = net.diagonal(xp.asarray(theta), xp.asarray(inputs))
    assert_allclose(np.asarray(coded), np.mean(values, axis=0), **TIGHT)


def test_label_noise_covariance_is_the_derived_one(rng):
    """A chain of one unit a layer, one example, zero residual."""
    net, theta, x, sigma = MLP((1, 1, 1)), rng.normal(size=2), rng.normal(size=(1, 1)), 0.7
    problem = Problem(net.losses, (jnp.asarray(x), net.outputs(jnp.asarray(theta), x)))
    coded = noise.label_noise(problem, 1, sigma).covariance(jnp.asarray(theta))
    derived = number(two_layer.label_noise_covariance(), sigma=sigma, **letters(net, theta, x[0]))
    assert_allclose(matrix(coded, 2, jnp.asarray), derived, **TIGHT)


# --- simulated: chains come to rest, and drift, as derived and coded ---


def test_descent_comes_to_rest_at_the_stationary_covariance(rng):
    problem, rate, batch = bowl(rng), 0.2, 4
    process = dynamics.sgd(noise.minibatch(problem, batch), rate)
    observed = at_rest(process, jnp.zeros((4000, 3)), steps=100)
    kicks = matrix(noise.minibatch(problem, batch).covariance(jnp.zeros(3)), 3, jnp.asarray)
    expected = stationary_covariance(HESSIAN, kicks, rate)
    assert np.all(abs(observed.z(expected)) < SURE)


def test_label_noise_comes_to_rest_alike_in_all_directions(rng):
    """Outputs turned by rotations: every example has the same curvature, labels alone are noisy."""
    rate, sigma, batch = 0.1, 0.5, 4
    turns = jnp.asarray(np.linalg.qr(rng.normal(size=(16, 3, 3)))[0])
    problem = Problem(turned, (turns, jnp.zeros((16, 3))))
    process = dynamics.sgd(noise.label_noise(problem, batch, sigma), rate)
    observed = at_rest(process, jnp.zeros((8000, 3)), steps=200)
    h = np.diag(HESSIAN)
    exact = number(stationary.label_noise_rest(), h=h, eta=rate, sigma=sigma, B=batch)
    alike = number(stationary.label_noise_rest_small(), eta=rate, sigma=sigma, B=batch)
    assert np.all(abs(observed.z(np.diag(exact))) < SURE)
    assert np.all(
        abs(observed.value - alike * np.eye(3)) < SURE * observed.stderr + rate * h.max() * alike
    )


def test_label_noise_drifts_down_the_effective_loss(rng):
    """f = x y for the target 0: the valley x = 0 has Tr H = y^2, so y' = -2 kappa y.

    Its curvature y^2 widens the jitter by rate y^2 / 2, 1% at the start: hence the allowance.
    """
    rate, sigma, steps, chains = 0.02, 1.0, 2000, 4000
    problem = Problem(lambda t, z: 0.5 * (t[0] * t[1] - z) ** 2, (jnp.zeros(1),))
    process = dynamics.sgd(noise.label_noise(problem, 1, sigma), rate)
    covariance = number(stationary.label_noise_rest_small(), eta=rate, sigma=sigma, B=1)
    x = covariance**0.5 * rng.normal(size=chains)
    start = jnp.asarray(np.stack([x, np.ones(chains)], axis=1))
    observed = mean(
        simulate(process, jax.random.key(1), start, steps=steps, every=steps).theta[:, -1, 1]
    )
    kappa = number(effective_loss.label_noise_strength(), eta=rate, sigma=sigma, B=1)
    predicted = np.exp(-2 * kappa * rate * steps)
    assert abs(observed.value - predicted) < SURE * observed.stderr + 0.02 * (1 - predicted)


HESSIAN = np.diag([0.5, 1.0, 2.0])


def bowl(rng):
    """Least squares with one shared Hessian and shifted centres: additive noise."""
    centres = rng.normal(size=(64, 3))
    return Problem(distances, (jnp.asarray(centres - centres.mean(0)),))


def distances(theta, centres):
    return 0.5 * ((theta - centres) ** 2) @ np.diag(HESSIAN)


def turned(theta, turns, targets):
    return 0.5 * ((turns @ (np.diag(HESSIAN) ** 0.5 * theta) - targets) ** 2).sum(1)


def at_rest(process, start, steps):
    """Second moments of chains that had time to forget their start."""
    path = simulate(process, jax.random.key(0), start, steps=steps, every=steps)
    remainder = path.theta[:, -1]
    return mean(remainder[:, :, None] * remainder[:, None, :])


def exchangeable(own, shared, n):
    together = np.full((n, n), 1 / n)
    return own * (np.eye(n) - together) + shared * together


def small_net(rng):
    """Of the sizes for which the equations are written out."""
    net = MLP((2, 2, 3))
    return net, rng.normal(size=net.size), rng.normal(size=(5, 2))


def letters(net, theta, x):
    """Numbers for the letters of the derived networks, for one example."""
    first, second = net.weights(theta)
    values = np.tanh(x @ first)
    named = {f"x_{i + 1}": value for i, value in enumerate(x)}
    named |= {f"phi_{a + 1}": value for a, value in enumerate(values)}
    named |= {rf"\dot{{\phi}}_{{{a + 1}}}": 1 - value**2 for a, value in enumerate(values)}
    return named | {
        f"V_{{{a + 1}{k + 1}}}": second[a, k]
        for a in range(net.widths[1])
        for k in range(net.widths[2])
    }


# --- derived = coded: dimension ---


def test_pareto_exponent_is_the_derived_one(rng):
    mu = rng.uniform(size=50) ** (-1 / 3)
    derived = number(neighbours.pareto_exponent(), n=50, s=np.log(mu).sum())
    assert_allclose(pareto_exponent(mu), derived, **TIGHT)


@pytest.mark.parametrize(("near", "far"), [(1, 2), (1, 4), (3, 4), (2, 6)])
def test_gride_is_likeliest_by_the_derived_law(near, far, rng):
    distances = from_centres(3, 200, rng)
    law = neighbours.rank_ratio_law().rhs.subs({neighbours.near: near, neighbours.far: far})
    d = gride(None, near, far, neighbours=known(distances))
    assert_likeliest(law, neighbours.mu, distances[:, far - 1] / distances[:, near - 1], d)


@pytest.mark.parametrize("k", [1, 5])
def test_mind_is_likeliest_by_the_derived_law(k, rng):
    distances = from_centres(3, 200, rng)
    law = neighbours.nearest_over_farthest().rhs.subs(neighbours.k, k)
    d = mind_ml(None, k, neighbours=known(distances))
    assert_likeliest(law, neighbours.rho, distances[:, 0] / distances[:, k], d)


def test_means_over_neighbours_are_the_derived_ones_of_the_coded_dimension(rng):
    distances = from_centres(3, 200, rng)
    near, scaled = known(distances), distances[:, :-1] / distances[:, -1:]
    logarithms = np.log(distances[:, 1] / distances[:, 0])
    for derive, coded, observed in (
        (neighbours.log_log_mean, l2n2(None, neighbours=near), np.log(logarithms)),
        (
            neighbours.inverse_dimension,
            levina_bickel(None, 6, neighbours=near),
            -np.log(scaled),
        ),
        (neighbours.mean_radius, mom(None, 6, neighbours=near), scaled),
    ):
        assert_allclose(number(derive(), d=coded), observed.mean(), **TIGHT)


def test_binomial_takes_the_derived_shares(rng):
    distances = from_centres(3, 200, rng)
    d = binomial(None, 6, 0.7, neighbours=known(distances))
    inside = np.mean(distances[:, :-1] <= 0.7 * distances[:, -1:])
    assert_allclose(number(neighbours.inner_share(), d=d, r_A=0.7, r_B=1), inside, **TIGHT)
    assert_allclose(BEST_FRACTION, float(neighbours.best_share().rhs), **TIGHT)


def test_abid_takes_the_derived_cosines(rng):
    near = find_neighbours(rng.normal(size=(12, 3)), 4)
    squares = []
    for point, others in zip(near.points, near.index, strict=True):
        away = near.points[others] - point
        away = away / np.linalg.norm(away, axis=1, keepdims=True)
        squares += [(away[i] @ away[j]) ** 2 for i in range(4) for j in range(i)]
    derived = number(directions.squared_cosine(), d=abid(near.points, 4, neighbours=near))
    assert_allclose(derived, np.mean(squares), **TIGHT)


@pytest.mark.parametrize("d", [1.5, 2, 7, 40])
def test_simplex_skewness_is_the_derived_sine(d):
    assert_allclose(_mean_sine(d), number(directions.mean_sine(), d=d), **TIGHT)


@pytest.mark.parametrize("d", [1.5, 2, 3, 6])
def test_full_correlation_integral_fits_the_derived_law(d):
    """The misfit is a sum of squares: nothing but rounding is left of it."""
    edges = np.linspace(0.9, -0.9, 7)
    law = directions.correlation_integral().rhs.subs(symbols.d, d)
    derived = [float(law.subs(directions.r, r)) for r in np.sqrt(2 - 2 * edges)]
    assert 0 <= _misfit(np.log(d - 1), edges, np.asarray(derived)) < 1e-24


@pytest.mark.parametrize(("d", "alpha"), [(2, 0.6), (9, 0.8), (40, 0.9)])
def test_separability_inverts_the_derived_share(d, alpha):
    block = number(directions.separability(), d=d, alpha=alpha)
    assert_allclose(_dimension_of(block, alpha), d, rtol=1e-10)


@pytest.mark.parametrize("d", [2, 3, 6])
def test_great_circles_of_the_derived_law_have_its_dimension(d):
    """Distances at its quantiles.  A parabola is not a sine: 3% is allowed."""
    law = directions.geodesic_law()
    (r_max,) = law.rhs.free_symbols - {symbols.d, directions.r}
    r = np.linspace(0, 3, 2001)
    below = np.cumsum(number(law, **{"d": d, "r": r, str(r_max): 1.5}))
    lengths = np.interp((np.arange(10**5) + 0.5) / 10**5, below / below[-1], r)
    assert_allclose(sine_exponent(lengths, 0.0), d, rtol=0.03)


@pytest.mark.parametrize("m", [2, 7, 100])
def test_debiased_traces_are_the_derived_ones(m):
    observed = {str(spectra.seen_square): 5.0, str(spectra.seen_spread): 3.0, "m": m}
    derived = [
        number(law(), **observed) for law in (spectra.debiased_square, spectra.debiased_spread)
    ]
    assert_allclose(debiased(5.0, 3.0, m), derived, **TIGHT)


# --- derived = coded = simulated: groups ---


@pytest.mark.parametrize(("number_of", "splits"), [(4, 3), (5, 10)])
def test_errors_of_groups_are_the_derived_combination(number_of, splits, rng):
    """Of 60 samples, far from the lower bound, which is the derived claims' without linear part."""
    samples, claims = rng.normal(size=60), {}
    for g, times in ((2, 2 * splits), (number_of, splits)):
        orders = [np.random.default_rng([g, split]).permutation(60) for split in range(times)]
        means = np.asarray([samples[order].reshape(g, -1).mean(1) for order in orders])
        claims[g] = means.var(axis=1, ddof=1).mean() / g
    letters = {"E_h": claims[2], "E_g": claims[number_of], "h": 2, "g": number_of}
    result = with_group_error(np.mean, samples, number_of, splits=splits)
    assert_allclose(result.stderr**2, number(groups.exact(), **letters), **TIGHT)
    doubt = 1 / number(groups.freedom(), h=2, g=number_of, r=splits) + 1 / 59
    assert_allclose(result.dof, 1 / doubt, **TIGHT)


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (0.0, 1.0), (1.0, 1.5)])
def test_variances_of_a_bent_statistic_are_the_derived_ones(a, b, rng):
    """Of all of 10 normal numbers, and what 2 groups and 5 of them claim."""
    samples, letters = rng.normal(size=(40_000, 10)), {"a": a, "b": b, "sigma": 1, "n": 10}

    def values(g):
        means = samples.reshape(-1, g, 10 // g).mean(2)
        return a * means + b * means**2

    total = values(1)[:, 0]
    observed = mean((total - total.mean()) ** 2)
    assert abs(observed.z(derived_at(groups.whole(), letters))) < SURE
    for g in (2, 5):
        observed = mean(values(g).var(axis=1, ddof=1) / g)
        assert abs(observed.z(derived_at(groups.between_groups(), letters | {"g": g}))) < SURE


def test_at_a_corner_groups_claim_what_is_derived():
    """Samples with a mean of zero, and the size of it; 4 and 10 groups as they are combined."""
    half = np.random.default_rng(1).normal(size=(100, 300))
    result = with_group_error(
        lambda x: abs(np.mean(x, axis=0)), np.concatenate([half, -half]), 10, n_fewer=4
    )
    claims = [derived_at(groups.at_a_corner(), {"g": g, "n": 200, "sigma": 1.0}) for g in (4, 10)]
    letters = {"E_h": claims[0], "E_g": claims[1], "h": 4, "g": 10}
    assert abs(mean(result.stderr**2).z(number(groups.exact(), **letters))) < SURE


def test_the_size_of_a_mean_varies_as_derived_at_its_corner(rng):
    size = abs(rng.normal(size=(50_000, 4)).mean(axis=1) * 0.7)
    observed = mean((size - size.mean()) ** 2)
    assert abs(observed.z(derived_at(groups.of_a_corner(), {"n": 4, "sigma": 0.7}))) < SURE


def derived_at(equation, letters):
    """The right side, a matrix too, where some of the letters may not occur."""
    values = equation.rhs.subs({s: letters[str(s)] for s in equation.rhs.free_symbols})
    return np.asarray(values).astype(float)


# --- derived = simulated: dimension ---


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize(
    ("law", "letter", "ranks", "ends", "measure"),
    [
        (neighbours.pareto_law, neighbours.mu, {}, (1, np.inf), lambda r: r[:, 1] / r[:, 0]),
        (
            neighbours.rank_ratio_law,
            neighbours.mu,
            {neighbours.near: 2, neighbours.far: 5},
            (1, np.inf),
            lambda r: r[:, 4] / r[:, 1],
        ),
        (
            neighbours.nearest_over_farthest,
            neighbours.rho,
            {neighbours.k: 4},
            (0, 1),
            lambda r: r[:, 0] / r[:, 4],
        ),
        (
            neighbours.log_sum_law,
            neighbours.s,
            {neighbours.k: 6},
            (0, np.inf),
            lambda r: np.log(r[:, 5:] / r[:, :5]).sum(1),
        ),
    ],
    ids=["pareto", "ranks", "nearest", "sum"],
)
def test_neighbours_have_the_derived_laws(law, letter, ranks, ends, measure, d, rng):
    """By the mean of x / (1 + x), which all of them have."""
    density = sp.lambdify(letter, law().rhs.subs(ranks | {symbols.d: d}))
    expected, _ = quad(lambda x: x / (1 + x) * density(x), *ends)
    x = measure(from_centres(d, 4000, rng))
    assert abs(mean(x / (1 + x)).z(expected)) < SURE


def test_pareto_exponent_is_unbiased(rng):
    near = from_centres(3, 4000, rng)
    values = [pareto_exponent(block[:, 1] / block[:, 0]) for block in np.split(near, 800)]
    assert abs(mean(np.asarray(values)).z(3)) < SURE


@pytest.mark.parametrize("d", [2, 3, 6])
def test_directions_have_the_derived_law(d, rng):
    """Pairs of independent directions: mean angle, squared cosine, sine; and pairs within r."""
    u, v = rng.normal(size=(2, 4000, d))
    cosine = cosines(np.stack([u, v], 1) @ np.stack([u, v], 2))[:, 0, 1]
    theta, r = np.arccos(cosine), 1.2
    density = sp.lambdify(directions.theta, directions.angle_law().rhs.subs(symbols.d, d))
    assert abs(mean(theta**2).z(quad(lambda x: x**2 * density(x), 0, np.pi)[0])) < SURE
    assert abs(mean(cosine**2).z(number(directions.squared_cosine(), d=d))) < SURE
    assert abs(mean(np.sin(theta)).z(number(directions.mean_sine(), d=d))) < SURE
    within = directions.correlation_integral().rhs.subs({symbols.d: d, directions.r: r})
    assert abs(mean((2 - 2 * cosine <= r**2) * 1.0).z(float(within))) < SURE


@pytest.mark.parametrize("d", [1, 3, 10])
def test_balls_have_the_derived_variance(d, rng):
    observed = mean((ball(20000, d, rng=rng).inputs ** 2).mean(1))
    assert abs(observed.z(number(spectra.ball_variance(), d=d, r=1))) < SURE


@pytest.mark.parametrize("method", ["naive", "gaussian", "unbiased"])
def test_trace_moments_have_the_derived_means(method, rng):
    """Of normal rows, or of rows of any law where the method asks for none."""
    variances, n = np.asarray([1.0, 2.0, 0.5]), 4
    size = (1000, n, 3)
    skew = (45 / 4) ** 0.5 * rng.uniform(size=size) ** 2  # of variance 1
    white = skew if method == "unbiased" else rng.normal(size=size)
    rows = white * np.sqrt(variances)
    observed = mean(np.asarray([trace_moments(block, method=method) for block in rows]))
    truth = {
        str(spectra.square): variances.sum() ** 2,
        str(spectra.trace_of_square): sum(variances**2),
    }
    derived = {
        "naive": (spectra.mean_square, spectra.mean_spread),
        "unbiased": (spectra.unbiased_square, spectra.unbiased_spread),
    }
    laws = derived.get(method, ())
    means = [derived_at(law(), truth | {"m": n - 1}) for law in laws] or [*truth.values()]
    assert np.all(abs(observed.z(np.asarray(means))) < SURE)


def test_naive_participation_ratios_are_small_as_derived(rng):
    """Alike axes, half as many as rows: what is left out is of order 1 / n of it."""
    n, width = 200, 100
    clouds = rng.normal(size=(20, n, width))
    observed = mean(1 / np.asarray([participation_ratio(block) for block in clouds]))
    derived = number(spectra.naive_ratio(), **{"n": n, r"\mathrm{PR}": width})
    assert abs(observed.value - derived) < SURE * observed.stderr + derived / n


# --- the table is whole ---

APART = {}  # derived, but compared with nothing, by subject and name: the reason in words


def named_in_tests(folder):
    """Subject and name of each derived formula that the syntax of some test refers to."""
    result = set()
    for path in sorted(folder.rglob("test_*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        subjects = {
            alias.asname or alias.name: alias.name
            for node in nodes
            if isinstance(node, ast.ImportFrom) and node.module == "derivations"
            for alias in node.names
        }
        result |= {
            (subjects[node.value.id], node.attr)
            for node in nodes
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            if node.value.id in subjects
        }
    return result


def test_every_derived_formula_is_held_against_code():
    derived = {
        (subject.__name__.split(".")[-1], formula.__name__)
        for subject in SUBJECTS
        for formula in (entry.derive for entry in entries([subject]))
    }
    named = named_in_tests(Path(__file__).parents[1])
    assert sorted(derived - named - APART.keys()) == []
    assert APART.keys() <= derived - named, "what is compared, or gone, needs no excuse"
    assert all(len(reason.split()) > 3 for reason in APART.values())


def from_centres(d, n, rng, k=6):
    """Distances from the centre of each of n cubes, of 100 even points, to the k nearest, (n, k).

    Ratios are those of endless space: the k nearest fill a ball that reaches no side.
    """
    return np.sort(np.linalg.norm(rng.uniform(-1, 1, (n, 100, d)), axis=2), axis=1)[:, :k]


def known(distances):
    """As estimators take them that use nothing but distances."""
    return Neighbours(distances, distances, np.zeros(distances.shape, int))


def assert_likeliest(law, letter, values, d):
    """That the slope of the log-likelihood vanishes, in units of n / d."""
    slope = sp.lambdify([letter, symbols.d], sp.diff(sp.log(law), symbols.d) * symbols.d)
    assert abs(np.mean(slope(values, d))) < 1e-10
