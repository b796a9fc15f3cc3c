"""Cached work is keyed by the code that produced it, and by no other code."""

import shutil
from pathlib import Path

import pytest

import sgdnoise
from sgdnoise.lab._sweep import _code

HOME = Path(sgdnoise.__file__).parents[1]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of the package and of two studies, which may be edited."""
    skip = shutil.ignore_patterns("__pycache__", "*.npz", "*.nc", "*.png", "*.pdf")
    shutil.copytree(HOME / "sgdnoise", tmp_path / "sgdnoise", ignore=skip)
    for name in ("stationary", "tails", "linear_networks"):
        folder = Path("simulations") / name
        shutil.copytree(HOME / folder, tmp_path / folder, ignore=skip)
    shutil.copy(HOME / "simulations" / "_linear_networks.py", tmp_path / "simulations")
    monkeypatch.setattr(_code, "PACKAGE", tmp_path / "sgdnoise")
    _code._public.cache_clear()
    yield tmp_path
    _code._public.cache_clear()


def key(checkout, study="stationary"):
    return _code._hash(checkout / "simulations" / study / "study.py")


def edit(path):
    path.write_text(f"{path.read_text()}\nEDITED = True\n")


@pytest.mark.parametrize(
    "file",
    [
        "simulations/stationary/claims.py",
        "simulations/stationary/figure.py",
        "simulations/stationary/findings.md",
        "simulations/tails/study.py",
        "sgdnoise/lab/_study.py",
        "sgdnoise/lab/_verdict.py",
        "sgdnoise/dimension/_danco.py",
        "sgdnoise/theory/_escape.py",
        "sgdnoise/__main__.py",
    ],
)
def test_editing_a_claim_a_caption_or_another_study_discards_nothing(file, checkout):
    before = key(checkout)
    edit(checkout / file)
    assert key(checkout) == before


@pytest.mark.parametrize(
    "file",
    [
        "simulations/stationary/study.py",
        "simulations/stationary/_cases.py",
        "sgdnoise/theory/_stationary.py",
        "sgdnoise/dynamics/_momentum.py",
        "sgdnoise/noise/_draws.py",
        "sgdnoise/dynamics/_chains/_random.py",
        "sgdnoise/core/_arrays.py",
    ],
)
def test_editing_what_a_run_uses_discards_its_points(file, checkout):
    before = key(checkout)
    edit(checkout / file)
    assert key(checkout) != before


def test_code_that_the_parts_of_a_group_share_counts(checkout):
    before = key(checkout, "linear_networks/decay")
    edit(checkout / "simulations" / "linear_networks" / "deep" / "study.py")
    assert key(checkout, "linear_networks/decay") == before
    edit(checkout / "simulations" / "_linear_networks.py")
    assert key(checkout, "linear_networks/decay") != before


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("from sgdnoise.theory import kramers_time", "theory/_escape"),
        ("from sgdnoise.theory._escape import kramers_time", "theory/_escape"),
        ("from sgdnoise import theory\ntheory.kramers_time()", "theory/_escape"),
        ("import sgdnoise.theory._escape", "theory/_escape"),
        ("from sgdnoise import theory as t\nprint(t.kramers_time, t)", "theory/_collapse"),
        ("from sgdnoise import sgd", "dynamics/_sgd"),
        ("from sgdnoise import heavy_ball as rule", "dynamics/_momentum"),
        ("def f():\n    from sgdnoise.nets import models\n    return models", "nets/models"),
        ("from sgdnoise import estimate_dimension", "dimension/_trained/_model"),
    ],
)
def test_a_public_name_leads_to_the_module_that_defines_it(line, module, checkout):
    file = checkout / "script.py"
    file.write_text(line)
    names = {path.relative_to(checkout).as_posix() for path in _code.dependencies(file)}
    assert f"sgdnoise/{module}.py" in names
    assert ("sgdnoise/theory/_escape.py" in names) == ("theory" in line or "estimate" in line)
    assert not any(name.startswith("sgdnoise/lab") for name in names)


def test_data_beside_a_module_count(checkout):
    file = checkout / "script.py"
    file.write_text("from sgdnoise.dimension._trained._model import estimate")
    before = _code._hash(file)
    (checkout / "sgdnoise" / "dimension" / "_trained" / "new.npz").write_bytes(b"data")
    assert _code._hash(file) != before


def test_a_file_that_does_not_exist_has_the_empty_hash(tmp_path):
    assert _code.code_hash(tmp_path / "nothing.py") == ""
