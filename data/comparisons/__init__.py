"""Comparison collections: what a ranking is, how it is stored, imported and exported."""
