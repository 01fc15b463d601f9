"""RNNsearch, the first attention (Bahdanau et al. 2014)."""

from lightning_modules.translators.bahdanau.model import Bahdanau as Model

__all__ = ["Model"]
