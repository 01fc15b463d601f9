"""Published data sets by name, on a few records in the shape of each card."""

import json
from pathlib import Path
from typing import Any

import pytest

from data.comparisons import formats
from data.comparisons.collection import rankings, read_collection
from data.comparisons.importing.columns import Columns
from data.comparisons.importing.presets import PRESETS
from data.comparisons.importing.rankings import import_rankings
from data.comparisons.importing.source import Source
from data.comparisons.ranking import Ranking

FIXTURES = Path(__file__).parent / "fixtures"
FILES = {path.stem: path for path in FIXTURES.iterdir()}
TEA, NEXT = ("user", "Name a tea."), ("user", "And one without caffeine?")
CHAT = [TEA, ("assistant", "Assam."), NEXT]


def imported(name: str, tmp_path: Path) -> list[Ranking]:
    import_rankings([Source(source=str(FILES[name]), format=name)], tmp_path / "c", strict=True)
    return list(rankings(read_collection(tmp_path / "c")))


def context(ranking: Ranking) -> Any:
    """The turns of a chat, or the prompt."""
    return [(m.role, m.content) for m in ranking.messages] if ranking.messages else ranking.prompt


def followed(*turns: str) -> str:
    """A response that is several turns: the reply, the next question, the reply to that."""
    return "\n\n".join(
        [turns[0], *(f"{who}: {text}" for who, text in zip(("user", "assistant"), turns[1:], strict=True))]
    )


def shown(name: str, tmp_path: Path) -> list[Any]:
    return [(context(r), r.responses, r.ranks) for r in imported(name, tmp_path)]


def test_every_data_set_has_a_card_a_fixture_and_a_line_of_help() -> None:
    assert set(FILES) == set(PRESETS)
    for name, preset in PRESETS.items():
        assert preset.card.startswith("https://"), name
        assert formats.described()[name] == preset.what
        assert isinstance(formats.get(name), Columns)


def test_chatbot_arena_keeps_both_ties_and_all_turns_of_both_sides(tmp_path: Path) -> None:
    imported_rankings = imported("chatbot_arena", tmp_path)
    by_question = {r.id: (context(r), r.responses, r.ranks, r.labeler) for r in imported_rankings}
    one, two, three, four = (f"{n:032x}" for n in (1, 2, 3, 4))
    assert by_question == {
        one: ([TEA], ("Tea.", "Assam."), (2, 1), "arena_user_1"),
        two: (
            [TEA],
            (followed("Assam.", NEXT[1], "Rooibos."), followed("Earl Grey.", NEXT[1], "Any.")),
            (1, 2),
            "arena_user_2",
        ),
        three: ([TEA], ("Coffee.", "Milk."), (1, 1), "arena_user_3"),
        four: (
            CHAT,
            ("Mint.", "Rooibos."),
            (1, 1),
            "arena_user_3",
        ),  # the first reply is the same: it is part of the prompt
    }
    assert {r.systems for r in imported_rankings} == {(("vicuna-13b",), ("koala-13b",))}
    assert min(r.time or "" for r in imported_rankings) == "2023-04-24T15:53:12.500000+00:00"


def test_mt_bench_is_judged_after_the_turn_that_it_says(tmp_path: Path) -> None:
    first, second = "Write about Hawaii.", "Begin each sentence with A."
    both = (followed("Short.", second, "A beach."), followed("Long and vivid.", second, "Aloha. A surf."))
    ranks_of = {(r.labeler, r.responses): r.ranks for r in imported("mt_bench_human_judgments", tmp_path)}
    assert ranks_of == {
        ("expert_3", ("Short.", "Long and vivid.", "Hawaii.")): (2, 1, 3),  # three pairs after the first turn
        ("expert_3", both): (2, 1),
        ("author_1", both): (1, 1),
    }  # where the judge chose whatever came first, it did not judge
    assert {r.prompt for r in imported("mt_bench_human_judgments", tmp_path / "d")} == {f"user: {first}"}


def test_helpsteer2_has_a_row_for_each_response(tmp_path: Path) -> None:
    assert shown("helpsteer2", tmp_path) == [
        ("c#", ("C# is a language.", "A note."), (1, 2)),
        (CHAT, ("Rooibos.", "Mint tea."), (1, 1)),
    ]


def test_the_strength_of_a_preference_is_the_distance_of_the_ranks(tmp_path: Path) -> None:
    assert shown("helpsteer2_preference", tmp_path / "2") == [
        ("c#", ("C# is a language.", "A note."), (1, 3)),
        (CHAT, ("Any.", "Rooibos."), (2, 1)),
    ]
    assert shown("helpsteer3", tmp_path / "3") == [
        ([TEA], ("Assam.", "Coffee."), (1, 4)),
        (CHAT, ("Any.", "Rooibos."), (3, 1)),
        ([TEA], ("Assam.", "Darjeeling."), (1, 1)),
    ]


def test_lmsys_kaggle_has_a_column_for_each_winner_and_lists_of_turns(tmp_path: Path) -> None:
    assert shown("lmsys_kaggle", tmp_path) == [
        (
            [TEA],
            (followed("Assam.", NEXT[1], "Rooibos."), followed("Tea.", NEXT[1], "").strip()),
            (1, 2),
        ),  # null: no reply
        ([TEA], ("Coffee.", "Assam."), (2, 1)),
        ([TEA], ("Assam.", "Darjeeling."), (1, 1)),
    ]


def test_pairs_of_texts_and_of_chats(tmp_path: Path) -> None:
    assert shown("pku_saferlhf", tmp_path / "p") == [  # one prompt, judged by many: not joined
        ("How do locks work?", ("With pins.", "They lock."), (1, 2)),
        ("How do locks work?", ("With a key.", "Pins and a cylinder."), (2, 1)),
    ]
    (toast,) = imported("reward_bench", tmp_path / "r")
    assert (toast.responses, toast.ranks, toast.id) == (("Heat bread.", "Freeze it."), (1, 2), "0")
    assert toast.systems == (("GPT4-Turbo",), ("alpaca-7b",))
    assert shown("skywork", tmp_path / "s") == [
        ([TEA], ("Assam.", "Coffee."), (1, 2)),
        (CHAT, ("Rooibos.", "Any."), (1, 2)),
    ]


def test_shp_gives_the_order_of_all_comments_that_its_pairs_determine(tmp_path: Path) -> None:
    ((prompt, responses, ranks),) = shown("shp", tmp_path)
    assert prompt == "How do I seed raspberries?"
    assert dict(zip(responses, ranks, strict=True)) == {"With a sieve.": 1, "By hand.": 2, "You do not.": 3}


@pytest.mark.parametrize(
    ("name", "column"), [("chatbot_arena", "winner"), ("shp", "labels"), ("pku_saferlhf", "better_response_id")]
)
def test_an_unknown_winner_is_an_error_that_lists_the_known_ones(name: str, column: str, tmp_path: Path) -> None:
    first, *_ = FILES[name].read_text().splitlines()
    (tmp_path / "r.jsonl").write_text(f"{first}\n{json.dumps({**json.loads(first), column: 'nobody'})}\n")
    report = import_rankings([Source(source=str(tmp_path / "r.jsonl"), format=name)], tmp_path / "c")
    (dropped,) = report.dropped
    assert (dropped.file, dropped.line) == (str(tmp_path / "r.jsonl"), 2)
    assert dropped.why.startswith(f"{column}: 'nobody' found, one of ")
    for value in {"chatbot_arena": ["model_a", "model_b", "tie (bothbad)"]}.get(name, ["0", "1"]):
        assert f"'{value}' (" in dropped.why
