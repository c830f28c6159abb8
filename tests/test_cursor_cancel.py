"""
Cancelled at each moment at which it can be, a stream with a cursor loses nothing and keeps nothing.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from observing import (
    NATIVE_LOOPS,
    SECONDS,
    inotify_descriptors,
    linux,
    mark_done,
    open_cursors,
    until,
)
from steering import rest
from sweeping import LAYOUT

import ckptstream
from ckptstream import Checkpoint, CheckpointStream
from ckptstream._cursor import Record
from ckptstream._cursor._file import CursorFile
from ckptstream._stream import _journal
from ckptstream._threads import current_pool

pytestmark = [pytest.mark.anyio, linux]

ALL = (1, 2, 3, 4)
SLOW = 0.0005  # seconds that a write takes: a cancellation comes before it ends
OPENING = 0.004  # seconds that it takes to have a run

Cancel = Callable[[], object]


class Interrupted:
    """
    Awaits something, and cancels at one moment of all at which it waits, or just lets others run.

    Args:
        number: Which one; counted over all that is awaited through it.
        more: How many of those that follow are cancelled too.
        begun: Whether threads have begun by then what they are to do.
    """

    def __init__(self, number: int, more: int = 0, *, begun: bool = True) -> None:
        self._begun = begun
        self.moments = range(number, number + more + 1)
        self.count = 0
        self.cancel: Cancel = bool

    @property
    def was_reached(self) -> bool:
        return self.count > self.moments.start

    async def wait(self, awaitable: Awaitable[Any]) -> Any:
        return await _Waiting(awaitable, self)

    def pass_one(self) -> None:
        if self.count in self.moments:
            if self._begun and self.count == self.moments.start:
                time.sleep(SLOW if self.count else OPENING / 2)
            self.cancel()
        self.count += 1


class _Waiting(Awaitable[Any]):
    def __init__(self, awaitable: Awaitable[Any], interrupted: Interrupted) -> None:
        self._awaitable = awaitable
        self._interrupted = interrupted

    def __await__(self) -> Generator[Any, Any, Any]:
        inner: Any = self._awaitable.__await__()
        step = partial(inner.send, None)
        while True:
            try:
                asked = step()
            except StopIteration as stop:
                return stop.value
            self._interrupted.pass_one()
            try:
                step = partial(inner.send, (yield asked))
            except BaseException as error:
                step = partial(inner.throw, error)


class Tale:
    """
    What a program got from a stream, and what it said of that.

    Attributes:
        finished: What will never come again.
        in_doubt: What it was about to finish when it was cancelled.
    """

    def __init__(self, interrupted: Interrupted) -> None:
        self.interrupted = interrupted
        self.finished: list[int | None] = []
        self.in_doubt: list[int | None] = []
        self.out: list[Checkpoint] = []

    async def next(self, stream: CheckpointStream) -> Checkpoint:
        """
        What was out is done when the next one has come.
        """
        self.in_doubt = [checkpoint.step for checkpoint in self.out]
        checkpoint = await anext(stream)
        self.left()
        self.out = [checkpoint]
        return checkpoint

    def left(self) -> None:
        self.finished += self.in_doubt
        self.in_doubt = []

    async def say(self, call: Coroutine[Any, Any, None], checkpoint: Checkpoint) -> None:
        self.in_doubt.append(checkpoint.step)
        await call
        self.in_doubt.remove(checkpoint.step)
        self.finished.append(checkpoint.step)


# What programs do.


async def asks_for_the_next(stream: CheckpointStream, tale: Tale) -> None:
    async with stream:
        while (await tale.next(stream)).step != ALL[-1]:
            await anyio.sleep(0)  # at work on it
        tale.in_doubt = [checkpoint.step for checkpoint in tale.out]
    tale.left()


async def says_what_is_done(stream: CheckpointStream, tale: Tale) -> None:
    async with stream:
        first, second = await anext(stream), await anext(stream)
        await tale.say(stream.done(second), second)
        await tale.say(stream.failed(first, "it is bad"), first)
        third = await anext(stream)
        await tale.say(stream.done(third), third)


async def says_so_and_asks_at_once(stream: CheckpointStream, tale: Tale) -> None:
    async with stream:
        first, second = await anext(stream), await anext(stream)
        async with anyio.create_task_group() as group:
            group.start_soon(tale.interrupted.wait, tale.say(stream.done(first), first))
            group.start_soon(tale.interrupted.wait, tale.say(stream.failed(second, ""), second))
            await anext(stream)


async def for_each(stream: CheckpointStream, tale: Tale) -> None:
    async def evaluate(checkpoint: Checkpoint) -> None:
        await tale.interrupted.wait(anyio.sleep(0))
        tale.in_doubt.append(checkpoint.step)
        if checkpoint.step == 3:
            raise ValueError("it is bad")

    async with stream:
        await stream.for_each(evaluate, jobs=2)
    tale.left()


Program = Callable[[CheckpointStream, Tale], Coroutine[Any, Any, None]]
PROGRAMS = pytest.mark.parametrize(
    ("program", "done"),
    [
        (asks_for_the_next, "next"),
        (says_what_is_done, "explicit"),
        (says_so_and_asks_at_once, "explicit"),
        (for_each, "next"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)


@pytest.fixture
def blank(run: Path, tmp_path: Path) -> Path:
    """
    A cursor that knows nothing, as it is made at the first use.
    """
    path = tmp_path / "blank.db"
    CursorFile(str(path), wal=True).close()
    for step in ALL:
        mark_done(run, step)
    return path


@pytest.fixture(autouse=True)
def slow_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It answers after a while; and if the real one takes longer than a second, that is no hanging.
    """
    monkeypatch.setattr(_journal, "HUNG_AFTER", SECONDS)
    write = CursorFile.write

    def slow(
        self: CursorFile, records: Iterable[tuple[int, Record]], baselines: Iterable[int]
    ) -> None:
        time.sleep(SLOW)
        write(self, records, baselines)
        time.sleep(SLOW)

    claim = CursorFile.claim

    def slow_claim(self: CursorFile, run: str) -> int:
        result = claim(self, run)
        time.sleep(OPENING)
        return result

    monkeypatch.setattr(CursorFile, "write", slow)
    monkeypatch.setattr(CursorFile, "claim", slow_claim)


