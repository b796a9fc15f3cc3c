"""The trained estimator of dimension: its features, its model, its prediction."""
