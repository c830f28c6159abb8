"""
Attempts that fail: they come again after a while, never block newer ones, and end set aside.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import anyio
import pytest
from observing import mark_done
from steering import missed, run_status, steps, virtual
from sweeping import LAYOUT

import ckptstream
from ckptstream import CheckpointStream
from ckptstream._model import SetAside
from ckptstream.testing import ManualWatcher, save

pytestmark = pytest.mark.anyio


def follow(run: Path, watcher: ManualWatcher, **options: Any) -> CheckpointStream:
    """
    A stream that only the test and the time wake.
    """
    return ckptstream.follow(run, layout=LAYOUT, watcher=watcher, **options)


@virtual
async def test_a_failed_attempt_comes_again_later_and_later(
    run: Path, watcher: ManualWatcher, caplog: pytest.LogCaptureFixture
) -> None:
    """
    After 10, 20 and 40 seconds; then it is set aside, with the last reason.
    """
    mark_done(run, 1)
    stream, began, waited = follow(run, watcher, retries=3), anyio.current_time(), list[int]()
    for attempt in range(4):
        checkpoint = await anext(stream)
        waited.append(round(anyio.current_time() - began))
        began = anyio.current_time()
        await stream.failed(checkpoint, f"attempt {attempt}")
    then = await steps(stream, watcher)

    assert ([0, 10, 20, 40], []) == (waited, then)
    path = os.path.join(run, "step_1")
    assert (SetAside(path, 1, 4, "attempt 3"),) == run_status(stream).set_aside
    assert f"  set aside: {path}: attempt 3" in str(stream.status())
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [
        f"{path}: attempt 1 has failed: attempt 0; it is delivered again in 10 s",
        f"{path}: attempt 2 has failed: attempt 1; it is delivered again in 20 s",
        f"{path}: attempt 3 has failed: attempt 2; it is delivered again in 40 s",
        f"{path}: attempt 4 has failed: attempt 3; it is not delivered again",
    ] == told


@virtual
async def test_newer_ones_do_not_wait_for_it(run: Path, watcher: ManualWatcher) -> None:
    """
    And when its time has come it is the last in the line.
    """
    mark_done(run, 1)
    mark_done(run, 2)
    stream = follow(run, watcher, retries=1)
    await stream.failed(await anext(stream), "no")
    assert 2 == (await anext(stream)).step
    for step in (3, 4):
        mark_done(run, step)
    watcher.touch()

    assert [3, 4, 1] == [(await anext(stream)).step for _ in range(3)]


@virtual
@pytest.mark.parametrize("newer", [False, True])
async def test_newest_only(run: Path, watcher: ManualWatcher, newer: bool) -> None:
    """
    It comes again unless a newer one was delivered since; that counts as skipped.
    """
    mark_done(run, 1)
    stream = follow(run, watcher, retries=1, latest_only=True)
    await stream.failed(await anext(stream), "no")
    if newer:
        mark_done(run, 2)
        watcher.touch()
        assert 2 == (await anext(stream)).step
    await anyio.sleep(10)

    assert ([] if newer else [1]) == await steps(stream, watcher)
    assert newer == run_status(stream).skipped


@virtual
async def test_what_is_deleted_before_it_comes_again_is_missed(
    run: Path, tmp_path: Path, watcher: ManualWatcher
) -> None:
    """
    Also if it was gone when it failed.
    """
    mark_done(run, 1)
    mark_done(run, 2)
    options: dict[str, Any] = {"cursor": tmp_path / "evals.db", "done": "explicit"}
    async with follow(run, watcher, retries=1, **options) as stream:
        first, second = await anext(stream), await anext(stream)
        shutil.rmtree(second)
        watcher.touch()
        await steps(stream, watcher)
        await stream.failed(second, "gone")
        await stream.failed(first, "no")
        shutil.rmtree(first)
        watcher.touch()

        assert [] == await steps(stream, watcher)
        assert [(2, True), (1, True)] == missed(stream)


@virtual
async def test_what_is_rewritten_before_it_comes_again_is_new(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    The old generation is missed; the new one comes at once and has all of its attempts.
    """
    mark_done(run, 1)
    stream = follow(run, watcher, retries=1)
    await stream.failed(await anext(stream), "no")
    shutil.rmtree(run / "step_1")
    watcher.touch()
    assert [] == await steps(stream, watcher)
    mark_done(run, 1)
    watcher.touch()
    again = await anext(stream)
    await stream.failed(again, "no")

    assert ([(1, True)], ()) == (missed(stream), run_status(stream).set_aside)
    assert again == await anext(stream)


