"""
Two things at once, with a cursor: rewriting, restarts, the end of the stream, other threads.
"""

from __future__ import annotations

import os
import queue
import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from observing import SECONDS, inotify_descriptors, linux, mark_done, open_cursors, until
from steering import missed, rest, run_status, steps, virtual
from sweeping import LAYOUT

import ckptstream
import ckptstream.sync
from ckptstream import Checkpoint, CheckpointStream, CursorError
from ckptstream._cursor import Cursor, _file
from ckptstream._cursor._file import CursorFile
from ckptstream._cursor._schema import connect
from ckptstream._stores import profile
from ckptstream._stream._writing import Opening
from ckptstream.testing import ManualWatcher

pytestmark = pytest.mark.anyio


@pytest.fixture
def options(tmp_path: Path, watcher: ManualWatcher) -> dict[str, Any]:
    """
    A stream with a cursor, woken by the test alone.
    """
    return {"layout": LAYOUT, "cursor": tmp_path / "evals.db", "watcher": watcher}


async def again(run: Path, options: dict[str, Any], **others: Any) -> list[int | None]:
    """
    What a restart delivers.
    """
    async with ckptstream.follow(run, **{**options, "timeout": 0, **others}) as stream:
        return await rest(stream)


async def test_what_is_being_rewritten_does_not_come_again_half_written(
    run: Path, options: dict[str, Any], watcher: ManualWatcher
) -> None:
    """
    It has failed, or its evaluation was cancelled, while the trainer writes it anew.
    """
    mark_done(run, 1)

    async def waits(checkpoint: Checkpoint) -> None:
        (run / "step_1" / "DONE").unlink()
        watcher.touch()
        with suppress(ckptstream.CursorError):
            await anyio.sleep(0.05)
        scope.cancel()
        await anyio.sleep_forever()

    async with ckptstream.follow(run, retries=1, **options) as stream:
        with anyio.CancelScope() as scope:
            await stream.for_each(waits, jobs=2)
        assert [] == await steps(stream, watcher)
        (run / "step_1" / "DONE").touch()
        watcher.touch()
        assert [1] == await steps(stream, watcher)


async def test_an_aborted_save_is_not_the_end_after_a_restart(
    run: Path, options: dict[str, Any], watcher: ManualWatcher
) -> None:
    """
    As it is none within a stream: `until_step` counts what was seen finished.
    """
    (run / "step_5").mkdir()
    async with ckptstream.follow(run, until_step=5, **options) as stream:
        assert [] == await steps(stream, watcher)
        (run / "step_5").rmdir()
        watcher.touch()
        assert [] == await steps(stream, watcher)
        assert [(5, False)] == missed(stream)
    async with ckptstream.follow(run, until_step=5, **options) as stream:
        assert [] == await steps(stream, watcher)
        mark_done(run, 5)
        watcher.touch()

        assert [5] == await rest(stream)


async def test_a_directory_that_is_rolled_back_to_what_is_done(
    run: Path, options: dict[str, Any], watcher: ManualWatcher
) -> None:
    """
    The generation that waited is gone, and missed; the one that is back is done.
    """
    mark_done(run, 1)
    assert [1] == await again(run, options)
    (run / "step_1").rename(run.with_name("old"))
    mark_done(run, 0)
    mark_done(run, 1)
    async with ckptstream.follow(run, **options) as stream:
        assert 0 == (await anext(stream)).step
        shutil.rmtree(run / "step_1")
        run.with_name("old").rename(run / "step_1")
        watcher.touch()

        assert [] == await steps(stream, watcher)
        assert [(1, True)] == missed(stream)


