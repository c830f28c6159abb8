"""How often to ask a store, where each request is paid for."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from itertools import pairwise

from .._scan import Look, Trouble

_SHORTEST = 10.0  # seconds between two looks where something is expected
_PART = 6  # the shortest interval is at least this part of the longest one
_PATIENCE = 20  # parts of the time for which nothing has happened, until the next look
# Around the moment at which the next checkpoint should come, in times of the cadence.
_EARLY, _LATE = 0.8, 1.25
_LEAST = 0.85  # of an interval
_FIRST_RETRY = 1.0  # seconds
_NANOSECONDS = 1e9  # in a second


def shortest(longest: float) -> float:
    """Seconds between two looks where something is expected, if there are so many at most."""
    return min(longest, max(longest / _PART, _SHORTEST))


class Cadence:
    """
    One run's: a run that saves each 20 minutes need not be asked each second.

    While the next checkpoint is far, the longest interval passes between two looks; while it is
    due, or arrives, the shortest. A run of which nothing is known, or that is late, is asked about
    ever less often.

    Args:
        longest: Seconds between two looks at most.
    """

    __slots__ = ("_arrives", "_changed", "_failures", "_gap", "_last", "_longest", "_shortest")

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._shortest = shortest(longest)
        self._gap: float | None = None  # seconds between two checkpoints
        self._last = 0.0  # when the newest was written, on the store's clock
        self._changed = time.monotonic()  # when something was seen to change last
        self._arrives = False  # what has changed is not finished yet
        self._failures = 0

    def learn(self, look: Look, written: Iterable[int]) -> None:
        """
        After a look.

        Args:
            look: What it found.
            written: When the newest finished checkpoints were, in nanoseconds on the store's clock.
        """
        failed = look.trouble not in {None, Trouble.MISSING}
        self._failures = self._failures + 1 if failed else 0
        times = sorted(moment / _NANOSECONDS for moment in written if moment)
        # The least: what is saved besides, such as the best one so far, comes between two.
        self._gap = min((b - a for a, b in pairwise(times) if b > a), default=None)
        self._last = max(times, default=0.0)
        if look.changed:
            self._changed = time.monotonic()
            self._arrives = any(entry.missing is not None for entry in look.changed.values())

    @property
    def interval(self) -> float:
        """Seconds until the next look."""
        # A thousand runs in one bucket must not ask together, nor come back together.
        if self._failures:
            pause = _FIRST_RETRY * 2.0 ** min(self._failures - 1, 10)
            return min(pause, self._longest) * random.uniform(0.5, 1.0)
        return self._pause() * random.uniform(_LEAST, 1.0)

    def _pause(self) -> float:
        silence = time.monotonic() - self._changed
        # The clocks of two machines may differ.
        age = time.time() - self._last
        if self._last and age >= 0 and not self._arrives:
            gap = self._gap or 0.0
            if age < _EARLY * gap:
                return self._within(_EARLY * gap - age)
            silence = age - _LATE * gap  # below zero while it is due: as often as may be
        return self._within(silence / _PATIENCE)

    def _within(self, seconds: float) -> float:
        return min(max(seconds, self._shortest), self._longest)
