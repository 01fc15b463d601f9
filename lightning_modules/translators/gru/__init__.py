"""The RNN Encoder-Decoder (Cho et al. 2014)."""

from lightning_modules.translators.gru.model import GRU as Model

__all__ = ["Model"]
