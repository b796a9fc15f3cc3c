"""The Gauss-Newton matrix of two-layer networks with any activation, by differentiation.

The network f = phi(x W) V has d inputs, h hidden units and o outputs; the equations are written
out for d = 2, h = 2 and o = 3, and their laws are proved for other sizes as well.
"""

from typing import Any, NamedTuple

import sympy as sp

from derivations.algebra import mean, same, white
from derivations.equation import equation
from derivations.symbols import sigma

phi_bend = sp.Function("phi''")


class phi_slope(sp.Function):
    """The first derivative of the activation."""

    def fdiff(self, argindex=1):  # noqa: ARG002 - there is one argument
        """The second derivative."""
        return phi_bend(self.args[0])


class phi(sp.Function):
    """The activation: a function of which nothing is known but its derivatives' names."""

    def fdiff(self, argindex=1):  # noqa: ARG002 - there is one argument
        """The first derivative."""
        return phi_slope(self.args[0])


class Net(NamedTuple):
    """Inputs x (1, d) and weights W (d, h) and V (h, o), all of them letters."""

    x: Any
    W: Any
    V: Any

    @property
    def theta(self):
        """All parameters: W and then V, row by row."""
        return [*self.W, *self.V]

    def outputs(self):
        """f (1, o)."""
        return (self.x * self.W).applyfunc(phi) * self.V

    def jacobian(self):
        """Derivatives of the outputs, (o, p)."""
        return self.outputs().jacobian(self.theta)


def _other_sizes_follow_the_same_rule():
    sizes = ((1, 1, 1), (2, 2, 3), (3, 2, 1), (1, 3, 2), (2, 1, 2))
    return all(_is_the_sum_of_two_layers(*size) for size in sizes)


def _trace_is_that_of_the_hessian():
    """Second derivatives of the loss, added up where all targets are met."""
    net = _sized(2, 2, 3)
    return same(_lettered(net, _hessian(net).trace()), squared_jacobian().rhs)


def _linear_networks_have_the_known_trace():
    """o |x W|^2 + |x|^2 |V|^2 where phi is the identity."""
    net = _sized(2, 2, 3)
    hidden = net.x * net.W
    values, slopes = _units(net)
    linear = dict(zip(values, hidden, strict=True)) | dict.fromkeys(slopes, 1)
    expected = 3 * _squares(hidden) + _squares(net.x) * _squares(net.V)
    return same(squared_jacobian().rhs.subs(linear), expected)


@equation(
    "eq:squared-jacobian",
    computed_by="sgdnoise.theory.MLP.traces",
    laws=(
        _other_sizes_follow_the_same_rule,
        _trace_is_that_of_the_hessian,
        _linear_networks_have_the_known_trace,
    ),
)
def squared_jacobian():
    """Squared Jacobian of one example, whose mean over the examples is the trace of H."""
    net = _sized(2, 2, 3)
    squared = sp.expand(_lettered(net, sum(entry**2 for entry in net.jacobian())))
    return sp.Eq(sp.Symbol("|J|^2"), _by_unit(net, squared))


def _weights_of_a_unit_share_its_gate():
    """Rows of W are to each other as the squared inputs."""
    diagonal, x = first_diagonal().rhs, _sized(2, 2, 3).x
    return all(same(diagonal[0, a] * x[1] ** 2, diagonal[1, a] * x[0] ** 2) for a in range(2))


def _diagonal_adds_up_to_the_trace():
    both = sum(first_diagonal().rhs) + sum(second_diagonal().rhs)
    return same(both, squared_jacobian().rhs)


@equation(
    "eq:first-diagonal",
    computed_by="sgdnoise.theory.MLP.diagonal",
    laws=(_weights_of_a_unit_share_its_gate, _diagonal_adds_up_to_the_trace),
)
def first_diagonal():
    """Diagonal of the Gauss-Newton matrix of one example, the entries of W."""
    net = _sized(2, 2, 3)
    return sp.Eq(sp.MatrixSymbol("G_W", 2, 2), _diagonal(net)[: len(net.W), 0].reshape(2, 2))


def _readouts_of_a_unit_are_alike():
    diagonal = second_diagonal().rhs
    return all(same(diagonal[a, 0], diagonal[a, k]) for a in range(2) for k in range(3))


@equation(
    "eq:second-diagonal",
    computed_by="sgdnoise.theory.MLP.diagonal",
    laws=(_readouts_of_a_unit_are_alike, _diagonal_adds_up_to_the_trace),
)
def second_diagonal():
    """Diagonal of the Gauss-Newton matrix of one example, the entries of V."""
    net = _sized(2, 2, 3)
    return sp.Eq(sp.MatrixSymbol("G_V", 2, 3), _diagonal(net)[len(net.W) :, 0].reshape(2, 3))


