"""What may be trusted of each kind of filesystem, and which one a path leads to."""

from __future__ import annotations

import os
import re
import sys
from functools import lru_cache
from typing import NamedTuple

from ._protocol import Profile

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


def profile(directory: str) -> Profile:
    """The profile of the filesystem on which an existing directory lies. Touches the storage."""
    if sys.platform == "darwin":
        return Profile("unknown", events=False, rename=True, inodes=True, settle=1.0)
    kind = mount(os.path.realpath(directory))[1]
    local, network = kind in _LOCAL, kind in _NETWORK
    inodes = (local or network) and kind not in _NO_INODES
    linked_locks = (local or network) and kind not in _NO_LINKED_LOCKS
    return Profile(kind, local, local or network, inodes, 1.0 if local else 5.0, linked_locks)


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
