"""Slots of E2E meaning representations that texts say, miss, get wrong and invent."""

import pytest

from metrics.generation.slot_errors import slot_errors, slots

MILL = "name[The Mill], eatType[pub], food[French], priceRange[£20-25], area[riverside], familyFriendly[no], near[Café Rouge]"


def test_slots() -> None:
    assert slots(MILL) == {
        "name": "The Mill", "eatType": "pub", "food": "French", "priceRange": "£20-25", "area": "riverside", "familyFriendly": "no",
        "near": "Café Rouge",
    }  # fmt: skip
    assert slots("In the beginning God created the heaven") is None
    assert slots("name[The Mill] and more") is None


@pytest.mark.parametrize(("text", "missing", "wrong", "added"), [
    ("The Mill is a French pub by the river near Café Rouge, £20-25. It isn't for families.", 0, 0, 0),
    ("the mill, a moderately priced french pub at the riverside close to café rouge, is not child-friendly", 0, 0, 0),
    ("The Mill is a French pub near Café Rouge, £20-25, and not family-friendly.", 1, 0, 0),
    ("The Mill is an Italian pub by the river near Café Rouge, £20-25. It is kid friendly.", 0, 2, 0),
    ("The Mill is a highly rated French pub by the river near Café Rouge, £20-25, adults only.", 0, 0, 1),
    ("", 7, 0, 0),
])  # fmt: skip
def test_each_kind_of_error(text: str, missing: int, wrong: int, added: int) -> None:
    meaning = slots(MILL)
    assert meaning
    errors = slot_errors([meaning], [text])
    assert errors == {
        "slot_error_rate": (missing + wrong + added) / 7, "slots": 7,
        "slots_missing": missing, "slots_wrong": wrong, "slots_added": added,
    }  # fmt: skip


def test_names_are_those_of_the_corpus() -> None:
    meanings = [{"name": "Zizzi"}, {"name": "Strada", "near": "Zizzi"}]
    assert slot_errors(meanings, ["Strada is good.", "Strada is near Zizzi."])["slots_wrong"] == 1
