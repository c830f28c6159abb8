"""Whether a path still leads to the file that was opened by it."""

from __future__ import annotations

import os


class Opened:
    """
    A file that is open for as long as this is asked.

    While somebody has it open its inode number is nobody else's, even if it is deleted.

    Args:
        path: What it was opened by.
        found: What `os.stat` said of it right then.
        inodes: Whether its filesystem keeps inode numbers; else only a deletion is noticed.
    """

    def __init__(self, path: str, found: os.stat_result, inodes: bool) -> None:
        self._path = path
        self._identity = _identity(found)
        self._inodes = inodes

    @property
    def is_there(self) -> bool:
        """Whether the path still leads to it. Raises `OSError` if that cannot be told."""
        try:
            found = os.stat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return not self._inodes or _identity(found) == self._identity


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
