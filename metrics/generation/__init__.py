"""Texts that describe an input, scored as papers on the E2E challenge do."""
