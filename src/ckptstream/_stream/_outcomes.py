"""What becomes of the checkpoints of one run: delivered, done, failed, passed over or missed."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .._cursor import Claim, Memory, State
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

    # What the cursor remembers.

    def enter(self, claim: Claim) -> bool:
        """The run is ours. Returns whether what was there at its first look is decided."""
        assert self.progress is not None
        self.progress.enter(claim)
        self._queue.reach(claim.reached)
        for name, _, step, memory in claim.set_aside:
            if self.is_final(memory):
                self.put_aside(name, step, memory)
        return claim.baseline

    def is_final(self, memory: Memory) -> bool:
        """Whether it is not delivered again; with more retries than before it may be."""
        again = memory.state is State.SET_ASIDE and memory.attempts <= self._options.retries
        return memory.state.is_final and not again

    def awaits(self, name: str) -> bool:
        """Whether the cursor knows more of it than this stream: then it says what was missed."""
        return self.progress is not None and self.progress.awaits(name)

    def take_baseline(self) -> None:
        """What was there at the run's first look is decided."""
        if self.progress is not None:
            self.progress.take_baseline()

    def keep_book(self, entries: Mapping[str, Entry], holding: bool) -> None:
        """
        What was to be delivered when the run was last followed, and is gone, is missed.

        Args:
            entries: What is there, after a look that succeeded.
            holding: Whether the first look is not complete yet.
        """
        if self.progress is None:
            return
        if not holding:
            self.progress.take_baseline()
        for name, generation, step, _ in self.progress.lost(entries):
            if self._options.latest_only:  # It would have been passed over, most likely.
                self.progress.note(name, generation, step, SKIPPED)
            else:
                self.miss(name, generation, step)

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
        path = os.path.join(self._directory, queued.name)
        self.set_aside = tuple(each for each in self.set_aside if each.path != path)
        self.note(queued.name, queued.entry, DONE)

    def fail(self, queued: Queued, reason: str) -> bool:
        """What was delivered has failed. Returns whether it may be tried again; else set aside."""
        queued.attempts, queued.reason = queued.attempts + 1, reason
        memory = Memory(State.FAILED, queued.attempts, reason)
        if queued.attempts <= self._options.retries:
            self.note(queued.name, queued.entry, memory)
            return True
        self.note(queued.name, queued.entry, memory._replace(state=State.SET_ASIDE))
        self.put_aside(queued.name, queued.entry.step, memory)
        return False

    def put_aside(self, name: str, step: int | None, memory: Memory) -> None:
        """List what has failed too often."""
        path = os.path.join(self._directory, name)
        aside = SetAside(path, step, memory.attempts, memory.reason)
        self.set_aside = (*self.set_aside, aside)[-_REMEMBERED:]
