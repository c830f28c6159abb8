"""
A stream with a cursor is closed and opened again: what was done is not delivered, the rest is.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from observing import mark_done, open_cursors, until
from steering import drained, lies_on, missed, rest, steps
from sweeping import LAYOUT, finish

import ckptstream
import ckptstream.sync
from ckptstream import CheckpointStream, CursorError
from ckptstream._cursor._file import CursorFile
from ckptstream.testing import ManualWatcher, save

pytestmark = pytest.mark.anyio


@pytest.fixture
def cursor(tmp_path: Path) -> Path:
    """
    Where the cursor file will be.
    """
    return tmp_path / "evals.db"


def follow(*runs: str | Path, cursor: Path, **options: Any) -> CheckpointStream:
    """
    A stream that ends after one complete look.
    """
    return ckptstream.follow(*runs, cursor=cursor, **{"layout": LAYOUT, "timeout": 0, **options})


async def all_of(*runs: str | Path, cursor: Path, **options: Any) -> list[int | None]:
    """
    The steps of all that comes in a block of its own; each of them is done.
    """
    async with follow(*runs, cursor=cursor, **options) as stream:
        return await rest(stream)


async def left_at(step: int, run: Path, cursor: Path, **options: Any) -> list[int | None]:
    """
    The steps that come until the user's code fails at one of them.
    """
    got = list[int | None]()
    with suppress(ZeroDivisionError):
        async with follow(run, cursor=cursor, **options) as stream:
            async for checkpoint in stream:
                got.append(checkpoint.step)
                if checkpoint.step == step:
                    raise ZeroDivisionError
    return got


def rows(cursor: Path) -> list[tuple[str, str]]:
    """
    What the file says of each checkpoint, by name.
    """
    connection = sqlite3.connect(cursor)
    try:
        query = "SELECT name, state FROM checkpoints ORDER BY run, name, generation"
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def marks(run: Path, *numbers: int) -> None:
    """
    Finish checkpoints.
    """
    for number in numbers:
        mark_done(run, number)


# What is done.


async def test_what_is_done_is_not_delivered_again(run: Path, cursor: Path) -> None:
    """
    And what is new is.
    """
    marks(run, 1, 2)
    first = await all_of(run, cursor=cursor)
    marks(run, 3)

    assert [[1, 2], [3], []] == [
        first,
        await all_of(run, cursor=cursor),
        await all_of(run, cursor=cursor),
    ]


async def test_an_exception_in_the_body_leaves_it_undone(run: Path, cursor: Path) -> None:
    """
    Those before it are done, since the user came back for the next one.
    """
    marks(run, 1, 2, 3)

    assert [1, 2] == await left_at(2, run, cursor)
    assert [2, 3] == await all_of(run, cursor=cursor)


async def test_a_break_leaves_it_done(run: Path, cursor: Path) -> None:
    """
    The block was left without an exception.
    """
    marks(run, 1, 2)
    async with follow(run, cursor=cursor) as stream:
        async for _ in stream:
            break

    assert [2] == await all_of(run, cursor=cursor)


async def test_a_cancelled_body_leaves_it_undone(run: Path, cursor: Path) -> None:
    """
    The claims are given up all the same: the next stream opens at once.
    """
    marks(run, 1)
    with anyio.CancelScope() as scope:
        async with follow(run, cursor=cursor) as stream:
            await anext(stream)
            scope.cancel()
            await anyio.sleep_forever()

    assert [1] == await all_of(run, cursor=cursor)


async def test_it_is_done_on_disk_before_the_next_one_is_out(run: Path, cursor: Path) -> None:
    """
    A process that is killed now does not do it again.
    """
    marks(run, 1, 2)
    async with follow(run, cursor=cursor) as stream:
        await anext(stream)
        assert [("step_1", "seen"), ("step_2", "seen")] == rows(cursor)
        await anext(stream)

        assert [("step_1", "done"), ("step_2", "seen")] == rows(cursor)


async def test_it_is_done_on_disk_before_the_stream_says_that_it_has_ended(
    run: Path, cursor: Path
) -> None:
    """
    The block may go on for hours.
    """
    marks(run, 1)
    async with follow(run, cursor=cursor) as stream:
        await rest(stream)

        assert [("step_1", "done")] == rows(cursor)


async def test_said_explicitly(run: Path, cursor: Path, caplog: pytest.LogCaptureFixture) -> None:
    """
    Only what was said to be done is; on return it is on disk. What was forgotten is a warning.
    """
    marks(run, 1, 2, 3)
    async with follow(run, cursor=cursor, done="explicit") as stream:
        first, second, third = [item async for item in stream]
        await stream.done(third)
        assert ("step_3", "done") in rows(cursor)
        await stream.done(first)

    (warning,) = (each.getMessage() for each in caplog.records if each.levelno == logging.WARNING)
    assert warning == (
        f"1 delivered but not said to be done, such as {second}: delivered again next time; "
        "call 'await stream.done(ckpt)' for each"
    )
    assert [second.step] == await all_of(run, cursor=cursor)


async def test_done_from_another_task_while_one_waits(run: Path, cursor: Path) -> None:
    """
    The consumer hands checkpoints on and waits for the next one.
    """
    marks(run, 1)
    async with follow(run, cursor=cursor, done="explicit", timeout=None) as stream:
        first = await anext(stream)
        async with anyio.create_task_group() as group:
            group.start_soon(anext, stream)
            await until(lambda: stream.engine._alarm in stream.engine._watcher._waiting)  # type: ignore[union-attr]
            await stream.done(first)
            assert [("step_1", "done")] == rows(cursor)
            group.cancel_scope.cancel()


async def test_what_is_not_out_cannot_be_done(run: Path, cursor: Path) -> None:
    """
    Twice, or of another stream.
    """
    marks(run, 1)
    async with follow(run, cursor=cursor, done="explicit") as stream:
        checkpoint = await anext(stream)
        await stream.done(checkpoint)
        with pytest.raises(ValueError, match=r"step_1.* is not out"):
            await stream.done(checkpoint)
        with pytest.raises(ValueError, match=r"step_1.* is not out"):
            await stream.failed(checkpoint, "too late")


# Generations.


async def test_a_rewritten_checkpoint_is_a_new_one(run: Path, cursor: Path) -> None:
    """
    Also while nobody followed.
    """
    save(run, 10)
    before = await all_of(run, cursor=cursor, layout="hf")
    save(run, 10)

    assert ([10], [10], []) == (
        before,
        await all_of(run, cursor=cursor, layout="hf"),
        await all_of(run, cursor=cursor, layout="hf"),
    )


async def test_a_rollback_while_nobody_followed(run: Path, cursor: Path) -> None:
    """
    Older steps come again, with new generations; those that were left alone do not.
    """
    for step in (10, 20, 30):
        save(run, step)
    await all_of(run, cursor=cursor, layout="hf")
    shutil.rmtree(run / "checkpoint-30")
    save(run, 20)

    assert [20] == await all_of(run, cursor=cursor, layout="hf")


async def test_what_comes_back_as_it_was_is_not_new(run: Path, cursor: Path) -> None:
    """
    A directory that was moved away and back, with a restart in between.
    """
    marks(run, 1, 2)
    await all_of(run, cursor=cursor)
    run.rename(run.with_name("away"))
    run.mkdir()
    assert [] == await all_of(run, cursor=cursor)
    run.rmdir()
    run.with_name("away").rename(run)

    assert [] == await all_of(run, cursor=cursor)


async def test_an_evaluator_that_writes_into_the_checkpoint(run: Path, cursor: Path) -> None:
    """
    `eval.json` makes nothing new.
    """
    save(run, 10)
    async with follow(run, cursor=cursor, layout="hf") as stream:
        async for checkpoint in stream:
            Path(checkpoint, "eval.json").write_text("{}")

    assert [] == await all_of(run, cursor=cursor, layout="hf")


async def test_another_path_to_the_run_is_another_run(run: Path, cursor: Path) -> None:
    """
    Runs are named by their absolute paths, symbolic links unresolved.
    """
    marks(run, 1)
    link = run.with_name("link")
    link.symlink_to(run)
    await all_of(run, cursor=cursor)

    assert [1] == await all_of(link, cursor=cursor)
    assert [] == await all_of(f"{run}/../run/", cursor=cursor)


async def test_names_that_are_not_utf8(tmp_path: Path, cursor: Path) -> None:
    """
    The file keeps them as they are.
    """
    run = tmp_path / os.fsdecode(b"r\xffn")
    run.mkdir()
    marks(run, 1)

    assert [[1], []] == [await all_of(run, cursor=cursor) for _ in range(2)]


@pytest.mark.parametrize(("local", "mode"), [(True, "wal"), (False, "delete")])
async def test_how_it_is_written(
    run: Path, cursor: Path, monkeypatch: pytest.MonkeyPatch, local: bool, mode: str
) -> None:
    """
    To a log first on a local filesystem; elsewhere, where no memory is shared, with a journal.
    """
    lies_on(monkeypatch, events=local)
    marks(run, 1, 2)
    async with follow(run, cursor=cursor) as stream:
        await rest(stream)
        assert local == os.path.exists(f"{cursor}-wal")
    connection = sqlite3.connect(cursor)
    modes = connection.execute("PRAGMA journal_mode").fetchall()
    connection.close()

    assert ([(mode,)], []) == (modes, await all_of(run, cursor=cursor))


async def test_steps_of_any_size(run: Path, cursor: Path) -> None:
    """
    SQLite's integers end at 2**63.
    """
    marks(run, 2**80)

    assert [[2**80], []] == [await all_of(run, cursor=cursor, until_step=2**79) for _ in range(2)]


# What was missed.


async def test_what_was_seen_and_deleted_while_nobody_followed(
    run: Path, cursor: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """
    It is missed: once, with its step, in the status, in the log and in the file.
    """
    marks(run, 1, 2, 3)
    await left_at(1, run, cursor)
    shutil.rmtree(run / "step_2")
    async with follow(run, cursor=cursor) as stream:
        got = await rest(stream)
        then = missed(stream)
    async with follow(run, cursor=cursor) as stream:
        await rest(stream)
        later = missed(stream)

    assert ([1, 3], [(2, True)], []) == (got, then, later)
    assert ("step_2", "missed") in rows(cursor)
    (record,) = [text for text in caplog.messages if "missed" in text]
    assert "step_2" in record


async def test_what_was_out_and_undone_and_deleted_is_missed(run: Path, cursor: Path) -> None:
    """
    It was delivered, but never done.
    """
    marks(run, 1)
    await left_at(1, run, cursor)
    shutil.rmtree(run / "step_1")
    async with follow(run, cursor=cursor) as stream:
        await rest(stream)

        assert [(1, True)] == missed(stream)


async def test_what_was_missed_and_comes_back_is_new(run: Path, cursor: Path) -> None:
    """
    It was reported, and is delivered all the same.
    """
    marks(run, 1, 2)
    await left_at(1, run, cursor)
    (run / "step_2").rename(run.with_name("away"))
    assert [1] == await all_of(run, cursor=cursor)
    run.with_name("away").rename(run / "step_2")

    assert [[2], []] == [await all_of(run, cursor=cursor) for _ in range(2)]


async def test_what_was_rewritten_while_nobody_followed_is_missed_and_new(
    run: Path, cursor: Path
) -> None:
    """
    The old generation can no longer be delivered; the new one is.
    """
    save(run, 10)
    await left_at(10, run, cursor, layout="hf")
    save(run, 10)
    async with follow(run, cursor=cursor, layout="hf") as stream:
        got = await rest(stream)

        assert ([10], [(10, True)]) == (got, missed(stream))


async def test_a_run_that_is_gone_for_a_while_misses_nothing(run: Path, cursor: Path) -> None:
    """
    It is waited for, and may come back as it was.
    """
    marks(run, 1)
    await left_at(1, run, cursor)
    run.rename(run.with_name("away"))
    async with follow(run, cursor=cursor) as stream:
        assert [] == await rest(stream)
        assert [] == missed(stream)
    run.with_name("away").rename(run)

    assert [1] == await all_of(run, cursor=cursor)


# The other options.


async def test_the_baseline_is_taken_once(run: Path, cursor: Path) -> None:
    """
    What came while nobody followed was not there at the first look ever.
    """
    marks(run, 1, 2)
    options: dict[str, Any] = {"cursor": cursor, "skip_existing": True}
    assert [] == await all_of(run, **options)
    marks(run, 3)

    assert [[3], []] == [await all_of(run, **options) for _ in range(2)]


async def test_a_run_that_was_not_there_has_no_baseline(run: Path, cursor: Path) -> None:
    """
    Nothing was there at the first look, so nothing is passed over later.
    """
    run.rmdir()
    options: dict[str, Any] = {"cursor": cursor, "skip_existing": True}
    assert [] == await all_of(run, **options)
    marks(run, 1)

    assert [1] == await all_of(run, **options)


async def test_a_run_that_stands_at_its_end_ends_at_once(run: Path, cursor: Path) -> None:
    """
    Also where the checkpoint itself has been deleted since.
    """
    marks(run, 1, 2)
    options: dict[str, Any] = {"cursor": cursor, "until_step": 2, "timeout": None}
    assert [1, 2] == await all_of(run, **options)
    shutil.rmtree(run / "step_2")

    assert [] == await all_of(run, **options)


async def test_what_is_undone_before_the_end_still_comes(run: Path, cursor: Path) -> None:
    """
    Up to the last step and no further.
    """
    marks(run, 1, 2, 3)
    options: dict[str, Any] = {"cursor": cursor, "until_step": 2, "timeout": None}
    async with follow(run, done="explicit", **options) as stream:
        (*_, last) = [item async for item in stream]
        await stream.done(last)
    assert 2 == last.step

    assert [1] == await all_of(run, **options)


async def test_newest_only(run: Path, cursor: Path) -> None:
    """
    What is passed over stays so; what is undone comes again if it is still the newest.
    """
    marks(run, 1, 2)
    assert [2] == await left_at(2, run, cursor, latest_only=True)
    again = await left_at(2, run, cursor, latest_only=True)
    marks(run, 3)

    assert ([2], [3]) == (again, await all_of(run, cursor=cursor, latest_only=True))
    assert [] == await all_of(run, cursor=cursor)


async def test_runs_of_a_pattern(tmp_path: Path, cursor: Path) -> None:
    """
    One file for all of them, also for those that join.
    """
    pattern = tmp_path / "*" / "checkpoints"
    finish(tmp_path, ("a/checkpoints", 1), ("b/checkpoints", 1))
    first = await all_of(pattern, cursor=cursor)
    finish(tmp_path, ("b/checkpoints", 2), ("c/checkpoints", 1))

    assert ([1, 1], [1, 2]) == (first, sorted(await all_of(pattern, cursor=cursor), key=str))
    assert [] == await all_of(pattern, cursor=cursor)


async def test_between_two_looks(run: Path, cursor: Path, watcher: ManualWatcher) -> None:
    """
    What comes and goes while the stream is open is written as it happens.
    """
    async with follow(run, cursor=cursor, timeout=None, watcher=watcher) as stream:
        assert [] == await steps(stream, watcher)
        marks(run, 1, 2)
        watcher.touch()
        assert 1 == (await anext(stream)).step
        shutil.rmtree(run / "step_2")
        watcher.touch()
        assert [] == await drained(stream, watcher)

    assert [("step_1", "done"), ("step_2", "missed")] == rows(cursor)


# Who may use it.


async def test_without_a_block(run: Path, cursor: Path) -> None:
    """
    Nobody would say when the last one is done.
    """
    with pytest.raises(
        RuntimeError, match=r"evals.db.* needs a block, and it is not open: write 'async with"
    ):
        await anext(follow(run, cursor=cursor))
    assert not cursor.exists()


async def test_after_its_block(run: Path, cursor: Path) -> None:
    """
    The stream has ended, like any other; nothing can be written any more.
    """
    marks(run, 1)
    async with follow(run, cursor=cursor, done="explicit") as stream:
        checkpoint = await anext(stream)

    with pytest.raises(StopAsyncIteration, match="its block was left"):
        await anext(stream)
    with pytest.raises(RuntimeError, match="needs a block"):
        await stream.done(checkpoint)


@pytest.mark.parametrize("raises", [False, True])
async def test_an_error_at_the_end_of_the_block(
    run: Path,
    cursor: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    raises: bool,
) -> None:
    """
    It is raised unless something else is; then it is logged. The run is free all the same.
    """
    marks(run, 1)

    def write(self: CursorFile, *arguments: Any) -> None:
        raise CursorError(self.path, "the disk is full: make room")

    async def use() -> None:
        async with follow(run, cursor=cursor, done="explicit") as stream:
            checkpoint = await anext(stream)
            patch.setattr(CursorFile, "write", write)
            stream.engine.handed.done(checkpoint)
            if raises:
                raise ZeroDivisionError

    expected = ZeroDivisionError if raises else CursorError
    with monkeypatch.context() as patch, pytest.raises(expected):
        await use()

    assert raises == any("make room" in text for text in caplog.messages)
    assert [1] == await all_of(run, cursor=cursor)


async def test_a_second_stream_over_the_same_run(run: Path, cursor: Path) -> None:
    """
    It is refused with a reason until the first one has gone; other runs are free.
    """
    other = run.with_name("other")
    marks(run, 1)
    marks(other, 7)
    async with follow(run, cursor=cursor) as first:
        await anext(first)
        with pytest.raises(CursorError, match="another open stream follows") as caught:
            await all_of(run, cursor=cursor)
        assert [7] == await all_of(other, cursor=cursor)
        assert [1] == await all_of(run, cursor=cursor.with_name("second.db"))

    assert (str(run), str(cursor)) == (caught.value.run, caught.value.path)
    assert [] == await all_of(run, cursor=cursor)


async def test_a_busy_run_does_not_end_a_pattern(
    tmp_path: Path, cursor: Path, watcher: ManualWatcher, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The others go on; it joins when it is free, and the status says so.
    """
    finish(tmp_path, ("s/a", 1), ("s/b", 1))
    options: dict[str, Any] = {"cursor": cursor, "timeout": None, "watcher": watcher}
    async with follow(tmp_path / "s" / "*", **options) as stream:
        async with follow(tmp_path / "s" / "b", cursor=cursor) as other:
            await anext(other)
            assert [1] == await steps(stream, watcher)
            (busy,) = [row for row in stream.status().runs if row.run.endswith("b")]
            assert "another open stream follows it with the same cursor" == busy.waiting_for
        finish(tmp_path, ("s/b", 2))
        watcher.touch()
        assert [2] == await steps(stream, watcher)

    (warning,) = [text for text in caplog.messages if "it joins when that one is closed" in text]
    assert str(tmp_path / "s" / "b") in warning


