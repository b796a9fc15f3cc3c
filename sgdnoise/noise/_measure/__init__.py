"""Measures of gradient noise."""
