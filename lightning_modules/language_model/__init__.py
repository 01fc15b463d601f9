"""Causal language models: config, training, generation."""
