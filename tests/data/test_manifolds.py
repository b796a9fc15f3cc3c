"""Manifolds: their dimension from their maps, their laws, and what is done to them."""

import math

import numpy as np
import pytest
from scipy import stats
from witnesses import SURE

from sgdnoise.core import mean
from sgdnoise.data import (
    Data,
    ball,
    cube,
    embedded,
    gaussian,
    helix,
    klein_bottle,
    moebius,
    noisy,
    paraboloid,
    product,
    rotations,
    sphere,
    spiral,
    stiefel,
    swiss_roll,
    thinned,
    torus,
)

ODDS = math.erfc(SURE / 2**0.5)  # of failing by chance, as for SURE standard errors
PI = np.pi


def jacobian(place, latents, step=1e-6):
    """Central differences of a map, (n, l) -> (n, D, l)."""
    columns = []
    for e in np.eye(latents.shape[1]):
        columns.append((place(latents + step * e) - place(latents - step * e)) / (2 * step))
    return np.stack(columns, axis=2)


def ranks(matrices):
    """Numerical rank of each, where singular values fall off a cliff; else the test fails."""
    sizes = np.linalg.svd(matrices, compute_uv=False)
    above, below = ((sizes > cut * sizes[:, :1]).sum(axis=1) for cut in (1e-4, 1e-8))
    np.testing.assert_array_equal(above, below)
    return above


def agrees(samples, truth=0.0):
    """Whether the mean of samples (n, ...) is the truth, entry by entry."""
    return np.all(abs(mean(np.asarray(samples)).z(truth)) < SURE)


def uniform(values, low=0.0, high=1.0):
    return stats.kstest((values - low) / (high - low), "uniform").pvalue > ODDS


def archimedes(x):
    return np.stack([x[:, 0] * np.cos(x[:, 0]), x[:, 0] * np.sin(x[:, 0])], axis=1)


def roll(x):
    return np.insert(archimedes(x), 1, x[:, 1], axis=1)


def corkscrew(x):
    return np.concatenate([np.cos(x), np.sin(x), 3 * x / (2 * PI)], axis=1)


def strip(twists):
    """A segment that turns about the tangent of the unit circle while its middle goes round."""

    def place(x):
        a, r = x.T[:, :, None]
        outward = np.concatenate([np.cos(a), np.sin(a), 0 * a], axis=1)
        upward = np.asarray([0, 0, 1])
        return outward + r * (np.cos(twists * a / 2) * outward + np.sin(twists * a / 2) * upward)

    return place


def bottle(x):
    """The circle of radius 1 about one of radius 2, turned through a fourth direction."""
    u, v = x.T[:, :, None]
    outward = np.concatenate([np.cos(u), np.sin(u), 0 * u, 0 * u], axis=1)
    upward = np.concatenate([0 * u, 0 * u, np.cos(u / 2), np.sin(u / 2)], axis=1)
    return 2 * outward + np.cos(v) * outward + np.sin(v) * upward


def graph(x):
    return np.concatenate([x, (x**2).sum(axis=1, keepdims=True)], axis=1)


def circles(x):
    return np.concatenate([np.cos(x), np.sin(x)], axis=1)


CHARTS = {  # how to draw, the map in other words, and the box of its latents
    "cube": (lambda n, rng: cube(n, 3, rng=rng), np.copy, 0, 1),
    "torus": (lambda n, rng: torus(n, 3, rng=rng), circles, 0, 2 * PI),
    "swiss roll": (
        lambda n, rng: swiss_roll(n, 9.0, rng=rng),
        roll,
        [1.5 * PI, 0],
        [4.5 * PI, 9],
    ),
    "spiral": (lambda n, rng: spiral(n, 2.0, rng=rng), archimedes, 0, 4 * PI),
    "helix": (lambda n, rng: helix(n, 2.0, 3.0, rng=rng), corkscrew, 0, 4 * PI),
    "moebius": (lambda n, rng: moebius(n, rng=rng), strip(1), [0, -0.5], [2 * PI, 0.5]),
    "moebius of 8": (lambda n, rng: moebius(n, 8, rng=rng), strip(8), [0, -0.5], [2 * PI, 0.5]),
    "klein bottle": (lambda n, rng: klein_bottle(n, rng=rng), bottle, 0, 2 * PI),
}
MAPS = CHARTS | {
    "ball": (lambda n, rng: ball(n, 4, rng=rng), np.copy),
    "gaussian": (lambda n, rng: gaussian(n, 4, rng=rng), np.copy),
    "paraboloid": (lambda n, rng: paraboloid(n, 4, rng=rng), graph),
}
FRAMES = {  # points that solve an equation instead, and the equation
    "sphere": (lambda n, rng: sphere(n, 4, rng=rng), (5, 1)),
    "circle": (lambda n, rng: sphere(n, 1, rng=rng), (2, 1)),
    "turns": (lambda n, rng: rotations(n, 2, rng=rng), (2, 2)),
    "rotations": (lambda n, rng: rotations(n, 4, rng=rng), (4, 4)),
    "frames": (lambda n, rng: stiefel(n, 5, 2, rng=rng), (5, 2)),
    "whole frames": (lambda n, rng: stiefel(n, 3, 3, rng=rng), (3, 3)),
}
ALL = {name: made[0] for name, made in (MAPS | FRAMES).items()}


