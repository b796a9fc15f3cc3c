"""Small parameters of label noise in nonlinear networks: known cases, drawn jitter, and limits."""

import numpy as np
import pytest

from sgdnoise.theory import (
    FlowLimits,
    flow_regime,
    label_noise_covariance,
    label_noise_task,
    network_regime,
)

NOISE = {"label_noise": 0.6, "learning_rate": 0.05, "batch_size": 4}
PATH = [0.0, 10.0, 30.0], [[4.0, 3.0, 2.0], [1.0, 1.5, 1.5]]
SPEED = np.log(1.5) / 10  # of the second path of PATH, in its first ten units of time


@pytest.fixture
def network():
    """A Jacobian (n, o, p) and a hidden layer with its derivatives."""
    rng = np.random.default_rng(0)
    jacobian = rng.normal(size=(6, 2, 9))
    return jacobian, (rng.normal(size=(6, 4)), 0.5 * rng.normal(size=(6, 4, 9)))


def test_haste_is_the_speed_over_the_only_curvature():
    """One example and one output: H has a single curvature |J|^2."""
    rng = np.random.default_rng(1)
    jacobian, layer = rng.normal(size=(1, 1, 9)), (rng.normal(size=(1, 4)), np.ones((1, 4, 9)))
    layer = tuple(np.concatenate([array, -array]) for array in layer)  # an activation that varies
    regime = network_regime(jacobian, [layer], *PATH, **NOISE)
    np.testing.assert_allclose(regime.haste, SPEED / np.sum(jacobian**2), rtol=1e-12)


def test_haste_weights_each_direction_by_its_share_of_the_force(network):
    """The mean of 1 / h with the weights h s, s the variance along the eigenvector of h."""
    jacobian, layer = network
    regime = network_regime(jacobian, [layer], *PATH, **NOISE)
    rows = label_noise_covariance(jacobian, time=PATH[0][-1], **NOISE).rows
    flat = jacobian.reshape(12, 9) / 6**0.5
    values, basis = np.linalg.eigh(flat.T @ flat)
    weights = values * np.diag(basis.T @ rows.T @ rows @ basis)
    expected = SPEED * np.average(1 / values, weights=weights)
    np.testing.assert_allclose(regime.haste, expected, rtol=1e-10)
    trace = np.sum(flat**2)
    np.testing.assert_allclose(regime.amplification, 0.05 * trace / (2 * 4 * 2), rtol=1e-12)
    np.testing.assert_allclose(regime.sharpness, 0.05 * values[-1], rtol=1e-12)
    np.testing.assert_allclose(regime.error, regime.haste / 2 + regime.jitter, rtol=1e-12)


def test_slow_directions_count_once_they_have_had_time():
    """Curvatures 1 and 1e-4: the second adds to haste only in a run of 1e4 units of time."""
    jacobian = np.diag([2**0.5, 0.02**0.5 / 10])[:, None]
    layer = np.asarray([[1.0], [-1.0]]), np.ones((2, 1, 2)) * [[[1.0]], [[-1.0]]]
    paths = [[2.0, 1.0]]

    def curvature(time):
        """The rate of the path over haste: the weighted curvature."""
        regime = network_regime(jacobian, [layer], [0.0, time], paths, **NOISE)
        return np.log(2) / time / regime.haste

    assert curvature(10.0) == pytest.approx(1.0, rel=0.05)
    assert curvature(1e6) == pytest.approx(0.5, rel=0.1)  # Tr H / 2, the mean curvature


def test_jitter_is_the_share_that_drawn_weights_add_to_the_variance(network):
    jacobian, (activations, derivatives) = network
    regime = network_regime(jacobian, [(activations, derivatives)], *PATH, **NOISE)
    rows = label_noise_covariance(jacobian, time=PATH[0][-1], **NOISE).rows
    draws = np.random.default_rng(2).normal(size=(20_000, len(rows))) @ rows
    draws = np.stack([draws, -draws], 1)  # of which the terms linear in theta cancel
    moved = activations + np.einsum("ihp,ksp->ksih", derivatives, draws)
    added = moved.var(2).sum(2).mean(1) / activations.var(0).sum() - 1
    error = added.std() / len(added) ** 0.5
    assert abs(added.mean() - regime.jitter) < 5 * error
    assert error < 0.03 * regime.jitter


