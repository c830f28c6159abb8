"""What may be finished in a moment, and holds back what comes after it."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from .._scan import Entry, Look


class Line:
    """
    What might have been finished in a moment when a look found what comes after it.

    One for all of a look's finds, of which there may be ten thousand.

    Args:
        steps: The step of each, the lowest first.
        found: When that look ended, on its own clock.

    Attributes:
        steps: Of those that were not found yet.
        found: When that look ended.
        rest: Those that may hold back what comes after them, the first one last.
    """

    __slots__ = ("found", "rest", "steps")

    def __init__(self, steps: dict[str, int], found: float) -> None:
        self.steps = steps
        self.found = found
        self.rest = list(reversed(steps.items()))


class Behind(NamedTuple):
    """
    What a checkpoint waits for.

    Attributes:
        line: What may be finished in a moment.
        step: Those before this step come before it.
    """

    line: Line
    step: int


def places(line: Iterable[Behind | None]) -> Callable[[str], int | None]:
    """
    Where one that is found belongs, by its name: before the first that waited for it.

    Asked once for each: what is written anew after that comes in its own turn.
    """
    known = dict[int, tuple[Line, list[int], list[int]]]()
    for place, behind in enumerate(line):
        if behind is not None and behind.line.steps:
            _, firsts, steps = known.setdefault(id(behind.line), (behind.line, [], []))
            if not steps or behind.step > steps[-1]:
                firsts.append(place)
                steps.append(behind.step)

    def place_of(name: str) -> int | None:
        found = list[int]()
        for each, firsts, steps in known.values():
            step = each.steps.pop(name, None)
            if step is not None:
                found += firsts[bisect_right(steps, step) :][:1]
        return min(found, default=None)

    return place_of


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
        self._line: Line | None = None  # of what that look found
        self.first = math.inf
        self.holding = False

    def __bool__(self) -> bool:
        return bool(self._since)

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
    ) -> Behind | None:
        """Those of a lower step, if it is awaited that they are finished."""
        if step is None or not self._since:
            return None
        if self._line is None:
            steps = [(entries[name].step, name) for name in self._since if is_awaited(name)]
            line = sorted((each, name) for each, name in steps if each is not None)
            self._line = Line({name: each for each, name in line}, self._found)
        return Behind(self._line, step) if self._line.steps else None

    def blocker(self, behind: Behind | None) -> str | None:
        """The first of those that is still as it was then."""
        if behind is None:
            return None
        line = behind.line
        while line.rest and self._since.get(line.rest[-1][0], math.inf) > line.found:
            line.rest.pop()
        return line.rest[-1][0] if line.rest and line.rest[-1][1] < behind.step else None

    def forget(self) -> None:
        """Nothing is awaited any more."""
        self._since.clear()
        self.holding = False