@pytest.mark.parametrize("name", MAPS)
def test_a_manifold_is_its_map_of_its_latents_and_has_the_dimension_of_its_tangents(name, rng):
    draw, place = MAPS[name][:2]
    data = draw(30, rng)
    np.testing.assert_allclose(data.inputs, place(data.targets), rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(ranks(jacobian(place, data.targets)), data.dimension)


@pytest.mark.parametrize("name", CHARTS)
def test_points_are_even_in_volume(name, rng):
    """Weighted by 1 / volume element, latents are uniform in their box."""
    draw, place, low, high = CHARTS[name]
    data = draw(60_000, rng)
    slopes = jacobian(place, data.targets)
    volume = np.linalg.det(np.swapaxes(slopes, 1, 2) @ slopes) ** 0.5
    unit = (data.targets - low) / (np.asarray(high) - low)
    assert np.all((unit > 0) & (unit < 1))
    waves = [unit - 1 / 2, unit**2 - 1 / 3, np.cos(2 * PI * unit), np.cos(4 * PI * unit)]
    assert agrees(np.concatenate(waves, axis=1) / volume[:, None])


@pytest.mark.parametrize("d", [1, 3, 10])
def test_the_paraboloid_is_even_in_volume(d, rng):
    """In the ball |x|^d is uniform; a graph has volume element sqrt(1 + |gradient|^2)."""
    latents = paraboloid(20_000, d, rng=rng).targets
    radius = np.linalg.norm(latents, axis=1)
    shell, volume = radius**d, (1 + 4 * radius**2) ** 0.5
    assert agrees(np.stack([shell - 1 / 2, shell**2 - 1 / 3], axis=1) / volume[:, None])
    assert agrees(latents)


@pytest.mark.parametrize("twists", [1, 2, 3])
def test_a_band_closes_on_its_other_side_for_odd_twists(twists):
    places = np.asarray([[0.3, 0.2], [2 * PI + 0.3, 0.2 * (-1) ** twists]])
    here, there = strip(twists)(places)
    np.testing.assert_allclose(here, there, atol=1e-14)


@pytest.mark.parametrize("d", [1, 2, 7])
def test_a_ball_is_uniform(d, rng):
    data = ball(4000, d, rng=rng)
    radius = np.linalg.norm(data.inputs, axis=1)
    assert uniform(radius**d)
    assert agrees(data.inputs)
    assert agrees(data.inputs[:, 0] ** 2, 1 / (d + 2))


@pytest.mark.parametrize("d", [1, 2, 7])
def test_a_sphere_has_the_moments_of_the_uniform_law(d, rng):
    points = sphere(4000, d, rng=rng).inputs
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, rtol=1e-14)
    assert agrees(points)
    assert agrees(points**4, 3 / ((d + 1) * (d + 3)))


def test_gaussian_points_are_standard_normal(rng):
    for coordinate in gaussian(3000, 3, rng=rng).inputs.T:
        assert stats.kstest(coordinate, "norm").pvalue > ODDS


@pytest.mark.parametrize("name", FRAMES)
def test_frames_are_orthonormal_and_have_as_many_dimensions_as_the_equations_leave(name, rng):
    draw, (rows, columns) = FRAMES[name]
    data = draw(6, rng)

    def equation(x):
        frames = x.reshape(-1, rows, columns)
        gram = np.swapaxes(frames, 1, 2) @ frames
        return (gram - np.eye(columns)).reshape(len(x), -1)

    np.testing.assert_allclose(equation(data.inputs), 0, atol=1e-14)
    left = rows * columns - ranks(jacobian(equation, data.inputs))
    np.testing.assert_array_equal(left, data.dimension)


