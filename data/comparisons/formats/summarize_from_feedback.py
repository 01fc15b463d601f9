"""OpenAI summarize-from-feedback, the comparisons: which of two summaries a named worker chose.

A record is {"info": {"id", "title", "post", "subreddit"} or {"id", "title", "article", "site"}, "summaries": [{"text",
"policy", "note"}, x 2], "choice": 0 or 1, "worker", "batch", "split", "extra": {"confidence"}}; the hub's rows have all keys of
`info`, null where they do not apply. The prompt is written out as the paper's models saw it. Records of the other part of the data
set, `axis`, have one summary each and cannot be ranked.

https://huggingface.co/datasets/openai/summarize_from_feedback
https://github.com/openai/summarize-from-feedback#comparisons
"""

from collections.abc import Iterator, Mapping
from typing import Any

from data.comparisons.importing.fields import entries, field, optional

PAIRS = True


def rankings(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The one pair of a record."""
    summaries = entries(record, "summaries")
    if len(summaries) != 2:
        raise ValueError(f"summaries: {len(summaries)} found, 2 expected")
    choice = field(record, "choice", int)
    if choice not in (0, 1):
        raise ValueError(f"choice: {choice} found, 0 or 1 expected")
    yield {
        "prompt": _prompt(field(record, "info", dict)),
        "responses": [field(summary, "text", str, at) for summary, at in summaries],
        "ranks": [1, 2] if choice == 0 else [2, 1],
        "labeler": field(record, "worker", str),
        "systems": [(field(summary, "policy", str, at),) for summary, at in summaries],
    }


def _prompt(info: Mapping[str, Any]) -> str:
    article = optional(info, "article", str, "info.")
    if article is not None:
        return f"Article:\n{article}\n\nTL;DR:"
    subreddit, title, post = (field(info, key, str, "info.") for key in ("subreddit", "title", "post"))
    return f"SUBREDDIT: r/{subreddit}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:"
