"""Label Studio's JSON export: rankings (Ranker tag, with or without buckets) and pairs (Pairwise tag), one for each annotation.

A record is a task: {"id", "data": {...}, "meta": {...}, "annotations": [{"id", "completed_by", "was_cancelled", "created_at", "result":
[{"from_name", "to_name", "type", "value"}, ...]}, ...], ...}. Of the results count

- type "ranker", value {"ranker": {BUCKET: [ITEM, ...], ...}}: an ITEM is the `id` of an entry of a list in `data`, a BUCKET is "rank_N",
  1 the best, as in the configuration that Gradus writes; with `higher_is_better` its name ends in a score instead ("score_5", "5"). The
  items of a bucket tie; items in the bucket "_", the list itself, or in none, are not ranked. Every other name is refused
- type "ranker", value {"ranker": {NAME: [ITEM, ...]}} with the NAME of the control: a Ranker without buckets, best item first
- type "pairwise", value {"selected": "left" or "right"}; a chosen option of a Choices tag named "tie" is "no preference"

The prompt is `data.prompt` (or question, text), a response the `body` of its entry (or title, html), the two of a pair are `data.left`
and `data.right` (or answer1 and answer2, response1 and response2, text1 and text2). `meta` may have `systems` (one list of names for each
response, in the task's order), `reference` and `messages`, as tasks made by `gradus comparisons tasks` do.

An annotation with a Ranker and a Pairwise is two rankings. Choices and Rating tags mean what a mapping of columns says, whose columns are
keys of `data` and names of the tags: `responses=a+b,winner=better{a=Left,b=Right,tie=Both}`, or `scores=stars_a+stars_b`.

Skipped tasks and drafts yield nothing, nor do annotations that compare nothing: submitted untouched, or with one item ranked. (An
untouched Ranker without buckets is submitted as the order in which it shows the items, which cannot be told from a judgment.) The
labeler is the user's id, or the e-mail address where the export has that instead. The time is when the annotation was first
submitted: the server changes `updated_at` for other reasons than another judgment, too.

https://labelstud.io/guide/task_format, https://labelstud.io/tags/ranker, https://labelstud.io/tags/pairwise
https://github.com/HumanSignal/label-studio/blob/develop/web/libs/editor/src/tags/control/Ranker.jsx (the bucket "_")
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data.comparisons.importing.annotations import Annotation
from data.comparisons.importing.fields import Answer, distinct, entries, field, optional, what_was_found
from data.comparisons.importing.judgments import ranks_of_scores

PAIRS = True  # those of the Pairwise tag: rankings of more responses are not touched by the joining
TAKES_HIGHER_IS_BETTER = True

_PROMPTS = ("prompt", "question", "text")
_TEXTS = ("body", "title", "html")
_SIDES = (("left", "right"), ("answer1", "answer2"), ("response1", "response2"), ("text1", "text2"))
_NOT_RANKED = "_"
_TIE = "tie"
_ANSWERS = {
    "choices": "choices",
    "rating": "rating",
    "number": "number",
    "pairwise": "selected",
}  # types of results: keys of values
_LEAVE_OUT = "leave --higher-is-better (in params.yaml: higher_is_better) out"
_RANK = re.compile(r"rank_([0-9]{1,9})")
# A minus is a sign only at the beginning and after "_" or a space: in "score-1" it may as well join the two.
_SCORE = re.compile(r"((?<![^_ ])-|(?<![-+.,0-9]))[0-9]{1,9}(\.[0-9]{1,9})?\Z")


def rankings(record: Mapping[str, Any], higher_is_better: bool = False) -> Iterator[dict[str, Any]]:
    """The rankings of a task, one for each annotation; those of a task with a wrong annotation come before the error.

    `higher_is_better`: the buckets' names end in scores, the highest best.
    """
    problems = []
    for annotation, at in _submitted(record):
        try:
            judged = _rankings(record, annotation, at, higher_is_better)
        except ValueError as error:
            problems.append(str(error))
        else:
            yield from (ranking for ranking in judged if len(ranking["ranks"]) - ranking["ranks"].count(None) >= 2)
    if problems:
        raise ValueError("; ".join(problems))


def annotations(record: Mapping[str, Any]) -> Iterator[Annotation]:
    """The answers in a task's annotations, under their tags' names: choices, ratings, numbers, the chosen side of a pair."""
    data, meta = field(record, "data", dict), optional(record, "meta", dict) or {}
    for annotation, at in _submitted(record):
        answers: dict[str, Any] = {}
        for result, where in entries(annotation, "result", at):
            if (kind := result.get("type")) not in _ANSWERS:
                continue
            name, value = (
                field(result, "from_name", str, where),
                field(result, "value", dict, where).get(_ANSWERS[kind]),
            )
            if name in answers:
                raise ValueError(f"{where}from_name: {name!r} is there twice in one annotation, one answer expected")
            answers[name] = value[0] if isinstance(value, list) and len(value) == 1 else value
        yield Annotation({**data, "meta": meta, **answers}, _judged_by(annotation, at), at.removesuffix("."))


def _submitted(record: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    if "annotations" not in record:
        raise ValueError("annotations: missing: export as JSON (JSON-MIN and CSV leave out what an import needs)")
    for annotation, at in entries(record, "annotations"):
        if not annotation.get("was_cancelled") and annotation.get("result") != []:
            yield annotation, at


def _rankings(
    task: Mapping[str, Any], annotation: Mapping[str, Any], at: str, higher_is_better: bool
) -> list[dict[str, Any]]:
    """The ranking of a Ranker and the pair of a Pairwise in an annotation; at least one of them."""
    data = field(task, "data", dict)
    results = entries(annotation, "result", at)
    rankers = [(r, where) for r, where in results if r.get("type") == "ranker"]
    if len(rankers) > 1:
        raise ValueError(f"{at}result: {len(rankers)} of type 'ranker' found, 1 expected")
    if higher_is_better and not rankers:
        raise ValueError(f"{at}result: no type 'ranker' found, whose buckets have scores: {_LEAVE_OUT}")
    judgments = [_ranked(data, *ranker, higher_is_better) for ranker in rankers]
    if not rankers or any(_is_comparison(result) for result, _ in results):
        judgments.append(_compared(data, results, at))
    return [_ranking(task, judged, annotation, at) for judged in judgments]


def _ranking(
    task: Mapping[str, Any], judged: list[tuple[str, int | None]], annotation: Mapping[str, Any], at: str
) -> dict[str, Any]:
    data, meta = field(task, "data", dict), optional(task, "meta", dict) or {}
    systems = optional(meta, "systems", list, "meta.") or [[]] * len(judged)
    if len(systems) != len(judged) or not all(isinstance(names, list) for names in systems):
        raise ValueError(
            f"meta.systems: {len(systems)} entries found, {len(judged)} lists expected, one for each response"
        )
    answers = distinct(Answer(text, rank, tuple(names)) for (text, rank), names in zip(judged, systems, strict=True))
    return {
        "messages": meta.get("messages"),
        "prompt": next((data[key] for key in _PROMPTS if isinstance(data.get(key), list)), None)  # a chat
        or _first(data, _PROMPTS, "data."),
        "responses": [a.text for a in answers],
        "ranks": [a.judgment for a in answers],
        "reference": meta.get("reference"),
        "systems": [a.systems for a in answers] if meta.get("systems") else None,
        **_judged_by(annotation, at),
    }


def _judged_by(annotation: Mapping[str, Any], at: str) -> dict[str, Any]:
    return {
        "labeler": _labeler(annotation, at),
        "time": optional(annotation, "created_at", str, at),
        "id": str(annotation["id"]) if annotation.get("id") is not None else None,
    }


def _ranked(
    data: Mapping[str, Any], result: Mapping[str, Any], at: str, higher_is_better: bool
) -> list[tuple[str, int | None]]:
    """Text and rank of each item, in the task's order."""
    ranks = _ranks(field(result, "value", dict, at), result.get("from_name"), f"{at}value.", higher_is_better)
    lists = {
        key: {str(item["id"]): item for item in value}
        for key, value in data.items()
        if isinstance(value, list) and value and all(isinstance(item, dict) and "id" in item for item in value)
    }
    fitting = [key for key, items in lists.items() if ranks.keys() <= items.keys()]
    if len(fitting) != 1:
        shown = ", ".join(f"data.{key}" for key in (fitting or lists)) or "none"
        raise ValueError(f"{at}value.ranker: one list with the ids of all its items expected in data, found {shown}")
    items = lists[fitting[0]]
    if len(items) < len(data[fitting[0]]):
        raise ValueError(f"data.{fitting[0]}: two items have the same id")
    return [
        (_first(item, _TEXTS, f"data.{fitting[0]}.{i}."), ranks.get(name))
        for i, (name, item) in enumerate(items.items())
    ]


