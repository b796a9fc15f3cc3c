"""The balance of noises against exact laws, by quadrature and by enumeration, and its borders."""

from itertools import product as pairs

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis.strategies import floats, integers
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.special import kve

from derivations import balance as derived
from sgdnoise.theory import (
    balance_under_decay,
    expansion_rate,
    imbalance_after,
    imbalance_rate,
    imbalances,
    log_marginal,
    noise_balance,
    soft_threshold,
    stationary_hidden_modes,
    stationary_imbalance,
    stationary_participation_ratio,
    sum_rule,
)

NODES, WEIGHTS = np.polynomial.legendre.leggauss(60)
SIZES = [(3, 2, 2), (1, 3, 2), (2, 2, 3)]
T, DECAY, RATE = 0.3, 0.2, 0.1


def net(d, h, o, rng):
    """W (d, h), V (h, o) and a second moment (d, d)."""
    x = rng.normal(size=(3 * d, d))
    return rng.normal(size=(d, h)), rng.normal(size=(h, o)), x.T @ x / len(x)


def one_output(rho, s, spread, d, h):
    """Exact moments of K with one output: |V|^2 = q has q^(p-1) exp(-(spread q + s^2 / q) / rho).

    Bessel's ratios for E s^2 / q and its square, and a Gaussian part of variance rho / 2.
    """
    p, z, w = (h - d) / 2, 2 * spread**0.5 * s / rho, spread**0.5 * s
    single, two = (w**k * kve(p - k, z) / kve(p, z) for k in (1, 2))
    c, m = rho / 2, h - 1
    first = single + c * d * m
    return first, two + 2 * c * m * single + c**2 * d * m * (d + m + 1)


def two_by_two(density, middle, reach):
    """E Tr Y and E Tr Y^2 of a positive (2, 2) matrix of this log density, Y = L L^T on a grid."""
    ends = [(a - reach, a + reach) for a in (middle[0] ** 0.5, 0.0, middle[1] ** 0.5)]
    ends = [(max(low, 0) if k != 1 else low, high) for k, (low, high) in enumerate(ends)]
    axes = [(low + high) / 2 + (high - low) / 2 * NODES for low, high in ends]
    a, b, c = np.meshgrid(*axes, indexing="ij")
    first, off, last = a**2, a * b, b**2 + c**2
    logs = density(first, off, last, a * c) + 2 * np.log(a) + np.log(c)
    weight = np.exp(logs - logs.max()) * np.einsum("i,j,k->ijk", *[WEIGHTS] * 3)
    weight /= weight.sum()
    return np.sum(weight * (first + last)), np.sum(weight * (first**2 + 2 * off**2 + last**2))


def hidden_of_two_inputs(rho, spread, product, h):
    """Exact moments of K for two white inputs and h >= 2, with V integrated out given W.

    Y = W W^T has det(Y)^((h - o - 3) / 2) exp(-(o Tr Y + Tr(Sx) Tr M^T Y^-1 M) / rho).
    The larger mode must come last, or the grid is too coarse.
    """
    o, wanted = product.shape[1], product @ product.T

    def density(first, off, last, root):
        back = wanted[0, 0] * last - 2 * wanted[0, 1] * off + wanted[1, 1] * first
        pull = o * (first + last) + spread * back / root**2
        return (h - o - 3) * np.log(root) - pull / rho

    modes = (spread / o) ** 0.5 * np.linalg.svd(product, compute_uv=False)
    c = rho / 2 / o
    return two_by_two(density, np.append(modes, c * (h - 1))[1::-1], 6 * c**0.5)


