"""
One stream over many runs: what speaks of the whole stream, and what of each run.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import anyio
import pytest
from steering import rest, virtual
from sweeping import Sweep, finish, named, news, sweep_of

from ckptstream.testing import ManualWatcher, save

pytestmark = pytest.mark.anyio

# timeout and timeout_fn speak of the whole stream.


async def test_timeout_0_is_one_complete_look(tmp_path: Path, sweep: Sweep) -> None:
    """
    At every run, also at those that this very look has found.
    """
    finish(tmp_path, ("a", 1), ("b", 1), ("b", 2), ("c", 1))

    assert [("a", 1), ("b", 1), ("b", 2), ("c", 1)] == sorted(
        named(tmp_path, [item async for item in sweep(timeout=0)]), key=str
    )


async def test_timeout_0_of_real_directories(tmp_path: Path) -> None:
    """
    The same with threads and events.
    """
    wanted = [(f"run-{number:03}/ckpt", step) for number in range(100) for step in (1, 2)]
    finish(tmp_path, *wanted)
    stream = sweep_of(tmp_path / "*/ckpt", timeout=0)

    assert wanted == sorted(named(tmp_path, [item async for item in stream]), key=str)


async def test_timeout_0_includes_the_settle_interval(tmp_path: Path) -> None:
    """
    Of each run; `.pt` files are finished when they have settled.
    """
    for run in ("x", "y"):
        save(tmp_path / run, 1, "ckpt_{step}.pt")
    stream = sweep_of(tmp_path / "*", layout="ckpt_{step}.pt", timeout=0)

    assert [1, 1] == await rest(stream)


@virtual
async def test_the_timeout_counts_from_the_last_delivery_of_any_run(
    tmp_path: Path, watcher: ManualWatcher, sweep: Sweep
) -> None:
    """
    One run that goes on keeps the stream from ending, however long the others are silent.
    """
    finish(tmp_path, ("a", 0), ("b", 0), ("c", 0))
    stream, begin = sweep(timeout=10), anyio.current_time()
    got = list[tuple[str, int | None]]()

    async def train() -> None:
        for step in range(1, 6):
            await anyio.sleep(9)
            finish(tmp_path, ("b", step))
            watcher.touch()

    async with anyio.create_task_group() as group:
        group.start_soon(train)
        got = named(tmp_path, [item async for item in stream])

    assert [("b", step) for step in range(1, 6)] == got[3:]
    assert 55 == pytest.approx(anyio.current_time() - begin, abs=1)


@virtual
async def test_timeout_fn_is_asked_once_per_expiry_of_the_stream(
    tmp_path: Path, sweep: Sweep
) -> None:
    """
    Not once for each run.
    """
    finish(tmp_path, ("a", 1), ("b", 1), ("c", 1))
    asked, begin = list[float](), anyio.current_time()

    def ended() -> bool:
        asked.append(round(anyio.current_time() - begin))
        return len(asked) == 3

    assert [1, 1, 1] == await rest(sweep(timeout=10, timeout_fn=ended))
    assert [10, 20, 30] == asked


@virtual
async def test_what_comes_just_before_the_expiry_is_delivered(tmp_path: Path, sweep: Sweep) -> None:
    """
    By the last look, with no event at all: a run that joins, too.
    """
    finish(tmp_path, ("a", 1))

    async def train() -> None:
        await anyio.sleep(9.999)
        finish(tmp_path, ("a", 2), ("b", 1), ("c", 1), ("c", 2))

    async with anyio.create_task_group() as group:
        group.start_soon(train)
        got = named(tmp_path, [item async for item in sweep(timeout=10)])

    assert [("a", 1), ("a", 2), ("b", 1), ("c", 1), ("c", 2)] == [got[0], *sorted(got[1:], key=str)]


@virtual
async def test_what_comes_after_the_last_look_is_not_delivered(
    tmp_path: Path, watcher: ManualWatcher, sweep: Sweep
) -> None:
    """
    Neither a checkpoint nor a run.
    """
    finish(tmp_path, ("a", 1), ("a", 2), ("b", 1))
    stream = sweep(timeout=0)
    got = named(tmp_path, [await anext(stream)])
    finish(tmp_path, ("b", 2), ("c", 1))
    watcher.touch()
    got += named(tmp_path, [item async for item in stream])

    assert [("a", 1), ("a", 2), ("b", 1)] == sorted(got, key=str)


async def test_a_timeout_over_nothing_ends(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    No directory matches, or there is none to look into.
    """
    for pattern in ("*", "missing/*"):
        stream = sweep_of(tmp_path / pattern, timeout=0, watcher=watcher)
        assert [] == await rest(stream)
        assert "the timeout has expired" == stream.status().ended


# until_step, latest_only, min_interval_secs and skip_existing speak of each run.


