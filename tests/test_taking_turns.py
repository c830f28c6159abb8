"""
One stream over many runs: they take turns, none holds up another, and no call loses anything.
"""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from steering import HeldWatcher, drained, half_save, rest, virtual
from sweeping import Sweep, came, finish, named, news, runs_of, sweep_of

from ckptstream.testing import ManualWatcher

pytestmark = pytest.mark.anyio


async def test_order_holds_within_each_run(tmp_path: Path, sweep: Sweep) -> None:
    """
    Runs take turns, each in the order of its steps.
    """
    finish(tmp_path, *((run, step) for step in range(20, 0, -1) for run in "cab"))
    got = named(tmp_path, [item async for item in sweep(timeout=0)])

    for run in "abc":
        assert list(range(1, 21)) == [step for name, step in got if name == run]
    assert [{"a", "b", "c"}] * 20 == [{name for name, _ in got[n : n + 3]} for n in range(0, 60, 3)]


@pytest.mark.parametrize("lonely", ["0", "z"])
async def test_a_backlog_does_not_starve_a_single_new_one(
    tmp_path: Path, watcher: ManualWatcher, lonely: str
) -> None:
    """
    Five hundred wait in one run; the only one of another is among the first few.
    """
    finish(tmp_path, *(("backlog", step) for step in range(500)), (lonely, 1))
    stream = sweep_of(tmp_path / "*", watcher=watcher)
    first = [await anext(stream) for _ in range(3)]
    finish(tmp_path, (lonely, 2), ("new", 1))
    watcher.touch()
    then = [await anext(stream) for _ in range(5)]

    assert (lonely, 1) in named(tmp_path, first)
    assert {(lonely, 2), ("new", 1)} <= set(named(tmp_path, then))
    steps = [item.step for item in first + then if item.run.endswith("backlog")]
    assert list(range(len(steps))) == steps


