"""The averaged flow against closed forms, against itself, and against descent on its penalty."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import solve_ivp

from sgdnoise.theory import averaged_flow
from sgdnoise.theory._averaged_flow import balanced

NOISE = {"label_noise": 0.1, "learning_rate": 0.002, "batch_size": 4}
START = np.asarray([4.0, 0.5])


def jacobian(theta):
    """Of one output a b^2 at one example; the minima are a b^2 = 1."""
    a, b = theta
    return np.asarray([[[b**2, 2 * a * b]]])


def gradient(theta):
    a, b = theta
    return (a * b**2 - 1) * jacobian(theta)[0, 0]


def flow(**options):
    size = {"steps": 4_000_000, "every": 2_000_000, "jumps": 50, "draws": 1}
    return averaged_flow(gradient, jacobian, START, **NOISE | size | options)


def descended(metric, penalty_gradient, time):
    """b along a b^2 = 1 of descent on a penalty in a metric 1 / P, in closed coordinates.

    theta = (b^-2, b): d b / dt = -(t . force) / (t . P^-1 t), with t the tangent (-2 b^-3, 1).
    """

    def slope(_, at):
        b = at[0]
        tangent, p = np.asarray([-2 * b**-3, 1.0]), metric(b)
        return [-(tangent @ penalty_gradient(b)) / (tangent @ (tangent / p))]

    return solve_ivp(slope, (0, time), [0.5], rtol=1e-10, atol=1e-12).y[0, -1]


def trace_gradient(b):
    """Of Tr H = b^4 + 4 a^2 b^2."""
    a = b**-2
    return np.asarray([8 * a * b**2, 4 * b**3 + 8 * a**2 * b])


def root_gradient(b):
    """Of Tr D^(1/2) = b^2 + 2 a b."""
    a = b**-2
    return np.asarray([2 * b, 2 * b + 2 * a])


def test_sgd_descends_on_the_trace():
    kappa, time = 0.002 * 0.1**2 / 16, 0.002 * 4_000_000
    path = flow()
    expected = descended(lambda _: np.ones(2), lambda b: kappa * trace_gradient(b), time)
    assert_allclose(path.theta[-1][1] - 0.5, expected - 0.5, rtol=0.03)
    assert expected - 0.5 > 1e-3
    assert path.preconditioner is None
    assert path.step.tolist() == [2_000_000, 4_000_000]


def test_adam_descends_on_the_roots_of_the_diagonal_in_its_metric():
    noise, batch, rate, steps = 0.1, 4, 2e-4, 4_000_000

    def metric(b):
        return batch**0.5 / noise / np.asarray([b**2, 2 * b**-1])

    force = rate * noise / (2 * batch**0.5)
    path = flow(learning_rate=rate, adaptive=0.999)
    expected = descended(metric, lambda b: force * root_gradient(b), rate * steps)
    assert_allclose(path.theta[-1][1] - 0.5, expected - 0.5, rtol=0.03)
    assert expected - 0.5 > 1e-3
    b = path.theta[-1][1]
    assert_allclose(path.preconditioner[-1], metric(b), rtol=0.02)


def test_the_excess_is_that_of_the_jitter():
    path = flow()
    for theta, jitter, excess in zip(path.theta, path.jitter, path.excess, strict=True):
        j = jacobian(theta)[0, 0]
        assert_allclose(excess, 0.5 * j @ (jitter.rows.T @ jitter.rows) @ j)


def test_a_constant_preconditioner_is_a_change_of_coordinates():
    p = np.asarray([2.0, 0.5])
    root = p**0.5
    path = flow(preconditioner=p)
    other = averaged_flow(
        lambda z: root * gradient(root * z),
        lambda z: jacobian(root * z) * root,
        START / root,
        **NOISE,
        steps=4_000_000,
        every=2_000_000,
        jumps=50,
        draws=1,
    )
    assert_allclose(path.theta, other.theta * root, rtol=1e-8)


def test_more_jumps_change_little():
    few, many = flow(jumps=25).theta[-1], flow(jumps=100).theta[-1]
    assert_allclose(few - START, many - START, rtol=0.01)


def test_memory_delays_the_preconditioner():
    """With beta_2 so near 1 that v keeps its first value, the path is that of a constant P."""
    options = {"learning_rate": 2e-4}
    slow = flow(adaptive=1 - 1e-12, **options)
    p = slow.preconditioner[0]
    assert_allclose(slow.preconditioner[-1], p, rtol=1e-6)
    assert_allclose(slow.theta, flow(preconditioner=p, **options).theta, rtol=1e-9)


def test_balanced_numbers_have_the_moments_of_white_ones(rng):
    numbers = balanced(5, rng)
    rows = np.stack([next(numbers) for _ in range(5)])
    assert_allclose(rows.T @ rows / 5, np.eye(5), atol=1e-12)
    assert not np.allclose(rows, [next(numbers) for _ in range(5)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"every": 7}, "do not divide"),
        ({"jumps": 0}, "do not divide"),
        ({"preconditioner": np.ones(2), "adaptive": 0.9}, "not both"),
        ({"preconditioner": np.ones(3)}, "preconditioner"),
        ({"learning_rate": 1.0}, "diverges"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        flow(**change)