# --- the imbalance ---


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_noisy_step_moves_the_imbalance_by_its_exact_mean(size, rng):
    """Over all signs in the place of normal numbers, exact for what is quadratic in them."""
    w, v, moment = net(*size, rng)
    g = moment @ (w @ v - rng.normal(size=(size[0], size[2])))
    kick, result = (2 * T * RATE) ** 0.5, []
    for signs in pairs((-1.0, 1.0), repeat=w.size + v.size):
        z = kick * np.asarray(signs)
        first = (1 - RATE * DECAY) * w - RATE * g @ v.T + z[: w.size].reshape(w.shape)
        second = (1 - RATE * DECAY) * v - RATE * w.T @ g + z[w.size :].reshape(v.shape)
        result.append(first.T @ first - second @ second.T)
        if len(result) == 4096:
            break  # of 2^12 at the most: sizes keep to it
    expected = imbalance_after(w, v, g, RATE, temperature=T, decay=DECAY)
    assert 2 ** (w.size + v.size) <= 4096
    assert_allclose(np.mean(result, axis=0), expected, atol=1e-12)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_for_small_steps_it_is_the_rate_for_any_gradient(size, rng):
    w, v, moment = net(*size, rng)
    g = rng.normal(size=(size[0], size[2]))
    options = {"temperature": T, "decay": DECAY}
    small = 1e-7
    speed = (imbalance_after(w, v, g, small, **options) - imbalances((w, v))[0]) / small
    assert_allclose(speed, imbalance_rate(w, v, moment, **options), atol=1e-5)


def test_label_noise_moves_it_by_its_share_of_the_rate(rng):
    """Over all signs of the label noise of four examples with two outputs, in one batch."""
    w, v, _ = net(2, 3, 2, rng)
    x, sigma = rng.normal(size=(4, 2)), 0.7
    drawn = [sigma * np.reshape(e, (4, 2)) for e in pairs((-1.0, 1.0), repeat=8)]
    after = [imbalance_after(w, v, x.T @ noise / 4, RATE) for noise in drawn]
    kappa = RATE * sigma**2 / (4 * 4)
    expected = imbalances((w, v))[0] + RATE * imbalance_rate(w, v, x.T @ x / 4, strength=kappa)
    assert_allclose(np.mean(after, axis=0), expected, atol=1e-12)


