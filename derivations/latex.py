"""The derived equations as LaTeX, one labelled display each under the sentence that says it."""

from pathlib import Path

import sympy as sp

from derivations.catalogue import SUBJECTS, entries

__all__ = ["COMMITTED", "text"]

COMMITTED = Path(__file__).parents[1] / "paper" / "generated" / "equations.tex"


def text():
    """What the paper includes: `paper/generated/equations.tex`."""
    return "% Written by `python -m derivations`.\n" + "".join(map(_section, SUBJECTS))


def _section(subject):
    displays = "".join(map(_display, entries([subject])))
    return f"\n\\paragraph{{{_caption(subject)}}}\n{displays}"


def _display(entry):
    body = sp.latex(entry.derive(), order="rev-lex")
    return (
        f"{_caption(entry.derive)}\n"
        f"\\begin{{equation}}\\label{{{entry.label}}}\n  {body}\n\\end{{equation}}\n"
    )


def _caption(described):
    """The first line of a docstring, which holds words alone."""
    return described.__doc__.splitlines()[0]
