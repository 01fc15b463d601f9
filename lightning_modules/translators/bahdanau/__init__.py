"""RNNsearch, the first attention (Bahdanau et al. 2014)."""
