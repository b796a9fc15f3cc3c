"""The house stands: files say what they are, imports point down, and importing costs little."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent
FLOORS = [
    {"__init__"},
    {"arrays"},
    {"problem", "data", "read", "estimate", "spectrum", "rows"},
    {"covariance", "dimension", "theory"},
    {"noise", "store", "verdict"},
    {"dynamics", "track", "sweep", "plot", "report", "learn", "survey"},
    {"nets", "cli"},
    {"__main__"},  # the door: all it does is to call cli
]
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
GUESTS = {
    "torch": ["nets/", "read.py"],  # whose .pt files only torch can read
    "jax": [f"dynamics/{name}.py" for name in ("chains", "dense", "folds", "random", "resume")],
    "xarray": ["store.py", "track.py", "sweep.py"],
    "matplotlib": ["plot.py", "report.py", "__main__.py"],  # which draws one figure
    "sklearn": ["learn.py", "data/", "dimension/recommended.py"],
    "sympy": [],
}
FILES = sorted((HOUSE / "sgdnoise").rglob("*.py"))


def imported(path):
    """Dotted names of all that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.ImportFrom(level=0):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            case ast.ImportFrom():
                yield f"sgdnoise.{node.module}: a relative import"
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(name), *_]):
                yield name


def within(path):
    return path.relative_to(HOUSE / "sgdnoise").as_posix()


@pytest.mark.parametrize("path", FILES, ids=within)
def test_imports_point_down(path):
    here = within(path).removesuffix(".py").split("/")[0]
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("sgdnoise.")}
    for room in rooms - {here, "__version__"}:
        assert room in FLOOR, f"{room} is on no floor"
        assert FLOOR[room] < FLOOR[here], f"{here} reaches up to {room}"


@pytest.mark.parametrize("path", FILES, ids=within)
def test_guests_stay_in_their_rooms(path):
    for guest in {name.split(".")[0] for name in imported(path)} & GUESTS.keys():
        assert within(path).startswith(tuple(GUESTS[guest])), f"{guest} is not at home here"


@pytest.mark.parametrize("path", FILES, ids=within)
def test_a_file_opens_with_one_sentence(path):
    first = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
    assert path.read_text().startswith(('"""', 'r"""'))
    assert first[:1].isupper() or first.startswith("`"), first
    assert first.endswith((".", "?")), first
    assert ". " not in first, first


def loaded_by(modules):
    """What a fresh Python has loaded after importing these."""
    code = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=HOUSE, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "modules", ["sgdnoise", "sgdnoise.noise, sgdnoise.dimension, sgdnoise.theory._stationary"]
)
def test_importing_the_lower_floors_costs_no_guest(modules):
    assert not loaded_by(modules) & {*GUESTS, "sklearn"}


def test_a_submodule_is_there_when_asked_for_and_nothing_else_is():
    import sgdnoise

    assert twonn is not None
    assert {"dimension", "__version__"} <= set(dir(sgdnoise))
    with pytest.raises(AttributeError, match="'sgdnoise' has no attribute 'magic'"):
        _ = magic


def test_every_name_on_the_front_door_is_a_room():

    there = {path.relative_to(HOUSE / "sgdnoise").parts[0].removesuffix(".py") for path in FILES}
    assert set(__all__) <= there
