"""Prefixes of encoder-decoders: this project's Transformer, and BART's and T5's kinds of `transformers`."""

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedModel, T5Config, T5ForConditionalGeneration

from core.errors import InputError
from data.batching import padded
from data.tokenizer import BEGIN, END
from lightning_modules.decoding.translation import DecodingConfig, translate
from lightning_modules.encoder_decoder_prefix import pretrained
from lightning_modules.encoder_decoder_prefix.translator import (
    PARTS,
    EncoderDecoderPrefix,
    PrefixedTransformer,
    TransformerPrefixTuningModule,
    transformer_activations,
    transformer_shapes,
)
from lightning_modules.prefix_tuning.projection import PrefixConfig
from lightning_modules.training.config import TrainingConfig
from lightning_modules.translators.transformer.model import Attention, Transformer, TransformerConfig

WORDS = torch.tensor([5, 6, 7])
SETTINGS = PrefixConfig(num_virtual_tokens=3, projection_input_size=6, encoder_hidden_size=10)
SOURCES = [[8, 9, 10, 11, END], [12, 13, END], [14, END]]
TARGETS = [[BEGIN, 9, 10], [BEGIN, 11, 12, 13, 14], [BEGIN]]


@pytest.fixture(params=["post", "pre"])
def base(request: pytest.FixtureRequest) -> Transformer:
    torch.manual_seed(0)
    norm: Literal["post", "pre"] = request.param
    settings = TransformerConfig(num_layers=2, hidden_size=16, ff_size=24, num_heads=4, dropout=0.3, layer_norm=norm)
    return Transformer(settings, 20).eval().requires_grad_(False)


def naive_attention(attention: Attention, y: Tensor, memory: Tensor, may_see: Tensor, trained: Any = None) -> Tensor:
    keys, values = attention.keys_values(memory)
    if trained is not None:
        keys, values = (
            torch.cat([learned[None], read], 2) for learned, read in zip(trained, (keys, values), strict=True)
        )
    scores = attention.queries(y) @ keys.transpose(2, 3) / math.sqrt(keys.shape[-1])
    return attention.merge(scores.masked_fill(~may_see, -torch.inf).softmax(-1) @ values)


def naive_features(
    base: Transformer, source: Tensor, target: Tensor, words: Tensor | None, trained: dict[str, Any] | None
) -> Tensor:
    """(T, d) of one sentence: read after words that see themselves alone, or with trained keys and values."""
    length = 3
    source, target = (text if words is None else torch.cat([words, text]) for text in (source, target))
    first = 0 if trained is None else length
    in_words = 0 if words is None else length

    def blocks(rows: int, columns: int, causal: bool) -> Tensor:
        visible = torch.ones(rows, columns, dtype=torch.bool)
        visible[:in_words, in_words:] = False
        visible = visible.tril() if causal else visible
        return visible if trained is None else torch.cat([torch.ones(rows, length, dtype=torch.bool), visible], 1)

    def of(part: str, i: int) -> Any:
        return trained and trained[part][i]

    x, (s, t) = base.embed(source[None], first), (len(source), len(target))
    for i, layer in enumerate(base.encoder):
        self_attention = partial(
            naive_attention, layer.attention, may_see=blocks(s, s, False), trained=of("encoder", i)
        )
        x = layer.residual(0, x, lambda y, attend=self_attention: attend(y, y))
        x = layer.residual(1, x, layer.feed_forward)
    memory = base.encoder_norm(x)
    x = base.embed(target[None], first)
    for i, layer in enumerate(base.decoder):
        self_attention = partial(naive_attention, layer.attention, may_see=blocks(t, t, True), trained=of("decoder", i))
        cross = partial(
            naive_attention, layer.cross, memory=memory, may_see=blocks(t, s, False), trained=of("cross", i)
        )
        x = layer.residual(0, x, lambda y, attend=self_attention: attend(y, y))
        x = layer.residual(2, x, cross)
        x = layer.residual(1, x, layer.feed_forward)
    return base.decoder_norm(x)[0, in_words:]


