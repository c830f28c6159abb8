"""
Cursor files that are deleted, moved or replaced while a stream has them open: the next call that
writes says so, and what is there instead stays as it is.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from observing import mark_done, open_cursors
from steering import lies_on, rest
from sweeping import LAYOUT, finish

import ckptstream
import ckptstream.sync
from ckptstream import Checkpoint, CheckpointStream, CursorError
from ckptstream._cursor._file import CursorFile
from ckptstream.testing import ManualWatcher

pytestmark = pytest.mark.anyio

Change = Callable[[Path], object]

GONE = r"evals\.db': it was deleted, moved or replaced while it was open: put it back, or end the"
UNLOCKED = r"evals\.db-lock', where its locks are, was deleted, moved or replaced while it was open"


@pytest.fixture(autouse=True)
def _no_cursor_stays_open() -> Iterator[None]:
    """
    Fails a test that leaves a cursor file open.
    """
    yield
    assert [] == open_cursors()


@pytest.fixture(params=["wal", "journal"])
def cursor(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    Where the cursor file will be, in a directory of its own; as on a local filesystem, and others.
    """
    lies_on(monkeypatch, events=request.param == "wal")
    path = tmp_path / "kept" / "evals.db"
    path.parent.mkdir()
    return path


def follow(*runs: Path, cursor: Path, **options: Any) -> CheckpointStream:
    """
    A stream that ends after one complete look.
    """
    options = {"layout": LAYOUT, "timeout": 0, "done": "explicit", **options}
    return ckptstream.follow(*runs, cursor=cursor, **options)


async def all_of(run: Path, cursor: Path) -> list[int | None]:
    """
    The steps of all that a restart delivers; each of them is done.
    """
    async with follow(run, cursor=cursor, done="next") as stream:
        return await rest(stream)


@asynccontextmanager
async def refused_at_its_end(stream: CheckpointStream, said: str) -> AsyncGenerator[None]:
    """
    A block that runs to its end, and whose end raises.
    """
    await stream.__aenter__()
    try:
        yield
    except BaseException as error:
        await stream.__aexit__(type(error), error, None)
        raise
    with pytest.raises(CursorError, match=said):
        await stream.__aexit__(None, None, None)


def files(cursor: Path) -> dict[str, bytes]:
    """
    The file and all that lies beside it, byte for byte.
    """
    if not cursor.parent.exists():
        return {}
    return {path.name: path.read_bytes() for path in cursor.parent.iterdir() if path.is_file()}


# What becomes of the file.


def backed_up(cursor: Path) -> Path:
    """
    Where its copy is.
    """
    return cursor.parent.parent / "backup.db"


def delete(cursor: Path) -> None:
    cursor.unlink()


def move(cursor: Path) -> None:
    cursor.rename(cursor.parent / "away.db")


def move_its_directory(cursor: Path) -> None:
    cursor.parent.rename(cursor.parent.with_name("away"))


def restore(cursor: Path) -> None:
    backed_up(cursor).replace(cursor)


def write_something_else(cursor: Path) -> None:
    backed_up(cursor).write_text("step,accuracy\n")
    backed_up(cursor).replace(cursor)


CHANGES = pytest.mark.parametrize(
    "change", [delete, move, move_its_directory, restore, write_something_else]
)


@CHANGES
async def test_the_next_call_that_writes_says_so(run: Path, cursor: Path, change: Change) -> None:
    """
    Each of them, and the end of the block; nothing there is touched by any of them.
    """
    mark_done(run, 1)
    assert [1] == await all_of(run, cursor)
    shutil.copy(cursor, backed_up(cursor))
    mark_done(run, 2)
    mark_done(run, 3)

    stream = follow(run, cursor=cursor)
    async with refused_at_its_end(stream, GONE):
        second, third = [item async for item in stream]
        await stream.done(second)
        change(cursor)
        before = files(cursor)
        with pytest.raises(CursorError, match=GONE) as caught:
            await stream.done(third)
        assert str(cursor) == caught.value.path
        with pytest.raises(CursorError, match=GONE):
            await anext(stream)
    assert before == files(cursor)


@pytest.mark.parametrize("change", [delete, restore])
async def test_a_restart_begins_with_what_is_there(run: Path, cursor: Path, change: Change) -> None:
    """
    All that this does not know of comes again.
    """
    mark_done(run, 1)
    assert [1] == await all_of(run, cursor)
    shutil.copy(cursor, backed_up(cursor))
    mark_done(run, 2)
    mark_done(run, 3)
    stream = follow(run, cursor=cursor)
    async with refused_at_its_end(stream, GONE):
        second, third = [item async for item in stream]
        await stream.done(second)
        change(cursor)
        with pytest.raises(CursorError, match=GONE):
            await stream.done(third)
    Path(f"{cursor}-wal").unlink(missing_ok=True)  # As the error says.

    assert ([2, 3] if change is restore else [1, 2, 3]) == await all_of(run, cursor)
    assert [] == await all_of(run, cursor)


async def test_put_back_it_goes_on(run: Path, cursor: Path) -> None:
    """
    Nothing is lost: what could not be written is written then.
    """
    mark_done(run, 1)
    mark_done(run, 2)
    async with follow(run, cursor=cursor) as stream:
        first, second = [item async for item in stream]
        cursor.rename(backed_up(cursor))
        with pytest.raises(CursorError, match=GONE):
            await stream.done(first)
        backed_up(cursor).rename(cursor)
        await stream.done(second)

    assert [] == await all_of(run, cursor)


