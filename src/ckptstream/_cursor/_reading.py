"""What a cursor file says, for whoever only reads it: other streams may have it open."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING

from .._errors import CursorError
from .._model import absolute
from ._records import Record, key_of, record_of

if TYPE_CHECKING:
    import sqlite3

_FIND_RUN = "SELECT id FROM runs WHERE path = ?"
_COLUMNS = "name, generation, step, state, attempts, reason"
_RECALL = f"SELECT {_COLUMNS} FROM checkpoints WHERE run = ? AND name = ? AND generation = ?"
_OPEN_ENDS = f"""
SELECT {_COLUMNS} FROM checkpoints WHERE run = ? AND (
    state IN ('seen', 'failed', 'missed') OR state = 'set aside' AND NOT EXISTS (
        SELECT 1 FROM checkpoints AS later WHERE later.run = checkpoints.run
        AND later.name = checkpoints.name AND later.state = 'done'
        AND later.changed > checkpoints.changed
    )
) ORDER BY changed
"""
_WAL = 2  # at this place in the file
_MODE_AT = 18


def remembered(
    path: str, there: Mapping[str, Collection[tuple[str, str]]]
) -> dict[str, list[Record]]:
    """
    What is remembered of some runs. Blocks; takes no run's lock, and changes nothing.

    Args:
        path: The cursor file's.
        there: By directory, the names and generations of the finished checkpoints that lie there.

    Returns:
        By directory, what is remembered of those, and of all others that are not done.

    Raises:
        CursorError: It cannot be used; the message says what to do.
    """
    import sqlite3

    from ._schema import check_file, explain

    real = os.path.realpath(path)
    try:
        if not os.path.exists(real):
            raise CursorError(real, "it is not there: check its name")
        check_file(real, to_write=False)
        with closing(_connect(real)) as connection:
            return _read(connection, there)
    except (sqlite3.Error, OSError) as error:
        if "readonly" in str(error) and os.path.exists(real + "-journal"):
            remedy = "what a killed program has left in it must be undone: start that program again"
            raise CursorError(real, remedy) from error
        raise explain(real, error) from error


def _connect(path: str) -> sqlite3.Connection:
    """
    Open the file to read it.

    Where nobody has it open there is no log, and what is in the file does not change; SQLite
    would make a log, and leave it there.
    """
    import sqlite3
    from urllib.parse import quote

    from ._schema import BUSY_SECONDS, log_path

    with open(path, "rb") as file:
        mode = file.read(_MODE_AT + 1)[_MODE_AT:]
    alone = mode == bytes([_WAL]) and not os.path.exists(log_path(path))
    uri = f"file:{quote(os.fsencode(path))}?mode=ro{'&immutable=1' if alone else ''}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)


def _read(
    connection: sqlite3.Connection, there: Mapping[str, Collection[tuple[str, str]]]
) -> dict[str, list[Record]]:
    connection.execute("BEGIN")  # All of it is of one moment.
    if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return {directory: [] for directory in there}
    return {directory: _read_run(connection, directory, its) for directory, its in there.items()}


def _read_run(
    connection: sqlite3.Connection, directory: str, there: Iterable[tuple[str, str]]
) -> list[Record]:
    found = connection.execute(_FIND_RUN, (key_of(absolute(directory)),)).fetchone()
    if found is None:
        return []
    run, records = found[0], dict[tuple[str, str], Record]()
    rows = connection.execute(_OPEN_ENDS, (run,)).fetchall()
    for name, generation in there:
        rows += connection.execute(_RECALL, (run, key_of(name), generation)).fetchall()
    for record in map(record_of, rows):
        records[record.name, record.generation] = record
    return list(records.values())
