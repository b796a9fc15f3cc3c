"""The command `sgdnoise dimension`: results, pictures, and one sentence for what is wrong."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import rich.console
from lab.test_terminal import ask
from matplotlib.image import imread
from witnesses import SURE, torus

from sgdnoise.core import with_group_error
from sgdnoise.dimension import ESTIMATORS, estimate
from sgdnoise.lab._estimator_lines import LINES
from sgdnoise.lab._survey import SHOWN


def said(words):
    """Exit status and what stands on stderr, of a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "sgdnoise", *map(str, words)], capture_output=True, text=True
    )
    return done.returncode, done.stderr


@pytest.fixture
def torus_file(tmp_path, rng):
    """300 points of a 2-torus in 4 dimensions."""
    np.save(tmp_path / "torus.npy", torus(2, 300, rng))
    return tmp_path / "torus.npy"


def measured(file, *words):
    """What the command prints, its picture beside the file."""
    return ask("dimension", file, "--out", file.parent, *words)


def row_of(name, result):
    """Numbers in the line of one estimator."""
    (line,) = [line for line in result.stdout.splitlines() if line.split()[:1] == [name]]
    return [float(word) for word in line.split()[1:4]]


def test_the_dimension_of_a_file_is_printed_by_every_estimator(torus_file):
    """The torus has dimension 2, of which `estimate` is known to 5 errors, and spans 4."""
    result = measured(torus_file, "--all")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())  # the name of the file decides where lines break
    assert "300 points in 4 dimensions" in text
    table = result.stdout.split("estimate: ")[0]
    first = [line.split()[0] for line in table.splitlines() if line.split()]
    shown = [word for word in first if word in {"estimate", *ESTIMATORS}]
    assert shown == ["estimate", *(name for name in ESTIMATORS if name != "learned")]
    value, error, _ = row_of("estimate", result)
    assert abs(value - 2) < SURE * error + 0.05 * 2
    assert f"take estimate, {value:.2f} ± {error:.2f}" in text
    assert "another question" in text
    for name in shown:
        assert f"{name}: {LINES[name]}" in text


def test_three_rows_are_shown_by_default(torus_file):
    result = measured(torus_file)
    assert [name for name in LINES if f"\n {name} " in result.stdout] == [*SHOWN]
    assert "--all shows all estimators" in result.stdout


def test_every_estimator_has_a_line_that_fits_the_terminal():
    assert [*LINES] == ["estimate", *ESTIMATORS]
    assert all(len(f"{name}: {line}") <= 80 for name, line in LINES.items())


def test_values_and_errors_are_those_of_the_functions(torus_file):
    names = ("abide", "pca", "twonn", "l2n2")
    result = measured(torus_file, *(word for name in names for word in ("--estimator", name)))
    points = np.load(torus_file)
    for name in names:
        expected = with_group_error(ESTIMATORS[name], points, splits=5)
        assert row_of(name, result)[:2] == [
            round(float(v), 2) for v in (expected.value, expected.stderr)
        ]
    assert "the recommended value is that of estimate" in result.stdout


def test_a_picture_is_drawn_and_nobody_elses_is_written_over(torus_file):
    words = ("--estimator", "twonn")
    picture = torus_file.parent / "torus.png"
    assert str(picture) in measured(torus_file, *words).stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert measured(torus_file, *words).exit_code == 0  # over its own
    picture.write_bytes(b"holiday")
    refused = measured(torus_file, *words)
    assert refused.exit_code == 2
    assert picture.read_bytes() == b"holiday"
    nested = torus_file.parent / "new" / "profile.svg"
    for _ in range(2):
        assert measured(torus_file, *words, "--picture", nested).exit_code == 0
    assert "<svg" in nested.read_text()


