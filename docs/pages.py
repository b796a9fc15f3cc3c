"""The pages that are made when the site is built: studies, modules of theory, and benchmarks.

They are written from what the repository knows: findings, results, docstrings, derived equations,
tests and measured times.  The folders docs/studies, docs/theory and docs/benchmarks are not
committed.
"""

import ast
import importlib
import inspect
import re
import shutil
from pathlib import Path

import xarray as xr

from benchmarks.record import Record
from benchmarks.render import page
from derivations.catalogue import entries

ROOT = Path(__file__).parents[1]
EQUATIONS = ROOT / "paper" / "generated" / "equations.tex"
TABLE = re.compile(r"<!-- table -->\n(.*?)<!-- /table -->", re.DOTALL)
FORMULA = re.compile(r"\\begin\{equation\}\\label\{(.*?)\}\n(.*?)\n\\end\{equation\}", re.DOTALL)


def write_pages(docs: Path) -> None:
    """Write all generated pages below a folder of documents."""
    made = {"studies": study_pages(), "theory": theory_pages(), "benchmarks": benchmark_pages()}
    for name, pages in made.items():
        folder = docs / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for stem, (text, pictures) in pages.items():
            (folder / f"{stem}.md").write_text(text, encoding="utf-8")
            for source, target in pictures.items():
                shutil.copy(source, folder / target)


def study_pages() -> dict[str, tuple[str, dict[Path, str]]]:
    """Of each study: its findings with the figures, the table folded, and how to run it."""
    pages, listed = {}, []
    for study in sorted((ROOT / "simulations").glob("*/result.nc")):
        folder, name = study.parent, study.parent.name
        title, summary, rest = (folder / "findings.md").read_text("utf-8").split("\n\n", 2)
        figures = {picture: f"{name}_{picture.name}" for picture in sorted(folder.glob("*.png"))}
        shown = "\n\n".join(f"![{p.stem} of {name}]({target})" for p, target in figures.items())
        rest = TABLE.sub(lambda found: _folded(found[1]), _without_links(rest))
        text = f"{title}\n\n{_without_links(summary)}\n\n{shown}\n\n{rest}\n\n{_origin(folder)}"
        pages[name] = text, figures
        listed.append((name, title.removeprefix("# ")))
    toctree = "\n".join(f"{heading} <{name}>" for name, heading in listed)
    index = "# Studies\n\nEach study asks one question and answers it from a committed result.\n\n"
    pages["index"] = index + f"```{{toctree}}\n:maxdepth: 1\n{toctree}\n```\n", {}
    return pages


def _folded(table: str) -> str:
    return f"<details><summary>All claims</summary>\n\n{table}\n</details>\n"


def _without_links(text: str) -> str:
    """Links to files of the repository as plain words, since the site has no such files."""
    return re.sub(r"\[([^\]]+)\]\((?!http)[^)]*\)", r"\1", text)


def _origin(folder: Path) -> str:
    """How to run a study, and where and when its result was made."""
    lines = ["## How to run it", "", f"```sh\nmake study NAME={folder.name}\n```", ""]
    tree = xr.open_datatree(folder / "result.nc")
    origins = [node.attrs for node in tree.subtree if "commit" in node.attrs]
    tree.close()
    if origins:
        first = origins[0]
        date, commit = str(first["date"])[:10], str(first["commit"])[:7]
        lines.append(f"The result was made on {date} from commit {commit} on {first['device']}.")
    return "\n".join(lines)


def theory_pages() -> dict[str, tuple[str, dict[Path, str]]]:
    """Of each module of theory: what it assumes, its functions, and its derived equations."""
    formulas = dict(FORMULA.findall(EQUATIONS.read_text("utf-8")))
    derived = entries()
    pages, listed = {}, []
    for file in sorted((ROOT / "sgdnoise" / "theory").glob("_[a-z]*.py")):
        module = importlib.import_module(f"sgdnoise.theory.{file.stem}")
        names = _public_names(file)
        if not names or not module.__doc__:
            continue
        heading, _, body = inspect.cleandoc(module.__doc__).partition("\n")
        own = [
            e
            for e in derived
            if e.computed_by.split(".")[2:3] and e.computed_by.split(".")[2] in names
        ]
        parts = [
            f"# {heading.rstrip('.')}",
            "```text\n" + body.strip() + "\n```",
            _functions(names),
        ]
        parts += [_equation(entry, formulas) for entry in own if entry.label in formulas]
        pages[file.stem.strip("_")] = "\n\n".join(parts) + "\n", {}
        listed.append((file.stem.strip("_"), heading.rstrip(".")))
    toctree = "\n".join(f"{heading} <{stem}>" for stem, heading in listed)
    index = (
        "# Theory\n\nA page for each module of `sgdnoise.theory`: assumptions, functions, derived "
        "equations, and the tests and studies that hold them against simulation.\n\n"
    )
    pages["index"] = index + f"```{{toctree}}\n:maxdepth: 1\n{toctree}\n```\n", {}
    return pages


def benchmark_pages() -> dict[str, tuple[str, dict[Path, str]]]:
    """One page: the tables of the committed rounds, and how to measure them again."""
    again = "## How to run it\n\n```sh\nmake bench\n```\n"
    return {"index": (page(Record(ROOT / "benchmarks" / "rounds.json")) + "\n" + again, {})}


def _public_names(file: Path) -> list[str]:
    """The functions and classes that a module adds to sgdnoise.theory."""
    theory = importlib.import_module("sgdnoise.theory")
    tree = ast.parse(file.read_text("utf-8"))
    kinds = ast.FunctionDef, ast.ClassDef
    return [n.name for n in tree.body if isinstance(n, kinds) and n.name in theory.__all__]


def _functions(names: list[str]) -> str:
    rows = ["| name | what it gives | used in the studies |", "| --- | --- | --- |"]
    for name in names:
        value = getattr(importlib.import_module("sgdnoise.theory"), name)
        sentence = inspect.cleandoc(value.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        sentence = sentence.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")
        rows.append(f"| `{name}` | {sentence} | {_studies_with(name) or '-'} |")
    return "\n".join(rows)


def _equation(entry, formulas) -> str:
    """An equation with its caption, its function, its derivation, and the tests that name it."""
    caption = inspect.cleandoc(entry.derive.__doc__).splitlines()[0]
    module, name = entry.derive.__module__, entry.derive.__name__
    tests = ", ".join(f"`{path}`" for path in _tests_with(module.rpartition(".")[2], name))
    formula = formulas[entry.label].strip()
    return (
        f"{caption}\n\n```{{math}}\n{formula}\n```\n\n`{entry.label}`, computed by "
        f"`{entry.computed_by}`, derived in `{module}.{name}`, tested in {tests or 'no test'}."
    )


def _studies_with(name: str) -> str:
    """The studies whose code imports a function of theory, as links."""
    pattern = re.compile(rf"from sgdnoise\.theory import (\([^)]*|.*)\b{name}\b")
    found = {
        path.parent.name
        for path in (ROOT / "simulations").glob("*/*.py")
        if (path.parent / "result.nc").exists()
        and not path.name.startswith("test_")
        and pattern.search(path.read_text("utf-8"))
    }
    return ", ".join(f"[{study}](../studies/{study}.md)" for study in sorted(found))


def _tests_with(module: str, name: str) -> list[str]:
    """The tests that compare a derivation with code."""
    pattern = re.compile(rf"\b{name}\b")
    return [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "derivations" in (text := path.read_text("utf-8"))
        and re.search(rf"\b{module}\b", text)
        and pattern.search(text)
    ]
