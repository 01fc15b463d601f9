"""Prefix-tuning beside PEFT: `python -m benchmarks.prefix_tuning`; `__main__.py` says more."""
