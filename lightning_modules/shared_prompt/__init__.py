"""A prompt is read once for all its continuations."""
