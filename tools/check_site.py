"""Checks the built site in out/site: links inside of it, public names, formulas and search."""

import html
import re
import sys
from importlib import import_module
from pathlib import Path

SITE = Path(__file__).parents[1] / "out" / "site"
HOMES = (
    *("core", "data", "dimension", "dynamics", "lab", "nets", "nets.models", "noise", "theory"),
    "sklearn",
)


def main() -> int:
    """Print what is wrong; 1 if anything is."""
    pages = {path.resolve(): path.read_text("utf-8") for path in SITE.rglob("*.html")}
    faults = [*broken_links(pages), *missing_names(pages), *raw_formulas(pages)]
    if "sgdnoise.theory" not in (SITE / "searchindex.js").read_text("utf-8"):
        faults.append("the search does not know sgdnoise.theory")
    print(*faults, f"{len(pages)} pages, {len(faults)} faults", sep="\n")
    return int(bool(faults))


def broken_links(pages: dict[Path, str]) -> list[str]:
    """Links to a file of the site, or to a place in a page, that does not exist."""
    places = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in pages.items()}
    faults = []
    for path, text in pages.items():
        for link in map(html.unescape, re.findall(r'(?:href|src)="([^"]+)"', text)):
            if re.match(r"[a-z]+:|//", link):
                continue
            file, _, place = link.partition("#")
            target = (path.parent / file.partition("?")[0]).resolve() if file else path
            known = place in places.get(target, {place}) or not place
            if not target.exists() or not known:
                faults.append(f"{path.relative_to(SITE.resolve())}: no {link}")
    return faults


def missing_names(pages: dict[Path, str]) -> list[str]:
    """Public functions and classes without an entry in the API, and entries that are not public."""
    places = set(re.findall(r'\bid="([^"]+)"', pages[(SITE / "api.html").resolve()]))
    faults = []
    for home in HOMES:
        module = import_module(f"sgdnoise.{home}")
        public = {f"sgdnoise.{home}.{name}" for name in module.__all__}
        called = {name for name in public if callable(getattr(module, name.rpartition(".")[2]))}
        listed = {place for place in places if place.rpartition(".")[0] == f"sgdnoise.{home}"}
        of_submodules = {place for place in listed if place.removeprefix("sgdnoise.") in HOMES}
        faults += [f"api.html: no {name}" for name in sorted(called - places)]
        faults += [f"api.html: {name} is not public" for name in listed - public - of_submodules]
    return faults


def raw_formulas(pages: dict[Path, str]) -> list[str]:
    """Pages that show the source of a formula as text, which no browser turns into a formula."""
    faults = []
    for path, text in pages.items():
        article = re.search(r"<article.*?</article>", text, flags=re.S)
        prose = re.sub(
            r"<pre.*?</pre>|<code.*?</code>", "", article[0] if article else "", flags=re.S
        )
        prose = re.sub(r'<(div|span) class="math.*?</\1>', "", prose, flags=re.S)
        if re.search(r"\\(?:frac|sigma|lambda|eta|begin|operatorname)\b|\$[^$<]+\$", prose):
            faults.append(f"{path.relative_to(SITE.resolve())}: a formula is shown as its source")
    return faults


if __name__ == "__main__":
    sys.exit(main())
