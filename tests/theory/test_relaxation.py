"""How descent relaxes: against brute force, against itself in another time, and against chains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.strategies import floats, integers
from numpy.testing import assert_allclose
from scipy.integrate import quad_vec, solve_ivp
from scipy.linalg import expm, solve_discrete_lyapunov
from witnesses import HESSIAN, SURE, bowl, matrix, number

from derivations import memory
from derivations import relaxation as derived
from sgdnoise import noise
from sgdnoise.core import mean
from sgdnoise.dynamics import sgd, simulate
from sgdnoise.theory import (
    LinearRecursion,
    OrnsteinUhlenbeck,
    heavy_ball_covariance,
    heavy_ball_recursion,
    langevin_covariance,
    langevin_relaxation,
    sgd_recursion,
    stationary_covariance,
)

RATE = 0.3
seeds = integers(0, 2**32 - 1)


def random_covariance(rng, rank=5):
    """A covariance that does not commute with HESSIAN."""
    rows = rng.normal(size=(rank, 3))
    return rows.T @ rows


def whirl(rng):
    """A stable drift that is not symmetric, and a diffusion."""
    return HESSIAN + np.triu(np.ones((3, 3)), 1) - np.tril(np.ones((3, 3)), -1), random_covariance(
        rng
    )


# --- steps ---


@pytest.mark.parametrize("steps", [0, 1, 2, 7, 64, 101])
def test_moments_after_steps_are_those_of_one_step_after_another(steps, rng):
    first = LinearRecursion(rng.normal(size=(3, 3)) / 3, random_covariance(rng))
    center, covariance = rng.normal(size=3), random_covariance(rng)
    result = first.propagate(center, covariance, steps)
    for _ in range(steps):
        center, covariance = (
            first.matrix @ center,
            first.matrix @ covariance @ first.matrix.T + first.noise,
        )
    assert_allclose(result[0], center, rtol=1e-10, atol=1e-15)
    assert_allclose(result[1], covariance, rtol=1e-10)


def test_growing_and_flat_directions_have_moments_too():
    """Along a flat one variance grows by rate^2 c a step."""
    first = sgd_recursion(np.diag([0.0, -1.0]), np.eye(2), 0.1)
    center, covariance = first.propagate(np.ones(2), np.zeros((2, 2)), 50)
    assert_allclose(center, [1, 1.1**50], rtol=1e-12)
    assert_allclose(np.diag(covariance), [0.5, 0.01 * (1.21**50 - 1) / 0.21], rtol=1e-12)


@pytest.mark.parametrize("rate", [1e-6, 0.3, 0.95])
def test_steps_rest_at_the_stationary_covariance(rate, rng):
    c = random_covariance(rng)
    result = sgd_recursion(HESSIAN, c, rate).stationary_covariance()
    assert_allclose(result, stationary_covariance(HESSIAN, c, rate), rtol=1e-8)


def test_steps_of_any_kind_rest_where_steins_equation_says(rng):
    retained, kick = rng.normal(size=(4, 4)), np.diag([1.0, 2.0, 0.0, 3.0])
    retained = retained / (1.01 * abs(np.linalg.eigvals(retained)).max())
    expected = solve_discrete_lyapunov(retained, kick)
    assert_allclose(LinearRecursion(retained, kick).stationary_covariance(), expected, rtol=1e-8)


def test_a_heavy_ball_steps_to_its_own_rest_and_long_run(rng):
    """Means of many iterates scatter as without momentum."""
    c = random_covariance(rng)
    ball, plain = heavy_ball_recursion(HESSIAN, c, 0.5, 0.8), sgd_recursion(HESSIAN, c, 0.1)
    assert_allclose(
        ball.stationary_covariance()[:3, :3],
        heavy_ball_covariance(HESSIAN, c, 0.5, 0.8),
        rtol=1e-10,
    )
    inverse = np.linalg.inv(HESSIAN)
    assert_allclose(plain.long_run_covariance(), inverse @ c @ inverse, rtol=1e-10)
    assert_allclose(ball.long_run_covariance()[:3, :3], inverse @ c @ inverse, rtol=1e-9)


def test_sums_of_autocovariances_are_the_long_run(rng):
    first = LinearRecursion(*(block * 0.3 for block in whirl(rng)))
    half = sum(first.autocovariance(k) for k in range(1, 400))
    assert_allclose(
        first.stationary_covariance() + half + half.T,
        first.long_run_covariance(),
        rtol=1e-9,
        atol=1e-12,
    )
    v = rng.normal(size=3)
    tau = 1 + 2 * sum(v @ first.autocovariance(k) @ v for k in range(1, 400)) / (
        v @ first.stationary_covariance() @ v
    )
    assert_allclose(first.correlation_time(v), tau, rtol=1e-9)


def test_the_irreversibility_of_a_step_is_a_divergence_of_normal_laws(rng):
    """Kullback and Leibler's, between two successive theta and the same two in reverse."""
    first = sgd_recursion(HESSIAN, random_covariance(rng), RATE)
    s, later = first.stationary_covariance(), first.autocovariance(1)
    forward = np.block([[s, later.T], [later, s]])
    backward = np.block([[s, later], [later.T, s]])
    divergence = (np.trace(np.linalg.solve(backward, forward)) - 6) / 2
    assert divergence > 0.01
    assert_allclose(first.entropy_production(), divergence, rtol=1e-8)


