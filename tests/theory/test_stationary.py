"""Where descent rests: against Lyapunov equations, against every order of batches, and chains."""

import inspect
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.strategies import floats, integers, sampled_from
from numpy.testing import assert_allclose
from scipy.linalg import solve_continuous_lyapunov, solve_discrete_lyapunov
from witnesses import HESSIAN, SURE, bowl, matrix, number

from derivations import momentum as derived_momentum
from derivations import stationary as derived
from sgdnoise import noise
from sgdnoise.core import mean
from sgdnoise.dynamics import langevin, sgd, simulate
from sgdnoise.noise import reshuffled
from sgdnoise.theory import (
    effective_temperature,
    heavy_ball_covariance,
    langevin_covariance,
    nesterov_covariance,
    reshuffled_covariance,
    stationary_covariance,
)
from sgdnoise.theory._stationary import symmetric_eigh

KEY = jax.random.key(0)
ONE, NONE = np.eye(3), np.zeros((3, 3))
RESTS = {
    "descent": (stationary_covariance, ()),
    "langevin": (langevin_covariance, ()),
    "heavy ball": (heavy_ball_covariance, (0.8,)),
    "dampened": (heavy_ball_covariance, (0.8, 0.3)),
    "nesterov": (nesterov_covariance, (0.8,)),
    "reshuffled": (reshuffled_covariance, (5,)),
}


def random_covariance(rng, rank=5):
    """A covariance that does not commute with HESSIAN."""
    rows = rng.normal(size=(rank, 3))
    return rows.T @ rows


def curvature_of(limit, rate):
    """HESSIAN scaled so that its largest eigenvalue is limit / rate."""
    return HESSIAN * (limit / rate / np.linalg.eigvalsh(HESSIAN)[-1])


# --- coded = the equation it solves, whether H and C commute or not ---


def heavy_ball_block(h, c, rate, momentum):
    """Stein's equation of (theta, theta before), 2p x 2p."""
    step = np.block([[(1 + momentum) * ONE - rate * h, -momentum * ONE], [ONE, NONE]])
    kicks = np.block([[rate**2 * c, NONE], [NONE, NONE]])
    return solve_discrete_lyapunov(step, kicks)[:3, :3]


def nesterov_block(h, c, rate, momentum):
    """The same for Nesterov's two sequences: y = theta + mu (theta - before), gradients at y."""
    step = np.block(
        [
            [(1 + momentum) * (ONE - rate * h), -momentum * (ONE - rate * h)],
            [ONE, NONE],
        ]
    )
    kicks = np.block([[rate**2 * c, NONE], [NONE, NONE]])
    view = np.block([(1 + momentum) * ONE, -momentum * ONE])
    return view @ solve_discrete_lyapunov(step, kicks) @ view.T


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.9])
def test_the_langevin_covariance_solves_its_lyapunov_equation(rate, rng):
    c = random_covariance(rng)
    expected = solve_continuous_lyapunov(HESSIAN, rate * c)
    assert_allclose(langevin_covariance(HESSIAN, c, rate), expected, rtol=1e-10)


@pytest.mark.parametrize("rank", [1, 5])
@pytest.mark.parametrize(("rate", "momentum"), [(0.02, 0.99), (0.3, 0.0), (0.9, 0.5), (1.5, 0.9)])
def test_a_heavy_ball_rests_where_its_block_equation_says(rate, momentum, rank, rng):
    c = random_covariance(rng, rank)
    result = heavy_ball_covariance(HESSIAN, c, rate, momentum)
    assert_allclose(result, heavy_ball_block(HESSIAN, c, rate, momentum), rtol=1e-8)


@pytest.mark.parametrize("rank", [1, 5])
@pytest.mark.parametrize(("rate", "momentum"), [(0.02, 0.99), (0.3, 0.0), (0.6, 0.5), (0.6, 0.9)])
def test_nesterov_rests_where_the_block_equation_of_the_two_sequences_says(
    rate, momentum, rank, rng
):
    c = random_covariance(rng, rank)
    result = nesterov_covariance(HESSIAN, c, rate, momentum)
    assert_allclose(result, nesterov_block(HESSIAN, c, rate, momentum), rtol=1e-8)


