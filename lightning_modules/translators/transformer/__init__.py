"""The Transformer (Vaswani et al. 2017)."""

from lightning_modules.translators.transformer.model import Transformer as Model

__all__ = ["Model"]
