"""What prefixes need of a base model, tried on the model itself: its positions, its output layer, its embeddings."""

from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from core.errors import InputError, NotFiniteError
from lightning_modules.shared_prompt.reading import ordinary_evaluation


def max_positions(base: PreTrainedModel) -> int | None:
    """Positions that the base has; None where its config names no limit."""
    config = base.config.get_text_config()
    positions: int | None = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)
    return positions


def max_text_length(base: PreTrainedModel, virtual_tokens: int) -> int:
    """Tokens of prompt and target together that the base has positions for, beside the virtual tokens.

    Raises:
        InputError: the virtual tokens leave no room.
    """
    positions = max_positions(base) or 1_000_000
    if positions - virtual_tokens < 2:
        raise InputError(
            f"num_virtual_tokens: {virtual_tokens} virtual tokens leave no room for text in the base's context of {positions:,}."
        )
    return positions - virtual_tokens


def check_output_layer(base: PreTrainedModel) -> None:
    """Checks that the base's logits are one linear layer of its last states. The loss is taken from these, for targets alone.

    Raises:
        InputError: the logits are scaled, capped or of other states.
        NotFiniteError: they are not numbers.
    """
    ids, layer = torch.tensor([[1, 2]], device=base.device), base.get_output_embeddings()
    weight: Any = getattr(layer, "weight", None)
    with ordinary_evaluation(base):
        expected = base(ids, use_cache=False).logits
        states = base.base_model(ids, use_cache=False).last_hidden_state
        linear = weight is not None and states.shape[-1] == weight.shape[1]
        linear = linear and torch.allclose(layer(states), expected, atol=1e-3)
    if expected.isnan().any():
        raise NotFiniteError
    if not linear:
        raise InputError(
            f"{base.config.model_type}: its scores are more than a linear layer of its last states. Choose another base."
        )


def input_embeddings(base: PreTrainedModel) -> Tensor:
    """(V, d) input embeddings."""
    return cast(Tensor, base.get_input_embeddings().weight)
