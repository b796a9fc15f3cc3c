"""Our speed against what one would write by hand, in one run, as ratios."""
