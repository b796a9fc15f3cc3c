"""Studies, one in each folder: see `python -m simulations list`."""
