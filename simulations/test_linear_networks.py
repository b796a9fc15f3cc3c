"""What the studies of linear networks share."""

import numpy as np
import pytest

from sgdnoise.theory import MLP
from simulations import _linear_networks as shared
from simulations.linear_networks.study import study


def test_curvatures_are_those_of_the_dense_hessian(rng):
    w, v = rng.normal(size=(3, 4)), rng.normal(size=(4, 2))
    moment = np.diag([0.5, 1.0, 1.5])
    net = MLP((3, 4, 2), "linear")
    theta = np.concatenate([w.ravel(), v.ravel()])
    columns = [
        (net.weights(theta + unit)[0] @ net.weights(theta + unit)[1] - w @ v).ravel()
        for unit in np.eye(20)
    ]  # each weight alone changes the product linearly
    jacobian = np.stack(columns, axis=1)
    hessian = jacobian.T @ np.kron(moment, np.eye(2)) @ jacobian
    curvatures = shared.curvatures_across(moment, [w, v])
    np.testing.assert_allclose(curvatures, np.linalg.eigvalsh(hessian)[-6:], rtol=1e-10)


def test_descent_ends_at_the_minimum_at_any_depth(rng):
    layers = [rng.normal(size=shape) / 2 for shape in ((3, 4), (4, 4), (4, 2))]
    product = rng.normal(size=(3, 2)) / 2
    ends = shared.descend_to_minimum(np.diag([0.5, 1.0, 1.5]), product, layers, 20_000)
    np.testing.assert_allclose(np.linalg.multi_dot(ends), product, atol=1e-6)


@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0], [3.0, 1.0, 0.0]])
def test_a_participation_ratio_is_that_of_the_eigenvalues(values, rng):
    basis = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    matrices = np.stack([basis * values @ basis.T] * 2)
    expected = np.sum(values) ** 2 / np.sum(np.square(values))
    np.testing.assert_allclose(shared.participation_ratio(matrices), expected, rtol=1e-12)


def test_what_has_no_noise_in_the_committed_runs_is_as_descent_has_it():
    """Rows without a spread over runs are identities: of descent in single precision."""
    committed = study.read()
    for label, number in (("two_layer", 1), ("residual", 1), ("decay", 5)):
        rows = study.parts[label].judge(committed[label])
        fixed = [v for v in rows if float(v.measured.stderr) == 0]
        assert len(fixed) == number
        assert all(v.kind == "observation" for v in fixed)
        assert max(abs(v.deviation) for v in fixed) < 1e-4