def test_the_worst_of_two_layers_counts(network):
    jacobian, layer = network
    larger = layer[0], 2 * layer[1]
    both, one = (
        network_regime(jacobian, layers, *PATH, **NOISE) for layers in ([layer, larger], [larger])
    )
    assert both == one
    assert one.jitter == pytest.approx(4 * network_regime(jacobian, [layer], *PATH, **NOISE).jitter)


def test_jitter_of_a_linear_network_is_that_of_its_flow():
    """Inputs that come with both signs, so that the mean of the hidden layer is zero."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(8, 3))
    x = np.concatenate([x, -x])
    first, second = 0.4 * rng.normal(size=(3, 4)), 0.4 * rng.normal(size=(4, 2))
    hidden = np.einsum("ia,kl->ikal", x, np.eye(4)).reshape(16, 4, 12)
    readout = np.einsum("ih,km->ikhm", x @ first, np.eye(2)).reshape(16, 2, 8)
    jacobian = np.concatenate([np.einsum("ho,ihp->iop", second, hidden), readout], axis=2)
    layer = x @ first, np.concatenate([hidden, np.zeros((16, 4, 8))], axis=2)
    regime = network_regime(jacobian, [layer], [0.0, 1e9], [[2.0, 1.0]], **NOISE)
    strength = {key: NOISE[key] for key in ("learning_rate", "batch_size")}
    expected = flow_regime(label_noise_task(x, 2, 0.6), [first, second], **strength)
    for name in ("amplification", "sharpness", "jitter"):
        assert getattr(regime, name) == pytest.approx(getattr(expected, name), rel=1e-6)


@pytest.mark.parametrize("name", FlowLimits._fields)
def test_each_parameter_has_a_side_that_is_claimed_and_one_that_is_not(network, name):
    """Speed, rate, batch and derivatives that put one parameter below, and above, its limit."""
    jacobian, (activations, derivatives) = network
    limit = getattr(FlowLimits(), name)

    def regime(factor):
        paths, slopes, scaled = [[np.exp(0.01), 1.0]], 0.1 * derivatives, jacobian
        small = NOISE | {"learning_rate": 0.01, "batch_size": 1}
        if name == "haste":
            paths = [[np.exp(0.01 * factor), 1.0]]
        if name == "jitter":
            slopes = factor**0.5 * slopes
        if name == "sharpness":
            small |= {"learning_rate": 0.01 * factor, "batch_size": 16}
        if name == "amplification":
            scaled = factor**0.5 * jacobian
        return network_regime(scaled, [(activations, slopes)], [0.0, 10.0], paths, **small)

    value = getattr(regime(1.0), name)
    below, above = regime(0.98 * limit / value), regime(1.02 * limit / value)
    assert getattr(below, name) < limit < getattr(above, name)
    assert below.claimed()
    assert not above.claimed()


def test_wrong_arguments_are_one_sentence(network):
    jacobian, layer = network
    for arguments, sentence in (
        ((jacobian, [], *PATH), "needs a hidden layer"),
        ((jacobian, [layer], [0.0, 0.0, 1.0], PATH[1]), "ascending order"),
        ((jacobian, [layer], PATH[0], [[1.0, 2.0]]), "are not of 3 times"),
        ((jacobian, [layer], PATH[0], [[1.0, 0.0, 1.0]]), "must be positive, not 0"),
        ((jacobian, [(layer[0], layer[1][:, :3])], *PATH), "are not those of activations"),
    ):
        with pytest.raises(ValueError, match=sentence):
            network_regime(*arguments, **NOISE)
