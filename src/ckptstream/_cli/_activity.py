"""What has happened in each run, for people who look on."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import anyio

from .. import Checkpoint
from .._stores import mount_point
from .._threads import Call

_REMEMBERED = 9  # checkpoints of each run: eight intervals
_PATIENCE = 1.0  # seconds
# What bears a checkpoint's time: it, or with TensorFlow the file after whose beginning it is named.
_BEARERS = ("", ".index")


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
        """Seconds until a step, if it goes on as it did; None if nobody can know."""
        known = [(step, finished) for step, finished in self.steps if step is not None]
        if len(known) < 2:
            return None
        (first, began), (last, ended) = known[0], known[-1]
        if last <= first or ended <= began:
            return None
        return max(0.0, (until - last) * (ended - began) / (last - first) - (time.time() - ended))


class Activities:
    """
    Those of all runs.

    Attributes:
        changed: Set when something has happened.
    """

    def __init__(self) -> None:
        self._runs = dict[str, Activity]()
        self.changed = anyio.Event()

    def of(self, run: str) -> Activity:
        """One run's; empty if nothing has happened."""
        return self._runs.get(run) or Activity()

    async def arrived(self, checkpoint: Checkpoint, *, evaluated: bool) -> None:
        """A checkpoint was delivered."""
        finished = time.time()
        with anyio.move_on_after(_PATIENCE):
            call = Call(
                partial(_finished, checkpoint.path, finished),
                partial(mount_point, checkpoint.run),
            )
            finished = await call.wait()
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


def _finished(path: str, unknown: float, alive: Callable[[], None]) -> float:
    for bearer in _BEARERS:
        alive()
        try:
            return os.stat(f"{path}{bearer}").st_mtime
        except OSError:
            continue
    return unknown
