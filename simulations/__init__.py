"""Studies: each a GRID, a SMALL one, a run(**point) -> Dataset, and its verdicts."""