@virtual
async def test_the_stream_waits_for_it_before_it_ends(run: Path, watcher: ManualWatcher) -> None:
    """
    `until_step` is reached when nothing is left to be tried.
    """
    mark_done(run, 1)
    stream = follow(run, watcher, retries=1, until_step=1)
    await stream.failed(await anext(stream), "no")
    assert 1 == (await anext(stream)).step
    with pytest.raises(StopAsyncIteration, match="every run has reached until_step"):
        await anext(stream)


async def test_attempts_are_counted_across_restarts(
    run: Path, tmp_path: Path, watcher: ManualWatcher
) -> None:
    """
    A restart tries at once; what was set aside is listed and does not come.
    """
    mark_done(run, 1)
    got = list[int | None]()
    for _ in range(3):
        options: dict[str, Any] = {"cursor": tmp_path / "evals.db", "timeout": 0, "retries": 1}
        async with follow(run, watcher, **options) as stream:
            async for checkpoint in stream:
                got.append(checkpoint.step)
                await stream.failed(checkpoint, ValueError())
            aside = run_status(stream).set_aside

    assert [1, 1] == got
    assert (SetAside(os.path.join(run, "step_1"), 1, 2, "ValueError()"),) == aside


async def test_more_retries_bring_back_what_was_set_aside(run: Path, tmp_path: Path) -> None:
    """
    A bug in the evaluation is mended; nobody has to write SQL.
    """
    mark_done(run, 1)
    options: dict[str, Any] = {"cursor": tmp_path / "evals.db"}
    async with simple(run, **options) as stream:
        await stream.failed(await anext(stream), "a bug")
    async with simple(run, **options) as stream:
        assert [] == [item async for item in stream]
        assert ["a bug"] == [each.reason for each in run_status(stream).set_aside]
    async with simple(run, retries=1, **options) as stream:
        assert [1] == [item.step async for item in stream]
        assert () == run_status(stream).set_aside
    async with simple(run, **options) as stream:
        assert [] == [item async for item in stream]
        assert () == run_status(stream).set_aside


async def test_once_a_later_generation_is_done_it_is_no_longer_listed(
    run: Path, tmp_path: Path
) -> None:
    """
    Neither at once nor after a restart.
    """
    save(run, 1)
    options: dict[str, Any] = {"cursor": tmp_path / "evals.db", "layout": "hf"}
    async with simple(run, **options) as stream:
        await stream.failed(await anext(stream), "no")
    save(run, 1)
    for _ in range(2):
        async with simple(run, **options) as stream:
            assert [item.step async for item in stream] in ([1], [])
            assert () == run_status(stream).set_aside


@virtual
async def test_the_status_says_what_comes_again(run: Path, watcher: ManualWatcher) -> None:
    """
    And why it has failed.
    """
    mark_done(run, 1)
    stream = follow(run, watcher, retries=1)
    await stream.failed(await anext(stream), "out of memory")
    status = run_status(stream)

    assert {"step_1": "out of memory"} == status.retrying
    assert "waiting to deliver step_1 again, which has failed" == status.waiting_for
    assert "  step_1: has failed: out of memory" in str(status)


# for_each.


