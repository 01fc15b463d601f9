"""Token-budget batches."""

import numpy as np
import torch

from core.processes import Process
from data import batching
from data.batching import BalancedLoader, TokenBudgetLoader, left_padded, padded
from data.tokenizer import PAD


def loader(**options: int) -> TokenBudgetLoader:
    lengths = np.random.default_rng(0).integers(1, 40, 500)
    return TokenBudgetLoader(lengths, lambda indices: indices.tolist(), 200, seed=3, **options)


def test_every_epoch_has_each_item_once_within_the_budget() -> None:
    batches = loader()
    first, second = list(batches), list(batches)
    for epoch in (first, second):
        assert sorted(i for b in epoch for i in b) == list(range(500))
        assert len(epoch) == len(batches)
        for b in epoch:
            assert max(batches.lengths[b]) * len(b) <= 200
    assert first != second
    assert list(loader()) == first


def test_a_batch_holds_hardly_any_padding() -> None:
    batches = loader()
    cells = sum(max(batches.lengths[b]) * len(b) for b in batches)
    assert batches.lengths.sum() / cells > 0.97


def test_one_long_source_does_not_pad_hundreds_of_short_ones() -> None:
    targets, sources = np.full(1000, 2), np.r_[np.full(990, 2), np.full(10, 100)]
    loader = TokenBudgetLoader(targets, lambda indices: indices, 1000, secondary=sources)
    batches = list(loader)
    assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
    assert all(sources[batch].max() * len(batch) <= batching.MAX_SOURCE_FACTOR * 1000 for batch in batches)
    assert len(batches) == 3  # two of the short ones, for 2 x 500 fit the budget


def test_it_continues_where_its_state_was_taken() -> None:
    whole = loader()
    expected = [list(whole), list(whole)]
    running = loader()
    list(running)
    epoch = iter(running)
    seen = [next(epoch) for _ in range(7)]
    resumed = loader()
    resumed.load_state_dict(running.state_dict())
    assert seen + list(resumed) == expected[1]


def test_it_can_be_stopped_after_its_length_as_lightning_does() -> None:
    batches = loader()
    first = [b for b, _ in zip(batches, range(len(batches)), strict=False)]
    assert sorted(i for b in first for i in b) == list(range(500))
    assert sorted(i for b in batches for i in b) == list(range(500))


def test_padding_on_either_side() -> None:
    assert padded([[5, 6], [7]]).tolist() == [[5, 6], [7, PAD]]
    tokens, mask = left_padded([[5, 6], [7]])
    assert (tokens.tolist(), mask.tolist()) == ([[5, 6], [PAD, 7]], [[1, 1], [0, 1]])
    assert padded([[]]).shape == torch.Size([1, 0])


def test_balanced_batches_resume_and_are_shared_between_processes() -> None:
    sizes = np.random.default_rng(0).integers(1, 30, 200)

    def loader(process: Process = batching.SINGLE) -> BalancedLoader:
        return BalancedLoader(sizes, lambda chosen: chosen.tolist(), 100, seed=3, process=process)

    whole = loader()
    epochs = [list(whole), list(whole)]
    for batches in epochs:
        assert sorted(i for batch in batches for i in batch) == list(range(200))
        assert all(sizes[batch].sum() <= 100 for batch in batches)
    assert len(whole) <= np.ceil(sizes.sum() / 100) * 1.1
    assert {frozenset(b) for b in epochs[0]}.isdisjoint(frozenset(b) for b in epochs[1])
    killed = loader()
    seen = [batch for batch, _ in zip(killed, range(4), strict=False)]
    resumed = loader()
    resumed.load_state_dict({"epoch": 0, "position": 4})
    assert seen + list(resumed) == epochs[0]
    for batch, first, second in zip(epochs[0], loader(Process(0, 2)), loader(Process(1, 2)), strict=True):
        assert [first, second] == ([batch[::2], batch[1::2]] if len(batch) > 1 else [batch, batch])


def test_an_item_above_the_budget_spoils_no_other_batch() -> None:
    loader = BalancedLoader(np.array([150, *[10] * 40]), list, 100, shuffle=False)
    assert sorted(map(len, loader.batches(0))) == [1, 10, 10, 10, 10]