# --- flows ---


@pytest.mark.parametrize("time", [0.0, 1e-3, 0.7, 30.0])
def test_a_sampled_flow_is_its_exponential_and_integral(time, rng):
    flow = OrnsteinUhlenbeck(*whirl(rng))
    result = flow.discretise(time)

    def kick(s):
        return expm(-flow.drift * s) @ flow.diffusion @ expm(-flow.drift.T * s)

    expected = quad_vec(kick, 0, time, epsabs=1e-13, limit=500)[0]
    assert_allclose(result.matrix, expm(-flow.drift * time), rtol=1e-9, atol=1e-14)
    assert_allclose(result.noise, expected, rtol=1e-9, atol=1e-12)


def test_moments_of_a_flow_solve_their_differential_equations(rng):
    flow, start, s0 = OrnsteinUhlenbeck(*whirl(rng)), rng.normal(size=3), random_covariance(rng)

    def speed(_, state):
        center, s = state[:3], state[3:].reshape(3, 3)
        slope = flow.diffusion - flow.drift @ s - s @ flow.drift.T
        return np.concatenate([-flow.drift @ center, slope.ravel()])

    initial = np.concatenate([start, s0.ravel()])
    ends = solve_ivp(speed, (0, 1.3), initial, rtol=1e-11, atol=1e-12).y[:, -1]
    midpoint, s = flow.propagate(start, s0, 1.3)
    assert_allclose(np.concatenate([midpoint, s.ravel()]), ends, rtol=1e-8)


def test_long_times_and_flat_directions_do_no_harm(rng):
    c = random_covariance(rng)
    flow = langevin_relaxation(HESSIAN, c, RATE)
    assert_allclose(flow.discretise(1e6).noise, flow.stationary_covariance(), rtol=1e-10)
    assert_allclose(flow.stationary_covariance(), langevin_covariance(HESSIAN, c, RATE), rtol=1e-10)
    flat = langevin_relaxation(np.diag([0.0, 1.0]), np.eye(2), RATE).discretise(1e4)
    assert_allclose(flat.noise, np.diag([RATE * 1e4, RATE / 2]), rtol=1e-10)


def test_a_flow_remembers_as_its_samples_do(rng):
    """Finely sampled, tau in units of time, to second order in the step."""
    flow, v = OrnsteinUhlenbeck(*whirl(rng)), rng.normal(size=3)
    fine = flow.discretise(1e-3)
    assert_allclose(fine.correlation_time(v) * 1e-3, flow.correlation_time(v), rtol=1e-5)
    assert_allclose(fine.circulation() / 1e-3, flow.circulation(), rtol=2e-2, atol=1e-9)
    assert_allclose(fine.entropy_production() / 1e-3, flow.entropy_production(), rtol=2e-2)
    assert_allclose(flow.autocovariance(0.02), fine.autocovariance(20), rtol=1e-9, atol=1e-12)