async def test_until_step_ends_when_every_named_run_has_reached_it(
    tmp_path: Path, watcher: ManualWatcher
) -> None:
    """
    Each delivers up to that step, and no further.
    """
    finish(tmp_path, ("a", 1), ("a", 2), ("a", 3), ("b", 1))
    stream = sweep_of(tmp_path / "a", tmp_path / "b", until_step=2, watcher=watcher)
    first = await news(stream, watcher, tmp_path)
    finish(tmp_path, ("a", 4), ("b", 2))
    assert stream.status().ended is None
    later = await news(stream, watcher, tmp_path)

    assert [("a", 1), ("a", 2), ("b", 1)] == first
    assert ([("b", 2)], "every run has reached until_step") == (later, stream.status().ended)


@pytest.mark.parametrize("named_too", [True, False])
async def test_until_step_of_a_pattern_ends_nothing(
    tmp_path: Path, watcher: ManualWatcher, named_too: bool
) -> None:
    """
    It can always bring more runs; each of them delivers up to that step.
    """
    paths = [tmp_path / "*", *[tmp_path / "a"] * named_too]
    finish(tmp_path, ("a", 1), ("a", 2), ("a", 3))
    stream = sweep_of(*paths, until_step=2, watcher=watcher)
    first = await news(stream, watcher, tmp_path)
    shutil.rmtree(tmp_path / "a")
    gone = await news(stream, watcher, tmp_path)
    finish(tmp_path, ("b", 2), ("b", 3), ("c", 1))
    later = await news(stream, watcher, tmp_path)

    assert ([("a", 1), ("a", 2)], [], [("b", 2), ("c", 1)]) == (first, gone, later)
    assert stream.status().ended is None
    words = {os.path.basename(run.run): run.waiting_for for run in stream.status().runs}
    assert "until_step was reached" == words["b"]
    assert "waiting for the next checkpoint" == words["c"]


async def test_latest_only_is_of_each_run(
    tmp_path: Path, watcher: ManualWatcher, sweep: Sweep
) -> None:
    """
    The newest of each; what is passed over is counted there.
    """
    finish(tmp_path, ("a", 1), ("a", 2), ("b", 1), ("c", 1), ("c", 2), ("c", 3))
    stream = sweep(latest_only=True)
    first = await news(stream, watcher, tmp_path)
    finish(tmp_path, ("b", 2), ("b", 3))
    later = await news(stream, watcher, tmp_path)

    assert ([("a", 2), ("b", 1), ("c", 3)], [("b", 3)]) == (first, later)
    assert {"a": 1, "b": 1, "c": 2} == {
        os.path.basename(run.run): run.skipped for run in stream.status().runs
    }


@virtual
async def test_min_interval_secs_is_of_each_run(
    tmp_path: Path, watcher: ManualWatcher, sweep: Sweep
) -> None:
    """
    One that has just delivered waits; the others, and one that comes later, do not.
    """
    finish(tmp_path, ("a", 1), ("a", 2), ("b", 1))
    stream, begin = sweep(min_interval_secs=60), anyio.current_time()
    at_once = await news(stream, watcher, tmp_path)
    await anyio.sleep(30)
    finish(tmp_path, ("c", 1), ("c", 2))
    at_30 = await news(stream, watcher, tmp_path)
    rest = list[tuple[int, str, int | None]]()
    for _ in range(2):
        (item,) = named(tmp_path, [await anext(stream)])
        rest.append((round(anyio.current_time() - begin), *item))

    assert ([("a", 1), ("b", 1)], [("c", 1)]) == (at_once, at_30)
    assert [(60, "a", 2), (90, "c", 2)] == rest


async def test_skip_existing_is_of_each_run(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    One that was there at the first look is passed over; one that comes later is all new.
    """
    finish(tmp_path, ("a", 1), (".moved", 1), (".moved", 2))
    stream = sweep_of(tmp_path / "*", skip_existing=True, watcher=watcher)
    first = await news(stream, watcher, tmp_path)
    finish(tmp_path, ("a", 2), ("b", 1))
    (tmp_path / ".moved").rename(tmp_path / "c")
    later = await news(stream, watcher, tmp_path)

    assert ([], [("a", 2), ("b", 1), ("c", 1), ("c", 2)]) == (first, later)


async def test_skip_existing_holds_for_a_run_that_comes_back(
    tmp_path: Path, watcher: ManualWatcher
) -> None:
    """
    What was passed over of it is not new when it returns.
    """
    finish(tmp_path, ("a", 1))
    stream = sweep_of(tmp_path / "*", skip_existing=True, watcher=watcher)
    await news(stream, watcher, tmp_path)
    (tmp_path / "a").rename(tmp_path / ".a")
    await news(stream, watcher, tmp_path)
    (tmp_path / ".a").rename(tmp_path / "a")
    finish(tmp_path, ("a", 2))

    assert [("a", 2)] == await news(stream, watcher, tmp_path)
