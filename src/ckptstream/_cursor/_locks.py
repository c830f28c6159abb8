"""Which runs of a cursor file belong to somebody: locks that the kernel releases at death."""

from __future__ import annotations

import fcntl
import os

from ._opened import Opened


class Locks:
    """
    One process's locks on a file beside the cursor: one byte for each run.

    POSIX locks, since a forked child does not inherit them, and they hold between the hosts of a
    network filesystem. They know no owner within a process, and closing any descriptor of the
    file drops them all: so a process has one of these for a file, and nobody else opens it.
    """

    def __init__(self, path: str, inodes: bool) -> None:
        """
        Raises `OSError`.

        Args:
            path: Of the file beside the cursor; made if it is not there.
            inodes: Whether its filesystem keeps inode numbers.
        """
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._opened = Opened(path, os.fstat(self._descriptor), inodes)
        self._held = set[int]()

    @property
    def is_there(self) -> bool:
        """Whether others who open the file find these locks on it. Raises `OSError`."""
        return self._opened.is_there

    def take(self, number: int) -> bool:
        """Take one; whether nobody had it. Raises `OSError` where there are no locks."""
        if number in self._held:
            return False
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as POSIX leaves open
            return False
        self._held.add(number)
        return True

    def give(self, number: int) -> None:
        """Give one back."""
        self._held.discard(number)
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, number)

    def close(self) -> None:
        """Give all back."""
        os.close(self._descriptor)
