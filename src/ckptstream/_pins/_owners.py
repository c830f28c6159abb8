"""
Who owns pins: a process, by a file that it keeps locked.

The kernel lets go of the lock when the process dies, however it dies, and network filesystems know
it between hosts; a number of a process says nothing on another host, and may be another one's
tomorrow.

A process has one such file on each filesystem, however many pins it has there, so that it needs one
descriptor: what lies beside the pins of another directory is a hard link to it. (Where a lock may
not hold for all links of a file there is a file for each directory.)

A POSIX lock belongs to a process, and is lost when the process closes any descriptor of the file.
So nobody opens a file of this process's own, and of two threads that would open that of another
process one waits for the other (`_claims`).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import sys
from collections.abc import Callable, Iterable

from ._trees import remove

if sys.platform != "win32":
    import fcntl

_LOCK = ".lock"

# The tokens of this process, wherever they are: one filesystem may be mounted as if it were two.
# Its number is part of the key: a forked child inherits the set, but no lock.
_tokens: set[tuple[int, str]] = set()


class Owner:
    """
    A file that this process keeps locked.

    Attributes:
        token: Its name, but for the ending, wherever it lies; the names of its pins begin with it.
        lock: Its descriptor.
        pins: For each directory in which it has pins, their names. It has a link in each.
    """

    def __init__(self, token: str, lock: int) -> None:
        self.token = token
        self.lock = lock
        self.pins = dict[str, set[str]]()
        self._remnants = dict[str, set[str]]()  # released, and still there
        self._numbers = itertools.count(1)

    def is_in(self, root: str) -> bool:
        """Whether it has a link in a directory; somebody may have deleted it."""
        return _is_linked(self.lock, self._path(root))

    def link(self, root: str) -> bool:
        """Give it a link in another directory; False if that cannot be."""
        for other in self.pins:
            try:
                os.link(self._path(other), self._path(root))
            except FileNotFoundError:
                continue  # This one was deleted.
            except OSError:
                return False  # Mounted at two places, or as many links as a file may have.
            return True
        return False

    def add(self, root: str) -> str:
        """The name of a new pin."""
        name = f"{self.token}.{next(self._numbers)}"
        self.pins.setdefault(root, set()).add(name)
        return name

    def remove_remnants(self, root: str, alive: Callable[[], None]) -> None:
        """Remove what could not be removed when it was released."""
        # Not all that is there and unknown here: another path may lead to the same directory.
        names = self._remnants.pop(root, None)
        if names is not None and not _remove(root, names, alive):
            self._remnants[root] = names

    def close(self) -> None:
        """Let go of the lock, when there are no pins any more."""
        os.close(self.lock)
        _tokens.discard((os.getpid(), self.token))

    def discard(self, root: str, name: str) -> None:
        """
        Forget a pin, and remove the link with the last one, but not if there is still one of them.

        Raises:
            OSError: If the link cannot be removed.
        """
        self.pins[root].discard(name)
        if os.path.lexists(os.path.join(root, name)):
            self._remnants.setdefault(root, set()).add(name)
        if not self.pins[root]:
            del self.pins[root]
            if not _pins(root, self.token):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path(root))

    def _path(self, root: str) -> str:
        return os.path.join(root, self.token + _LOCK)


def owners(root: str) -> list[str]:
    """
    The tokens of those who have pins in a directory.

    Raises:
        OSError: If it cannot be read.
    """
    return [name.removesuffix(_LOCK) for name in os.listdir(root) if name.endswith(_LOCK)]


def is_own(token: str) -> bool:
    """Whether it is this process's."""
    return (os.getpid(), token) in _tokens


def make_owner(root: str) -> Owner | None:
    """Make and lock an owner's file; None if others were faster."""
    # The beginning is for people who wonder; what makes it unique is the end.
    host = os.uname().nodename.replace("/", "_")
    token = f"{host}-{os.getpid()}-{os.urandom(8).hex()}"
    _tokens.add((os.getpid(), token))
    owner = None
    try:
        owner = _open(token, os.path.join(root, token + _LOCK))
    finally:
        if owner is None:
            _tokens.discard((os.getpid(), token))
    return owner


def _open(token: str, path: str) -> Owner | None:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        # Not locked yet, it looked like a dead one's: a collector may have it, or have removed it.
        if _try_lock(lock, fcntl.LOCK_EX) and _is_linked(lock, path):
            return Owner(token, lock)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(lock)
        raise
    os.close(lock)
    return None


def _try_lock(lock: int, kind: int) -> bool:
    """Whether nobody else has it locked, so that it is now."""
    try:
        fcntl.lockf(lock, kind | fcntl.LOCK_NB)
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


def remove_dead(root: str, token: str, alive: Callable[[], None]) -> None:
    """Remove the pins of another process in a directory, if it has died."""
    path = os.path.join(root, token + _LOCK)
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return  # Another collector was faster, or it is another user's.
    try:
        with contextlib.suppress(OSError):  # The next one tries again.
            # Shared: others may be at what it has left in other directories.
            if _try_lock(lock, fcntl.LOCK_SH) and _remove(root, _pins(root, token), alive):
                os.unlink(path)
    finally:
        os.close(lock)


def _remove(root: str, names: Iterable[str], alive: Callable[[], None]) -> bool:
    """Whether they could be removed; those who pinned them have said it if not."""
    try:
        for name in names:
            remove(os.path.join(root, name), alive)
    except OSError:
        return False
    return True


def _pins(root: str, token: str) -> set[str]:
    """The names of an owner's pins in a directory."""
    try:
        names = os.listdir(root)
    except FileNotFoundError:
        return set()
    return {name for name in names if name.startswith(f"{token}.") and not name.endswith(_LOCK)}
