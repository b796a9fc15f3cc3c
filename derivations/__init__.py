"""The paper's formulas, derived in sympy; nothing here knows the numerical code."""

__all__ = ["same"]


def same(expression, label: str) -> bool:
    """Whether a sympy expression equals the right-hand side of a derived equation.

    label: such as "eq:stationary"; `python -m derivations eq:stationary` prints its symbols.
    Symbols are matched by their names, whatever is assumed of them.
    Raises ValueError for an equation that does not exist.

    Example:
        >>> import sympy as sp
        >>> eta, h = sp.symbols("eta h")
        >>> same(2 / (2 - eta * h), "eq:stationary-ratio")
        True
        >>> same(2 / (2 + eta * h), "eq:stationary-ratio")
        False
    """
    import sympy as sp

    from derivations import algebra
    from derivations.catalogue import entry_of

    derived = entry_of(label).derive().rhs
    named = {str(symbol): symbol for symbol in derived.free_symbols}
    expression = sp.sympify(expression)
    given = {s: named[str(s)] for s in expression.free_symbols if str(s) in named}
    return algebra.same(expression.subs(given), derived)
