"""How a stream waits: the part of an event loop that all its streams share."""

from __future__ import annotations

import math
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol, TypeVar

import anyio

from .._threads import Job, PerLoop, Pool, current_pool, current_remote_pool
from ._hints import Alarm, Listener, Meaning

if sys.platform == "linux":
    from . import _inotify

T = TypeVar("T")

_LATELY = 0.001  # seconds


class Subscription(Protocol):
    """What one run watches."""

    disturbed: bool
    """An event came before its watch was registered: look again. Reset by whoever does."""

    def arm(self, path: str, meaning: Meaning) -> bool:
        """Watch a directory; whether it had not been watched before. Raises `OSError`."""
        ...

    def keep(self, wanted: Callable[[str, Meaning], bool]) -> None:
        """Watch no longer what is not wanted."""
        ...


class Watcher(Protocol):
    """What a stream needs of its event loop; `ckptstream.testing.ManualWatcher` is another one."""

    live: bool
    """Whether `read` tells of all that has happened before, where events are trusted."""

    told: set[str]
    """What was said already to the user, once for all streams: limits of the kernel's."""

    def subscribe(self, listener: Listener) -> Subscription | None:
        """Let a run watch directories; None where there is nothing to watch with."""
        ...

    def submit(self, job: Job[T], done: Callable[[], None], *, first: bool = False) -> None:
        """
        Make a look after the next call of `begin`, and call *done* in the event loop then.

        *first*: it is no look, but looks that have not begun yet wait for it.
        """
        ...

    def begin(self) -> None:
        """Begin the looks that were submitted."""
        ...

    def review(self) -> None:
        """Replace threads that hang."""
        ...

    def read(self, *, lately: bool = False) -> None:
        """Pass on what has happened until now; *lately*: or until a moment ago."""
        ...

    def clock(self) -> float:
        """What looks measure time with, in their own thread; seconds."""
        ...

    async def wait(self, alarm: Alarm, *, brief: bool) -> None:
        """Wait until *alarm* has rung; *brief*: that is known to be soon."""
        ...


def _new_inotify() -> _inotify.Inotify | None:
    return _inotify.Inotify() if sys.platform == "linux" else None


class LoopWatcher:
    """
    One event loop's inotify instance, its threads, and the streams that wait for them.

    There is no task of our own to read the instance. One of the waiting streams reads for all;
    when it leaves, for whatever reason, it passes the job on.
    """

    live = True

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._remote: Pool | None = None  # for what waits for servers
        self.told = set[str]()
        self._inotify = _new_inotify()
        # Not a dict: to find its first one it goes over all that has left since it last grew.
        self._waiting: OrderedDict[Alarm, anyio.Event] = OrderedDict()
        self._reader: Alarm | None = None
        self._read_at = -math.inf  # by time.monotonic

    def subscribe(self, listener: Listener) -> Subscription | None:
        """Let a run watch directories; None where the system has no inotify."""
        if self._inotify is None:
            return None
        return _inotify.Subscription(self._inotify, listener)

    def submit(self, job: Job[T], done: Callable[[], None], *, first: bool = False) -> None:
        """Make a look in a thread, and call *done* in the event loop after it."""
        pool = self._pool
        if job.remote:
            pool = self._remote = self._remote or current_remote_pool()
        pool.queue(job, done, first=first)

    def begin(self) -> None:
        """Let the threads begin."""
        self._pool.begin()
        if self._remote is not None:
            self._remote.begin()

    def review(self) -> None:
        """Replace threads that hang."""
        self._pool.review()
        if self._remote is not None:
            self._remote.review()

    def read(self, *, lately: bool = False) -> None:
        """Pass on what has happened until now; *lately*: or until a moment ago."""
        # A profile of a thousand streams in which something happens showed most of the loop's time
        # in here: each of them read, and after each call waited for the interpreter.
        if self._inotify is None or (lately and time.monotonic() - self._read_at < _LATELY):
            return
        self._inotify.read()
        self._read_at = time.monotonic()

    def clock(self) -> float:
        """What looks measure time with: a thread has no event loop to ask."""
        return time.monotonic()

    async def wait(self, alarm: Alarm, *, brief: bool) -> None:
        """
        Wait until *alarm* has rung. A cancelled waiter loses no event and leaves no reader.

        Args:
            alarm: Whatever happens to the stream rings it.
            brief: Do not offer to read: that registers the descriptor with the selector and takes
                it out again, which costs as much as a look.
        """
        event = self._waiting[alarm] = anyio.Event()
        try:
            while not alarm.rung:
                if self._reader is None and not brief and self._descriptor() is not None:
                    self._reader = alarm
                if self._reader is alarm:
                    await self._read_for_all(alarm)
                    continue
                if event.is_set():  # It was promoted, and then another one was.
                    event = self._waiting[alarm] = anyio.Event()
                alarm.wake = event.set
                await event.wait()
        finally:
            alarm.wake = None
            del self._waiting[alarm]
            if self._reader is alarm:
                self._reader = None
                self._promote()

    async def _read_for_all(self, alarm: Alarm) -> None:
        descriptor = self._descriptor()
        assert descriptor is not None
        alarm.wake = lambda: anyio.notify_closing(descriptor)
        try:
            # Not a cancel scope: a native cancellation that came in the same moment as the wake-up
            # could be mistaken for it.
            await anyio.wait_readable(descriptor)
        except anyio.ClosedResourceError:
            return  # Our own alarm: notify_closing() wakes the waiter and closes nothing.
        finally:
            alarm.wake = None
        self.read()

    def _promote(self) -> None:
        # The next one becomes the reader before it runs: should it be cancelled in this very
        # moment, its own clean-up passes the job on again.
        for alarm, event in self._waiting.items():
            if self._descriptor() is not None:
                self._reader = alarm
                event.set()
                return

    def _descriptor(self) -> int | None:
        return None if self._inotify is None else self._inotify.fd


def _new_watcher() -> LoopWatcher:
    return LoopWatcher(current_pool())


current_watcher = PerLoop("ckptstream_watcher", _new_watcher)