@pytest.mark.parametrize("end", [None, 5])
async def test_what_is_given_back_comes_before_the_end(
    run: Path, options: dict[str, Any], end: int | None
) -> None:
    """
    In the order in which it was delivered.
    """
    for step in (3, 4, 5):
        mark_done(run, step)
    begun = list[int | None]()

    async def waits(checkpoint: Checkpoint) -> None:
        begun.append(checkpoint.step)
        if len(begun) == 3:
            scope.cancel()
        await anyio.sleep_forever()

    async with ckptstream.follow(run, until_step=end, **{**options, "timeout": 0}) as stream:
        with anyio.CancelScope() as scope:
            await stream.for_each(waits, jobs=3)
        assert [3, 4, 5] == sorted(begun, key=str)

        assert [3, 4, 5] == await rest(stream)


@virtual
@pytest.mark.parametrize("jobs", [1, 2])
async def test_for_each_waits_for_the_last_attempt(
    run: Path, options: dict[str, Any], jobs: int
) -> None:
    """
    The last step has been delivered, but it fails and comes again; also the newest alone.
    """
    mark_done(run, 1)
    mark_done(run, 2)
    for latest_only in (False, True):
        cursor = f"{options['cursor']}-{latest_only}"
        got = list[int | None]()

        async def fails_once(checkpoint: Checkpoint, got: list[int | None] = got) -> None:
            await anyio.sleep(1)
            got.append(checkpoint.step)
            if checkpoint.step == 2 and got.count(2) == 1:
                raise ZeroDivisionError

        others = {**options, "cursor": cursor, "latest_only": latest_only}
        async with ckptstream.follow(run, until_step=2, retries=1, **others) as stream:
            await stream.for_each(fails_once, jobs)

        assert ([2, 2] if latest_only else [1, 2, 2]) == sorted(got, key=str)


@virtual
async def test_an_older_generation_that_fails_leaves_the_newer_one_alone(
    run: Path, options: dict[str, Any], watcher: ManualWatcher
) -> None:
    """
    Both are out; only the newer one can come again.
    """
    mark_done(run, 1)
    async with ckptstream.follow(run, retries=1, done="explicit", **options) as stream:
        older = await anext(stream)
        shutil.rmtree(run / "step_1")
        mark_done(run, 1)
        watcher.touch()
        newer = await anext(stream)
        await stream.failed(newer, "no")
        await stream.failed(older, "no")

        assert newer == await anext(stream)


async def test_a_baseline_that_was_not_complete_is_taken_again(
    run: Path, options: dict[str, Any]
) -> None:
    """
    What was there had yet to settle when the process was killed.
    """
    for step in range(3):
        (run / f"ckpt_{step}.pt").write_bytes(b"weights")
    others = {**options, "layout": "ckpt_{step}.pt", "skip_existing": True}
    with anyio.move_on_after(0.1):
        async with ckptstream.follow(run, **others) as stream:
            await anext(stream)

    async with ckptstream.follow(run, timeout=0, **others) as stream:
        assert [] == await rest(stream)
        assert 3 == run_status(stream).skipped


async def test_what_is_awaited_and_half_deleted_is_missed_once(
    run: Path, options: dict[str, Any], watcher: ManualWatcher
) -> None:
    """
    Rotation had begun with its marker when the program started again.
    """
    mark_done(run, 1)
    with suppress(ZeroDivisionError):
        async with ckptstream.follow(run, **options) as stream:
            await anext(stream)
            raise ZeroDivisionError
    (run / "step_1" / "DONE").unlink()
    async with ckptstream.follow(run, **options) as stream:
        assert [] == await steps(stream, watcher)
        (run / "step_1").rmdir()
        watcher.touch()
        assert [] == await steps(stream, watcher)

        assert [(1, True)] == missed(stream)


@virtual
async def test_newest_only_never_goes_back_after_a_restart(
    run: Path, options: dict[str, Any], watcher: ManualWatcher
) -> None:
    """
    What has failed was passed over when something newer was delivered.
    """
    mark_done(run, 5)
    async with ckptstream.follow(run, latest_only=True, retries=3, **options) as stream:
        await stream.failed(await anext(stream), "no")
        mark_done(run, 6)
        watcher.touch()
        assert [6] == await steps(stream, watcher)

    assert [] == await again(run, options, latest_only=True)


