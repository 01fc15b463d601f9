from data.overlong import apply_max_length

TEXTS = [[1, 2, 3], [4], [5, 6]]


def test_longer_texts_are_dropped() -> None:
    assert apply_max_length(TEXTS, 2, "drop") == ([1, 2], [[4], [5, 6]])


def test_longer_texts_lose_their_end() -> None:
    assert apply_max_length(TEXTS, 2, "truncate") == ([0, 1, 2], [[1, 2], [4], [5, 6]])
