"""Training of a language model's uppermost layers alone."""

from torch import nn
from transformers import PreTrainedModel

from core.errors import InputError


def train_only_top_layers(model: PreTrainedModel, layers: int, *, output: bool) -> None:
    """Freezes all but the `layers` uppermost layers.

    Args:
        output: whether what follows the layers is trained too: the final norm and the head. The fine-tuning that prefix-tuning is compared
            with (Li & Liang 2021, 5.2, FT-TOP2) freezes them; a reward model needs them, as its scalar head is new.

    Raises:
        InputError: the model has fewer layers.
    """
    stack = next(m for m in model.base_model.modules() if isinstance(m, nn.ModuleList))
    if layers > len(stack):
        raise InputError(f"num_top_layers: {layers}, but the model has {len(stack)} layers.")
    frozen = [model] if not output else [stack, *(m for m in model.modules() if isinstance(m, nn.Embedding))]
    for module in frozen:
        module.requires_grad_(False)
    stack[len(stack) - layers :].requires_grad_(True)
