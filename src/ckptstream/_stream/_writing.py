"""What a journal has threads do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

from .._cursor import Cursor, Record
from .._stores import profile


class Opening:
    """Opens a cursor, unless nobody wants it any more."""

    def __init__(self, path: str, directories: Collection[str]) -> None:
        self._path = path
        self._directories = tuple(directories)
        self._lock = threading.Lock()
        self._abandoned = False
        self._cursor: Cursor | None = None

    def run(self, alive: Callable[[], None]) -> Cursor:
        """In a thread."""
        cursor = Cursor(self._path, profile)
        try:
            for directory in self._directories:
                alive()
                cursor.claim(directory)
        except BaseException:
            cursor.close()
            raise
        with self._lock:
            self._cursor, abandoned = cursor, self._abandoned
        if abandoned:
            cursor.close()
        return cursor

    def abandon(self) -> Cursor | None:
        """In the event loop. Returns the cursor if it is open by now, and is to be closed."""
        with self._lock:
            self._abandoned = True
            return self._cursor


class Batch:
    """
    What is written together, or not at all.

    Attributes:
        records: Each with the number of its run.
        baselines: Numbers of runs whose first look is entered.
    """

    def __init__(self) -> None:
        self.records = list[tuple[int, Record]]()
        self.baselines = list[int]()

    def __bool__(self) -> bool:
        return bool(self.records or self.baselines)

    def followed_by(self, other: Batch) -> Batch:
        """Both of them, in this order."""
        both = Batch()
        both.records = self.records + other.records
        both.baselines = self.baselines + other.baselines
        return both

    def write(self, cursor: Cursor, alive: Callable[[], None]) -> Cursor:
        """Write it, in a thread."""
        if self:
            cursor.write(self.records, self.baselines)
        return cursor

    def write_and_close(self, cursor: Cursor, alive: Callable[[], None]) -> None:
        """Write it, and let others have the runs."""
        try:
            self.write(cursor, alive)
            cursor.check()
        finally:
            cursor.close()
