"""What a language model writes, also after a prefix: greedy search, beam search and sampling."""
