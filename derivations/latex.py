"""The derived equations as LaTeX, one labelled display each under the sentence that says it."""

from pathlib import Path

import sympy as sp

from derivations.catalogue import SUBJECTS, entries

__all__ = ["COMMITTED", "text"]

LONG, WIDE, ORDER = 260, 170, "rev-lex"  # letters of LaTeX, of a display and of a line
COMMITTED = Path(__file__).parents[1] / "paper" / "generated" / "equations.tex"


def text():
    """What the paper includes: `paper/generated/equations.tex`."""
    return "% Written by `python -m derivations`.\n" + "".join(map(_section, SUBJECTS))


def _section(subject):
    displays = "".join(map(_display, entries([subject])))
    return f"\n\\paragraph{{{_caption(subject)}}}\n{displays}"


def _display(entry):
    body, label = _body(entry.derive()), f"\\label{{{entry.label}}}"
    display = f"\\begin{{equation}}{label}\n  {body}\n\\end{{equation}}\n"
    return f"{_caption(entry.derive)}\n{display}"


def _body(equation):
    """On one line, or a long sum on several."""
    whole = sp.latex(equation, order=ORDER)
    if len(whole) < LONG or not equation.rhs.is_Add:
        return whole
    lines = [""]
    for term in equation.rhs.as_ordered_terms(ORDER):
        told = sp.latex(term, order=ORDER)
        told = told if told.startswith("-") or not lines[0] else f"+ {told}"
        if lines[-1] and len(lines[-1]) + len(told) > WIDE:
            lines.append("")
        lines[-1] += f"{told} "
    rows = " \\\\\n  & ".join(lines)
    return f"\\begin{{split}}\n  {sp.latex(equation.lhs)} = {{}}& {rows}\n  \\end{{split}}"


def _caption(described):
    """The first line of a docstring, which holds words alone."""
    return described.__doc__.splitlines()[0]
