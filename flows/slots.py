"""Places to run a stage, handed out in the order of what holds up most."""

import asyncio
import heapq

SETTLING_SECONDS = 0.1


class Slots:
    """`count` numbered slots; on a machine with GPUs they are dealt to these in turn.

    When several stages wait, the one with the greatest `weight` is next: the stages that most others depend on come first, so
    the long chain is not left for the end.
    """

    def __init__(self, count: int) -> None:
        self._free = list(range(count))
        self._waiting: list[tuple[int, int, asyncio.Future[int]]] = []
        self._arrivals = 0

    async def acquire(self, weight: int) -> int:
        """Waits for a slot and takes it."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-weight, self._arrivals, future))
        self._arrivals += 1
        self._serve_soon()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.release(future.result())
            raise

    def release(self, slot: int) -> None:
        """Gives a slot back."""
        self._free.append(slot)
        self._serve_soon()

    def _serve_soon(self) -> None:
        # Not at once: the stages that the end of another has made ready shall all be waiting before one is chosen.
        asyncio.get_running_loop().call_later(SETTLING_SECONDS, self._serve)

    def _serve(self) -> None:
        while self._free and self._waiting:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(self._free.pop(0))
