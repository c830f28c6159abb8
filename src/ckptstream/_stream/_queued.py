"""What waits to be delivered, and when it was last seen finished."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import NamedTuple

from .._model import Checkpoint
from .._scan import Entry


class Asked(NamedTuple):
    """
    When the user asked for a checkpoint.

    Attributes:
        call: The number of that call.
        moment: When it was made, by `time.monotonic`.
    """

    call: int = 0
    moment: float = -math.inf


class Moment(NamedTuple):
    """
    When a look was made.

    Counted in calls, since clocks are coarse: uvloop's stands still while a task runs.

    Attributes:
        call: The number of the caller's call that it was made in.
        began: When it was asked for, on the event loop's clock.
        events: How many events had told of the run by then.
        thorough: Whether it trusted no event.
        ended: When it was merged, by `time.monotonic`.
    """

    call: int = -1
    began: float = -math.inf
    events: int = -1
    thorough: bool = False
    ended: float = -math.inf

    def serves(self, needed: Moment) -> bool:
        """Whether it was made in that call or later, and not before that moment."""
        return self.call >= needed.call and self.began >= needed.began


@dataclass(slots=True)
class Queued:
    """
    A finished checkpoint that waits to be delivered.

    Attributes:
        verified: When a look last saw it finished.
        attempts: How many have failed.
        reason: Why the last one did.
        number: Of its delivery, if there was one.
        given_back: Whether it was delivered to somebody who was cancelled.
        again: When it is delivered again, after one that has; on the event loop's clock.
    """

    name: str
    entry: Entry
    verified: Moment
    attempts: int = 0
    reason: str = ""
    number: int = 0
    given_back: bool = False
    again: float = -math.inf

    def checkpoint(self, run: str) -> Checkpoint:
        """As the user sees it."""
        entry, path = self.entry, os.path.join(run, self.name)
        assert entry.generation is not None
        return Checkpoint(path, entry.step, run, entry.layout, entry.generation)
