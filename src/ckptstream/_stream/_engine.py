"""What both streams have in common, the one for `async for` and the blocking one."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import anyio.lowlevel

from .._model import Checkpoint, Status, printable
from .._stores import Location
from .._watchers import Alarm, Watcher, current_watcher
from ._clock import Clock
from ._expiry import Expiry
from ._following import SLICE, Following
from ._handed import Handed
from ._journal import OPEN_A_BLOCK, Journal
from ._keeper import Keeper
from ._log import logger
from ._removals import until_removed
from ._run import Run
from ._status import status_of
from ._words import WAITING
from .arguments import Options


class Engine:
    """
    Follows runs, one call at a time. Nothing of it goes on between two calls of `next_or_expired`:
    no task, no thread at work, no open cancel scope; but for `keep`.

    Attributes:
        expiry: Its timeout.
        guard: Held while somebody waits in it.
        handed: What the user has.
    """

    __slots__ = (
        *("_alarm", "_clock", "_ended", "_entered", "_following", "_journal", "_keeper"),
        *("_watcher", "expiry", "guard", "handed", "options"),
    )

    def __init__(self, locations: Sequence[Location], options: Options) -> None:
        self.options = options
        self._alarm = Alarm()
        cursor = options.cursor
        self._journal = None if cursor is None else Journal(cursor, self._alarm.ring)
        self._following = Following(locations, options, self._alarm, self._journal)
        self.handed = Handed(options)
        self.guard = anyio.ResourceGuard(WAITING)
        self._watcher: Watcher | None = None
        self._clock = Clock()
        self.expiry = Expiry(options)
        self._entered = False  # its block
        self._keeper: Keeper | None = None
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
        with self.guard:
            await anyio.lowlevel.checkpoint()
            keeper = self._keeper  # The block may be left while this waits.
            if keeper is None:
                return await self._next_or_expired()
            await keeper.take_over()
            try:
                return await self._next_or_expired()
            finally:
                keeper.hand_back()

    async def _next_or_expired(self) -> Checkpoint | None:
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
        self.expiry.expire()
        # Outside of the except block: what is raised here must not keep those frames alive.
        # Nothing awaits after it is found, nor above: a cancelled caller loses no checkpoint.
        return self._hand_out(await self._find())

    def _begin_call(self) -> None:
        if self._journal is not None and self._ended is None:
            self._journal.require()
        if self.options.pin and not (self._entered or self._ended):
            raise RuntimeError(f"pin=True {OPEN_A_BLOCK}")
        self._bind()
        if self._journal is None or self._journal.is_open:
            self.handed.settle()
        self._following.ask()

    # The wait.

    def _remaining(self) -> float | None:
        """Seconds until the timeout expires; None if nothing can, or if it has for good."""
        if self._ended is not None:
            return None
        return self.expiry.remaining(self._following.roster.first_eligible)

    async def _find(self) -> Run:
        """Wait until a run has a checkpoint that was verified since the caller asked."""
        following, again, rested = self._following, False, anyio.current_time()
        while True:
            self._alarm.reset()
            if self._ended is not None:
                if self._journal is not None and self._journal.is_open:
                    await self.write()  # What was done before counts.
                raise StopAsyncIteration(self._ended)
            now = self._attend(again)
            again = True
            if self._ended is not None:
                continue  # A handler of a log record has closed the stream.
            run = following.choose(now)
            # Also what there is nothing to deliver of: the process may be killed while it waits.
            if self._begin_to_write() and run is not None:
                return run
            if run is None and self._is_over:
                self.end(self.expiry.ending or "every run has reached until_step")
                continue
            rested = await self._rest(now, rested)

    def _attend_alone(self) -> float | None:
        """Attend to the runs while the user's code runs; None: the stream has ended."""
        self._alarm.reset()
        if self._ended is not None:
            return None
        self._bind()
        now = self._attend(again=False)
        self._begin_to_write()
        return now

    def _attend(self, again: bool) -> float:
        """Attend to the runs that have something to do. Returns the time."""
        assert self._watcher is not None
        written = self._begin_to_write()
        # What the caller did before it asked must be seen; later, events wake this anyway.
        self._watcher.read(lately=again)
        if self._following.looks or self.options.pin or not written:
            self._watcher.review()
        now = anyio.current_time()
        if self.expiry.ending is not None:
            self._following.look_last(now)
        self._following.attend(now)
        return now

    async def _rest(self, now: float, rested: float) -> float:
        """Wait until there is something to do. Returns when the event loop had been round."""
        following, watcher = self._following, self._watcher
        if watcher is None:
            return rested  # The stream has ended.
        following.start_looks(now)
        if following.is_behind or (self._alarm.rung and now - rested > SLICE):
            # With more to do than there is time for, nobody else would ever run.
            await anyio.lowlevel.checkpoint()
        elif self._alarm.rung:
            return rested
        else:
            brief = now < following.lands
            until = min(following.next, following.lands) if brief else following.next
            if self._journal is not None and self._journal.busy:
                until = min(until, self._journal.due(now))
            with anyio.CancelScope(deadline=until):
                await watcher.wait(self._alarm, brief=brief)
        return anyio.current_time()

    def _hand_out(self, run: Run) -> Checkpoint:
        self.expiry.restart()
        return self.handed.add(run, self._following.deliver(run, anyio.current_time()))

    # The block.

    async def open(self) -> None:
        """The user enters the block. Raises `CursorError`."""
        if self._entered and self.options.needs_block:
            raise RuntimeError("a stream's block can be entered once")
        if self._journal is not None:
            self._journal.bind(self._current())  # Only that: cancelled, it leaves nothing.
            await self._journal.open(self._following.roster.runs)
        self._entered = True

    async def keep(self) -> None:
        """From now on pin what arrives, also while the user's code runs."""
        if self.options.pin and self._ended is None:
            self._keeper = Keeper(self._attend_alone, self._rest, self._alarm.ring)
            await self._keeper.start()

    def _begin_to_write(self) -> bool:
        """Whether the cursor knows all that has happened; else a thread begins to write it."""
        if self._journal is not None:
            self._journal.begin()
            self._journal.report()
        return self._journal is None or self._journal.is_clean

    def fail(self, checkpoint: Checkpoint, reason: object) -> None:
        """An attempt at a checkpoint has failed. Raises `ValueError`, as `Handed.failed`."""
        # The blocking twin's event loop comes and goes.
        now = self._clock.outside() if self._watcher is None else anyio.current_time()
        self.handed.failed(checkpoint, str(reason) or repr(reason), now)

    async def write(self) -> None:
        """Wait until the cursor knows all that has happened. Raises `CursorError`."""
        if self._journal is not None:
            self._bind()
            await self._journal.write()

    async def close(self, *, succeeded: bool) -> None:
        """The user leaves the block. Raises `CursorError`, if that was without an exception."""
        self.handed.end(succeeded)
        self.end("its block was left")
        keeper, self._keeper = self._keeper, None
        try:
            if keeper is not None:
                await keeper.stop()
        finally:
            try:
                await until_removed(self._following.close_pins())
            finally:
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
        shift = self._clock.enter()
        self.expiry.shift(shift)
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

    def wake(self, *paths: str) -> None:
        """Look now, or at the next call: where these lie, or everywhere."""
        self._following.changed(paths)

    # The end.

    @property
    def _is_over(self) -> bool:
        if self.expiry.ending is None:
            # What is being evaluated may fail, and come again.
            return self._following.reached and not self.handed.may_come_again
        return self._following.exhausted

    def end(self, reason: str) -> None:
        """End for good. Idempotent; a task that waits gets `StopAsyncIteration`."""
        if self._ended is not None:
            return
        self._ended, following = reason, self._following
        following.end(over=self.expiry.ending is not None or following.reached)
        self._watcher = None  # A closed stream that is kept must not keep a descriptor open.
        logger.info("%s: the stream has ended: %s", following.roster.describe(printable), reason)
        self._alarm.ring()

    def status(self) -> Status:
        """What the stream knows of each run, at this moment. Does not look."""
        return status_of(self._following.roster, self._ended)

    def __str__(self) -> str:
        what = self._following.roster.describe(repr)
        return f"{what} (ended: {self._ended})" if self._ended else what
