"""What one look hands to the next, and to the stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from .._cursor import Claim, Cursor, Memory
from .._stores import Location, Profile, Store
from .._watchers import Subscription
from ..layouts import FileStat, Layout, PointerLayout


class Settling(NamedTuple):
    """
    Files that a layout waits for to stop changing.

    Attributes:
        paths: What it asked for.
        seen: A hash of all names, sizes, times and inodes.
        since: Since when they have been like that, on the look's clock.
    """

    paths: tuple[str, ...]
    seen: int
    since: float


class Witness(NamedTuple):
    """
    The files of a finished checkpoint that prove it, and that tell its generation.

    While they are the same, so is the checkpoint: asking for their times is much cheaper than
    judging it again.

    Attributes:
        files: What follows the checkpoint's name in each path.
        seen: A hash of their sizes, times and inodes.
    """

    files: tuple[str, ...]
    seen: int

    @classmethod
    def of(
        cls, name: str, files: tuple[str, ...], stat: Callable[[str], FileStat | None]
    ) -> Witness:
        """The files as they are now."""
        return cls(_shared(files), hash(tuple(stat(name + file) for file in files)))

    def is_same(self, name: str, store: Store) -> bool:
        """Whether nothing has happened to them since."""
        return self.seen == hash(tuple(store.stat(name + f, again=True) for f in self.files))


@lru_cache(maxsize=1000)
def _shared(files: tuple[str, ...]) -> tuple[str, ...]:
    """One object for all checkpoints of a kind, of which there may be a million."""
    return files


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One checkpoint as the last look saw it.

    Attributes:
        members: Its names in the run's directory.
        missing: What it lacks; None if it is finished.
        generation: The one it has, or had when the same entry was last finished.
        stamp: The commit stamp, where the framework writes one.
        inode: Its directory's, to know the same entry again; 0 if it has none.
        pointed: The generation that the pointer named.
        seen_unfinished: Whether the same entry was seen before it was finished.
        witness: What proves that a finished one has not changed, if that can be told.
        written: The time of its newest file when it was last finished, on the store's clock; 0 if
            it never was.
        rewritten: Whether it is not finished any more and something in it was written since:
            what is only deleted has no newer files.
    """

    step: int | None
    layout: str
    members: tuple[str, ...]
    missing: str | None
    generation: str | None
    stamp: int | None = None
    inode: int = 0
    pointed: str | None = None
    settling: tuple[Settling, ...] = ()
    seen_unfinished: bool = False
    witness: Witness | None = None
    written: int = 0
    rewritten: bool = False


class Trouble(Enum):
    """Why a run cannot be looked at. None of them is an end: all are waited out."""

    MISSING = "no such directory"
    NOT_A_DIRECTORY = "not a directory"
    UNREADABLE = "cannot be read"
    BUSY = "another open stream follows it with the same cursor"
    LOCKED = "its cursor does not answer"


class Ground(NamedTuple):
    """
    The directory that a run's path led to.

    Attributes:
        identity: Device and inode.
        modified: The directory's own time at the last listing.
        since: When it was first listed with that time, on the look's clock.
        trusted: Whether two listings far enough apart had that time, so that an unchanged time
            now means an unchanged listing.
        pointer: Whether there was a pointer, whatever it named: most are written in place.
        listed: When all of it was listed last, on the look's clock.
        after: The last checkpoint's name, where names are in the order of steps; else empty.
        names: A hash of the names that were there.
    """

    identity: tuple[int, int]
    profile: Profile
    modified: int
    since: float
    trusted: bool
    pointer: bool = False
    listed: float = -math.inf
    after: str = ""
    names: int = 0


class Stranger(NamedTuple):
    """
    An entry that nobody recognises and that looks like a checkpoint of the user's own.

    Attributes:
        name: Its name.
        inside: A few of the files in it, the marker first; none if it is a file.
        marker: The file whose name says that it is finished, if there is one.
        template: A string that fits it.
        sure: Whether nobody takes it for an unfinished one of its own, or there is a marker.
    """

    name: str
    inside: tuple[str, ...]
    marker: str | None
    template: str
    sure: bool = True


class Foreign(NamedTuple):
    """
    What lies in a directory in which nothing was recognised.

    Attributes:
        total: How many entries.
        examples: A few of their names.
        below: Sub-directories that hold checkpoints themselves.
        itself: If the directory is a checkpoint itself, by which layout, and the one above it.
        stranger: What may be a checkpoint of the user's own, if something does.
        known: The layout by which something is finished, if it is not the one asked for.
    """

    total: int
    examples: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    itself: tuple[str, str] | None = None
    stranger: Stranger | None = None
    known: str | None = None

    @property
    def another_level(self) -> bool:
        """Whether the checkpoints lie elsewhere: in directories below, or in the one above."""
        return bool(self.below) or self.itself is not None


