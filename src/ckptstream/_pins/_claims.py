"""
Who owns which pin.

A pin is a directory and, beside it, a file that its process keeps locked. The kernel lets go of
the lock when the process dies, however it dies, and network filesystems know it between hosts; a
number of a process says nothing on another host, and may be another one's tomorrow.

A POSIX lock belongs to a process, and is lost when the process closes any descriptor of the file.
So nobody here opens a lock file of which this process already has a descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Callable

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger("ckptstream.pins")

_LOCK = ".lock"
_TRIES = 100
# The pins of which this process has the lock file open. The number of the process is part of the
# key, since a forked child inherits this, but no lock.
_open: dict[tuple[int, str], object] = {}


def _enter(token: str) -> bool:
    """Say that this process opens a pin's lock file; False if it has it open already."""
    mine = object()
    return _open.setdefault((os.getpid(), token), mine) is mine  # in one step, for all threads


def _leave(token: str) -> None:
    _open.pop((os.getpid(), token), None)


class Claim:
    """
    A pin that this process owns.

    Attributes:
        directory: Where its links lie. It is the owner's to make.
    """

    def __init__(self, root: str, token: str, lock: int) -> None:
        self.directory = os.path.join(root, token)
        self._root = root
        self._token = token
        self._lock: int | None = lock
        self._process = os.getpid()

    def release(self, alive: Callable[[], None]) -> None:
        """
        Remove it. Idempotent; what cannot be removed is left to the next pin that is made here.

        In a forked child nothing is removed: the pin is the parent's.
        """
        lock, self._lock = self._lock, None
        if lock is None:
            return
        if self._process != os.getpid():
            os.close(lock)
            return
        try:
            remove(self.directory, alive)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.directory + _LOCK)
        except OSError as error:
            where = self.directory.encode("utf-8", "backslashreplace").decode()
            # As text: with an error a record would keep all that its traceback refers to.
            why = str(error)
            logger.warning("%s: cannot be removed, the next pin here tries again: %s", where, why)
        finally:
            os.close(lock)
            _leave(self._token)
        with contextlib.suppress(OSError):  # Others are in it, or it is gone already.
            os.rmdir(self._root)


def claim(root: str) -> Claim:
    """
    Claim a new pin below *root*, which is made if it is not there.

    Raises:
        OSError: If nothing can be made or locked there.
    """
    for _ in range(_TRIES):
        # The beginning is for people who wonder; what makes it unique is the end.
        host = os.uname().nodename.replace("/", "_")
        token = f"{host}-{os.getpid()}-{os.urandom(8).hex()}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(root)
        _enter(token)
        try:
            made = _claim(root, token)
        except BaseException:
            _leave(token)
            with contextlib.suppress(OSError):
                os.rmdir(root)
            raise
        if made is not None:
            return made
        _leave(token)
    raise OSError(errno.EAGAIN, "others keep removing what is made here", root)


def _claim(root: str, token: str) -> Claim | None:
    """Make and lock a pin's file; None if others were faster."""
    path = os.path.join(root, token + _LOCK)
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        return None  # Another one has released the last pin, and removed the directory.
    try:
        # Not locked yet, it looked like a dead one's: a collector may have it, or have removed it.
        if _try_lock(lock) and _is_linked(lock, path):
            return Claim(root, token, lock)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(lock)
        raise
    os.close(lock)
    return None


def _try_lock(lock: int) -> bool:
    """Whether nobody else has it locked."""
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EAGAIN}:
            return False
        raise
    return True


def _is_linked(lock: int, path: str) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(lock))
    except FileNotFoundError:
        return False


def collect(root: str, alive: Callable[[], None]) -> None:
    """Remove the pins below *root* whose owners have died."""
    try:
        names = os.listdir(root)
    except OSError:
        return  # It is not there, most likely; any other trouble is met again by who makes a pin.
    for name in names:
        if name.endswith(_LOCK):
            _collect(root, name.removesuffix(_LOCK), alive)


def _collect(root: str, token: str, alive: Callable[[], None]) -> None:
    if not _enter(token):
        return  # This process's own.
    lock = None
    try:
        lock = os.open(os.path.join(root, token + _LOCK), os.O_RDWR | os.O_CLOEXEC)
        dead = _try_lock(lock)
    except OSError:
        dead = False  # Another collector was faster, or it is another user's.
    if lock is not None and dead:
        Claim(root, token, lock).release(alive)
        return
    if lock is not None:
        os.close(lock)
    _leave(token)


def remove(directory: str, alive: Callable[[], None]) -> None:
    """
    Remove a directory and all below it, if it is there; another one may be about it, too.

    Raises:
        OSError: If something cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError):
        for _, directories, files, here in os.fwalk(directory, topdown=False):
            for name in files:
                alive()
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=here)
            for name in directories:
                _remove_directory(name, here)
        os.rmdir(directory)


def _remove_directory(name: str, here: int) -> None:
    try:
        os.rmdir(name, dir_fd=here)
    except FileNotFoundError:
        pass
    except NotADirectoryError:  # A symbolic link to one.
        os.unlink(name, dir_fd=here)
