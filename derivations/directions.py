"""Angles and distances between uniformly distributed directions in dimension d."""

from functools import cache

import sympy as sp

from derivations.algebra import mean, same, white
from derivations.equation import equation
from derivations.symbols import d

theta, r, alpha = sp.symbols("theta r alpha", positive=True)  # angle, distance, a cosine
r_max = sp.Symbol(r"r_{\max}", positive=True)  # the commonest distance
t, w, c = sp.symbols("t w c", positive=True)


def _angles_are_normalised():
    return all(sp.integrate(angle_law().rhs.subs(d, v), (theta, 0, sp.pi)) == 1 for v in (2, 3, 5))


def _angles_in_a_plane_are_uniform():
    return angle_law().rhs.subs(d, 2) == 1 / sp.pi


@equation(
    "eq:angle-law",
    computed_by="sgdnoise.dimension.full_correlation_integral",
    laws=(_angles_are_normalised, _angles_in_a_plane_are_uniform),
)
@cache
def angle_law():
    """Distribution of the angle between two directions."""
    return sp.Eq(_law(theta), _ring(theta, d) / _over_angles(sp.Integer(1)))


def _axes_share_one():
    """The squared cosines with d axes add up to 1, and are alike."""
    return same(d * squared_cosine().rhs, 1)


def _normal_vectors_agree():
    """E (x.y)^2 = E cos^2 E|x|^2 E|y|^2: lengths know nothing of directions."""
    z = white(6)
    x, y = sp.Matrix(z[:3]), sp.Matrix(z[3:])
    square = mean(x.dot(y) ** 2, z) / (mean(x.dot(x), z) * mean(y.dot(y), z))
    return same(square, squared_cosine().rhs.subs(d, 3))


@equation(
    "eq:squared-cosine",
    computed_by="sgdnoise.dimension.abid",
    laws=(_axes_share_one, _normal_vectors_agree),
)
def squared_cosine():
    """Mean squared cosine of the angle between two directions."""
    return sp.Eq(sp.Symbol(r"\mathbb{E}\cos^2\theta"), _average(sp.cos(theta) ** 2))


def _areas_of_normal_triangles_agree():
    """|x ^ y| is |x| times the length of what y has across x, in d - 1 dimensions."""
    area = _mean_length(d) * _mean_length(d - 1)
    return same(area / _mean_length(d) ** 2, mean_sine().rhs)


def _areas_are_sines():
    """Lagrange: the squared minors of two rows add up to |x|^2 |y|^2 - (x.y)^2."""
    x, y = (sp.Matrix(sp.symbols(f"{name}_1:4", real=True)) for name in "xy")
    minors = x.cross(y)
    return same(minors.dot(minors), x.dot(x) * y.dot(y) - x.dot(y) ** 2)


def _sines_in_a_plane_and_in_space():
    sine = mean_sine().rhs
    return same(sine.subs(d, 2), 2 / sp.pi) and same(sine.subs(d, 3), sp.pi / 4)


def _all_directions_are_across_in_high_dimension():
    """1 - 1/(2 d), and less by no more than 1/d^2."""
    gap = (1 - 1 / (2 * d) - mean_sine().rhs).subs(d, 10**4)
    return bool(0 < sp.N(gap, 30) < 10**-8)


@equation(
    "eq:mean-sine",
    computed_by="sgdnoise.dimension.ess",
    laws=(
        _areas_of_normal_triangles_agree,
        _areas_are_sines,
        _sines_in_a_plane_and_in_space,
        _all_directions_are_across_in_high_dimension,
    ),
)
@cache
def mean_sine():
    """Mean area spanned by two vectors over the mean product of their lengths."""
    return sp.Eq(sp.Symbol(r"\mathbb{E}\,|\sin\theta|"), _average(sp.sin(theta)))


def _distances_on_a_sphere_are_its_angles():
    """A sphere of radius R = 1 in three dimensions."""
    law = angle_law().rhs.subs(d, 3)
    return same(geodesic_law().rhs.subs({d: 2, r_max: sp.pi / 2}), (law * 2).subs(theta, r))


def _the_commonest_is_commonest():
    log_law = sp.log(geodesic_law().rhs)
    slope, curvature = (sp.diff(log_law, r, order).subs(r, r_max) for order in (1, 2))
    return (
        sp.simplify(slope) == 0 and sp.simplify(curvature * r_max**2 / (d - 1)).is_negative is True
    )


def _distances_on_a_circle_are_alike():
    return geodesic_law().rhs.subs(d, 1) == 1


@equation(
    "eq:geodesic-law",
    computed_by="sgdnoise.dimension.geodesic",
    laws=(
        _distances_on_a_sphere_are_its_angles,
        _the_commonest_is_commonest,
        _distances_on_a_circle_are_alike,
    ),
)
@cache
def geodesic_law():
    """Density of distances along a sphere of dimension d, over its maximum."""
    radius, ring = sp.symbols("R", positive=True), _ring(theta, d + 1)  # in a space of d + 1
    (angle,) = sp.solveset(sp.diff(sp.log(ring), theta), theta, sp.Interval.open(0, sp.pi))
    (needed,) = sp.solve(radius * angle - r_max, radius)
    fraction = (ring / ring.subs(theta, angle)).subs(theta, r / needed)
    return sp.Eq(_law(r) / _law(r_max), fraction)


