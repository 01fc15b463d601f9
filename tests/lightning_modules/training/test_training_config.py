"""A key of a training that its optimizer or schedule does not read is an error, not a wish without effect."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.config import validated
from core.errors import InputError
from data.tokenizer import load_tokenizer
from lightning_modules.training.config import TrainingConfig
from lightning_modules.translators.luong.config import LuongTrainingConfig
from model_io.translator import load_translator
from stages.configs.reward_models import RewardModelsConfig

FIXTURES = Path(__file__).parents[2] / "fixtures/format_1"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"lr_scheduler_type": "linear", "min_lr_rate": 0.2},
            "min_lr_rate is read with lr_scheduler_type cosine only, and this one is linear: leave it out",
        ),
        ({"min_lr_rate": 0.2}, "this one is constant"),
        ({"lr_scheduler_type": "cosine", "halve_after": 3}, "halve_after is read with lr_scheduler_type halving only"),
        ({"lr_scheduler_type": "noam", "halve_every": 0.5}, "halve_every is read with lr_scheduler_type halving only"),
        ({"optimizer": "sgd", "betas": (0.8, 0.9)}, "betas is read with optimizer adam and adamw only"),
        ({"optimizer": "adadelta", "betas": (0.8, 0.9)}, "this one is adadelta"),
    ],
)
def test_a_key_that_nothing_reads_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig.model_validate(keys)


def test_a_key_with_its_default_is_no_wish() -> None:
    """A config of a subclass has its own, and a saved config names all."""
    luong = LuongTrainingConfig.model_validate({"lr_scheduler_type": "cosine", "optimizer": "adam"})
    assert luong.halve_after == 8
    assert LuongTrainingConfig.model_validate(luong.model_dump()) == luong


def test_a_variant_takes_over_what_its_own_optimizer_and_schedule_read() -> None:
    learns = {"backbone": "language_models/small", "collection": "ours"}
    common = {"training": {"min_lr_rate": 0.3, "betas": [0.8, 0.9], "learning_rate": 0.02}}
    other = {"training": {"lr_scheduler_type": "linear", "optimizer": "sgd"}}
    values: dict[str, Any] = {
        "split": {},
        "common": common,
        "variants": {"as_common": learns, "other": {**learns, **other}},
    }
    config = RewardModelsConfig.model_validate(values).variants
    as_common, changed = config["as_common"].training, config["other"].training
    assert (as_common.min_lr_rate, as_common.betas, as_common.learning_rate) == (0.3, (0.8, 0.9), 0.02)
    assert (changed.min_lr_rate, changed.betas, changed.learning_rate) == (0.1, (0.9, 0.95), 0.02)
    wrong = {**learns, "training": {"lr_scheduler_type": "linear", "min_lr_rate": 0.3}}
    with pytest.raises(InputError, match=r"reward_models\.variants\.x: training: .*min_lr_rate is read with"):
        validated(RewardModelsConfig, {**values, "variants": {"x": wrong}}, "params.yaml: reward_models")


def test_a_model_that_was_saved_with_such_a_key_is_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "gru"
    shutil.copytree(FIXTURES / "translators/gru", folder)
    config = json.loads((folder / "config.json").read_text())
    config["settings"]["training"] |= {
        "schedule": "constant",
        "final_share": 0.7,
        "optimizer": "sgd",
        "betas": [0.1, 0.2],
    }
    without_seal = {key: value for key, value in config.items() if key not in ("files", "config_hash")}
    (folder / "config.json").write_text(json.dumps(without_seal))
    model, tokenizer, _ = load_translator(folder)
    assert model.config.training.lr_scheduler_type == "constant"  # type: ignore[attr-defined]
    assert tokenizer.get_vocab_size() == load_tokenizer(folder).get_vocab_size()
