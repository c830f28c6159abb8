"""What the files of an SQLite database say of it, read without SQLite: that would mend them."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from typing import BinaryIO, NamedTuple

_MAGIC = b"SQLite format 3\0"
# https://sqlite.org/fileformat.html
_HEADER = struct.Struct(">16s H 6x I I 28x I 4x I 20x I")
_JOURNAL = struct.Struct(">16x I")
_LOG = struct.Struct(">8x I 4x 8s 8x")
_FRAME = struct.Struct(">I I 8s 8x")


class Header(NamedTuple):
    """
    Of a database, as SQLite would see it.

    Attributes:
        is_database: Whether it begins as one does, as far as it goes.
        is_blank: Whether nothing was ever in it, but for a transaction that was cut short.
        is_whole: Whether no part of it is missing, as far as can be told.
        application: Whose it is; 0 where nothing says so.
        version: Of its schema.
    """

    is_database: bool
    is_blank: bool
    is_whole: bool
    application: int = 0
    version: int = 0


def read_header(path: str, *, to_write: bool = True) -> Header:
    """
    What a database is. It may be in use: this asks for no lock.

    Raises:
        OSError: The file cannot be read, or, to write it, not be written.
    """
    # What leaves these two is in the file before.
    log, before = _Log(path + "-wal"), _pages_before(path + "-journal")
    # SQLite would go on without being able to write.
    with open(path, "r+b" if to_write else "rb") as file:
        head, size = file.read(_HEADER.size), os.fstat(file.fileno()).st_size
    is_database = _MAGIC.startswith(head[: len(_MAGIC)])
    if len(head) < _HEADER.size:
        return Header(is_database, not (size or log.pages or before), False)
    _, page, changes, pages, version, application, valid = _HEADER.unpack(log.head or head)
    last = log.pages or (pages if changes == valid and before is None else 0)
    there = size // (65536 if page == 1 else max(page, 1))
    is_whole = log.frames.issuperset(range(there + 1, last + 1))
    return Header(is_database, False, is_whole, application, version)


def _pages_before(path: str) -> int | None:
    """How many pages there were before the transaction that was cut short; None: none was."""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        head = file.read(_JOURNAL.size)
        if len(head) == _JOURNAL.size and any(head):
            return int(_JOURNAL.unpack(head)[0])
    return None


class _Log:
    """
    What is written and was not merged into the file yet, in WAL mode.

    Attributes:
        frames: The numbers of the pages that are in it.
        pages: How many pages the database has after its last transaction; 0: there was none.
        head: What the first page then begins with; empty if it is not in here.
    """

    def __init__(self, path: str) -> None:
        self.frames = set[int]()
        self.pages = 0
        self.head = b""
        with suppress(FileNotFoundError), open(path, "rb") as file:
            start = file.read(_LOG.size)
            if len(start) == _LOG.size:
                self._read(file, *_LOG.unpack(start))

    def _read(self, file: BinaryIO, page: int, salt: bytes) -> None:
        begun = dict[int, bytes]()
        while len(frame := file.read(_FRAME.size)) == _FRAME.size:
            number, pages, its = _FRAME.unpack(frame)
            content = file.read(page)
            if its != salt or len(content) < page:
                break  # That is left of an earlier log, or was cut short.
            begun[number] = content[: _HEADER.size]
            if pages:  # the end of a transaction
                self.frames.update(begun)
                self.head = begun.get(1, self.head)
                self.pages = pages
                begun.clear()