@pytest.mark.parametrize("mlp", [True, False])
def test_at_step_0_it_equals_reading_the_words_first(base: Transformer, mlp: bool) -> None:
    settings = SETTINGS.model_copy(update={"prefix_projection": mlp})
    prefix = EncoderDecoderPrefix(transformer_shapes(base), settings, transformer_activations(base, WORDS))
    logits = PrefixedTransformer(base, prefix)(padded(SOURCES), padded(TARGETS))
    plain = base(padded(SOURCES), padded(TARGETS))
    for i, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        expected = naive_features(base, torch.tensor(source), torch.tensor(target), WORDS, None)
        torch.testing.assert_close(logits[i, : len(target)], expected, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(plain[i, : len(target)], expected, atol=1e-3)


def test_features_and_gradients_are_those_of_naive_concatenation(base: Transformer) -> None:
    prefix = EncoderDecoderPrefix(transformer_shapes(base), SETTINGS)
    rows = [
        naive_features(base, torch.tensor(s), torch.tensor(t), None, prefix.key_values())
        for s, t in zip(SOURCES, TARGETS, strict=True)
    ]
    weight = [torch.randn_like(row) for row in rows]
    sum((row * w).sum() for row, w in zip(rows, weight, strict=True)).backward()  # type: ignore[union-attr]
    expected = {name: p.grad.clone() for name, p in prefix.named_parameters() if p.grad is not None}
    assert {name.split(".")[1] for name in expected} == set(PARTS)
    prefix.zero_grad()
    logits = PrefixedTransformer(base, prefix)(padded(SOURCES), padded(TARGETS))
    for i, row in enumerate(rows):
        torch.testing.assert_close(logits[i, : len(row)], row, rtol=1e-5, atol=1e-5)
    sum((logits[i, : len(w)] * w).sum() for i, w in enumerate(weight)).backward()  # type: ignore[union-attr]
    for name, p in prefix.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-4, atol=1e-5)


def test_step_by_step_it_decodes_what_it_decodes_at_once(base: Transformer) -> None:
    prefix = EncoderDecoderPrefix(transformer_shapes(base), SETTINGS, transformer_activations(base, WORDS))
    model = PrefixedTransformer(base, prefix).eval()
    source, target = padded(SOURCES), torch.tensor([[BEGIN, 9, 10, 11]] * 3)
    expected = model.decode(model.encode(source), target)
    memory = model.encode(source)
    state = model.start(memory, 1)
    for t in range(target.shape[1]):
        features, attention, state = model.step(memory, state, target[:, t])
        torch.testing.assert_close(features, expected[:, t], rtol=1e-5, atol=1e-5)
        assert attention is not None
        assert attention.shape == source.shape
    settings = DecodingConfig(method="beam", beam_size=3, extra_tokens=3)
    together = dict(translate(model, [s[:-1] for s in SOURCES], settings))
    for i, source_tokens in enumerate(SOURCES):
        ((_, alone),) = translate(model, [source_tokens[:-1]], settings)
        assert [h.tokens for h in together[i]] == [h.tokens for h in alone]


def test_training_lowers_the_loss_and_leaves_the_transformer_as_it_was(base: Transformer) -> None:
    before = {k: v.clone() for k, v in base.state_dict().items()}
    prefix = EncoderDecoderPrefix(transformer_shapes(base), SETTINGS, transformer_activations(base, WORDS))
    module = TransformerPrefixTuningModule(base, prefix, TrainingConfig(), 1)
    assert all(name.startswith("model.parts.") for name in module.state_dict() if "validation" not in name)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    batch = {"source": padded(SOURCES), "target": padded([[*t, END] for t in TARGETS])}
    losses = []
    for _ in range(30):
        loss, _ = module.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(torch.equal(v, before[k]) for k, v in base.state_dict().items())


