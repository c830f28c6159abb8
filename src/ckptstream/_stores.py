"""Where runs lie: the local filesystem, and what may be trusted of each kind of it."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeVar

from ._model import FileStat

T = TypeVar("T")

# Filesystems of this machine alone: inotify sees every change made to them.
_LOCAL = frozenset(
    "bcachefs btrfs ext2 ext3 ext4 exfat f2fs hfsplus jfs msdos ntfs3 nilfs2 overlay ramfs "
    "reiserfs tmpfs ubifs vfat xfs zfs".split()
)
# Network filesystems whose rename() is atomic on the server, but other hosts' changes are silent.
_NETWORK = frozenset(
    "9p afs beegfs ceph cifs gpfs lustre mmfs nfs nfs4 orangefs panfs smb3 virtiofs wekafs".split()
)
# Inode numbers that are made up, or change when a file is copied up to another layer.
_NO_INODES = frozenset("9p cifs exfat msdos overlay smb3 vfat virtiofs".split())
_NO_LINKED_LOCKS = frozenset("9p cifs smb3".split())
_NO_FILE = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR),
        *(errno.ELOOP, errno.ENAMETOOLONG),  # a name that can lead nowhere
        *(errno.EISDIR, errno.ESPIPE, errno.ENXIO),  # a directory, a FIFO, a socket: no bytes
    }
)


@dataclass(frozen=True, slots=True)
class Profile:
    """
    What can be trusted of one filesystem.

    Attributes:
        filesystem: Its type as the kernel names it, or `"unknown"`.
        events: Whether inotify sees every change.
        rename: Whether a directory can appear whole, by a rename.
        inodes: Whether a file keeps its inode number.
        settle: Seconds for which files must not change to count as settled. Network filesystems
            cache what `stat` says: NFS for at least 3 s (`acregmin` in nfs(5)).
    """

    filesystem: str
    events: bool
    rename: bool
    inodes: bool
    settle: float

    @property
    def linked_locks(self) -> bool:
        """Whether a lock on a file is one on all of its hard links, not on a path, as with FUSE."""
        return self.filesystem in (_LOCAL | _NETWORK) - _NO_LINKED_LOCKS


def profile(directory: str) -> Profile:
    """The profile of the filesystem on which an existing directory lies. Touches the storage."""
    if sys.platform == "darwin":
        return Profile("unknown", events=False, rename=True, inodes=True, settle=1.0)
    kind = mount(os.path.realpath(directory))[1]
    local, network = kind in _LOCAL, kind in _NETWORK
    inodes = (local or network) and kind not in _NO_INODES
    return Profile(kind, local, local or network, inodes, 1.0 if local else 5.0)


def mount(path: str) -> tuple[str, str]:
    """
    The mount point above an absolute path, and the filesystem's type, by the path's text alone.

    Never touches the mount itself, so it answers for one that hangs.
    """
    above = [mount for mount in _mounts() if _is_inside(path, mount.point)]
    numbers = {mount.number for mount in above}
    # The kernel's own root is its own parent.
    rest = [mount for mount in above if mount.parent not in numbers - {mount.number}]
    best = ("/", "unknown")
    while rest:
        # As the kernel walks: what is mounted nearest to the root covers what lay below it before.
        first = min(rest, key=lambda mount: len(mount.point))
        best = (first.point, first.kind)
        rest = [mount for mount in above if mount.parent == first.number != mount.number]
    return best


class _Mount(NamedTuple):
    number: int
    parent: int
    point: str
    kind: str


def _is_inside(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def _mounts() -> list[_Mount]:
    """All mounts, from proc_pid_mountinfo(5)."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            return _parse_mounts(file.read())
    except OSError:
        return []


@lru_cache(maxsize=1)  # Parsing takes as long as a look, and mounts seldom change.
def _parse_mounts(content: bytes) -> list[_Mount]:
    mounts = list[_Mount]()
    for line in content.splitlines():
        left, _, right = line.partition(b" - ")
        number, parent, _, _, point = left.split()[:5]
        point = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), point)
        kind = right.split()[0].decode()
        mounts.append(_Mount(int(number), int(parent), os.fsdecode(point), kind))
    return mounts


