"""An int, or a list of them, is accepted wherever a generator of numpy is."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sgdnoise.core import Diagonal, GradientMatrix, Gram
from sgdnoise.core._checks import as_generator
from sgdnoise.dimension import pca, scale_profile, twonn
from sgdnoise.noise import alignment, gaussianity, gradient_noise_scale

ROWS = 1 + np.random.default_rng(0).normal(size=(60, 6))
STEEP = np.diag(np.arange(1.0, 7.0))
USES = {
    "draw": lambda rng: Gram(GradientMatrix(ROWS), 0.5).draw(rng=rng),
    "noise scale": lambda rng: [
        gradient_noise_scale(ROWS, curvature=STEEP, n_probes=4, rng=rng).value
    ],
    "alignment": lambda rng: [
        alignment(Diagonal(np.arange(1.0, 7.0)), STEEP, k=4, n_probes=4, rng=rng).cosine.value
    ],
    "gaussianity": lambda rng: [gaussianity(ROWS, draws=20, rng=rng).energy_p],
    "parallel analysis": lambda rng: [pca(ROWS, level="parallel", rng=rng)],
    "scales": lambda rng: [scale_profile(twonn, ROWS, rng=rng)],
}


@pytest.mark.parametrize("name", USES)
@pytest.mark.parametrize("seed", [0, np.int64(3), [1, 2], (4,)])
def test_ints_seed_a_generator(name, seed):
    by_int, by_generator = USES[name](seed), USES[name](np.random.default_rng(seed))
    if name == "scales":
        assert repr(by_int) == repr(by_generator)
    else:
        assert_array_equal(by_int, by_generator)


@pytest.mark.parametrize("wrong", [None, -1, 0.0, "0", True, [], [1, -2], ["1"]])
@pytest.mark.parametrize("name", [name for name in USES])
def test_anything_else_is_refused_in_a_sentence(name, wrong):
    with pytest.raises(ValueError, match="rng") as caught:
        USES[name](wrong)
    assert "\n" not in str(caught.value)


def test_a_generator_is_taken_as_it_is():
    rng = np.random.default_rng(0)
    assert as_generator(rng) is rng