def _ranks(value: Mapping[str, Any], control: Any, at: str, higher_is_better: bool) -> dict[str, int | None]:
    """The rank of each item that was put somewhere, by its id."""
    if isinstance(value.get("ranker"), list):  # as the tag's first documentation has it
        value = {"ranker": {control: value["ranker"]}}
    buckets = field(value, "ranker", dict, at)
    items = {name: [str(item) for item in field(buckets, name, list, f"{at}ranker.")] for name in buckets}
    placed: list[tuple[str, int | None]]
    if list(items) == [control]:
        if higher_is_better:
            raise ValueError(f"{at}ranker: no buckets found, the first item is the best: {_LEAVE_OUT}")
        placed = [(item, rank) for rank, item in enumerate(items[control], start=1)]
    else:
        # Empty buckets too: whether an export is refused must not depend on where its labelers put something.
        bucket_ranks = _bucket_ranks([name for name in items if name != _NOT_RANKED], f"{at}ranker", higher_is_better)
        placed = [(item, bucket_ranks.get(name)) for name, contents in items.items() for item in contents]
    ranks = dict(placed)
    if len(ranks) < len(placed):
        raise ValueError(f"{at}ranker: an item is there twice")
    return ranks


def _bucket_ranks(names: list[str], at: str, higher_is_better: bool) -> dict[str, int | None]:
    """The rank of each bucket: the one in its name, or the place of its score among the buckets', the highest first."""
    ranks: Sequence[int | None] = ranks_of_scores(_scores(names, at)) if higher_is_better else _named_ranks(names, at)
    if len(set(ranks)) < len(names):
        raise ValueError(
            f"{at}: buckets {_shown(names)} found, two of them with the same number, one of each expected: "
            "put their items into one bucket in the export"
        )
    return dict(zip(names, ranks, strict=True))


