"""The LSTM of 1997 and its long-lag trials."""
