"""The 24 manifolds of the benchmark: their maps, laws and dimensions."""

import math

import numpy as np
import pytest
from data.test_manifolds import ODDS, agrees, jacobian, ranks, uniform
from scipy import stats
from witnesses import SURE

from sgdnoise.core import mean
from sgdnoise.data import BENCHMARK, benchmark

PI = np.pi


def ring(x, copies):
    """Pairs x[i + 1] (cos, sin)(2 pi x[i]), the last with the first."""
    pairs = [
        x[(i + 1) % len(x)] * turn(2 * PI * x[i])
        for i in range(len(x))
        for turn in (np.cos, np.sin)
    ]
    return pairs * copies


def cube_face(x):
    *inside, which = x
    face = math.floor(2 * len(x) * which)
    return [*inside[: face // 2], face % 2, *inside[face // 2 :]]


def crossed(x):
    d = len(x)
    first = [np.tan(x[i] * np.cos(x[d - 1 - i])) for i in range(d)]
    second = [np.arctan(x[d - 1 - i] * np.sin(x[i])) for i in range(d)]
    return first + second + first + second


def folded(x):
    first = [u * np.sin(np.cos(2 * PI * u)) for u in x]
    second = [u * np.cos(np.sin(2 * PI * u)) for u in x]
    return first + second + first + second


def bowl(x):
    y = [*x, sum(u * u for u in x)]
    return [*y, *map(np.sin, y), *(u * u for u in y)]


def strange(x):
    p, q, r, s = x
    return [
        q * q * np.cos(2 * PI * p),
        r * r * np.sin(2 * PI * p),
        q + r + (q - s) ** 2,
        q - 2 * r + (p - s) ** 2,
        -q - 2 * r + (r - s) ** 2,
        p * p - q * q + r * r - s * s,
    ]


def band(x):
    a, r = x
    along = 1 + 0.5 * r * np.cos(5 * a)
    return [along * np.cos(a), along * np.sin(a), 0.5 * r * np.sin(5 * a)]


def plane(x):
    p, q, r = x
    return [
        1.2 * p - 0.5 * q + 3,
        0.5 * p + 0.9 * q - 1,
        -0.5 * p - 0.2 * q + r,
        0.4 * p - 0.9 * q - 0.1 * r,
        1.1 * p - 0.3 * q + 8,
    ]


BY_HAND = {  # one point from its latents, and D
    "M1_Sphere": (lambda x: [u / sum(v * v for v in x) ** 0.5 for u in x], 11),
    "M2_Affine_3to5": (plane, 5),
    "M3_Nonlinear_4to6": (strange, 6),
    "M4_Nonlinear": (lambda x: ring(x, 1), 8),
    "M5a_Helix1d": (
        lambda x: [
            (2 + np.cos(8 * x[0])) * np.cos(x[0]),
            (2 + np.cos(8 * x[0])) * np.sin(x[0]),
            np.sin(8 * x[0]),
        ],
        3,
    ),
    "M5b_Helix2d": (lambda x: [x[0] * np.cos(x[1]), x[0] * np.sin(x[1]), 0.5 * x[1]], 3),
    "M6_Nonlinear": (lambda x: ring(x, 3), 36),
    "M7_Roll": (lambda x: [x[0] * np.cos(x[0]), x[1], x[0] * np.sin(x[0])], 3),
    "M8_Nonlinear": (lambda x: ring(x, 3), 72),
    "M9_Affine": (list, 20),
    "M10a_Cubic": (cube_face, 11),
    "M10b_Cubic": (cube_face, 18),
    "M10c_Cubic": (cube_face, 25),
    "M10d_Cubic": (cube_face, 71),
    "M11_Moebius": (band, 3),
    "M12_Norm": (list, 20),
    "M13a_Scurve": (
        lambda x: [np.sin(x[0]), x[1], (np.cos(x[0]) - 1) * (1 if x[0] > 0 else -1)],
        3,
    ),
    "M13b_Spiral": (lambda x: [100 * np.cos(x[0]), 100 * np.sin(x[0]), x[0], *[0] * 10], 13),
    "Mbeta": (folded, 40),
    "Mn1_Nonlinear": (crossed, 72),
    "Mn2_Nonlinear": (crossed, 96),
    "Mp1_Paraboloid": (bowl, 12),
    "Mp2_Paraboloid": (bowl, 21),
    "Mp3_Paraboloid": (bowl, 30),
}
BOXES = {  # where each latent is uniform; elsewhere in [0, 1]
    "M2_Affine_3to5": ([0] * 3, [4] * 3),
    "M5a_Helix1d": ([0], [2 * PI]),
    "M5b_Helix2d": ([0, 0], [10 * PI, 10 * PI]),
    "M7_Roll": ([1.5 * PI, 0], [4.5 * PI, 21]),
    "M9_Affine": ([-2.5] * 20, [2.5] * 20),
    "M11_Moebius": ([0, -1], [2 * PI, 1]),
    "M13a_Scurve": ([-1.5 * PI, 0], [1.5 * PI, 2]),
    "M13b_Spiral": ([0], [10 * PI]),
}


@pytest.mark.parametrize("name", BENCHMARK)
def test_a_benchmark_point_is_its_formula_of_its_latents(name, rng):
    data = benchmark(name, 40, rng=rng)
    formula, width = BY_HAND[name]
    assert data.inputs.shape == (40, width) == (40, BENCHMARK[name].width)
    expected = [formula(row) for row in data.targets.tolist()]
    np.testing.assert_allclose(data.inputs, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", BENCHMARK)
def test_a_benchmark_manifold_has_the_dimension_of_its_tangent_space(name, rng):
    data = benchmark(name, 6, rng=rng)
    slopes = jacobian(BENCHMARK[name].embedding, data.targets)
    np.testing.assert_array_equal(ranks(slopes), data.dimension)


@pytest.mark.parametrize("name", BENCHMARK)
def test_benchmark_latents_have_their_law(name, rng):
    latents = benchmark(name, 3000, rng=rng).targets
    if name in ("M1_Sphere", "M12_Norm"):
        latents = stats.norm.cdf(latents)
    if name == "Mbeta":
        latents = stats.beta.cdf(latents, 10, 0.5)
    low, high = BOXES.get(name, ([0] * latents.shape[1], [1] * latents.shape[1]))
    assert all(uniform(x, a, b) for x, a, b in zip(latents.T, low, high, strict=True))
    unit = latents - np.mean([low, high], axis=0)
    if latents.shape[1] > 1 and "Paraboloid" not in name:
        assert agrees(unit[:, 0] * unit[:, 1])


@pytest.mark.parametrize("level", [0.2, 0.5])
def test_paraboloid_latents_are_joined_by_the_copula_of_a_burr_law(level, rng):
    """P(both < a) = (2 / a - 1)^-1 for alpha = 1."""
    latents = benchmark("Mp1_Paraboloid", 5000, rng=rng).targets
    assert agrees((latents[:, :2] < level).all(axis=1) * 1.0, 1 / (2 / level - 1))


def test_the_cubes_are_their_faces_each_as_likely(rng):
    points = benchmark("M10a_Cubic", 4400, rng=rng).inputs
    on = np.concatenate([points == 0, points == 1], axis=1)
    np.testing.assert_array_equal(on.sum(axis=1), 1)
    assert agrees(on * 1.0, 1 / 22)


@pytest.mark.parametrize("name", BENCHMARK)
def test_a_benchmark_manifold_has_the_law_of_scikit_dimension(name, rng):
    """All first and second moments, and the distances from a point far outside: 20,000 tests.

    scikit-dimension leaves the last faces of its cubes bare but for such n.
    """
    datasets = pytest.importorskip("skdim.datasets")
    d, width = BENCHMARK[name][:2]
    peer = datasets.BenchmarkManifolds(random_state=int(rng.integers(2**31)))
    assert tuple(peer._dict_truth[name][:2]) == (d, width)
    n = 2 * (d + 1) * math.ceil(2000 / (2 * (d + 1))) - 1
    theirs = peer.dict_gen[name](n=n, dim=width, d=d)
    ours = benchmark(name, n, rng=rng).inputs
    pairs = np.triu_indices(width)
    first, two = (
        mean(np.concatenate([x, x[:, pairs[0]] * x[:, pairs[1]]], axis=1)) for x in (ours, theirs)
    )
    assert np.all(abs(first.value - two.value) <= SURE * np.hypot(first.stderr, two.stderr))
    far = 2 * np.abs(ours).max() * rng.normal(size=width)
    near = [np.linalg.norm(x - far, axis=1) for x in (ours, theirs)]
    assert stats.ks_2samp(*near).pvalue > ODDS


@pytest.mark.parametrize("name", BENCHMARK)
def test_a_seed_decides_the_benchmark_points(name):
    first, again, second = (benchmark(name, 5, rng=r) for r in (3, np.random.default_rng(3), 4))
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert np.all(np.any(first.inputs != second.inputs, axis=1))
    assert len(benchmark(name, 1, rng=0).inputs) == 1


WRONG = {
    "no points": ("Mbeta", 0, "not 0"),
    "a name cut short": ("m10", 5, "similar are M10a_Cubic, M10b_Cubic, M10c_Cubic, M10d_Cubic"),
    "a name misspelt": ("M7Rol", 5, "similar are M7_Roll"),
    "a name like none": ("???", 5, "keys of BENCHMARK"),
    "no name": ("", 5, "keys of BENCHMARK"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_sentence_that_names_it(case):
    name, n, named = WRONG[case]
    with pytest.raises(ValueError, match=named) as caught:
        benchmark(name, n, rng=0)
    stated = str(caught.value)
    assert 20 <= len(stated) <= 200
    assert ". " not in stated
    assert not stated.endswith(".")
