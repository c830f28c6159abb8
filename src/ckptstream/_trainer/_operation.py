"""What frameworks do to the disk, one operation at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Operation:
    """
    One thing that a framework does to the disk while it saves.

    Attributes:
        action: `"write"` creates or empties the file first; `"remove"` and `"rmtree"` forgive what
            is not there.
        path: Relative to the run's directory.
        content: What is written or appended.
        target: What *path* is renamed to, relative to the run's directory; of a symbolic link what
            stands in it.
        finishes: The name of the checkpoint that is finished from here on, or None.
    """

    action: Literal["mkdir", "write", "append", "rename", "symlink", "remove", "rmtree"]
    path: str
    content: bytes = b""
    target: str = ""
    finishes: str | None = None


@dataclass(frozen=True, slots=True)
class Save:
    """
    What an order is given.

    Attributes:
        step: The checkpoint's number.
        earlier: The steps that are there, the oldest first, without this one.
        dropped: Those of them that are deleted.
        again: Whether this one is there, too.
        shards: In how many files the weights are.
        shard_bytes: The size of each of them.
    """

    step: int
    earlier: tuple[int, ...]
    dropped: tuple[int, ...]
    again: bool
    shards: int
    shard_bytes: int

    @property
    def kept(self) -> tuple[int, ...]:
        """The steps that are there when it is done, this one the last."""
        kept = (step for step in self.earlier if step not in self.dropped)
        return (*kept, self.step)


def grow(path: str, content: bytes, finishes: str | None = None) -> Iterator[Operation]:
    """Write a file of which somebody may see the half."""
    half = len(content) // 2
    yield Operation("write", path, content[:half])
    yield Operation("append", path, content[half:], finishes=finishes)


def point(path: str, text: str, finishes: str | None = None) -> Iterator[Operation]:
    """Write a pointer in place: empty for a moment. So few bytes are seen together."""
    yield Operation("write", path)
    yield Operation("append", path, text.encode(), finishes=finishes)


def link(path: str, target: str) -> Iterator[Operation]:
    """Move a symbolic link as most do: for a moment there is none."""
    yield Operation("remove", path)
    yield Operation("symlink", path, target=target)


def erase(name: str, *first: str) -> Iterator[Operation]:
    """
    Delete a directory under its own name.

    Args:
        name: Its name.
        first: The files that go before the others, each in an operation of its own.
    """
    yield from (Operation("remove", f"{name}/{file}") for file in first)
    yield Operation("rmtree", name)
