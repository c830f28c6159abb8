"""What both streams have in common, the one for `async for` and the blocking one."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import anyio
import anyio.lowlevel

from .._model import Checkpoint, Status, printable
from .._watchers import Alarm, Watcher, current_watcher
from ._following import SLICE, Following
from ._handed import Handed
from ._journal import Journal
from ._log import logger
from ._run import Run
from ._words import status_of, status_of_pattern
from .arguments import Options

_EXPIRED = "the timeout has expired"


class Engine:
    """
    Follows runs, one call at a time. Nothing of it goes on between two calls of `next_or_expired`:
    no task, no thread at work, no open cancel scope.
    """

    __slots__ = (
        "_alarm",
        "_deadline",
        "_ended",
        "_ending",
        "_epoch",
        "_following",
        "_guard",
        "_journal",
        "_watcher",
        "handed",
        "options",
    )

    def __init__(self, paths: Sequence[str], options: Options) -> None:
        self.options = options
        self._alarm = Alarm()
        journal = None if options.cursor is None else Journal(options.cursor, self._alarm.ring)
        self._journal = journal
        self._following = Following(paths, options, self._alarm, journal)
        self.handed = Handed(options)
        self._guard = anyio.ResourceGuard("waiting for a checkpoint in")
        self._watcher: Watcher | None = None
        self._epoch: float | None = None  # the event loop's time when time.monotonic() was 0
        self._deadline: float | None = None  # survives cancelled calls
        self._ending: str | None = None  # why a last look is to be taken
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
            self._begin_call()
            remaining = self._remaining()
            if remaining is None:
                return self._hand_out(await self._find())
            scope = anyio.CancelScope()
            try:
                with anyio.fail_after(remaining) as scope:
                    run = await self._find()
            except TimeoutError as error:
                # An OSError of the storage, or of somebody's own timeout, is none of ours.
                if not scope.cancelled_caught:
                    raise
                if error.__context__ is not None:  # since Python 3.12 a cycle with its own frames
                    error.__context__.__traceback__ = None
            else:
                return self._hand_out(run)
            if self.options.timeout_fn is not None:
                return None
            self._ending = _EXPIRED
            # Outside of the except block: what is raised here must not keep those frames alive.
            run = await self._find()
            # Nothing awaits after this line, nor above: a cancelled caller loses no checkpoint.
            return self._hand_out(run)

    def _begin_call(self) -> None:
        if self._journal is not None and self._ended is None:
            self._journal.require()
        self._bind()
        if self._journal is None or self._journal.is_open:
            self.handed.settle()
        self._following.ask()

    # The wait.

    def _remaining(self) -> float | None:
        """Seconds until the timeout expires; None if nothing can, or if it has for good."""
        timeout, now = self.options.timeout, anyio.current_time()
        if timeout is None or self._ending is not None or self._ended is not None:
            return None
        if self._deadline is None:
            self._deadline = self._following.roster.first_eligible(now) + timeout
        if self._deadline <= now and self.options.timeout_fn is None:
            self._ending = _EXPIRED  # There is only the last look left, and no other before it.
            return None
        return self._deadline - now

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
        following, again, rested = self._following, False, anyio.current_time()
        while True:
            self._alarm.reset()
            if self._ended is not None:
                if self._journal is not None and self._journal.is_open:
                    await self.write()  # What was done before counts.
                raise StopAsyncIteration(self._ended)
            assert self._watcher is not None
            written = self._begin_to_write()
            # What the caller did before it asked must be seen; later, events wake this anyway.
            self._watcher.read(lately=again)
            if following.looks or not written:
                self._watcher.review()
            again = True
            now = anyio.current_time()
            if self._ending is not None:
                following.look_last(now)
            following.attend(now)
            if self._ended is not None:
                continue  # A handler of a log record has closed the stream.
            run = following.choose(now)
            # Also what there is nothing to deliver of: the process may be killed while it waits.
            if self._begin_to_write() and run is not None:
                return run
            if run is None and self._is_over:
                self.end(self._ending or "every run has reached until_step")
                continue
            following.start_looks(now)
            if following.is_behind or (self._alarm.rung and now - rested > SLICE):
                # With more to do than there is time for, nobody else would ever run.
                await anyio.lowlevel.checkpoint()
                rested = anyio.current_time()
            elif not self._alarm.rung:
                brief = now < following.lands
                until = min(following.next, following.lands) if brief else following.next
                if self._journal is not None and self._journal.busy:
                    until = min(until, self._journal.due(now))
                with anyio.CancelScope(deadline=until):
                    await self._watcher.wait(self._alarm, brief=brief)
                rested = anyio.current_time()

    def _hand_out(self, run: Run) -> Checkpoint:
        self._deadline = None
        return self.handed.add(run, self._following.deliver(run, anyio.current_time()))

    # The cursor.

    async def open(self) -> None:
        """The user enters the block. Raises `CursorError`."""
        if self._journal is not None:
            self._journal.bind(self._current())  # Only that: cancelled, it leaves nothing.
            await self._journal.open(self._following.roster.runs)

    def _begin_to_write(self) -> bool:
        """Whether the cursor knows all that has happened; else a thread begins to write it."""
        if self._journal is None:
            return True
        self._journal.begin()
        self._journal.report()
        return self._journal.is_clean

    def fail(self, checkpoint: Checkpoint, reason: object) -> None:
        """An attempt at a checkpoint has failed. Raises `ValueError`, as `Handed.failed`."""
        if self._watcher is None:  # The blocking twin's event loop comes and goes.
            now = (self._epoch or 0.0) + time.monotonic()
        else:
            now = anyio.current_time()
        self.handed.failed(checkpoint, str(reason) or repr(reason), now)

    async def write(self) -> None:
        """Wait until the cursor knows all that has happened. Raises `CursorError`."""
        if self._journal is not None:
            self._bind()
            await self._journal.write()

    async def close(self, *, succeeded: bool) -> None:
        """The user leaves the block. Raises `CursorError`, if that was without an exception."""
        if succeeded:
            self.handed.settle()
        self.end("its block was left")
        if self._journal is not None:
            self._bind()
            await self._journal.close(tell=succeeded)

    # The event loop.

    def _bind(self) -> None:
        """Live in the event loop that runs now: a stream may wander between loops when idle."""
        watcher = self._current()
        if self._journal is not None:
            self._journal.bind(watcher)
        if watcher is self._watcher or self._ended is not None:
            return
        self._watcher = watcher
        # Each of trio's loops has a clock of its own, which begins anywhere.
        epoch = anyio.current_time() - time.monotonic()
        shift, self._epoch = 0.0 if self._epoch is None else epoch - self._epoch, epoch
        if self._deadline is not None:
            self._deadline += shift
        self._following.bind(watcher, shift)

    def _current(self) -> Watcher:
        given = self.options.watcher
        return current_watcher() if isinstance(given, str) else given

    def release(self) -> None:
        """Leave the event loop, whose watches and threads are then no longer needed."""
        self._watcher = None
        self._following.unbind()
        if self._journal is not None:
            self._journal.unbind()

    def wake(self) -> None:
        """Look now, or at the next call."""
        self._following.all_changed()

    # The end.

    @property
    def _is_over(self) -> bool:
        if self._ending is None:
            # What is being evaluated may fail, and come again.
            return self._following.reached and not self.handed.may_come_again
        return self._following.exhausted

    def end(self, reason: str) -> None:
        """End for good. Idempotent; a task that waits gets `StopAsyncIteration`."""
        if self._ended is not None:
            return
        self._ended = reason
        self._following.end(over=self._ending is not None or self._following.reached)
        self._watcher = None  # A closed stream that is kept must not keep a descriptor open.
        logger.info(
            "%s: the stream has ended: %s", self._following.roster.describe(printable), reason
        )
        self._alarm.ring()

    def status(self) -> Status:
        """What the stream knows of each run, at this moment. Does not look."""
        roster = self._following.roster
        patterns = tuple(map(status_of_pattern, roster.patterns))
        return Status(tuple(map(status_of, roster.shown())), self._ended, patterns)

    def __str__(self) -> str:
        what = self._following.roster.describe(repr)
        return f"{what} (ended: {self._ended})" if self._ended else what
