"""One look's snapshot of one checkpoint: every question of a layout, answered from the store."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

from .._stores import Profile, Snapshot, Store
from ..layouts import FileStat
from ._memory import Entry, Settling, Witness

_DEPTH = 8  # directories below a checkpoint in which files are waited for to settle

Clock: TypeAlias = Callable[[], float]
Files: TypeAlias = "list[tuple[str, FileStat | None]]"
Settlings: TypeAlias = "list[Settling]"


class StoreEvidence(Snapshot):
    """
    `ckptstream.layouts.Evidence` over a store; remembers what was asked.

    Attributes:
        settling: What `settled` compared, for the next look.
        again: Seconds after which `settled` can answer True, or None if it was not asked in vain.
    """

    def __init__(
        self,
        store: Store,
        profile: Profile,
        clock: Clock,
        *,
        name: str,
        members: Collection[str],
        old: Entry | None,
        named: Callable[[str, StoreEvidence, Entry | None], bool],
    ) -> None:
        super().__init__(store)
        self._profile = profile
        self._clock = clock
        self._name = name
        self._named = named
        self.members = members
        self.settling: Settlings = []
        self.again: float | None = None
        self.inode = 0
        self._old = old
        self._began = clock()

    def recognise(self) -> None:
        """Find out whether this is the entry that was known. Raises `OSError`."""
        found = self.stat(self._name)
        self.inode = 0 if found is None else found.inode
        if self._old is not None and (self._old.inode != self.inode or self._is_replaced(found)):
            # Another inode is another directory: what was known of the old one says nothing.
            self._old = None

    def _is_replaced(self, found: FileStat | None) -> bool:
        """
        Whether all of what was finished once, and is not now, was written since: no inode tells.

        What is only being deleted has no newer files.
        """
        old = self._old
        if not self._profile.paid or old is None or old.missing is None or not old.written:
            return False
        if found is None or not found.is_directory:
            return False
        times = [stat.mtime_ns for _, stat in self._walk((self._name,)) if stat is not None]
        return bool(times) and min(times) > old.written

    # What each of these means to a layout stands in `ckptstream.layouts.Evidence`.

    @property
    def rename_is_atomic(self) -> bool:
        return self._profile.rename

    @property
    def named(self) -> bool:
        return self._named(self._name, self, self._old)

    @property
    def before(self) -> str | None:
        return None if self._old is None else self._old.generation

    @property
    def seen_unfinished(self) -> bool:
        return self._old is not None and self._old.seen_unfinished

    def settled(self, *paths: str) -> bool:
        # Times are taken on the safe side: before anything was asked, and after.
        began = self._began
        seen = hash(tuple(self._walk(paths)))
        since = self._clock()
        for earlier in () if self._old is None else self._old.settling:
            if earlier.paths == paths and earlier.seen == seen:
                since = earlier.since
        self.settling.append(Settling(paths, seen, since))
        remaining = since + self._profile.settle - began
        if remaining > 0:
            # Counted from now: the walk took its time, and the last look waits no longer than that.
            left = since + self._profile.settle - self._clock()
            self.again = max(self.again or 0.0, left)
        return remaining <= 0

    def _walk(self, paths: Collection[str]) -> Files:
        """Every file at or below *paths*; not `places`, for it is time that settles them."""
        found: Files = []
        rest = sorted(paths)
        while rest:
            path = rest.pop()
            stat = self._seen(path)
            # No deeper: a symbolic link may lead back here.
            if stat is not None and stat.is_directory and path.count("/") < _DEPTH:
                rest += [f"{path}/{name}" for name in self._names(path)]
            else:
                found.append((path, stat))
        return found

    @property
    def newest(self) -> int:
        """The time of the newest of its files that was asked about; 0 if there is none."""
        here = {self._name, *self.members}
        stats = (stat for path, stat in self._stats.items() if path.partition("/")[0] in here)
        return max((stat.mtime_ns for stat in stats if stat and not stat.is_directory), default=0)

    def witness(self) -> Witness | None:
        """What proves that nothing has changed since; None if it lies beside the checkpoint."""
        name = self._name
        paths = sorted(self.decisive)
        if not paths or not all(path.startswith(name) for path in paths):
            return None
        return Witness.of(name, tuple(path[len(name) :] for path in paths), self.stat)
