"""What the last look said of a run as a whole, and what was said of it to the user."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import NamedTuple

from .._errors import CursorError
from .._scan import Look, Trouble
from ._flight import Flight

PATIENCE = 5.0  # seconds in which a trainer writes something that tells whose it is
LONG_PATIENCE = 60.0  # seconds in which it goes on with what somebody takes for an unfinished one


class Sight(NamedTuple):
    """
    What the last look said of the run as a whole.

    Attributes:
        ended: When its result was merged, by `time.monotonic`; None before the first one.
        since: Since when there has been the same stranger, on the event loop's clock.
        explained: When that is long enough to speak of it.
        puzzling: Whether it was.
    """

    ended: float | None = None
    look: Look = Look()
    since: float = math.inf
    explained: float = math.inf
    puzzling: bool = False

    def after(self, look: Look, now: float) -> Sight:
        """With what the next look said."""
        stranger, before = (
            None if each.foreign is None else each.foreign.stranger for each in (look, self.look)
        )
        if stranger is None:
            return Sight(time.monotonic(), look)
        since = self.since if stranger == before else now
        explained = since + (PATIENCE if stranger.sure else LONG_PATIENCE)
        return Sight(time.monotonic(), look, since, explained, now >= explained)

    def shifted(self, seconds: float) -> Sight:
        """On the clock of another event loop, which is so far ahead."""
        return self._replace(since=self.since + seconds, explained=self.explained + seconds)


def landed(flight: Flight[Look], named: bool) -> Look:
    """
    The result of a look that has landed.

    Args:
        flight: The look's.
        named: Whether the user named the run, and not a pattern.
    """
    try:
        return flight.take()
    except CursorError as error:
        if named or error.run is None:
            raise
        # One that a pattern has found must not end the stream over all the others.
        return Look(trouble=Trouble.BUSY, reason=Trouble.BUSY.value)


@dataclass(slots=True)
class Told:
    """
    What was logged of a run already.

    Attributes:
        waits: Whether what it waits for was, since it has delivered something.
        reason: The last thing that it waited for.
        warned: Warnings.
        missed: How many were missed.
    """

    waits: bool = False
    reason: str = ""
    warned: frozenset[str] = frozenset()
    missed: int = 0
