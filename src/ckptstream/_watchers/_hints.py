"""What wakes one waiting stream, and what a watched directory means to a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol


class Alarm:
    """
    Rings when a stream has something to do; stays rung until the stream resets it.

    Everything here happens in the event loop's thread.
    """

    __slots__ = ("rung", "wake")

    def __init__(self) -> None:
        self.rung = False
        self.wake: Callable[[], None] | None = None  # set by whoever lets the stream wait

    def ring(self) -> None:
        """Wake the stream, now or as soon as it begins to wait."""
        if not self.rung:
            self.rung = True
            if self.wake is not None:
                self.wake()

    def reset(self) -> None:
        """Before looking at what there is to do: what comes later rings again."""
        self.rung = False


class Meaning(NamedTuple):
    """
    What an event in a watched directory means to the run that watches it.

    Attributes:
        entry: The entry that changed; None if the event's own name says which one.
        only: If set, only an event of this name counts; without an entry, it may have changed
            everything.
    """

    entry: str | None = None
    only: str | None = None


class Listener(Protocol):
    """Who wants to be told; held weakly."""

    def entry_changed(self, name: str, arrived: bool) -> None:
        """Something happened to the entry called *name*; *arrived*: it was created or moved in."""
        ...

    def all_changed(self) -> None:
        """Anything may have changed, events were lost, or a watch has gone."""
        ...
