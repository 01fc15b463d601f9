"""Global and local attention with input feeding (Luong et al. 2015)."""

from lightning_modules.translators.luong.model import Luong as Model

__all__ = ["Model"]
