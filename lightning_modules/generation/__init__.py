"""Continuations by a language model, also after a prefix: greedy search, beam search and sampling."""
