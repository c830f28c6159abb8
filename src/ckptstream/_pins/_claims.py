"""The pins of this process, on each filesystem, and the removal of what the dead have left."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Callable

from .._model import printable
from ._owners import Owner, is_own, make_owner, owners, remove_dead
from ._trees import remove

logger = logging.getLogger("ckptstream.pins")

_TRIES = 100


class _Filesystem:
    """
    The owners on one filesystem that are this process.

    Attributes:
        lock: Held by the thread that makes or closes an owner's file. One for each filesystem,
            since one of them may hang.
        collecting: Held by the thread that opens, locks or closes another process's file. Not the
            same: what has died may have left much, and no pin waits until that is removed.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.collecting = threading.Lock()
        self._owners = list[Owner]()

    def claim(self, root: str, linked_locks: bool) -> Claim | None:
        """A new pin; None if others were faster."""
        owner = self._owner(root, linked_locks)
        if owner is None:
            return None
        return Claim(self, owner, root, owner.add(root))

    def _owner(self, root: str, linked_locks: bool) -> Owner | None:
        known = next((owner for owner in self._owners if owner.is_in(root)), None)
        if known is None and linked_locks:
            known = next((owner for owner in self._owners if owner.link(root)), None)
        if known is not None:
            return known
        made = make_owner(root)
        if made is not None:
            self._owners.append(made)
        return made

    def discard(self, owner: Owner, root: str, name: str) -> None:
        """
        Forget a pin, and its owner with the last one.

        Raises:
            OSError: If its link cannot be removed.
        """
        with self.lock:
            try:
                owner.discard(root, name)
            finally:
                if not owner.pins:
                    self._owners.remove(owner)
                    owner.close()

    def collect(self, root: str, token: str, alive: Callable[[], None]) -> None:
        """Remove the pins of *token* if it has died; if it is this process, its remnants."""
        if not is_own(token):
            with self.collecting:
                remove_dead(root, token, alive)
            return
        with self.lock:
            for owner in self._owners:
                if owner.token == token:
                    owner.remove_remnants(root, alive)


# The number of the process is part of the key: a forked child inherits this, but no lock.
_filesystems: dict[tuple[int, int], _Filesystem] = {}


def _filesystem(root: str) -> _Filesystem:
    key = os.getpid(), os.stat(root).st_dev
    return _filesystems.setdefault(key, _Filesystem())  # in one step, for all threads


class Claim:
    """
    A pin that this process owns.

    Attributes:
        directory: Where its links lie. It is the owner's to make.
    """

    def __init__(self, filesystem: _Filesystem, owner: Owner, root: str, name: str) -> None:
        self.directory = os.path.join(root, name)
        self._filesystem = filesystem
        self._owner: Owner | None = owner
        self._root = root
        self._name = name
        self._process = os.getpid()

    def release(self, alive: Callable[[], None]) -> None:
        """
        Remove it. Idempotent; what cannot be removed is left to the next pin that is made here.

        In a forked child nothing is removed: the pin is the parent's.
        """
        owner, self._owner = self._owner, None
        if owner is None or self._process != os.getpid():
            return
        try:
            try:
                remove(self.directory, alive)
            finally:
                self._filesystem.discard(owner, self._root, self._name)
        except OSError as error:
            # As text: with an error a record would keep all that its traceback refers to.
            where, why = printable(self.directory), str(error)
            logger.warning("%s: cannot be removed, the next pin here tries again: %s", where, why)
        with contextlib.suppress(OSError):  # Others are in it, or it is gone already.
            os.rmdir(self._root)


def claim(root: str, linked_locks: bool) -> Claim:
    """
    Claim a new pin below *root*, which is made if it is not there.

    Args:
        root: A directory.
        linked_locks: Whether a lock on a file is one on all of its hard links.

    Raises:
        OSError: If nothing can be made or locked there.
    """
    for _ in range(_TRIES):
        with contextlib.suppress(FileExistsError):
            os.mkdir(root)
        try:
            # Another one may have released the last pin, and removed the directory.
            with contextlib.suppress(FileNotFoundError):
                here = _filesystem(root)
                with here.lock:
                    claimed = here.claim(root, linked_locks)
                if claimed is not None:
                    return claimed
        except BaseException:
            with contextlib.suppress(OSError):
                os.rmdir(root)
            raise
    raise OSError(errno.EAGAIN, "others keep removing what is made here", root)


def collect(root: str, alive: Callable[[], None]) -> None:
    """Remove the pins below *root* whose owners have died, and what could not be removed before."""
    try:
        tokens = owners(root)
        here = _filesystem(root)
    except OSError:
        return  # It is not there, most likely; any other trouble is met again by who makes a pin.
    for token in tokens:
        here.collect(root, token, alive)
    if tokens:
        with contextlib.suppress(OSError):  # Others are in it, or it is gone already.
            os.rmdir(root)
