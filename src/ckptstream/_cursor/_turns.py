"""Whose turn it is to use a cursor file's connection."""

from __future__ import annotations

import math
import threading
import time

BRIEFLY = 0.3  # seconds: a look that waited for much longer would seem to hang


class Turns:
    """
    One thread at a time; whoever looks waits for its turn only briefly.

    Args:
        longest: Seconds that a turn takes if the storage answers, however many others write.
    """

    def __init__(self, longest: float) -> None:
        self._lock = threading.Lock()
        self._longest = longest
        self._began = math.inf  # when the turn that goes on began, by time.monotonic

    def begin(self) -> None:
        """Wait for a turn, however long that takes."""
        self._lock.acquire()
        self._began = time.monotonic()

    def begin_soon(self) -> bool:
        """
        Wait for a turn as long as a look may; whether it has come.

        Where somebody else's goes on for ever the storage hangs, and so does this: those who wait
        for looks know what to do then.
        """
        if not self._lock.acquire(blocking=False):
            taken = time.monotonic() - self._began
            hangs = taken > self._longest
            # Of many that look, only the first one waits.
            left = -1.0 if hangs else min(max(BRIEFLY - taken, 0.0), BRIEFLY)
            if not self._lock.acquire(timeout=left):
                return False
        self._began = time.monotonic()
        return True

    def end(self) -> None:
        """It is another one's turn."""
        self._began = math.inf
        self._lock.release()
