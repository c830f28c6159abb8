"""How soon to ask a store again of which somebody tells, where each request is paid for."""

from __future__ import annotations

import math

_FIRST = 0.05  # seconds: twice as long each time,
_LONGEST = 1.0  # up to that: events of a bucket take longer than a second to come


class Joining:
    """
    One run's. A bucket tells of each object of an upload, and one look serves many of them.

    The first event is looked at at once. What comes after it waits until the look before is a
    pause old, which grows while they go on coming: a small upload is over before it has grown.

    Attributes:
        rests_until: No look for events before that, on the event loop's clock.
    """

    __slots__ = ("_events", "_pause", "rests_until")

    def __init__(self) -> None:
        self.rests_until = -math.inf
        self._pause = 0.0  # seconds
        self._events = 0

    def look(self, now: float, events: int) -> None:
        """
        A look begins.

        Args:
            now: The time.
            events: How many events there have been.
        """
        if events == self._events:
            return  # Nobody has told of anything.
        self._events = events
        is_first = now - self.rests_until > _LONGEST
        self._pause = _FIRST if is_first else min(2 * self._pause, _LONGEST)
        self.rests_until = now + self._pause

    def shift(self, seconds: float) -> None:
        """Another event loop has begun, whose clock is so far ahead."""
        self.rests_until += seconds
