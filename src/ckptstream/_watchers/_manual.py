"""A watcher without threads, events or real time, for tests."""

from __future__ import annotations

import errno
import os
import stat
import weakref
from collections.abc import Callable
from typing import TypeVar

import anyio

from .._threads import Job
from ._hints import Alarm, Listener, Meaning

T = TypeVar("T")


class ManualWatcher:
    """
    Lets a test say when something changed: `follow(run, watcher=ManualWatcher())`.

    Looks are made in the event loop itself, so that a test is deterministic and a virtual clock,
    such as trio's `MockClock`, stays true.

    Args:
        events: False to poll at `poll_interval`, as on a filesystem without events.
    """

    live = False  # A test may delete something and not tell.

    def __init__(self, *, events: bool = True) -> None:
        self._events = events
        self._listeners = weakref.WeakSet[Listener]()
        self._idle: dict[Alarm, None] = {}
        self._waiting = anyio.Event()
        self.told = set[str]()
        self.looks = 0
        """How many looks were made."""

    def touch(self) -> None:
        """Something changed in every run that is followed with this watcher: look again."""
        for listener in list(self._listeners):
            listener.all_changed()

    def event(self, name: str, *, arrived: bool = False) -> None:
        """An event told of *name* in every run; *arrived*: it was created or moved in."""
        for listener in list(self._listeners):
            listener.entry_changed(name, arrived)

    async def waiting(self) -> None:
        """Wait until a stream waits, with nothing left to do but to be told."""
        while not any(not alarm.rung for alarm in self._idle):
            await self._waiting.wait()
            self._waiting = anyio.Event()

    # What a stream asks of its watcher.

    def subscribe(self, listener: Listener) -> ManualSubscription | None:
        """Tell *listener* from now on; None if it is to poll."""
        self._listeners.add(listener)
        return ManualSubscription() if self._events else None

    def submit(self, job: Job[T], done: Callable[[], None], *, first: bool = False) -> None:
        """Make the look at once."""
        self.looks += not first
        job.run()
        done()

    def begin(self) -> None:
        """All looks were made."""

    def review(self) -> None:
        """There are no threads to replace."""

    def read(self, *, lately: bool = False) -> None:
        """There is nothing to read."""

    def clock(self) -> float:
        """The event loop's time, which may be virtual."""
        return anyio.current_time()

    async def wait(self, alarm: Alarm, *, brief: bool) -> None:
        """Wait until *alarm* has rung."""
        event = anyio.Event()
        alarm.wake = event.set
        self._idle[alarm] = None
        self._waiting.set()
        try:
            await event.wait()
        finally:
            alarm.wake = None
            del self._idle[alarm]


class ManualSubscription:
    """What one run watches: it remembers which directories, and tells nothing."""

    def __init__(self) -> None:
        self.disturbed = False
        self._watches: dict[tuple[str, Meaning], tuple[int, int]] = {}

    def arm(self, path: str, meaning: Meaning) -> bool:
        """Whether another directory lies there than when it was last armed. Raises `OSError`."""
        key, found = (path, meaning), os.stat(path)
        identity = (found.st_dev, found.st_ino)
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        fresh = self._watches.get(key) != identity
        self._watches[key] = identity
        return fresh

    def keep(self, wanted: Callable[[str, Meaning], bool]) -> None:
        """Forget what is not wanted."""
        self._watches = {key: found for key, found in self._watches.items() if wanted(*key)}
