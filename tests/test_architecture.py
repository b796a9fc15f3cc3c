"""Imports point down the layers, optional libraries stay where they belong, files are readable."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each layer may import from the layers above it in this list, and from itself.
LAYERS = (
    ("sgdnoise._extras",),
    ("sgdnoise._public",),
    ("sgdnoise.core",),
    ("sgdnoise.data", "sgdnoise.theory"),
    ("sgdnoise.dimension",),
    ("sgdnoise.noise",),
    ("sgdnoise.dynamics",),
    ("sgdnoise.nets", "sgdnoise.sklearn"),
    ("sgdnoise.lab",),
    ("sgdnoise.__main__",),
    ("simulations", "tools", "benchmarks"),
    ("tests",),
)
APART = ("derivations", "paper")  # they import nothing of the package, and only tests import them
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
# Where an optional library may be imported: paths begin with one of these.
LIBRARIES = {
    "torch": ("sgdnoise/nets/", "sgdnoise/data/_read.py", "sgdnoise/lab/_session.py"),
    "jax": (
        "sgdnoise/dynamics/_chains/",
        "sgdnoise/dynamics/_mlp.py",
        "sgdnoise/dynamics/_pytree.py",
        "sgdnoise/lab/",
    ),
    "xarray": ("sgdnoise/lab/",),
    "matplotlib": ("sgdnoise/lab/", "sgdnoise/__main__.py"),
    "typer": ("sgdnoise/lab/", "sgdnoise/__main__.py"),
    "sklearn": ("sgdnoise/data/", "sgdnoise/dimension/", "sgdnoise/sklearn.py"),
    "pooch": ("sgdnoise/data/_download.py",),
    "sympy": (),
}
FOLDERS = ("sgdnoise", "simulations", "derivations", "tools", "benchmarks", "paper")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
PACKAGE = [path for path in FILES if path.is_relative_to(ROOT / "sgdnoise")]


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def imports(path):
    """Dotted names of everything that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.ImportFrom(level=0):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            case ast.ImportFrom():
                yield f"{name_of(path)}: a relative import"
            case ast.Import():
                yield from (alias.name for alias in node.names)


def room_of(dotted):
    """The layer's entry to which a module belongs, or None for other libraries."""
    parts = dotted.split(".")
    if parts[0] == "sgdnoise":
        return ".".join(parts[:2]) if len(parts) > 1 else None
    return parts[0] if parts[0] in (*FOLDERS, "tests") else None


def own_room(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:2]) if parts[0] == "sgdnoise" else parts[0]


def rooms_imported(path):
    rooms = {room_of(dotted) for dotted in imports(path)} - {None, own_room(path)}
    public = {f"sgdnoise.{name}" for name in ("__version__",)}
    return rooms - public


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_down_the_layers(path):
    own = own_room(path)
    if own == "sgdnoise.__init__" or path.name.startswith("test_"):
        return
    for room in rooms_imported(path):
        if own in APART or room in APART:
            raise AssertionError(f"{name_of(path)} imports {room}")
        assert room in LEVEL, f"{room} is in no layer"
        assert LEVEL[room] < LEVEL[own], f"{name_of(path)} imports {room}, which is above it"


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_optional_libraries_stay_where_they_belong(path):
    for library in {dotted.split(".")[0] for dotted in imports(path)} & LIBRARIES.keys():
        assert name_of(path).startswith(LIBRARIES[library]), f"{library} does not belong here"


STUDIES = sorted((ROOT / "simulations").glob("*/**/*.py"))


@pytest.mark.parametrize("path", STUDIES, ids=name_of)
def test_studies_do_not_import_each_other(path):
    own = path.relative_to(ROOT).parts[1]
    others = {dotted.split(".")[1] for dotted in imports(path) if dotted.startswith("simulations.")}
    assert all(name == own or name.startswith("_") for name in others), others


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_opens_with_one_sentence(path):
    first = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
    assert path.read_text().startswith(('"""', 'r"""'))
    assert first[:1].isupper() or first.startswith("`"), first
    assert first.endswith((".", "?", ":")), first


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_modules_are_private_or_said_to_be_public(path):
    parts = path.relative_to(ROOT / "sgdnoise").with_suffix("").parts
    public = {("nets", "models"), ("sklearn",), ("__main__",), ("__init__",)}
    public |= {("nets", "lightning"), ("nets", "transformers")}
    inside = parts[1:] if len(parts) > 1 else parts
    assert parts in public or inside[-1] == "__init__" or inside[0].startswith("_"), name_of(path)


def layers_table():
    """The layers as the table of docs/architecture.md."""
    rows = ["| layer | may import optional libraries |", "|---|---|"]
    for rooms in LAYERS:
        for room in rooms:
            folder = room.replace(".", "/")
            allowed = [
                name
                for name, places in LIBRARIES.items()
                if any(place.startswith(folder) for place in places)
            ]
            allowed = allowed if room.startswith("sgdnoise") else ["all"]
            rows.append(f"| `{room}` | {', '.join(allowed) or '-'} |")
    return "\n".join(rows)


def test_the_architecture_page_shows_these_layers():
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert layers_table() in page, f"put this table into docs/architecture.md:\n{layers_table()}"