@pytest.mark.parametrize(("rest", "more"), RESTS.values(), ids=RESTS)
def test_torch_and_jax_say_the_same(rest, more, rng):
    c = random_covariance(rng)
    for asarray in (torch.asarray, jnp.asarray):
        result = rest(asarray(HESSIAN), asarray(c), 0.3, *more)
        assert_allclose(np.asarray(result), rest(HESSIAN, c, 0.3, *more), rtol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_dampening_is_a_smaller_rate(momentum, rng):
    """An exponential mean of gradients has dampening = momentum."""
    c = random_covariance(rng)
    dampened = heavy_ball_covariance(HESSIAN, c, 0.5, momentum, 0.6)
    assert_allclose(dampened, heavy_ball_block(HESSIAN, c, 0.2, momentum), rtol=1e-10)


@pytest.mark.parametrize("epoch", [2, 5, 40])
@pytest.mark.parametrize("rate", [0.001, 0.3, 0.85])
def test_reshuffling_rests_where_its_epochs_say(rate, epoch, rng):
    """The matrix equation with its sums written out; it cancels (rate h)^2 of its digits."""
    c, step = random_covariance(rng), ONE - rate * HESSIAN
    powers = [np.linalg.matrix_power(step, k) for k in range(epoch)]
    kicks = epoch * sum(a @ c @ a for a in powers) - sum(powers) @ c @ sum(powers)
    total = np.linalg.matrix_power(step, epoch)
    expected = solve_discrete_lyapunov(total, rate**2 * kicks / (epoch - 1))
    assert_allclose(reshuffled_covariance(HESSIAN, c, rate, epoch), expected, rtol=1e-8)


@pytest.mark.parametrize("rate", [0.2, 0.8])
def test_every_order_of_four_batches_leaves_the_reshuffled_covariance(rate, rng):
    kicks = rng.normal(size=(4, 3))
    kicks = kicks - kicks.mean(0)
    s = reshuffled_covariance(HESSIAN, kicks.T @ kicks / 4, rate, 4)
    step, ends = ONE - rate * HESSIAN, []
    for order in permutations(kicks):
        theta = np.zeros(3)
        for xi in order:
            theta = step @ theta - rate * xi
        ends.append(theta)
    total = np.linalg.matrix_power(step, 4)
    assert_allclose(total @ s @ total + np.cov(np.stack(ends).T, bias=True), s, rtol=1e-9)


@pytest.mark.parametrize("size", [1e-3, 1e-9, 1e-15])
def test_small_epochs_rest_as_the_derived_law_to_the_last_digit(size):
    """Where 1 - rate h rounds to one: the law is off by rate h m / 2 and no digit is lost."""
    result = reshuffled_covariance(np.diag([size, 1.0]), np.eye(2), 1.0, 7)[0, 0]
    small = number(derived.reshuffled_rest_small(), c=1.0, eta=1.0, h=size, m=7)
    assert_allclose(result, small, rtol=10 * size + 1e-14)


# --- derived = coded ---


def test_momentum_rests_as_derived(rng):
    h, rate, mu = rng.uniform(0.5, 2, 4), 0.3, 0.7
    kicks = np.cov(rng.normal(size=(4, 50)))
    letters = {"h_i": h[:, None], "h_j": h[None, :], "C_ij": kicks, "eta": rate, "mu": mu}
    entry = number(derived_momentum.heavy_ball_entry(), **letters)
    assert_allclose(heavy_ball_covariance(np.diag(h), kicks, rate, mu), entry, rtol=1e-12)
    alone = {"h": h, "c": np.diag(kicks), "eta": rate, "mu": mu}
    for derive, code in (
        (derived_momentum.heavy_ball_rest, heavy_ball_covariance),
        (derived_momentum.nesterov_rest, nesterov_covariance),
    ):
        coded = np.diag(code(np.diag(h), kicks, rate, mu))
        assert_allclose(coded, number(derive(), **alone), rtol=1e-12)


@pytest.mark.parametrize(
    ("derive", "code"),
    [
        (derived_momentum.heavy_ball_limit, heavy_ball_covariance),
        (derived_momentum.nesterov_limit, nesterov_covariance),
    ],
)
def test_momentum_is_stable_up_to_the_derived_rate(derive, code):
    limit = number(derive(), h=1.3, mu=0.7)
    below = code(1.3 * ONE, ONE, limit * (1 - 1e-6), 0.7)
    assert below[0, 0] > 1e4 * code(1.3 * ONE, ONE, limit / 2, 0.7)[0, 0]
    with pytest.raises(ValueError, match="has no stationary law"):
        code(1.3 * ONE, ONE, limit * (1 + 1e-6), 0.7)


def test_langevin_chains_rest_as_derived_and_descent_wider_by_the_derived_ratio(rng):
    h, rate, kicks = rng.uniform(0.5, 2, 4), 0.3, np.cov(rng.normal(size=(4, 50)))
    letters = {"h_i": h[:, None], "h_j": h[None, :], "C_ij": kicks, "eta": rate}
    coded = langevin_covariance(np.diag(h), kicks, rate)
    assert_allclose(coded, number(derived.continuous_entry(), **letters), rtol=1e-12)
    wider = np.diag(stationary_covariance(np.diag(h), kicks, rate)) / np.diag(coded)
    assert_allclose(wider, number(derived.discretisation_ratio(), h=h, eta=rate), rtol=1e-12)


def test_reshuffling_rests_as_derived(rng):
    h, c = rng.uniform(0.5, 2, 4), rng.uniform(0.5, 2, 4)
    coded = np.diag(reshuffled_covariance(np.diag(h), np.diag(c), 0.6, 6))
    assert_allclose(coded, number(derived.reshuffled_rest(), h=h, c=c, eta=0.6, m=6), rtol=1e-10)


def test_gibbs_noise_and_temperature_are_the_derived_ones():
    """That noise, and no other, gives every direction of descent one temperature."""
    h, basis = np.linalg.eigh(HESSIAN)
    kicks = number(derived.gibbs_noise(), T=0.3, eta=0.4, h=h)
    s = stationary_covariance(HESSIAN, basis @ np.diag(kicks) @ basis.T, 0.4)
    assert_allclose(effective_temperature(HESSIAN, s), 0.3 * ONE, atol=1e-14)
    s = langevin_covariance(HESSIAN, 2 * 0.3 / 0.4 * ONE, 0.4)
    assert_allclose(effective_temperature(HESSIAN, s), 0.3 * ONE, atol=1e-14)
    assert_allclose(number(derived.langevin_temperature(), c=2 * 0.3 / 0.4, eta=0.4), 0.3)


# --- laws ---


@pytest.mark.parametrize(("rest", "more"), RESTS.values(), ids=RESTS)
def test_in_a_turned_bowl_the_rest_is_turned(rest, more, rng):
    turn, c = np.linalg.qr(rng.normal(size=(3, 3)))[0], random_covariance(rng)
    turned = rest(turn @ HESSIAN @ turn.T, turn @ c @ turn.T, 0.3, *more)
    assert_allclose(turned, turn @ rest(HESSIAN, c, 0.3, *more) @ turn.T, rtol=1e-10, atol=1e-12)


@given(
    seed=integers(0, 2**32 - 1),
    kind=sampled_from(sorted(RESTS)),
    time=floats(1e-3, 1e3),
    size=floats(1e-3, 1e3),
)
def test_units_of_time_and_of_noise_change_nothing_else(seed, kind, time, size):
    """Time in other units: H and the noise's deviation grow as the rate falls; S is linear in C."""
    stationary, more = RESTS[kind]
    c = random_covariance(np.random.default_rng(seed))
    scaled = stationary(HESSIAN * time, size * time**2 * c, 0.3 / time, *more)
    assert_allclose(scaled, size * stationary(HESSIAN, c, 0.3, *more), rtol=1e-9, atol=1e-12 * size)


@given(seed=integers(0, 2**32 - 1), kind=sampled_from(sorted(RESTS)), rank=integers(1, 4))
def test_every_rest_is_a_covariance(seed, kind, rank):
    stationary, more = RESTS[kind]
    s = stationary(HESSIAN, random_covariance(np.random.default_rng(seed), rank), 0.3, *more)
    assert_allclose(s, s.T, rtol=1e-12, atol=1e-14)
    assert np.linalg.eigvalsh(s)[0] > -1e-12 * np.linalg.eigvalsh(s)[-1]


@given(seed=integers(0, 2**32 - 1), rate=floats(0.01, 0.9))
def test_the_langevin_temperature_is_that_of_its_noise_alone(seed, rate):
    """Tr H S = rate Tr C / 2, whether H and C commute or not."""
    c = random_covariance(np.random.default_rng(seed))
    temperature = effective_temperature(HESSIAN, langevin_covariance(HESSIAN, c, rate))
    assert_allclose(np.trace(temperature), rate * np.trace(c) / 2, rtol=1e-12)


def test_label_noise_heats_each_mode_by_its_curvature():
    h = np.linalg.eigvalsh(HESSIAN)
    s = langevin_covariance(HESSIAN, 0.5 * HESSIAN, 0.2)
    heat = np.linalg.eigvalsh(effective_temperature(HESSIAN, s))
    assert_allclose(heat, 0.2 * 0.5 * h / 2, rtol=1e-12)


def test_the_temperature_is_twice_the_energy_per_direction(rng):
    s = random_covariance(rng)
    energy = np.trace(HESSIAN @ s) / 2
    assert_allclose(np.trace(effective_temperature(HESSIAN, s)), 2 * energy, rtol=1e-12)


# --- simulated ---


def second_moments(rest):
    return mean(rest[:, :, None] * rest[:, None, :])


def walked(c, rate, momentum, chains, steps, rng, *, nesterov=False, dampening=0.0):
    """Torch's momentum from its definition, all chains at once."""
    theta = b = np.zeros((chains, 3))
    root = np.linalg.cholesky(c)
    for _ in range(steps):
        g = theta @ HESSIAN + rng.normal(size=(chains, 3)) @ root.T
        b = momentum * b + (1 - dampening) * g
        theta = theta - rate * (g + momentum * b if nesterov else b)
    return theta


@pytest.mark.parametrize(
    ("rate", "momentum", "how", "code"),
    [
        (0.6, 0.7, {}, heavy_ball_covariance),
        (1.2, 0.6, {"dampening": 0.5}, heavy_ball_covariance),
        (0.5, 0.7, {"nesterov": True}, nesterov_covariance),
    ],
    ids=["heavy ball", "dampened", "nesterov"],
)
def test_chains_with_momentum_come_to_rest_as_coded(rate, momentum, how, code, rng):
    """10000 chains, 150 steps that forget 0.9^150 of their start at least."""
    c, more = random_covariance(rng), [how["dampening"]] if "dampening" in how else []
    observed = second_moments(walked(c, rate, momentum, 10_000, 150, rng, **how))
    assert np.all(abs(observed.z(code(HESSIAN, c, rate, momentum, *more))) < SURE)


def test_reshuffled_chains_come_to_rest_as_coded():
    """Batches of 2 of 8 examples, 4 a epoch; after 20 of them nothing of the start is left."""
    problem, rate = bowl(n=8, seed=3), 0.3
    law = reshuffled(8, 2)
    model = noise.from_weights(problem, law)
    c = matrix(noise.minibatch(problem, 2, replacement=False).covariance(jnp.zeros(3)), 3)
    path = simulate(sgd(model, rate), KEY, jnp.zeros((4000, 3)), steps=80, every=80)
    observed = second_moments(path.theta[:, -1])
    expected = reshuffled_covariance(HESSIAN, c, rate, 4)
    assert np.all(abs(observed.z(expected)) < SURE)
    assert np.any(abs(observed.z(stationary_covariance(HESSIAN, c, rate))) > 10 * SURE)


def test_finely_stepped_langevin_chains_come_to_rest_as_coded():
    """Steps of rate / 20, which widen the rest by h rate / 40 at most: hence the allowance."""
    problem, rate = bowl(n=8, seed=3), 0.4
    model = noise.minibatch(problem, 3)
    c = matrix(model.covariance(jnp.zeros(3)), 3)
    process = langevin(model, rate, rate / 20)
    path = simulate(process, KEY, jnp.zeros((2000, 3)), steps=400, every=400)
    observed, expected = second_moments(path.theta[:, -1]), langevin_covariance(HESSIAN, c, rate)
    allowed = rate / 40 * np.linalg.eigvalsh(HESSIAN)[-1] * abs(expected).max()
    assert np.all(abs(observed.value - expected) < SURE * observed.stderr + allowed)


# --- refused ---


def refused(call, *arguments):
    """The sentence by which a call refuses, as it runs where shapes are not checked."""
    with pytest.raises(ValueError, match=r"^[^\n]{20,200}$") as caught:
        inspect.unwrap(call)(*arguments)
    message = str(caught.value)
    assert not message.endswith(".")
    assert ". " not in message
    return message


LIMITS = {
    "descent": (stationary_covariance, (), 2.0),
    "heavy ball": (heavy_ball_covariance, (0.8,), 3.6),
    "dampened": (heavy_ball_covariance, (0.8, 0.5), 7.2),
    "nesterov": (nesterov_covariance, (0.5,), 1.5),
    "reshuffled": (reshuffled_covariance, (5,), 2.0),
}


@pytest.mark.parametrize(("rest", "more", "limit"), LIMITS.values(), ids=LIMITS)
def test_a_rate_too_large_is_refused_and_just_below_it_is_not(rest, more, limit):
    """Named: the curvature, and the largest rate that would do."""
    message = refused(rest, curvature_of(1.001 * limit, 0.5), ONE, 0.5, *more)
    assert f"{1.001 * limit / 0.5:.3g}" in message
    assert f"rates below {0.5 / 1.001:.3g}" in message
    assert np.all(np.isfinite(rest(curvature_of(0.999 * limit, 0.5), ONE, 0.5, *more)))


@pytest.mark.parametrize(("rest", "more"), RESTS.values(), ids=RESTS)
def test_bad_matrices_are_refused_by_name(rest, more):
    crooked = HESSIAN + 0.1 * np.triu(np.ones((3, 3)), 1)
    assert "(2, 3)" in refused(rest, HESSIAN[:2], ONE, 0.3, *more)
    assert "the noise must be a square" in refused(rest, HESSIAN, ONE[:, :2], 0.3, *more)
    assert "2 rows and the hessian 3" in refused(rest, HESSIAN, np.eye(2), 0.3, *more)
    assert "hessian must be symmetric" in refused(rest, crooked, ONE, 0.3, *more)
    assert "noise must be symmetric" in refused(rest, HESSIAN, crooked, 0.3, *more)
    assert "noise must be symmetric" in refused(rest, HESSIAN, ONE * np.nan, 0.3, *more)
    assert "eigenvalue -0.5" in refused(rest, HESSIAN, np.diag([-0.5, 1, 1]), 0.3, *more)
    assert "-0.2" in refused(rest, np.diag([-0.2, 1, 1]), ONE, 0.3, *more)
    assert "a curvature of 0 " in refused(rest, np.diag([0.0, 1, 1]), ONE, 0.3, *more)
    assert "not -0.1" in refused(rest, HESSIAN, ONE, -0.1, *more)


@pytest.mark.parametrize("value", [-0.1, 1.0, np.nan])
@pytest.mark.parametrize("rest", [heavy_ball_covariance, nesterov_covariance])
def test_momentum_outside_its_range_is_refused(rest, value):
    assert f"momentum must be at least 0 and below 1, not {value}" in refused(
        rest, HESSIAN, ONE, 0.3, value
    )


def test_other_values_without_a_meaning_are_refused():
    assert "dampening" in refused(heavy_ball_covariance, HESSIAN, ONE, 0.3, 0.5, 1.0)
    assert "2 batches, not 1" in refused(reshuffled_covariance, HESSIAN, ONE, 0.3, 1)
    assert "the covariance is no covariance" in refused(effective_temperature, HESSIAN, -ONE)
    assert "the matrix must be a square" in refused(symmetric_eigh, HESSIAN[0])


def test_rounding_to_float32_is_not_taken_for_asymmetry(rng):
    half = np.float32(rng.normal(size=(200, 200)))
    rough = half @ half.T / 200 + np.eye(200, dtype=np.float32)
    rough[0, 1] *= 1 + np.float32(1e-6)
    assert np.all(np.isfinite(stationary_covariance(rough, rough, 0.1)))
