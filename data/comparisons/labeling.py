"""Labeling tasks for Label Studio, and the labeling configuration that shows them: what `formats.label_studio` reads back.

A task's `data` is what labelers see: the prompt, and the responses in random order under the names A, B, ... Its `meta`, which no
labeling configuration can show, keeps the rest until the export comes back: systems, reference, messages of a chat prompt.

https://labelstud.io/guide/tasks (tasks to import), https://labelstud.io/tags/list, https://labelstud.io/tags/ranker,
https://labelstud.io/tags/pairwise
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Literal

from core.errors import InputError
from core.folders import finished_file
from data.comparisons.collection import rankings, read_collection
from data.comparisons.importing.columns import cells
from data.comparisons.importing.records import Problem, Record, Records
from data.comparisons.importing.report import SHOWN
from data.comparisons.jsonl import parse_record
from data.comparisons.ranking import Ranking, ranking

MAX_RESPONSES = 9  # of a task: more columns cannot be looked over
_JUDGMENT = Ranking.model_fields.keys() - {"messages", "prompt", "responses", "reference", "systems"}

Task = dict[str, Any]
# All responses of a prompt in one task; or every two of them in a task of their own.
Template = Literal["ranker", "pairwise"]


def write_tasks(source: str, output: Path, config: Path, template: Template, seed: int) -> tuple[int, int]:
    """Writes the tasks of a file or collection and the configuration of their project; both appear when all tasks are made.

    Memory stays flat: of a task that is written, 16 bytes are kept.

    Returns:
        The numbers of prompts (with their responses) and of tasks. The same responses to the same prompt count once.

    Raises:
        InputError: a record is wrong (names each, up to 20; nothing is written then), or there is none.
    """
    prompts = count = max_responses = 0
    with finished_file(output) as partial, open(partial, "w", encoding="utf-8") as file:
        for candidates in distinct_candidates(read_candidates(source)):
            prompts, max_responses = prompts + 1, max(max_responses, len(candidates.responses))
            for task in tasks(candidates, template, seed):
                file.write(("[\n" if not count else ",\n") + json.dumps(task, ensure_ascii=False))
                count += 1
        if not count:
            raise InputError(f'{source}: empty. Put one {{"prompt": "...", "responses": ["...", "..."]}} on each line.')
        file.write("\n]\n")
        with finished_file(config) as xml:
            xml.write_text(labeling_config(template, max_responses), encoding="utf-8")
    return prompts, count


def tasks(candidates: Ranking, template: Template, seed: int) -> Iterator[Task]:
    """The tasks of one prompt. The order of responses depends on the seed and the texts, not on the order they are given in."""
    numbers = range(len(candidates.responses))
    if template == "ranker":
        order = _shuffled(candidates, numbers, seed)
        # Letters: ids that look like numbers are shown in the order of these numbers (they become keys of a JavaScript object).
        items = [{"id": ascii_uppercase[n], "body": candidates.responses[i]} for n, i in enumerate(order)]
        yield {"data": {"prompt": candidates.prompt, "responses": items}, "meta": _meta(candidates, order)}
        return
    for pair in itertools.combinations(_shuffled(candidates, numbers, seed), 2):
        left, right = _shuffled(candidates, pair, seed)
        texts = {"left": candidates.responses[left], "right": candidates.responses[right]}
        yield {"data": {"prompt": candidates.prompt, **texts}, "meta": _meta(candidates, [left, right])}


def _meta(candidates: Ranking, order: list[int]) -> dict[str, Any]:
    meta = candidates.model_dump(mode="json", include={"messages", "reference"}, exclude_none=True)
    return {**meta, "systems": [list(candidates.systems[i]) for i in order]} if candidates.systems else meta


def _shuffled(candidates: Ranking, chosen: Iterable[int], seed: int) -> list[int]:
    chosen = sorted(chosen, key=lambda i: candidates.responses[i])
    texts = [candidates.responses[i] for i in chosen]
    return sorted(chosen, key=lambda i: _digest(str(seed), candidates.prompt, *texts, candidates.responses[i]))


def _digest(*texts: str) -> bytes:
    written = "".join([f"{len(t)}:{t}" for t in texts])
    return hashlib.blake2b(written.encode(), digest_size=16).digest()


def distinct_candidates(candidates: Iterable[Ranking]) -> Iterator[Ranking]:
    """Each prompt with the same responses, in whatever order, once: a collection has a row for every labeler."""
    seen: set[bytes] = set()
    for one in candidates:
        key = _digest(one.prompt, *sorted(one.responses))
        if key not in seen:
            seen.add(key)
            yield one


def read_candidates(source: str) -> Iterator[Ranking]:
    """What is to be ranked, as rankings whose ranks and labeler mean nothing: of a collection's folder or a file of records.

    Raises:
        InputError: the source cannot be read; or, after the last record, some were wrong.
    """
    records: Iterable[tuple[int, Record]]
    if Path(source).is_dir():
        judged = rankings(read_collection(Path(source)))
        records, is_table = enumerate((r.model_dump() for r in judged), start=1), False
    else:
        records = opened = Records(source)
        is_table = opened.is_table
    errors: list[str] = []
    for line, record in records:
        try:
            yield _candidates(record, is_table)
        except ValueError as error:
            errors.append(f"{source}:{line}: {error}")
            if len(errors) == SHOWN:
                errors.append("(further records not read)")
                break
    if errors:
        raise InputError("\n".join([*errors, "No task was written. Fix or remove these records."]))


def _candidates(record: Record, is_table: bool) -> Ranking:
    if isinstance(record, Problem):
        raise ValueError(record.why)
    values = parse_record(record) if isinstance(record, bytes) else record
    values = {key: value for key, value in (cells(values) if is_table else values).items() if key not in _JUDGMENT}
    responses = values.get("responses")
    k = len(responses) if isinstance(responses, list | tuple) else 0
    if k > MAX_RESPONSES:
        raise ValueError(f"responses: K = {k}, at most {MAX_RESPONSES} can be ranked at once: leave some out")
    return ranking({**values, "ranks": [1] * k, "labeler": "nobody", "origin": "nowhere"})


def labeling_config(template: Template, max_responses: int = MAX_RESPONSES) -> str:
    """The labeling configuration (XML) for tasks of up to `max_responses` responses. It holds no data: its values name keys of the tasks.

    Buckets are ranks: responses in one bucket tie, those that stay in the list are not ranked. A Ranker without buckets knows
    neither, and saves the random order of an untouched task as if it were a judgment.
    """
    if template == "pairwise":
        return _PAIRWISE
    titles = {1: "1 (best)", max_responses: f"{max_responses} (worst)"}
    buckets = [f'      <Bucket name="rank_{n}" title="{titles.get(n, n)}" />' for n in range(1, max_responses + 1)]
    return _RANKER.replace("BUCKETS", "\n".join(buckets))


# Of a List's items only `html` is rendered; `body`, and a Text, are shown with all their tags. An item's last line is its id.
_RANKER = """<View>
  <Style>
    .htx-ranker-column { min-width: 14em; }
    .htx-ranker-item { white-space: pre-wrap; overflow-wrap: anywhere; }
    .htx-ranker-item p:last-child { display: none; }
  </Style>
  <Header value="Drag each response to its rank. Equally good responses go to the same rank; what you cannot judge stays." />
  <Text name="prompt" value="$prompt" valueType="text" />
  <View style="overflow-x: auto;">
    <List name="responses" value="$responses" title="Not ranked" />
    <Ranker name="ranking" toName="responses">
BUCKETS
    </Ranker>
  </View>
</View>
"""

_PAIRWISE = """<View>
  <Header value="Click the better response, or choose that neither is better." />
  <Text name="prompt" value="$prompt" valueType="text" />
  <Pairwise name="comparison" toName="left,right" />
  <View style="display: grid; grid-template-columns: 1fr 1fr; gap: 1em;">
    <Text name="left" value="$left" valueType="text" />
    <Text name="right" value="$right" valueType="text" />
  </View>
  <Choices name="tie" toName="prompt" choice="single">
    <Choice value="Neither is better" />
  </Choices>
</View>
"""
