"""What a journal has threads do."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .._cursor import Cursor, Record
from .._stores import profile


class Opening:
    """Opens a cursor, unless nobody wants it any more."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._abandoned = False
        self._cursor: Cursor | None = None

    def run(self, alive: Callable[[], None]) -> Cursor:
        """In a thread."""
        cursor = Cursor(self._path, _is_local)
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


def _is_local(directory: str) -> bool:
    return profile(directory).events


def write(
    cursor: Cursor | None,
    records: list[tuple[int, Record]],
    baselines: list[int],
    alive: Callable[[], None],
) -> Cursor | None:
    """Write a batch."""
    if cursor is not None and (records or baselines):
        cursor.write(records, baselines)
    return cursor


def write_and_close(
    cursor: Cursor,
    records: list[tuple[int, Record]],
    baselines: list[int],
    alive: Callable[[], None],
) -> None:
    """Write the last batch, and let others have the runs."""
    try:
        write(cursor, records, baselines, alive)
    finally:
        cursor.close()
