"""Prefix-tuning of encoder-decoders: our translators, and pretrained ones of `transformers`."""
