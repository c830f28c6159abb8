"""How many requests a run, or a pattern, has cost lately."""

from __future__ import annotations

import time
from collections import deque

from .._stores import Location

_HOUR = 3600.0  # seconds
_GRAIN = 300.0  # seconds between two notes: a thousand runs are to be followed


class Requests:
    """
    Counts the requests that were made for one location in the last hour.

    Args:
        location: What counts them all.
    """

    __slots__ = ("_location", "_looked", "_notes")

    def __init__(self, location: Location) -> None:
        self._location = location
        self._looked = location.requests or 0
        # When there had been how many, by `time.monotonic`.
        self._notes: deque[tuple[float, int]] = deque([(-_HOUR, 0)])

    def note(self) -> int:
        """After a look: how many it made."""
        total = self._location.requests or 0
        made, self._looked = total - self._looked, total
        self._note(total)
        return made

    def _note(self, total: int) -> None:
        now = time.monotonic()
        if total and now - self._notes[-1][0] >= _GRAIN:
            self._notes.append((now, total))
        while len(self._notes) > 1 and self._notes[1][0] <= now - _HOUR:
            self._notes.popleft()

    @property
    def last_hour(self) -> int | None:
        """How many, give or take those of five minutes; None where nothing is paid for."""
        total = self._location.requests
        if total is None:
            return None
        self._note(total)  # Maybe nobody has looked for hours.
        return total - self._notes[0][1]
