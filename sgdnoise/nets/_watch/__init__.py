"""Watching somebody else's training."""
