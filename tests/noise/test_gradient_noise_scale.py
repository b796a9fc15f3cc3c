"""The noise scale against dense matrices, its error against repeats, and what it predicts."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers
from numpy.testing import assert_allclose
from witnesses import HESSIAN, SURE, entries, number, value_and_error

from derivations import scale as derived
from sgdnoise.core import GradientMatrix, Gram, jackknife
from sgdnoise.core._arrays import as_numpy
from sgdnoise.noise import (
    batch_efficiency,
    gradient_noise_scale,
    gradient_noise_scale_from_batches,
    signal_to_noise,
)

P = 6
SHAPE = np.linspace(0.2, 1.5, P)  # standard deviations of the noise
STEEP = np.diag(np.linspace(0.1, 2.0, P)) + 0.1
MEAN = np.full(P, 0.5)
TRUE = {
    "simple": np.sum(SHAPE**2) / (MEAN @ MEAN),
    "weighted": np.sum(np.diag(STEEP) * SHAPE**2) / (MEAN @ STEEP @ MEAN),
}


def sample(n, rng, mean=MEAN):
    return mean + SHAPE * rng.normal(size=(n, P))


def pieces(gradients, hessian):
    """Tr(HC) and g^T H g without bias, from the matrices."""
    n, center = len(gradients), gradients.mean(0)
    trace = np.trace(hessian @ np.cov(gradients.T))
    return trace, center @ hessian @ center - trace / n


def by_hand(gradients, hessian, measure):
    """A statistic of the pieces, jackknifed by making all of it anew without each example."""
    full = measure(*pieces(gradients, hessian))
    n = len(gradients)
    left = np.asarray(
        [measure(*pieces(np.delete(gradients, i, axis=0), hessian)) for i in range(n)]
    )
    return n * full - (n - 1) * left.mean(), ((n - 1) * left.var()) ** 0.5


def ratio(trace, square):
    return trace / square


def test_it_is_the_ratio_of_unbiased_pieces_jackknifed(xp, rng):
    gradients = sample(30, rng)
    rows = GradientMatrix(xp.asarray(gradients))
    weighted, simple = (
        gradient_noise_scale(rows, curvature=xp.asarray(STEEP)),
        gradient_noise_scale(rows),
    )
    assert_allclose(value_and_error(weighted), by_hand(gradients, STEEP, ratio), rtol=1e-9)
    assert_allclose(value_and_error(simple), by_hand(gradients, np.eye(P), ratio), rtol=1e-9)
    assert weighted.dof == simple.dof == 29


def test_a_curvature_may_be_a_function(rng):
    rows = GradientMatrix(sample(30, rng))
    assert gradient_noise_scale(rows, curvature=lambda v: STEEP @ v) == gradient_noise_scale(
        rows, curvature=STEEP
    )


def test_the_curvature_that_weighs_all_alike_gives_the_simple_scale(rng):
    rows = GradientMatrix(sample(30, rng))
    weighted = gradient_noise_scale(rows, curvature=3 * np.eye(P))
    assert_allclose(entries(weighted), entries(gradient_noise_scale(rows)), rtol=1e-10)


def test_float32_rows_lose_nothing_to_leaving_one_out(rng):
    """Their own rounding, of order 1e-7, is all: what one of 2000 changes is 5e-4 of the value."""
    import torch

    gradients = sample(2000, rng)
    result = gradient_noise_scale(GradientMatrix(torch.asarray(gradients, dtype=torch.float32)))
    expected = gradient_noise_scale(GradientMatrix(gradients))
    assert_allclose(entries(result), entries(expected), rtol=1e-5)


class Every:
    """In place of random signs, all that there are: their mean is exact."""

    def choice(self, values, size):
        return np.asarray(list(product(values, repeat=size[1])))


def test_probes_are_without_bias(xp, rng):
    """The mean over all signs is what all products give, for the value and for each example."""
    gradients, every = sample(5, rng, 6 * MEAN), Every()
    rows = GradientMatrix(xp.asarray(gradients))
    exact = gradient_noise_scale(rows, curvature=xp.asarray(STEEP))
    probed = gradient_noise_scale(rows, curvature=xp.asarray(STEEP), n_probes=2, rng=every)
    assert_allclose(probed.value, exact.value, rtol=1e-9)
    assert probed.stderr > exact.stderr


def test_the_error_contains_the_whole_variance_that_probes_leave(rng):
    """On the same examples the value scatters with the probes alone: error^2 must grow by that."""
    rows = GradientMatrix(sample(60, rng, 2 * MEAN))
    exact = gradient_noise_scale(rows, curvature=STEEP)
    probed = [gradient_noise_scale(rows, curvature=STEEP, n_probes=3, rng=rng) for _ in range(600)]
    values, errors = np.asarray([value_and_error(estimate) for estimate in probed]).T
    added = np.mean(errors**2) - exact.stderr**2
    assert added / values.var(ddof=1) == pytest.approx(1, abs=0.25)


def repeats(n, count, generator, mean=MEAN, measure=gradient_noise_scale, **given):
    result = [measure(GradientMatrix(sample(n, generator, mean)), **given) for _ in range(count)]
    return np.asarray([value_and_error(f) for f in result]), result


def assert_honest(found, truth, below=0.9, bias=0.0):
    """The error is the spread of repeats, and intervals of 95% hold the truth as often."""
    values, errors = np.asarray([value_and_error(f) for f in found]).T
    deviation = values.std(ddof=1)
    apart = SURE / len(values) ** 0.5  # the error of a spread, (1 / 2N)^1/2, and room for tails
    assert abs(np.sqrt(np.mean(errors**2)) / deviation - 1) < apart
    assert abs(values.mean() - truth) < SURE * deviation / len(values) ** 0.5 + bias
    inside = [low < truth < high for low, high in (f.interval() for f in found)]
    assert np.mean(inside) > below


@pytest.mark.parametrize("kind", ["simple", "exact", "probes"])
def test_its_error_is_the_spread_over_fresh_examples(kind, rng):
    """At n of 25 B or more; a bias of order 1/n^2 is left, below a hundredth."""
    arguments = {} if kind == "simple" else {"curvature": STEEP}
    if kind == "probes":
        arguments |= {"n_probes": 6, "rng": rng}
    _, result = repeats(150, 100 if kind == "exact" else 300, rng, **arguments)
    truth = TRUE["simple" if kind == "simple" else "weighted"]
    assert_honest(result, truth, below=0.86, bias=0.01 * truth)


def test_the_jackknife_takes_most_of_the_bias_off(rng):
    """With |g|^2 at 4 of its errors the plain ratio is several per cent too large."""
    both = []
    for _ in range(1200):
        gradients = sample(60, rng, 0.6 * MEAN)
        both.append(
            (
                gradient_noise_scale(GradientMatrix(gradients)).value,
                ratio(*pieces(gradients, np.eye(P))),
            )
        )
    off, error = np.mean(both, axis=0) - TRUE["simple"] / 0.36, np.std(both, axis=0) / 1200**0.5
    assert off[1] > SURE * error[1]
    assert abs(off[0]) < 0.5 * off[1] + SURE * error[0]


def test_signal_to_noise_is_the_ratio_turned_over(xp, rng):
    gradients = sample(30, rng)
    result = signal_to_noise(GradientMatrix(xp.asarray(gradients)))
    assert_allclose(
        value_and_error(result), by_hand(gradients, np.eye(P), lambda t, s: s / t), rtol=1e-9
    )


def test_signal_to_noise_has_the_error_of_repeats(rng):
    _, result = repeats(150, 300, rng, measure=signal_to_noise)
    assert_honest(result, 1 / TRUE["simple"])


def test_without_signal_it_is_zero_and_its_error_too_large_by_the_root_of_two(rng):
    """What is left of |g|^2 is of second order, of which a jackknife sees twice the variance."""
    values, _ = repeats(150, 600, rng, 0 * MEAN, measure=signal_to_noise)
    value, error = values.T
    assert abs(value.mean()) < SURE * value.std() / 600**0.5
    reported = np.sqrt(np.mean(error**2)) / value.std(ddof=1)
    assert abs(reported / 2**0.5 - 1) < SURE * (2 / 600) ** 0.5  # a sum of 6 chi-squares is skew


def test_where_no_signal_is_found_no_batch_is_large_enough(rng):
    gradients = sample(20, rng)
    gradients -= gradients.mean(0)
    assert value_and_error(gradient_noise_scale(GradientMatrix(gradients))) == (np.inf, np.inf)
    assert signal_to_noise(GradientMatrix(gradients)).value < 0


def test_of_all_examples_there_is_nothing_to_guess(xp, rng):
    gradients = sample(9, rng)
    center, c = gradients.mean(0), np.cov(gradients.T, bias=True)
    rows = GradientMatrix(xp.asarray(gradients))
    result = gradient_noise_scale(rows, curvature=xp.asarray(STEEP), population=True)
    assert_allclose(result.value, np.trace(STEEP @ c) / (center @ STEEP @ center), rtol=1e-10)
    simple = gradient_noise_scale(rows, population=True)
    assert_allclose(simple.value, np.trace(c) / (center @ center), rtol=1e-10)
    assert result.stderr == simple.stderr == 0


def test_of_all_examples_the_error_is_that_of_probes(rng):
    rows = GradientMatrix(sample(9, rng))
    exact = gradient_noise_scale(rows, curvature=STEEP, population=True).value
    result = [
        value_and_error(
            gradient_noise_scale(rows, curvature=STEEP, n_probes=8, rng=rng, population=True)
        )
        for _ in range(500)
    ]
    value, error = np.asarray(result).T
    assert abs(value.mean() - exact) < SURE * value.std() / 500**0.5
    assert abs(np.sqrt(np.mean(error**2)) / value.std(ddof=1) - 1) < SURE * (2 / 500) ** 0.5


@given(seed=integers(0, 2**32 - 1), unit=floats(1e-6, 1e6), steep=floats(1e-6, 1e6))
def test_units_of_gradient_and_curvature_do_not_matter(seed, unit, steep):
    gradients = sample(20, np.random.default_rng(seed), 2 * MEAN)
    first = gradient_noise_scale(GradientMatrix(gradients), curvature=STEEP)
    second = gradient_noise_scale(GradientMatrix(unit * gradients), curvature=steep * STEEP)
    assert_allclose(
        entries(first), entries(second), rtol=1e-6
    )  # six digits are lost to gradients of either sign


@given(seed=integers(0, 2**32 - 1))
def test_turning_parameters_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    gradients, (turn, _) = sample(20, rng, 2 * MEAN), np.linalg.qr(rng.normal(size=(P, P)))
    first = gradient_noise_scale(GradientMatrix(gradients), curvature=STEEP)
    second = gradient_noise_scale(GradientMatrix(gradients @ turn), curvature=turn.T @ STEEP @ turn)
    assert_allclose(entries(first), entries(second), rtol=1e-6)


def squares(gradients, batch, ways):
    """|G_B|^2 of every batch, exactly as likely as the next."""
    draws = np.asarray(list(ways(range(len(gradients)), batch)))
    return np.sum(gradients[draws].mean(axis=1) ** 2, axis=1)


def ordered(examples, batch):
    return product(examples, repeat=batch)


def test_all_batches_without_replacement_give_the_unbiased_scale_of_the_examples(rng):
    gradients = sample(7, rng, 2 * MEAN)
    norms = squares(gradients, 2, combinations), squares(gradients, 5, combinations)
    result = gradient_noise_scale_from_batches(*norms, 2, 5)
    assert_allclose(result.value, ratio(*pieces(gradients, np.eye(P))), rtol=1e-10)


def test_all_batches_with_replacement_give_the_scale_of_all_there_is(xp, rng):
    gradients = sample(5, rng, 4 * MEAN)
    norms = squares(gradients, 1, ordered), squares(gradients, 4, ordered)
    result = gradient_noise_scale_from_batches(*map(xp.asarray, norms), 1, 4)
    assert_allclose(
        result.value,
        gradient_noise_scale(GradientMatrix(gradients), population=True).value,
        rtol=1e-10,
    )


@pytest.mark.parametrize("paired", [False, True])
def test_the_error_from_two_batch_sizes_is_the_spread_of_repeats(paired, rng):
    """60 norms of batches of 4 and 64; the large hold the small where they are paired.

    The bias of a ratio is of the order of its squared error, 2% here.
    """
    result = []
    for _ in range(400):
        big = MEAN + SHAPE * rng.normal(size=(60, 64, P))
        small = big[:, :4] if paired else MEAN + SHAPE * rng.normal(size=(60, 4, P))
        norms = (np.sum(piece.mean(axis=1) ** 2, axis=1) for piece in (small, big))
        result.append(gradient_noise_scale_from_batches(*norms, 4, 64, paired=paired))
    assert_honest(result, TRUE["simple"], bias=0.02 * TRUE["simple"])


@pytest.mark.parametrize("paired", [False, True])
def test_the_error_from_two_batch_sizes_is_the_delta_method(paired, rng):
    """By differences of the value itself, when either mean is moved a little."""
    low, high = rng.uniform(4, 6, 9), rng.uniform(3, 4, 9)

    def value(a, b):
        return gradient_noise_scale_from_batches(low + a, high + b, 2, 7, paired=paired).value

    by_low = (value(1e-6, 0) - value(-1e-6, 0)) / 2e-6
    by_high = (value(0, 1e-6) - value(0, -1e-6)) / 2e-6
    together = np.cov(low, high) if paired else np.diag([low.var(ddof=1), high.var(ddof=1)])
    slopes = np.asarray([by_low, by_high])
    result = gradient_noise_scale_from_batches(low, high, 2, 7, paired=paired)
    assert_allclose(result.stderr, (slopes @ together @ slopes / 9) ** 0.5, rtol=1e-6)


def test_from_batches_too_no_signal_is_an_infinite_scale():
    assert value_and_error(
        gradient_noise_scale_from_batches(np.asarray([8.0, 8.0]), np.ones(3), 1, 8)
    ) == (
        np.inf,
        np.inf,
    )
    assert gradient_noise_scale_from_batches(np.asarray([8.0, 9.0]), np.ones(3), 1, 8).dof == 1


@pytest.mark.parametrize("ways", [ordered, combinations], ids=["with", "without"])
@pytest.mark.parametrize("batch", [1, 3])
def test_one_step_of_a_quadratic_gains_as_predicted(ways, batch, rng):
    """Over every batch there is: the best rate and its gain, from the parabola of the mean loss."""
    gradients = rng.normal(size=(5, 3)) + 1
    g = gradients.mean(0)
    drawn = gradients[np.asarray(list(ways(range(5), batch)))].mean(axis=1)
    slope, curvature = g @ drawn.mean(0), np.mean(np.sum(drawn @ HESSIAN * drawn, axis=1))
    noise = gradient_noise_scale(
        GradientMatrix(gradients), curvature=HESSIAN, population=True
    ).value
    if ways is combinations:
        noise *= (5 - batch) / 4
    fraction = batch_efficiency(batch, noise)
    assert_allclose(slope / curvature, fraction * (g @ g) / (g @ HESSIAN @ g), rtol=1e-12)
    assert_allclose(
        slope**2 / (2 * curvature), fraction * (g @ g) ** 2 / (2 * g @ HESSIAN @ g), rtol=1e-12
    )


def test_half_is_left_at_the_critical_batch():
    assert batch_efficiency(32, 32) == 0.5


def test_the_share_that_is_left_is_the_derived_one():
    assert_allclose(
        batch_efficiency(7, 31.5), number(derived.share_left(), B=7, B_n=31.5), rtol=1e-14
    )


def test_the_best_step_is_the_derived_one_over_every_batch(rng):
    """Coded: efficiency times that of the exact gradient; seen: the parabola of the mean loss."""
    gradients = rng.normal(size=(5, 3)) + 1
    g = gradients.mean(0)
    drawn = gradients[np.asarray(list(ordered(range(5), 2)))].mean(axis=1)
    slope, curvature = g @ drawn.mean(0), np.mean(np.sum(drawn @ HESSIAN * drawn, axis=1))
    noise = gradient_noise_scale(
        GradientMatrix(gradients), curvature=HESSIAN, population=True
    ).value
    square, bent = g @ g, g @ HESSIAN @ g
    letters = {"{|g|^2}": square, r"{g^{\top}Hg}": bent, "B": 2, "B_n": noise}
    rate, gain = (number(law(), **letters) for law in (derived.best_rate, derived.best_gain))
    fraction = batch_efficiency(2, noise)
    assert_allclose([fraction * square / bent, slope / curvature], rate, rtol=1e-12)
    assert_allclose(
        [fraction * square**2 / (2 * bent), slope**2 / (2 * curvature)], gain, rtol=1e-12
    )


def test_the_scale_from_two_batch_sizes_is_the_derived_one():
    letters = {"b": 3, "B": 20, "q_b": 9.0, "q_B": 8.0}
    laws = derived.trace_from_batches(), derived.square_from_batches()
    expected = ratio(*(number(law, **letters) for law in laws))
    result = gradient_noise_scale_from_batches(
        np.asarray([8.9, 9.1]), np.asarray([8.0, 8.0]), 3, 20
    )
    assert_allclose(result.value, expected, rtol=1e-12)


def test_the_scale_of_examples_is_made_of_the_derived_pieces(rng):
    """Of what `whole` makes of them, before the jackknife takes its own bias off."""
    gradients = sample(11, rng, 2 * MEAN)
    trace, square = np.trace(np.cov(gradients.T, bias=True)), np.sum(gradients.mean(0) ** 2)
    letters = {"n": 11, str(derived.trace): trace, str(derived.square): square}
    result = [
        number(law(), **letters)
        for law in (derived.trace_from_distinct, derived.square_from_distinct)
    ]
    assert_allclose(pieces(gradients, np.eye(P)), result, rtol=1e-12)


def test_a_jackknifed_mean_is_the_mean_with_its_error(rng):
    x = rng.normal(size=12)
    result = jackknife(x.mean(), (x.sum() - x) / 11)
    assert_allclose(value_and_error(result), (x.mean(), x.std(ddof=1) / 12**0.5), rtol=1e-12)


def test_results_are_plain_numbers(xp, rng):
    result = gradient_noise_scale(GradientMatrix(xp.asarray(sample(9, rng))))
    assert all(isinstance(as_numpy(piece).item(), float) for piece in value_and_error(result))
    assert type(result.value) is type(result.stderr) is float


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda rows, rng: gradient_noise_scale(GradientMatrix(rows.rows[:2])),
            "at least 3 examples, not 2",
        ),
        (
            lambda rows, rng: signal_to_noise(GradientMatrix(rows.rows[:2])),
            "at least 3 examples, not 2",
        ),
        (lambda rows, rng: gradient_noise_scale(rows, n_probes=3, rng=rng), "without a curvature"),
        (
            lambda rows, rng: gradient_noise_scale(rows, curvature=STEEP, n_probes=1, rng=rng),
            "2 probes, not 1",
        ),
        (lambda rows, rng: gradient_noise_scale(rows, curvature=STEEP, n_probes=3), "need rng"),
        (lambda rows, rng: jackknife(1.0, np.ones(1)), "at least 2 samples, not of 1"),
        (
            lambda rows, rng: gradient_noise_scale_from_batches(np.ones(3), np.ones(3), 8, 8),
            "a small and a big one, not 8 and 8",
        ),
        (
            lambda rows, rng: gradient_noise_scale_from_batches(
                np.ones(3), np.ones(2), 1, 8, paired=True
            ),
            "3 norms cannot be paired with 2",
        ),
        (
            lambda rows, rng: gradient_noise_scale_from_batches(np.ones(3), np.ones(1), 1, 8),
            "at least 2 samples, not 1",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(call, sentence, rng):
    with pytest.raises(ValueError, match=sentence):
        call(GradientMatrix(sample(9, rng)), rng)


def test_a_covariance_and_an_array_are_taken_for_their_gradients(rng):
    array = 1 + rng.normal(size=(20, 4))
    expected = gradient_noise_scale(GradientMatrix(array))
    assert (
        gradient_noise_scale(Gram(GradientMatrix(array), 0.3))
        == gradient_noise_scale(array)
        == expected
    )
    assert signal_to_noise(array) == signal_to_noise(GradientMatrix(array))
