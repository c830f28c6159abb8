"""A stream's part of a cursor file."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

from .._errors import CursorError
from .._model import absolute
from ._records import Claim, Memory, Record

if TYPE_CHECKING:
    from ._file import CursorFile


class Filesystem(Protocol):
    """What the file lies on; `Profile` says what each of it means."""

    @property
    def events(self) -> bool: ...
    @property
    def inodes(self) -> bool: ...


class _Shared:
    """
    A cursor file as all streams of this process share it.

    Closing any descriptor of a file drops SQLite's own locks on it: nobody may open it twice.

    Attributes:
        lock: Held while it is opened or closed: a file that hangs must not keep others waiting.
        file: None while nobody uses it.
        users: How many do.
    """

    __slots__ = ("__weakref__", "file", "lock", "users")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.file: CursorFile | None = None
        self.users = 0


# The number of the process is part of the key: a forked child opens its files anew.
_files: WeakValueDictionary[tuple[int, str], _Shared] = WeakValueDictionary()
_lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # Windows has no fork.
    # A child has only the thread that forked, which could never get what another one had.
    os.register_at_fork(
        before=_lock.acquire, after_in_child=_lock.release, after_in_parent=_lock.release
    )


class Cursor:
    """
    What one open stream has of a cursor file. All of it blocks; call it in threads.

    Args:
        path: Of the file.
        profile: Of the filesystem that a directory lies on.

    Raises:
        CursorError: From every method: the file cannot be used; the message says what to do.
    """

    def __init__(self, path: str, profile: Callable[[str], Filesystem]) -> None:
        from ._file import CursorFile  # Only here: most programs have no use for SQLite.

        real = os.path.realpath(path)
        self._runs = dict[str, int]()
        self._claiming = threading.Lock()
        with _lock:
            self._shared = _files.setdefault((os.getpid(), real), _Shared())
        with self._shared.lock:
            if self._shared.file is None:
                below = profile(os.path.dirname(real))
                self._shared.file = CursorFile(real, wal=below.events, inodes=below.inodes)
            self._file = self._shared.file
            self._shared.users += 1
        self._closed = False

    def claim(self, directory: str, *, briefly: bool = False) -> Claim:
        """
        Have a run, until this is closed; ask again for what is remembered of it by then.

        Args:
            directory: The run's.
            briefly: Wait for others who use the file only for a moment.

        Raises:
            CursorError: Another open stream has it.
            CursorLocked: Others use the file; ask again.
        """
        path = absolute(directory)
        with self._claiming:  # Two spellings of a run are looked at by two threads.
            if self._closed:  # A look may outlive its stream; nobody would give the run back.
                raise CursorError(self._file.path, "it is closed")
            run = self._runs.get(path)
            if run is None:
                claim = self._file.claim_soon if briefly else self._file.claim
                run = self._runs[path] = claim(path)
        return self._file.read(run, briefly=briefly)

    def recall(self, run: int, name: str, generation: str) -> Memory | None:
        """
        What is remembered of one generation of a checkpoint; None: it is new.

        Raises:
            CursorLocked: Others use the file; ask again.
        """
        return self._file.recall(run, name, generation)

    def write(self, records: Iterable[tuple[int, Record]], baselines: Iterable[int]) -> None:
        """
        Remember all of it or, if it raises, nothing; on return it survives the process.

        Args:
            records: Each with the number of its run.
            baselines: Numbers of runs whose first look was entered.
        """
        self._file.write(records, baselines)

    def check(self) -> None:
        """Raises `CursorError` if what was written would not be found by whoever comes next."""
        self._file.check()

    def close(self) -> None:
        """Let others have the runs."""
        if self._file.process != os.getpid():
            return  # Our parent's.
        with self._claiming, self._shared.lock:
            if self._closed:
                return
            self._closed = True
            self._shared.users -= 1
            if self._shared.users:
                self._file.release(self._runs.values())
            else:
                self._shared.file = None
                self._file.close()
