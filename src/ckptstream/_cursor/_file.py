"""One cursor file, as all streams of this process share it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from .._errors import CursorError, CursorLocked
from . import _schema
from ._locks import Locks
from ._opened import Opened
from ._records import Claim, Memory, Record, State, key_of, number_of, record_of
from ._schema import (
    GONE,
    UNLOCKED,
    check_file,
    connect,
    explain,
    is_locked,
    lock_path,
    log_path,
    set_up,
)
from ._turns import BRIEFLY, Turns

_SHOWN = 100  # checkpoints set aside of which a stream is told

_FIND_RUN = "SELECT id FROM runs WHERE path = ?"
_ADD_RUN = "INSERT OR IGNORE INTO runs (path) VALUES (?)"
# Of a million rows SQLite would go over all that are done, if it was not told.
_PENDING = """
SELECT name, generation, step, state, attempts, reason FROM checkpoints INDEXED BY pending
WHERE run = ? AND state IN ('seen', 'failed')
"""
_SET_ASIDE = f"""
SELECT name, generation, step, state, attempts, reason FROM checkpoints INDEXED BY set_aside
WHERE run = ? AND state = 'set aside' AND NOT EXISTS (
    SELECT 1 FROM checkpoints AS later WHERE later.run = checkpoints.run AND later.state = 'done'
    AND later.name = checkpoints.name AND later.changed > checkpoints.changed
) ORDER BY changed DESC LIMIT {_SHOWN}
"""
_RECALL = """
SELECT state, attempts, reason FROM checkpoints WHERE run = ? AND name = ? AND generation = ?
"""
_WRITE = """
INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run, name, generation) DO UPDATE SET step = excluded.step, state = excluded.state,
    attempts = excluded.attempts, reason = excluded.reason, changed = excluded.changed
