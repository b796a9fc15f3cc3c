"""Sweeps: one run for each point of a grid, on any executor, as one Dataset."""
