"""
One inotify instance and everything that is watched through it.

The kernel allows few instances (128 for each user) and gives the same watch descriptor for the same
inode, with one mask and one removal for all its users: hence one instance for each event loop, one
fixed mask, and counted watches.

Threads arm, because `inotify_add_watch` touches the storage; the event loop reads and dispatches,
which touches nothing but memory.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ._hints import Listener, Meaning

if TYPE_CHECKING:
    from inotify_simple import Event, INotify

# From inotify(7). The library that has them too is imported by the thread that needs it: it loads
# the C library by running other programs.
_ATTRIB, _CLOSE_WRITE = 0x4, 0x8
_MOVED_FROM, _MOVED_TO = 0x40, 0x80
_CREATE, _DELETE = 0x100, 0x200
_DELETE_SELF, _MOVE_SELF = 0x400, 0x800
_UNMOUNT, _OVERFLOW, _IGNORED = 0x2000, 0x4000, 0x8000
_ONLYDIR = 0x1000000
MASK = (
    (_CREATE | _CLOSE_WRITE | _MOVED_TO | _MOVED_FROM | _DELETE | _ATTRIB)
    | (_DELETE_SELF | _MOVE_SELF)
    | _ONLYDIR
)
_ARRIVAL = _CREATE | _MOVED_TO
_SELF = _DELETE_SELF | _MOVE_SELF | _IGNORED | _UNMOUNT
_READ_SIZE = 65536  # bytes: an overfull queue must not hold the event loop


class _Use(NamedTuple):
    listener: weakref.ref[Listener]
    meaning: Meaning


class Inotify:
    """The instance of one event loop. Opened by the first watch, closed by a finalizer."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._instance: INotify | None = None
        # The garbage collector may take this and its last subscriptions in any order.
        self._closed = threading.Event()
        self._parse: Callable[[bytes], list[Event]] = lambda data: []
        self._uses: dict[int, list[_Use]] = {}
        # Held across system calls, so never taken by the event loop but without waiting.
        self._arming = threading.Lock()
        # Guards the three tables; held for moments only.
        self._tables = threading.Lock()
        self._dropped: deque[tuple[int, _Use]] = deque()
        self._unused: deque[int] = deque()
        self._early: set[int] = set()  # told of before they were registered; emptied by each arm()

    @property
    def fd(self) -> int | None:
        """The descriptor to wait for, or None while nothing was ever watched."""
        return None if self._instance is None else self._instance.fileno()

    def arm(self, path: str, use: _Use, old: int | None = None) -> tuple[int, bool]:
        """
        Watch a directory; in a thread. If it still has its *old* watch, nothing changes.

        Returns:
            The watch descriptor, and whether an event came for it before it was registered.

        Raises:
            OSError: `ENOSPC` out of watches, `EMFILE` out of instances, `ENOENT`, `ENOTDIR`,
                `EACCES`.
        """
        try:
            with self._arming:
                if self._instance is None:
                    self._open()
                assert self._instance is not None
                descriptor = self._instance.add_watch(path, MASK)
                with self._tables:
                    uses = self._uses.setdefault(descriptor, [])
                    if descriptor != old or use not in uses:
                        uses.append(use)
                    early = descriptor in self._early
                    self._early.clear()
        finally:
            self._settle()
        return descriptor, early

    def _open(self) -> None:
        # closefd=False: a FileIO that owns its descriptor warns when it is collected, and would
        # close it in a forked child too.
        from inotify_simple import INotify, parse_events

        self._parse = parse_events
        self._instance = INotify(nonblocking=True, closefd=False)
        descriptor = self._instance.fileno()
        finalizer = weakref.finalize(self, _close, descriptor, self._process, self._closed)
        finalizer.atexit = False

    def disarm(self, descriptor: int, use: _Use) -> None:
        """Stop watching; anywhere. The last user's watch is removed."""
        self._dropped.append((descriptor, use))
        self._settle()

    def _settle(self) -> None:
        # Nothing in here waits for a lock: the garbage collector may drop a stream anywhere, also
        # in a thread that holds one. Whoever cannot have it leaves the work to its holder, who
        # comes by here afterwards.
        while self._dropped and self._tables.acquire(blocking=False):
            try:
                with contextlib.suppress(IndexError):
                    self._drop(*self._dropped.popleft())
            finally:
                self._tables.release()
        while self._unused and self._arming.acquire(blocking=False):
            try:
                with contextlib.suppress(IndexError):
                    self._remove(self._unused.popleft())
            finally:
                self._arming.release()

    def _drop(self, descriptor: int, use: _Use) -> None:
        uses = self._uses.get(descriptor)
        if uses is None or use not in uses:
            return
        uses.remove(use)
        if not uses:
            del self._uses[descriptor]
            self._unused.append(descriptor)

    def _remove(self, descriptor: int) -> None:
        if descriptor in self._uses or self._instance is None or os.getpid() != self._process:
            return  # Somebody watches it again, or it is our parent's.
        if self._closed.is_set():
            return  # The number may be another file's by now.
        with contextlib.suppress(OSError):  # EINVAL: the directory is gone, and its watch with it
            self._instance.rm_watch(descriptor)

    def read(self) -> None:
        """Tell the listeners of what has happened; in the event loop. Never blocks."""
        if self._instance is None or os.getpid() != self._process:
            return
        try:
            data = os.read(self._instance.fileno(), _READ_SIZE)
        except BlockingIOError:
            return
        for descriptor, mask, _, name in self._parse(data):
            if mask & _OVERFLOW:
                self._tell_everybody()
            else:
                self._dispatch(descriptor, mask, name)
        self._settle()

    def _dispatch(self, descriptor: int, mask: int, name: str) -> None:
        gone = mask & _IGNORED
        with self._tables:
            uses = self._uses.get(descriptor)
            if uses is None:
                self._early.add(descriptor)  # A thread may be about to register it.
                return
            uses = uses[:]
            if gone:
                del self._uses[descriptor]
        for reference, meaning in uses:
            listener = reference()
            if listener is not None:
                _tell(listener, meaning, mask, name)

    def _tell_everybody(self) -> None:
        with self._tables:  # By identity: a dead reference cannot be hashed.
            uses = [use for uses in self._uses.values() for use in uses]
            references = {id(use.listener): use.listener for use in uses}
        for reference in references.values():
            listener = reference()
            if listener is not None:
                listener.all_changed()


