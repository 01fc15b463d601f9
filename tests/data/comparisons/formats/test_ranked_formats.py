"""The import formats that keep ranks, on fixtures in the published shapes (Argilla's has a file of its own)."""

import copy
import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data import mirror
from data.comparisons import formats
from data.comparisons.ranking import Ranking, ranking

FIXTURES = Path(__file__).parent / "fixtures"
PAIRS = {"hh_rlhf", "summarize_from_feedback", "webgpt_comparisons"}
NAMES = sorted({*PAIRS, "nectar", "open_assistant", "ultrafeedback", "wmt"})
MISSING = object()


def load(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FIXTURES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def canonical(name: str, records: list[dict[str, Any]]) -> list[Ranking]:
    return [ranking({**r, "origin": "test"}) for record in records for r in formats.get(name).rankings(record)]


def shown(name: str) -> list[tuple[Any, ...]]:
    return [(r.prompt, r.responses, r.ranks, r.labeler, r.systems) for r in canonical(name, load(name))]


def turns(found: Ranking) -> list[tuple[str, str]]:
    assert found.messages is not None
    return [(m.role, m.content) for m in found.messages]


def changed(record: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of `record` with the place `path` ("answers.0.rank") set to `value`, or without it."""
    record = copy.deepcopy(record)
    *way, last = (int(key) if key.isdigit() else key for key in path.split("."))
    place: Any = record
    for key in way:
        place = place[key]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    return record


def message_of(name: str, record: dict[str, Any]) -> str:
    with pytest.raises(ValueError) as error:
        canonical(name, [record])
    return str(error.value)


def test_hh_rlhf_gives_the_common_conversation_and_its_two_ends() -> None:
    long, short = canonical("hh_rlhf", load("hh_rlhf"))
    assert turns(long) == [
        ("user", "Which tea keeps me awake?"),
        ("assistant", "Black tea does."),
        ("user", "And which does not?"),
    ]
    assert (long.responses, long.ranks) == (("Rooibos.\n\nIt has no caffeine.", "Any tea does."), (1, 2))
    assert (short.prompt, short.labeler) == ("user: Name a river.", "hh-rlhf")


def test_summarize_from_feedback_keeps_the_worker_and_the_policies() -> None:
    post = "SUBREDDIT: r/pets\n\nTITLE: Cat opens doors\n\nPOST: My cat opens doors.\nWhat can I do?\n\nTL;DR:"
    article = "Article:\nThe bridge was opened on Monday. It is red.\n\nTL;DR:"
    assert shown("summarize_from_feedback") == [
        (post, ("Cat.", "My cat opens doors, what can I do?"), (2, 1), "wAbC123", (("sup2",), ("ref",))),
        (article, ("A red bridge was opened on Monday.", "A bridge."), (1, 2), "wXyZ789", (("ref",), ("lead3",))),
    ]


def test_webgpt_comparisons_keeps_ties() -> None:
    found = canonical("webgpt_comparisons", load("webgpt_comparisons"))
    assert [r.ranks for r in found] == [(1, 2), (2, 1), (1, 1)]
    assert {(r.prompt, r.responses, r.labeler) for r in found} == {
        ("Why is the sky blue?", ("Blue light is scattered most [1].", "It mirrors the sea."), "webgpt")
    }


def test_nectar_keeps_all_seven_ranks_and_is_known_as_judged_by_a_model() -> None:
    (found,) = canonical("nectar", load("nectar"))
    assert turns(found) == [
        ("user", "Write a line on rain."), ("assistant", "Rain falls."), ("user", "Longer, please.")
    ]  # fmt: skip
    assert (found.ranks, found.labeler) == ((1, 2, 4, 3, 6, 5, 7), "gpt-4")
    assert found.systems is not None
    assert (found.systems[0], found.systems[6]) == (("gpt-4",), ())


def test_ultrafeedback_ranks_by_the_mean_rating_and_not_by_the_overall_score() -> None:
    prime, wet = canonical("ultrafeedback", load("ultrafeedback"))
    assert (prime.ranks, prime.labeler, prime.reference) == ((4, 1, 1, 3), "gpt-4", None)
    assert (wet.responses, wet.ranks) == (("yes", "no", "perhaps"), (1, 2, None))  # like answers of two models are one
    assert wet.systems == (("falcon-40b-instruct", "llama-2-7b-chat"), ("mpt-30b-chat",), ("ultralm-13b",))
    assert wet.reference == "yes"


def test_open_assistant_gives_one_ranking_for_each_message_with_ranked_replies() -> None:
    first, second = canonical("open_assistant", load("open_assistant"))
    assert first.responses == ("Eight minutes in boiling water.", "In the oven.", "It depends.")
    assert (first.ranks, first.labeler, first.id, first.systems) == ((1, 3, None), "oasst-consensus", "m1", None)
    assert turns(second) == [
        ("user", "How do I boil an egg?"), ("assistant", "Eight minutes in boiling water."), ("user", "And soft?")
    ]  # fmt: skip
    assert (second.responses, second.ranks) == (("Five minutes.", "Five and a half."), (1, 2))  # spam is left out
    assert second.systems == ((), ("oasst-sft-0_3000",))


def test_a_deleted_prompt_takes_its_tree_with_it() -> None:
    tree = load("open_assistant")[0]
    for path, value in (("prompt.deleted", True), ("prompt.review_result", False)):
        assert canonical("open_assistant", [changed(tree, path, value)]) == []
    unreviewed = changed(tree, "prompt.review_result", None)
    assert len(canonical("open_assistant", [unreviewed])) == 2


def test_wmt_keeps_labeler_ties_reference_and_systems() -> None:
    tied, twins = canonical("wmt", load("wmt"))
    assert (tied.ranks, tied.labeler, tied.reference) == ((1, 1, 3), "labeler-001", "Good morning, world.")
    assert tied.systems == (("online-A.0.de-en",), ("KIT.4017.de-en", "uedin.4027.de-en"), ("online-B.0.de-en",))
    assert (tied.prompt, tied.id) == ("Guten Morgen, Welt.", "wmt15-deu-1")
    assert (twins.responses, twins.ranks) == (("Good morning world.", "Good day.", "World."), (2, 3, 4))
    assert twins.systems == (("online-A.0.de-en",), ("a.1.de-en", "b.2.de-en"), ("c.3.de-en",))


@pytest.mark.parametrize("name", NAMES)
def test_each_format_says_whether_it_holds_pairs(name: str) -> None:
    assert formats.get(name).PAIRS is (name in PAIRS)


TRANSCRIPT = "\n\nHuman: Hello.\n\nAssistant: "
TEXTS: dict[str, Callable[[str], dict[str, Any]]] = {  # a record with a text as one of its responses
    "hh_rlhf": lambda text: {"chosen": TRANSCRIPT + text, "rejected": TRANSCRIPT + "Hi."},
    "summarize_from_feedback": lambda text: changed(load("summarize_from_feedback")[0], "summaries.0.text", text),
    "webgpt_comparisons": lambda text: changed(load("webgpt_comparisons")[0], "answer_1", text),
    "nectar": lambda text: changed(load("nectar")[0], "answers.3.answer", text),
    "open_assistant": lambda text: changed(load("open_assistant")[0], "prompt.replies.1.text", text),
    "ultrafeedback": lambda text: changed(load("ultrafeedback")[0], "completions.0.response", text),
    "wmt": lambda text: changed(load("wmt")[0], "responses.2.text", text),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "text", ["<script>alert('1')</script>\n<b title=\"x\">&amp; {{ a }}</b>", "ü" * 1_000_000], ids=["html", "1 MB"]
)
def test_texts_are_kept_as_they_are(name: str, text: str) -> None:
    assert text in canonical(name, [TEXTS[name](text)])[0].responses


BROKEN: list[tuple[str, int, str, Any, str]] = [  # format, record, place, what stands there, message
    ("hh_rlhf", 1, "rejected", MISSING, "rejected: missing, a text expected"),
    ("hh_rlhf", 1, "chosen", 5, "chosen: 5 found, a text expected"),
    ("hh_rlhf", 1, "chosen", "Hello.", r"chosen: begins with 'Hello.', '\n\nHuman:' expected"),
    ("hh_rlhf", 1, "chosen", "", r"chosen: begins with '', '\n\nHuman:' expected"),
    ("hh_rlhf", 1, "chosen", "\n\nHuman: Name a river.",
     "chosen: the last turn is the Human's, a response of the Assistant expected"),
    ("hh_rlhf", 1, "rejected", "\n\nHuman: Name a river.\n\nAssistant:",
     "rejected: the last turn is empty, a response of the Assistant expected"),
    ("hh_rlhf", 1, "chosen", "\n\nHuman: Name a lake.\n\nAssistant: No.",
     "chosen and rejected differ before the last turn: they are not responses to the same prompt"),
    ("hh_rlhf", 1, "chosen", "\n\nHuman: Name a river.\n\nAssistant: Rivers are wet. ",
     "a response is there twice: keep one of the two"),
    ("summarize_from_feedback", 0, "worker", MISSING, "worker: missing, a text expected"),
    ("summarize_from_feedback", 0, "choice", 2, "choice: 2 found, 0 or 1 expected"),
    ("summarize_from_feedback", 0, "choice", True, "choice: True found, a whole number expected"),
    ("summarize_from_feedback", 0, "summaries", MISSING, "summaries: missing, a list expected"),
    ("summarize_from_feedback", 0, "summaries", [{}], "summaries: 1 found, 2 expected"),
    ("summarize_from_feedback", 0, "summaries.1", "text", "summaries.1: 'text' found, an object expected"),
    ("summarize_from_feedback", 0, "summaries.1.text", None, "summaries.1.text: null found, a text expected"),
    ("summarize_from_feedback", 0, "info.post", MISSING, "info.post: missing, a text expected"),
    ("summarize_from_feedback", 0, "summaries.1.text", "Cat.", "a response is there twice: keep one of the two"),
    ("webgpt_comparisons", 0, "score_0", MISSING, "score_0: missing, a number expected"),
    ("webgpt_comparisons", 0, "score_1", "high", "score_1: 'high' found, a number expected"),
    ("webgpt_comparisons", 0, "score_1", 0.75,
     "score_0 and score_1: 0.75 and 0.75 found, numbers that sum to 0 expected"),
    ("webgpt_comparisons", 0, "score_1", float("nan"),
     "score_0 and score_1: 0.75 and nan found, numbers that sum to 0 expected"),
    ("webgpt_comparisons", 0, "question", "Why?", "question: 'Why?' found, an object expected"),
    ("webgpt_comparisons", 0, "answer_1", ["It"], "answer_1: a list found, a text expected"),
    ("nectar", 0, "answers", {"answer": "a"}, "answers: an object found, a list expected"),
    ("nectar", 0, "answers.2.rank", MISSING, "answers.2.rank: missing, a number expected"),
    ("nectar", 0, "answers.2.rank", 1.5, "answers.2.rank: 1.5 found, a whole number expected"),
    ("nectar", 0, "answers.2.rank", float("nan"), "answers.2.rank: nan found, a whole number expected"),
    ("nectar", 0, "answers.2.answer", "No.",
     "contradiction: the same response was judged 4 and 7 (it begins 'No.')"),
    ("nectar", 0, "prompt", TRANSCRIPT + "Hi.",
     r"prompt: turns, the last of them '\n\nAssistant:' and no more, expected"),
    ("ultrafeedback", 0, "instruction", MISSING, "instruction: missing, a text expected"),
    ("ultrafeedback", 0, "completions", [], "responses: K = 0, a ranking needs at least 2 responses"),
    ("ultrafeedback", 0, "completions.1.model", 4, "completions.1.model: 4 found, a text expected"),
    ("ultrafeedback", 0, "completions.1.response", "9",
     "contradiction: the same response was judged 1.0 and 5.0 (it begins '9')"),
    ("ultrafeedback", 1, "completions.0.annotations.honesty", "5",
     "completions.0.annotations.honesty: '5' found, an object expected"),
    ("ultrafeedback", 1, "completions.0.annotations.honesty.Rating", "good",
     "completions.0.annotations.honesty.Rating: 'good' found, '1' to '5' or 'N/A' expected"),
    ("ultrafeedback", 1, "completions.2.annotations", MISSING, "1 of 3 responses ranked: at least 2 needed"),
    ("open_assistant", 0, "prompt", MISSING, "prompt: missing, an object expected"),
    ("open_assistant", 0, "prompt.role", "system",
     "prompt.role: 'system' found, 'prompter' or 'assistant' expected"),
    ("open_assistant", 0, "prompt.replies", 3, "prompt.replies: 3 found, a list expected"),
    ("open_assistant", 0, "prompt.replies.1.rank", "best",
     "prompt.replies.1.rank: 'best' found, a whole number expected"),
    ("open_assistant", 0, "prompt.replies.1.text", MISSING, "prompt.replies.1.text: missing, a text expected"),
    ("open_assistant", 0, "prompt.replies.1.text", "Eight minutes in boiling water.",
     "contradiction: the same response was judged 1 and 3 (it begins 'Eight minutes in boiling water.')"),
    ("wmt", 0, "responses", MISSING, "responses: missing, a list expected"),
    ("wmt", 0, "labeler", None, "labeler: null found, a text expected"),
    ("wmt", 0, "responses.1.rank", 1.5, "responses.1.rank: 1.5 found, a whole number expected"),
    ("wmt", 0, "responses.1.systems", [7], "responses.1.systems.0: 7 found, a text expected"),
    ("wmt", 0, "responses.2.text", "Good morning world.",
     "contradiction: the same response was judged 1 and 3 (it begins 'Good morning world.')"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "number", "place", "value", "message"), BROKEN)
def test_a_broken_record_says_where_and_what(name: str, number: int, place: str, value: Any, message: str) -> None:
    assert message_of(name, changed(load(name)[number], place, value)) == message


@pytest.mark.parametrize("name", NAMES)
def test_a_record_of_another_kind_is_refused(name: str) -> None:
    assert " expected" in message_of(name, {"text": "Hello"})


def test_single_messages_of_open_assistant_are_refused() -> None:
    single = {k: v for k, v in load("open_assistant")[0]["prompt"].items() if k != "replies"}
    expected = "prompt: missing: single messages found, whole trees expected (a file .trees.jsonl.gz)"
    assert (
        message_of("open_assistant", {**single, "message_tree_id": "m1", "tree_state": "ready_for_export"}) == expected
    )


def test_the_csv_of_wmt_is_refused_for_it_has_no_texts() -> None:
    row = {
        "srclang": "deu",
        "trglang": "eng",
        "srcIndex": "581",
        "judgeId": "j1",
        "system1Id": "KIT",
        "system1rank": "2",
    }
    assert message_of("wmt", row).startswith(
        "WMT's own CSV has ranks but no texts: join it with the test set's sources"
    )


def mirrored(data_set: str, file: str) -> list[dict[str, Any]]:
    folder = mirror.folder(data_set)
    if folder is None:
        pytest.skip(f"needs the data mirror: {mirror.VARIABLE} is not set, or has no {data_set}/")
    with gzip.open(folder / file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_all_rankings_of_wmt15_convert() -> None:
    found = canonical("wmt", mirrored("wmt15", "rankings.jsonl.gz"))
    assert (len(found), len({r.labeler for r in found})) == (10_483, 94)
    assert Counter(len(r.responses) for r in found) == {
        5: 10_174,
        4: 309,
    }  # in 6 two outputs differ in white space only
    assert sum(len(set(r.ranks)) < len(r.ranks) for r in found) == 5_257


def test_what_of_hh_rlhf_does_not_convert_is_known() -> None:
    records, found = mirrored("hh-rlhf", "harmless-base-test.jsonl.gz"), Counter[str]()
    for record in records:
        try:
            found["converted"] += len(canonical("hh_rlhf", [record]))
        except ValueError as error:
            found[str(error).partition(":")[0]] += 1
    assert found == {"converted": 2_303, "chosen and rejected differ before the last turn": 5, "chosen": 4}
