"""What a layout is, and what it may ask about a checkpoint."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from .._model import FileStat

Match: TypeAlias = "tuple[str, int | None]"


class Evidence(Protocol):
    """
    What a layout may ask about one checkpoint.

    Every path is relative to the run's directory, with `/` between its parts. What a layout asks
    for is where its evidence lies: the stream watches those places until the checkpoint is
    finished. All of it is a snapshot of one look; a file read twice is read once. Other errors
    than "not there" (`PermissionError`, `OSError`) are not for a layout: they pass through it.
    """

    @property
    def members(self) -> Collection[str]:
        """The names in the run's directory that `Layout.match` gave for this checkpoint."""
        ...

    @property
    def rename_is_atomic(self) -> bool:
        """Whether a directory can appear here whole, by a rename (not on FUSE, not in buckets)."""
        ...

    @property
    def named(self) -> bool:
        """Whether the pointer names this checkpoint, or once named the generation here now."""
        ...

    @property
    def before(self) -> str | None:
        """The generation under which an earlier look found this same entry finished, or None."""
        ...

    @property
    def seen_unfinished(self) -> bool:
        """Whether an earlier look found this same entry there, but not finished."""
        ...

    def list(self, directory: str) -> Collection[str]:
        """The names in a directory; none if it is not there. `""` is the run's directory."""
        ...

    def stat(self, path: str) -> FileStat | None:
        """Size and times, symbolic links followed; None if it is not there."""
        ...

    def head(self, path: str, size: int) -> bytes | None:
        """Up to the first *size* bytes; None if there is no such file."""
        ...

    def tail(self, path: str, size: int) -> bytes | None:
        """Up to the last *size* bytes; None if there is no such file."""
        ...

    def fingerprint(self, path: str) -> str | None:
        """Inode, time and size of a file as one word, for `Layout.generation`; None without it."""
        ...

    def settled(self, *paths: str) -> bool:
        """
        Whether these files, and all files below these directories, have stopped changing.

        True only when an earlier look, at least one settle interval ago, saw the same names,
        sizes, times and inodes. Asking starts the comparison and makes the stream look again.
        """
        ...


class Layout(Protocol):
    """
    What a finished checkpoint looks like to one framework.

    A frozen value without I/O: all it knows it asks of `Evidence`. Nothing needs to be imported
    or inherited to write one.
    """

    @property
    def name(self) -> str:
        """What `Checkpoint.layout` says."""
        ...

    def match(self, name: str) -> tuple[str, int | None] | None:
        """
        The checkpoint that a name in the run's directory belongs to.

        Returns:
            The checkpoint's name and its step (None without an integral one), or None if the name
            is no part of a checkpoint. Several names may belong to one checkpoint.
        """
        ...

    def missing(self, name: str, evidence: Evidence) -> str | None:
        """What the checkpoint called *name* lacks, in words for `status()`; None if finished."""
        ...

    def generation(self, name: str, evidence: Evidence) -> int | str | None:
        """
        What tells a rewritten checkpoint from the first one.

        Returns:
            A commit stamp (an int: nanoseconds written into the checkpoint by the framework, which
            also orders commits), else the `Evidence.fingerprint` of a file of the checkpoint's
            own that nobody touches once it is finished. None if that file is not there.
        """
        ...


@runtime_checkable
class PointerLayout(Layout, Protocol):
    """A layout whose framework keeps a pointer file, such as TensorFlow's."""

    @property
    def pointer(self) -> str:
        """The pointer's name in the run's directory: a file or a link; empty if there is none."""
        ...

    def pointed(self, content: bytes) -> tuple[str, ...]:
        """
        The checkpoints that the pointer names, the latest first; none if it makes no sense.

        Args:
            content: The file's content, or a symbolic link's target.
        """
        ...


class BuiltInLayout(Layout, Protocol):
    """
    A layout that can also be chosen by `layout="auto"`.

    A name that matches must match with zeros for its digits, too, but for the last two characters:
    what then looks alike is asked for by nobody else. If it has a method
    `owns` like `recognises`, that says whether there is something that no other framework writes,
    which `recognises` then need not; without one, whatever it recognises is its own.
    """

    def recognises(self, name: str, evidence: Evidence) -> bool:
        """Whether the entry holds something that this framework writes there."""
        ...


class Verdict(NamedTuple):
    """What the layouts say of one checkpoint."""

    layout: str
    step: int | None
    missing: str | None
    generation: int | str | None
