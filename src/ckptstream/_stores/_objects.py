"""Objects as files in directories."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TypeAlias

from .._model import FileStat
from ._client import Object

Entries: TypeAlias = dict[str, FileStat]

DIRECTORY = FileStat(0, 0, 0, True)
_SECOND = 1_000_000_000  # nanoseconds


def etag(found: Object) -> str:
    """An object's ETag, as the server wrote it."""
    return found["e_tag"] or ""


def file_stat(found: Object) -> FileStat:
    """An object as a file; its ETag serves as its inode."""
    # One server quotes it in one answer and not in the other.
    tag = etag(found).removeprefix("W/").strip('"')
    number = int.from_bytes(hashlib.blake2b(tag.encode(), digest_size=7).digest(), "big")
    seconds = int(found["last_modified"].timestamp())
    return FileStat(found["size"], seconds * _SECOND, number if tag else 0, False)


class Tree:
    """
    What lies in each directory.

    Attributes:
        listed: By the directory's path.
    """

    def __init__(self) -> None:
        self.listed: dict[str, Entries] = {"": {}}

    def add(self, found: Iterable[tuple[str, Object]]) -> None:
        """Objects, by their paths."""
        listed = self.listed
        for path, item in found:
            if not path:
                continue  # what a console has put there for the directory
            directory, _, name = path.rpartition("/")
            listed.setdefault(directory, {}).setdefault(name, file_stat(item))
            # Of each directory the ones above it, up to one that is known.
            while directory:
                above, _, name = directory.rpartition("/")
                known = listed.setdefault(above, {})
                if known.get(name) is DIRECTORY:
                    break
                known[name] = DIRECTORY  # Also where a console has put an object for it.
                directory = above
