"""A second name for every file of a checkpoint, in directories of our own."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from .._errors import PinUnsupported
from ..layouts._names import is_temporary

_REMEDY = "copy it while the trainer keeps it, or have the trainer keep more"
_NO_LINKS = "the filesystem knows no hard links"
_REASONS = {
    errno.EXDEV: "it is on another filesystem, and a hard link cannot lead to one; let the run be "
    "a directory below the mount point, without symbolic links to elsewhere in it",
    errno.EPERM: f"{_NO_LINKS}, or the kernel allows them to the file's owner alone "
    "(fs.protected_hardlinks); run as that user",
    errno.EACCES: "this user may not write there; give the directory write permission",
    errno.EROFS: "the filesystem is read-only",
    errno.EMLINK: "the file has as many links as its filesystem allows; release other pins",
    errno.ENOTSUP: _NO_LINKS,
    errno.EOPNOTSUPP: _NO_LINKS,
    errno.ENOSYS: "the filesystem has no hard links or no file locks (fcntl)",
    errno.ENOLCK: "the filesystem has no file locks (fcntl), which say whose a pin is",
}


def explain(error: OSError, checkpoint: str, place: str) -> None:
    """Raise `PinUnsupported` for what will never work at *place*."""
    reason = _REASONS.get(error.errno or 0)
    if reason is not None:
        text = f"{place!r}: {os.strerror(error.errno or 0)}: {reason}; or {_REMEDY}"
        raise PinUnsupported(checkpoint, text) from error


@dataclass(slots=True)
class Links:
    """
    The links of one checkpoint.

    Attributes:
        checkpoint: Its path, for errors.
        go_on: Called for each file; raises if nobody wants the links any more.
        inodes: Whether the filesystem keeps inode numbers.
        added: What was added, with inodes.
        seen: What was in each directory when it was linked: names, with inodes.
    """

    checkpoint: str
    go_on: Callable[[], None]
    inodes: bool
    added: dict[str, int] = field(default_factory=dict[str, int])
    seen: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])

    def add(self, source: str, target: str) -> None:
        """
        Link what is called *source*: a file, or all files below a directory.

        Raises:
            FileNotFoundError: If something of it is deleted meanwhile.
            PinUnsupported: If a link cannot be made.
        """
        found = os.lstat(source)
        self.added[source] = found.st_ino
        if stat.S_ISLNK(found.st_mode):
            self._add_symbolic(source, target, ())
        elif stat.S_ISDIR(found.st_mode):
            self._add_directory(source, target, ())
        else:
            self._link(source, target)

    def _add_directory(self, source: str, target: str, above: tuple[str, ...]) -> None:
        """*above*: the directories that lead here, from which a symbolic link leads elsewhere."""
        os.mkdir(target)
        seen = self.seen[source] = dict[str, int]()
        with os.scandir(source) as entries:
            found = list(entries)
        for entry in found:
            seen[entry.name] = entry.inode()
            try:
                self._add_entry(entry, f"{target}/{entry.name}", (*above, source))
            except FileNotFoundError:
                if not is_temporary(entry.name):
                    raise

    def _add_entry(self, entry: os.DirEntry[str], target: str, above: tuple[str, ...]) -> None:
        if entry.is_symlink():
            self._add_symbolic(entry.path, target, above)
        elif entry.is_dir(follow_symlinks=False):
            self._add_directory(entry.path, target, above[:-1])
        else:
            self._link(entry.path, target)

    def _add_symbolic(self, source: str, target: str, above: tuple[str, ...]) -> None:
        real = os.path.realpath(source)
        loops = any(_is_inside(directory, real) for directory in above)
        if loops or not os.path.exists(real):
            os.symlink(os.readlink(source), target)
        elif os.path.isdir(real):
            self._add_directory(real, target, above)
        else:
            self._link(real, target)

    def _link(self, source: str, target: str) -> None:
        self.go_on()
        # What leads to a file has been followed: link(2) follows no symbolic link.
        try:
            os.link(source, target)
        except OSError as error:
            explain(error, self.checkpoint, source)
            raise

    def compare(self) -> tuple[list[str], list[str]]:
        """
        What has happened since.

        Returns:
            The paths that have vanished, or are other files now; and those that have come.
        """
        lost = [path for path, inode in self.added.items() if self._is_other(path, inode)]
        come = list[str]()
        for directory, seen in self.seen.items():
            self.go_on()
            now = self._names(directory)
            if now == seen:
                continue
            for name in seen.keys() | now.keys():
                if is_temporary(name):
                    continue
                if name not in seen:
                    come.append(os.path.join(directory, name))
                elif name not in now or self._differ(now[name], seen[name]):
                    lost.append(os.path.join(directory, name))
        return lost, come

    def _is_other(self, path: str, inode: int) -> bool:
        try:
            return self._differ(os.lstat(path).st_ino, inode)
        except FileNotFoundError:
            return True

    def _differ(self, inode: int, other: int) -> bool:
        return self.inodes and inode != other

    def _names(self, directory: str) -> dict[str, int]:
        try:
            with os.scandir(directory) as entries:
                return {entry.name: entry.inode() for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            return {}


def _is_inside(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