def test_the_rate_is_that_of_every_library(xp, rng):
    w, v, moment = net(3, 4, 2, rng)
    options = {"temperature": T, "decay": DECAY, "strength": 0.5}
    expected = imbalance_rate(w, v, moment, **options)
    args = [xp.asarray(block) for block in (w, v, moment)]
    assert_allclose(np.asarray(imbalance_rate(*args, **options)), expected, rtol=1e-12)
    g = rng.normal(size=(3, 2))
    after = imbalance_after(*args[:2], xp.asarray(g), RATE, temperature=T, decay=DECAY)
    same = imbalance_after(w, v, g, RATE, temperature=T, decay=DECAY)
    assert_allclose(np.asarray(after), same, rtol=1e-12)
    rule = sum_rule(0.2, *args)
    assert_allclose(np.asarray(rule), sum_rule(0.2, w, v, moment), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("fans", [(4, 1), (2, 2), (1, 3)])
def test_expansion_has_the_sign_of_fan_in_less_fan_out(fans, rng):
    w, v, moment = net(fans[0], 3, fans[1], rng)
    speed = np.trace(imbalance_rate(w, v, moment, temperature=T))
    assert expansion_rate(*fans, 3, T) == pytest.approx(speed, rel=1e-12)
    assert np.sign(speed) == np.sign(fans[0] - fans[1])
    stationary = stationary_imbalance(*fans, T, DECAY)
    balanced = 2 * T * (fans[0] - fans[1]) - 2 * DECAY * stationary
    assert balanced == pytest.approx(0, abs=1e-15)


# --- both noises ---


@pytest.mark.parametrize(("d", "h", "s"), [(5, 3, 1.0), (2, 6, 0.5), (1, 1, 2.0)])
def test_one_output_rests_as_bessel_says_to_the_second_order(d, h, s):
    """Halving rho divides by four, or more, what the first order leaves out."""
    off = []
    for rho in (0.02, 0.01):
        exact = one_output(rho, s, d, d, h)
        result = noise_balance(rho, np.eye(d), s * np.eye(d, 1), h)
        off.append(np.abs(np.asarray(result[:2]) - exact))
    assert np.all(off[1] < off[0] / 3.5 + 1e-13)
    assert np.all(off[0] < 0.01 * np.asarray(exact))


@pytest.mark.parametrize(("o", "h"), [(1, 4), (2, 3), (3, 6)], ids=str)
def test_it_is_the_law_with_the_readout_integrated_out(o, h):
    """Another route to the same law, for fewer inputs than outputs as well: a grid of 60^3."""
    product = np.asarray([[0.0, 1.0, 0.0], [1.5, 0.0, 0.0]])[:, :o]
    off = []
    for rho in (0.04, 0.02):
        exact = hidden_of_two_inputs(rho, 2.0, product, h)
        off.append(np.abs(np.asarray(noise_balance(rho, np.eye(2), product, h)[:2]) / exact - 1))
    assert np.all(off[0] < 5e-4)  # the square of rho over a mode
    assert np.all(off[1] < off[0] / 3 + 1e-7)


def test_free_units_add_their_own_moments():
    """Where they are a third of E Tr K^2; 1% is what the first order may leave out."""
    product = np.asarray([[0.0], [1.5]])
    exact = hidden_of_two_inputs(0.4, 2.0, product, 4)
    assert_allclose(noise_balance(0.4, np.eye(2), product, 4)[:2], exact, rtol=0.01)


@pytest.mark.parametrize(
    ("d", "h", "share", "inside"),
    [
        (2, 4, 0.1, True),
        (6, 8, 0.1, True),
        (8, 3, 0.05, True),
        (2, 4, 0.5, False),
        (8, 3, 0.1, False),
    ],
)
def test_the_regime_ends_where_temperature_reaches_a_mode(d, h, share, inside):
    """1% for c <= 0.1 w and c |d - h| <= 0.25 w, as said; and beyond it is not so."""
    w = d**0.5
    exact = one_output(2 * share * w, 1.0, d, d, h)
    result = noise_balance(2 * share * w, np.eye(d), np.eye(d, 1), h)
    off = max(
        abs(result.hidden / exact[0] - 1),
        abs(result.participation_ratio * exact[1] / exact[0] ** 2 - 1),
    )
    assert (share <= 0.1 and share * abs(d - h) <= 0.25) == inside
    assert (off <= 0.01) == inside


def test_a_mode_drifts_as_derived():
    """Two outputs, so that A is all that a mode sees: K less the free part."""
    d, h, s, rho = 5, 4, np.asarray([1.5, 0.8]), 0.05
    c, w = rho / 4, (d / 2) ** 0.5 * s
    letters = sp.symbols("w_1 w_2 c", positive=True)
    sizes = dict(zip(sp.symbols("d h", integer=True, positive=True), (d, h), strict=True))
    mode = sp.lambdify(letters, derived.mode_at_balance().rhs.subs(sizes))
    total = mode(w[0], w[1], c) + mode(w[1], w[0], c) + c * d * (h - 2)
    result = noise_balance(rho, np.eye(d), np.eye(d, 2) * s, h)
    assert result.hidden == pytest.approx(total, rel=1e-12)


def test_without_temperature_it_is_the_rest_of_label_noise(rng):
    _, _, moment = net(4, 1, 1, rng)
    product = rng.normal(size=(4, 2))
    result = noise_balance(0.0, moment, product, 6)
    assert result.hidden == pytest.approx(stationary_hidden_modes(moment, product)[0].sum())
    assert result.participation_ratio == pytest.approx(
        stationary_participation_ratio(moment, product)
    )


@given(seed=integers(0, 2**32 - 1), size=floats(0.1, 10), gain=floats(0.1, 10), o=integers(1, 5))
def test_units_and_axes_change_nothing(seed, size, gain, o):
    """K scales as Sx and M together and so does rho; rotated inputs are as good; rtol: rounding."""
    rng = np.random.default_rng(seed)
    (_, _, moment), product = net(3, 1, 1, rng), rng.normal(size=(3, o))
    moment = moment + 0.1 * np.eye(3)
    before = noise_balance(0.1, moment, product, 6)
    after = noise_balance(0.1 * size * gain, size * moment, gain * product, 6)
    expected = (size * gain * before.hidden, (size * gain) ** 2 * before.square)
    assert_allclose(after, (*expected, gain * before.readout), rtol=1e-6)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert_allclose(
        noise_balance(0.1, turn @ moment @ turn.T, turn @ product, 6), before, rtol=1e-6
    )


@given(d=integers(1, 6), o=integers(1, 6), more=integers(0, 4), rho=floats(0, 0.3))
def test_the_sum_rule_holds_and_layers_are_alike(d, o, more, rho):
    """For white inputs a net read backwards has the same law; rtol: rounding."""
    h, size = min(d, o) + more, np.linspace(1, 2, min(d, o))
    product = np.eye(d, o) * (size if d >= o else size[:, None])
    result = noise_balance(rho, np.eye(d), product, h)
    rule = d * result.readout + rho * (d - o) * h / 2
    assert o * result.hidden == pytest.approx(rule, rel=1e-9)
    back = noise_balance(rho, np.eye(o), product.T, h)
    assert_allclose((back.hidden, back.readout), (result.readout, result.hidden), rtol=1e-9)


# --- decay ---


def rest_of_two_inputs(temperature, decay, product, h):
    """E Tr W W^T and its square at rest, white inputs, from the marginal law of W on a grid."""
    o = product.shape[1]

    def density(first, off, last, root):
        stiff_first, stiff_last = first + decay, last + decay
        volume = stiff_first * stiff_last - off**2
        inverse = np.stack([stiff_last, -off, -off, stiff_first]) / volume
        wanted = product @ product.T
        gain = np.trace(wanted) - decay * np.einsum("k...,k->...", inverse, wanted.ravel())
        bulk = gain - decay * (first + last)
        return bulk / (2 * temperature) - o / 2 * np.log(volume) + (h - 3) * np.log(root)

    modes = soft_threshold(np.linalg.svd(product, compute_uv=False), decay)
    return two_by_two(density, modes, 6 * temperature**0.5 / decay**0.5)


@pytest.mark.parametrize(
    ("temperature", "allowed"), [(2e-4, 1e-3), (1e-3, 5e-3)], ids=["cold", "warmer"]
)
def test_under_decay_it_is_the_law_of_the_weights_at_rest(temperature, allowed):
    """What is left out is the product's jitter, temperature (d + h) / w^2: 0.2% and 0.9%."""
    product = np.diag([1.5, 1.0])
    exact = rest_of_two_inputs(temperature, 0.2, product, 4)
    result = balance_under_decay(temperature, 0.2, product, 4)
    assert_allclose(result[:2], exact, rtol=allowed)
    fixed = np.asarray(soft_threshold(np.asarray([1.5, 1.0]), 0.2))
    assert abs(exact[0] / fixed.sum() - 1) > abs(exact[0] / result.hidden - 1)


def test_where_temperature_reaches_a_mode_decay_is_another_matter():
    exact = rest_of_two_inputs(0.3, 0.2, np.diag([1.5, 1.0]), 4)
    result = balance_under_decay(0.3, 0.2, np.diag([1.5, 1.0]), 4)
    assert abs(result.hidden / exact[0] - 1) > 0.05


def test_soft_thresholds_are_those_of_the_nuclear_norm(xp):
    """Of (x - s)^2 / 2 + decay x over x >= 0, on a grid fine to 1e-4."""
    modes, x = np.asarray([0.1, 0.5, 2.0]), np.linspace(0, 3, 30_001)
    expected = [x[np.argmin((x - s) ** 2 / 2 + 0.3 * x)] for s in modes]
    assert_allclose(np.asarray(soft_threshold(xp.asarray(modes), 0.3)), expected, atol=1e-4)


@pytest.mark.parametrize("o", [1, 3])
def test_the_marginal_is_the_law_with_readouts_integrated_out(o, rng):
    """One unit: each output's readout is alone, by adaptive quadrature."""
    _, _, moment = net(2, 1, 1, rng)
    cross, logs = rng.normal(size=(2, o)), []
    ws = [rng.normal(size=(2, 1)) for _ in range(2)]
    for w in ws:
        k, a = (w.T @ moment @ w).item(), (w.T @ cross)[0]
        total = -DECAY * np.sum(w**2) / 2 / T
        for pull in a:

            def weigh(v, k=k, pull=pull):
                return np.exp(-((k + DECAY) * v**2 / 2 - pull * v) / T)

            total += np.log(quad(weigh, -30, 30, points=[pull / (k + DECAY)], limit=200)[0])
        logs.append(total)
    result = [float(log_marginal(w, moment, cross, T, DECAY)) for w in ws]
    assert result[1] - result[0] == pytest.approx(logs[1] - logs[0], rel=1e-7)


def test_the_marginal_of_more_units_is_that_of_a_sampled_readout(xp, rng):
    """log of the mean of exp(-loss / T) over V of the prior, two units and outputs, by a grid."""
    w, _, moment = net(2, 2, 1, rng)
    cross = rng.normal(size=(2, 2)) / 2
    grid = np.linspace(-12, 12, 601)
    a, b = np.meshgrid(grid, grid)
    logs = []
    for scale in (0.5, 1.0):
        k, pull = scale**2 * w.T @ moment @ w, scale * w.T @ cross
        energy = (k[0, 0] + DECAY) * a**2 + 2 * k[0, 1] * a * b + (k[1, 1] + DECAY) * b**2
        values = [np.exp(-(energy / 2 - a * first - b * two) / T).sum() for first, two in pull.T]
        logs.append(np.log(values).sum() - DECAY * np.sum((scale * w) ** 2) / 2 / T)
    args = xp.asarray(moment), xp.asarray(cross), T, DECAY
    result = [float(log_marginal(xp.asarray(scale * w), *args)) for scale in (0.5, 1.0)]
    assert result[1] - result[0] == pytest.approx(logs[1] - logs[0], rel=1e-9)


# --- refusals ---


W, V, ONE = np.ones((3, 2)), np.ones((2, 2)), np.eye(3)
WRONG = {
    "weights that do not chain": (lambda: imbalance_rate(W, W, ONE), "do not chain"),
    "a moment of other inputs": (lambda: imbalance_rate(W, V, np.eye(2)), "not of the inputs"),
    "an indefinite moment": (
        lambda: imbalance_rate(W, V, np.diag([1.0, 1.0, -1.0])),
        "cannot have eigenvalues from -1",
    ),
    "negative temperature": (lambda: imbalance_rate(W, V, ONE, temperature=-1.0), "temperature"),
    "negative decay": (lambda: imbalance_rate(W, V, ONE, decay=-1.0), "decay must be 0 or more"),
    "negative label noise": (lambda: imbalance_rate(W, V, ONE, strength=-1.0), "strength"),
    "a gradient of theta": (lambda: imbalance_after(W, V, W.T, 0.1), "not of the product"),
    "weights of a step": (lambda: imbalance_after(W, W, W, 0.1), "do not chain"),
    "rest without decay": (lambda: stationary_imbalance(3, 2, T, 0.0), "decay must be positive"),
    "no inputs": (lambda: stationary_imbalance(0, 2, T, 1.0), "1 unit or more, not 0"),
    "no units": (lambda: expansion_rate(3, 2, 0, T), "1 unit or more, not 3, 0 and 2"),
    "negative rho": (lambda: noise_balance(-0.1, ONE, W, 3), "rho must be 0 or more"),
    "a rho that is not a number": (
        lambda: noise_balance(np.nan, ONE, W, 3),
        "rho must be .* not nan",
    ),
    "rho of a sum": (lambda: sum_rule(-0.1, W, V, ONE), "rho must be 0 or more"),
    "a product of other inputs": (lambda: noise_balance(0.1, np.eye(2), W, 3), "from 2 inputs"),
    "an unused input": (
        lambda: noise_balance(0.1, np.diag([1.0, 1.0, 0.0]), np.eye(3, 2), 3),
        "cannot have eigenvalues from 0",
    ),
    "too few units": (
        lambda: noise_balance(0.1, ONE, np.eye(3, 2), 1),
        "1 hidden units cannot make",
    ),
    "a product of low rank": (lambda: noise_balance(0.1, ONE, W, 3), "rank 1 is below both"),
    "no decay": (lambda: balance_under_decay(T, 0.0, np.eye(3, 2), 3), "must be positive"),
    "decay above a mode": (lambda: balance_under_decay(T, 1.5, np.eye(3, 2), 3), "mode .* is lost"),
    "negative modes": (lambda: soft_threshold(-np.ones(2), 0.1), "0 or more, not -1"),
    "a law without temperature": (
        lambda: log_marginal(W, ONE, W, 0.0, 1.0),
        "positive temperature",
    ),
    "a law without decay": (lambda: log_marginal(W, ONE, W, T, 0.0), "positive temperature"),
    "targets of other inputs": (lambda: log_marginal(W, ONE, V, T, 1.0), "are not the 3 of W"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_answered_by_one_sentence(case):
    call, words = WRONG[case]
    with pytest.raises(ValueError, match=words) as caught:
        call()
    text = str(caught.value)
    assert 20 <= len(text) <= 200
    assert ". " not in text
    assert not text.endswith(".")