# Errors.


def locked(self: CursorFile, *arguments: object, **options: object) -> Any:
    raise CursorError(self.path, "another program keeps it locked: end that program")


async def test_an_error_of_the_cursor_comes_alone_out_of_for_each(
    run: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Not in a group of exceptions; what was evaluated is done at the next start.
    """
    mark_done(run, 1)

    async def evaluate(checkpoint: Checkpoint) -> None:
        monkeypatch.setattr(CursorFile, "write", locked)

    stream = ckptstream.follow(run, **options)
    with pytest.raises(CursorError, match="keeps it locked"):
        async with stream:
            await stream.for_each(evaluate)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_claim_that_could_not_be_read_is_given_back(
    run: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The next stream has the run.
    """
    mark_done(run, 1)
    mark_done(run.with_name("other"), 1)
    async with ckptstream.follow(run.with_name("other"), **options):  # The file stays open.
        with monkeypatch.context() as patch:
            patch.setattr(CursorFile, "read", locked)
            with pytest.raises(CursorError, match="keeps it locked"):
                await again(run, options)

        assert [1] == await again(run, options)


async def test_one_for_each_at_a_time(run: Path, options: dict[str, Any]) -> None:
    """
    As for everything that waits in a stream.
    """
    mark_done(run, 1)

    async def evaluate(checkpoint: Checkpoint) -> None:
        with pytest.raises(anyio.BusyResourceError, match=r"evaluating each checkpoint.*more jobs"):
            await stream.for_each(print)

    async with ckptstream.follow(run, **{**options, "timeout": 0}) as stream:
        await stream.for_each(evaluate)


async def test_a_write_that_hangs_when_the_block_is_left_closes_the_cursor_later(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The block is left after a second; the run is free as soon as the storage answers.
    """
    mark_done(run, 1)
    hold, real = threading.Event(), _file._row

    def hang(*arguments: Any) -> tuple[object, ...]:
        hold.wait()
        return real(*arguments)

    options: dict[str, Any] = {"layout": LAYOUT, "cursor": tmp_path / "evals.db"}
    stream: CheckpointStream = ckptstream.follow(run, done="explicit", **options)
    try:
        with suppress(ZeroDivisionError):
            async with stream:
                checkpoint = await anext(stream)
                monkeypatch.setattr(_file, "_row", hang)
                with anyio.move_on_after(0.05):
                    await stream.done(checkpoint)
                raise ZeroDivisionError
        assert [str(tmp_path / "evals.db")] == open_cursors()
    finally:
        hold.set()
    while open_cursors():
        await anyio.sleep(0.01)

    assert [] == await again(run, options)


@linux
async def test_a_kept_stream_whose_block_was_left_while_its_cursor_hung_keeps_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    As soon as the storage answers, the event loop's watcher goes too.
    """
    before, hold, real = inotify_descriptors(), threading.Event(), CursorFile.close

    def hang(self: CursorFile) -> None:
        hold.wait(SECONDS)
        real(self)

    mark_done(run, 1)
    stream = ckptstream.follow(run, layout=LAYOUT, cursor=tmp_path / "evals.db", timeout=0)
    try:
        with suppress(ZeroDivisionError):
            async with stream:
                await anext(stream)
                monkeypatch.setattr(CursorFile, "close", hang)
                raise ZeroDivisionError
        assert before < inotify_descriptors()
    finally:
        hold.set()
    await until(lambda: before == inotify_descriptors())

    assert "its block was left" == stream.status().ended


async def test_a_cursor_that_is_open_a_moment_after_nobody_waits_for_it_is_closed(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The entry of the block was cancelled; after a second it does not wait for the storage.
    """
    opened, hold, real = threading.Event(), threading.Event(), Opening.run

    def hang(*arguments: Any) -> Cursor:
        cursor = real(*arguments)
        opened.set()
        hold.wait(SECONDS)
        return cursor

    monkeypatch.setattr(Opening, "run", hang)
    options: dict[str, Any] = {"layout": LAYOUT, "cursor": tmp_path / "evals.db", "timeout": 0}
    try:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(ckptstream.follow(run, **options).__aenter__)
                await until(opened.is_set)
                scope.cancel()
        monkeypatch.setattr(Opening, "run", real)
        await until(lambda: not open_cursors())

        assert [] == await again(run, options)
    finally:
        hold.set()


# The blocking twin.


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, Any]:
    """
    With the watcher of every day.
    """
    return {"layout": LAYOUT, "cursor": tmp_path / "evals.db", "timeout": 0}


def test_another_thread_says_what_is_done(run: Path, plain: dict[str, Any]) -> None:
    """
    While the first one goes on asking, at any moment.
    """
    for step in range(30):
        mark_done(run, step)
    handed, errors = queue.SimpleQueue[Any](), list[BaseException]()

    def work() -> None:
        while (checkpoint := handed.get()) is not None:
            try:
                stream.done(checkpoint)
            except BaseException as error:
                errors.append(error)

    with ckptstream.sync.follow(run, done="explicit", **plain) as stream:
        thread = threading.Thread(target=work)
        thread.start()
        for checkpoint in stream:
            handed.put(checkpoint)
        handed.put(None)
        thread.join()

    assert [] == errors
    assert [] == list(_all(run, plain))


def _all(run: Path, plain: dict[str, Any]) -> list[Checkpoint]:
    with ckptstream.sync.follow(run, **plain) as stream:
        return list(stream)


def test_said_one_after_another(run: Path, plain: dict[str, Any]) -> None:
    """
    Between two calls there is no event loop.
    """
    for step in (1, 2, 3):
        mark_done(run, step)
    with ckptstream.sync.follow(run, done="explicit", retries=1, **plain) as stream:
        first, second, third = list(stream)
        stream.done(first)
        stream.failed(second, "no")
        stream.failed(third, "no")

    assert [2, 3] == [item.step for item in _all(run, plain)]


def test_for_each(run: Path, plain: dict[str, Any]) -> None:
    """
    It begins with what an interrupted call had taken; what the evaluation says itself counts.
    """
    for step in (1, 2, 3):
        mark_done(run, step)
    got = list[int | None]()

    def evaluate(checkpoint: Checkpoint) -> None:
        got.append(checkpoint.step)

    with ckptstream.sync.follow(run, **plain) as stream:
        stream._home.run(stream._wait)  # As Ctrl-C leaves it.
        stream.for_each(evaluate, jobs=2)

    assert [1, 2, 3] == sorted(got, key=str)
    assert [] == _all(run, plain)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no such system")
def test_a_child_cannot_say_what_is_done(run: Path, plain: dict[str, Any]) -> None:
    """
    It has its parent's stream in its memory, but not its file.
    """
    mark_done(run, 1)
    with suppress(ZeroDivisionError), ckptstream.sync.follow(run, **plain) as stream:
        next(stream)
        child = os.fork()
        if not child:
            try:
                stream.__exit__(None, None, None)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        raise ZeroDivisionError

    assert [1] == [item.step for item in _all(run, plain)]


async def test_a_cursor_file_that_hangs_keeps_no_other_from_being_opened(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Each file has a lock of its own.
    """
    mark_done(run, 1)
    hangs, hold = threading.Event(), threading.Event()
    real, dead = connect, str(tmp_path / "dead.db")

    def hang(path: str) -> sqlite3.Connection:
        if path == dead:
            hangs.set()
            hold.wait()
        return real(path)

    monkeypatch.setattr(_file, "connect", hang)
    options: dict[str, Any] = {"layout": LAYOUT, "timeout": 0}
    with ThreadPoolExecutor() as threads:
        opening = threads.submit(Cursor, dead, profile)
        try:
            hangs.wait()
            assert [1] == await again(run, {**options, "cursor": tmp_path / "evals.db"})
        finally:
            hold.set()
        opening.result().close()
