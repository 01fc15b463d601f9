"""Training with Lightning inside a stage."""