def mount_point(path: str) -> str:
    """The mount point above a path. Raises `OSError` if the working directory is gone."""
    return mount(os.path.abspath(path))[0]


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
        self._prefix = os.path.join(directory, "")
        self._inodes = inodes
        self._alive = alive  # each answer is a sign of life of the storage

    def list(self, path: str) -> tuple[str, ...]:
        """The names in a directory."""
        self._alive()
        try:
            # In order: what knows one checkpoint's names then knows those of all of its kind.
            return tuple(sorted(os.listdir(self._prefix + path)))
        except OSError as error:
            return _absent(error, ())

    def stat(self, path: str) -> FileStat | None:
        """Size and times of what the path leads to."""
        self._alive()
        try:
            found = os.stat(self._prefix + path)
        except OSError as error:
            return _absent(error, None)
        inode = found.st_ino if self._inodes else 0
        is_directory = found.st_mode & 0o170000 == 0o040000  # as stat.S_ISDIR, without a call
        return FileStat(found.st_size, found.st_mtime_ns, inode, is_directory)

    def head(self, path: str, size: int) -> bytes | None:
        """Up to the first *size* bytes of a file."""
        return self._read(path, 0, os.SEEK_SET, size)

    def tail(self, path: str, size: int) -> bytes | None:
        """Up to the last *size* bytes of a file."""
        return self._read(path, -size, os.SEEK_END, size)

    def pointer(self, path: str, size: int) -> bytes | None:
        """A symbolic link's target, or the first bytes of a file."""
        try:
            return os.fsencode(os.readlink(self._prefix + path))
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL: no symbolic link
                return _absent(error, None)
        return self.head(path, size)

    def _read(self, path: str, offset: int, whence: int, size: int) -> bytes | None:
        self._alive()
        try:
            # O_NONBLOCK: a FIFO under a checkpoint's name must not hang the look for ever.
            file = os.open(self._prefix + path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            return _absent(error, None)
        try:
            if whence == os.SEEK_END:
                offset = max(0, os.fstat(file).st_size + offset)
            return _pread(file, size, offset)
        except OSError as error:
            return _absent(error, None)
        finally:
            os.close(file)


class Snapshot:
    """
    What one look saw of a store: what is asked twice is answered alike.

    What each answer means to a layout stands in `ckptstream.layouts.Evidence`.

    Attributes:
        places: The directories that were asked about, relative to the run's.
    """

    def __init__(self, store: LocalStore) -> None:
        self.store = store
        self.places = set[str]()
        self._stats: dict[str, FileStat | None] = {}
        self._bytes: dict[tuple[str, int], bytes | None] = {}
        self._lists: dict[str, tuple[str, ...]] = {}
        self._fingerprinted = set[str]()

    def list(self, directory: str) -> Collection[str]:
        if directory:
            self.places.add(directory)
        return self._names(directory)

    def _names(self, directory: str) -> tuple[str, ...]:
        if directory not in self._lists:
            self._lists[directory] = self.store.list(directory)
        return self._lists[directory]

    def stat(self, path: str) -> FileStat | None:
        # A profile of the first look: layouts ask six times as often as the storage is asked.
        try:
            return self._stats[path]
        except KeyError:
            directory, _, _ = path.rpartition("/")
            if directory:
                self.places.add(directory)
            found = self._stats[path] = self.store.stat(path)
            return found

    def _seen(self, path: str) -> FileStat | None:
        """As `stat`, but its directory is none of the `places`."""
        return self._stats[path] if path in self._stats else self.store.stat(path)

    def head(self, path: str, size: int) -> bytes | None:
        return self._read(path, size, self.store.head, size)

    def tail(self, path: str, size: int) -> bytes | None:
        return self._read(path, -size, self.store.tail, size)

    def _read(
        self, path: str, key: int, read: Callable[[str, int], bytes | None], size: int
    ) -> bytes | None:
        # Asked first, so that what changes after this is not mistaken for what was read.
        there = self.stat(path)
        if (path, key) not in self._bytes:
            # No more than it had then: else a second call would only find its end.
            fits = size if there is None else min(size, there.size) or size
            self._bytes[path, key] = None if there is None else read(path, fits)
        return self._bytes[path, key]

    def fingerprint(self, path: str) -> str | None:
        self._fingerprinted.add(path)
        found = self.stat(path)
        return None if found is None else f"{found.inode}-{found.mtime_ns}-{found.size}"

    def still(self) -> bool:
        """
        Whether the files that were read are still what they were when they were asked for.

        Else a generation could be older than the content that proved it finished.
        """
        return all(self.store.stat(path) == self._stats[path] for path, _ in self._bytes)

    def is_current(self) -> bool:
        """Whether the files that decided are what they were; False if there were none."""
        decisive = self.decisive
        return bool(decisive) and all(self.store.stat(p) == self._stats[p] for p in decisive)

    @property
    def decisive(self) -> set[str]:
        """The files that were read, and those whose fingerprints were taken."""
        return self._fingerprinted.union(path for path, _ in self._bytes)


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
