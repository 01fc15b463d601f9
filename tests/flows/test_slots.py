"""Slots go to what holds up most."""

import asyncio

from flows.slots import Slots


def test_no_more_at_once_than_slots_and_the_heaviest_first() -> None:
    order: list[str] = []
    most_running = 0

    async def work(slots: Slots, name: str, weight: int, running: list[str]) -> None:
        nonlocal most_running
        slot = await slots.acquire(weight)
        running.append(name)
        order.append(name)
        most_running = max(most_running, len(running))
        await asyncio.sleep(0.2)
        running.remove(name)
        slots.release(slot)

    async def main() -> None:
        slots, running = Slots(2), []
        await asyncio.gather(
            *(
                work(slots, name, weight, running)
                for name, weight in (("light", 1), ("heavy", 9), ("middle", 5), ("lightest", 0))
            )
        )

    asyncio.run(main())
    assert order == ["heavy", "middle", "light", "lightest"]
    assert most_running == 2


def test_a_cancelled_wait_gives_its_slot_back() -> None:
    async def main() -> None:
        slots = Slots(1)
        slot = await slots.acquire(0)
        waiting = asyncio.create_task(slots.acquire(0))
        await asyncio.sleep(0)
        waiting.cancel()
        slots.release(slot)
        await asyncio.wait_for(slots.acquire(0), 1)

    asyncio.run(main())
