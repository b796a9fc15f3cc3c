"""Many chains at once, in jax."""
