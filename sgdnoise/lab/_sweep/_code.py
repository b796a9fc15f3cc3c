"""The code that produces a result: a module, and the modules that it imports, found statically.

What counts is the module of the run function, the private modules (`_NAME.py`) of its study, and
the modules of this package, but for `sgdnoise.lab`, which stores results and does not make them.
Claims, figures and texts do not count, so that editing them discards no finished work.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[2]  # whose name is that of the package


@cache
def code_hash(file: Path) -> str:
    """A hash of a module and of all modules behind it; the hash of nothing where it is no file.

    It is computed once in a process: of the code that runs, not of code that is edited meanwhile.
    """
    return _hash(file)


def _hash(file):
    if not file.is_file():
        return ""
    contents = [path.read_bytes() for path in dependencies(file)]
    for folder in {path.parent for path in dependencies(file) if path.is_relative_to(PACKAGE)}:
        contents += [data.read_bytes() for data in folder.glob("*.npz")]  # that a module may read
    digests = sorted(hashlib.sha256(content).hexdigest() for content in contents)
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def dependencies(file: Path) -> set[Path]:
    """The file itself and the files of all modules that it imports and that count."""
    reached: set[Path] = set()
    waiting = [file.resolve()]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting += [module for module in _imported(path) if module not in reached]
    return reached


def _imported(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _counted(alias.name, path)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names = _used_of(tree, alias) if _is_subpackage(node.module, alias.name) else [None]
                for name in names:
                    dotted = [node.module, alias.name, *([] if name is None else [name])]
                    yield from _counted(".".join(dotted), path)


def _is_subpackage(module, name):
    return (PACKAGE.parent / module.replace(".", "/") / name / "__init__.py").is_file()


def _used_of(tree, alias):
    """The attributes of an imported subpackage that a module uses, or None for all of it."""
    local = alias.asname or alias.name
    uses = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == local]
    attributes = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == local
    ]
    return sorted(set(attributes)) if len(attributes) == len(uses) else [None]


def _counted(dotted, importer):
    """The files behind a dotted name that count, from the module that imports it."""
    top, *names = dotted.split(".")
    if top == PACKAGE.name and names:
        yield from _of_package(names)
    elif root := next((parent for parent in importer.parents if parent.name == top), None):
        module = _module_file(root, names)
        if module is not None and module.name.startswith("_") and module.name != "__init__.py":
            yield module.resolve()


def _module_file(folder, names):
    """The file of the longest leading part of `names` that is a module in this folder."""
    for place, name in enumerate(names):
        if (folder / f"{name}.py").is_file():
            return folder / f"{name}.py"
        if not (folder / name).is_dir():
            return None if place == 0 else folder / "__init__.py"
        folder = folder / name
    return None


def _of_package(names):
    """The files behind a name of the package, which may be one that it shows of a subpackage."""
    home = names[0]
    if not _exists(PACKAGE, home):
        shown = (init.parent.name for init in sorted(PACKAGE.glob("*/__init__.py")))
        home = next((sub for sub in shown if names[0] in _public(PACKAGE / sub)), None)
        names = [home, *names]
    if home is None:  # of unknown origin: all of the package, to be safe
        homes = [sub for sub in PACKAGE.iterdir() if sub.is_dir() and sub.name != "lab"]
        for sub in homes if not names[1].startswith("__") else ():
            yield from _in_folder(sub, [])
    elif home != "lab":
        yield from _in_folder(PACKAGE / home, names[1:])


def _in_folder(folder, names):
    """The files behind a name in a folder of the package."""
    if (file := folder.with_suffix(".py")).is_file():
        yield file.resolve()
    elif names and _exists(folder, names[0]):
        yield from _in_folder(folder / names[0], names[1:])
    elif names and names[0] in (public := _public(folder)):
        yield public[names[0]].resolve()
    else:  # all of it, or a name whose origin is not known
        yield from (path.resolve() for path in sorted(folder.rglob("*.py")))


def _exists(folder, name):
    return (folder / f"{name}.py").is_file() or (folder / name).is_dir()


@cache
def _public(folder):
    """Public name -> the file that defines it, as the `__init__` of a subpackage imports it."""
    init = folder / "__init__.py"
    if not init.is_file():
        return {}
    origins: dict[str, Path] = {}
    for node in ast.walk(ast.parse(init.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sgdnoise."):
            file = PACKAGE.parent / f"{node.module.replace('.', '/')}.py"
            if file.is_file():
                origins |= {alias.asname or alias.name: file for alias in node.names}
    return origins
