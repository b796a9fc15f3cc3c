"""The settings of regression on fresh batches."""

KESTEN = ((0.5, 1), (0.8, 1), (1.1, 1), (1.0, 2), (1.4, 4))  # rate, batch
