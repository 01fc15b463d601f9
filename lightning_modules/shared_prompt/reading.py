"""How a model of `transformers` reads shared prompts: each prompt once for all its continuations.

The states are those of separate rows, a prompt and a continuation in each, but for the order of floating-point sums. Prompts without
continuations are rows of their own.

`shared_prompt_attention` is the only owner of the state that this needs: the model's attention. Every model works whose attention goes
through `AttentionInterface` and whose positions come from `position_ids`, such as Llama, GPT-2 and Qwen. Others are refused.

Trained keys and values (`Prefixes`) reach attention beside the model's own arguments. Gradient checkpointing would drop a key/value cache.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from core.errors import InputError
from lightning_modules.shared_prompt.attention import AttentionContext, attend
from lightning_modules.shared_prompt.row import Prefixes, SharedPromptRow, shared_prompt_row

ATTENTION = "shared_prompts"
TRIAL = [([1, 2, 3], [[4], [5, 6]]), ([7], [[8, 9, 2]])]  # token ids of two prompts and their continuations
_checked: WeakSet[PreTrainedModel] = WeakSet()  # models that can read shared prompts
_ordinary: WeakKeyDictionary[PreTrainedModel, str] = WeakKeyDictionary()  # their attention outside the context


@contextmanager
def shared_prompt_attention(model: PreTrainedModel) -> Iterator[None]:
    """Inside, `model` reads shared prompts and nothing else; afterwards it has the attention that it had before.

    Contexts nest. `shared_prompt_states` enters one by itself. Training holds one around forward and backward passes, because gradient checkpointing
    runs layers again in the backward pass.

    Raises:
        InputError: see `check_shared_prompts`.
    """
    check_shared_prompts(model)
    if model.config._attn_implementation != ATTENTION:
        _ordinary[model] = model.config._attn_implementation
    with switched_attention(model, ATTENTION):
        yield


@contextmanager
def ordinary_attention(model: PreTrainedModel) -> Iterator[None]:
    """Inside, `model` reads ordinary rows, also within `shared_prompt_attention`."""
    current = model.config._attn_implementation
    with switched_attention(model, _ordinary.get(model, "sdpa") if current == ATTENTION else current):
        yield


@contextmanager
def ordinary_evaluation(model: PreTrainedModel) -> Iterator[None]:
    """`ordinary_attention` in evaluation mode and without gradients; afterwards every module has the mode that it had before."""
    training = [module for module in model.modules() if module.training]
    with ordinary_attention(model), torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            for module in training:
                module.training = True


@contextmanager
def switched_attention(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Inside, `model` has the attention registered as `name`; afterwards it has the one before."""
    before = model.config._attn_implementation
    if before == name:
        yield
        return
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def shared_prompt_states(
    model: PreTrainedModel,
    row: SharedPromptRow,
    prefixes: Prefixes | None = None,
    embedded: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """(N, d) last hidden states of a row under the model's backbone; `options` go to its forward.

    `embedded` (1, N, d) takes the place of the tokens' embeddings.

    Raises:
        InputError: see `check_shared_prompts`.
    """
    with shared_prompt_attention(model):
        return _states(model, row, prefixes, embedded, **options)


def _states(
    model: PreTrainedModel,
    row: SharedPromptRow,
    prefixes: Prefixes | None = None,
    embedded: Tensor | None = None,
    **options: Any,
) -> Tensor:
    context = AttentionContext(row, prefixes)
    inputs = {"input_ids": row.tokens} if embedded is None else {"inputs_embeds": embedded}
    positions = row.positions if prefixes is None else prefixes.moved_positions(row)
    output = model.base_model(**inputs, position_ids=positions, attention_context=context, use_cache=False, **options)
    if not context.masks:
        raise RuntimeError(f"{type(model).__name__} read the row without the attention of shared prompts")
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


def check_shared_prompts(model: PreTrainedModel) -> None:
    """Checks that `model` can read shared prompts. A model is checked once.

    It reads two small prompts shared and as separate rows. Nothing else proves that its attention is causal, that its positions are the
    ones it is given, and that nothing else mixes the tokens of a row.

    Raises:
        InputError: its attention differs from layer to layer, is cut to a window or does not go through the interface, its positions
            depend on the longest text, or its states differ.
    """
    if model in _checked:
        return
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or []) - {"full_attention"}
    if kinds or (getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)):
        kind = ", ".join(sorted(kinds)) or "a sliding window"
        raise InputError(
            f"{config.model_type}: its attention has {kind}; prompts can be shared in full attention only."
        )
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
    if rope in ("dynamic", "longrope"):
        raise InputError(
            f"{config.model_type}: its {rope} positions depend on the longest text that is read with a text."
        )
    AttentionInterface.register(ATTENTION, attend)
    if problem := _problem(model):
        raise InputError(f"{config.model_type}: {problem}. Choose another backbone.")
    _checked.add(model)


def _problem(model: PreTrainedModel) -> str | None:
    """Reads TRIAL in separate rows and with shared prompts; says what is wrong with the latter."""
    vocab_size: int = cast(Any, model.get_input_embeddings()).weight.shape[0]
    texts = [([i % vocab_size for i in p], [[i % vocab_size for i in c] for c in cs]) for p, cs in TRIAL]
    rows = [torch.tensor([prompt + c], device=model.device) for prompt, cs in texts for c in cs]
    row = shared_prompt_row(texts).to(model.device)
    try:
        with ordinary_evaluation(model):
            separate = torch.stack([model.base_model(r, use_cache=False).last_hidden_state[0, -1] for r in rows])
            with switched_attention(model, ATTENTION):
                if model.config._attn_implementation != ATTENTION:  # `transformers` only logs that it kept the old one
                    return "its attention is its own and cannot share prompts"
                shared = _states(model, row)[row.ends()]
    except torch.OutOfMemoryError:
        raise
    except (
        AttributeError,
        RuntimeError,
        TypeError,
        ValueError,
    ):  # no `position_ids`, no `attention_context`, or no use of them
        return "it cannot read shared prompts"
    # Rounding only, with room to spare: a model that looks ahead, or counts its own positions, is far off.
    tolerance = 1e-3 if separate.dtype == torch.float32 else 5e-2
    if (shared - separate).abs().max() <= tolerance * separate.abs().max():
        return None
    return "its states change when prompts are shared: its attention looks ahead, or its positions or its attention are its own"