def _named_ranks(names: list[str], at: str) -> list[int]:
    ranks = [int(match.group(1)) if (match := _RANK.fullmatch(name)) else 0 for name in names]
    if 0 in ranks:
        wrong = [name for name, rank in zip(names, ranks, strict=True) if rank == 0]
        raise ValueError(
            f"{at}: buckets {_shown(wrong)} found, rank_1 (the best), rank_2, ... expected: rename them in the export; or, where "
            "they end in scores, the highest best, import with --higher-is-better (in params.yaml: higher_is_better: true)"
        )
    return ranks


def _scores(names: list[str], at: str) -> list[float]:
    matches = [_SCORE.search(name) for name in names]
    kinds = {name[: match.start()] if match else None for name, match in zip(names, matches, strict=True)}
    if None in kinds or len(kinds) > 1 or any(kind.strip(" _").lower() == "rank" for kind in kinds if kind):
        raise ValueError(
            f"{at}: buckets {_shown(names)} found, score_1, score_2, ... or 1, 2, ... expected with higher_is_better: rename them in "
            f"the export, so that they differ in their last number alone; or, where they are rank_1 (the best), rank_2, ..., {_LEAVE_OUT}"
        )
    return [float(match.group()) for match in matches if match]


def _shown(names: list[str]) -> str:
    return ", ".join(repr(name[:40]) for name in names)[:200]


def _is_comparison(result: Mapping[str, Any]) -> bool:
    return result.get("type") == "pairwise" or (result.get("type") == "choices" and result.get("from_name") == _TIE)


def _compared(
    data: Mapping[str, Any], results: list[tuple[dict[str, Any], str]], at: str
) -> list[tuple[str, int | None]]:
    """Text and rank of the left and the right response."""
    chosen = [
        field(field(r, "value", dict, where), "selected", str, f"{where}value.")
        for r, where in results
        if r.get("type") == "pairwise"
    ]
    chosen += ["none" for r, _ in results if _is_comparison(r) and r.get("type") == "choices"]
    ranks = {"left": (1, 2), "right": (2, 1), "none": (1, 1)}
    if len(chosen) != 1 or chosen[0] not in ranks:
        others = [f"{r.get('type')} {r.get('from_name')!r}" for r, _ in results if r.get("type") in _ANSWERS]
        hint = f" ({', '.join(others)[:100]}: name what they say with --columns)" if others and not chosen else ""
        raise ValueError(
            f"{at}result: one ranking, preference or tie expected, found {', '.join(chosen)[:60] or 'none'}{hint}"
        )
    for keys in _SIDES:
        if all(key in data for key in keys):
            return [(field(data, key, str, "data."), rank) for key, rank in zip(keys, ranks[chosen[0]], strict=True)]
    raise ValueError(f"data: left and right expected, found {', '.join(data)[:60]}")


def _first(record: Mapping[str, Any], keys: tuple[str, ...], at: str) -> Any:
    """The text under the first of `keys` that is there."""
    for key in keys:
        if record.get(key):
            return field(record, key, str, at)
    raise ValueError(f"{at}{keys[0]}: missing, a text expected")


def _labeler(annotation: Mapping[str, Any], at: str) -> str:
    by = annotation.get("completed_by")
    if isinstance(by, dict):
        by = by.get("email") or by.get("id")
    if by is None or isinstance(by, bool) or not isinstance(by, int | str):
        raise ValueError(f"{at}completed_by: {what_was_found(by)}, a user's id or e-mail address expected")
    return str(by)
