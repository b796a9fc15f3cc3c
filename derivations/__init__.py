"""The paper's formulas, derived in sympy; nothing here knows the numerical code."""
