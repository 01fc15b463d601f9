"""From raw text to batches: corpora, tokenizer, encoded sets, comparison collections. Knows nothing of models."""