def follow(run: Path, cursor: Path, done: str = "next") -> CheckpointStream:
    return ckptstream.follow(run, cursor=cursor, layout=LAYOUT, timeout=0, done=done)  # type: ignore[arg-type]


async def check(run: Path, cursor: Path, tale: Tale) -> None:
    """
    Another stream is opened at once; it gets all that is not done, and nothing is left behind.
    """
    async with follow(run, cursor) as again:
        came = await rest(again)
    assert set(ALL) - set(tale.finished) - set(tale.in_doubt) <= set(came), tale.interrupted.moments
    assert set() == set(came) & set(tale.finished), tale.interrupted.moments
    assert len(came) == len(set(came))
    async with follow(run, cursor) as again:
        assert [] == await rest(again)
    await until(lambda: not left_open(cursor))


def left_open(cursor: Path) -> list[object]:
    """
    What is open: descriptors of the file, of those beside it, and inotify's; or a thread at work.
    """
    gc.collect()  # Tracebacks, of Cancelled and the like.
    found = list[object](inotify_descriptors())
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            path = os.readlink(f"/proc/self/fd/{name}")
            found += [path] if path.startswith(str(cursor)) else []
    return [*found, *open_cursors(), *current_pool()._workers.running]


@PROGRAMS
@pytest.mark.parametrize("begun", [False, True])
async def test_its_scope_is_cancelled(
    run: Path, blank: Path, program: Program, done: str, begun: bool
) -> None:
    """
    As by `move_on_after`, or by a task that fails beside it.
    """

    async def cancelled(interrupted: Interrupted, call: Coroutine[Any, Any, None]) -> None:
        with anyio.CancelScope() as scope:
            interrupted.cancel = scope.cancel
            await interrupted.wait(call)

    await everywhere(run, blank, partial(follow, done=done), program, cancelled, begun=begun)


@NATIVE_LOOPS
@PROGRAMS
@pytest.mark.parametrize("more", [0, 100])
async def test_its_task_is_cancelled(
    run: Path, blank: Path, program: Program, done: str, more: int
) -> None:
    """
    As asyncio does it: once, and whoever catches it goes on; or again and again.
    """

    async def cancelled(interrupted: Interrupted, call: Coroutine[Any, Any, None]) -> None:
        async def body() -> None:
            await interrupted.wait(call)

        task = asyncio.create_task(body())
        interrupted.cancel = task.cancel
        await asyncio.wait([task])
        interrupted.cancel = bool  # The task's traceback keeps all alive.
        if not task.cancelled():
            task.result()

    await everywhere(run, blank, partial(follow, done=done), program, cancelled, more)


async def everywhere(
    run: Path,
    blank: Path,
    follow: Callable[[Path, Path], CheckpointStream],
    program: Program,
    cancelled: Callable[[Interrupted, Coroutine[Any, Any, None]], Awaitable[None]],
    more: int = 0,
    begun: bool = True,
) -> None:
    """
    Cancel the program at the first moment, at the second one, and so on, until it runs through.
    """
    interrupted = Interrupted(-1, more)
    while interrupted.moments.start < 0 or interrupted.was_reached:
        interrupted = Interrupted(interrupted.moments.start + 1, more, begun=begun)
        cursor = blank.with_name(f"{interrupted.moments.start}.db")
        shutil.copy(blank, cursor)
        tale, stream = Tale(interrupted), follow(run, cursor)
        await cancelled(interrupted, program(stream, tale))
        await check(run, cursor, tale)
    assert interrupted.count > 8
