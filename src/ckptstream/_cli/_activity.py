"""What has happened in each run, for people who look on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import anyio

from .. import Checkpoint

_REMEMBERED = 9  # checkpoints of each run: eight intervals


@dataclass(slots=True)
class Activity:
    """
    One run's.

    Attributes:
        steps: Of its newest checkpoints, each with the time when it was finished.
        evaluated: What is being evaluated, each since when, on the clock of `time.monotonic`.
    """

    steps: deque[tuple[int | None, float]] = field(
        default_factory=lambda: deque[tuple[int | None, float]](maxlen=_REMEMBERED)
    )
    evaluated: dict[Checkpoint, float] = field(default_factory=dict[Checkpoint, float])

    @property
    def intervals(self) -> list[float]:
        """Seconds between two checkpoints, the oldest first."""
        times = [finished for _, finished in self.steps]
        return [later - earlier for earlier, later in pairwise(times) if later >= earlier]

    def remaining(self, until: int) -> float | None:
        """Seconds until a step, if it goes on as it did; None if that cannot be known."""
        known = [(step, finished) for step, finished in self.steps if step is not None]
        if len(known) < 2:
            return None
        (first, began), (last, ended) = known[0], known[-1]
        if last <= first or ended <= began:
            return None
        left = (until - last) * (ended - began) / (last - first) - (time.time() - ended)
        return left if left > 0 else None


class Activities:
    """
    Those of all runs.

    Args:
        written: When a checkpoint that was delivered was written, in seconds on its store's clock;
            None if that is not known.

    Attributes:
        changed: Set when something has happened.
    """

    def __init__(self, written: Callable[[Checkpoint], float | None] = lambda _: None) -> None:
        self._written = written
        self._runs = dict[str, Activity]()
        self.changed = anyio.Event()

    def of(self, run: str) -> Activity:
        """One run's; empty if nothing has happened."""
        return self._runs.get(run) or Activity()

    def arrived(self, checkpoint: Checkpoint, *, evaluated: bool) -> None:
        """A checkpoint was delivered."""
        finished = self._written(checkpoint) or time.time()
        activity = self._runs.setdefault(checkpoint.run, Activity())
        activity.steps.append((checkpoint.step, finished))
        if evaluated:
            activity.evaluated[checkpoint] = time.monotonic()
        self._ring()

    def ended(self, checkpoint: Checkpoint) -> None:
        """Its evaluation has ended."""
        if checkpoint.run in self._runs:
            self._runs[checkpoint.run].evaluated.pop(checkpoint, None)
            self._ring()

    def _ring(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()