@given(seed=seeds, first=floats(0, 5), second=floats(0, 5))
def test_flows_over_two_times_are_one_flow_over_their_sum(seed, first, second):
    flow = OrnsteinUhlenbeck(*whirl(np.random.default_rng(seed)))
    zero = np.zeros(3)
    center, s = flow.propagate(*flow.propagate(zero + 1, np.zeros((3, 3)), first), second)
    expected = flow.propagate(zero + 1, np.zeros((3, 3)), first + second)
    assert_allclose(center, expected[0], rtol=1e-8, atol=1e-10)
    assert_allclose(s, expected[1], rtol=1e-8, atol=1e-10)


# --- the matched flow ---


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.45])
def test_samples_of_the_matched_flow_have_the_law_of_descent(rate):
    first = sgd_recursion(HESSIAN, np.eye(3) + 0.2 * HESSIAN, rate)
    again = first.embed(rate).discretise(rate)
    assert_allclose(again.matrix, first.matrix, rtol=1e-10, atol=1e-14)
    assert_allclose(again.noise, first.noise, rtol=1e-8, atol=1e-14)


def test_the_matched_flow_of_a_sampled_flow_is_that_flow(rng):
    flow = OrnsteinUhlenbeck(*whirl(rng))
    result = flow.discretise(0.4).embed(0.4)
    assert_allclose(result.drift, flow.drift, rtol=1e-9, atol=1e-12)
    assert_allclose(result.diffusion, flow.diffusion, rtol=1e-8, atol=1e-10)


@given(seed=seeds, rate=floats(1e-3, 0.45))
def test_one_kick_across_modes_fits_no_flow_and_one_along_a_mode_does(seed, rate):
    """At any rate; its diffusion would be indefinite by (rate gap)^2 / 12 or more of its size."""
    v = np.random.default_rng(seed).uniform(0.5, 2, 2)
    h = np.diag([0.3, 2.0])
    with pytest.raises(ValueError, match="no process in continuous time has the law"):
        sgd_recursion(h, np.outer(v, v), rate).embed(rate)
    along = sgd_recursion(h, np.diag([1.0, 0.0]), rate).embed(rate)
    assert_allclose(
        along.discretise(rate).noise, rate**2 * np.diag([1.0, 0.0]), rtol=1e-9, atol=1e-15
    )


# --- detailed balance ---


@given(seed=seeds, rate=floats(0.01, 0.9))
def test_only_noise_that_commutes_with_the_hessian_is_in_balance(seed, rate):
    c = random_covariance(np.random.default_rng(seed)) + 0.1 * np.eye(3)
    for commuting in (HESSIAN @ HESSIAN, np.eye(3) + HESSIAN):
        for first in (
            sgd_recursion(HESSIAN, commuting, rate),
            langevin_relaxation(HESSIAN, commuting, 1.0),
        ):
            assert_allclose(first.circulation(), 0, atol=1e-13)
            assert abs(first.entropy_production()) < 1e-12
    for first in (sgd_recursion(HESSIAN, c, rate), langevin_relaxation(HESSIAN, c, 1.0)):
        assert_allclose(first.circulation(), -first.circulation().T, atol=1e-14)
        assert np.any(abs(first.circulation()) > 1e-8)
        assert first.entropy_production() > 0


def test_entropy_and_current_do_not_depend_on_the_scale_of_noise_or_the_rate(rng):
    """Entropy not at all, the current in proportion."""
    c = random_covariance(rng)
    first, second = langevin_relaxation(HESSIAN, c, 0.1), langevin_relaxation(HESSIAN, 3 * c, 0.4)
    assert_allclose(second.entropy_production(), first.entropy_production(), rtol=1e-9)
    assert_allclose(second.circulation(), 12 * first.circulation(), rtol=1e-9, atol=1e-14)


# --- derived = coded ---


