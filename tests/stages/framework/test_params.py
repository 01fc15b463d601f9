"""params.yaml: every mistake is named with its key and a remedy."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.errors import InputError
from stages.framework.params import Params, load_params

GROUPED = {"backbone": "language_models/small", "collection": "ours"}
WRONG = {
    "an unknown section": (
        lambda p: p.update(reward_modle={}),
        r"unknown key 'reward_modle' - did you mean 'reward_models'\?",
    ),
    "an unknown key": (
        lambda p: p["language_models"]["small"]["training"].update(lerning_rate=1),
        r"unknown key 'language_models\.small\.training\.lerning_rate' - did you mean 'learning_rate'\?",
    ),
    "a wrong type": (
        lambda p: p["tokenizer"]["bpe"].update(vocab_size="many"),
        r"tokenizer\.vocab_size: .*integer.* \(found 'many'\)",
    ),
    "an unknown architecture": (
        lambda p: p["pretraining"]["architectures"].update(transfromer={}),
        r"params\.yaml: pretraining\.architectures: unknown architecture 'transfromer' - did you mean 'transformer'\?",
    ),
    "a wrong key of an architecture": (
        lambda p: p["pretraining"]["architectures"].update(luong={"hiden_size": 3}),
        r"params\.yaml: pretraining\.architectures\.luong: unknown key 'hiden_size' - did you mean 'hidden_size'\?",
    ),
    "an unknown corpus": (
        lambda p: p.update(corpus={"multi30": {}}),
        r"params\.yaml: corpus: name: unknown corpus 'multi30' - did you mean 'multi30k'\?",
    ),
    "no corpus name": (
        lambda p: p.update(corpus={}),
        r"params\.yaml: corpus: one line expected, .* e\.g\. kjv_bbe: \{limit: 1000\}",
    ),
    "two tokenizers": (
        lambda p: p["tokenizer"].update(words={}),
        r"params\.yaml: tokenizer: one line expected, bpe or words",
    ),
    "a missing section": (
        lambda p: p.pop("encoding"),
        r"params\.yaml: the section tokenizer needs the section encoding, which is missing\n.*pretraining needs the section encoding",
    ),
    "a translator that answers and is not trained": (
        lambda p: p["responses"]["translators"].update(gru={}),
        r"params\.yaml: responses\.translators: there is no 'gru' in pretraining\.architectures",
    ),
    "a collection that is not there": (
        lambda p: p["reward_models"]["variants"]["grouped"].update(collection="our"),
        r"variants\.grouped\.collection: there is no 'our' in comparisons and reference_comparisons - did you mean 'ours'\?",
    ),
    "a backbone that is not there": (
        lambda p: p["reward_models"]["variants"]["grouped"].update(backbone="base_models/small"),
        r"variants\.grouped\.backbone: there is no 'base_models/small' in language_models and base_models",
    ),
    "a backbone that all have in common": (  # dvc reads it in each variant
        lambda p: p["reward_models"]["common"].update(backbone="base_models/smollm2"),
        r"reward_models\.common: unknown key 'backbone'",
    ),
    "one name for two collections": (
        lambda p: p.update(comparisons={"ours": {}}),
        r"'ours' is in comparisons and in reference_comparisons: rename one of them",
    ),
    "a base model that is not there": (
        lambda p: p["prefix_tuning"].update(base_model="gpt2"),
        r"prefix_tuning\.base_model: there is no 'gpt2' in base_models - known: smollm2",
    ),
    "a wrong key that reward models have in common": (
        lambda p: p["reward_models"]["common"]["training"].update(lerning_rate=1),
        r"params\.yaml: reward_models\.common: unknown key 'training\.lerning_rate' - did you mean 'learning_rate'\?",
    ),
    "a wrong value of a reward model": (
        lambda p: p["reward_models"]["variants"].update(grouped={**GROUPED, "loss": {"ties": "kept"}}),
        r"params\.yaml: reward_models\.variants\.grouped: loss\.ties: .*'dropped' or 'soft'.* \(found 'kept'\)",
    ),
    "the old name of a loss": (
        lambda p: p["reward_models"]["common"].update(loss={"loss": "pairwise"}),
        r"params\.yaml: reward_models\.common: key 'loss\.loss' is called 'loss_type' now",
    ),
    "a fold that is not there": (
        lambda p: p["reward_models"]["variants"].update(
            grouped={
                "backbone": "language_models/small",
                "collection": "ours",
                "held_out_labelers": {"fold": 6, "folds": 5},
            }
        ),
        r"fold 6 of 5 folds",
    ),
    "a field that rankings have not": (
        lambda p: p["reward_models"]["common"].update(template="{prompt} {labeler}"),
        r"must contain \{prompt\} or \{reference\} and no other field",
    ),
    "a template without its place": (
        lambda p: p["prefix_tuning"]["task"].update(template="x"),
        r"the template must contain \{source\}",
    ),
    "another field in the template": (
        lambda p: p["prefix_tuning"]["task"].update(template="{source} {x}"),
        r"no other field",
    ),
    "an unknown long-lag task": (
        lambda p: p["long_lag"]["tasks"].update(x={"task": "2d"}),
        r"params\.yaml: long_lag\.tasks\.x: unknown task '2d'",
    ),
    "a wrong setting of a long-lag task": (
        lambda p: p["long_lag"]["tasks"].update(x={"task": "2c", "settings": {"lag": 3}}),
        r"unknown key 'lag'",
    ),
    "steps for the variant that has none": (
        lambda p: p["long_lag"]["tasks"].update(x={"task": "2a", "variant": "forget_gate"}),
        r"'forget_gate' learns a sequence at a time: settings: \{update: sequence\}",
    ),
    "a wrong change of a long-lag task's network": (
        lambda p: p["long_lag"]["tasks"].update(x={"task": "3a", "settings": {"network": {"block": 3}}}),
        r"params\.yaml: long_lag\.tasks\.x\.3a: unknown key 'network\.block' - did you mean 'blocks'\?",
    ),
    "a change of the network that the variant does not have": (
        lambda p: p["long_lag"]["tasks"].update(
            x={"task": "3a", "variant": "forget_gate", "settings": {"network": {"g": [-1, 1], "initial": 0.2}}}
        ),
        r"x: settings: network: g: no use in the variant 'forget_gate'",
    ),
    "a wrong key in a mapping": (
        lambda p: p["prefix_tuning"]["variants"]["prefix"].update(num_virtual_tokns=3),
        r"unknown key 'prefix_tuning\.variants\.prefix\.num_virtual_tokns' - did you mean 'num_virtual_tokens'\?",
    ),
    "a name that is no name": (
        lambda p: p["prefix_tuning"]["variants"].update({"a; touch x": {"kind": "none"}}),
        r"pattern",
    ),
    "heads that do not divide": (
        lambda p: p["pretraining"]["architectures"]["transformer"].update(num_heads=5),
        r"must be a multiple of num_heads",
    ),
    "no epochs": (
        lambda p: p["language_models"]["small"]["training"].update(num_train_epochs=0),
        r"epochs: .*greater than or equal to 1",
    ),
    "no beam": (lambda p: p["evaluation"]["decoding"].update(beam_size=0), r"beam_size: .*greater than or equal to 1"),
    "shares that leave nothing": (
        lambda p: p["corpus"]["kjv_bbe"].update(prompts=0.9, test=0.2),
        r"the rest is for training",
    ),
    "no slots": (lambda p: p["pipeline"].update(slots=0), r"pipeline\.slots: .*greater than or equal to 1"),
}


@pytest.fixture
def params() -> Any:
    return yaml.safe_load((Path(__file__).parents[3] / "params.yaml").read_text())


def test_the_projects_own_are_valid() -> None:
    assert isinstance(load_params(Path(__file__).parents[3] / "params.yaml"), Params)


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_named(case: str, params: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    change, message = WRONG[case]
    change(params)
    Path("params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(InputError, match=message):
        load_params()


def test_reading_it_loads_no_torch() -> None:
    """Every stage and every `gradus run` reads all of it, most of them without any use for tensors."""
    code = (
        "import sys, stages.framework.stage; from stages.framework.params import load_params; load_params()\n"
        "print(*{'torch', 'transformers', 'datasets', 'pandas', 'mlflow'} & sys.modules.keys())"
    )
    command, project = [sys.executable, "-c", code], Path(__file__).parents[3]
    assert subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout == "\n"


def test_a_file_that_is_missing_or_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [1")
    with pytest.raises(InputError, match="not YAML"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("- 1")
    with pytest.raises(InputError, match="sections expected, found list"):
        load_params(tmp_path / "params.yaml")


def test_reward_models_inherit_what_they_have_in_common(params: Any) -> None:
    params["reward_models"]["variants"]["other"] = {
        "backbone": "base_models/smollm2",
        "collection": "ours",
        "mode": "shuffled_pairs",
        "training": {"num_train_epochs": 7},
    }
    reward_models = Params.model_validate(params).reward_models
    assert reward_models
    variants = reward_models.variants
    assert variants["other"].training.num_train_epochs == 7
    assert variants["other"].training.learning_rate == variants["grouped"].training.learning_rate == 0.0003
    assert (variants["other"].mode, variants["grouped"].mode) == ("shuffled_pairs", "grouped")


def test_a_training_that_names_some_keys_keeps_the_defaults_of_its_section(params: Any) -> None:
    params["prefix_tuning"]["variants"] = {"p": {"kind": "prefix", "training": {"num_train_epochs": 2}}}
    params["language_models"]["small"]["training"] = {"num_train_epochs": 2}
    checked = Params.model_validate(params)
    assert checked.prefix_tuning
    prefix, model = checked.prefix_tuning.variants["p"].training, checked.language_models["small"].training
    assert (prefix.num_train_epochs, prefix.optimizer, prefix.learning_rate, prefix.lr_scheduler_type) == (
        2,
        "adamw",
        5e-5,
        "linear",
    )
    assert (prefix.betas, prefix.batch_tokens) == ((0.9, 0.999), 512)
    assert (model.num_train_epochs, model.optimizer, model.learning_rate, model.lr_scheduler_type) == (
        2,
        "adamw",
        2e-3,
        "cosine",
    )
    assert (model.warmup_steps, model.weight_decay) == (50, 0.01)
