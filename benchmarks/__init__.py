"""Time of our calls against the same by hand and by other packages: `python -m benchmarks`."""