@pytest.mark.parametrize(("rows", "columns"), [(2, 1), (5, 2), (3, 3)])
def test_frames_are_uniform(rows, columns, rng):
    """Each column is uniform on the sphere; entries of two rows and columns E x^2 y^2."""
    points = stiefel(4000, rows, columns, rng=rng).inputs
    assert agrees(points)
    assert agrees(points**2, 1 / rows)
    assert agrees(points**4, 3 / (rows * (rows + 2)))
    if columns > 1:
        frames = points.reshape(-1, rows, columns)
        across = frames[:, 0, 0] ** 2 * frames[:, 1, 1] ** 2
        assert agrees(across, (rows + 1) / (rows * (rows - 1) * (rows + 2)))


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_rotations_have_determinant_one_and_the_moments_of_haar(size, rng):
    """E R = 0, E R_ij^2 = 1 / m, E (Tr R)^2 = 1 but 2 in the plane."""
    frames = rotations(4000, size, rng=rng).inputs.reshape(-1, size, size)
    np.testing.assert_allclose(np.linalg.det(frames), 1, rtol=1e-13)
    assert agrees(frames)
    assert agrees(frames**2, 1 / size)
    traces = np.trace(frames, axis1=1, axis2=2)
    assert agrees(traces)
    assert agrees(traces**2, 2.0 if size == 2 else 1.0)


def test_rotations_of_space_turn_by_the_angles_of_haar(rng):
    """Density (1 - cos angle) / pi."""
    frames = rotations(4000, 3, rng=rng).inputs.reshape(-1, 3, 3)
    angles = np.arccos((np.trace(frames, axis1=1, axis2=2) - 1) / 2)
    assert uniform((angles - np.sin(angles)) / PI)


@pytest.mark.parametrize("name", ALL)
def test_a_seed_decides_the_points_and_the_first_axis_counts_them(name):
    first, again, second = (ALL[name](5, seed) for seed in (3, np.random.default_rng(3), 4))
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert np.all(np.any(first.inputs != second.inputs, axis=1))
    assert type(first.dimension) is int
    single = ALL[name](1, 0)
    assert len(first.inputs) == 5
    assert len(single.inputs) == 1
    assert first.targets is None or (len(first.targets), len(single.targets)) == (5, 1)


def distances(points):
    return np.linalg.norm(points[:, None] - points[None], axis=2)


@pytest.mark.parametrize("width", [3, 4, 20])
def test_an_embedding_keeps_every_distance_and_the_dimension(width, rng):
    data = klein_bottle(40, rng=rng) if width > 3 else swiss_roll(40, rng=rng)
    moved = embedded(data, width, rng=rng)
    assert moved.inputs.shape == (40, width)
    np.testing.assert_allclose(distances(moved.inputs), distances(data.inputs), rtol=1e-11)
    assert moved.dimension == data.dimension
    assert moved.targets is data.targets


def test_an_embedding_is_turned_at_random(rng):
    """A line goes through a uniform point of the sphere."""
    line = Data(np.ones((1, 1)), None, 1)
    ends = np.concatenate([embedded(line, 3, rng=rng).inputs for _ in range(2000)])
    assert agrees(ends)
    assert agrees(ends**2, 1 / 3)
    assert agrees(ends**4, 1 / 5)


def test_a_product_puts_coordinates_side_by_side_and_adds_dimensions(rng):
    first, two = torus(20, 2, rng=rng), paraboloid(20, 3, rng=rng)
    both = product(first, two)
    np.testing.assert_array_equal(both.inputs, np.hstack([first.inputs, two.inputs]))
    np.testing.assert_array_equal(both.targets, np.hstack([first.targets, two.targets]))
    assert both.dimension == 5
    for pair in ((first, sphere(20, 6, rng=rng)), (sphere(20, 6, rng=rng), first)):
        assert product(*pair).targets is None
        assert product(*pair).dimension == 8


