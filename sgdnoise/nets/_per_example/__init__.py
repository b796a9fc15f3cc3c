"""Per-example gradients of any network as an operator."""
