"""What a store is: all that a look may ask of where a run lies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from .._model import FileStat


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
        linked_locks: Whether a lock on a file is one on all of its hard links, and not on a path,
            as with FUSE.
        paid: Whether each question is a request that is paid for.
    """

    filesystem: str
    events: bool
    rename: bool
    inodes: bool
    settle: float
    linked_locks: bool = False
    paid: bool = False


class Finding(NamedTuple):
    """
    What a person is told of a storage who asks what is wrong.

    Attributes:
        what: What it is about, in a word.
        words: What there is to say of it.
        wrong: Whether something is to be done.
    """

    what: str
    words: str
    wrong: bool = False


class Store(Protocol):
    """
    What lies at one run's location, as one look asks for it, in a thread.

    Paths are relative to it, with `/` between their parts. What is not there is None or empty;
    other faults of the storage are raised as `OSError`, whose text holds no secret.
    """

    def names(self) -> list[str]:
        """The names at the location itself, in any order. Raises `OSError` if it is not there."""
        ...

    def names_after(self, name: str) -> Sequence[str] | None:
        """
        The names that come after one in the order of their bytes, of which those that begin with
        it may be missing; None if listing all of them is cheaper.
        """
        ...

    def expect(self, names: Collection[str]) -> None:
        """Get what can be had cheaply at once of names that will be looked into."""
        ...

    def has(self, name: str) -> bool:
        """Whether there is something of that name, be it a link that leads nowhere."""
        ...

    def list(self, path: str) -> tuple[str, ...]:
        """The names in a directory, in order."""
        ...

    def stat(self, path: str, *, again: bool = False) -> FileStat | None:
        """
        Size and times of what the path leads to.

        Args:
            path: A file or a directory.
            again: It was asked about before, maybe in an earlier look: has it changed since? What
                an answer of this look spoke of later than that may be told from memory.
        """
        ...

    def extent(self, path: str) -> tuple[int, int]:
        """
        How many bytes lie at or below a path, and when anything there changed last.

        What vanishes meanwhile does not count, and no link is followed. Where each question is
        paid for, get the `names` first, and `expect` those that will be asked about.

        Returns:
            A number of bytes; and a time in nanoseconds, by the store's own clock, 0 if there is
            nothing.
        """
        ...

    def read(self, path: str, start: int, size: int) -> bytes | None:
        """Up to *size* bytes of a file; a negative *start* counts from its end."""
        ...

    def pointer(self, path: str, size: int) -> bytes | None:
        """A symbolic link's target, or the first bytes of a file."""
        ...


class Location(Protocol):
    """
    Where a run lies. Only what is made to be called in a thread touches the storage.

    Attributes:
        path: As the user wrote it, without what must not be seen.
        why_poll: Why no events are to be had there; empty where they may be.
        poll_interval: Seconds between two looks, if the user does not say.
        check: What a person should check if it cannot be read, and if it does not answer.
        requests: How many were made, where each is paid for; else None.
    """

    @property
    def path(self) -> str: ...
    @property
    def why_poll(self) -> str: ...
    @property
    def poll_interval(self) -> float: ...
    @property
    def check(self) -> tuple[str, str]: ...
    @property
    def requests(self) -> int | None: ...

    def absolute(self) -> str:
        """The same for whoever is elsewhere. Raises `OSError` if the working directory is gone."""
        ...

    def absent(self) -> str:
        """What to check where there is nothing, in a thread. Raises `OSError` as `absolute`."""
        ...

    def above(self) -> tuple[Location, str] | None:
        """
        The one above it, and its name there; None if there is none.

        Raises `OSError` if the working directory is gone.
        """
        ...

    def at(self, path: str) -> Location:
        """Another place in the same store, whose path is written like this one's."""
        ...

    def lane(self) -> str:
        """What a look depends on: those on the same lane hang together."""
        ...

    def stand(self) -> tuple[tuple[int, int], int]:
        """
        What it leads to now, in a thread.

        Returns:
            Which directory it is, for another one may have taken its place; and the directory's
            own time, where it has one.

        Raises:
            OSError: It is not there, or is no directory.
        """
        ...

    def profile(self) -> Profile:
        """What can be trusted there, in a thread."""
        ...

    def open(self, profile: Profile, alive: Callable[[], None]) -> Store:
        """
        What one look asks.

        Args:
            profile: What can be trusted there.
            alive: Called at each answer, as a sign of life of the storage.
        """
        ...

    def described(self) -> Finding:
        """What kind of storage it is, without asking it. Raises `OSError` as `absolute`."""
        ...

    def examine(self) -> list[Finding]:
        """
        The same, and whether it can be reached and is there, in a thread. Nothing is written.

        Raises:
            UnknownOption: Its URL has one.
        """
        ...

    def fault(self, error: OSError) -> OSError:
        """Why nothing there can be reached, in a thread; *error* if it was one of its files."""
        ...
