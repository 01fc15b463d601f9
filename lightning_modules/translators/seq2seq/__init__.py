"""Sequence to sequence learning with deep LSTMs (Sutskever et al. 2014)."""

from lightning_modules.translators.seq2seq.model import Seq2Seq as Model

__all__ = ["Model"]
