"""A training trains on everything, in the precision that it is asked for, and says when it diverged."""

import re
from pathlib import Path

import pytest
import torch

from core.errors import DivergedError, InputError
from stages.framework.stage import Stage
from tests.stages.training.small_trainings import TRAINING, loaders, train


def test_every_epoch_trains_on_all_pairs(stage: Stage) -> None:
    _, learned = train(stage)
    assert [e["epoch"] for e in learned["curve"]] == [1, 2, 3]
    loader, _ = loaders()
    assert learned["tokens"] == 3 * int(loader.lengths.sum())
    assert learned["curve"][-1]["step"] == 3 * len(loader)
    assert learned["curve"][-1]["validation_perplexity"] < learned["curve"][0]["validation_perplexity"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks what a CPU does")
def test_a_cpu_trains_in_bf16_where_it_has_it_and_is_asked(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    single, _ = train(stage)
    stage.when_done[0]()  # on a busy machine it has left a checkpoint to continue from
    asked, learned = train(stage, config=TRAINING.model_copy(update={"precision": "bf16-mixed"}))
    has_it = bool(re.search(r"\b(avx512_bf16|amx_bf16)\b", Path("/proc/cpuinfo").read_text()))
    assert ("not on this device" in capsys.readouterr().out) == (not has_it)
    equal = [torch.equal(asked[name], value) for name, value in single.items() if value.is_floating_point()]
    assert not any(equal) if has_it else all(equal)
    assert learned["precision"] == ("bf16-mixed" if has_it else "32-true")
    assert all(value.dtype != torch.bfloat16 for value in asked.values())


def test_a_training_that_diverged_is_an_error(stage: Stage) -> None:
    with pytest.raises(
        DivergedError, match=r"training diverged: its validation loss is nan\. Lower training\.learning_rate"
    ) as error:
        train(stage, diverges_at=1)
    assert not isinstance(error.value, InputError)  # nothing that was given is wrong


def test_a_loss_that_is_merely_huge_ends_a_training_at_the_next_validation(stage: Stage) -> None:
    steps, config = len(loaders()[0]), TRAINING.model_copy(update={"learning_rate": 1e-9})
    with pytest.raises(DivergedError, match=r"over 10 times 3\.\d+, where it began \(training\.max_loss_ratio\)"):
        train(stage, config=config, diverges_at=1, diverges_by=3e3)
    _, learned = train(stage, config=config.model_copy(update={"max_loss_ratio": None}), diverges_at=1, diverges_by=3e3)
    assert learned["updates"] == steps * config.num_train_epochs
