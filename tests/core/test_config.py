"""Settings: unknown and wrong keys."""

import pytest

from core.config import Config, nearest, validated
from core.errors import InputError


class Inner(Config):
    layers: int = 1


class Outer(Config):
    inner: Inner = Inner()
    name: str


def test_every_wrong_key_is_named_with_what_was_found_and_what_is_known() -> None:
    with pytest.raises(InputError) as error:
        validated(Outer, {"inner": {"layer": 2}, "extra": 1}, "params.yaml")
    assert str(error.value).splitlines() == [
        "params.yaml: unknown key 'inner.layer' - did you mean 'layers'?",
        "params.yaml: key 'name' is missing",
        "params.yaml: unknown key 'extra' - known: inner, name",
    ]
    with pytest.raises(InputError, match=r"params\.yaml: inner\.layers: .*integer.* \(found 'two'\)"):
        validated(Outer, {"name": "x", "inner": {"layers": "two"}}, "params.yaml")


def test_nearest() -> None:
    assert nearest("beem", ["beam", "seed"]) == "did you mean 'beam'?"
    assert nearest("zzz", ["beam", "seed"]) == "known: beam, seed"