def test_relaxation_is_the_derived_one(rng):
    h, rate, c, start = (
        np.asarray([0.5, 1.4]),
        0.3,
        random_covariance(rng)[:2, :2],
        random_covariance(rng)[:2, :2],
    )
    pair = {"h_i": h[:, None], "h_j": h[None, :], "C_ij": c, "eta": rate, "s_ij": start}
    flow, steps = langevin_relaxation(np.diag(h), c, rate), sgd_recursion(np.diag(h), c, rate)
    moved = flow.propagate(np.zeros(2), start, 0.8)[1]
    assert_allclose(moved, number(derived.transient_flow(), t=0.8, **pair), rtol=1e-12)
    moved = steps.propagate(np.zeros(2), start, 5)[1]
    assert_allclose(moved, number(derived.transient_steps(), k=5, **pair), rtol=1e-12)
    matched = sgd_recursion(np.diag(h), np.diag([1.0, 2.0]) + 0.1, rate).embed(rate)
    assert_allclose(np.diag(matched.drift), number(derived.matched_drift(), h=h, eta=rate))
    pair["C_ij"] = np.diag([1.0, 2.0]) + 0.1
    diffusion = number(derived.matched_diffusion(), **pair)
    assert_allclose(matched.diffusion, diffusion, rtol=1e-10)


def test_circulation_and_memory_are_the_derived_ones(rng):
    h, rate, c = np.asarray([0.5, 1.4]), 0.3, random_covariance(rng)[:2, :2]
    flow, steps = langevin_relaxation(np.diag(h), c, rate), sgd_recursion(np.diag(h), c, rate)
    letters = {"h_1": h[0], "h_2": h[1], "eta": rate}
    letters |= {"c_11": c[0, 0], "c_12": c[0, 1], "c_22": c[1, 1]}
    assert_allclose(flow.circulation()[0, 1], number(derived.area_rate(), **letters), rtol=1e-11)
    generated = number(derived.entropy_production(), **letters)
    assert_allclose(flow.entropy_production(), generated, rtol=1e-9)
    first, mode = np.asarray([1.0, 0.0]), {"h": h[0], "eta": rate}
    tau = number(memory.correlation_time_steps(), **mode)
    assert_allclose(steps.correlation_time(first), tau, rtol=1e-11)
    tau = number(memory.correlation_time_flow(), **mode)
    assert_allclose(flow.correlation_time(first), tau, rtol=1e-11)
    assert_allclose(steps.long_run_covariance()[0, 0], number(memory.long_run(), c=c[0, 0], **mode))


@pytest.mark.parametrize("asarray", [torch.asarray, jnp.asarray], ids=["torch", "jax"])
def test_matrices_of_any_library_are_taken(asarray, rng):
    c = random_covariance(rng)
    for make in (sgd_recursion, langevin_relaxation):
        expected = make(HESSIAN, c, RATE).stationary_covariance()
        assert_allclose(
            make(asarray(HESSIAN), asarray(c), RATE).stationary_covariance(), expected, rtol=1e-12
        )


# --- simulated ---


def test_chains_relax_remember_and_circulate_as_coded():
    """From far away after 3 steps; and at rest, with memory over 4 steps and the area of one."""
    problem = bowl(n=8, seed=3)
    model = noise.minibatch(problem, 2)
    c = matrix(model.covariance(jnp.zeros(3)), 3)
    first, start = sgd_recursion(HESSIAN, c, RATE), np.asarray([1.0, -2.0, 0.5])
    starts = jnp.tile(jnp.asarray(start), (4000, 1))
    path = np.asarray(simulate(sgd(model, RATE), jax.random.key(0), starts, steps=45).theta)
    center, s = first.propagate(start, np.zeros((3, 3)), 3)
    away = path[:, 2] - center
    assert np.all(abs(mean(path[:, 2]).z(center)) < SURE)
    assert np.all(abs(mean(away[:, :, None] * away[:, None, :]).z(s)) < SURE)
    before, after = path[:, 40], path[:, 44]
    memory = mean(after[:, :, None] * before[:, None, :])
    assert np.all(abs(memory.z(first.autocovariance(4))) < SURE)
    swept = [path[:, k, :, None] * path[:, k + 1, None, :] for k in range(34, 44)]
    area = mean(np.mean([(a - a.transpose(0, 2, 1)) / 2 for a in swept], axis=0))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert abs(area.value[i, j] - first.circulation()[i, j]) < SURE * area.stderr[i, j]
    assert np.any(abs(first.circulation()) > 2 * SURE * area.stderr.max())


