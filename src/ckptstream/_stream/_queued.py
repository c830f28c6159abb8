"""What waits to be delivered, and when it was last seen finished."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import NamedTuple

from .._model import Checkpoint
from .._pins import Hold
from .._scan import Entry
from ._settling import Behind


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


def kept_key(name: str, entry: Entry) -> str:
    """What a checkpoint that is kept waits under: another one may have its name by now."""
    return f"{name}\0{entry.generation}"  # what no name can be


@dataclass(slots=True, eq=False)
class Queued:
    """
    A finished checkpoint that waits to be delivered.

    Attributes:
        verified: When a look last saw it finished, or its pin intact, once that is all there is.
        attempts: How many have failed.
        reason: Why the last one did.
        number: Of its delivery, if there was one.
        given_back: Whether it was delivered to somebody who was cancelled.
        again: When it is delivered again, after one that has; on the event loop's clock.
        out: Whether the user has it.
        hold: Its pin, if it has one.
        kept: Whether the pin is all there is: the checkpoint itself is gone, or is another one.
        refused: When it was gone, as who was to pin it says; on the event loop's clock.
        doubtful: Whether the pin's files may have been written to before it was gone.
        behind: What came before it and had yet to settle when it was found.
    """

    name: str
    entry: Entry
    verified: Moment
    attempts: int = 0
    reason: str = ""
    number: int = 0
    given_back: bool = False
    again: float = -math.inf
    out: bool = False
    hold: Hold | None = None
    kept: bool = False
    refused: float = -math.inf
    doubtful: bool = False
    behind: Behind | None = None

    @property
    def key(self) -> str:
        """What it waits under."""
        return kept_key(self.name, self.entry) if self.kept else self.name

    def checkpoint(self, run: str) -> Checkpoint:
        """As the user sees it, where it was found."""
        entry, path = self.entry, os.path.join(run, self.name)
        assert entry.generation is not None
        return Checkpoint(path, entry.step, run, entry.layout, entry.generation)
