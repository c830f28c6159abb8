"""One look's memory of a store."""

from __future__ import annotations

from collections.abc import Collection

from .._model import FileStat
from ._protocol import Store


class Snapshot:
    """
    What one look saw of a store: what is asked twice is answered alike.

    What each answer means to a layout stands in `ckptstream.layouts.Evidence`.

    Attributes:
        places: The directories that were asked about, relative to the run's.
    """

    def __init__(self, store: Store) -> None:
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
        return self._read(path, size)

    def tail(self, path: str, size: int) -> bytes | None:
        return self._read(path, -size)

    def _read(self, path: str, size: int) -> bytes | None:
        """The first bytes, or the last ones if *size* is negative."""
        # Asked first, so that what changes after this is not mistaken for what was read.
        there = self.stat(path)
        if (path, size) not in self._bytes:
            # No more than it had then: else a second call would only find its end.
            fits = abs(size) if there is None else min(abs(size), there.size) or abs(size)
            start = -fits if size < 0 else 0
            content = None if there is None else self.store.read(path, start, fits)
            self._bytes[path, size] = content
        return self._bytes[path, size]

    def fingerprint(self, path: str) -> str | None:
        self._fingerprinted.add(path)
        found = self.stat(path)
        return None if found is None else f"{found.inode}-{found.mtime_ns}-{found.size}"

    def still(self) -> bool:
        """
        Whether the files that were read are still what they were when they were asked for.

        Else a generation could be older than the content that proved it finished.
        """
        return all(self._is_same(path) for path, _ in self._bytes)

    def is_current(self) -> bool:
        """Whether the files that decided are what they were; False if there were none."""
        decisive = self.decisive
        return bool(decisive) and all(map(self._is_same, decisive))

    def _is_same(self, path: str) -> bool:
        return self.store.stat(path, again=True) == self._stats[path]

    @property
    def decisive(self) -> set[str]:
        """The files that were read, and those whose fingerprints were taken."""
        return self._fingerprinted.union(path for path, _ in self._bytes)