WHERE excluded.state <> 'seen' OR state = 'missed'
"""
_READ_RUN = "SELECT baseline, reached FROM runs WHERE id = ?"
_REACH = "UPDATE runs SET reached = ? WHERE id = ?"
_BASELINE = "UPDATE runs SET baseline = 1 WHERE id = ?"


class CursorFile:
    """
    An open cursor file. All of it blocks, and may be called in any thread.

    Args:
        path: Its real path.
        wal: Whether it lies where memory can be shared: on a local filesystem.
        inodes: Whether its filesystem keeps inode numbers.

    Raises:
        CursorError: From every method: the file cannot be used; the message says what to do.
    """

    def __init__(self, path: str, *, wal: bool, inodes: bool = True) -> None:
        self.path = path
        self.process = os.getpid()
        self._patience = self._waits = _schema.BUSY_SECONDS
        self._refused_since: float | None = None  # when SQLite began to refuse what looks ask
        # SQLite may wait at the beginning of a transaction, and at its end.
        self._turns = Turns(longest=2 * self._patience + 1.0)
        with self._explained():
            check_file(path)
            self._connection = connect(path)
            try:
                self._opened = Opened(path, os.stat(path), inodes)
                set_up(path, self._connection, wal)
                self._locks = Locks(lock_path(path), inodes)
            except BaseException:
                self._connection.close()
                raise

    @contextmanager
    def _explained(self, *, briefly: bool = False) -> Generator[None]:
        """Around all that is done with the file. *briefly*: raise `CursorLocked` after a moment."""
        if self.process != os.getpid():
            # SQLite's connections do not survive a fork.
            raise CursorError(self.path, "a parent process has it open: make a stream in this one")
        if not briefly:
            self._turns.begin()
        elif not self._turns.begin_soon():
            raise CursorLocked(self.path)
        try:
            self._wait(self._briefly if briefly else self._patience)
            yield
            self._refused_since = None
        except (sqlite3.Error, OSError) as error:
            if briefly and self._may_be_asked_again(error):
                raise CursorLocked(self.path) from error
            raise explain(self.path, error) from error
        finally:
            self._turns.end()

    @property
    def _briefly(self) -> float:
        """Of many that look, only the first one waits."""
        return 0.0 if self._refused_since is not None else min(BRIEFLY, self._patience)

    def _wait(self, seconds: float) -> None:
        """Have SQLite wait so long for others who have the file locked."""
        if seconds != self._waits:
            self._connection.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
            self._waits = seconds

    def _may_be_asked_again(self, error: Exception) -> bool:
        """Whether others have had the file locked for no longer than anybody waits for them."""
        if not is_locked(error):
            return False
        now = time.monotonic()
        since = now if self._refused_since is None else self._refused_since
        self._refused_since = since if now - since < self._patience else None
        return self._refused_since is not None

    def _require(self) -> None:
        """Raises `CursorError` if the files are no longer those that were opened."""
        if not self._opened.is_there:
            raise CursorError(self.path, GONE.format(log=log_path(self.path)))
        if not self._locks.is_there:
            raise CursorError(self.path, UNLOCKED.format(locks=lock_path(self.path)))

    def check(self) -> None:
        """Whether what was written is where others find it."""
        with self._explained():
            self._require()

    def claim(self, run: str) -> int:
        """Have a run; returns its number, or raises `CursorError` if another stream has it."""
        with self._explained():
            return self._claim(run)

    def claim_soon(self, run: str) -> int:
        """The same, but waits only briefly."""
        with self._explained(briefly=True):
            return self._claim(run)

    def _claim(self, run: str) -> int:
        self._require()
        key = key_of(run)
        found = self._connection.execute(_FIND_RUN, (key,)).fetchone()
        if found is None:
            self._connection.execute(_ADD_RUN, (key,))
            found = self._connection.execute(_FIND_RUN, (key,)).fetchone()
        number = int(found[0])
        if not self._locks.take(number):
            raise CursorError.busy(self.path, run)
        return number

    def read(self, run: int, *, briefly: bool = False) -> Claim:
        """What is remembered of a run that is ours."""
        with self._explained(briefly=briefly):
            baseline, reached = self._connection.execute(_READ_RUN, (run,)).fetchone()
            pending = self._connection.execute(_PENDING, (run,)).fetchall()
            set_aside = self._connection.execute(_SET_ASIDE, (run,)).fetchall()
        records = tuple(map(record_of, pending)), tuple(map(record_of, reversed(set_aside)))
        return Claim(run, bool(baseline), number_of(reached), *records)

    def recall(self, run: int, name: str, generation: str) -> Memory | None:
        """What is remembered of one generation of a checkpoint. Waits only briefly."""
        with self._explained(briefly=True):
            key = (run, key_of(name), generation)
            found = self._connection.execute(_RECALL, key).fetchone()
        return None if found is None else Memory(State(found[0]), found[1], found[2])

    def write(self, records: Iterable[tuple[int, Record]], baselines: Iterable[int]) -> None:
        """Remember all of it or, if it raises, nothing; on return it survives the process."""
        now, reached = time.time(), dict[int, int]()
        with self._explained():
            self._require()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for run, record in records:
                    self._connection.execute(_WRITE, _row(run, record, now))
                    counts = record.generation and record.memory.state.reaches
                    if record.step is not None and counts:
                        reached[run] = max(record.step, reached.get(run, record.step))
                for run, step in reached.items():
                    self._reach(run, step)
                for run in baselines:
                    self._connection.execute(_BASELINE, (run,))
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _reach(self, run: int, step: int) -> None:
        _, reached = self._connection.execute(_READ_RUN, (run,)).fetchone()
        before = number_of(reached)
        if before is None or step > before:
            self._connection.execute(_REACH, (str(step), run))

    def release(self, runs: Iterable[int]) -> None:
        """Let others have these runs."""
        with self._explained():
            for run in runs:
                self._locks.give(run)

    def close(self) -> None:
        """Close the file, and let others have all of its runs."""
        with self._explained():
            try:
                self._connection.close()
            finally:
                self._locks.close()


def _row(run: int, record: Record, now: float) -> tuple[object, ...]:
    # Steps are text: SQLite's integers end at 2**63.
    step = None if record.step is None else str(record.step)
    memory = record.memory
    reason = memory.reason.encode(errors="replace").decode()
    where = (run, key_of(record.name), record.generation)
    return (*where, step, memory.state.value, memory.attempts, reason, now)