def _share_grows_as_the_law_of_cosines():
    slope = sp.diff(correlation_integral().rhs, r)
    points = [{d: v, r: sp.Rational(x, 7)} for v in (2, 3, 6) for x in (2, 9, 13)]
    gap = slope - r * _cosine_law(1 - r**2 / 2)
    return all(abs(sp.N(gap.subs(point))) < 1e-12 for point in points)


def _none_and_all_are_within():
    fraction = correlation_integral().rhs
    ends = [(fraction.subs({d: v, r: 0}), fraction.subs({d: v, r: 2})) for v in (3, 5)]
    return all(sp.hyperexpand(a) == 0 and sp.hyperexpand(b) == 1 for a, b in ends)


def _circle_sphere_and_hypersphere_are_known():
    """Arcs, caps of equal height, and the third sphere by its angle."""
    angle = 2 * sp.asin(r / 2)
    known = {2: angle / sp.pi, 3: r**2 / 4, 4: (angle - sp.sin(angle) * sp.cos(angle)) / sp.pi}
    fraction = correlation_integral().rhs
    points = [sp.Rational(x, 7) for x in (2, 9, 13)]
    gaps = [fraction.subs(d, v) - law for v, law in known.items()]
    return all(abs(sp.N(gap.subs(r, x))) < 1e-12 for gap in gaps for x in points)


def _close_pairs_have_the_dimension_of_the_sphere():
    """rho grows as r^(d - 1), whose exponent is that of its slope and one."""
    slope = r * _cosine_law(1 - r**2 / 2)
    exponent = 1 + sp.simplify(r * sp.diff(sp.log(slope), r))
    return same(sp.limit(exponent, r, 0), d - 1)


@equation(
    "eq:correlation-integral",
    computed_by="sgdnoise.dimension.full_correlation_integral",
    laws=(
        _share_grows_as_the_law_of_cosines,
        _none_and_all_are_within,
        _circle_sphere_and_hypersphere_are_known,
        _close_pairs_have_the_dimension_of_the_sphere,
    ),
)
@cache
def correlation_integral():
    """Share of pairs of directions with a chord of at most r."""
    before = sp.integrate(_cosine_law(t), t).replace(sp.exp_polar, sp.exp)  # cosines from 0 to t
    cosine = 1 - r**2 / 2  # of directions at distance r
    return sp.Eq(sp.Symbol(r"\rho(r)"), sp.Rational(1, 2) - before.subs(t, cosine))


def _separability_is_the_exact_share_of_high_dimension():
    """To the order in 1/d that was left out."""
    cosine, dimension = sp.Rational(4, 5), 201
    exact = sp.integrate(_cosine_law(t).subs(d, dimension), (t, cosine, 1))
    ratio = separability().rhs.subs({d: dimension, alpha: cosine}) / exact
    return bool(abs(sp.N(ratio, 30) - 1) < sp.Rational(5, dimension))


@equation(
    "eq:separability",
    computed_by="sgdnoise.dimension.fisher_separability",
    laws=(_separability_is_the_exact_share_of_high_dimension,),
)
@cache
def separability():
    """Share of pairs of directions with a cosine above alpha, to first order for large d."""
    power = sp.Symbol("q", positive=True)  # d - 1
    at_edge = w ** (power / 2 - 1) / (2 * alpha)  # 1 - t^2 = w falls fast from where t = alpha
    tail = sp.integrate(at_edge, (w, 0, 1 - alpha**2)) * power
    full = sp.integrate(sp.exp(-d * t**2 / 2), (t, -sp.oo, sp.oo))  # (1 - t^2)^((d-3)/2), narrow
    return sp.Eq(sp.Symbol(r"P(\cos\theta > \alpha)"), tail.subs(power, d - 1) / (d * full))


def _law(letter):
    return sp.Function("p")(letter)


def _ring(angle, dimension):
    """Directions at an angle to one fill a ring of radius sin: its area, up to a factor."""
    return sp.sin(angle) ** (dimension - 2)


def _over_angles(function):
    """Integral over the ring of each angle from 0 to pi, alike on both sides, by the cotangent."""
    sine, ring = 1 / sp.sqrt(1 + c**2), function * _ring(theta, d)
    by = ring.subs({sp.cos(theta): c * sine, sp.sin(theta): sine}) / (1 + c**2)
    return 2 * sp.integrate(sp.powsimp(sp.powdenest(by)), (c, 0, sp.oo), conds="none")


def _average(function):
    return sp.gammasimp(_over_angles(function) / _over_angles(sp.Integer(1)))


def _cosine_law(cosine):
    """Of the cosine, by change of variables."""
    return sp.powdenest(angle_law().rhs.subs(theta, sp.acos(t)) / sp.sqrt(1 - t**2)).subs(t, cosine)


def _mean_length(dimension):
    """Of a vector of independent standard normal numbers."""
    shell = r ** (dimension - 1) * sp.exp(-(r**2) / 2)
    full = sp.integrate(shell, (r, 0, sp.oo), conds="none")
    return sp.integrate(r * shell, (r, 0, sp.oo), conds="none") / full
