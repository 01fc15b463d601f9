"""What belongs together, directly or through others."""

import random

from data.comparisons.connected import Connected


def test_what_is_connected_through_others_is_one_part_named_by_its_smallest_whatever_the_order() -> None:
    pairs = [(5, 4), (4, 3), (9, 8), (3, 7)]
    for seed in range(20):
        random.Random(seed).shuffle(pairs)
        connected = Connected[int]()
        for one, other in pairs:
            connected.connect(one, other)
        assert [connected.part(n) for n in (3, 4, 5, 7, 8, 9)] == [3, 3, 3, 3, 8, 8]
        assert connected.part(1) == 1
