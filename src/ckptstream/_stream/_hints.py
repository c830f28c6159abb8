"""What a directory's next look has to look into."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TypeAlias

Hint: TypeAlias = "bool | None"  # as in `Request.hints`


class Hints:
    """
    Names in which something happened, until a look that was told of them is merged.

    Attributes:
        everything: Anything may have happened: the next look lists the directory.
        events: How many have told of something.
    """

    __slots__ = ("_given", "_new", "events", "everything")

    def __init__(self) -> None:
        self.everything = True
        self.events = 0
        self._new: dict[str, Hint] = {}
        self._given: dict[str, Hint] = {}  # to the look in flight, or to one that failed

    def __bool__(self) -> bool:
        return self.everything or bool(self._new)

    def add(self, name: str, arrived: bool = False) -> None:
        """Something happened to *name*, now the latest; *arrived*: it was created or moved in."""
        self.events += 1
        self._new[name] = bool(self._new.pop(name, False)) or arrived

    def add_all(self) -> None:
        """Anything may have happened."""
        self.events += 1
        self.everything = True

    def verify(self, name: str) -> None:
        """Nothing is known to have happened to *name*, but the next look looks into it, too."""
        self._new[name] = bool(self._new.get(name, False))

    def watch(self, names: Iterable[str]) -> None:
        """The next look only has to watch these."""
        for name in names:
            self._new.setdefault(name, None)

    def give(self, settled: Collection[str] = ()) -> Mapping[str, Hint]:
        """All that the look which begins now is told of; *settled*: what time has changed."""
        self.everything = False
        if not (self._new or self._given or settled):
            return self._given
        hints: dict[str, Hint] = dict.fromkeys(settled, False)
        hints |= {n: a if a is not None else hints.get(n) for n, a in self._new.items()}
        self._new = {}
        # What is left of the look before was not seen by it: it failed, or was never made.
        left = {name: arrived for name, arrived in self._given.items() if name not in hints}
        self._given = left | {n: a or self._given.get(n, a) for n, a in hints.items()}
        return self._given

    @property
    def judged(self) -> Collection[str]:
        """What the look had to judge that `give` was called for last: more than watch it."""
        return [name for name, hint in self._given.items() if hint is not None]

    def spend(self) -> None:
        """That look has seen what it was told of."""
        if self._given:
            self._given = {}