@dataclass(slots=True)
class Look:
    """
    What one look found.

    Attributes:
        began: When it was begun, on the look's clock.
        trouble: Why the run could not be looked at, and in whose words; then nothing else is known.
        full: Whether the directory was listed, or is known not to have changed.
        unwatched: Whether what has become finished is watched only if it was among the newest.
        changed: New or changed entries; their order means nothing.
        gone: Entries that are no longer there.
        vanished: Checkpoints that an event told of and that are not there any more, with steps.
        pointed: The checkpoints that the pointers name, the latest first, by layout: where several
            share a pointer, what is not there is the name that another one would give it.
        recognised: Each layout that `auto` has recognised in something finished, and by what.
        settling: Entries that wait for files to settle, and the seconds after which they may have.
        again: Set if the way to the run has changed meanwhile, so that another look is due.
        explains: Whether it was asked what lies there that nobody recognises.
        watcher: "inotify" or "poll", and why.
        out_of: What the kernel has run out of, if that is why.
        claim: What the cursor remembers of the run, if it has just become ours.
        remembered: What the cursor remembers of finished entries that are new or have changed.
    """

    began: float = -math.inf
    trouble: Trouble | None = None
    detail: str = ""
    full: bool = False
    unwatched: bool = False
    changed: dict[str, Entry] = field(default_factory=dict[str, Entry])
    gone: tuple[str, ...] = ()
    vanished: tuple[tuple[str, int | None], ...] = ()
    pointed: tuple[tuple[str, ...], ...] = ()
    recognised: tuple[tuple[str, str], ...] = ()
    settling: dict[str, float] = field(default_factory=dict[str, float])
    explains: bool = False
    again: bool = False
    ground: Ground | None = None
    foreign: Foreign | None = None
    watcher: str = "poll"
    reason: str = ""
    out_of: str | None = None
    claim: Claim | None = None
    remembered: dict[str, Memory] = field(default_factory=dict[str, Memory])

    def says_nothing_after(self, before: Look) -> bool:
        """Whether nothing has changed since the look before."""
        found = self.changed or self.gone or self.vanished or self.settling
        strange = self.trouble or self.foreign or self.again or self.out_of or self.claim
        then = before.trouble or before.foreign or before.settling
        same = self.pointed == before.pointed and self.watcher == before.watcher
        return same and not (found or strange or then)

    @property
    def found_no_directory(self) -> bool:
        """Whether there was none."""
        return self.trouble in {Trouble.MISSING, Trouble.NOT_A_DIRECTORY}

    @property
    def found_a_file(self) -> bool:
        """Whether a file was where the directory belongs."""
        return self.trouble is Trouble.NOT_A_DIRECTORY

    def forget(self) -> None:
        """Drop what has been entered elsewhere: the last look is kept for long."""
        self.changed, self.remembered, self.claim = {}, {}, None

    def remember(self, before: Look) -> None:
        """What was explained before holds on, if it was not asked again."""
        self.recognised = before.recognised + self.recognised
        listed = self.explains and not (self.ground is not None and self.ground.trusted)
        if self.trouble is None and not listed and not self.changed and self.foreign is None:
            self.foreign = before.foreign


class Request(NamedTuple):
    """
    What a look needs to know; nothing in it changes while the look goes on.

    Attributes:
        pointers: The layouts, of those that *layout* stands for, that have a pointer file.
        pointed: What the pointers named in the last look.
        entries: What earlier looks found, and which of it was unfinished.
        newest: The finished entries that are watched for being written again.
        hints: Names in which something happened since, in order; True: created or moved in; None:
            nothing happened, it only has to be watched.
        full: List the directory; otherwise only the hints are followed.
        whole: List all of it, whatever a pointer or the order of names says of what is new.
        thorough: Look into every entry again, also into those that were finished.
        subscription: To watch with; None to poll, and why.
        trust_any: Watch also where events are not known to be complete.
        clock: What the look measures time with, in its own thread.
        cursor: What remembers across restarts.
        claimed: The run's number in the cursor; None: have it first.
        recognised: The layouts that `auto` has recognised already.
    """

    location: Location
    layout: Layout
    pointers: tuple[PointerLayout, ...]
    pointed: tuple[tuple[str, ...], ...]
    entries: Mapping[str, Entry]
    unfinished: Collection[str]
    newest: Collection[str]
    hints: Mapping[str, bool | None]
    full: bool
    whole: bool
    thorough: bool
    ground: Ground | None
    subscription: Subscription | None
    why_poll: str
    trust_any: bool
    clock: Callable[[], float]
    cursor: Cursor | None = None
    claimed: int | None = None
    recognised: Collection[str] = ()
