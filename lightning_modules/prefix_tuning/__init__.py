"""Prefix-tuning (Li & Liang 2021), its variants and what it is compared with."""
