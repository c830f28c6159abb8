"""
Another program keeps a cursor locked while looks ask it: they wait for their turn, and the storage
of the runs is not said to hang.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from observing import SECONDS, mark_done, open_cursors, until
from steering import lies_on, rest
from sweeping import LAYOUT

import ckptstream
from ckptstream import CheckpointStream, CursorError, RunStatus
from ckptstream._cursor import _schema, _turns
from ckptstream._cursor._turns import Turns
from ckptstream._threads import current_pool

pytestmark = pytest.mark.anyio

SILENT = "evals.db': it does not answer: another program keeps it locked, or its storage hangs"
LOCKED = r"evals\.db': another program keeps it locked: end that program \(database is locked\)"


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
    Where the cursor file will be; as on a local filesystem, where others who write keep nobody
    from reading, and as elsewhere.
    """
    lies_on(monkeypatch, events=request.param == "wal")
    monkeypatch.setattr("ckptstream._stream._timers.GAP_INTERVAL", 0.01)
    monkeypatch.setattr(_turns, "BRIEFLY", 0.01)
    return tmp_path / "evals.db"


@contextmanager
def locked(cursor: Path) -> Iterator[None]:
    """
    Somebody has it open in a shell.
    """
    connection = sqlite3.connect(cursor, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


class Reader:
    """
    Takes what comes, and says that it is done.
    """

    def __init__(self, stream: CheckpointStream) -> None:
        self.stream = stream
        self.got: list[str] = []

    async def read(self) -> None:
        async for checkpoint in self.stream:
            self.got.append(checkpoint.path)
            await self.stream.done(checkpoint)

    def row(self, run: Path) -> RunStatus:
        return next(row for row in self.stream.status().runs if row.run == str(run))

    def is_writing(self) -> bool:
        journal = self.stream.engine._journal
        return journal is not None and journal.busy

    def looked(self, run: Path) -> float | None:
        """
        When that was last, if nothing was in the way.
        """
        sight = self.stream.engine._following.roster.runs[str(run)].sight
        return sight.ended if sight.look.trouble is None else None

    def says(self, *runs: Path) -> bool:
        """
        Whether the cursor is why each of these waits.
        """
        return all(SILENT in self.row(run).waiting_for for run in runs)


@asynccontextmanager
async def reading(*runs: Path, cursor: Path, **options: Any) -> AsyncGenerator[Reader]:
    options = {"layout": LAYOUT, "done": "explicit", "poll_interval": 0.01, **options}
    async with ckptstream.follow(*runs, cursor=cursor, **options) as stream:
        reader = Reader(stream)
        async with anyio.create_task_group() as group:
            group.start_soon(reader.read)
            yield reader
            group.cancel_scope.cancel()


async def left(*runs: Path, cursor: Path) -> list[int | None]:
    """
    What a restart delivers.
    """
    async with ckptstream.follow(*runs, cursor=cursor, layout=LAYOUT, timeout=0) as stream:
        return await rest(stream)


@pytest.mark.parametrize("watcher", ["auto", "poll"])
async def test_runs_with_news_name_the_cursor_and_others_go_on(
    tmp_path: Path, cursor: Path, watcher: Any
) -> None:
    """
    Nobody's storage hangs, no thread is kept from looking, and nothing is lost.
    """
    first, *others, healthy = runs = [tmp_path / f"run-{number}" for number in range(8)]
    for run in runs:
        run.mkdir()
    async with reading(*runs, cursor=cursor, watcher=watcher) as reader:
        await until(lambda: all(map(reader.looked, runs)))
        with locked(cursor):
            news = [mark_done(first, 1)]
            await until(lambda: reader.is_writing() or reader.says(first))
            news += [mark_done(run, 2) for run in others]
            await until(lambda: reader.says(*others))
            before = reader.looked(healthy)
            if watcher == "poll":
                await until(lambda: reader.looked(healthy) != before)

            assert "waiting for the first checkpoint" == reader.row(healthy).waiting_for
            assert {None} == {reader.row(run).unanswered for run in runs}
            assert 1 >= current_pool().hung  # Who writes has to wait.
            assert [] == reader.got
        await until(lambda: sorted(reader.got) == sorted(news))

    assert [] == await left(*runs, cursor=cursor)


async def test_a_run_that_joins_meanwhile(tmp_path: Path, cursor: Path) -> None:
    """
    It cannot be had yet, and says why.
    """
    early, late = tmp_path / "s" / "early", tmp_path / "s" / "late"
    early.mkdir(parents=True)
    async with reading(tmp_path / "s" / "*", cursor=cursor) as reader:
        await until(lambda: reader.stream.status().runs and reader.looked(early))
        with locked(cursor):
            path = mark_done(late, 1)
            await until(lambda: len(reader.stream.status().runs) == 2 and reader.says(late))
            assert "waiting for the first checkpoint" == reader.row(early).waiting_for
        await until(lambda: [path] == reader.got)

    assert [] == await left(late, cursor=cursor)


async def test_after_as_long_as_anybody_waits_it_raises(
    run: Path, cursor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Each call does, and loses nothing.
    """
    monkeypatch.setattr(_schema, "BUSY_SECONDS", 0.05)
    options: dict[str, Any] = {"layout": LAYOUT, "cursor": cursor, "poll_interval": 0.01}
    async with ckptstream.follow(run, **options) as stream:
        with anyio.move_on_after(0.01):
            await anext(stream)
        with locked(cursor):
            mark_done(run, 1)
            for _ in range(2):
                with anyio.fail_after(SECONDS), pytest.raises(CursorError, match=LOCKED) as caught:
                    await anext(stream)
                assert (CursorError, None) == (type(caught.value), caught.value.run)
        assert 1 == (await anext(stream)).step

    assert [] == await left(run, cursor=cursor)


async def test_the_last_look_is_not_over_before_it_is_answered(run: Path, cursor: Path) -> None:
    """
    A stream that ends by its timeout delivers all that is there.
    """
    assert [] == await left(run, cursor=cursor)
    path = mark_done(run, 1)
    async with reading(run, cursor=cursor, timeout=0) as reader:
        with locked(cursor):
            await until(lambda: reader.is_writing() or reader.says(run))
            assert None is reader.stream.status().ended
        await until(lambda: reader.stream.status().ended)

        assert [path] == reader.got


@pytest.fixture
def held() -> Iterator[Turns]:
    """
    Somebody's turn goes on and on.
    """
    turns = Turns(longest=SECONDS)
    turns.begin()
    yield turns
    assert turns.begin_soon()


def test_a_look_gives_up_its_turn(held: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It would seem to hang.
    """
    monkeypatch.setattr(_turns, "BRIEFLY", 0.01)

    assert [False, False] == [held.begin_soon(), held.begin_soon()]
    held.end()


def test_where_the_storage_hangs_a_look_does_too(held: Turns) -> None:
    """
    So that those who wait for it say so.
    """
    held._longest = -1.0
    begun = list[bool]()
    thread = threading.Thread(target=lambda: begun.append(held.begin_soon()))
    thread.start()
    thread.join(0.05)
    assert [] == begun
    held.end()
    thread.join()
    held.end()

    assert [True] == begun
