"""A stream's part of a cursor file."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ._records import Claim, Memory, Record

if TYPE_CHECKING:
    from ._file import CursorFile

# One for each file of a process: closing any descriptor of a file drops SQLite's own locks on it.
_files: dict[str, CursorFile] = {}
_lock = threading.Lock()


class Cursor:
    """
    What one open stream has of a cursor file. All of it blocks; call it in threads.

    Args:
        path: Of the file.
        is_local: Whether a directory lies on a local filesystem.

    Raises:
        CursorError: From every method: the file cannot be used; the message says what to do.
    """

    def __init__(self, path: str, is_local: Callable[[str], bool]) -> None:
        from ._file import CursorFile  # Only here: most programs have no use for SQLite.

        real = os.path.realpath(path)
        self._claims = dict[str, Claim]()
        self._claiming = threading.Lock()
        with _lock:
            file = _files.get(real)
            if file is None or file.process != os.getpid():  # A forked child opens it anew.
                file = _files[real] = CursorFile(real, is_local(os.path.dirname(real)))
            file.users += 1
        self._file = file
        self._closed = False

    def claim(self, directory: str) -> Claim:
        """
        Have a run, until this is closed; ask again for what is remembered of it by then.

        Raises:
            CursorError: Another open stream has it.
        """
        run = os.path.abspath(directory)
        with self._claiming:  # Two spellings of a run are looked at by two threads.
            claim = self._claims.get(run)
            claim = self._file.claim(run) if claim is None else self._file.read(claim)
            self._claims[run] = claim
            return claim

    def recall(self, run: int, name: str, generation: str) -> Memory | None:
        """What is remembered of one generation of a checkpoint; None: it is new."""
        return self._file.recall(run, name, generation)

    def write(self, records: Iterable[tuple[int, Record]], baselines: Iterable[int]) -> None:
        """
        Remember all of it or, if it raises, nothing; on return it survives the process.

        Args:
            records: Each with the number of its run.
            baselines: Numbers of runs whose first look was entered.
        """
        self._file.write(records, baselines)

    def close(self) -> None:
        """Let others have the runs."""
        if self._file.process != os.getpid():
            return  # Our parent's.
        with _lock:
            if self._closed:
                return
            self._closed = True
            file, runs = self._file, [claim.run for claim in self._claims.values()]
            file.users -= 1
            if file.users:
                file.release(runs)
            else:
                del _files[file.path]
                file.close()
