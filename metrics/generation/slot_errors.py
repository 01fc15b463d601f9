"""How much of an E2E meaning representation a text says, wrongly says, or invents: the slot error rate.

SER = (missing + wrong + added) / slots of the meaning representations, over the whole corpus: the ERR of Wen et al. (2015, section 3.4),
with wrong values apart, as Dušek, Howcroft and Rieser (2019, "Semantic Noise Matters") count for E2E. A slot is

- *missing* when the text says no value of it,
- *wrong* when the text says another value of it, but not its own,
- *added* when it is not in the meaning representation and the text says a value of it.

Patterns (below) tell which values a text says; names are searched for word for word. A value that is said twice counts once. Patterns miss
unusual words: compare systems with each other and with the rate of the references (`references_slot_error_rate`).
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

VERBATIM = ("name", "near")  # their values are in the text word for word

_PRICES = r"(?:prices?|priced|pricing|costs?)"
_RATED = r"(?:rat(?:ed|es?|ings?)|reviews?|reviewed|scores?|quality|service)"
_KIDS = r"(?:kids?|child(?:ren)?|famil(?:y|ies))"
_NOT = r"(?:not?|non|n't|never|isn't|doesn't|aren't|without)"
_OUT_OF = r"(?: ?/ ?5| (?:out )?of (?:5|five)|[ -]stars?)"
_LOW = rf"\b(?:cheap(?:ly)?|inexpensive|affordabl[ey]|low(?:er)?[ -](?:cost|{_PRICES})|{_PRICES}(?: \w+){{0,4}} low\b)"
_MID = (
    rf"\b(?:(?:moderate(?:ly)?|average(?:ly)?|mid(?:dle|-range)?|reasonabl[ey]|medium)[ -](?:\w+[ -])?{_PRICES}"
    rf"|{_PRICES}(?: \w+){{0,4}} (?:moderate|average|reasonable)\b)"
)
_HIGH = rf"\b(?:expensive|pricey|high(?:er|ly)?[ -](?:\w+[ -])?{_PRICES}|{_PRICES}(?: \w+){{0,4}} high\b)"


def _rating(number: str, words: str) -> str:
    return rf"\b(?:{number}){_OUT_OF}|\b(?:{words})(?:ly)?(?:[ -]\w+){{0,3}}[ -]{_RATED}\b|\b{_RATED}(?: \w+){{0,3}} (?:{words})\b"


_RATINGS = {
    "low": _rating("1|one", "low|poor|bad"),
    "average": _rating("3|three", "average|moderate|ok|decent"),
    "high": _rating("5|five", "high|excellent|great|top"),
}

# Two values of a slot that the same words can say (a low price and "less than £20") are not told apart: either is right.
PATTERNS: Mapping[str, Mapping[str, str]] = {
    "eatType": {
        "coffee shop": r"\bcoffee|\bcaf[eé]s?\b(?! (?:adriatic|brazil|rouge|sicilia))",
        "pub": r"\bpubs?\b",
        "restaurant": r"\brestaurants?\b",
    },
    "food": {
        "Chinese": r"\bchines",
        "English": r"\b(?:english|british)\b",
        "Fast food": r"\bfast[ -]food\b",
        "French": r"\bfrench\b",
        "Indian": r"\bindian\b(?! cuisine\b(?<=raja indian cuisine))",
        "Italian": r"\bitalian\b",
        "Japanese": r"\b(?:japanese|sushi)\b",
    },
    "priceRange": {
        "cheap": _LOW,
        "less than £20": rf"\b(?:less|lower|cheaper) than (?:£ ?)?20|\b(?:under|below) (?:£ ?)?20|£ ?20 or less|{_LOW}",
        "moderate": _MID,
        "£20-25": rf"(?:£ ?)?20 ?(?:-|–|to|and) ?(?:£ ?)?25|{_MID}",
        "high": _HIGH,
        "more than £30": rf"\b(?:more|higher) than (?:£ ?)?30|\b(?:over|above) (?:£ ?)?30|{_HIGH}",
    },
    "customer rating": {
        "1 out of 5": _RATINGS["low"], "low": _RATINGS["low"],
        "3 out of 5": _RATINGS["average"], "average": _RATINGS["average"],
        "5 out of 5": _RATINGS["high"], "high": _RATINGS["high"],
    },
    "area": {
        "city centre": r"\b(?:town|city)[ -]cent|\bcent(?:re|er) of (?:the )?(?:city|town)|\bin the cent(?:re|er)\b|\bdowntown\b",
        "riverside": r"\briver(?:side|bank)?\b",
    },
    "familyFriendly": {
        "no": (
            rf"\b{_NOT}[ -](?:\w+[ -]){{0,4}}{_KIDS}\b|n't (?:\w+[ -]){{0,4}}{_KIDS}\b|\b{_KIDS}(?: \w+){{0,2}} {_NOT}\b"
            rf"|\badults?[ -](?:only|establishment)|\bonly for adults|\b{_KIDS}[ -]unfriendly"
        ),
        "yes": rf"\b{_KIDS}\b",
    },
}  # fmt: skip
_COMPILED = {slot: {v: re.compile(p, re.IGNORECASE) for v, p in values.items()} for slot, values in PATTERNS.items()}
_SLOT = re.compile(r"\s*([^,\[\]][^\[\]]*)\[([^\[\]]*)\]\s*(?:,|$)")


def slots(meaning: str) -> dict[str, str] | None:
    """Slots and values of a meaning representation such as "name[The Mill], food[French]"; None where the text is none."""
    values, end = {}, 0
    for match in _SLOT.finditer(meaning):
        if match.start() != end:
            return None
        values[match[1].strip()], end = match[2].strip(), match.end()
    return values if values and end == len(meaning) else None


def slot_errors(meanings: Sequence[Mapping[str, str]], texts: Sequence[str]) -> dict[str, float]:
    """The slot error rate of a corpus, its three counts, and the number of slots.

    Names that count as said are those of all `meanings`. Slots without patterns are left out.
    """
    if len(meanings) != len(texts):
        raise ValueError("each text needs its meaning representation")
    names: dict[str, dict[str, re.Pattern[str]]] = defaultdict(dict)
    for meaning in meanings:
        for slot in VERBATIM:
            if value := meaning.get(slot):
                names[slot][value] = re.compile(rf"(?<!\w){re.escape(value)}(?!\w)", re.IGNORECASE)
    patterns = {**_COMPILED, **names}
    counts = dict.fromkeys(("missing", "wrong", "added", "slots"), 0)
    for meaning, text in zip(meanings, texts, strict=True):
        for slot, values in patterns.items():
            said = {value for value, pattern in values.items() if pattern.search(text)}
            if slot == "familyFriendly" and "no" in said:
                said.discard("yes")
            if slot == "near" or (slot == "name" and slot not in meaning):
                said.discard(
                    meaning.get("name" if slot == "near" else "near", "")
                )  # a venue is both somebody's name and a neighbour
            expected = meaning.get(slot)
            if expected is None:
                counts["added"] += bool(said)
                continue
            counts["slots"] += 1
            if expected not in said:
                counts["wrong" if said else "missing"] += 1
    errors = counts["missing"] + counts["wrong"] + counts["added"]
    return {
        "slot_error_rate": errors / max(counts["slots"], 1),
        **{f"slots_{kind}" if kind != "slots" else kind: n for kind, n in counts.items()},
    }
