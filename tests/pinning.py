"""
Checkpoints to pin, and what is left of pins on the disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from observing import until

import ckptstream.sync
from ckptstream import Checkpoint
from ckptstream._pins._hold import DIRECTORY
from ckptstream.testing import save

T = TypeVar("T")

Contents = dict[str, bytes]


def checkpoint_in(run: Path, layout: str = "hf", step: int = 1, shards: int = 1) -> Checkpoint:
    """
    A finished checkpoint, as a stream delivers it.
    """
    save(run, step, layout, shards=shards)
    found = ckptstream.sync.follow(run, layout=layout, timeout=0)
    return next(checkpoint for checkpoint in found if checkpoint.step == step)


def files_of(checkpoint: Checkpoint) -> list[str]:
    """
    All of its files, in order: below its directory, or those with its prefix.
    """
    if os.path.isdir(checkpoint.path):
        walk = os.walk(checkpoint.path)
        return sorted(os.path.join(where, name) for where, _, names in walk for name in names)
    names = os.listdir(checkpoint.run)
    paths = [os.path.join(checkpoint.run, name) for name in names]
    return sorted(path for path in paths if path.startswith(checkpoint.path))


def contents(checkpoint: Checkpoint) -> Contents:
    """
    What is in each file, by what follows the run's directory in its path.
    """
    paths = files_of(checkpoint)
    return {os.path.relpath(path, checkpoint.run): Path(path).read_bytes() for path in paths}


def delete(checkpoint: Checkpoint) -> None:
    """
    What a trainer does to it in the end.
    """
    if os.path.isdir(checkpoint.path):
        shutil.rmtree(checkpoint.path)
    else:
        for path in files_of(checkpoint):
            os.unlink(path)


def left(run: Path) -> list[str]:
    """
    What lies in the directory of the pins, if it is there.
    """
    root = run.resolve().parent / DIRECTORY
    return sorted(os.listdir(root)) if root.exists() else []


async def no_pins_left(run: Path) -> None:
    """
    Wait until the threads have removed all; fails if they do not.
    """
    await until(lambda: not (run.resolve().parent / DIRECTORY).exists())


@contextmanager
def at_link(number: int, call: Callable[[], object]) -> Iterator[list[str]]:
    """
    Calls something right before the n-th call of `os.link`, counted from 1; gives what was linked.
    """
    link, sources = os.link, list[str]()

    def counted(source: str, target: str) -> None:
        sources.append(source)
        if len(sources) == number:
            call()
        link(source, target)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "link", counted)
        yield sources


class Suspended(Awaitable[T]):
    """
    Awaits something, and calls *call* right before its n-th suspension, counted from 1.

    Attributes:
        reached: Whether it was suspended so often.
    """

    def __init__(self, awaitable: Awaitable[T], number: int, call: Callable[[], object]) -> None:
        self._awaitable = awaitable
        self._number = number
        self._call = call
        self.reached = False

    def __await__(self) -> Generator[Any, Any, T]:
        iterator, count = self._awaitable.__await__(), 0
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                asked = iterator.send(answer) if error is None else iterator.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            count += 1
            if count == self._number:
                self.reached = True
                self._call()
            answer, error = None, None
            try:
                answer = yield asked
            except BaseException as thrown:
                error = thrown


@contextmanager
def no_links(error: int) -> Iterator[None]:
    """
    Has every call of `os.link` fail.
    """

    def fail(source: str, target: str) -> None:
        raise OSError(error, os.strerror(error), source, None, target)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "link", fail)
        yield