@pytest.mark.parametrize("level", [0.01, 3.0])
def test_noise_has_its_level_in_every_coordinate(level, rng):
    """Spread from its definition, by loops; far from the origin and of unequal coordinates."""
    points = rng.normal(size=(3000, 3)) * [1, 5, 0] + [100, 0, 7]
    clean = Data(points, None, 2)
    squares = [sum((x - column.mean()) ** 2 for x in column) / 3000 for column in points.T]
    moved = noisy(clean, level, rng=rng)
    noise = (moved.inputs - points) / (level * (sum(squares) / 3) ** 0.5)
    assert agrees(noise)
    assert agrees(noise**2, 1)
    assert agrees(noise[:, :1] * noise[:, 1:])
    assert moved.dimension == 2


def test_noise_of_level_zero_changes_nothing(rng):
    data = moebius(10, rng=rng)
    np.testing.assert_array_equal(noisy(data, 0.0, rng=rng).inputs, data.inputs)


def test_thinning_draws_without_replacement_by_weight(rng):
    """Two of three: the one left out is i with the sum over orders of w_j / W w_k / (W - w_j)."""
    weights = np.asarray([1.0, 2.0, 5.0])
    data = Data(-np.arange(3.0)[:, None], np.arange(3)[:, None], 1)
    retained = []
    for _ in range(3000):
        few = thinned(data, lambda x: weights[x[:, 0]], 2, rng=rng)
        np.testing.assert_array_equal(few.inputs, -few.targets)
        retained.append(np.isin(np.arange(3), few.targets))
    total = weights.sum()
    missed = [
        sum(
            weights[j] / total * weights[k] / (total - weights[j])
            for j, k in ((i - 1, i - 2), (i - 2, i - 1))
        )
        for i in range(3)
    ]
    assert np.all(np.sum(retained, axis=1) == 2)
    assert agrees(1.0 - np.asarray(retained), np.asarray(missed))


def test_thinning_weighs_points_where_there_are_no_latents(rng):
    data = sphere(200, 2, rng=rng)
    north = thinned(data, lambda x: x[:, 2] > 0, 20, rng=rng)
    assert north.inputs.shape == (20, 3)
    assert np.all(north.inputs[:, 2] > 0)
    assert (north.targets, north.dimension) == (None, 2)


DATA = cube(4, 2, rng=0)
WRONG = {
    "no points": (lambda: sphere(0, 2, rng=0), "n of 1 or more, not 0"),
    "no dimension": (lambda: ball(3, 0, rng=0), "d of 1 or more, not 0"),
    "a paraboloid of none": (lambda: paraboloid(3, -1, rng=0), "d of 1 or more, not -1"),
    "no turns": (lambda: spiral(3, 0.0, rng=0), "turns above 0"),
    "a helix unwound": (lambda: helix(3, -1.0, rng=0), "turns above 0, not -1"),
    "a roll without height": (
        lambda: swiss_roll(3, np.nan, rng=0),
        "height must be a number, not nan",
    ),
    "a band without a twist": (lambda: moebius(3, 0, rng=0), "twists of 1 or more, not 0"),
    "rotations of a line": (lambda: rotations(3, 1, rng=0), "2 or more dimensions, not 1"),
    "more vectors than room": (lambda: stiefel(3, 2, 3, rng=0), "not 3"),
    "no vectors": (lambda: stiefel(3, 2, 0, rng=0), "p of 1 or more, not 0"),
    "frames of a line": (lambda: stiefel(3, 1, 1, rng=0), "m of 2 or more"),
    "too narrow": (lambda: embedded(DATA, 1, rng=0), "2 coordinates .* in 1"),
    "negative noise": (lambda: noisy(DATA, -0.1, rng=0), "not -0.1"),
    "unequal factors": (lambda: product(DATA, cube(5, 1, rng=0)), "not 4 and 5"),
    "negative weights": (
        lambda: thinned(DATA, lambda x: x[:, 0] - 1, 2, rng=0),
        "4 weights",
    ),
    "weights of another shape": (lambda: thinned(DATA, lambda x: x, 2, rng=0), "4 weights"),
    "too few of weight": (lambda: thinned(DATA, lambda x: np.eye(4)[0], 2, rng=0), "1 of 4"),
    "none drawn": (lambda: thinned(DATA, lambda x: x[:, 0], 0, rng=0), "cannot give 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_sentence_that_names_it(case):
    call, named = WRONG[case]
    with pytest.raises(ValueError, match=named) as caught:
        call()
    stated = str(caught.value)
    assert 20 <= len(stated) <= 200
    assert ". " not in stated
    assert not stated.endswith(".")
