"""The choice between regressions: kinds left out are not seen, and are those of the reference."""

import json

import numpy as np
import pytest

from sgdnoise.dimension._trained._features import coordinates
from sgdnoise.dimension._trained._model import load
from tools.choose_dimension_model import METHODS, Learned, left_out, shipped, show
from tools.train_dimension_model import LATENTS, MAPS, REFERENCE, begun, of_manifold

KINDS = np.asarray([["ball", "linear"], ["cube", "linear"], ["cube", "torus"]] * 20)


def learned(rest, rng):
    """Manifolds at random places."""
    places = rng.normal(size=(len(rest), 4))
    return Learned(places, np.asarray(rest, float), KINDS, np.ones(4), 0.1)


def written(folder, count=5, seed=3):
    """A reference of a few manifolds."""
    dimensions = [begun(place, False, seed)[0].shape[1] for place in range(count)]
    remainder = np.linspace(-0.2, 0.3, count)
    places = np.stack([np.log(dimensions) - remainder, remainder], axis=1)
    origin = json.dumps({"arguments": {"count": count, "seed": seed}})
    table = {"coordinates": places, "residuals": remainder, "lengths": np.ones(2), "variance": 0.1}
    table = {f"clean_{name}": piece for name, piece in table.items()}
    np.savez(folder / "table.npz", provenance=np.asarray(origin), **table)
    return folder / "table.npz"


def test_what_only_one_kind_has_is_not_known_to_those_that_have_not_seen_it(rng):
    """All without it say 0 where 1 is to be added to log d: 1 - 1/e off."""
    known = learned(KINDS[:, 1] == "torus", rng)
    np.testing.assert_allclose(left_out(known, 1, "torus"), 1 - np.exp(-1), rtol=1e-9)


def test_what_all_kinds_have_is_known_without_one_of_them(rng):
    """200 trees of the same values say it exactly, the process nearly, being drawn to 0."""
    known = learned(np.full(len(KINDS), 0.4), rng)
    errors = left_out(known, 0, "ball").mean(axis=0)
    uncorrected, trees, process, both = errors
    np.testing.assert_allclose(uncorrected, 1 - np.exp(-0.4), rtol=1e-12)
    assert trees < 1e-9
    assert both < process < uncorrected


def test_an_error_above_100_percent_is_counted_as_that(rng):
    known = learned(-2.0 * (KINDS[:, 1] == "torus"), rng)
    assert np.all(left_out(known, 1, "torus") == 1)


def test_lengths_are_learned_anew_where_there_is_a_seed(rng):
    known = learned(0.3 * KINDS[:, 0].astype("U1").view("i4").squeeze() / 100, rng)
    known = known._replace(lengths=np.full(4, 1e-3))
    assert np.any(left_out(known, 1, "torus", 0) != left_out(known, 1, "torus"))


def test_kinds_are_those_that_the_seed_draws(tmp_path):
    known, seed = shipped(written(tmp_path))
    assert seed == 3
    assert known.kinds.shape == (5, 2)
    for place, (law, form) in enumerate(known.kinds):
        _, *drawn, _ = begun(place, False, seed)
        assert drawn == [law, form]
        assert law in LATENTS
        assert form in MAPS


def test_the_shipped_reference_is_of_the_manifolds_its_seed_draws():
    """Each of 1800 dimensions agrees, which no other seed would reach."""
    known, _ = shipped(REFERENCE)
    assert len(known.residuals) == len(known.kinds) >= 1000
    assert set(known.kinds[:, 1]) == set(MAPS)


@pytest.mark.parametrize("place", [4, 6, 12, 13])
def test_a_manifold_drawn_anew_looks_as_it_is_kept(place):
    """To single precision, so that its kind is the one whose look was learned."""
    balls, known = load()
    n, _, probe = of_manifold(place, False, shipped(REFERENCE)[1])
    np.testing.assert_allclose(
        coordinates(balls, probe, n), known.coordinates[place], rtol=0, atol=1e-4
    )


def test_a_reference_of_other_manifolds_is_refused(tmp_path):
    file = written(tmp_path)
    with np.load(file) as stored:
        table = dict(stored)
    table["clean_residuals"] = table["clean_residuals"] + 0.1
    np.savez(file, **table)
    with pytest.raises(ValueError, match=r"^table.npz is of other manifolds than .* draws$"):
        shipped(file)


def test_each_kind_has_a_row_and_each_manifold_counts_once(rng, capsys):
    known = learned(np.zeros(len(KINDS)), rng)
    left = [(0, "ball"), (0, "cube"), (1, "linear"), (1, "torus")]
    counts = [int(np.sum(known.kinds[:, axis] == kind)) for axis, kind in left]
    pieces = [
        np.full((count, len(METHODS)), at)
        for count, at in zip(counts, (0.1, 0.1, 0.3, 0.3), strict=True)
    ]
    show(known, left, pieces)
    message = capsys.readouterr().out
    assert [message.count(f"{('density', 'map')[axis]} {kind}") for axis, kind in left] == [1] * 4
    (line,) = [line for line in message.splitlines() if line.strip().startswith("all")]
    assert line.split()[1:4] == ["60", "20.0", "±"]
