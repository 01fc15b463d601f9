"""Chats in tables: which columns of texts and messages are one conversation with its responses, and which are refused."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from data.comparisons.importing.columns import Columns
from data.comparisons.importing.reading import read
from data.comparisons.importing.records import Problem
from data.comparisons.ranking import Ranking, ranking

Messages = list[dict[str, Any]]


def user(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def system(content: str) -> dict[str, Any]:
    return {"role": "system", "content": content}


ASK, GOOD, BAD = user("q"), assistant("good"), assistant("bad")
TURNS = [assistant("which?"), user("this")]  # between the question and the response


def imported(**row: Any) -> dict[str, Any]:
    """The ranking of a row whose columns have the names of the fields."""
    names = {name: name for name in row}
    columns = Columns(**names) if "chosen" in row else Columns(**names, ranks="=[1, 2]")
    (values,) = columns.rankings(row)
    return ranking({**values, "origin": "o"}).model_dump(mode="json", exclude_defaults=True)


def refusal(**row: Any) -> str:
    with pytest.raises(ValueError) as error:
        imported(**row)
    assert "\n" not in str(error.value)
    return str(error.value)


SHAPES: dict[str, tuple[dict[str, Any], Messages, Messages]] = {  # the prompt's columns, the turns before a response, the conversation
    "only the response, to a list": ({"prompt": [ASK]}, [], [ASK]),
    "only the response, to messages": ({"messages": [ASK]}, [], [ASK]),
    "the prompt repeated, a list": ({"prompt": [ASK]}, [ASK], [ASK]),
    "the prompt repeated, its only message as a text": ({"prompt": "q"}, [ASK], [ASK]),
    "the prompt repeated, its last message as a text": ({"prompt": " this\n"}, [ASK, *TURNS], [ASK, *TURNS]),
    "the prompt repeated, written out as a text": ({"prompt": "user: q"}, [ASK], [ASK]),
    "the prompt repeated, and more turns": ({"prompt": [ASK]}, [ASK, *TURNS], [ASK, *TURNS]),
    "more turns alone": ({"prompt": [ASK]}, TURNS, [ASK, *TURNS]),
    "more turns alone, after messages": ({"messages": [ASK]}, TURNS, [ASK, *TURNS]),
    "the question after a system prompt": ({"prompt": [system("s")]}, [ASK], [system("s"), ASK]),
    "the prompt's last message repeated": ({"prompt": [system("s"), ASK]}, [ASK], [system("s"), ASK]),
    "all turns, without a prompt": ({}, [system("s"), ASK, *TURNS], [system("s"), ASK, *TURNS]),
    "all turns, with an empty cell as prompt": ({"prompt": None}, [ASK], [ASK]),
    "a list and equal messages": ({"prompt": [ASK], "messages": [ASK]}, [], [ASK]),
    "messages and their text": ({"prompt": "q", "messages": [ASK]}, [], [ASK]),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_every_turn_before_the_response_is_in_the_prompt(shape: str) -> None:
    prompt, before, conversation = SHAPES[shape]
    pair = imported(**prompt, chosen=[*before, GOOD], rejected=[*before, BAD])
    assert pair["messages"] == conversation
    assert pair["prompt"] == "\n\n".join(f"{m['role']}: {m['content']}" for m in conversation)
    assert pair["responses"] == ["good", "bad"]
    listed = imported(**prompt, responses=[[*before, GOOD], [*before, BAD]])
    assert listed == pair


def test_a_text_that_response_messages_answer_is_the_prompt() -> None:
    ranking = imported(prompt="q", chosen=[GOOD], rejected=[BAD])
    assert (ranking["prompt"], ranking["responses"], "messages" in ranking) == ("q", ["good", "bad"], False)


def test_texts_that_answer_messages_are_responses_to_them() -> None:
    ranking = imported(prompt=[ASK], chosen="good", rejected="bad")
    assert (ranking["messages"], ranking["responses"]) == ([ASK], ["good", "bad"])
    ranking = imported(prompt=[ASK], chosen="good", rejected=[ASK, BAD])
    assert (ranking["messages"], ranking["responses"]) == ([ASK], ["good", "bad"])


@pytest.mark.parametrize("prompt", [{"prompt": "q"}, {"prompt": [ASK]}, {"messages": [ASK]}, {}])
def test_sides_that_differ_before_their_last_turn_are_refused(prompt: dict[str, Any]) -> None:
    other = [assistant("what?"), user("this")]
    message = (
        "chosen and rejected answer different messages: message 1 of the conversation is 'assistant: which?' and "
        "'assistant: what?', the same turns before the last expected (or whole_conversations, where those were judged)"
    )
    assert refusal(**prompt, chosen=[ASK, *TURNS, GOOD], rejected=[ASK, *other, BAD]) == message
    shorter = refusal(**prompt, chosen=[ASK, *TURNS, GOOD], rejected=[ASK, BAD])
    assert "message 1 of the conversation is 'assistant: which?' and missing" in shorter
    listed = refusal(**prompt, responses=[[ASK, *TURNS, GOOD], [ASK, *other, BAD]])
    assert listed == message.replace("chosen", "responses.0").replace("rejected", "responses.1")


def test_turns_on_one_side_alone_are_refused() -> None:
    assert "chosen and rejected answer different messages" in refusal(
        prompt=[ASK], chosen=[*TURNS, GOOD], rejected=[BAD]
    )
    assert "chosen and rejected answer different messages" in refusal(prompt="q", chosen="good", rejected=[ASK, BAD])


@pytest.mark.parametrize("side", ["chosen", "rejected"])
@pytest.mark.parametrize(
    ("turns", "last"), [([ASK, user("good")], "'user: good'"), ([ASK, {"role": "tool", "content": "4"}], "'tool: 4'"), ([], "missing")]
)  # fmt: skip
def test_a_last_message_that_is_not_the_assistants_is_refused(side: str, turns: Messages, last: str) -> None:
    row = {"chosen": [ASK, GOOD], "rejected": [ASK, BAD], side: turns}
    expected = f"{side}: the last message is {last}, a response by 'assistant' expected"
    assert refusal(prompt=[ASK], **row) == refusal(**row) == expected


@pytest.mark.parametrize(
    ("before", "prompt", "shown"),
    [
        ([user("another")], [ASK], "'user: another', the prompt's messages ('user: q', ...)"),
        ([system("s"), ASK], [ASK], "'system: s', the prompt's messages ('user: q', ...)"),
        (
            [ASK],
            [ASK, GOOD],
            "'user: q', the prompt's messages ('user: q', ...)",
        ),  # as ultrafeedback_binarized's `messages`
    ],
)
def test_turns_that_neither_repeat_nor_continue_the_prompt_are_refused(
    before: Messages, prompt: Messages, shown: str
) -> None:
    assert refusal(prompt=prompt, chosen=[*before, GOOD], rejected=[*before, BAD]).startswith(
        f"chosen: the first message is {shown} or a reply to them expected: leave the prompt's column out"
    )


@pytest.mark.parametrize("text", ["another", "this q", ""])
def test_a_text_that_is_no_part_of_the_messages_is_refused(text: str) -> None:
    answered = {"chosen": [ASK, *TURNS, GOOD], "rejected": [ASK, *TURNS, BAD]}
    expected = (
        f"prompt: {text!r} found, the last message by 'user' expected ('user: this'), or all messages written out"
    )
    assert refusal(prompt=text, **answered).startswith(expected)
    assert refusal(prompt=text, messages=[ASK, *TURNS], chosen="good", rejected="bad").startswith(expected)


def test_a_prompt_that_is_no_text_is_refused_beside_messages() -> None:
    assert (
        refusal(prompt=7, chosen=[ASK, GOOD], rejected=[ASK, BAD])
        == "prompt: Input should be a valid string (found '7')"
    )
    assert refusal(messages={"role": "user"}, chosen="good", rejected="bad").startswith(
        "messages: a list of messages expected"
    )


def test_a_prompt_and_messages_that_differ_are_refused() -> None:
    message = refusal(prompt=[ASK], messages=[user("another")], chosen="good", rejected="bad")
    assert message == "messages and prompt: different messages found, one conversation expected: leave one column out"


CALL = {"function": {"name": "f"}}
PARTS = [{"type": "text", "text": "good"}, {"type": "image"}]
STRUCTURE: dict[str, tuple[dict[str, Any], str]] = {  # a message, and what is said of it
    "tool calls": (assistant("good", tool_calls=[CALL]), "tool_calls: Extra inputs are not permitted"),
    "tool calls without content": (assistant(None, tool_calls=[CALL]), "content: missing"),
    "an image": (user("q", images=["a.png"]), "images: Extra inputs are not permitted (found \"['a.png']\")"),
    "a name": (user("q", name="ann"), "name: Extra inputs are not permitted (found 'ann')"),
    "parts": (assistant(PARTS), "content: Input should be a valid string"),
    "other names": ({"from": "gpt", "value": "good"}, "role: missing"),
}


@pytest.mark.parametrize("kind", STRUCTURE)
def test_messages_with_more_than_role_and_content_are_refused_wherever_they_are(kind: str) -> None:
    message, what = STRUCTURE[kind]
    assert f"chosen.1.{what}" in refusal(chosen=[ASK, message], rejected=[ASK, BAD])
    assert f"rejected.0.{what}" in refusal(prompt="q", chosen=[GOOD], rejected=[message, BAD])
    assert f"responses.1.0.{what}" in refusal(prompt="q", responses=[[GOOD], [message]])
    assert f"prompt.0.{what}" in refusal(prompt=[message], chosen="good", rejected="bad")
    assert f"messages.0.{what}" in refusal(messages=[message], chosen="good", rejected="bad")


def test_keys_that_are_null_hold_nothing() -> None:
    ranking = imported(chosen=[user("q", name=None), assistant("good", tool_calls=None)], rejected=[ASK, BAD])
    assert (ranking["messages"], ranking["responses"]) == ([ASK], ["good", "bad"])


def test_a_list_of_something_else_is_no_chat() -> None:
    assert refusal(prompt="q", chosen=["good"], rejected=["bad"]).startswith("chosen.0: Input should be a valid dict")
    assert refusal(prompt="q", chosen=GOOD, rejected=BAD).startswith("responses.0: Input should be a valid string")


def test_messages_name_the_columns_of_the_table() -> None:
    columns = Columns(prompt="question", responses=["model_a", "model_b"], ranks=["a", "b"])
    row = {"question": "q", "model_a": [ASK, GOOD], "model_b": [ASK, user("bad")], "a": 1, "b": 2}
    with pytest.raises(ValueError, match=r"^model_b: the last message is 'user: bad'"):
        list(columns.rankings(row))


def test_a_chat_in_a_cell_of_csv_is_a_chat(tmp_path: Path) -> None:
    chat, reply = json.dumps([ASK]), json.dumps([GOOD])
    with open(tmp_path / "r.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [["prompt", "responses", "ranks", "labeler"], [chat, '["good", "[bad]"]', "[1, 2]", "ann"]]
        )
    ((_, found),) = read(tmp_path / "r.csv")
    assert isinstance(found, Ranking)
    assert ([m.content for m in found.messages or ()], found.responses) == (["q"], ("good", "[bad]"))
    with open(tmp_path / "r.csv", "w", newline="") as file:
        csv.writer(file).writerows([["p", "c", "r"], [chat, reply, "bad"], ['["no", "chat"]', "[1]", "[{2}]"]])
    found, texts = (r for _, r in read(tmp_path / "r.csv", columns={"prompt": "p", "chosen": "c", "rejected": "r"}))
    assert isinstance(found, Ranking)
    assert isinstance(texts, Ranking)
    assert ([m.content for m in found.messages or ()], found.responses) == (["q"], ("good", "bad"))
    assert (texts.prompt, texts.responses) == ('["no", "chat"]', ("[1]", "[{2}]"))
    assert imported(prompt="q", chosen=reply, rejected="bad")["responses"] == [
        reply,
        "bad",
    ]  # elsewhere a text is a text


def test_a_cell_that_is_nested_too_deeply_is_a_text_or_a_wrong_record(tmp_path: Path) -> None:
    deep = "[" * 200_000
    (tmp_path / "r.csv").write_text(f"prompt,responses,ranks,labeler\n{deep},{deep},[],ann\n")
    ((line, problem),) = read(tmp_path / "r.csv")
    assert (line, problem) == (2, Problem("responses: nested too deeply"))
    (tmp_path / "r.csv").write_text(f"p,c,r\n{deep},good,bad\n")
    ((_, found),) = read(tmp_path / "r.csv", columns={"prompt": "p", "chosen": "c", "rejected": "r"})
    assert isinstance(found, Ranking)
    assert found.prompt == deep


SPEAKERS = {"user": "\n\nHuman:", "assistant": "\n\nAssistant:"}


def test_a_chat_that_is_written_as_one_text_is_parted_by_its_speakers() -> None:
    columns = Columns(prompt="p", chosen="c", rejected="r", speakers=SPEAKERS)
    for text in (
        "\n\nHuman: q\n\nAssistant: which?\n\nHuman: this\n\nAssistant:",
        "q\n\nAssistant: which?\n\nHuman: this",
    ):
        (values,) = columns.rankings({"p": text, "c": "good", "r": "bad"})
        assert [m.content for m in ranking({**values, "origin": "o"}).messages or ()] == ["q", "which?", "this"]
    (values,) = columns.rankings({"p": "no turns", "c": "good", "r": "bad"})
    assert values["prompt"] == "no turns"
    pair = Columns(chosen="c", rejected="r", speakers=SPEAKERS)
    (values,) = pair.rankings(
        {side: f"\n\nHuman: q\n\nAssistant: {text}" for side, text in (("c", "good"), ("r", "bad"))}
    )
    assert ([m.content for m in values["messages"]], values["responses"]) == (["q"], ["good", "bad"])


def whole(chosen: Messages, rejected: Messages, **more: Any) -> dict[str, Any]:
    columns = Columns(chosen="c", rejected="r", whole_conversations=True, **{name: name for name in more})
    (values,) = columns.rankings({"c": chosen, "r": rejected, **more})
    return ranking({**values, "origin": "o"}).model_dump(mode="json", exclude_defaults=True)


def test_of_whole_conversations_the_prompt_is_what_they_share() -> None:
    long = [ASK, assistant("one"), user("more"), assistant("two")]
    assert whole(long, [ASK, BAD])["responses"] == ["one\n\nuser: more\n\nassistant: two", "bad"]
    ranking = whole(long, [*long[:3], assistant("three")])
    assert (ranking["messages"], ranking["responses"]) == (long[:3], ["two", "three"])
    ranking = whole(long, [*long[:2], user("other"), assistant("two")])  # a response begins with a reply
    assert (ranking["messages"], ranking["responses"][1]) == ([ASK], "one\n\nuser: other\n\nassistant: two")
    with pytest.raises(
        ValueError, match=r"^c and r: the first messages are 'user: q' and 'user: other', the same question expected$"
    ):
        whole(long, [user("other"), BAD])


def test_turns_after_the_judged_one_are_left_out() -> None:
    long = [system("s"), ASK, assistant("one"), user("more"), assistant("two")]
    other = [system("s"), ASK, assistant("1"), user("more"), assistant("2")]
    for count in (1, "1", 1.0):
        assert whole(long, other, judged_turn=count)["responses"] == ["one", "1"]
    assert whole(long, other, judged_turn=2)["responses"][0].startswith("one\n\nuser: more")
    for count in (0, 3, None, "x"):
        with pytest.raises(ValueError, match=r"^c: turn .* was judged, and there are 2 by 'user'$"):
            whole(long, other, judged_turn=count)


def test_lists_of_turns_are_a_conversation() -> None:
    columns = Columns(user_turns="u", responses=["a", "b"], scores=["sa", "sb"], whole_conversations=True)
    row = {"u": ["q", "more"], "a": ["one", "two"], "b": '["one", "three"]', "sa": 0, "sb": 1}
    (values,) = columns.rankings(row)
    assert ([m.content for m in values["messages"]], values["responses"], values["ranks"]) == (
        ["q", "one", "more"], ["two", "three"], [2, 1],
    )  # fmt: skip
    for change, message in (
        ({"b": ["one"]}, "b: 1 replies found, 2 expected: one to each turn of u"),
        ({"a": ["one", 2]}, "a: a list of texts expected (found \"['one', 2]\")"),
        ({"u": "q"}, "u: not JSON (Expecting value at column 1)"),
    ):
        with pytest.raises(ValueError) as error:
            list(columns.rankings({**row, **change}))
        assert str(error.value) == message
