"""The RNN Encoder-Decoder (Cho et al. 2014)."""
