"""Sphinx builds the pages of this folder and the API of every public name."""

import re
import sys
from pathlib import Path

import sgdnoise

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from pages import write_pages  # noqa: E402 - found on the path above

project = "sgdnoise"
author = "The sgdnoise authors"
version = release = sgdnoise.__version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # for readers without a network
    "sphinx.ext.viewcode",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["README.md", "tutorials/*"]
# The tutorials run when the site is built; their pages, scripts and notebooks are in docs/gallery.
sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "gallery",
    "filename_pattern": "/",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "run_stale_examples": True,
    "write_computation_times": False,
    "show_signature": False,
}
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_title = f"sgdnoise {version}"
autodoc_member_order = "groupwise"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "imported-members": True}
myst_heading_anchors = 3
# Pages link to files of the repository that are no pages, such as benchmarks and studies.
suppress_warnings = ["myst.xref_missing", "myst.header"]


def _as_literal_block(app, what, name, obj, options, lines):  # noqa: ARG001 - sphinx's signature
    """Show a docstring after its first sentence as it is written: its formulas are plain text."""
    first = lines.index("") if "" in lines else len(lines)
    lines[:first] = [
        re.sub(r"([*|_\\])", r"\\\1", line.replace("`", "``")) for line in lines[:first]
    ]
    body = lines[first:]
    if any(line.strip() for line in body):
        lines[first:] = ["", "::", "", *("    " + line for line in body)]


def _linked_to_pages(app, name, source):
    """Links to the folder of a study, or to its findings, lead to its page, where it has one."""

    def of_the_site(link):
        page = Path(app.srcdir, "studies", f"{link[1]}.md")
        return f"({'../' * name.count('/')}studies/{link[1]}.md)" if page.exists() else link[0]

    source[0] = re.sub(r"\(\.\./simulations/(\w+)(?:/findings\.md)?\)", of_the_site, source[0])


def setup(app):
    """Write the generated pages, and connect the rules for links and docstrings."""
    write_pages(Path(__file__).parent)
    app.connect("source-read", _linked_to_pages)
    app.connect("autodoc-process-docstring", _as_literal_block)
