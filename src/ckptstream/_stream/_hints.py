"""What a directory's next look has to look into."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping


class Hints:
    """
    Names in which something happened, until a look that was told of them is merged.

    Attributes:
        everything: Anything may have happened: the next look lists the directory.
    """

    __slots__ = ("_given", "_new", "everything")

    def __init__(self) -> None:
        self.everything = True
        self._new: dict[str, bool] = {}
        self._given: dict[str, bool] = {}  # to the look in flight, or to one that failed

    def __bool__(self) -> bool:
        return self.everything or bool(self._new)

    def add(self, name: str, arrived: bool = False) -> None:
        """Something happened to *name*, now the latest; *arrived*: it was created or moved in."""
        self._new[name] = self._new.pop(name, False) or arrived

    def add_old(self, names: Iterable[str]) -> None:
        """Nothing happened to these, but the next look looks into them, too."""
        for name in names:
            self._new.setdefault(name, False)

    def give(self, settled: Collection[str] = ()) -> Mapping[str, bool]:
        """All that the look which begins now is told of; *settled*: what time has changed."""
        self.everything = False
        if not (self._new or self._given or settled):
            return self._given
        hints, self._new = dict.fromkeys(settled, False) | self._new, {}
        # What is left of the look before was not seen by it: it failed, or was never made.
        left = {name: arrived for name, arrived in self._given.items() if name not in hints}
        self._given = left | {n: a or self._given.get(n, False) for n, a in hints.items()}
        return self._given

    @property
    def given(self) -> Mapping[str, bool]:
        """What the look was told of that `give` was called for last."""
        return self._given

    def spend(self) -> None:
        """That look has seen what it was told of."""
        if self._given:
            self._given = {}
