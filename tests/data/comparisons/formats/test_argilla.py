"""Argilla's records, in each shape that its server and its two clients write."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.comparisons.formats import argilla
from data.comparisons.ranking import Ranking, ranking

FIXTURES = Path(__file__).parent / "fixtures"
ANN, BEN = "00000000-0000-0000-0000-0000000000a1", "00000000-0000-0000-0000-0000000000a2"
RESPONSES = ("Blue.", "Salt.", "Red, like a cherry.")
LOST = (
    "options without ranks: version 2 of Argilla's client loses them; "
    "export from the server's API instead (GET /api/v1/datasets/ID/records?include=responses)"
)

Change = Callable[[dict[str, Any]], Any]


def load(name: str) -> list[dict[str, Any]]:
    lines = (FIXTURES / f"argilla_{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def canonical(record: dict[str, Any]) -> list[Ranking]:
    return [ranking({**values, "origin": "test"}) for values in argilla.rankings(record)]


def changed(record: dict[str, Any], change: Change) -> dict[str, Any]:
    record = copy.deepcopy(record)
    change(record)
    return record


def test_the_servers_api_gives_a_ranking_for_each_submitted_answer() -> None:
    found = canonical(load("api")[0])
    assert [(r.labeler, r.ranks) for r in found] == [(ANN, (1, 3, 1)), (BEN, (2, 3, 1)), ("unknown", (1, 2, None))]
    assert {(r.prompt, r.responses) for r in found} == {("Name a colour.", RESPONSES)}
    assert (found[1].time, found[1].id) == ("2024-05-14T09:32:21.417000", "00000000-0000-0000-0000-0000000000e2")


def test_the_records_of_client_1_lack_only_id_and_time() -> None:
    def strip(record: dict[str, Any]) -> None:
        for response in record["responses"]:
            for key in ("id", "record_id", "inserted_at", "updated_at"):
                del response[key]

    found = canonical(changed(load("api")[0], strip))
    assert (found[0].labeler, found[0].ranks, found[0].time, found[0].id) == (ANN, (1, 3, 1), None, None)


def test_a_row_that_client_1_pushed_to_the_hub() -> None:
    (found,) = canonical(load("hub_1")[0])
    assert (found.labeler, found.responses, found.ranks) == (ANN, RESPONSES, (1, 3, 1))
    assert found.prompt == "prompt: Name a colour.\n\ncontext: Things seen."


def test_ranks_lost_by_client_2_are_refused() -> None:
    nested, flat, kept, pending = load("client_2")
    for record, place in ((nested, "responses.preference.0.value"), (flat, "preference.responses.0")):
        with pytest.raises(ValueError) as error:
            canonical(record)
        assert str(error.value) == f"{place}: {LOST}"
    assert [(r.labeler, r.ranks) for r in canonical(kept)] == [(ANN, (2, 1, 2))]
    assert canonical(pending) == []
    flat["preference.responses.status"] = ["draft"]
    assert canonical(flat) == []


def test_answers_to_other_types_of_questions_are_no_rankings() -> None:
    def answer(record: dict[str, Any]) -> None:
        spans = [{"label": "good", "start": 0, "end": 4}]
        record["responses"][0]["values"] = {
            "why": {"value": "clear"}, "labels": {"value": ["response1", "response2"]}, "spans": {"value": spans},
            "stars": {"value": 4},
        }  # fmt: skip

    assert [r.labeler for r in canonical(changed(load("api")[0], answer))] == [BEN, "unknown"]


def test_a_chat_field_becomes_messages() -> None:
    chat = [{"role": "user", "content": "Name a colour."}]
    found = canonical(changed(load("api")[0], lambda r: r["fields"].update(prompt=chat)))[0]
    assert found.messages is not None
    assert [(m.role, m.content) for m in found.messages] == [("user", "Name a colour.")]


def test_a_chat_column_of_a_row_is_part_of_the_prompt() -> None:
    chat = [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Of what?"}]
    row = changed(load("hub_1")[0], lambda r: r.update(prompt=chat))
    with pytest.raises(
        ValueError, match=r"^fields\.prompt: a list found, a text expected$"
    ):  # `context` is a field too
        canonical(row)
    (found,) = canonical(changed(row, lambda r: r.pop("context")))
    assert [{"role": m.role, "content": m.content} for m in found.messages or ()] == chat


def test_fields_that_were_left_empty_are_no_part_of_the_prompt() -> None:
    found = canonical(changed(load("api")[0], lambda r: r["fields"].update(context=None)))[0]
    assert found.prompt == "Name a colour."


@pytest.mark.parametrize("text", ["<script>alert('1')</script>\n<b>&amp; {{ a }}</b>", "ü" * 1_000_000], ids=len)
def test_texts_are_kept_as_they_are(text: str) -> None:
    found = canonical(changed(load("api")[0], lambda r: r["fields"].update(prompt=text, response2=text + "!")))[0]
    assert (found.prompt, found.responses[1]) == (text, text + "!")


def test_like_responses_are_one_if_their_ranks_are() -> None:
    record = changed(load("api")[0], lambda r: r["fields"].update(response3="Blue. "))
    del record["responses"][1:]
    assert [(r.responses, r.ranks) for r in canonical(record)] == [(("Blue.", "Salt."), (1, 3))]


def value_of(record: dict[str, Any]) -> Any:
    return record["responses"][0]["values"]["preference"]["value"]


VALUE = "responses.0.values.preference.value"
BROKEN: dict[str, Change] = {
    "fields: missing, an object expected": lambda r: r.pop("fields"),
    "fields: 'Blue.' found, an object expected": lambda r: r.update(fields="Blue."),
    "responses.0: 4 found, an object expected": lambda r: r.update(responses=[4]),
    "responses.0.values: a list found, an object expected": lambda r: r["responses"][0].update(values=[]),
    "responses.0.values.preference: 1 found, an object expected": lambda r: r["responses"][0]["values"].update(preference=1),
    "responses.0.user_id: 7 found, a text expected": lambda r: r["responses"][0].update(user_id=7),
    f"{VALUE}: option 'response4' is no field's name (fields: prompt, response1, response2, response3)":
        lambda r: value_of(r)[0].update(value="response4"),
    f"{VALUE}: option 'response2' is ranked twice": lambda r: value_of(r)[0].update(value="response2"),
    f"{VALUE}.0.rank: '1' found, a whole number expected": lambda r: value_of(r)[0].update(rank="1"),
    f"{VALUE}.1.value: missing, a text expected": lambda r: value_of(r)[1].pop("value"),
    f"{VALUE}.2: an option and its rank expected": lambda r: value_of(r).__setitem__(2, "response3"),
    "fields.response1: null found, a text expected": lambda r: r["fields"].update(response1=None),
    "fields: all of them are responses, one for the prompt expected": lambda r: r["fields"].pop("prompt"),
    "contradiction: the same response was judged 1 and 3 (it begins 'Blue.')": lambda r: r["fields"].update(response2="Blue."),
    "1 of 3 responses ranked: at least 2 needed":
        lambda r: [option.update(rank=None) for option in value_of(r)[1:]],
}  # fmt: skip


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_record_says_where_and_what(message: str) -> None:
    with pytest.raises(ValueError) as error:
        canonical(changed(load("api")[0], BROKEN[message]))
    assert str(error.value) == message


def test_a_hub_row_with_unlike_lists_is_refused() -> None:
    record = changed(load("hub_1")[0], lambda r: r["preference"][0]["value"]["rank"].pop())
    with pytest.raises(ValueError, match=r"^preference\.0\.value: 3 options but 2 ranks$"):
        canonical(record)


def test_a_record_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^fields: missing, an object expected$"):
        canonical({"text": "Hello"})
