"""Sequence to sequence learning with deep LSTMs (Sutskever et al. 2014)."""