def _label_noise_has_the_shape_of_the_hessian():
    """C = sigma^2 H at zero residual, entry by entry."""
    sizes = ((1, 1, 1), (2, 1, 2), (1, 2, 2))
    return all(
        same(_label_covariance(net), sigma**2 * _hessian(net))
        for net in (_sized(*size) for size in sizes)
    )


def _label_noise_has_the_shape_of_the_gauss_newton_matrix():
    net = _sized(1, 2, 2)
    return same(_label_covariance(net), sigma**2 * net.jacobian().T * net.jacobian())


def _residuals_would_bend_the_hessian():
    """Off zero residual the Hessian is another matrix: the condition is needed."""
    net = _sized(1, 1, 1)
    return not same(_hessian(net, sp.Symbol("r", positive=True)), _hessian(net))


@equation(
    "eq:label-noise-covariance",
    computed_by="sgdnoise.noise.label_noise",
    laws=(
        _label_noise_has_the_shape_of_the_hessian,
        _label_noise_has_the_shape_of_the_gauss_newton_matrix,
        _residuals_would_bend_the_hessian,
    ),
)
def label_noise_covariance():
    """Gradient covariance of label noise at zero residual, in a chain of one unit a layer."""
    net = _sized(1, 1, 1)
    return sp.Eq(sp.MatrixSymbol("C", 2, 2), _lettered(net, _label_covariance(net)))


def _sized(d, h, o):
    """A network of given sizes."""

    def letters(name, rows, columns):
        return sp.Matrix(
            rows, columns, lambda i, j: sp.Symbol(f"{name}_{{{i + 1}{j + 1}}}", real=True)
        )

    x = sp.Matrix(1, d, lambda _, i: sp.Symbol(f"x_{i + 1}", real=True))
    return Net(x, letters("W", d, h), letters("V", h, o))


def _units(net):
    """Letters for the activation and its slope at each hidden unit."""
    h = net.W.shape[1]
    return (
        sp.symbols(f"phi_1:{h + 1}", real=True),
        [sp.Symbol(rf"\dot{{\phi}}_{{{a + 1}}}", real=True) for a in range(h)],
    )


def _lettered(net, expression):
    """Those letters for phi(z) and its derivative at z = x W."""
    for z, value, slope in zip(net.x * net.W, *_units(net), strict=True):
        expression = expression.subs({phi(z): value, phi_slope(z): slope})
    return expression


def _by_unit(net, expression):
    """A polynomial in the squares of those letters, the factor of each one factored."""
    squares = [letter**2 for letters in _units(net) for letter in letters]
    solution = sp.collect(expression, squares, evaluate=False)
    return sum(square * sp.factor(solution.pop(square)) for square in squares) + sum(
        solution.values()
    )


def _diagonal(net):
    """Diagonal of J^T J, (p, 1)."""
    jacobian = _lettered(net, net.jacobian())
    return sp.Matrix(
        [sp.factor(sum(entry**2 for entry in column)) for column in jacobian.T.tolist()]
    )


def _half_squares(net, targets):
    return sum((f - y) ** 2 for f, y in zip(net.outputs(), targets, strict=True)) / 2


def _slopes(net, targets):
    return sp.Matrix([_half_squares(net, targets)]).jacobian(net.theta).T


def _label_covariance(net):
    """Covariance of the gradient over white z, for the target f + sigma z."""
    z = white(net.V.shape[1])
    targets = sp.symbols(f"y_1:{len(z) + 1}", real=True)
    noisy = {y: f + sigma * w for y, f, w in zip(targets, net.outputs(), z, strict=True)}
    gradient = _slopes(net, targets).subs(noisy)
    center = gradient.applyfunc(lambda slope: mean(slope, z))
    away = gradient - center
    return (away * away.T).applyfunc(lambda product: sp.factor(mean(product, z)))


def _hessian(net, residual=0):
    """Second derivatives of the squared loss where each output misses its target by `residual`."""
    targets = sp.symbols(f"y_1:{net.V.shape[1] + 1}", real=True)
    met = {y: f - residual for y, f in zip(targets, net.outputs(), strict=True)}
    return sp.hessian(_half_squares(net, targets), net.theta).subs(met)


def _squares(letters):
    return sum(letter**2 for letter in letters)


def _is_the_sum_of_two_layers(d, h, o):
    """|J|^2 = o |phi|^2 + |x|^2 sum_a phi'_a^2 |V_a|^2."""
    net = _sized(d, h, o)
    values, slopes = _units(net)
    gates = sum(slopes[a] ** 2 * _squares(net.V.row(a)) for a in range(h))
    expected = o * _squares(values) + _squares(net.x) * gates
    return same(_lettered(net, _squares(net.jacobian())), expected)