def test_csv_and_npz_are_read_as_npy_is(tmp_path, rng):
    points = rng.normal(size=(80, 2))
    np.save(tmp_path / "p.npy", points)
    np.savez(tmp_path / "p.npz", points=points)
    np.savetxt(tmp_path / "p.csv", points, delimiter=",", header="x,y", comments="")
    words = ("--estimator", "twonn", "--estimator", "pca")
    tables = [measured(tmp_path / f"p.{kind}", *words) for kind in ("npy", "npz", "csv")]
    assert len({(*row_of("twonn", t)[:2], *row_of("pca", t)[:2]) for t in tables}) == 1
    assert "its first line is a header, x, y" in tables[2].stdout


def test_rows_are_taken_at_random_and_by_seed(torus_file):
    words = ("--estimator", "twonn", "--points", "150")
    first, again, another = (
        measured(torus_file, *words, "--seed", seed).stdout for seed in (1, 1, 2)
    )
    assert "taking 150 rows at random, by seed 1" in first
    assert first.split("twonn")[1].split()[:2] == again.split("twonn")[1].split()[:2]
    assert first.split("twonn")[1].split()[:2] != another.split("twonn")[1].split()[:2]


def test_points_that_repeat_are_merged_or_refused_as_asked(tmp_path, rng):
    points = torus(2, 60, rng)
    np.save(tmp_path / "p.npy", np.concatenate([points, points[:7]]))
    np.save(tmp_path / "q.npy", points)
    words = ("--estimator", "twonn")
    merged = measured(tmp_path / "p.npy", *words)
    assert "7 of 67 points repeat others and were merged" in merged.stdout
    assert row_of("twonn", merged)[:2] == row_of("twonn", measured(tmp_path / "q.npy", *words))[:2]
    refused = measured(tmp_path / "p.npy", *words, "--duplicates", "refuse")
    assert refused.exit_code == 2
    assert "7 of 67 points repeat others" in refused.stderr


def test_points_on_a_lattice_are_told_once_in_a_sentence(tmp_path, rng):
    np.save(tmp_path / "p.npy", rng.permutation(np.arange(200.0))[:150, None] * [1, 2])
    result = measured(tmp_path / "p.npy", "--estimator", "levina_bickel")
    assert result.exit_code == 0
    assert result.stdout.count("two nearest neighbours") == 1
    assert "as on a lattice" in result.stdout
    assert "Ties" not in result.stdout + result.stderr


def test_what_an_estimator_refuses_stands_in_its_row_and_below_in_full(tmp_path, rng):
    np.save(tmp_path / "p.npy", torus(1, 40, rng))
    words = [word for name in ("estimate", "tle", "twonn") for word in ("--estimator", name)]
    result = measured(tmp_path / "p.npy", *words)
    assert result.exit_code == 0
    assert "estimate: at least 205 points" in result.stdout
    assert "tle: no error: " in result.stdout
    assert "none is recommended" in result.stdout


