"""The time on an event loop's clock, also for a stream that wanders between loops."""

from __future__ import annotations

import time

import anyio


class Clock:
    """Each of trio's event loops has a clock of its own, which begins anywhere."""

    __slots__ = ("_epoch",)

    def __init__(self) -> None:
        self._epoch: float | None = None  # the loop's time when time.monotonic() was 0

    def enter(self) -> float:
        """An event loop has begun. Returns how far ahead of the one before its clock is."""
        epoch = anyio.current_time() - time.monotonic()
        shift, self._epoch = 0.0 if self._epoch is None else epoch - self._epoch, epoch
        return shift

    def outside(self) -> float:
        """The time on the last event loop's clock, for who is in none."""
        return (self._epoch or 0.0) + time.monotonic()
