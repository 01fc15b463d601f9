"""Training and decoding translators beside JoeyNMT and Hugging Face: `python -m benchmarks.translation`; `__main__.py` says more."""
