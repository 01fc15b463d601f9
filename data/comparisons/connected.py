"""What belongs together, directly or through others."""

from typing import Any, Generic, TypeVar

T = TypeVar("T", bound=Any)  # can be ordered and hashed


class Connected(Generic[T]):
    """Things in connected parts (union-find with path halving). A part is named by the smallest thing in it, in whatever order it was made."""

    def __init__(self) -> None:
        self._parent: dict[T, T] = {}

    def part(self, thing: T) -> T:
        """The name of the part that `thing` is in; a thing that was never connected is its own part."""
        parent = self._parent
        while parent.setdefault(thing, thing) != thing:
            parent[thing] = thing = parent[parent[thing]]
        return thing

    def connect(self, one: T, other: T) -> None:
        """Makes the parts of both things one part."""
        name, joined = sorted((self.part(one), self.part(other)))
        self._parent[joined] = name