SIZES: dict[str, Any] = {"vocab_size": 20, "hidden_size": 16, "pad_token_id": 0, "eos_token_id": END}
MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "bart": lambda: BartForConditionalGeneration(
        BartConfig(
            **SIZES, encoder_layers=2, decoder_layers=3, encoder_attention_heads=4, decoder_attention_heads=2,
            encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=32, bos_token_id=BEGIN,
            decoder_start_token_id=BEGIN, forced_eos_token_id=None, init_std=0.2,
        )
    ),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(**SIZES, d_kv=6, d_ff=24, num_layers=2, num_heads=3, decoder_start_token_id=BEGIN, initializer_factor=1.0)
    ),
}  # fmt: skip


@pytest.fixture(params=MODELS)
def hosted(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = MODELS[request.param]().eval().requires_grad_(False)
    return model


def read(model: PreTrainedModel, sources: list[list[int]], targets: list[list[int]]) -> Tensor:
    source = padded(sources)
    states: Tensor = model(
        input_ids=source, attention_mask=(source != 0).long(), decoder_input_ids=padded(targets), use_cache=False
    ).logits
    return states


def test_bart_at_step_0_equals_reading_the_words_first() -> None:
    torch.manual_seed(0)
    model = MODELS["bart"]().eval()
    encoder, decoder = model.get_encoder(), model.get_decoder()
    initial = pretrained.activations(model, WORDS)

    def embedded(stack: Any, text: list[int]) -> Tensor:
        """Words, then the text at positions of its own: BART itself adds those of one text, which are taken away here."""
        both = torch.cat([WORDS, torch.tensor(text)])
        position = stack.embed_positions
        places = position(both[None])[0] if position(both[None]).dim() == 3 else position(both[None])
        positions = torch.cat([places[: len(WORDS)], places[: len(text)]])
        embeddings: Tensor = stack.embed_tokens(both[None]) + positions - places
        return embeddings

    def blocks(rows: int, columns: int, causal: bool) -> Tensor:
        seen = torch.ones(rows, columns, dtype=torch.bool)
        seen[: len(WORDS), len(WORDS) :] = False
        return torch.zeros(1, 1, rows, columns).masked_fill(~(seen.tril() if causal else seen), -torch.inf)

    expected = []
    for source, target in zip(SOURCES, TARGETS, strict=True):
        s, t = len(source) + 3, len(target) + 3
        memory = encoder(inputs_embeds=embedded(encoder, source), attention_mask=blocks(s, s, False)).last_hidden_state
        states = decoder(
            inputs_embeds=embedded(decoder, target), attention_mask=blocks(t, t, True),
            encoder_hidden_states=memory, encoder_attention_mask=blocks(t, s, False), use_cache=False,
        ).last_hidden_state  # fmt: skip
        expected.append(model.lm_head(states[0, 3:]) + model.final_logits_bias)
    prefix = EncoderDecoderPrefix(pretrained.shapes(model), SETTINGS, initial)
    with pretrained.prefix_attention(model, prefix):
        logits = read(model, SOURCES, TARGETS)
    for i, row in enumerate(expected):
        torch.testing.assert_close(logits[i, : len(row)], row, rtol=1e-5, atol=1e-5)


def test_keys_and_values_come_before_those_of_every_attention(
    hosted: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the model's own eager attention over keys and values that are put together by hand."""
    prefix = EncoderDecoderPrefix(pretrained.shapes(hosted), SETTINGS)
    with pretrained.prefix_attention(hosted, prefix):
        logits = read(hosted, SOURCES, TARGETS)
    (logits[0, 0].sum() + logits[1, 3].sum()).backward()
    expected = {name: p.grad.clone() for name, p in prefix.named_parameters() if p.grad is not None}
    assert {name.split(".")[1] for name in expected} == set(PARTS)

    def by_hand(
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, position_bias: Any = None, **given: Any
    ) -> Any:
        keys, values = (
            torch.cat([torch.stack([prefix] * len(key)), x], 2)
            for prefix, x in zip(module.trained, (key, value), strict=True)
        )
        scores = query @ keys.transpose(2, 3) * given["scaling"]
        for added in (mask, position_bias):
            if added is not None:
                scores[..., 3:] = scores[..., 3:] + added
        return (scores.softmax(-1) @ values).transpose(1, 2).contiguous(), None

    prefix.zero_grad()
    monkeypatch.setattr(pretrained, "prefixed_attention", by_hand)
    with pretrained.prefix_attention(hosted, prefix):
        naive = read(hosted, SOURCES, TARGETS)
    (naive[0, 0].sum() + naive[1, 3].sum()).backward()
    for i, target in enumerate(TARGETS):
        torch.testing.assert_close(logits[i, : len(target)], naive[i, : len(target)], rtol=1e-5, atol=1e-5)
    for name, p in prefix.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-4, atol=1e-5)


def test_rows_are_what_they_are_alone_and_the_base_is_given_back(hosted: PreTrainedModel) -> None:
    plain = read(hosted, SOURCES, TARGETS)
    initial = pretrained.activations(hosted, WORDS)
    prefix = EncoderDecoderPrefix(pretrained.shapes(hosted), SETTINGS, initial).eval()
    for part, flat in prefix.prompt_embeddings().items():
        torch.testing.assert_close(flat, initial[part], rtol=1e-5, atol=1e-5)
    with pretrained.prefix_attention(hosted, prefix):
        together = read(hosted, SOURCES, TARGETS)
        for i, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
            alone = read(hosted, [source], [target])[0]
            torch.testing.assert_close(together[i, : len(target)], alone, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(together, plain, atol=1e-3)
    assert torch.equal(read(hosted, SOURCES, TARGETS), plain)


def test_contexts_nest_and_end_with_an_exception(hosted: PreTrainedModel) -> None:
    outer, inner = (EncoderDecoderPrefix(pretrained.shapes(hosted), SETTINGS).eval() for _ in range(2))
    plain = read(hosted, SOURCES, TARGETS)
    with pretrained.prefix_attention(hosted, outer):
        expected = read(hosted, SOURCES, TARGETS)
        with pytest.raises(KeyError), pretrained.prefix_attention(hosted, inner):
            assert not torch.equal(read(hosted, SOURCES, TARGETS), expected)
            raise KeyError
        assert torch.equal(read(hosted, SOURCES, TARGETS), expected)
    assert torch.equal(read(hosted, SOURCES, TARGETS), plain)


def test_a_base_in_use_stays_as_it_was(hosted: PreTrainedModel) -> None:
    hosted.set_attn_implementation("eager")
    expected = pretrained.activations(hosted.eval(), WORDS)
    for part, flat in pretrained.activations(hosted.train(), WORDS).items():
        torch.testing.assert_close(flat, expected[part], rtol=0, atol=0)  # without the base's dropout
    assert hosted.training
    with pretrained.prefix_attention(hosted, EncoderDecoderPrefix(pretrained.shapes(hosted), SETTINGS)):
        pass
    assert hosted.config._attn_implementation == "eager"
    copy.deepcopy(hosted)  # nothing of a prefix's graph is left in it


def test_generation_with_cached_keys_is_the_argmax_of_the_whole_text(hosted: PreTrainedModel) -> None:
    prefix = EncoderDecoderPrefix(pretrained.shapes(hosted), SETTINGS).eval()
    source = torch.tensor([SOURCES[0]])
    text = [BEGIN]
    with pretrained.prefix_attention(hosted, prefix):
        for _ in range(5):
            text.append(int(read(hosted, [SOURCES[0]], [text])[0, -1].argmax()))
            if text[-1] == END:
                break
        written = hosted.generate(source, max_new_tokens=5, do_sample=False, num_beams=1)[0].tolist()  # type: ignore[operator]
        assert written[: len(text)] == text
        assert hosted.generate(source, max_new_tokens=5, num_beams=3).shape[0] == 1  # type: ignore[operator]


def test_a_model_without_encoder_is_refused() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    with pytest.raises(InputError, match="gpt2: no encoder-decoder"):
        pretrained.shapes(GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2)))
