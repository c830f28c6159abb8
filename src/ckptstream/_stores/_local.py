"""Runs on local and mounted filesystems."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from .._model import FileStat
from ._mounts import mount, mount_point, profile
from ._protocol import Finding, Profile

T = TypeVar("T")

POLL_INTERVAL = 1.0  # seconds between two looks where no events can be trusted

_NO_FILE = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR),
        *(errno.ELOOP, errno.ENAMETOOLONG),  # a name that can lead nowhere
        *(errno.EISDIR, errno.ESPIPE, errno.ENXIO),  # a directory, a FIFO, a socket: no bytes
    }
)


@dataclass(frozen=True, slots=True)
class LocalLocation:
    """
    A run's directory.

    Args:
        path: As the user wrote it.
    """

    path: str

    @property
    def why_poll(self) -> str:
        """There may be events: the filesystem's profile says."""
        return ""

    @property
    def poll_interval(self) -> float:
        """A listing is cheap."""
        return POLL_INTERVAL

    @property
    def check(self) -> tuple[str, str]:
        """What a person should check."""
        return "check its permissions and its mount", "check the mount"

    @property
    def requests(self) -> None:
        """Nothing is paid for."""
        return None

    def absolute(self) -> str:
        """The path from the root. Raises `OSError` if the working directory is gone."""
        return os.path.abspath(self.path)

    def absent(self) -> str:
        """Its path from the root, with what is there if it is a checkpoint's prefix."""
        path = self.absolute()
        if os.path.lexists(f"{path}.index"):
            above = os.path.dirname(path)
            return f"{path!r}: it looks like a checkpoint of TensorFlow itself: follow {above!r}"
        return repr(path)

    def above(self) -> tuple[LocalLocation, str]:
        """The parent, as the user would write it. Raises `OSError` as `absolute`."""
        parent, name = os.path.split(self.absolute())
        written, last = os.path.split(self.path.rstrip("/"))
        return LocalLocation((written or ".") if last == name else parent), name

    def at(self, path: str) -> LocalLocation:
        """Another directory."""
        return LocalLocation(path)

    def lane(self) -> str:
        """The mount point, by the path's text alone."""
        return mount_point(self.path)

    def stand(self) -> tuple[tuple[int, int], int]:
        """The directory's device, inode and time. Raises `OSError` if it is not there, or none."""
        found = os.stat(self.path)
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.path)
        return (found.st_dev, found.st_ino), found.st_mtime_ns

    def profile(self) -> Profile:
        """The filesystem's."""
        return profile(self.path)

    def open(self, profile: Profile, alive: Callable[[], None]) -> LocalStore:
        """What one look asks."""
        return LocalStore(self.path, profile.inodes, alive)

    def described(self) -> Finding:
        """The filesystem, by the path's text alone: what is mounted there may hang."""
        return _filesystem(self.absolute())

    def examine(self) -> list[Finding]:
        """The filesystem to which it leads, and whether it is there."""
        there = os.path.isdir(self.path)
        words = "found" if there else "the directory is not there yet"
        return [_filesystem(os.path.realpath(self.path)), Finding("directory", words, not there)]

    def fault(self, error: OSError) -> OSError:
        """Why the directory cannot be entered; *error* if it can."""
        try:
            os.stat(os.path.join(self.path, "."))
        except OSError as own:
            return OSError(own.errno, own.strerror, self.path)
        return error


class LocalStore:
    """
    One run's directory on a local or mounted filesystem.

    Paths are relative to it. What is not there is None or empty; other faults of the storage are
    raised as `OSError`. Files are opened, read and closed at once: on NFS an open file makes the
    trainer's own deletion fail.
    """

    def __init__(
        self, directory: str, inodes: bool, alive: Callable[[], None] = lambda: None
    ) -> None:
        self._directory = directory
        self._prefix = os.path.join(directory, "")
        self._inodes = inodes
        self._alive = alive  # each answer is a sign of life of the storage

    def names(self) -> list[str]:
        """The names at the location itself. Raises `OSError` if it is not there."""
        return os.listdir(self._directory)

    def names_after(self, name: str) -> None:
        """A directory is listed in no order."""

    def expect(self, names: Collection[str]) -> None:
        """Each question is as cheap as any."""

    def has(self, name: str) -> bool:
        """Whether there is something of that name, be it a link that leads nowhere."""
        return os.path.lexists(self._prefix + name)

    def list(self, path: str) -> tuple[str, ...]:
        """The names in a directory, in order."""
        self._alive()
        try:
            # In order: what knows one checkpoint's names then knows those of all of its kind.
            return tuple(sorted(os.listdir(self._prefix + path)))
        except OSError as error:
            return _absent(error, ())

    def stat(self, path: str, *, again: bool = False) -> FileStat | None:
        """Size and times of what the path leads to; always asked again."""
        self._alive()
        try:
            found = os.stat(self._prefix + path)
        except OSError as error:
            return _absent(error, None)
        inode = found.st_ino if self._inodes else 0
        is_directory = found.st_mode & 0o170000 == 0o040000  # as stat.S_ISDIR, without a call
        return FileStat(found.st_size, found.st_mtime_ns, inode, is_directory)

    def extent(self, path: str) -> tuple[int, int]:
        """How many bytes lie at or below a path, and when anything there changed last."""
        size, newest = 0, 0
        for each in _walk(self._prefix + path):
            self._alive()
            with suppress(OSError):
                found = os.lstat(each)
                newest = max(newest, found.st_mtime_ns)
                size += 0 if stat.S_ISDIR(found.st_mode) else found.st_size
        return size, newest

    def pointer(self, path: str, size: int) -> bytes | None:
        """A symbolic link's target, or the first bytes of a file."""
        try:
            return os.fsencode(os.readlink(self._prefix + path))
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL: no symbolic link
                return _absent(error, None)
        return self.read(path, 0, size)

    def read(self, path: str, start: int, size: int) -> bytes | None:
        """Up to *size* bytes of a file; a negative *start* counts from its end."""
        self._alive()
        try:
            # O_NONBLOCK: a FIFO under a checkpoint's name must not hang the look for ever.
            file = os.open(self._prefix + path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            return _absent(error, None)
        try:
            if start < 0:
                start = max(0, os.fstat(file).st_size + start)
            return _pread(file, size, start)
        except OSError as error:
            return _absent(error, None)
        finally:
            os.close(file)


def _filesystem(path: str) -> Finding:
    point, kind = mount(path)
    return Finding("filesystem", f"{kind}, mounted at {point}")


def _walk(top: str) -> Iterator[str]:
    """A path, and all that lies below."""
    yield top
    for directory, directories, files in os.walk(top):
        yield from (os.path.join(directory, name) for name in (*directories, *files))


def _pread(file: int, size: int, offset: int) -> bytes:
    """Read all of a range: one call may return less than it was asked for."""
    parts = list[bytes]()
    while size > 0 and (part := os.pread(file, size, offset)):
        parts.append(part)
        size -= len(part)
        offset += len(part)
    return b"".join(parts)


def _absent(error: OSError, nothing: T) -> T:
    """*nothing* if the error says that there is no such file; raise it otherwise."""
    if error.errno in _NO_FILE:
        return nothing
    raise error
