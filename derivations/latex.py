"""The derived equations as LaTeX, one labelled display each under its caption."""

from pathlib import Path

import sympy as sp

from derivations.catalogue import SUBJECTS, entries

__all__ = ["COMMITTED", "text"]

MAX_DISPLAY, MAX_LINE = 260, 170  # characters of LaTeX
ORDER = "rev-lex"
COMMITTED = Path(__file__).parents[1] / "paper" / "generated" / "equations.tex"


def text():
    """The text of `paper/generated/equations.tex`, which the paper includes."""
    return "% Written by `python -m derivations`.\n" + "".join(map(_section, SUBJECTS))


def _section(subject):
    displays = "".join(map(_display, entries([subject])))
    return f"\n\\paragraph{{{_caption(subject)}}}\n{displays}"


def _display(entry):
    formula, label = body(entry.derive()), f"\\label{{{entry.label}}}"
    display = f"\\begin{{equation}}{label}\n  {formula}\n\\end{{equation}}\n"
    return f"{_caption(entry.derive)}\n{display}"


def body(equation):
    """An equation on one line, or a long sum on several."""
    display = sp.latex(equation, order=ORDER)
    if len(display) < MAX_DISPLAY or not equation.rhs.is_Add:
        return display
    lines = [""]
    for term in equation.rhs.as_ordered_terms(ORDER):
        summand = sp.latex(term, order=ORDER)
        summand = summand if summand.startswith("-") or not lines[0] else f"+ {summand}"
        if lines[-1] and len(lines[-1]) + len(summand) > MAX_LINE:
            lines.append("")
        lines[-1] += f"{summand} "
    rows = " \\\\\n  & ".join(lines)
    return f"\\begin{{split}}\n  {sp.latex(equation.lhs)} = {{}}& {rows}\n  \\end{{split}}"


def _caption(described):
    """The first line of a docstring, which contains words only."""
    return described.__doc__.splitlines()[0]
