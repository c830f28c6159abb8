"""What may be finished in a moment, and holds back what comes after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from .._scan import Entry, Look


class Behind(NamedTuple):
    """
    What a checkpoint waits for.

    Attributes:
        names: What may be finished in a moment, by step: one object for all of a look's finds.
        step: Those before this step come before it.
        found: When it was found, on the look's clock.
    """

    names: Mapping[str, int] = {}
    step: int = 0
    found: float = -math.inf

    def waits_for(self, name: str) -> bool:
        """Whether that one comes before it."""
        return self.names.get(name, self.step) < self.step


NOTHING = Behind()


class Settling:
    """
    The entries of a run that wait for their files to stop changing.

    A pointer proves what it names at once, and what was saved before that only settles: where
    several were saved while nobody looked, the newest would come first. What is written to
    meanwhile holds back nothing any more, so that every hold ends.

    Attributes:
        first: When the first look ended, on its own clock.
        holding: Whether something that was there at the first look has still to settle: then
            the order of all is not known.
    """

    __slots__ = ("_found", "_line", "_since", "first", "holding")

    def __init__(self) -> None:
        # Since when each has been as it is, on the look's clock.
        self._since: dict[str, float] = {}
        self._found = -math.inf  # when the last look ended
        self._line: Mapping[str, int] | None = None  # with their steps, in that order
        self.first = math.inf
        self.holding = False

    def enter(
        self, look: Look, judged: Collection[str], entries: Mapping[str, Entry], ended: float
    ) -> None:
        """
        Enter what a look found.

        Args:
            look: Its result, without trouble.
            judged: Names that it was told to look into.
            entries: Every checkpoint that is there.
            ended: When it ended, on its own clock.
        """
        self._found, self._line, self.first = ended, None, min(self.first, ended)
        for name in list(self._since) if look.full else (*judged, *look.changed, *look.gone):
            self._since.pop(name, None)
        if look.settling and look.ground is not None:
            # What has settled for one layout may still be waited for by another.
            settled = look.began - look.ground.profile.settle
            for name in look.settling:
                moments = (each.since for each in entries[name].settling if each.since > settled)
                self._since[name] = min(moments, default=math.inf)
        self.holding = any(since <= self.first for since in self._since.values())

    def before(
        self, step: int | None, entries: Mapping[str, Entry], is_awaited: Callable[[str], bool]
    ) -> Behind:
        """Those of a lower step, if it is awaited that they are finished."""
        if step is None or self.holding or not self._since:
            return NOTHING
        if self._line is None:
            steps = [(entries[name].step, name) for name in self._since if is_awaited(name)]
            line = sorted((each, name) for each, name in steps if each is not None)
            self._line = {name: each for each, name in line}
        return Behind(self._line, step, self._found) if self._line else NOTHING

    def blocker(self, behind: Behind) -> str | None:
        """The first of those that is still as it was then."""
        for name, step in behind.names.items():
            if step >= behind.step:
                break
            if self._since.get(name, math.inf) <= behind.found:
                return name
        return None

    def forget(self) -> None:
        """Nothing is awaited any more."""
        self._since.clear()
        self.holding = False
