"""
Virtual time, looks that a test holds back, and streams emptied without waiting.
"""

from __future__ import annotations

import asyncio
import math
import os
import selectors
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

from ckptstream import Checkpoint, CheckpointStream, Missed, RunStatus
from ckptstream._stores import Profile, profile
from ckptstream._threads import Job
from ckptstream.testing import ManualWatcher, apply, operations, save

T = TypeVar("T")

virtual = pytest.mark.parametrize(
    "anyio_backend", ["virtual-asyncio", "virtual-trio"], indirect=True
)
# Where there are so many tests that those on trio are only for `tox -e thorough`.
virtual_many = pytest.mark.parametrize(
    "anyio_backend",
    ["virtual-asyncio", pytest.param("virtual-trio", marks=pytest.mark.thorough)],
    indirect=True,
)


class VirtualLoop(asyncio.SelectorEventLoop):
    """
    An asyncio event loop whose time jumps to the next timer; trio's `MockClock` for asyncio.
    """

    def __init__(self) -> None:
        self._virtual = VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


class VirtualSelector(selectors.DefaultSelector):
    """
    Waits for nothing but time, and for that not really.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("nothing will ever happen")
        if not ready and timeout is not None:
            self.now += timeout
        return ready


class HeldWatcher(ManualWatcher):
    """
    Looks see the disk when they are asked for and answer when the test says, like slow storage.

    Attributes:
        holds: Whether looks are held back from now on.
        hangs: Whether those that are count as hung at once.
    """

    def __init__(self, *, events: bool = True) -> None:
        super().__init__(events=events)
        self.holds = True
        self.hangs = False
        self._held: list[Callable[[], None]] = []

    def submit(self, job: Job[T], done: Callable[[], None], *, first: bool = False) -> None:
        if first or not self.holds:
            super().submit(job, done, first=first)
            return
        self.looks += 1
        job.run()
        job.done = False
        if self.hangs:
            job.alive_at = -math.inf

        def answer() -> None:
            job.done = True
            done()

        self._held.append(answer)

    @property
    def held(self) -> int:
        """
        How many looks have not answered.
        """
        return len(self._held)

    def answer(self) -> None:
        """
        Let the looks that are held back answer.
        """
        held, self._held = self._held, []
        for answer in held:
            answer()


async def drained(stream: CheckpointStream, watcher: ManualWatcher) -> list[Checkpoint]:
    """
    All that comes until the stream ends, or waits for something to happen or for time to pass.
    """
    found = list[Checkpoint]()

    async def take() -> None:
        async for checkpoint in stream:
            found.append(checkpoint)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(take)
        await watcher.waiting()
        group.cancel_scope.cancel()
    return found


async def steps(stream: CheckpointStream, watcher: ManualWatcher) -> list[int | None]:
    """
    The steps of what `drained` returns.
    """
    return [checkpoint.step for checkpoint in await drained(stream, watcher)]


async def rest(stream: AsyncIterator[Checkpoint]) -> list[int | None]:
    """
    The steps of all that comes until the stream ends.
    """
    return [checkpoint.step async for checkpoint in stream]


async def save_at(moments: Mapping[int, int], run: Path, watcher: ManualWatcher) -> None:
    """
    Save steps so many seconds from now, and tell of it.
    """
    begin = anyio.current_time()
    for moment, step in moments.items():
        await anyio.sleep_until(begin + moment)
        save(run, step)
        watcher.touch()


def half_save(run: Path, step: int, layout: str = "hf") -> None:
    """
    Save a checkpoint all but its last operation, as a crash would leave it.
    """
    waiting = None
    for operation in operations(step, layout):
        if waiting is not None:
            apply(waiting, run)
        if operation.finishes is not None:
            return
        waiting = operation


@contextmanager
def failing(call: str, number: int, part: str = "") -> Iterator[None]:
    """
    Has a function of `os` fail with that error, for each path that holds *part*.
    """
    real = getattr(os, call)

    def faulty(path: str, *more: object, **how: object) -> object:
        if part in os.fspath(path):
            raise OSError(number, os.strerror(number), path)
        return real(path, *more, **how)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, call, faulty)
        yield


def run_status(stream: CheckpointStream) -> RunStatus:
    """
    What the stream knows of its one run.
    """
    (status,) = stream.status().runs
    return status


def missed(stream: CheckpointStream) -> list[tuple[int | None, bool]]:
    """
    Steps that were missed, and whether they had been seen finished.
    """
    status = run_status(stream)
    assert status.missed_count == len(status.missed)
    return [(item.step, item.finished) for item in status.missed if isinstance(item, Missed)]


def lies_on(monkeypatch: pytest.MonkeyPatch, **known: Any) -> None:
    """
    Have cursors lie on another filesystem.
    """

    def other(directory: str) -> Profile:
        return replace(profile(directory), **known)

    monkeypatch.setattr("ckptstream._stream._writing.profile", other)
