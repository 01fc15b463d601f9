"""docs/reference/ says what the code does, and every key has a meaning."""

import pytest

from core.config import Config
from gradus.reference.__main__ import FOLDER, PAGES
from gradus.reference.configuration import rows
from gradus.reference.fields import meanings
from lightning_modules.language_model.config import LanguageModelConfig
from stages.framework.params import Params


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_up_to_date(name: str) -> None:
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), f"docs/reference/{name} is out of date: run python -m gradus.reference"


def configs(base: type[Config] = Config) -> set[type[Config]]:
    return {base, *(one for child in base.__subclasses__() for one in configs(child))}


def test_every_key_of_every_config_has_a_meaning() -> None:
    for config in configs():
        if config.__module__.startswith("tests") or "test_" in config.__module__:
            continue
        missing = config.model_fields.keys() - meanings(config).keys()
        assert not missing, f"{config.__module__}.{config.__name__}: {', '.join(sorted(missing))}"


def test_defaults_are_those_of_the_place() -> None:
    defaults = {key: default for key, _, default, _ in rows(LanguageModelConfig)}
    assert defaults["training.learning_rate"] == "`0.002`"
    assert {key: default for key, _, default, _ in rows(Params)}["seed"] == "required"


def test_another_default_keeps_the_bounds() -> None:
    for config in configs():
        for base in config.__mro__[1:]:
            if issubclass(base, Config):
                for name, field in base.model_fields.items():
                    lost = set(map(repr, field.metadata)) - set(map(repr, config.model_fields[name].metadata))
                    assert not lost, f"{config.__module__}.{config.__name__}.{name}: {lost}"
