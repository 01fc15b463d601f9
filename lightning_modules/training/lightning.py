"""PyTorch Lightning (`pl`) and its metrics (`torchmetrics`), loaded without what only plots and other metrics need.

torchmetrics loads scipy, matplotlib and transformers where they are installed: two seconds of CPU at the start of each training, for
nothing that is used here. While Lightning is imported, they count as not installed.
"""

from unittest import mock

from lightning_utilities.core import imports

_UNUSED = ("scipy", "matplotlib", "transformers")
_is_met, _is_installed = imports.RequirementCache.__bool__, imports.package_available


def _is_met_and_used(cache: imports.RequirementCache) -> bool:
    if (cache.requirement or "").startswith(_UNUSED):
        cache.available, cache.message = False, f"{cache.requirement} is left out by {__name__}"
    return _is_met(cache)


with (
    mock.patch.object(imports.RequirementCache, "__bool__", _is_met_and_used),
    mock.patch.object(imports, "package_available", lambda name: name not in _UNUSED and _is_installed(name)),
):
    import pytorch_lightning as pl
    import torchmetrics

__all__ = ["pl", "torchmetrics"]