def test_means_of_long_runs_scatter_by_the_correlation_time(rng):
    """Means of 400 iterates: the variance is that of rest times tau / 400, less tau / 800 of it."""
    steps, c = 400, random_covariance(rng)
    first, root = sgd_recursion(HESSIAN, c, RATE), RATE * np.linalg.cholesky(c).T
    theta = rng.multivariate_normal(np.zeros(3), first.stationary_covariance(), size=4000)
    total = np.zeros_like(theta)
    for _ in range(steps):
        theta = theta @ first.matrix + rng.normal(size=theta.shape) @ root
        total += theta
    v = np.asarray([1.0, -1.0, 0.5])
    observed = mean((total @ v / steps) ** 2)
    tau, variance = first.correlation_time(v), v @ first.stationary_covariance() @ v
    expected = variance * tau / steps
    assert abs(observed.value - expected) < SURE * observed.stderr + expected * tau / steps


# --- refused ---


def refused(call, *arguments):
    with pytest.raises(ValueError, match=r"^[^\n]{20,200}$") as caught:
        call(*arguments)
    message = str(caught.value)
    assert not message.endswith(".")
    assert ". " not in message
    return message


@pytest.mark.parametrize("make", [sgd_recursion, langevin_relaxation])
def test_bad_matrices_are_refused(make):
    first = np.eye(3)
    assert "hessian must be a square" in refused(make, first[:2], first, RATE)
    assert "hessian must be symmetric" in refused(make, np.triu(np.ones((3, 3))), first, RATE)
    assert "(2, 2) and (3, 3)" in refused(make, first, np.eye(2), RATE)
    assert "eigenvalue -1" in refused(make, first, -first, RATE)
    assert "learning_rate must be positive, not 0.0" in refused(make, first, first, 0.0)


@pytest.mark.parametrize("make", [LinearRecursion, OrnsteinUhlenbeck])
def test_processes_made_by_hand_are_looked_at(make):
    first = np.eye(3)
    assert "(3,)" in refused(make, np.ones(3), np.ones(3))
    assert "must be a square" in refused(make, first[:2], first[:2])
    assert "must be symmetric" in refused(make, first, np.triu(np.ones((3, 3))))
    assert "is no covariance" in refused(make, first, -first)


def test_what_has_no_rest_says_so():
    first = np.eye(2)
    assert "multiplies some direction by 1.4" in refused(
        sgd_recursion(first, first, 2.4).stationary_covariance
    )
    assert "real part -0.5" in refused(
        langevin_relaxation(np.diag([-0.5, 1]), first, 1.0).stationary_covariance
    )
    assert "by 1," in refused(sgd_recursion(np.diag([0.0, 1]), first, 0.3).long_run_covariance)


def test_what_no_flow_does_is_refused():
    first = np.eye(2)
    assert "by -0.5" in refused(sgd_recursion(first, first, 1.5).embed, 1.5)
    assert "by 0:" in refused(sgd_recursion(first, first, 1.0).embed, 1.0)
    assert "dt must be positive" in refused(sgd_recursion(first, first, 0.1).embed, 0.0)


def test_other_values_without_a_meaning_are_refused():
    first, none = np.eye(2), np.zeros((2, 2))
    steps, flow = (
        sgd_recursion(first, np.diag([1.0, 0.0]), 0.1),
        langevin_relaxation(first, none + 1, 0.1),
    )
    assert "-1" in refused(steps.power, -1)
    assert "-0.5" in refused(flow.discretise, -0.5)
    assert "time has no reverse" in refused(steps.entropy_production)
    assert "time has no reverse" in refused(flow.entropy_production)
    assert "no correlation time" in refused(steps.correlation_time, np.asarray([0.0, 1.0]))
    assert "not 1.5" in refused(heavy_ball_recursion, first, first, 0.1, 1.5)
