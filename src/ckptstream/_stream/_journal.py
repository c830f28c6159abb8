"""What the cursor is told: in order, in a thread, some at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from functools import partial

import anyio

from .._cursor import Cursor, Record
from .._errors import SILENT
from .._model import printable
from .._stores import mount_point
from .._threads import HUNG_AFTER, Call
from .._watchers import Watcher
from ._flight import Flight
from ._log import logger
from ._writing import Batch, Opening

OPEN_A_BLOCK = (
    "needs a block, and it is not open: write 'async with ckptstream.follow(...) as stream:' "
    "or 'with ckptstream.sync.follow(...) as stream:'"
)


class Journal:
    """
    The cursor of one stream.

    Nothing is handed out before all that came earlier is written. One thread at a time writes; a
    caller who is cancelled meanwhile leaves it to its work.

    Args:
        path: The cursor file's.
        ring: Called in the event loop when something was written, or could not be.
    """

    def __init__(self, path: str, ring: Callable[[], None]) -> None:
        self._path = path
        self._ring = ring
        self.cursor: Cursor | None = None
        self._lane = partial(mount_point, os.path.dirname(path) or ".")
        self._flight: Flight[Cursor | None] = Flight(self._lane)
        self._next, self._batch = Batch(), Batch()  # what is to be written, and what is being
        self._error: Exception | None = None
        self._landed = anyio.Event()
        self._told = False
        self._writers = 0  # calls of write() that wait
        self._leaves = False  # the event loop, after those
        self._is_left = False  # the block

    # What happens in the stream.

    def add(self, run: int, record: Record) -> None:
        """Write this, with the next batch."""
        self._next.records.append((run, record))

    def add_baseline(self, run: int) -> None:
        """Write that the first look at a run is entered, with the next batch."""
        self._next.baselines.append(run)

    # Writing.

    @property
    def is_clean(self) -> bool:
        """Whether all is written."""
        return not (self._next or self._flight.looking)

    def begin(self) -> None:
        """
        Have a thread write what there is to write, if none does.

        Raises:
            CursorError: The last batch could not be written; the next call tries it again.
        """
        self.require()
        self._raise()
        if self._next and not self._flight.looking:
            assert self.cursor is not None
            self._batch, self._next = self._next, Batch()
            self._start(partial(self._batch.write, self.cursor))

    def _raise(self) -> None:
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # It refers to this frame.

    def _start(self, call: Callable[[Callable[[], None]], Cursor | None]) -> None:
        watcher = self._flight.watcher
        assert watcher is not None
        self._flight.start(call, self, first=True)
        watcher.begin()

    def touch(self) -> None:
        """A thread has done what it was told."""
        if self._flight.has_landed:
            try:
                cursor = self._flight.take()
            except Exception as error:  # Whatever it is, it is for who calls: see begin().
                self._error = error
                self._restore()
            else:
                self.cursor, self._told = cursor, False
            self._batch = Batch()
        landed, self._landed = self._landed, anyio.Event()
        landed.set()
        if self._is_left:  # A closed stream that is kept must not keep a watcher.
            self.cursor = None
            self.unbind()
        self._ring()

    def _restore(self) -> None:
        self._next, self._batch = self._batch.followed_by(self._next), Batch()

    async def write(self) -> None:
        """
        Wait until all that has happened until now is written.

        Raises:
            CursorError: It could not be written; it is tried again with the next batch.
        """
        self._writers += 1
        try:
            while not self.is_clean:
                self.begin()
                await self._land()
        finally:
            self._writers -= 1
            if self._leaves:
                self.unbind()

    async def _land(self) -> None:
        """Wait until the thread that is at work, if one is, has done it."""
        watcher, landed = self._flight.watcher, self._landed
        assert watcher is not None
        while self._flight.looking and not landed.is_set():
            with anyio.move_on_after(HUNG_AFTER):
                await landed.wait()
            watcher.review()
            self.report()

    @property
    def silence(self) -> str | None:
        """That the file does not answer, in words; None: it does, as far as can be told."""
        return None if self._flight.hangs is None else f"cursor {self._path!r}: {SILENT}"

    def report(self) -> None:
        """Say, once, that the file does not answer."""
        silence = self.silence
        if silence is not None and not self._told:
            self._told = True
            logger.warning("%s; nothing is delivered until it does", printable(silence))

    def due(self, now: float) -> float:
        """When to ask whether the thread hangs."""
        return self._flight.asked_again(now)

    @property
    def busy(self) -> bool:
        """Whether a thread is at work."""
        return self._flight.looking

    # The file.

    @property
    def is_open(self) -> bool:
        """Whether the file is open, or being opened or closed."""
        return self.cursor is not None or self._flight.looking

    def require(self) -> None:
        """Raises `RuntimeError` unless the file is open."""
        if not self.is_open:
            raise RuntimeError(f"cursor={self._path!r} {OPEN_A_BLOCK}")

    async def open(self, directories: Collection[str]) -> None:
        """
        Open the file, and have these runs. A cancelled call leaves nothing open.

        Raises:
            CursorError: It cannot be used, or another open stream has one of the runs.
        """
        if self.is_open:  # by another task at the same time
            raise RuntimeError("a stream's block can be entered once")
        opening = Opening(self._path, directories)
        self._start(opening.run)
        try:
            await self._land()
            self._raise()
        except BaseException:
            try:
                await self._finish_unless_it_hangs()  # Whoever comes next may want the same runs.
            finally:
                opened = opening.abandon()
                if opened is not None and self._flight.looking:
                    # It hung, and has answered in this very moment.
                    Call(lambda alive: opened.close(), self._lane)
                # A stream that is kept must not keep a watcher.
                self._flight, self.cursor = Flight(self._lane), None
            raise

    async def close(self, tell: bool) -> None:
        """
        Write what there is to write, and let others have the runs.

        Args:
            tell: Whether to wait for as long as it takes, and to raise `CursorError`. Otherwise,
                as when cancelled, it is waited for no longer than a second.
        """
        try:
            await self._finish_unless_it_hangs()
            if tell:
                await self._finish()
                self._raise()
            elif self._error is not None:
                logger.warning("%s", printable(str(self._error)))
        finally:
            cursor, self.cursor = self.cursor, None
            if cursor is not None:  # What is being written hangs: it is closed after that.
                Call(partial(self._next.write_and_close, cursor), self._lane)
            self._is_left = True
            if not self._flight.looking:
                self.unbind()

    async def _finish_unless_it_hangs(self) -> None:
        deadline = anyio.current_time() + HUNG_AFTER
        cancelled: BaseException | None = None
        while True:
            try:
                with anyio.CancelScope(shield=True, deadline=deadline):
                    await self._finish()
                break
            except anyio.get_cancelled_exc_class() as error:
                cancelled = error  # By `asyncio.Task.cancel`, which no shield holds back.
        if cancelled is not None:
            raise cancelled

    async def _finish(self) -> None:
        await self._land()  # What is written comes in order.
        cursor, self.cursor = self.cursor, None
        if cursor is not None:
            self._error = None  # What could not be written is tried once more.
            self._batch, self._next = self._next, Batch()
            self._start(partial(self._batch.write_and_close, cursor))
        await self._land()

    # The event loop.

    def bind(self, watcher: Watcher) -> None:
        """Live in the event loop of *watcher*."""
        self._leaves = False
        if self._flight.watcher is not watcher:
            self._landed = anyio.Event()
            self._flight.bind(watcher, self, polls=True)
            self._take_back()

    def unbind(self) -> None:
        """Leave it, when all that wait in `write` have ended."""
        self._leaves = self._writers > 0
        if not self._leaves:
            self._flight.unbind()
            self._take_back()

    def _take_back(self) -> None:
        if not self._flight.looking:  # Its threads went before they began.
            self._restore()

    def entry_changed(self, name: str, arrived: bool) -> None:
        """Nothing is watched."""

    def all_changed(self) -> None:
        """Nothing is watched."""
