"""What a ranking is, and what is none."""

from typing import Any

import pytest

from data.comparisons.ranking import Ranking, content_key, ranking

BAD = {
    "K = 1": ({"responses": ["a"], "ranks": [1]}, r"responses: K = 1, a ranking needs at least 2 responses"),
    "unlike lengths": ({"ranks": [1, 2]}, r"3 responses but 2 ranks"),
    "systems for fewer": ({"systems": [["s"]]}, r"3 responses but systems for 1"),
    "fractional rank": ({"ranks": [1, 2, 2.5]}, r"ranks\.2: .*integer.*2\.5"),
    "whole number as fraction": ({"ranks": [1, 2, 2.0]}, r"ranks\.2: .*integer.*2\.0"),
    "yes as rank": ({"ranks": [1, 2, True]}, r"ranks\.2: .*integer.*True"),
    "NaN rank": ({"ranks": [1, 2, float("nan")]}, r"ranks\.2: .*nan"),
    "rank below 1": ({"ranks": [0, 1, 2]}, r"ranks\.0: .*greater than or equal to 1.*'0'"),
    "rank too large for Arrow": ({"ranks": [1, 2, 2**31]}, r"ranks\.2: .*less than or equal to"),
    "one ranked": ({"ranks": [1, None, None]}, r"1 of 3 responses ranked: at least 2 needed"),
    "the same response twice": ({"responses": ["a", "b", "a"]}, r"a response is there twice"),
    "the same but for spaces": ({"responses": ["a", "b", " a\n"]}, r"a response is there twice"),
    "empty response": ({"responses": ["a", "b", " "]}, r"^responses\.2: .*at least 1 character"),
    "one of two empty": ({"responses": ["a", " "]}, r"^responses\.1: [^;]*at least 1 character[^;]*$"),
    "empty prompt": ({"prompt": "  "}, r"prompt: .*at least 1 character"),
    "no text": ({"prompt": 7}, r"prompt: .*valid string.*'7'"),
    "half a character": ({"prompt": "a\ud800"}, r"prompt: .*unicode"),
    "unknown field": ({"rank": [1]}, r"rank: Extra inputs"),
    "labeler is null": ({"labeler": None}, r"labeler: .*valid string"),
    "no messages": ({"messages": []}, r"messages: .*at least 1 item"),
    "message without content": ({"messages": [{"role": "user"}]}, r"messages\.0\.content: missing"),
    "no time": ({"time": "yesterday"}, r"time: .*isoformat.*yesterday"),
    "weight 0": ({"weight": 0}, r"weight: .*greater than 0"),
    "infinite weight": ({"weight": float("inf")}, r"weight: .*finite"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_ranking_says_what_is_wrong(good: dict[str, Any], case: str) -> None:
    change, message = BAD[case]
    with pytest.raises(ValueError, match=message) as error:
        ranking({**good, **change})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("field", ["labeler", "responses", "ranks", "origin"])
def test_a_missing_field_is_named(good: dict[str, Any], field: str) -> None:
    del good[field]
    with pytest.raises(ValueError, match=f"^{field}: missing$"):
        ranking(good)


def test_every_wrong_field_is_named(good: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^prompt: .*; weight: "):
        ranking({**good, "prompt": "", "weight": -1})


def test_everything_that_may_be_given(good: dict[str, Any]) -> None:
    more = {
        "messages": [{"role": "user", "content": "hi"}], "ranks": [2, None, 1], "reference": "r", "weight": 0.5,
        "systems": [["s"], [], ["t", "u"]], "time": "2024-05-06T07:08:09.123Z", "id": "17",
    }  # fmt: skip
    assert ranking({**good, **more}).model_dump(mode="json") == {**good, **more}


def test_a_prompt_of_messages_is_also_written_out(good: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}]
    without = {k: v for k, v in good.items() if k != "prompt"}
    for values in ({**without, "messages": messages}, {**without, "prompt": messages}):
        made = ranking(values)
        assert made.prompt == "user: hi\n\nassistant: yes?"
        assert [m.model_dump() for m in made.messages or ()] == messages
    assert ranking({**good, "messages": messages}).prompt == "p"
    with pytest.raises(ValueError, match=r"prompt: "):
        ranking(without)


def test_the_key_is_of_what_was_judged_and_of_nothing_else(good: dict[str, Any]) -> None:
    def key(**change: Any) -> int:
        return content_key(Ranking(**{**good, **change}))

    changes = (
        {"prompt": "q"}, {"responses": ["a", "b", "d"]}, {"responses": ["b", "a", "c"]}, {"ranks": [1, 2, 3]},
        {"ranks": [1, 2, None]}, {"labeler": "bob"}, {"time": "2024-05-06"}, {"id": "1"},
    )  # fmt: skip
    assert len({key(), *(key(**change) for change in changes)}) == len(changes) + 1
    assert key() == key(origin="elsewhere") == key(reference="r")
    # Texts that run into each other are told apart.
    assert key(prompt="ab", labeler="c") != key(prompt="a", labeler="bc")
    assert 0 <= key() < 2**64