async def test_the_first_stream_is_not_disturbed_by_the_second(run: Path, cursor: Path) -> None:
    """
    Closing a descriptor of a file drops the process's locks on it: nobody else opens it.
    """
    marks(run, 1, 2)
    async with follow(run, cursor=cursor) as first:
        await anext(first)
        for _ in range(2):
            with pytest.raises(CursorError, match="another open stream"):
                await all_of(run, cursor=cursor)
        assert 2 == (await anext(first)).step


async def test_a_file_that_cannot_be_used_is_said_at_the_block(run: Path, tmp_path: Path) -> None:
    """
    Before anything is delivered; nothing is left open.
    """
    missing = tmp_path / "not" / "there.db"
    with pytest.raises(CursorError, match=r"not/there.db': it cannot be opened: check that its"):
        async with follow(run, cursor=missing):
            pytest.fail("the block was entered")


async def test_a_write_that_fails_is_tried_again(
    run: Path, cursor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It reaches whoever asks; nothing is lost meanwhile.
    """
    marks(run, 1, 2)
    real, full = CursorFile.write, iter([True, True, False])

    def write(self: CursorFile, *arguments: Any) -> None:
        if next(full, False):
            raise CursorError(self.path, "the disk is full: make room")
        real(self, *arguments)

    monkeypatch.setattr(CursorFile, "write", write)
    async with follow(run, cursor=cursor) as stream:
        for _ in range(2):
            with pytest.raises(CursorError, match="make room"):
                await anext(stream)
        assert [1, 2] == await rest(stream)

    assert [] == await all_of(run, cursor=cursor)


# The blocking twin.


def test_the_blocking_twin(run: Path, cursor: Path) -> None:
    """
    The same, with `with`.
    """
    options: dict[str, Any] = {"cursor": cursor, "layout": LAYOUT, "timeout": 0}
    marks(run, 1, 2, 3)
    with suppress(ZeroDivisionError), ckptstream.sync.follow(run, **options) as stream:
        assert 1 == next(stream).step
        raise ZeroDivisionError
    with ckptstream.sync.follow(run, done="explicit", **options) as stream:
        first, second, third = list(stream)
        stream.done(second)
        stream.failed(third, "no")
        assert ["no"] == [each.reason for each in stream.status().runs[0].set_aside]
    with ckptstream.sync.follow(run, **options) as stream:
        assert [first] == list(stream)
    with ckptstream.sync.follow(run, **options) as stream:
        assert [] == list(stream)


def test_done_in_another_thread_while_one_waits(run: Path, cursor: Path) -> None:
    """
    The call returns when it is on disk, though the other thread waits on.
    """
    marks(run, 1)
    follow = ckptstream.sync.follow
    with follow(run, cursor=cursor, layout=LAYOUT, done="explicit") as stream:
        first = next(stream)
        thread = threading.Thread(target=list, args=(stream,))
        thread.start()
        stream.done(first)
        assert [("step_1", "done")] == rows(cursor)
        stream.close()
        thread.join()


@pytest.fixture(autouse=True)
def _no_cursor_stays_open() -> Iterator[None]:
    """
    Fails a test that leaves a cursor file open.
    """
    yield
    assert [] == open_cursors()
