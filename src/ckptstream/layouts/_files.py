"""What several layouts ask about files."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import cast

from .._model import FileStat
from ._names import is_temporary
from ._protocol import Evidence

VANISHING = "its files are vanishing: it is being deleted"
_DEPTH = 8  # below the checkpoint's own directory; symbolic links may form a loop


def read_json(content: bytes | None) -> dict[str, object] | None:
    """The JSON object in *content*, or None if it holds none, or not a whole one."""
    try:
        value: object = json.loads(content or b"")
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def read_integer(path: str, key: str, limit: int, evidence: Evidence) -> int | None:
    """
    The integer under *key* in a JSON file; None if it is not there or the file is cut off.

    Of a file of more than *limit* bytes only the head is read, where the frameworks write such a
    key before whatever grows, and the last brace: in an indented file the one at a line's start.
    """
    head = evidence.head(path, limit + 1) or b""
    if len(head) <= limit:
        value = (read_json(head) or {}).get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None
    found = re.search(rb'"%b"\s*:\s*([0-9]{1,250})[,\s}]' % re.escape(key.encode()), head)
    end = b"\n}" if b"\n" in head else b"}"
    whole = (evidence.tail(path, 64) or b"").rstrip().endswith(end)
    return int(found[1]) if found and whole else None


def is_directory(path: str, evidence: Evidence) -> bool:
    """Whether it is there, and a directory."""
    stat = evidence.stat(path)
    return stat is not None and stat.is_directory


def mark(path: str) -> str:
    """A short word for a path, by which a generation tells which file it is of."""
    return f"{zlib.crc32(path.encode(errors='surrogateescape')):08x}"


def newer_than(marker: str, files: Iterable[str], evidence: Evidence) -> str | None:
    """
    The first of *files* that was written after *marker*; None if none was.

    A marker that is older than the data may be the last save's: saving the same step again in
    place leaves it there. It may also be right: a late rank, or a copied directory.
    """
    written = evidence.stat(marker)
    for file in files:
        stat = evidence.stat(file)
        if written is not None and stat is not None and stat.mtime_ns > written.mtime_ns:
            return file
    return None


def largest_file(directory: str, evidence: Evidence) -> str | None:
    """
    The largest file below a directory, the first by name of several.

    What an evaluator adds to a checkpoint is smaller than the checkpoint.
    """
    files = [(-stat.size, path) for path, stat in files_below(directory, evidence)]
    return min(files)[1] if files else None


def files_below(
    directory: str, evidence: Evidence, depth: int = _DEPTH
) -> Iterator[tuple[str, FileStat]]:
    """All files below a directory, without temporary ones."""
    for name in evidence.list(directory):
        path = f"{directory}/{name}"
        stat = None if is_temporary(name) else evidence.stat(path)
        if stat is not None and not stat.is_directory:
            yield path, stat
        elif stat is not None and depth:
            yield from files_below(path, evidence, depth - 1)