@virtual
async def test_runs_that_must_wait_hold_up_no_other(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    A hundred have delivered and wait for their interval; a new one comes at once.
    """
    finish(tmp_path, *((f"run-{n}", step) for n in range(100) for step in (1, 2)))
    stream = sweep_of(tmp_path / "*", min_interval_secs=600, watcher=watcher)
    assert 100 == len(await drained(stream, watcher))
    finish(tmp_path, ("new", 1))

    assert [("new", 1)] == await news(stream, watcher, tmp_path)


async def test_runs_that_hang_hold_up_no_other(tmp_path: Path) -> None:
    """
    A hundred have something to deliver when their storage stops to answer.
    """
    watcher = HeldWatcher()
    watcher.holds, watcher.hangs = False, True
    finish(tmp_path, *((f"run-{n}", step) for n in range(100) for step in (1, 2)))
    directories = [tmp_path / f"run-{n}" for n in range(100)]
    stream = sweep_of(*directories, tmp_path / "new", watcher=watcher)
    await anext(stream)
    watcher.holds = True
    *hung, new = stream.engine._following.roster.runs.values()
    for run in hung:
        run.all_changed()
    nothing = await came(stream, watcher, tmp_path)
    held, watcher.holds = watcher.held, False
    finish(tmp_path, ("new", 1))
    new.all_changed()
    got = await came(stream, watcher, tmp_path)
    watcher.answer()

    assert ([], 100, [("new", 1)]) == (nothing, held, got)


async def test_runs_that_cannot_be_read_hold_up_no_other(
    tmp_path: Path, watcher: ManualWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A hundred have something to deliver when their storage begins to fail.
    """
    finish(tmp_path, *((f"run-{n}", step) for n in range(100) for step in (1, 2)))
    stream = sweep_of(tmp_path / "*", watcher=watcher)
    await anext(stream)

    class Os:
        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        def listdir(self, path: str) -> list[str]:
            if "run-" in path:
                raise OSError(errno.EIO, "an error of the disk", path)
            return os.listdir(path)

    with monkeypatch.context() as patch:
        patch.setattr("ckptstream._stores._local.os", Os())
        finish(tmp_path, ("new", 1))
        meanwhile = await news(stream, watcher, tmp_path)
    mended = await news(stream, watcher, tmp_path)

    assert [("new", 1)] == meanwhile
    assert 199 == len(mended)


# Broken runs among healthy ones.


async def test_rubbish_does_not_delay_the_others(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    Two thousand files that nobody recognises are not looked at again when another run changes.
    """
    (tmp_path / "rubbish").mkdir()
    for number in range(2000):
        (tmp_path / f"rubbish/file-{number}").touch()
    finish(tmp_path, ("good", 1))
    half_save(tmp_path / "half", 1)
    stream = sweep_of(tmp_path / "*", watcher=watcher)
    first = await came(stream, watcher, tmp_path)
    (good,) = (
        run for run in stream.engine._following.roster.runs.values() if "good" in str(run.directory)
    )
    got, looks = list[tuple[str, int | None]](), watcher.looks
    for step in range(2, 12):
        finish(tmp_path, ("good", step))
        good.entry_changed(f"step_{step}", True)
        got += await came(stream, watcher, tmp_path)

    assert ([("good", 1)], [("good", step) for step in range(2, 12)]) == (first, got)
    assert watcher.looks - looks <= 30
    assert sorted(runs_of(stream, tmp_path)) == ["good", "half", "rubbish"]


# Calls, loops and the end.


async def test_a_cancelled_call_loses_nothing(
    tmp_path: Path, watcher: ManualWatcher, sweep: Sweep
) -> None:
    """
    At every one of its checkpoints: each comes once, from one of the calls.
    """
    wanted = {(run, step) for run in "abc" for step in range(5)}
    finish(tmp_path, *wanted)
    stream, got = sweep(), list[tuple[str, int | None]]()
    patience = 0
    while len(got) < len(wanted):
        with anyio.CancelScope() as scope:

            async def cancel(scope: anyio.CancelScope = scope, after: int = patience % 7) -> None:
                for _ in range(after):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()

            async with anyio.create_task_group() as group:
                group.start_soon(cancel)
                got += named(tmp_path, [await anext(stream)])
                group.cancel_scope.cancel()
        patience += 1
        assert patience < 1000

    assert (sorted(wanted), len(wanted)) == (sorted(got, key=str), len(got))
    assert [] == await news(stream, watcher, tmp_path)


async def test_wake_makes_it_look_at_all(
    tmp_path: Path, watcher: ManualWatcher, sweep: Sweep
) -> None:
    """
    Also at the pattern: a run that no event told of joins.
    """
    finish(tmp_path, ("a", 1))
    stream = sweep()
    first = await came(stream, watcher, tmp_path)
    finish(tmp_path, ("a", 2), ("b", 1))
    nothing = await came(stream, watcher, tmp_path)
    stream.wake()

    assert ([("a", 1)], []) == (first, nothing)
    assert [("a", 2), ("b", 1)] == sorted(await came(stream, watcher, tmp_path), key=str)


async def test_closing_ends_the_waiting_call(
    tmp_path: Path, watcher: ManualWatcher, sweep: Sweep
) -> None:
    """
    From another task; then nothing is watched and nothing comes any more.
    """
    finish(tmp_path, ("a", 1))
    stream, ended = sweep(), list[bool]()

    async def read() -> None:
        async for _ in stream:
            pass
        ended.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await watcher.waiting()
        await stream.aclose()
    finish(tmp_path, ("a", 2))
    watcher.touch()

    assert ([True], "it was closed") == (ended, stream.status().ended)
    assert [] == await rest(stream)


async def test_a_handler_may_close_it_when_a_run_joins(
    tmp_path: Path, watcher: ManualWatcher
) -> None:
    """
    A log record is a call into the user's code.
    """
    finish(tmp_path, ("a", 1), ("b", 1))
    stream = sweep_of(tmp_path / "*", watcher=watcher)

    class Closer(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "has joined" in record.getMessage():
                stream.engine.end("a handler said so")

    logger, closer = logging.getLogger("ckptstream.stream"), Closer()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(closer)
    try:
        assert [] == await rest(stream)
    finally:
        logger.removeHandler(closer)
        logger.setLevel(level)
    assert "a handler said so" == stream.status().ended