def test_a_calibrated_column_is_for_the_estimators_of_manifolds_alone(
    torus_file, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module = sys.modules["sgdnoise.dimension._calibration"]
    monkeypatch.setattr(module, "POINTS", 300)
    monkeypatch.setattr(module, "_curve", module._curve.__wrapped__)
    words = ("--estimator", "mom", "--estimator", "stable_rank", "--calibrate")
    result = measured(torus_file, *words)
    expected = float(module.calibrated(ESTIMATORS["mom"])(np.load(torus_file)))
    assert row_of("mom", result)[2] == round(expected, 2)
    (line,) = [line for line in result.stdout.splitlines() if line.startswith(" stable_rank")]
    assert line.split()[3] == "-"


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_of_estimators_fits_the_terminal(width, tmp_path, rng, monkeypatch):
    """With every number in it, and notes cut short, for they stand below in full."""
    narrow = rich.console.Console(width=width, highlight=False)
    monkeypatch.setattr("sgdnoise.lab._survey_report.console", narrow)
    monkeypatch.setattr("sgdnoise.lab._terminal.console", narrow)
    np.save(tmp_path / "p.npy", torus(1, 40, rng))
    words = [w for n in ("tle", "full_correlation_integral") for w in ("--estimator", n)]
    result = measured(tmp_path / "p.npy", *words)
    lines = [line for line in result.stdout.splitlines() if str(tmp_path) not in line]
    assert max(map(len, lines)) <= width
    assert "full_correlation_integral" in result.stdout
    (line,) = [line for line in lines if line.startswith(" tle")]
    assert 0 < float(line.split()[1]) < 3
    assert ("…" in line) == (width == 80)
    assert "tle: no error: at least 21 points" in result.stdout


WRONG_WORDS = {
    "estimator": (
        ("--estimator", "fractal"),
        "there is no estimator 'fractal'; there are estimate",
    ),
    "no points": (("--points", "0"), "--points takes 2 to 300 of the 300 rows, not 0"),
    "too many points": (("--points", "301"), "not 301"),
    "picture": (("--picture", "p.jpeg"), "ends in .png, .pdf or .svg, unlike p.jpeg"),
    "key": (("--key", "x"), "no key such as 'x'"),
}


@pytest.mark.parametrize(("words", "sentence"), WRONG_WORDS.values(), ids=WRONG_WORDS.keys())
def test_a_wrong_option_is_one_sentence(words, sentence, torus_file):
    result = measured(torus_file, *words)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_what_is_no_cloud_of_points_is_one_sentence(tmp_path):
    """Each kind of wrong file: see test_read."""
    np.save(tmp_path / "nan.npy", np.asarray([[1.0, 2.0], [np.nan, 0.0]]))
    status, text = said(["dimension", tmp_path / "nan.npy", "--out", tmp_path])
    assert status == 2
    assert text == "error: 1 of 2 rows of nan.npy are not finite, the first is row 1\n"


def test_ctrl_c_ends_politely(torus_file, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sgdnoise.lab._dimension_command.measure", interrupted)
    result = measured(torus_file)
    assert result.exit_code == 130
    assert "stopped; nothing was written" in result.stdout


def parsed(file, *words):
    result = measured(file, *words, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_json_has_what_the_functions_say(torus_file):
    result = parsed(torus_file)
    expected = estimate(np.load(torus_file))
    first = result["recommended"]
    assert first["name"] == "estimate"
    np.testing.assert_allclose(first["dimension"], expected.value)
    np.testing.assert_allclose(first["interval"], expected.interval())
    assert [row["name"] for row in result["estimators"]] == [*SHOWN]
    assert result["points"] == 300
    assert result["coordinates"] == 4
    assert result["picture"].endswith("torus.png")
    assert result["scales"][0].keys() == {"distance", "dimension", "stderr"}


def test_passages_of_a_path_are_told_in_words_of_the_shell(tmp_path, rng):
    points = rng.normal(size=(2500, 8))
    for row in range(1, len(points)):
        points[row] += 0.95 * points[row - 1]
    np.save(tmp_path / "path.npy", points)
    told = json.loads(measured(tmp_path / "path.npy", "--exclude", "auto", "--json").stdout)
    (sentence,) = [text for text in told["messages"] if "counts twice" in text]
    assert sentence.endswith("with --exclude 2, as estimate does") or "--exclude 3," in sentence
    assert abs(told["recommended"]["dimension"] - 8) < 1.5


def test_json_is_json_also_of_an_error(tmp_path, rng):
    points = rng.normal(size=(300, 3))
    np.save(tmp_path / "nan.npy", np.where(points > 2.5, np.nan, points))
    np.save(tmp_path / "equal.npy", np.ones((300, 3)))
    for name in ("nan.npy", "equal.npy", "missing.npy", "data.xlsx"):
        result = measured(tmp_path / name, "--json")
        assert result.exit_code == 2
        told = json.loads(result.stdout)
        assert told["file"].endswith(name)
        assert any(word in told["error"] for word in ("not finite", "coincide", "no file", ".csv"))


@pytest.mark.parametrize(
    ("kind", "reason"), [("counts", "discrete"), ("wide", "at least 80"), ("copies", "more pairs")]
)
def test_a_doubtful_number_is_not_recommended(kind, reason, tmp_path, rng):
    factors = rng.gamma(2, 0.5, size=(600, 3)) @ np.ones((3, 100)) / 3
    plane = rng.normal(size=(1000, 2))
    plane[-150:] = plane[:150] + 0.01 * rng.normal(size=(150, 2))
    points = {"counts": rng.poisson(factors), "wide": rng.normal(size=(500, 120)), "copies": plane}
    np.save(tmp_path / "points.npy", points[kind])
    told = json.loads(measured(tmp_path / "points.npy", "--json").stdout)
    assert told["recommended"] is None
    assert told["sentences"][0].startswith("no number is recommended")
    assert reason in told["sentences"][0]


def test_json_has_no_number_that_is_none(tmp_path, rng):
    np.save(tmp_path / "p.npy", torus(1, 40, rng))
    result = parsed(tmp_path / "p.npy")
    assert result["recommended"]["dimension"] is None
    assert "205 points" in result["recommended"]["notes"][0]


def test_the_default_is_what_the_package_recommends(torus_file):
    assert row_of("estimate", measured(torus_file))[0] == round(
        float(estimate(np.load(torus_file)).value), 2
    )


def test_noise_that_is_known_of_is_told_to_the_estimate(torus_file):
    words = ("--estimator", "estimate")
    plain, noisy = measured(torus_file, *words), measured(torus_file, *words, "--noisy")
    expected = estimate(np.load(torus_file), noisy=True)
    assert row_of("estimate", noisy)[0] == round(float(expected.value), 2)
    assert row_of("estimate", noisy)[0] != row_of("estimate", plain)[0]


def test_columns_transposes_and_headers_reach_the_reader(tmp_path, rng):
    points = rng.normal(size=(60, 4))
    np.save(tmp_path / "p.npy", points)
    np.save(tmp_path / "turned.npy", points.T)
    names = ",".join(map(str, range(2001, 2005)))
    np.savetxt(tmp_path / "p.csv", points, delimiter=",", header=names, comments="", fmt="%.17g")
    words = ("--estimator", "pca", "--estimator", "twonn")
    expected = row_of("twonn", measured(tmp_path / "p.npy", *words, "--drop", "1"))[:2]
    taken = measured(tmp_path / "p.npy", *words, "--columns", "0", "--columns", "2:4")
    assert row_of("twonn", taken)[:2] == expected
    text = measured(tmp_path / "p.csv", *words, "--drop", "2002")
    assert row_of("twonn", text)[:2] == expected
    assert "its first line is a header, 2001, 2003, 2004" in " ".join(text.stdout.split())
    turned = measured(tmp_path / "turned.npy", *words, "--transpose", "--columns", ":50")
    assert "50 points in 4 dimensions" in " ".join(turned.stdout.split())
    assert "--transpose" in measured(tmp_path / "turned.npy", *words).stdout
    assert "61 points" in measured(tmp_path / "p.csv", *words, "--no-header").stdout


def test_an_index_column_is_warned_of_and_dropped(tmp_path, rng):
    rows = np.c_[np.arange(60), rng.normal(size=(60, 3))]
    np.savetxt(tmp_path / "p.csv", rows, delimiter=",", header="id,x,y,z", comments="")
    words = ("--estimator", "twonn")
    assert "warning: id of p.csv rises" in " ".join(
        measured(tmp_path / "p.csv", *words).stdout.split()
    )
    assert "warning" not in measured(tmp_path / "p.csv", *words, "--drop", "id").stdout


def test_embeddings_are_compared_by_their_directions(tmp_path, rng):
    points = rng.normal(size=(200, 4))
    np.save(tmp_path / "p.npy", points * rng.gamma(1, 1, size=(200, 1)))
    np.save(tmp_path / "unit.npy", points / np.linalg.norm(points, axis=1, keepdims=True))
    words = ("--estimator", "twonn")
    cosine = measured(tmp_path / "p.npy", *words, "--metric", "cosine")
    assert (
        row_of("twonn", cosine)[:2] == row_of("twonn", measured(tmp_path / "unit.npy", *words))[:2]
    )


def test_a_picture_has_the_name_of_its_file_and_of_its_value(torus_file):
    result = measured(torus_file, "--picture", torus_file.parent / "p.svg")
    text = (torus_file.parent / "p.svg").read_text()
    value, *_ = row_of("estimate", result)
    assert f"torus.npy: dimension {value:.2f}, 95% interval" in text
    measured(torus_file)
    assert imread(torus_file.parent / "torus.png").shape[:2] == (640, 960)


def test_help_says_how_many_rows_estimate_needs_and_fits_the_terminal():
    done = subprocess.run(
        [sys.executable, "-m", "sgdnoise", "dimension", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "80", "TERMINAL_WIDTH": "80"},
    )
    assert "needs 205 rows or more" in " ".join(done.stdout.split())
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_dimension_that_depends_on_scale_is_no_number_to_take(tmp_path, rng):
    """A ring in 20 coordinates with noise as large as the distance between neighbours."""
    ring = np.pad(torus(1, 2000, rng), [(0, 0), (0, 18)])
    np.save(tmp_path / "p.npy", ring + 0.003 * rng.normal(size=ring.shape))
    words = ("--estimator", "estimate", "--picture", tmp_path / "p.svg")
    result = measured(tmp_path / "p.npy", *words)
    assert "take estimate" not in result.stdout
    assert result.stdout.count("no single dimension: ") == 2  # in the table and below
    assert "p.npy: no single dimension" in (tmp_path / "p.svg").read_text()
    parts = parsed(tmp_path / "p.npy", *words)
    assert parts["recommended"] is None
    (row,) = parts["estimators"]
    assert row["doubt"].startswith("no single dimension: ")
    assert max(d for _, d in row["scales"]) > 2 * min(d for _, d in row["scales"])
    noisy = measured(tmp_path / "p.npy", *words, "--noisy")
    value, error, _ = row_of("estimate", noisy)
    assert f"take estimate, {value:.2f} ± {error:.2f}" in noisy.stdout


def test_a_value_beneath_noise_is_said_to_be_one(tmp_path, rng):
    clean = torus(2, 2000, rng) @ np.linalg.qr(rng.normal(size=(20, 4)))[0].T
    np.save(tmp_path / "p.npy", clean + 0.05 * rng.normal(size=clean.shape))
    result = measured(tmp_path / "p.npy", "--estimator", "estimate")
    value, error, *_ = row_of("estimate", result)
    assert f"take estimate, {value:.2f} ± {error:.2f}" in result.stdout
    assert "beneath the noise, since the dimension depends on scale" in result.stdout


def test_rows_in_time_have_no_number_to_take_until_they_are_excluded(tmp_path, rng):
    noise = rng.normal(size=(1500, 3))
    rows = np.zeros_like(noise)
    for now in range(1, len(rows)):  # an autoregression, which forgets in 20 steps
        rows[now] = 0.95 * rows[now - 1] + noise[now]
    np.save(tmp_path / "p.npy", rows)
    words = ("--estimator", "twonn", "--estimator", "estimate")
    result = measured(tmp_path / "p.npy", *words)
    text = " ".join(result.stdout.split())
    assert "warning: the nearest neighbour of" in text
    assert "use --exclude, a number of rows or auto" in text
    assert "no number is recommended: rows are moments in time" in text
    excluded = measured(tmp_path / "p.npy", *words, "--exclude", "auto")
    value, error, _ = row_of("estimate", excluded)
    assert f"take estimate, {value:.2f} ± {error:.2f}" in excluded.stdout
    assert abs(value - 3) < SURE * error + 0.05 * 3
    assert "rows within" in excluded.stdout
    scales = parsed(tmp_path / "p.npy", "--estimator", "twonn", "--exclude", "auto")["scales"]
    assert all(abs(scale["dimension"] - 3) < 0.75 for scale in scales)
    refused = measured(tmp_path / "p.npy", "--exclude", "some")
    assert refused.exit_code == 2
    assert "--exclude takes a number of rows, 0 or more, or auto" in refused.stderr
