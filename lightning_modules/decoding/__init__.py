"""From a model to texts: beam search, sampling, ensembles."""
