"""What both streams have in common, the one for `async for` and the blocking one."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import anyio
import anyio.lowlevel

from .._model import Checkpoint, Status
from .._watchers import Alarm, Watcher, current_watcher
from ._run import Run, checkpoint_of
from ._words import Reporter, logger, status_of
from .arguments import Options

_EXPIRED = "no new checkpoint came in time"


class Engine:
    """
    Follows runs, one call at a time. Nothing of it goes on between two calls of `next_or_expired`:
    no task, no thread at work, no open cancel scope.
    """

    def __init__(self, directories: Sequence[str], options: Options) -> None:
        self.options = options
        self._alarm = Alarm()
        self._runs = [Run(directory, options, self._alarm) for directory in directories]
        self._reporters = [Reporter(run) for run in self._runs]
        self._guard = anyio.ResourceGuard("waiting for a checkpoint in")
        self._watcher: Watcher | None = None
        self._now = -math.inf
        self._asked = 0.0
        self._deadline: float | None = None  # survives cancelled calls
        self._ending: str | None = None  # why a last look is to be taken
        self._looks_last = False
        self._ended: str | None = None

    async def next_or_expired(self) -> Checkpoint | None:
        """
        Wait for the next finished checkpoint.

        Returns:
            None when the wait has expired and `timeout_fn` is to be asked for an `answer`.

        Raises:
            StopAsyncIteration: When the stream has ended, now and ever after.
            NotADirectoryError: If the first look finds a file where a directory belongs.
            anyio.BusyResourceError: If another task is waiting here.
        """
        with self._guard:
            await anyio.lowlevel.checkpoint()
            self._bind()
            self._asked = self._moment()
            remaining = self._remaining()
            if remaining is not None and remaining <= 0 and self.options.timeout_fn is None:
                # There is only the last look left, and no other before it.
                self._ending, remaining = _EXPIRED, None
            scope = anyio.CancelScope()
            try:
                with anyio.fail_after(remaining) as scope:
                    run = await self._find()
            except TimeoutError:
                # An OSError of the storage, or of somebody's own timeout, is none of ours.
                if not scope.cancelled_caught:
                    raise
            else:
                return self._hand_out(run)
            if self.options.timeout_fn is not None:
                return None
            self._ending = _EXPIRED
            # Outside of the except block: what is raised here must not keep those frames alive.
            run = await self._find()
            # Nothing awaits after this line, nor above: a cancelled caller loses no checkpoint.
            return self._hand_out(run)

    def _moment(self) -> float:
        """
        The event loop's time, but never the same twice.

        What was asked for before is told from what was asked for after, however coarse the clock
        is: uvloop's stands still while a task runs.
        """
        self._now = max(anyio.current_time(), math.nextafter(self._now, math.inf))
        return self._now

    def _remaining(self) -> float | None:
        """Seconds until the timeout expires; None if nothing can expire."""
        timeout = self.options.timeout
        if timeout is None or self._ending is not None or self._ended is not None:
            return None
        if self._deadline is None:
            # The wait starts when a checkpoint could be delivered at all.
            begin = max(self._asked, min(run.ledger.eligible for run in self._runs))
            self._deadline = begin + timeout
        return self._deadline - self._asked

    @contextmanager
    def asking(self) -> Generator[None]:
        """
        Around the call of `timeout_fn`, once for each expiry.

        If it raises, the wait starts anew; if it is cancelled there was no answer: ask again.
        """
        deadline, self._deadline = self._deadline, None
        with self._guard:
            try:
                yield
            except anyio.get_cancelled_exc_class():
                self._deadline = deadline
                raise

    def answer(self, ended: bool) -> None:
        """What `timeout_fn` said: True ends the stream after a last look, False waits anew."""
        self._deadline = None
        if ended:
            self._ending = "timeout_fn said that the training has ended"

    async def _find(self) -> Run:
        """Wait until a run has a checkpoint that was verified since the caller asked."""
        assert self._watcher is not None
        while True:
            self._take_in()
            if self._ended is not None:
                raise StopAsyncIteration
            now = self._moment()
            if self._ending is not None and not self._looks_last:
                self._looks_last = True
                for run in self._runs:
                    run.look_last(now)
            if self._ending is None or self._has_looked_last():
                ready = [run for run in self._runs if run.ready(now, self._asked)]
                if ready:
                    return ready[0]
            if self._is_over():
                self.end(self._ending or "every run has reached until_step")
                continue
            for run in self._runs:
                if run.wants_look(now, self._asked):
                    run.start_look(now)
            if not self._alarm.rung:
                with anyio.CancelScope(deadline=min(run.due(now) for run in self._runs)):
                    await self._watcher.wait(self._alarm)

    def _take_in(self) -> None:
        """Everything that has happened: closed, woken, events, results of looks."""
        assert self._watcher is not None
        self._alarm.reset()
        self._watcher.read()
        self._watcher.review()
        now = anyio.current_time()
        for run, reporter in zip(self._runs, self._reporters, strict=True):
            if run.merge(now) or run.hangs is not None:
                reporter.report()

    def _hand_out(self, run: Run) -> Checkpoint:
        queued = run.ledger.candidate()
        assert queued is not None
        run.ledger.deliver(queued, anyio.current_time())
        self._deadline = None
        return checkpoint_of(run.directory, queued.name, queued.entry)

    def _bind(self) -> None:
        """Live in the event loop that runs now: a stream may wander between loops when idle."""
        given = self.options.watcher
        watcher = current_watcher() if isinstance(given, str) else given
        if watcher is not self._watcher and self._ended is None:
            self._watcher, self._now = watcher, -math.inf
            for run in self._runs:
                run.bind(watcher)
        elif self._watcher is None:
            self._watcher = watcher

    # The end.

    def _has_looked_last(self) -> bool:
        """Whether the last look is complete. Runs whose storage hangs do not count."""
        for run in self._runs:
            if run.hangs is not None:
                run.ledger.sealed = True
        return all(run.ledger.sealed for run in self._runs)

    def _is_over(self) -> bool:
        if self._ending is not None:
            return self._has_looked_last() and all(run.exhausted for run in self._runs)
        ledgers = [run.ledger for run in self._runs]
        return all(ledger.reached and ledger.candidate() is None for ledger in ledgers)

    def end(self, reason: str) -> None:
        """End for good. Idempotent; a task that waits gets `StopAsyncIteration`."""
        if self._ended is not None:
            return
        self._ended = reason
        for run, reporter in zip(self._runs, self._reporters, strict=True):
            if self._ending is not None:
                run.abandon()
            run.unbind()
            reporter.report()
        logger.info("the stream has ended: %s", reason)
        self._alarm.ring()

    def release(self) -> None:
        """Leave the event loop, whose watches and threads are then no longer needed."""
        self._watcher = None
        for run in self._runs:
            run.unbind()

    def wake(self) -> None:
        """Look now, or at the next call."""
        for run in self._runs:
            run.all_changed()

    def status(self) -> Status:
        """What the stream knows of each run, at this moment. Does not look."""
        return Status(tuple(status_of(run) for run in self._runs), self._ended)

    def __str__(self) -> str:
        runs = ", ".join(repr(run.directory) for run in self._runs)
        return f"{runs} (ended: {self._ended})" if self._ended else runs
