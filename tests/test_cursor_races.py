"""
What a strict reader of the cursor's code found: moments at which something was lost, or kept.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from observing import NATIVE_LOOPS, mark_done, open_cursors, until
from steering import rest
from sweeping import LAYOUT

import ckptstream
from ckptstream import Checkpoint, CheckpointStream
from ckptstream._cursor import Claim, Cursor, _file

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _no_cursor_stays_open() -> Iterator[None]:
    """
    Fails a test that leaves a cursor file open.
    """
    yield
    assert [] == open_cursors()


@pytest.fixture
def cursor(tmp_path: Path) -> Path:
    """
    Where the cursor file will be.
    """
    return tmp_path / "evals.db"


def follow(*runs: Path, cursor: Path, **options: Any) -> CheckpointStream:
    """
    A stream that ends after one complete look.
    """
    return ckptstream.follow(*runs, cursor=cursor, **{"layout": LAYOUT, "timeout": 0, **options})


async def all_of(run: Path, cursor: Path) -> list[int | None]:
    """
    What a restart delivers; all of it is done then.
    """
    async with follow(run, cursor=cursor) as stream:
        return await rest(stream)


# The cursor.


async def test_a_look_that_outlives_its_stream_takes_no_run(
    tmp_path: Path, cursor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Nobody would give it back while another stream has the same file open.
    """
    asked, hold, real = threading.Event(), threading.Event(), Cursor.claim

    def claim(self: Cursor, directory: str, **options: Any) -> Claim:
        if directory.endswith("late") and not asked.is_set():
            asked.set()
            hold.wait()
        return real(self, directory, **options)

    monkeypatch.setattr(Cursor, "claim", claim)
    (tmp_path / "s").mkdir()
    mark_done(tmp_path / "other", 1)
    try:
        async with follow(tmp_path / "other", cursor=cursor) as other:
            assert 1 == (await anext(other)).step
            async with follow(tmp_path / "s" / "*", cursor=cursor, timeout=None) as stream:
                mark_done(tmp_path / "s" / "late", 7)
                async with anyio.create_task_group() as group:
                    group.start_soon(anext, stream)
                    await until(asked.is_set)
                    group.cancel_scope.cancel()
                flight = stream.engine._following.roster.runs[str(tmp_path / "s/late")].flight
                job = flight.job
            assert job is not None
            hold.set()
            await until(lambda: job.done)

            assert [7] == await all_of(tmp_path / "s" / "late", cursor)
    finally:
        hold.set()


async def test_a_block_is_entered_by_one_task(run: Path, cursor: Path) -> None:
    """
    The cursor that the first one opens is not lost.
    """
    mark_done(run, 1)
    refused = list[str]()
    stream = follow(run, cursor=cursor)

    async def enter() -> None:
        try:
            await stream.__aenter__()
        except RuntimeError as error:
            refused.append(str(error))

    async with anyio.create_task_group() as group:
        group.start_soon(enter)
        group.start_soon(enter)
    assert ["a stream's block can be entered once"] == refused
    assert [1] == await rest(stream)
    await stream.__aexit__(None, None, None)

    assert [] == await all_of(run, cursor)


async def test_a_write_goes_on_when_the_stream_leaves_its_loop(
    run: Path, cursor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    As the blocking twin does after each call, while another thread says what is done.
    """
    mark_done(run, 1)
    mark_done(run, 2)
    hold, begun, real = threading.Event(), threading.Event(), _file._row

    def row(*arguments: Any) -> tuple[object, ...]:
        begun.set()
        hold.wait()
        return real(*arguments)

    stream = follow(run, cursor=cursor, done="explicit")
    try:
        async with stream, anyio.create_task_group() as group:
            first, second = [item async for item in stream]
            monkeypatch.setattr(_file, "_row", row)
            group.start_soon(stream.done, first)
            await until(begun.is_set)
            group.start_soon(stream.done, second)  # It is written after the first one.
            await anyio.wait_all_tasks_blocked()
            stream.engine.release()
            hold.set()
    finally:
        hold.set()

    assert [] == await all_of(run, cursor)


# for_each.


async def test_what_an_evaluation_has_said_itself_counts(run: Path, cursor: Path) -> None:
    """
    Also if it fails after that, or is cancelled: that is no other error.
    """
    for step in (1, 2, 3, 4):
        mark_done(run, step)

    async def evaluate(checkpoint: Checkpoint) -> None:
        if checkpoint.step == 4:
            await stream.failed(checkpoint, "it is bad")
            return
        await stream.done(checkpoint)
        if checkpoint.step == 2:
            raise ZeroDivisionError
        if checkpoint.step == 3:
            scope.cancel()
            await anyio.sleep_forever()

    async with follow(run, cursor=cursor, retries=1) as stream:
        with anyio.CancelScope() as scope:
            await stream.for_each(evaluate)
        assert scope.cancelled_caught
        await stream.for_each(evaluate)

    assert [4] == await all_of(run, cursor)


@pytest.mark.filterwarnings("ignore:coroutine '_Call._one' was never awaited")
@NATIVE_LOOPS
async def test_an_evaluation_that_never_began_is_not_done(run: Path, cursor: Path) -> None:
    """
    All tasks were cancelled at once, as at the end of a program, but the user's goes on.
    """
    mark_done(run, 1)
    mark_done(run, 2)
    evaluated = list[int | None]()

    async def evaluate(checkpoint: Checkpoint) -> None:
        evaluated.append(checkpoint.step)

    async def use() -> None:
        async with follow(run, cursor=cursor) as stream:
            real = stream.engine.next_or_expired

            async def next_or_expired() -> Checkpoint | None:
                checkpoint = await real()
                loop = asyncio.get_running_loop()
                loop.call_soon(lambda: [t.cancel() for t in asyncio.all_tasks() - others])
                return checkpoint

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(type(stream.engine), "next_or_expired", lambda _: next_or_expired())
                with suppress(asyncio.CancelledError):
                    await stream.for_each(evaluate)
            assert [] == evaluated
            assert [1, 2] == await rest(stream)

    others = asyncio.all_tasks()
    await asyncio.create_task(use())
    gc.collect()  # What never began warns now, and not in another test.


@NATIVE_LOOPS
async def test_an_evaluation_that_cancels_itself_is_no_end_of_the_stream(
    run: Path, cursor: Path
) -> None:
    """
    As where it awaits a task that somebody has cancelled: whoever waits hears of it.
    """
    mark_done(run, 1)

    async def evaluate(checkpoint: Checkpoint) -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        await task

    async with follow(run, cursor=cursor) as stream:
        with pytest.raises(asyncio.CancelledError):
            await stream.for_each(evaluate)
        assert [1] == await rest(stream)