def simple(run: Path, **options: Any) -> CheckpointStream:
    """
    A stream that ends after one look.
    """
    return ckptstream.follow(run, **{"layout": LAYOUT, "timeout": 0, **options})


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_each_is_evaluated_and_done(run: Path, tmp_path: Path, kind: str) -> None:
    """
    By an async function or by a plain one, which blocks no event loop.
    """
    for step in (1, 2, 3):
        mark_done(run, step)
    got = list[int | None]()

    async def waits(checkpoint: ckptstream.Checkpoint) -> None:
        await anyio.sleep(0)
        got.append(checkpoint.step)

    def blocks(checkpoint: ckptstream.Checkpoint) -> None:
        with pytest.raises(RuntimeError):
            anyio.get_cancelled_exc_class()  # There is no event loop here.
        got.append(checkpoint.step)

    for _ in range(2):
        async with simple(run, cursor=tmp_path / "evals.db") as stream:
            await stream.for_each(waits if kind == "async" else blocks)

    assert [1, 2, 3] == got


async def test_so_many_at_once(run: Path) -> None:
    """
    The next one is asked for when somebody is free.
    """
    for step in range(10):
        mark_done(run, step)
    now, most = set[int | None](), 0

    async def evaluate(checkpoint: ckptstream.Checkpoint) -> None:
        nonlocal most
        now.add(checkpoint.step)
        most = max(most, len(now))
        await anyio.wait_all_tasks_blocked() if len(now) == 3 else await anyio.sleep(0.01)
        now.discard(checkpoint.step)

    await simple(run).for_each(evaluate, jobs=3)

    assert 3 == most


async def test_an_exception_is_a_failed_attempt(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Not the end of the stream; the log has the traceback.
    """
    for step in (1, 2, 3):
        mark_done(run, step)

    def evaluate(checkpoint: ckptstream.Checkpoint) -> None:
        if checkpoint.step == 2:
            raise ZeroDivisionError("two")

    for _ in range(2):
        async with simple(run, cursor=tmp_path / "evals.db") as stream:
            await stream.for_each(evaluate)
            aside = run_status(stream).set_aside

        assert [(2, "ZeroDivisionError: two")] == [(each.step, each.reason) for each in aside]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None


async def test_cancelled_it_leaves_undone_what_it_was_at(run: Path, tmp_path: Path) -> None:
    """
    At once; the next call, of this stream or of the next one, begins with that.
    """
    for step in (1, 2):
        mark_done(run, step)
    got = list[int | None]()

    async def evaluate(checkpoint: ckptstream.Checkpoint) -> None:
        got.append(checkpoint.step)
        if len(got) == 2:
            scope.cancel()
            await anyio.sleep_forever()

    options: dict[str, Any] = {"cursor": tmp_path / "evals.db"}
    async with simple(run, **options) as stream:
        with anyio.CancelScope() as scope:
            await stream.for_each(evaluate)
        assert scope.cancelled_caught
        assert 2 == (await anext(stream)).step
        await stream.for_each(evaluate)

    assert [1, 2] == got


async def test_an_error_of_the_stream_comes_alone(run: Path) -> None:
    """
    Not in a group of exceptions, and after all calls have ended.
    """
    run.rmdir()
    run.touch()

    async def evaluate(checkpoint: ckptstream.Checkpoint) -> None:
        pytest.fail(f"{checkpoint} was delivered")

    with pytest.raises(NotADirectoryError, match="name the directory that holds checkpoints"):
        await simple(run).for_each(evaluate)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"jobs": 0}, "jobs=0 is too few: give 1 or more"),
        ({"jobs": 1.5}, "jobs=1.5 is not a number of times: give an int"),
        ({"evaluate": "eval.py"}, "evaluate='eval.py' cannot be called"),
    ],
)
async def test_bad_input(run: Path, options: dict[str, Any], expected: str) -> None:
    """
    It is refused before anything is looked at.
    """
    with pytest.raises((TypeError, ValueError), match=expected.replace(".", r"\.")):
        await simple(run).for_each(**{"evaluate": print, **options})
