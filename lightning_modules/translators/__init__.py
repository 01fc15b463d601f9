"""The encoder-decoder architectures, one folder each; `base.py` says what a translator is."""
