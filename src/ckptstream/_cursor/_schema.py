"""The cursor file: what makes an SQLite database one, and what is said of one that is none."""

from __future__ import annotations

import contextlib
import os
import sqlite3

from .._errors import CursorError
from ._header import read_header

VERSION = 1
_SHARED = 32768  # bytes
BUSY_SECONDS = 5.0  # how long to wait for others who write
_APPLICATION = 0x636B7074  # "ckpt"

_TABLES = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    path NOT NULL UNIQUE,
    baseline INTEGER NOT NULL DEFAULT 0,
    reached TEXT
);
CREATE TABLE checkpoints (
    run INTEGER NOT NULL REFERENCES runs,
    name NOT NULL,
    generation TEXT NOT NULL,
    step TEXT,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    reason TEXT NOT NULL,
    changed REAL NOT NULL,
    PRIMARY KEY (run, name, generation)
) WITHOUT ROWID;
CREATE INDEX pending ON checkpoints (run) WHERE state IN ('seen', 'failed');
CREATE INDEX set_aside ON checkpoints (run, changed) WHERE state = 'set aside';
"""

_REMEDIES = {
    "not a database": "it is not a cursor: name another file",
    "Is a directory": "it is a directory: name a file in it",
    "malformed": "it is damaged: restore it from a copy, or move it away and begin anew",
    "readonly": "it cannot be written: make it and its directory writable",
    "Read-only": "it cannot be written: make it and its directory writable",
    "Permission denied": "it cannot be used: make it and its directory readable and writable",
    "unable to open": "it cannot be opened: check that its directory is there and writable",
    "Not a directory": "it cannot be opened: check that its directory is there and writable",
    "disk is full": "the disk is full: make room",
    "No space left": "the disk is full: make room",
    "quota": "the disk is full: make room",
    "No locks": "its filesystem has no locks: name a file on another one",
    "locked": "another program keeps it locked: end that program",
    "disk I/O error": "its storage fails: check the disk or the mount",
    "Input/output error": "its storage fails: check the disk or the mount",
}

# What else a file has met that was open; nothing is written after that.
GONE = (
    "it was deleted, moved or replaced while it was open: put it back, or end the programs that "
    "use it, delete {log!r} if that was left behind, and start them again"
)
UNLOCKED = (
    "{locks!r}, where its locks are, was deleted, moved or replaced while it was open, and "
    "another program may follow the same runs: end the programs that use it, and start again"
)


def explain(path: str, error: Exception) -> CursorError:
    """What SQLite or the system says, and what to do."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if "disk I/O error" in said and _is_full(path):
        return CursorError(path, f"{_REMEDIES['disk is full']} ({said})")
    for words, remedy in _REMEDIES.items():
        if words in said:
            return CursorError(path, f"{remedy} ({said})")
    return CursorError(path, f"it cannot be used: name another file ({said})")


def is_locked(error: Exception) -> bool:
    """Whether others had the file locked for as long as SQLite waited for them."""
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def _is_full(path: str) -> bool:
    """Whether there may be no room for the memory that SQLite shares: its error does not say so."""
    with contextlib.suppress(OSError):
        disk = os.statvfs(os.path.dirname(path))
        return disk.f_bavail * disk.f_frsize < _SHARED
    return False


def check_file(path: str, *, to_write: bool = True) -> None:
    """
    Refuse what is no cursor, without touching it: SQLite would begin to repair it.

    Raises:
        CursorError: It is none, is damaged, or is of a later version.
        OSError: It cannot be read, or, to write it, not be written.
    """
    used = os.path.exists(lock_path(path))
    try:
        header = read_header(path, to_write=to_write)
        if not header.is_whole:
            # Others may have been at work on it.
            header = read_header(path, to_write=to_write)
    except FileNotFoundError:
        return
    if header.is_blank and not used:
        return  # Made for us, empty, such as by `tempfile`.
    if not header.is_database:
        raise explain(path, sqlite3.DatabaseError("file is not a database"))
    if header.is_whole or header.application:
        check_version(path, header.version, header.application)
    if not header.is_whole:
        raise explain(path, sqlite3.DatabaseError("malformed: it was cut off"))


def check_version(path: str, version: int, application: int) -> None:
    """Refuse a database of somebody else, or of a later version."""
    if application != _APPLICATION:
        raise CursorError(path, "it is a database, but not a cursor: name another file")
    if version > VERSION:
        raise CursorError(
            path,
            f"it was written by a later version of ckptstream (its schema is {version}, "
            f"this one knows {VERSION}): update ckptstream, or name another file",
        )


def lock_path(path: str) -> str:
    """The file that the locks are on."""
    return path + "-lock"


def log_path(path: str) -> str:
    """The file that SQLite writes to first, where it shares memory."""
    return path + "-wal"


def connect(path: str) -> sqlite3.Connection:
    """Open the database, an empty one if it is not there. Raises `sqlite3.Error`."""
    # One thread at a time uses it, but not always the same one.
    return sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def set_up(path: str, connection: sqlite3.Connection, wal: bool) -> None:
    """
    Make it a cursor, if there is nothing in it.

    Args:
        path: Its real path.
        connection: What `connect` returned.
        wal: Whether it lies where memory can be shared: on a local filesystem.

    Raises:
        sqlite3.Error: It cannot be used.
        CursorError: It is no cursor.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables or version or application:
        check_version(path, version, application)
    connection.execute("BEGIN IMMEDIATE")
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables:
        # Before the journal mode: what a file is must stand in its own first page.
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
    with contextlib.suppress(sqlite3.OperationalError):  # Others have it open: as it is, then.
        connection.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}")
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    # In WAL mode what is written survives the process at once, and a power cut as a whole or not
    # at all: that is enough, for what is forgotten is delivered again.
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")
