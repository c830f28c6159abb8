"""What becomes of the checkpoints of one run: delivered, done, failed, passed over or missed."""

from __future__ import annotations

import os

from .._cursor import Memory, State
from .._model import Missed, SetAside
from .._scan import Entry
from ._progress import DONE, MISSED, SKIPPED, Progress
from ._queue import Queue
from ._queued import Queued
from .arguments import Options

_REMEMBERED = 100


class Outcomes:
    """
    Counts them, and tells the cursor.

    Attributes:
        progress: What the cursor is told; None: there is none.
        missed: What was seen and deleted before it could be delivered, the latest.
        missed_count: How many there were of those.
        set_aside: What has failed too often, the latest.
    """

    __slots__ = (
        *("_directory", "_options", "_queue", "missed", "missed_count", "progress", "set_aside"),
    )

    def __init__(
        self, directory: str, options: Options, queue: Queue, progress: Progress | None
    ) -> None:
        self._directory = directory
        self._options = options
        self._queue = queue
        self.progress = progress
        self.missed: tuple[Missed, ...] = ()
        self.missed_count = 0
        self.set_aside: tuple[SetAside, ...] = ()

    def note(self, name: str, entry: Entry, memory: Memory) -> None:
        """Have the cursor remember this of the generation that an entry has."""
        if self.progress is not None:
            self.progress.note(name, entry.generation, entry.step, memory)

    def skip(self, name: str, entry: Entry) -> None:
        """A finished checkpoint is passed over."""
        self._queue.skipped += 1
        self.note(name, entry, SKIPPED)

    def miss(self, name: str, generation: str | None, step: int | None) -> None:
        """
        A checkpoint is gone.

        Args:
            name: Its name in the run's directory.
            generation: None if it was never seen finished.
            step: Its step, or None.
        """
        if self._queue.is_beyond(step):
            return
        finished = generation is not None
        missed = Missed(os.path.join(self._directory, name), step, finished)
        self.missed = (*self.missed, missed)[-_REMEMBERED:]
        self.missed_count += 1
        if self.progress is not None:
            self.progress.note(name, generation, step, MISSED)
        if finished:
            self._queue.reach(step)

    def deliver(self, queued: Queued, now: float) -> None:
        """Take the candidate out of the queue; it is delivered."""
        for passed in self._queue.deliver(queued, now):
            self.skip(passed.name, passed.entry)

    def finish(self, queued: Queued) -> None:
        """What was delivered is done."""
        self.note(queued.name, queued.entry, DONE)

    def fail(self, queued: Queued, reason: str, now: float) -> float | None:
        """
        What was delivered has failed.

        Returns:
            Seconds until it is delivered again; None: never, it is set aside.
        """
        queued.attempts += 1
        memory = Memory(State.FAILED, queued.attempts, reason)
        if queued.attempts <= self._options.retries:
            self.note(queued.name, queued.entry, memory)
            return self._queue.retry(queued, now)
        self.note(queued.name, queued.entry, memory._replace(state=State.SET_ASIDE))
        self.put_aside(queued.name, queued.entry.step, memory)
        return None

    def put_aside(self, name: str, step: int | None, memory: Memory) -> None:
        """List what has failed too often."""
        path = os.path.join(self._directory, name)
        aside = SetAside(path, step, memory.attempts, memory.reason)
        self.set_aside = (*self.set_aside, aside)[-_REMEMBERED:]

    def resume(self, now: float) -> bool:
        """What has failed and is to be delivered again by now waits; whether there is such."""
        if self._queue.next_retry > now:
            return False
        for passed in self._queue.resume(now):
            self.skip(passed.name, passed.entry)
        return True