def _tell(listener: Listener, meaning: Meaning, mask: int, name: str) -> None:
    if meaning.only is not None and name and name != meaning.only:
        return
    if meaning.entry is not None:
        listener.entry_changed(meaning.entry, False)
    elif mask & _SELF or meaning.only is not None:
        listener.all_changed()
    elif name:
        listener.entry_changed(name, bool(mask & _ARRIVAL))
    else:
        listener.all_changed()  # ATTRIB of the run itself: it may have become readable.


def _close(descriptor: int, process: int, closed: threading.Event) -> None:
    closed.set()
    if os.getpid() == process:
        os.close(descriptor)


class Subscription:
    """
    What one run watches. Armed in its look's thread, released anywhere.

    A run has at most one look in flight, so no two threads are in here at once.
    """

    __slots__ = ("__weakref__", "_inotify", "_listener", "_watches", "disturbed")

    def __init__(self, inotify: Inotify, listener: Listener) -> None:
        self._inotify = inotify
        self._listener = weakref.ref(listener)
        self._watches: dict[tuple[str, Meaning], int] = {}
        self.disturbed = False  # an event came too early to be told: look again

    def arm(self, path: str, meaning: Meaning) -> bool:
        """
        Watch a directory, or watch it again: another one may have taken its place.

        Returns:
            Whether it had not been watched; then what was seen before may be out of date.

        Raises:
            OSError: As `Inotify.arm`; then it is no longer watched.
        """
        key, use = (path, meaning), _Use(self._listener, meaning)
        old = self._watches.pop(key, None)
        new: int | None = None
        try:
            new, early = self._inotify.arm(path, use, old)
            self._watches[key] = new
            self.disturbed |= early
        finally:
            if old is not None and old != new:
                self._inotify.disarm(old, use)
        return old != new

    def keep(self, wanted: Callable[[str, Meaning], bool]) -> None:
        """Watch no longer what is not wanted."""
        for key in [key for key in self._watches if not wanted(*key)]:
            self._inotify.disarm(self._watches.pop(key), _Use(self._listener, key[1]))

    def __del__(self) -> None:
        # Not a finalizer of `weakref`: a thousand of them take more memory than what they guard.
        if not sys.is_finalizing():
            for (_, meaning), descriptor in self._watches.items():
                self._inotify.disarm(descriptor, _Use(self._listener, meaning))

    @property
    def watching(self) -> int:
        """How many directories are watched."""
        return len(self._watches)