async def test_with_nothing_to_write_the_end_of_the_block_says_so(run: Path, cursor: Path) -> None:
    """
    For what was written is lost with the file.
    """
    mark_done(run, 1)
    stream = follow(run, cursor=cursor)
    async with refused_at_its_end(stream, GONE):
        await stream.done(await anext(stream))
        cursor.unlink()

    assert [1] == await all_of(run, cursor)


async def test_an_exception_that_leaves_the_block_is_not_replaced(
    run: Path, cursor: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Then it is logged.
    """
    mark_done(run, 1)
    with suppress(ZeroDivisionError):
        async with follow(run, cursor=cursor) as stream:
            await stream.done(await anext(stream))
            cursor.unlink()
            raise ZeroDivisionError

    assert 1 == len([text for text in caplog.messages if "deleted, moved or replaced" in text])


async def test_for_each_ends_with_that_error_alone(run: Path, cursor: Path) -> None:
    """
    It can go on nowhere.
    """
    mark_done(run, 1)
    mark_done(run, 2)

    def evaluate(checkpoint: Checkpoint) -> None:
        cursor.unlink()

    stream = follow(run, cursor=cursor)
    async with refused_at_its_end(stream, GONE):
        with pytest.raises(CursorError, match=GONE):
            await stream.for_each(evaluate)

    assert [1, 2] == await all_of(run, cursor)


def test_the_blocking_twin(run: Path, cursor: Path) -> None:
    """
    The same error, from the call that says that it is done.
    """
    mark_done(run, 1)
    options: dict[str, Any] = {"cursor": cursor, "layout": LAYOUT, "done": "explicit"}
    stream = ckptstream.sync.follow(run, **options).__enter__()
    checkpoint = next(stream)
    cursor.unlink()
    with pytest.raises(CursorError, match=GONE):
        stream.done(checkpoint)
    with pytest.raises(CursorError, match=GONE):
        stream.__exit__(None, None, None)


# Runs that are taken later.


@pytest.mark.parametrize(("suffix", "said"), [("", GONE), ("-lock", UNLOCKED)])
async def test_a_run_that_joins_is_not_taken(
    tmp_path: Path, cursor: Path, watcher: ManualWatcher, suffix: str, said: str
) -> None:
    """
    Nobody else would know that somebody has it.
    """
    finish(tmp_path, ("s/a", 1))
    options: dict[str, Any] = {"cursor": cursor, "timeout": None, "watcher": watcher}
    stream = follow(tmp_path / "s" / "*", **options)
    async with refused_at_its_end(stream, said):
        await stream.done(await anext(stream))
        Path(f"{cursor}{suffix}").unlink()
        finish(tmp_path, ("s/b", 1))
        watcher.touch()
        with pytest.raises(CursorError, match=said):
            await anext(stream)


async def test_another_stream_waits_until_the_old_file_is_closed(run: Path, cursor: Path) -> None:
    """
    Streams of a process share it: one that comes later must not write to the old one.
    """
    mark_done(run, 1)
    mark_done(run.with_name("other"), 2)
    stream = follow(run, cursor=cursor)
    async with refused_at_its_end(stream, GONE):
        await anext(stream)
        cursor.unlink()
        with pytest.raises(CursorError, match=GONE):
            await all_of(run.with_name("other"), cursor)

    assert [2] == await all_of(run.with_name("other"), cursor)


# The locks beside it.


def replace_lock(lock: Path) -> None:
    lock.with_name("other").touch()
    lock.with_name("other").replace(lock)


@pytest.mark.parametrize("change", [delete, replace_lock])
async def test_without_its_locks_nothing_more_is_done(
    run: Path, cursor: Path, change: Change
) -> None:
    """
    Another program has the run by then; only that one goes on.
    """
    mark_done(run, 1)
    mark_done(run, 2)
    stream = follow(run, cursor=cursor)
    async with refused_at_its_end(stream, UNLOCKED):
        first, second = [item async for item in stream]
        await stream.done(first)
        change(Path(f"{cursor}-lock"))
        other = CursorFile(str(cursor), wal=True)
        assert 1 == other.claim(str(run))
        with pytest.raises(CursorError, match=UNLOCKED) as caught:
            await stream.done(second)
        assert str(cursor) == caught.value.path
    other.check()
    other.close()

    assert [2] == await all_of(run, cursor)


# Filesystems without inode numbers.


async def test_where_inode_numbers_change_by_themselves(
    run: Path, cursor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    They say nothing; but what is deleted is missed all the same.
    """
    lies_on(monkeypatch, inodes=False)
    numbers = count()
    monkeypatch.setattr("ckptstream._cursor._opened._identity", lambda found: next(numbers))
    for step in (1, 2):
        mark_done(run, step)
    stream = follow(run, cursor=cursor)
    async with refused_at_its_end(stream, GONE):
        first, second = [item async for item in stream]
        await stream.done(first)
        cursor.unlink()
        with pytest.raises(CursorError, match=GONE):
            await stream.done(second)


async def test_where_it_cannot_be_told(
    run: Path, cursor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Storage that fails is said to fail, and not to have lost the file.
    """
    mark_done(run, 1)

    class Os:
        def stat(self, path: str) -> None:
            raise OSError(5, "Input/output error", path)

    async with follow(run, cursor=cursor) as stream:
        checkpoint = await anext(stream)
        with monkeypatch.context() as patch:
            patch.setattr("ckptstream._cursor._opened.os", Os())
            with pytest.raises(CursorError, match="its storage fails: check the disk"):
                await stream.done(checkpoint)

    assert [] == await all_of(run, cursor)
